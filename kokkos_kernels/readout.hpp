// Readout stage: ε = Σ_k h_k w_k (linear), or Σ_n v_n act(Σ_k h_k w_kn) (mlp), from the scalar features of one atom.
// Backward: h̄_k = ε̄ w_k, or ε̄ Σ_n v_n act'(·) w_kn.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>

namespace equipot::kernels {

enum class Activation { Silu, Tanh, Identity, Abs };

/// act(x), and its slope.
template <class S>
KOKKOS_FORCEINLINE_FUNCTION S activation(Activation kind, S x, S& slope) {
    switch (kind) {
        case Activation::Silu: {
            const S sigmoid = S(1) / (S(1) + Kokkos::exp(-x));
            slope = sigmoid * (S(1) + x * (S(1) - sigmoid));
            return x * sigmoid;
        }
        case Activation::Tanh: {
            const S t = Kokkos::tanh(x);
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
};

/// Returns ε of one atom and adds seed · ∂ε/∂h to hbar (skipped where hbar is null). Sums run in double.
template <class Real>
KOKKOS_INLINE_FUNCTION double readout(const ReadoutWeights& weights, int channels, const Real* h, double seed,
                                      Real* hbar) {
    if (weights.hidden == 0) {
        double energy = 0;
        for (int k = 0; k < channels; ++k) energy += static_cast<double>(h[k]) * weights.w[k];
        if (hbar != nullptr)
            for (int k = 0; k < channels; ++k) hbar[k] += static_cast<Real>(seed * weights.w[k]);
        return energy;
    }
    double energy = 0;
    for (int n = 0; n < weights.hidden; ++n) {
        const double* w = weights.w + static_cast<long>(n) * channels;
        double x = 0;
        for (int k = 0; k < channels; ++k) x += static_cast<double>(h[k]) * w[k];
        double slope = 0;
        energy += weights.v[n] * activation(weights.kind, x, slope);
        if (hbar != nullptr) {
            const double factor = seed * weights.v[n] * slope;
            for (int k = 0; k < channels; ++k) hbar[k] += static_cast<Real>(factor * w[k]);
        }
    }
    return energy;
}

}  // namespace equipot::kernels
