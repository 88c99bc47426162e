#!/usr/bin/env bash
# Compiles the device pipeline for CUDA (kokkos_kernels/cuda_check.cpp), to see that it holds nothing a GPU cannot do, and
# lists what its kernels take of a GPU. So, too, pair_style equipot/kk, where tools/get_lammps_kokkos.sh has got a LAMMPS.
# Needs nvcc, no GPU; nothing is linked or run, so Kokkos's headers, configured for CUDA, are enough: kept in the cache folder.
# Usage: cuda_check.sh   (CUDA_HOME: the toolkit's folder, KOKKOS_CUDA_ARCH: HOPPER90, EQUIPOT_MPI_INCLUDE: .venv/include)
# SPDX-License-Identifier: MIT
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${KOKKOS_CUDA_ARCH:-HOPPER90}
nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")
[ -x "$nvcc" ] || { echo "nvcc not found: install the CUDA toolkit, or set CUDA_HOME" >&2; exit 1; }
PATH="$(dirname "$nvcc"):$PATH"
export PATH
arch_flag=sm_${arch//[!0-9]/}
release=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')

export EQUIPOT_CACHE=${EQUIPOT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/equipot}
kokkos=$EQUIPOT_CACHE/kokkos-4.7.0-cuda$release-$arch
mkdir -p "$EQUIPOT_CACHE"
exec 7>"$kokkos.configure.lock"
flock 7
if ! [ -f "$kokkos/complete" ]; then
    echo "preparing the headers of Kokkos 4.7.0 for CUDA $release in $kokkos"
    rm -rf "$kokkos"
    archive=$(tools/fetch_sdist.sh pygenten 0.1.5 e620f05c742905e2db705d875f1cac92ef0ed453f9e6734e9beda26cc0f9cce7)
    tools/unpack.sh "$archive" 3 "$kokkos" pygenten-0.1.5/tpls/kokkos
    rm "$kokkos/complete"
    if [ "$release" -ge 13 ]; then
        # Two calls changed with CUDA 13; later versions of Kokkos know.
        sed -i -e 's/cudaGraphAddDependencies(graph, from, to, numDependencies)/cudaGraphAddDependencies(graph, from, to, nullptr, numDependencies)/' \
            -e 's/cudaMemPrefetchAsync(devPtr, count, dstDevice, m_stream)/cudaMemPrefetchAsync(devPtr, count, cudaMemLocation{dstDevice < 0 ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice, dstDevice < 0 ? 0 : dstDevice}, 0, m_stream)/' \
            "$kokkos/core/src/Cuda/Kokkos_Cuda_Instance.hpp"
    fi
    # The wrapper's own default, with which CMake tries the compiler, is too old for CUDA 13.
    sed -i "s/^default_arch=.*/default_arch=$arch_flag/" "$kokkos/bin/nvcc_wrapper"
    cmake -S "$kokkos" -B "$kokkos/build" -DCMAKE_CXX_COMPILER="$kokkos/bin/nvcc_wrapper" -DCMAKE_CXX_STANDARD=20 \
        -DKokkos_ENABLE_CUDA=ON "-DKokkos_ARCH_$arch=ON" -DKokkos_ENABLE_SERIAL=ON >"$kokkos.log" 2>&1 ||
        { tail -n 30 "$kokkos.log" >&2; exit 1; }
    touch "$kokkos/complete"
fi

mkdir -p build/cuda
start=$SECONDS
compile() {  # NAME OF OBJECT AND LOG, FURTHER ARGUMENTS
    "$kokkos/bin/nvcc_wrapper" -std=c++20 -O3 -arch="$arch_flag" -extended-lambda -Xptxas -v \
        -Wall -Wextra -I. -Isrc -isystem "$kokkos/build" -isystem "$kokkos/build/core/src" \
        -isystem "$kokkos/core/src" -isystem "$kokkos/tpls/desul/include" -isystem "$kokkos/build/tpls/desul/include" \
        -isystem "$kokkos/tpls/mdspan/include" "${@:2}" -c -o "build/cuda/$1.o" >"build/cuda/$1.log" 2>&1
}
compile_pair_style() {
    compile pair_equipot_kokkos -Ilammps_plugin -DLMP_KOKKOS -DLAMMPS_SMALLBIG -DLAMMPS_MEMALIGN=64 \
        -isystem "$kokkos/containers/src" -isystem "$kokkos/algorithms/src" -isystem "$kokkos/simd/src" \
        -isystem "$lammps/src" -isystem "$lammps/src/KOKKOS" -isystem "$mpi" lammps_plugin/pair_equipot_kokkos.cpp
}
kernels=(-Wshadow kokkos_kernels/cuda_check.cpp)  # LAMMPS's own headers have it otherwise
compile float -DEQUIPOT_REAL=float "${kernels[@]}" &
running=$!
failed=0
compile double -DEQUIPOT_REAL=double "${kernels[@]}" || failed=1
wait $running || failed=1
lammps=$(tools/get_lammps_kokkos.sh --where)/source
mpi=${EQUIPOT_MPI_INCLUDE:-.venv/include}
logs=(build/cuda/float.log build/cuda/double.log)
if [ -f "$lammps/src/KOKKOS/kokkos_type.h" ] && [ -f "$mpi/mpi.h" ]; then
    compile_pair_style || failed=1
    logs+=(build/cuda/pair_equipot_kokkos.log)
    what="the kernels and pair_style equipot/kk"
else
    what="the kernels"
    echo "pair_style equipot/kk is left out: no source of LAMMPS here (tools/get_lammps_kokkos.sh), or no mpi.h"
fi
if [ $failed -ne 0 ]; then
    grep -hv '^ptxas info' "${logs[@]}" >&2
    exit 1
fi
grep -h 'warning' "${logs[@]}" || true
python3 tools/cuda_registers.py build/cuda/float.log build/cuda/double.log
echo "$what compile for CUDA $release, $arch ($((SECONDS - start)) s)"
