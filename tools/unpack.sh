#!/usr/bin/env bash
# Unpacks parts of an archive into a folder in one move. Usage: unpack.sh ARCHIVE STRIP FOLDER MEMBER...
# SPDX-License-Identifier: MIT
set -euo pipefail
archive=$1 strip=$2 folder=$3
shift 3
work=$(mktemp -d "$folder.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
tar -xzf "$archive" -C "$work" --strip-components="$strip" "$@"
touch "$work/complete"
exec 8>"$folder.lock"
flock 8
rm -rf "$folder"
mv "$work" "$folder"
