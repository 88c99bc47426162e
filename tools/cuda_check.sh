#!/usr/bin/env bash
# Compiles the device pipeline for CUDA (kokkos_kernels/cuda_check.cpp), to see that it holds nothing a GPU cannot do, and
# lists what its kernels take of a GPU.
# Needs nvcc, no GPU; nothing is linked or run, so Kokkos's headers, configured for CUDA, are enough: kept in the cache folder.
# Usage: cuda_check.sh   (CUDA_HOME: the toolkit's folder, KOKKOS_CUDA_ARCH: HOPPER90)
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
compile() {  # REAL
    "$kokkos/bin/nvcc_wrapper" -std=c++20 -O3 -arch="$arch_flag" -extended-lambda -Xptxas -v \
        -Wall -Wextra -Wshadow -I. -Isrc -isystem "$kokkos/build" -isystem "$kokkos/build/core/src" \
        -isystem "$kokkos/core/src" -isystem "$kokkos/tpls/desul/include" -isystem "$kokkos/build/tpls/desul/include" \
        -isystem "$kokkos/tpls/mdspan/include" -DEQUIPOT_REAL="$1" \
        -c kokkos_kernels/cuda_check.cpp -o "build/cuda/cuda_check_$1.o" >"build/cuda/$1.log" 2>&1
}
compile float &
running=$!
failed=0
compile double || failed=1
wait $running || failed=1
if [ $failed -ne 0 ]; then
    grep -hv '^ptxas info' build/cuda/float.log build/cuda/double.log >&2
    exit 1
fi
grep -h 'warning' build/cuda/float.log build/cuda/double.log || true
python3 tools/cuda_registers.py build/cuda/float.log build/cuda/double.log
echo "the kernels compile for CUDA $release, $arch ($((SECONDS - start)) s)"
