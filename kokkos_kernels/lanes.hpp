// Lanes: the scalar-like type that the stages are written over. On CPUs a pack of SIMD lanes (lanes = channels),
// on GPUs one number (lanes = threads of the team). `Isa` names the instruction set the code was compiled for, so that
// the same template compiled with different flags never shares a symbol. A pack names the types that go with it:
// `Value`, one number of it in memory; `Weight`, the pack of parameters; `Scalar`, what sums and geometry are done in.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Macros.hpp>

namespace equipot::kernels {

// Host only: device code has no vector types, and needs none.
template <class T, int N, class Isa>
struct Pack {
    using Real = T;
    using Value = T;
    using Scalar = double;
    using Weight = Pack;
    static constexpr int width = N;
    static constexpr int registers = Isa::registers;  // how many packs fit the processor's registers
    static constexpr bool dual = false;
    typedef T Native __attribute__((vector_size(sizeof(T) * N)));
    Native v;

    [[gnu::always_inline]] static Pack load(const T* p) {
        Pack a;
        __builtin_memcpy(&a.v, p, sizeof(Native));
        return a;
    }
    [[gnu::always_inline]] static Pack broadcast(T x) { return {x - Native{}}; }
    [[gnu::always_inline]] static Pack zero() { return {Native{}}; }
    [[gnu::always_inline]] void store(T* p) const { __builtin_memcpy(p, &v, sizeof(Native)); }
    [[gnu::always_inline]] static T element(const T* p, int k) { return p[k]; }
    [[gnu::always_inline]] static void set_element(T* p, int k, T x) { p[k] = x; }

    [[gnu::always_inline]] friend Pack operator+(Pack a, Pack b) { return {a.v + b.v}; }
    [[gnu::always_inline]] friend Pack operator-(Pack a, Pack b) { return {a.v - b.v}; }
    [[gnu::always_inline]] friend Pack operator*(Pack a, Pack b) { return {a.v * b.v}; }
    [[gnu::always_inline]] friend Pack operator*(T a, Pack b) { return {a * b.v}; }
    [[gnu::always_inline]] Pack& operator+=(Pack b) {
        v += b.v;
        return *this;
    }

    [[nodiscard, gnu::always_inline]] T lane(int i) const { return v[i]; }
};

template <class T, class Isa>
struct Pack<T, 1, Isa> {
    using Real = T;
    using Value = T;
    using Scalar = double;
    using Weight = Pack;
    static constexpr int width = 1;
    static constexpr int registers = 32;
    static constexpr bool dual = false;
    T v;

