// A step of an optimiser for weights w with the gradient g, in place. m and v are running means of g and g²:
//
//   single weights   w -= rate m̂ / (√v̂ + ε)                             Adam, AMSGrad
//   matrices         w -= rate ρ √max(rows, columns) O((1-μ) g + μ m)   Muon
//
// (Kingma and Ba 2015; Reddi et al. 2018; Jordan et al. 2024), with O(X) = X (XᵀX)^(-1/2), nearly, by iterations of
// Newton and Schulz: all directions of a matrix learn at one pace, also those whose gradients are small. ρ makes the
// entries of O as large as Adam's steps (Liu et al., arXiv:2502.16982).
//
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kokkos_kernels/dense.hpp"
#include "kokkos_kernels/scratch.hpp"

namespace equipot::kernels {

struct AdamStep {
    double rate, first_decay, second_decay, epsilon;
    double first_unbias, second_unbias;  ///< 1/(1 - β1^t), 1/√(1 - β2^t)
    enum class Kind { Adam, AmsGrad, AdamW } kind;
};

struct MuonStep {
    double rate, decay;
    static constexpr double size = 0.3;  ///< ρ
    static constexpr int iterations = 5;
};

/// Pointers to the numbers of some weights next to each other.
struct WeightState {
    double* w;
    const double *g, *weight_decay;
    double *m, *v, *largest;  ///< largest: of v so far; for AMSGrad alone
    double factor;            ///< of g
};

struct OptimizerKernels {
    void (*adam)(const AdamStep& step, const WeightState& state, std::size_t count);
    void (*muon)(const MuonStep& step, const WeightState& state, int rows, int columns, Scratch<float>& scratch);
};

namespace detail {

template <class Isa, AdamStep::Kind Kind>
void adam_loop(const AdamStep& step, const WeightState& s, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        double w = s.w[i], g = s.factor * s.g[i];
        const double pull = s.weight_decay[i] * w;
        if constexpr (Kind == AdamStep::Kind::AdamW)
            w -= step.rate * pull;
        else
            g += pull;
        s.m[i] += (1 - step.first_decay) * (g - s.m[i]);
        s.v[i] += (1 - step.second_decay) * (g * g - s.v[i]);
        double v = s.v[i];
        if constexpr (Kind == AdamStep::Kind::AmsGrad) v = s.largest[i] = std::max(s.largest[i], v);
        s.w[i] = w - step.rate * step.first_unbias * s.m[i] / (std::sqrt(v) * step.second_unbias + step.epsilon);
    }
}

}  // namespace detail

template <class Isa>
void adam_block(const AdamStep& step, const WeightState& state, std::size_t count) {
    using Kind = AdamStep::Kind;
    if (step.kind == Kind::Adam) detail::adam_loop<Isa, Kind::Adam>(step, state, count);
    if (step.kind == Kind::AmsGrad) detail::adam_loop<Isa, Kind::AmsGrad>(step, state, count);
    if (step.kind == Kind::AdamW) detail::adam_loop<Isa, Kind::AdamW>(step, state, count);
}

/// X [rows, columns] <- O(X), rows >= columns. `scratch` has room for rows · columns + 2 columns² numbers. The
/// polynomial takes singular values from near 0 to 0.7 .. 1.2 in five steps instead of all to 1, which takes many more.
template <class W>
void orthogonalize(int rows, int columns, float* X, float* scratch) {
    constexpr float a = 3.4445f, b = -4.7750f, c = 2.0315f;
    const auto size = static_cast<std::ptrdiff_t>(rows) * columns,
               square = static_cast<std::ptrdiff_t>(columns) * columns;
    double squares = 0;
    for (std::ptrdiff_t i = 0; i < size; ++i) squares += static_cast<double>(X[i]) * static_cast<double>(X[i]);
    const auto scale = static_cast<float>(1 / std::max(std::sqrt(squares), 1e-30));
    for (std::ptrdiff_t i = 0; i < size; ++i) X[i] *= scale;

    float *A = scratch, *B = A + square, *Y = B + square;
    for (int iteration = 0; iteration < MuonStep::iterations; ++iteration) {
        // Y = a X + X (b A + c A²) with A = XᵀX
        std::fill_n(A, square, 0.0f);
        add_transposed_product<W, true>(rows, columns, columns, {X, columns}, {X, columns}, {A, columns});
        std::fill_n(B, square, 0.0f);
        add_product<W, true>(columns, columns, columns, {A, columns}, {A, columns}, {B, columns});
        for (std::ptrdiff_t i = 0; i < square; ++i) B[i] = b * A[i] + c * B[i];
        for (std::ptrdiff_t i = 0; i < size; ++i) Y[i] = a * X[i];
        add_product<W>(rows, columns, columns, {X, columns}, {B, columns}, {Y, columns});
        std::copy_n(Y, size, X);
    }
}

/// Weights [rows, columns] of one matrix.
template <class W>
void muon_block(const MuonStep& step, const WeightState& s, int rows, int columns, Scratch<float>& scratch) {
    const auto size = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
    const int high = std::max(rows, columns), narrow = std::min(rows, columns);
    scratch.reserve(2 * size + 2 * static_cast<std::size_t>(narrow) * static_cast<std::size_t>(narrow));
    float* X = scratch.data();
    // The largest entry first: the rest is in single precision, whose range gradients may leave.
    double largest = 0;
    for (std::size_t i = 0; i < size; ++i) {
        const double g = s.factor * s.g[i] + s.weight_decay[i] * s.w[i];
        s.m[i] += (1 - step.decay) * (g - s.m[i]);
        largest = std::max({largest, std::abs(g), std::abs(s.m[i])});
    }
    if (largest == 0) return;
    const auto place = [=](std::size_t i) {  // in X, which is never wider than high
        const auto wide = static_cast<std::size_t>(columns);
        return rows >= columns ? i : i % wide * static_cast<std::size_t>(rows) + i / wide;
    };
    for (std::size_t i = 0; i < size; ++i) {
        const double g = s.factor * s.g[i] + s.weight_decay[i] * s.w[i];
        X[place(i)] = static_cast<float>(((1 - step.decay) * g + step.decay * s.m[i]) / largest);
    }
    orthogonalize<W>(high, narrow, X, X + size);
    const double length = step.rate * MuonStep::size * std::sqrt(static_cast<double>(high));
    for (std::size_t i = 0; i < size; ++i) s.w[i] -= length * static_cast<double>(X[place(i)]);
}

/// The best kernels for this processor.
OptimizerKernels make_optimizer_kernels();

/// Those for `Isa`; see isa.hpp.
template <class Isa>
OptimizerKernels optimizer_kernels();

}  // namespace equipot::kernels
