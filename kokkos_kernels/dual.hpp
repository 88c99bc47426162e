// Dual numbers, x + ε x' with ε² = 0: a value and its derivative along one direction, carried through the same text.
// The pipeline over dual lanes, started at displacements r + ε v, gives d/dε of everything it computes, and with it the
// parameter gradient of a loss of forces (DESIGN: forward over reverse).
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>

#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

template <class T>
struct Dual {
    T re, du;

    Dual() = default;
    KOKKOS_FORCEINLINE_FUNCTION constexpr Dual(T value) : re(value), du(0) {}
    KOKKOS_FORCEINLINE_FUNCTION constexpr Dual(T value, T derivative) : re(value), du(derivative) {}
    template <class U>
    KOKKOS_FORCEINLINE_FUNCTION constexpr explicit Dual(Dual<U> x)
        : re(static_cast<T>(x.re)), du(static_cast<T>(x.du)) {}

    friend KOKKOS_FORCEINLINE_FUNCTION Dual operator+(Dual a, Dual b) { return {a.re + b.re, a.du + b.du}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Dual operator-(Dual a, Dual b) { return {a.re - b.re, a.du - b.du}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Dual operator-(Dual a) { return {-a.re, -a.du}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Dual operator*(Dual a, Dual b) {
        return {a.re * b.re, a.re * b.du + a.du * b.re};
    }
    friend KOKKOS_FORCEINLINE_FUNCTION Dual operator*(T a, Dual b) { return {a * b.re, a * b.du}; }
    friend KOKKOS_FORCEINLINE_FUNCTION Dual operator*(Dual a, T b) { return b * a; }
    friend KOKKOS_FORCEINLINE_FUNCTION Dual operator/(Dual a, Dual b) {
        const T quotient = a.re / b.re;
        return {quotient, (a.du - quotient * b.du) / b.re};
    }
    friend KOKKOS_FORCEINLINE_FUNCTION bool operator<(Dual a, Dual b) { return a.re < b.re; }
    KOKKOS_FORCEINLINE_FUNCTION Dual& operator+=(Dual b) { return *this = *this + b; }

    friend KOKKOS_FORCEINLINE_FUNCTION Dual sqrt(Dual a) {
        const T root = Kokkos::sqrt(a.re);
        return {root, a.du / (2 * root)};
    }
    friend KOKKOS_FORCEINLINE_FUNCTION Dual tanh(Dual a) {
        const T t = Kokkos::tanh(a.re);
        return {t, (1 - t * t) * a.du};
    }
};

KOKKOS_FORCEINLINE_FUNCTION double real_part(double x) { return x; }
KOKKOS_FORCEINLINE_FUNCTION double real_part(Dual<double> x) { return x.re; }

/// Lanes of dual numbers over the pack W. In memory a block of `width` values is all its values, then all its
/// derivatives, so that both halves load as packs.
template <class W>
struct DualPack {
    using Real = typename W::Real;
    using Value = Dual<Real>;
    using Scalar = Dual<double>;
    using Weight = W;
    static constexpr int width = W::width;
    static constexpr int registers = W::registers / 2;
    static constexpr bool dual = true;
    W re, du;

    [[gnu::always_inline]] static DualPack load(const Value* p) {
        const auto* q = reinterpret_cast<const Real*>(p);
        return {W::load(q), W::load(q + width)};
    }
    [[gnu::always_inline]] static DualPack broadcast(Value x) { return {W::broadcast(x.re), W::broadcast(x.du)}; }
    [[gnu::always_inline]] static DualPack zero() { return {W::zero(), W::zero()}; }
    [[gnu::always_inline]] void store(Value* p) const {
        auto* q = reinterpret_cast<Real*>(p);
        re.store(q);
        du.store(q + width);
    }
    /// Number k of rows that lie in memory as blocks.
    [[gnu::always_inline]] static Value element(const Value* p, int k) {
        const auto* q = reinterpret_cast<const Real*>(p + k / width * width) + k % width;
        return {q[0], q[width]};
    }
    [[gnu::always_inline]] static void set_element(Value* p, int k, Value x) {
        auto* q = reinterpret_cast<Real*>(p + k / width * width) + k % width;
        q[0] = x.re;
        q[width] = x.du;
    }

    [[gnu::always_inline]] friend DualPack operator+(DualPack a, DualPack b) { return {a.re + b.re, a.du + b.du}; }
    [[gnu::always_inline]] friend DualPack operator-(DualPack a, DualPack b) { return {a.re - b.re, a.du - b.du}; }
    [[gnu::always_inline]] friend DualPack operator*(DualPack a, DualPack b) {
        return {a.re * b.re, a.re * b.du + a.du * b.re};
    }
    [[gnu::always_inline]] friend DualPack operator*(W a, DualPack b) { return {a * b.re, a * b.du}; }
    [[gnu::always_inline]] friend DualPack operator*(Value a, DualPack b) {
        return {a.re * b.re, a.re * b.du + a.du * b.re};
    }
    [[gnu::always_inline]] DualPack& operator+=(DualPack b) {
        re += b.re;
        du += b.du;
        return *this;
    }
    /// d/dε (a b): all that a parameter gradient needs of a product.
    [[gnu::always_inline]] friend W derivative_of_product(DualPack a, DualPack b) { return a.re * b.du + a.du * b.re; }
    [[gnu::always_inline]] friend W derivative_of_product(Value a, DualPack b) { return a.re * b.du + a.du * b.re; }
};

template <class T, int N, class Isa>
[[gnu::always_inline]] inline DualPack<Pack<T, N, Isa>> operator*(Dual<T> a, Pack<T, N, Isa> b) {
    return {a.re * b, a.du * b};
}

}  // namespace equipot::kernels
