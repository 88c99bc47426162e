// Pair repulsion stage: ZBL, v(r) = 14.3996 Z_i Z_j / r · φ(r/a) · envelope(r/r_c), half of it to each atom of a pair.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>

namespace equipot::kernels {

/// 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), which meets 0 at x = 1 with two zero derivatives; not cut
/// there.
template <class S>
KOKKOS_INLINE_FUNCTION S envelope(S x, int p) {
    S power = x;
    for (int i = 1; i < p; ++i) power = power * x;
    const double c0 = 0.5 * (p + 1) * (p + 2), c1 = p * (p + 2.0), c2 = 0.5 * p * (p + 1);
    return S(1) - power * (S(c0) - x * (S(c1) - x * S(c2)));
}

/// Constants of one pair of species.
struct ZblPair {
    double strength;     ///< 14.3996 Z_i Z_j, eV Å
    double inverse_a;    ///< 1/Å
    double inverse_cut;  ///< 1/Å, one over the sum of the radii
};

struct ZblConstants {
    double c[4];
    int p;
};

/// v(r) and its slope dv/dr; zero beyond the sum of the radii.
KOKKOS_INLINE_FUNCTION double zbl(const ZblPair& pair, const ZblConstants& constants, double r, double& slope) {
    const double x = r * pair.inverse_cut;
    slope = 0;
    if (x >= 1) return 0;
    constexpr double decay[4] = {3.2, 0.9423, 0.4028, 0.2016};
    double phi = 0, dphi = 0;
    for (int i = 0; i < 4; ++i) {
        const double term = constants.c[i] * Kokkos::exp(-decay[i] * r * pair.inverse_a);
        phi += term;
        dphi -= decay[i] * pair.inverse_a * term;
    }
    const int p = constants.p;
    const double cut = envelope(x, p);
    double power = 1;
    for (int i = 1; i < p; ++i) power *= x;
    const double dcut = -0.5 * p * (p + 1) * (p + 2) * power * (1 - x) * (1 - x) * pair.inverse_cut;
    const double coulomb = pair.strength / r;
    slope = coulomb * (dphi * cut + phi * dcut - phi * cut / r);
    return coulomb * phi * cut;
}

}  // namespace equipot::kernels
