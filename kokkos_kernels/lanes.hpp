// Lanes: the scalar-like type that the stages are written over. On CPUs a pack of SIMD lanes (lanes = channels),
// on GPUs one number (lanes = threads of the team). `Isa` names the instruction set the code was compiled for, so that
// the same template compiled with different flags never shares a symbol.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Macros.hpp>

namespace equipot::kernels {

template <class T, int N, class Isa>
struct Pack {
    using Real = T;
    static constexpr int width = N;
    typedef T Native __attribute__((vector_size(sizeof(T) * N)));
    Native v;

    static KOKKOS_FORCEINLINE_FUNCTION Pack load(const T* p) {
        Pack a;
        __builtin_memcpy(&a.v, p, sizeof(Native));
        return a;
    }
    static KOKKOS_FORCEINLINE_FUNCTION Pack broadcast(T x) { return {x - Native{}}; }
    static KOKKOS_FORCEINLINE_FUNCTION Pack zero() { return {Native{}}; }
    KOKKOS_FORCEINLINE_FUNCTION void store(T* p) const { __builtin_memcpy(p, &v, sizeof(Native)); }

    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator+(Pack a, Pack b) { return {a.v + b.v}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator-(Pack a, Pack b) { return {a.v - b.v}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator*(Pack a, Pack b) { return {a.v * b.v}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator*(T a, Pack b) { return {a * b.v}; }
    KOKKOS_FORCEINLINE_FUNCTION Pack& operator+=(Pack b) {
        v += b.v;
        return *this;
    }

    /// Sum over the lanes, by halves: a fixed order.
    [[nodiscard]] KOKKOS_FORCEINLINE_FUNCTION T sum() const {
        T lanes[N];
        store(lanes);
        for (int half = N / 2; half > 0; half /= 2)
            for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
        return lanes[0];
    }
};

template <class T, class Isa>
struct Pack<T, 1, Isa> {
    using Real = T;
    static constexpr int width = 1;
    T v;

    static KOKKOS_FORCEINLINE_FUNCTION Pack load(const T* p) { return {*p}; }
    static KOKKOS_FORCEINLINE_FUNCTION Pack broadcast(T x) { return {x}; }
    static KOKKOS_FORCEINLINE_FUNCTION Pack zero() { return {T(0)}; }
    KOKKOS_FORCEINLINE_FUNCTION void store(T* p) const { *p = v; }

    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator+(Pack a, Pack b) { return {a.v + b.v}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator-(Pack a, Pack b) { return {a.v - b.v}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator*(Pack a, Pack b) { return {a.v * b.v}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator*(T a, Pack b) { return {a * b.v}; }
    KOKKOS_FORCEINLINE_FUNCTION Pack& operator+=(Pack b) {
        v += b.v;
        return *this;
    }
    [[nodiscard]] KOKKOS_FORCEINLINE_FUNCTION T sum() const { return v; }
};

/// The channel packs that one worker handles: all of them on a CPU, every team-size-th on a GPU.
struct Blocks {
    int begin, end, step;
};

}  // namespace equipot::kernels
