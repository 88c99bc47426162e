#!/usr/bin/env bash
# Builds Kokkos 4.7.0 (OpenMP + Serial, static, position independent) into a folder, once. Its sources come from a package
# that carries them whole. With `shared`: for a program and plugins that share one Kokkos.
# Usage: get_kokkos.sh PREFIX [shared]   (CXX, CMAKE, PYTHON and EQUIPOT_CACHE may be set)
# SPDX-License-Identifier: MIT
set -euo pipefail
prefix=$1 kind=${2:-static}
cmake=${CMAKE:-cmake}
here=$(cd "$(dirname "$0")" && pwd)

[ -f "$prefix/complete" ] && exit 0
mkdir -p "$(dirname "$prefix")"
exec 8>"$prefix.lock"
flock 8
[ -f "$prefix/complete" ] && exit 0

work=$(mktemp -d "$prefix.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
archive=$("$here/fetch_sdist.sh" pygenten 0.1.5 e620f05c742905e2db705d875f1cac92ef0ed453f9e6734e9beda26cc0f9cce7)
tar -xzf "$archive" -C "$work" --strip-components=3 pygenten-0.1.5/tpls/kokkos

echo "building Kokkos 4.7.0 into $prefix" >&2
if [ "$kind" = shared ]; then
    linkage=(-DBUILD_SHARED_LIBS=ON)
else
    # Hidden symbols: a plugin or Python module that contains this Kokkos must not lend it to others in the process.
    linkage=(-DBUILD_SHARED_LIBS=OFF -DCMAKE_CXX_VISIBILITY_PRESET=hidden -DCMAKE_VISIBILITY_INLINES_HIDDEN=ON)
fi
"$cmake" -S "$work" -B "$work/build" ${CXX:+-DCMAKE_CXX_COMPILER="$CXX"} \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_STANDARD=20 -DCMAKE_POSITION_INDEPENDENT_CODE=ON "${linkage[@]}" \
    -DKokkos_ENABLE_OPENMP=ON -DKokkos_ENABLE_SERIAL=ON -DKokkos_ENABLE_TESTS=OFF -DKokkos_ENABLE_EXAMPLES=OFF \
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_INSTALL_PREFIX="$prefix" >"$work/log" 2>&1 &&
    "$cmake" --build "$work/build" --parallel "${EQUIPOT_JOBS:-$(nproc)}" >>"$work/log" 2>&1 &&
    DESTDIR="$work/stage" "$cmake" --install "$work/build" >>"$work/log" 2>&1 || {
    tail -n 40 "$work/log" >&2
    exit 1
}
# In one move, so that nobody ever sees half of it.
rm -rf "$prefix"
mv "$work/stage$prefix" "$prefix"
touch "$prefix/complete"
