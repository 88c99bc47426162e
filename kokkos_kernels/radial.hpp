// Radial stage: R_c(r; z_i, z_j) and dR_c/dr for all outputs c of a layer (paths x channels, then the density term ρ),
// from uniform B-splines of degree n: R_c(r) = Σ_{q=0..n} w_q(f) a_{k+q,c},  k + f = (x(r) - x(r_low))/h, x = r/(r +
// c), c the cutoff. The weights do not depend on the channel, so value and derivative are one pass over n + 1
// contiguous rows. SPDX-License-Identifier: MIT
#pragma once

#include "kokkos_kernels/dual.hpp"
#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

/// In float each row of coefficients is followed by its differences to the next row, taken before rounding: a slope
/// from coefficients that are already rounded would carry their round-off divided by h.
template <class Real>
constexpr int table_parts = sizeof(Real) == 8 ? 1 : 2;

/// Where tables have their knots. Functions change fast at short distances, and most neighbours are at long ones: so
/// intervals grow with distance, as (r + cutoff)².
struct RadialGrid {
    double low;                  ///< Å, where tables start; shorter distances are the caller's business
    double cutoff;               ///< Å, where they end
    double start, inverse_step;  ///< x(low), 1/h
    int intervals;

    RadialGrid() = default;
    RadialGrid(double from, double to, int n)
        : low(from),
          cutoff(to),
          start(from / (from + cutoff)),
          inverse_step(n / (to / (to + cutoff) - start)),
          intervals(n) {}

    /// Of a knot, which may lie outside of the table, Å.
    [[nodiscard]] double distance(int knot) const {
        const double x = start + knot / inverse_step;
        return cutoff * x / (1 - x);
    }

    /// How many intervals from `low` on, and its slope by r, 1/Å.
    struct Place {
        double t, slope;
    };
    [[nodiscard]] KOKKOS_FORCEINLINE_FUNCTION Place at(double r) const {
        const double inverse = 1 / (r + cutoff);
        return {(r * inverse - start) * inverse_step, cutoff * inverse * inverse * inverse_step};
    }
    /// The interval that t lies in; the last one for what is beyond.
    [[nodiscard]] KOKKOS_FORCEINLINE_FUNCTION int interval(double t) const {
        const int k = static_cast<int>(t);
        return k < intervals ? k : intervals - 1;
    }
};

/// One table: `rows` [intervals + degree, parts, outputs] in the working precision.
template <class Real>
struct RadialTable {
    const Real* rows;
    RadialGrid grid;
    int outputs;  ///< a multiple of the pack width

    [[nodiscard]] KOKKOS_FORCEINLINE_FUNCTION const Real* row(int k) const {
        return rows + static_cast<long>(k) * table_parts<Real> * outputs;
    }
};

/// Quintic in double; cubic in float, where its error is below round-off with tables that still fit the cache.
template <class Real>
constexpr int spline_degree = sizeof(Real) == 8 ? 5 : 3;

/// Weights of the B-splines that overlap an interval, and their derivatives by f.
template <int Degree, class S>
KOKKOS_FORCEINLINE_FUNCTION void bspline_weights(S f, S* w, S* dw) {
    const S g = S(1) - f;
    const S f2 = f * f, g2 = g * g;
    if constexpr (Degree == 3) {
        const S c = S(1.0 / 6.0);
        w[0] = c * g2 * g;
        w[1] = c * (S(4) + f2 * (S(-6) + S(3) * f));
        w[2] = c * (S(1) + f * (S(3) + f * (S(3) - S(3) * f)));
        w[3] = c * f2 * f;
        dw[0] = S(-0.5) * g2;
        dw[1] = f * (S(-2) + S(1.5) * f);
        dw[2] = S(0.5) + f * (S(1) - S(1.5) * f);
        dw[3] = S(0.5) * f2;
    } else {
        const S c = S(1.0 / 120.0), d = S(1.0 / 24.0);
        w[0] = c * g2 * g2 * g;
        w[1] = c * (S(26) + f * (S(-50) + f * (S(20) + f * (S(20) + f * (S(-20) + f * S(5))))));
        w[2] = c * (S(66) + f2 * (S(-60) + f2 * (S(30) - S(10) * f)));
        w[3] = c * (S(26) + f * (S(50) + f * (S(20) + f * (S(-20) + f * (S(-20) + f * S(10))))));
        w[4] = c * (S(1) + f * (S(5) + f * (S(10) + f * (S(10) + f * (S(5) - f * S(5))))));
        w[5] = c * f2 * f2 * f;
        dw[0] = S(-1) * d * g2 * g2;
        dw[1] = d * (S(-10) + f * (S(8) + f * (S(12) + f * (S(-16) + f * S(5)))));
        dw[2] = d * (f * (S(-24) + f2 * (S(24) - S(10) * f)));
        dw[3] = d * (S(10) + f * (S(8) + f * (S(-12) + f * (S(-16) + f * S(10)))));
        dw[4] = d * (S(1) + f * (S(4) + f * (S(6) + f * (S(4) - f * S(5)))));
        dw[5] = d * f2 * f2;
    }
}

/// The rows of coefficients that a distance touches, from `first` on, and their weights for value and derivative.
template <class Real>
struct CoefficientWeights {
    static constexpr int support = spline_degree<Real> + 1;
    int first;
    double value[support], slope[support];  // slope in 1/Å

    KOKKOS_FORCEINLINE_FUNCTION CoefficientWeights(const RadialTable<Real>& table, double r) {
        const RadialGrid::Place place = table.grid.at(r);
        first = table.grid.interval(place.t);
        bspline_weights<spline_degree<Real>>(place.t - first, value, slope);
        for (double& s : slope) s *= place.slope;
    }
};

