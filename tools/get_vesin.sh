#!/usr/bin/env bash
# Unpacks the C++ sources of vesin (neighbour lists) into a folder, once. Usage: get_vesin.sh FOLDER   (PYTHON, EQUIPOT_CACHE)
# SPDX-License-Identifier: MIT
set -euo pipefail
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
[ -f "$folder/complete" ] && exit 0
archive=$("$here/fetch_sdist.sh" vesin 0.6.2 8fc5000d74a13131fa21cd81d5e22e50f4195b7105574b35959ebe1720a02ea1)
"$here/unpack.sh" "$archive" 2 "$folder" vesin-0.6.2/lib
