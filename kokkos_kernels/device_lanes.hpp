// Lanes on a GPU: a stage's pack is one number, its lanes are the threads of a team, and sums over lanes go through the
// registers of a warp.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>

#include "kokkos_kernels/lanes.hpp"
#include "kokkos_kernels/product.hpp"

namespace equipot::kernels {

/// The instruction set of packs of one number whose neighbours are the threads of a warp. Channels are padded to whole
/// half-warps of AMD, whole warps of NVIDIA.
struct Gpu {
    static constexpr int warp = 32;
};

template <class T>
inline constexpr int coefficient_stride<Pack<T, 1, Gpu>> = Gpu::warp;

/// An array whose elements lie `stride` apart, as those of one thread among its neighbours'.
template <class T>
struct Strided {
    T* data;
    long stride;
    KOKKOS_FORCEINLINE_FUNCTION T& operator[](int i) const { return data[i * stride]; }
    friend KOKKOS_FORCEINLINE_FUNCTION Strided operator+(Strided a, int n) { return {a.data + n * a.stride, a.stride}; }
};

/// Sums of N <= 32 values (a power of two) over a warp. Each step halves the number of values: a lane sends one half of
/// them to the lane that differs in one bit and adds what it gets to the other half. Afterwards value[0] of lane i is
/// the sum of value number i N / 32. `Warp` says which of two values a lane keeps, and what it gets for one.
template <int N, int Bit = Gpu::warp / 2, class Warp, class T>
KOKKOS_FORCEINLINE_FUNCTION void warp_sums(const Warp& warp, T* value) {
    // A recursion and not a loop: indices that are constants keep the values in registers.
    if constexpr (Bit > 0) {
        if constexpr (N > 1)
            for (int i = 0; i < N / 2; ++i) {
                const T keep = warp.choose(Bit, value[i], value[i + N / 2]);
                const T send = warp.choose(Bit, value[i + N / 2], value[i]);
                value[i] = keep + warp.exchange(send, Bit);
            }
        else
            value[0] = value[0] + warp.exchange(value[0], Bit);
        warp_sums<(N > 1 ? N / 2 : 1), Bit / 2>(warp, value);
    }
}

/// The threads of one warp, on a GPU.
struct Warp {
    int lane;
    template <class T>
    KOKKOS_FORCEINLINE_FUNCTION T choose(int bit, T without, T with) const {
        return (lane & bit) != 0 ? with : without;
    }
    template <class T>
    KOKKOS_FORCEINLINE_FUNCTION T exchange(T x, [[maybe_unused]] int bit) const {
#if defined(__CUDA_ARCH__)
        return __shfl_xor_sync(0xffffffffu, x, bit);
#elif defined(__HIP_DEVICE_COMPILE__)
        return __shfl_xor(x, bit, Gpu::warp);
#else
        return x;
#endif
    }
};

KOKKOS_INLINE_FUNCTION constexpr int power_of_two_from(int n) {
    int power = 1;
    while (power < n) power *= 2;
    return power;
}

/// Adds the sums of values[N] over the `lanes` threads that call it, neighbours in a team, to *target(i): memory that
/// the team shares. The number of lanes is one or, on a GPU, a multiple of the warp's.
template <int N, int From = 0, class T, class Target>
KOKKOS_FORCEINLINE_FUNCTION void add_over_lanes([[maybe_unused]] int lanes, [[maybe_unused]] int lane, const T* values,
                                                const Target& target) {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
    constexpr int count = N - From < Gpu::warp ? N - From : Gpu::warp, padded = power_of_two_from(count);
    T part[padded];
    for (int i = 0; i < padded; ++i) part[i] = i < count ? values[From + i] : T(0);
    const Warp warp{lane % Gpu::warp};
    warp_sums<padded>(warp, part);
    constexpr int each = Gpu::warp / padded;  // lanes that hold the same sum
    const int i = warp.lane / each;
    if (warp.lane % each == 0 && i < count) Kokkos::atomic_add(target(From + i), part[0]);
    if constexpr (From + count < N) add_over_lanes<N, From + count>(lanes, lane, values, target);
#else
    for (int i = 0; i < N; ++i) {
        if (lanes == 1)
            *target(i) += values[i];
        else
            Kokkos::atomic_add(target(i), values[i]);
    }
#endif
}

}  // namespace equipot::kernels
