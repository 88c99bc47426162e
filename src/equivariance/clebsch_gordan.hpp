// Real Wigner 3j symbols in e3nn's convention: C^{l3m3}_{l1m1,l2m2} = sqrt(2 l3 + 1) w3j(l1 m1, l2 m2, l3 m3).
// Complex Clebsch-Gordan coefficients (Racah's formula), taken to the real basis of the harmonics in angular.hpp.
// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

namespace equipot {

/// w3j [2 l1 + 1][2 l2 + 1][2 l3 + 1] of unit Frobenius norm, m from -l to l; entries below 1e-14 are exactly zero.
std::vector<double> wigner_3j(int l1, int l2, int l3);

}  // namespace equipot
