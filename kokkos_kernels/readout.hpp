// Readout stage: ε = Σ_k h_k w_k (linear), or Σ_n v_n act(Σ_k h_k w_kn) (mlp), from the scalar features of one atom.
// Backward: h̄_k = ε̄ w_k, or ε̄ Σ_n v_n act'(·) w_kn.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>

#include "kokkos_kernels/dual.hpp"

namespace equipot::kernels {

enum class Activation { Silu, Tanh, Identity, Abs };

/// act(x), and its slope.
template <class S>
KOKKOS_FORCEINLINE_FUNCTION S activation(Activation kind, S x, S& slope) {
    using Kokkos::tanh;  // or that of dual numbers
    switch (kind) {
        case Activation::Silu: {
            const S sigmoid = S(0.5) * (S(1) + tanh(S(0.5) * x));  // exp(-x) would overflow
            slope = sigmoid * (S(1) + x * (S(1) - sigmoid));
            return x * sigmoid;
        }
        case Activation::Tanh: {
            const S t = tanh(x);
            slope = S(1) - t * t;
            return t;
        }
        case Activation::Abs:
            slope = x < S(0) ? S(-1) : S(1);
            return x * slope;
        default:
            slope = S(1);
            return x;
    }
}

/// Readout weights in double: `hidden` = 0 for linear (w [channels]), else w [hidden, channels] and v [hidden].
struct ReadoutWeights {
    const double* w;
    const double* v;
    int hidden;
    Activation kind;

    [[nodiscard]] KOKKOS_FORCEINLINE_FUNCTION int units() const { return hidden == 0 ? 1 : hidden; }
};

/// What hidden unit n (of a linear readout: 0, the only one) adds to ε; `factor` times its weights is seed · ∂ε/∂h.
/// Sums run in double.
template <class P>
KOKKOS_INLINE_FUNCTION typename P::Scalar readout_unit(const ReadoutWeights& weights, int channels, int n,
                                                       const typename P::Value* h, typename P::Scalar seed,
                                                       typename P::Scalar& factor) {
    using Scalar = typename P::Scalar;
    const double* w = weights.w + static_cast<long>(n) * channels;
    constexpr int lanes = 8;  // sums side by side: additions need not wait for each other
    Scalar part[lanes], slope(1);
    for (Scalar& sum : part) sum = Scalar(0);
    for (int k = 0; k < channels; k += lanes)
        for (int i = 0; i < lanes && k + i < channels; ++i) part[i] += w[k + i] * Scalar(P::element(h, k + i));
    for (int i = 1; i < lanes; ++i) part[0] += part[i];
    const Scalar x = part[0];
    const double v = weights.hidden == 0 ? 1.0 : weights.v[n];
    const Scalar energy = v * (weights.hidden == 0 ? x : activation(weights.kind, x, slope));
    factor = v * (seed * slope);
    return energy;
}

/// Returns ε of one atom and adds seed · ∂ε/∂h to hbar (skipped where hbar is null).
template <class P>
KOKKOS_INLINE_FUNCTION typename P::Scalar readout(const ReadoutWeights& weights, int channels,
                                                  const typename P::Value* h, typename P::Scalar seed,
                                                  typename P::Value* hbar) {
    using Value = typename P::Value;
    using Scalar = typename P::Scalar;
    const auto add = [&](int k, Scalar x) { P::set_element(hbar, k, P::element(hbar, k) + Value(x)); };
    Scalar energy(0);
    for (int n = 0; n < weights.units(); ++n) {
        const double* w = weights.w + static_cast<long>(n) * channels;
        Scalar factor(0);
        energy += readout_unit<P>(weights, channels, n, h, seed, factor);
        if (hbar != nullptr)
            for (int k = 0; k < channels; ++k) add(k, w[k] * factor);
    }
    return energy;
}

/// The parameter gradient of readout over dual lanes: w_bar and v_bar (shapes of w and v) += d/dε of their adjoints.
template <class P, class Value = typename P::Value>
void readout_gradient(const ReadoutWeights& weights, int channels, const Value* h, Dual<double> seed,
                      typename P::Real* w_bar, typename P::Real* v_bar) {
    using Real = typename P::Real;
    for (int n = 0; n < weights.units(); ++n) {
        const double* w = weights.w + static_cast<long>(n) * channels;
        Dual<double> factor = seed;
        if (weights.hidden > 0) {
            Dual<double> x(0), slope(1);
            for (int k = 0; k < channels; ++k) x += w[k] * Dual<double>(P::element(h, k));
            v_bar[n] += static_cast<Real>((seed * activation(weights.kind, x, slope)).du);
            factor = weights.v[n] * (seed * slope);
        }
        for (int k = 0; k < channels; ++k)
            w_bar[static_cast<long>(n) * channels + k] +=
                static_cast<Real>((factor * Dual<double>(P::element(h, k))).du);
    }
}

}  // namespace equipot::kernels