/// What a distance asks of a table: the first row it touches, and the weights of value and derivative. In float they go
/// with differences: Σ w a = a_{k+1} - w0 d_k + (w2 + w3) d_{k+1} + w3 d_{k+2} with d_k = a_{k+1} - a_k, as Σ w = 1.
template <class Real>
struct SplineWeights {
    static constexpr bool differences = table_parts<Real> == 2;
    static constexpr int terms = differences ? 3 : spline_degree<Real> + 1;
    const Real* row;
    Real value[terms], slope[terms];

    /// The first `terms` of w, from the weights of all coefficients.
    template <class S>
    static KOKKOS_FORCEINLINE_FUNCTION void of_coefficients(S* w) {
        if constexpr (differences) {
            w[0] = S(-1) * w[0];
            w[1] = w[2] + w[3];
            w[2] = w[3];
        }
    }

    KOKKOS_FORCEINLINE_FUNCTION SplineWeights() {}
    KOKKOS_FORCEINLINE_FUNCTION SplineWeights(const RadialTable<Real>& table, double r) {
        CoefficientWeights<Real> of(table, r);
        row = table.row(of.first);
        of_coefficients(of.value);
        of_coefficients(of.slope);
        for (int q = 0; q < terms; ++q) {
            value[q] = static_cast<Real>(of.value[q]);
            slope[q] = static_cast<Real>(of.slope[q]);
        }
    }
    /// For the row of interval `k`; weights lie `stride` apart, those of the value first.
    KOKKOS_FORCEINLINE_FUNCTION SplineWeights(const RadialTable<Real>& table, int k, const Real* weights, int stride)
        : row(table.row(k)) {
        for (int q = 0; q < terms; ++q) {
            value[q] = weights[q * stride];
            slope[q] = weights[(terms + q) * stride];
        }
    }
};

namespace detail {

/// Calls store(c, R, dR/dr), dR only with Derivative, for every pack of outputs from `first` on, of a table with
/// `outputs` of them.
template <class P, bool Derivative, class Store, class Real = typename P::Real>
KOKKOS_FORCEINLINE_FUNCTION void radial_rows(const SplineWeights<Real>& weights, int outputs, int first, Blocks blocks,
                                             const Store& store) {
    using Weights = SplineWeights<Real>;
    const long stride = static_cast<long>(table_parts<Real>) * outputs;
    const Real* rows = weights.row + first + (Weights::differences ? outputs : 0);
    const Real* middle = weights.row + first + stride;
    // In registers: stores to R could change the weights, for all the compiler knows.
    P value[Weights::terms], slope[Weights::terms];
    for (int q = 0; q < Weights::terms; ++q) {
        value[q] = P::broadcast(weights.value[q]);
        if constexpr (Derivative) slope[q] = P::broadcast(weights.slope[q]);
    }
    for (int b = blocks.begin; b < blocks.end; b += blocks.step) {
        const int c = b * P::width;
        P sum = Weights::differences ? P::load(middle + c) : P::zero(), dsum = P::zero();
        for (int q = 0; q < Weights::terms; ++q) {
            const P a = P::load(rows + q * stride + c);
            sum += value[q] * a;
            if constexpr (Derivative) dsum += slope[q] * a;
        }
        store(c, sum, dsum);
    }
}

}  // namespace detail

/// R and, with Derivative, dR = dR/dr of the outputs from `first` on, of a table with `outputs` of them.
template <class P, bool Derivative, class Real = typename P::Real>
KOKKOS_FORCEINLINE_FUNCTION void radial_splined(const SplineWeights<Real>& weights, int outputs, int first,
                                                Blocks blocks, Real* R, Real* dR) {
    detail::radial_rows<P, Derivative>(weights, outputs, first, blocks, [=](int c, P sum, [[maybe_unused]] P dsum) {
        sum.store(R + c);
        if constexpr (Derivative) dsum.store(dR + c);
    });
}

/// The same at a dual distance, for all outputs: R + ε r' dR/dr.
template <class P, class Real = typename P::Real>
void radial_dual(const RadialTable<Real>& table, Dual<double> r, Dual<Real>* R) {
    using Weight = typename P::Weight;
    const auto along = static_cast<Real>(r.du);
    detail::radial_rows<Weight, true>(SplineWeights<Real>(table, r.re), table.outputs, 0,
                                      {0, table.outputs / P::width, 1}, [=](int c, Weight sum, Weight dsum) {
                                          P{sum, along * dsum}.store(R + c);
                                      });
}

/// Its parameter gradient: rows_bar [intervals + degree, outputs] += d/dε of the adjoint of the coefficients.
template <class P, class Real = typename P::Real>
void radial_gradient(const RadialTable<Real>& table, Dual<double> r, const Dual<Real>* Rbar, Real* rows_bar) {
    using Weight = typename P::Weight;
    const CoefficientWeights<Real> weights(table, r.re);
    Real* rows = rows_bar + static_cast<long>(weights.first) * table.outputs;
    for (int c = 0; c < table.outputs; c += P::width) {
        const P rbar = P::load(Rbar + c);
        for (int q = 0; q < CoefficientWeights<Real>::support; ++q) {
            Real* target = rows + static_cast<long>(q) * table.outputs + c;
            Weight sum = Weight::load(target);
            sum += static_cast<Real>(weights.value[q]) * rbar.du;
            sum += static_cast<Real>(weights.slope[q] * r.du) * rbar.re;
            sum.store(target);
        }
    }
}

}  // namespace equipot::kernels