    static KOKKOS_FORCEINLINE_FUNCTION Pack load(const T* p) { return {*p}; }
    static KOKKOS_FORCEINLINE_FUNCTION Pack broadcast(T x) { return {x}; }
    static KOKKOS_FORCEINLINE_FUNCTION Pack zero() { return {T(0)}; }
    KOKKOS_FORCEINLINE_FUNCTION void store(T* p) const { *p = v; }
    static KOKKOS_FORCEINLINE_FUNCTION T element(const T* p, int k) { return p[k]; }
    static KOKKOS_FORCEINLINE_FUNCTION void set_element(T* p, int k, T x) { p[k] = x; }

    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator+(Pack a, Pack b) { return {a.v + b.v}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator-(Pack a, Pack b) { return {a.v - b.v}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator*(Pack a, Pack b) { return {a.v * b.v}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Pack operator*(T a, Pack b) { return {a * b.v}; }
    KOKKOS_FORCEINLINE_FUNCTION Pack& operator+=(Pack b) {
        v += b.v;
        return *this;
    }
    [[nodiscard]] KOKKOS_FORCEINLINE_FUNCTION T lane(int) const { return v; }
};

namespace detail {

template <int Bytes>
struct LaneIndex;
template <>
struct LaneIndex<4> {
    using type = int;
};
template <>
struct LaneIndex<8> {
    using type = long long;
};

// Lanes whose bit `Distance` is clear hold sums of a over that bit, the others those of b. One blend and one shuffle.
template <int Distance, class T, int N, class Isa>
[[gnu::always_inline]] inline Pack<T, N, Isa> add_across(Pack<T, N, Isa> a, Pack<T, N, Isa> b) {
    typedef typename LaneIndex<sizeof(T)>::type Index __attribute__((vector_size(sizeof(T) * N)));
    Index same, other;
    for (int i = 0; i < N; ++i) {
        const int from = (i & Distance) != 0 ? N : 0;
        same[i] = from + i;
        other[i] = from + (i ^ Distance);
    }
    return {__builtin_shuffle(a.v, b.v, same) + __builtin_shuffle(a.v, b.v, other)};
}

template <int Distance, class T, int N, class Isa>
[[gnu::always_inline]] inline void sum_across(Pack<T, N, Isa>* p) {
    for (int i = 0; i < Distance; ++i) p[i] = add_across<Distance>(p[i], p[i + Distance]);
    if constexpr (Distance > 1) sum_across<Distance / 2>(p);
}

}  // namespace detail

/// The sums over the lanes of p[0 .. width): lane i of the result is that of p[i]. A tree, always in the same order; p
/// is overwritten.
template <class T, int N, class Isa>
KOKKOS_FORCEINLINE_FUNCTION Pack<T, N, Isa> lane_sums(Pack<T, N, Isa>* p) {
    if constexpr (N > 1) detail::sum_across<N / 2>(p);
    return p[0];
}

/// The same channels of N atoms: stages written over packs load what the atoms share, their `Weight`, once for all.
template <class P, int N>
struct AtomPacks {
    using Real = typename P::Real;
    using Value = Real;
    using Weight = P;
    static constexpr int width = N * P::width;
    static constexpr bool dual = false;
    P p[N];

    [[gnu::always_inline]] static AtomPacks load(const Real* x) {
        AtomPacks a;
        for (int i = 0; i < N; ++i) a.p[i] = P::load(x + i * P::width);
        return a;
    }
    [[gnu::always_inline]] static AtomPacks broadcast(Real x) {
        AtomPacks a;
        for (int i = 0; i < N; ++i) a.p[i] = P::broadcast(x);
        return a;
    }
    [[gnu::always_inline]] static AtomPacks zero() { return broadcast(Real(0)); }
    [[gnu::always_inline]] void store(Real* x) const {
        for (int i = 0; i < N; ++i) p[i].store(x + i * P::width);
    }
    [[gnu::always_inline]] friend AtomPacks operator*(AtomPacks a, AtomPacks b) {
        for (int i = 0; i < N; ++i) a.p[i] = a.p[i] * b.p[i];
        return a;
    }
    [[gnu::always_inline]] friend AtomPacks operator*(P a, AtomPacks b) {
        for (int i = 0; i < N; ++i) b.p[i] = a * b.p[i];
        return b;
    }
    [[gnu::always_inline]] AtomPacks& operator+=(AtomPacks b) {
        for (int i = 0; i < N; ++i) p[i] += b.p[i];
        return *this;
    }
};

/// Numbers of several edges side by side, which also mix with plain numbers: formulas written over a scalar type run
/// over lanes of edges as they are.
template <int N, class Isa>
struct EdgeLanes {
    static constexpr int width = N;
    typedef double Native __attribute__((vector_size(sizeof(double) * N)));
    Native v;

    EdgeLanes() = default;
    [[gnu::always_inline]] EdgeLanes(double x) : v(x - Native{}) {}
    [[gnu::always_inline]] static EdgeLanes of(Native x) {
        EdgeLanes a;
        a.v = x;
        return a;
    }

    template <class T>
    [[gnu::always_inline]] static EdgeLanes load(const T* p) {
        typedef T Stored __attribute__((vector_size(sizeof(T) * N)));
        Stored x;
        __builtin_memcpy(&x, p, sizeof(Stored));
        return of(__builtin_convertvector(x, Native));
    }
    template <class T>
    [[gnu::always_inline]] void store(T* p) const {
        typedef T Stored __attribute__((vector_size(sizeof(T) * N)));
        const Stored x = __builtin_convertvector(v, Stored);
        __builtin_memcpy(p, &x, sizeof(Stored));
    }

    [[gnu::always_inline]] friend EdgeLanes operator+(EdgeLanes a, EdgeLanes b) { return of(a.v + b.v); }
    [[gnu::always_inline]] friend EdgeLanes operator-(EdgeLanes a, EdgeLanes b) { return of(a.v - b.v); }
    [[gnu::always_inline]] friend EdgeLanes operator*(EdgeLanes a, EdgeLanes b) { return of(a.v * b.v); }
    [[gnu::always_inline]] friend EdgeLanes operator/(EdgeLanes a, EdgeLanes b) { return of(a.v / b.v); }
    [[gnu::always_inline]] EdgeLanes& operator+=(EdgeLanes b) {
        v += b.v;
        return *this;
    }
};

/// The channel packs that one worker handles: all of them on a CPU, where packs are wider than one number, and every
/// team-size-th on a GPU.
struct Blocks {
    int begin, end, step;
};

}  // namespace equipot::kernels
