// SPDX-License-Identifier: MIT
#include "equivariance/clebsch_gordan.hpp"

#include <algorithm>
#include <cmath>
#include <complex>

namespace equipot {

namespace {

using Complex = std::complex<double>;

double factorial(int n) {
    double value = 1;
    for (int k = 2; k <= n; ++k) value *= k;
    return value;
}

// <j1 m1 j2 m2 | j3 m3>, Racah's closed form (Varshalovich et al., eq. 8.2.1(3)).
double clebsch_gordan(int j1, int m1, int j2, int m2, int j3, int m3) {
    if (m1 + m2 != m3) return 0;
    const double norm = (2 * j3 + 1) * factorial(j1 + j2 - j3) * factorial(j1 - j2 + j3) * factorial(-j1 + j2 + j3) /
                        factorial(j1 + j2 + j3 + 1);
    const double shape = factorial(j1 + m1) * factorial(j1 - m1) * factorial(j2 + m2) * factorial(j2 - m2) *
                         factorial(j3 + m3) * factorial(j3 - m3);
    double sum = 0;
    const int low = std::max({0, j2 - j3 - m1, j1 - j3 + m2});
    const int high = std::min({j1 + j2 - j3, j1 - m1, j2 + m2});
    for (int k = low; k <= high; ++k)
        sum +=
            (k % 2 ? -1.0 : 1.0) / (factorial(k) * factorial(j1 + j2 - j3 - k) * factorial(j1 - m1 - k) *
                                    factorial(j2 + m2 - k) * factorial(j3 - j2 + m1 + k) * factorial(j3 - j1 - m2 + k));
    return std::sqrt(norm * shape) * sum;
}

// q[m][μ]: complex harmonic m as a combination of real ones μ, with the phase (-i)^l that makes the real 3j real.
std::vector<Complex> real_to_complex(int l) {
    const int n = 2 * l + 1;
    std::vector<Complex> q(static_cast<std::size_t>(n * n));
    const auto at = [&](int m, int mu) -> Complex& { return q[static_cast<std::size_t>((l + m) * n + l + mu)]; };
    const double h = 1 / std::sqrt(2.0);
    for (int m = 1; m <= l; ++m) {
        at(-m, m) = h;
        at(-m, -m) = Complex(0, -h);
        const double sign = m % 2 ? -1 : 1;
        at(m, m) = sign * h;
        at(m, -m) = Complex(0, sign * h);
    }
    at(0, 0) = 1;
    Complex phase = 1;
    for (int k = 0; k < l; ++k) phase *= Complex(0, -1);
    for (Complex& value : q) value *= phase;
    return q;
}

}  // namespace

std::vector<double> wigner_3j(int l1, int l2, int l3) {
    const int n1 = 2 * l1 + 1, n2 = 2 * l2 + 1, n3 = 2 * l3 + 1;
    const auto q1 = real_to_complex(l1), q2 = real_to_complex(l2), q3 = real_to_complex(l3);
    std::vector<Complex> real(static_cast<std::size_t>(n1 * n2 * n3));
    for (int m1 = -l1; m1 <= l1; ++m1)
        for (int m2 = -l2; m2 <= l2; ++m2) {
            const int m3 = m1 + m2;
            if (std::abs(m3) > l3) continue;
            const double c = clebsch_gordan(l1, m1, l2, m2, l3, m3);
            for (int a = 0; a < n1; ++a)
                for (int b = 0; b < n2; ++b)
                    for (int d = 0; d < n3; ++d)
                        real[static_cast<std::size_t>((a * n2 + b) * n3 + d)] +=
                            q1[static_cast<std::size_t>((l1 + m1) * n1 + a)] *
                            q2[static_cast<std::size_t>((l2 + m2) * n2 + b)] *
                            std::conj(q3[static_cast<std::size_t>((l3 + m3) * n3 + d)]) * c;
        }
    double norm = 0;
    for (const Complex& value : real) norm += value.real() * value.real();
    norm = std::sqrt(norm);
    std::vector<double> w3j(real.size());
    std::transform(real.begin(), real.end(), w3j.begin(), [&](const Complex& value) {
        const double x = value.real() / norm;
        return std::abs(x) < 1e-14 ? 0.0 : x;
    });
    return w3j;
}

}  // namespace equipot
