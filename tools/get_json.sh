#!/usr/bin/env bash
# Unpacks the header of nlohmann/json 3.11.3 into a folder, once. Usage: get_json.sh FOLDER   (PYTHON, EQUIPOT_CACHE)
# SPDX-License-Identifier: MIT
set -euo pipefail
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
[ -f "$folder/complete" ] && exit 0
archive=$("$here/fetch_sdist.sh" pygenten 0.1.5 e620f05c742905e2db705d875f1cac92ef0ed453f9e6734e9beda26cc0f9cce7)
"$here/unpack.sh" "$archive" 3 "$folder" pygenten-0.1.5/tpls/json/include pygenten-0.1.5/tpls/json/LICENSE.MIT
