#!/usr/bin/env bash
# Downloads a source package from the Python package index into the cache folder, pinned by hash, and prints where it is.
# Usage: fetch_sdist.sh NAME VERSION SHA256    (PYTHON: an interpreter with pip; EQUIPOT_CACHE: the cache folder)
# SPDX-License-Identifier: MIT
set -euo pipefail
name=$1 version=$2 sha256=$3
python=${PYTHON:-python3}
downloads=${EQUIPOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/equipot}/downloads
archive=$downloads/$name-$version.tar.gz

mkdir -p "$downloads"
exec 9>"$downloads/$name.lock"
flock 9
if ! [ -f "$archive" ] || ! echo "$sha256  $archive" | sha256sum --check --status; then
    if ! "$python" -m pip --version >/dev/null 2>&1; then
        # A distribution's Python without pip, or a build environment that hides it: borrow one.
        "$python" -m venv "$downloads/pip-venv" >&2
        python=$downloads/pip-venv/bin/python
    fi
    fresh=$(mktemp -d "$downloads/fresh.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    echo "$name==$version --hash=sha256:$sha256" >"$fresh/requirements.txt"
    echo "downloading $name $version" >&2
    "$python" -m pip download --quiet --no-deps --no-binary "$name" --require-hashes \
        --requirement "$fresh/requirements.txt" --dest "$fresh" >&2
    mv "$fresh/$name-$version.tar.gz" "$archive"
fi
echo "$archive"
