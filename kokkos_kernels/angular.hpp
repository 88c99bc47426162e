// Angular stage: Y_lm(r̂) = N_lm Q_l^|m|(y) · {s_|m|, 1, c_m}(x, z), real spherical harmonics in e3nn's convention
// (component normalisation, polar axis y, m from -l to l), with Q_l^m = d^m P_l / dy^m and c_m + i s_m = (z + i x)^m.
// Backward: g = Σ_lm Ȳ_lm ∂Y_lm/∂r̂, then projected on the sphere: ∂E/∂r = (g - r̂ (r̂·g)) / r.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Macros.hpp>

#include "kokkos_kernels/constant_index.hpp"

namespace equipot::kernels {

namespace detail {

constexpr double newton_sqrt(double x) {
    double root = x > 1 ? x : 1;
    for (int i = 0; i < 100; ++i) root = 0.5 * (root + x / root);
    return root;
}

// sqrt((2l+1) (2 - δ_m0) (l-m)! / (l+m)!)
constexpr double harmonic_norm(int l, int m) {
    double ratio = 1;
    for (int k = l - m + 1; k <= l + m; ++k) ratio /= k;
    return newton_sqrt((2 * l + 1) * (m == 0 ? 1 : 2) * ratio);
}

template <int L>
struct HarmonicNorms {
    double n[L + 1][L + 1];
    constexpr HarmonicNorms() : n{} {
        for (int l = 0; l <= L; ++l)
            for (int m = 0; m <= l; ++m) n[l][m] = harmonic_norm(l, m);
    }
};

template <class S, int L>
struct Legendre {
    S c[L + 1], s[L + 1];  // Re, Im of (z + i x)^m
    S q[L + 1][L + 2];     // Q_l^m; the entry m = l + 1 is zero, the derivative of Q_l^l

    KOKKOS_FORCEINLINE_FUNCTION Legendre(S x, S y, S z) {
        c[0] = S(1);
        s[0] = S(0);
        for (int m = 0; m < L; ++m) {
            c[m + 1] = z * c[m] - x * s[m];
            s[m + 1] = x * c[m] + z * s[m];
        }
        S diagonal = S(1);
        for (int m = 0; m <= L; ++m) {
            q[m][m] = diagonal;
            q[m][m + 1] = S(0);
            if (m < L) q[m + 1][m] = S(2 * m + 1) * y * diagonal;
            for (int l = m + 2; l <= L; ++l)
                q[l][m] = (S(2 * l - 1) * y * q[l - 1][m] - S(l + m - 1) * q[l - 2][m]) * S(1.0 / (l - m));
            diagonal = diagonal * S(2 * m + 1);
        }
    }
};

}  // namespace detail

/// Y[(L+1)²] of the unit vector (x, y, z).
template <int L, class S>
KOKKOS_FORCEINLINE_FUNCTION void spherical_harmonics(S x, S y, S z, S* Y) {
    constexpr detail::HarmonicNorms<L> norm;
    const detail::Legendre<S, L> p(x, y, z);
    for (int l = 0; l <= L; ++l) {
        Y[l * l + l] = S(norm.n[l][0]) * p.q[l][0];
        for (int m = 1; m <= l; ++m) {
            const S nq = S(norm.n[l][m]) * p.q[l][m];
            Y[l * l + l + m] = nq * p.c[m];
            Y[l * l + l - m] = nq * p.s[m];
        }
    }
}

/// g[3] = Σ Ybar ∂Y/∂(x, y, z), of the polynomials as written above (not yet projected on the sphere).
template <int L, class S>
KOKKOS_FORCEINLINE_FUNCTION void spherical_harmonics_backward(S x, S y, S z, const S* Ybar, S* g) {
    constexpr detail::HarmonicNorms<L> norm;
    const detail::Legendre<S, L> p(x, y, z);
    S gx = S(0), gy = S(0), gz = S(0);
    for (int l = 1; l <= L; ++l) {
        gy += S(norm.n[l][0]) * p.q[l][1] * Ybar[l * l + l];
        for (int m = 1; m <= l; ++m) {
            const S plus = S(norm.n[l][m]) * Ybar[l * l + l + m];
            const S minus = S(norm.n[l][m]) * Ybar[l * l + l - m];
            const S mq = S(m) * p.q[l][m];
            gy += p.q[l][m + 1] * (plus * p.c[m] + minus * p.s[m]);
            gx += mq * (minus * p.c[m - 1] - plus * p.s[m - 1]);
            gz += mq * (plus * p.c[m - 1] + minus * p.s[m - 1]);
        }
    }
    g[0] = gx;
    g[1] = gy;
    g[2] = gz;
}

/// g[3] = ∂E/∂r_ij = r̄ r̂ + (1 - r̂ r̂^T) ∇_r̂ / r of an edge with direction x[3] and length r.
template <int L, class S>
KOKKOS_FORCEINLINE_FUNCTION void edge_gradient(const S* x, S r, S rbar, const S* Ybar, S* g) {
    S slope[3];
    spherical_harmonics_backward<L>(x[0], x[1], x[2], Ybar, slope);
    const S along = x[0] * slope[0] + x[1] * slope[1] + x[2] * slope[2];
    const S inverse = S(1) / r;
    for (int k = 0; k < 3; ++k) g[k] = rbar * x[k] + (slope[k] - along * x[k]) * inverse;
}

/// The largest number of harmonics of one edge, l_max = 6.
constexpr int most_harmonics = 49;

/// Calls f.template operator()<l_max>().
template <class F>
KOKKOS_FORCEINLINE_FUNCTION void with_l_max(int l_max, const F& f) {
    with_index<7>(l_max, f);
}

}  // namespace equipot::kernels
