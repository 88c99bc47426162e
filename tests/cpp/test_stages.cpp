// Each stage alone: its formula on cases with known answers, and its adjoint against finite differences or the
// inner-product identity.
// SPDX-License-Identifier: MIT
#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "kokkos_kernels/host_only.hpp"
// The line above comes first: see there.
#include "equivariance/clebsch_gordan.hpp"
#include "kokkos_kernels/angular.hpp"
#include "kokkos_kernels/density.hpp"
#include "kokkos_kernels/mixing.hpp"
#include "kokkos_kernels/pair.hpp"
#include "kokkos_kernels/product.hpp"
#include "kokkos_kernels/radial.hpp"
#include "kokkos_kernels/readout.hpp"
#include "kokkos_kernels/subnormals.hpp"

using namespace equipot;
using namespace equipot::kernels;

namespace {

struct Isa {
    static constexpr int registers = 16;
};
using P = Pack<double, 4, Isa>;

std::vector<double> random_vector(std::size_t n, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal;
    std::vector<double> values(n);
    for (double& v : values) v = normal(engine);
    return values;
}

double inner(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

}  // namespace

TEST_CASE("harmonics have component normalisation and e3nn's order") {
    const double n = std::sqrt(0.09 + 0.49 + 0.04);
    const double x = 0.3 / n, y = -0.7 / n, z = 0.2 / n;
    double Y[25];
    spherical_harmonics<4>(x, y, z, Y);
    for (int l = 0; l <= 4; ++l) {
        double sum = 0;
        for (int m = 0; m <= 2 * l; ++m) sum += Y[l * l + m] * Y[l * l + m];
        CHECK(sum == Approx(2 * l + 1).epsilon(1e-13));
    }
    CHECK(Y[1] == Approx(std::sqrt(3.0) * x));
    CHECK(Y[2] == Approx(std::sqrt(3.0) * y));
    CHECK(Y[3] == Approx(std::sqrt(3.0) * z));
    CHECK(Y[4] == Approx(std::sqrt(15.0) * x * z));
    CHECK(Y[8] == Approx(std::sqrt(15.0) / 2 * (z * z - x * x)));
}

TEST_CASE("adjoint of the harmonics matches central differences") {
    const auto Ybar = random_vector(25, 1);
    const double r[3] = {0.4, -1.1, 0.7};
    const auto energy = [&](const double* d) {
        const double length = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
        std::vector<double> Y(25);
        spherical_harmonics<4>(d[0] / length, d[1] / length, d[2] / length, Y.data());
        return inner(Y, Ybar);
    };
    const double length = std::sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2]);
    double g[3];
    spherical_harmonics_backward<4>(r[0] / length, r[1] / length, r[2] / length, Ybar.data(), g);
    const double along = (g[0] * r[0] + g[1] * r[1] + g[2] * r[2]) / length;
    for (int c = 0; c < 3; ++c) {
        double plus[3] = {r[0], r[1], r[2]}, minus[3] = {r[0], r[1], r[2]};
        const double h = 1e-5;
        plus[c] += h;
        minus[c] -= h;
        // Central differences err by h² f'''/6: about 1e-9 here.
        CHECK((g[c] - along * r[c] / length) / length ==
              Approx((energy(plus) - energy(minus)) / (2 * h)).epsilon(1e-7));
    }
}

TEST_CASE("3j symbols are normalised, orthogonal and couple to known values") {
    for (int l1 = 0; l1 <= 3; ++l1)
        for (int l2 = 0; l2 <= 4; ++l2)
            for (int l3 = std::abs(l1 - l2); l3 <= std::min(l1 + l2, 4); ++l3) {
                const auto w = wigner_3j(l1, l2, l3);
                const std::size_t n3 = static_cast<std::size_t>(2 * l3 + 1);
                for (std::size_t a = 0; a < n3; ++a)
                    for (std::size_t b = 0; b < n3; ++b) {
                        double sum = 0;
                        for (std::size_t i = 0; i < w.size() / n3; ++i) sum += w[i * n3 + a] * w[i * n3 + b];
                        CHECK(sum == Approx(a == b ? 1.0 / static_cast<double>(n3) : 0.0).margin(1e-13));
                    }
            }
    // (1, 1, 0) is the scalar product, (0, l, l) the identity.
    const auto dot = wigner_3j(1, 1, 0);
    for (std::size_t i = 0; i < 9; ++i) CHECK(dot[i] == Approx(i % 4 == 0 ? 1 / std::sqrt(3.0) : 0.0).margin(1e-14));
    const auto one = wigner_3j(0, 2, 2);
    for (std::size_t i = 0; i < 25; ++i) CHECK(one[i] == Approx(i % 6 == 0 ? 1 / std::sqrt(5.0) : 0.0).margin(1e-14));
}

TEST_CASE("splines reproduce polynomials of degree five, with their slopes") {
    // Of x = r/(r + cutoff), in which the knots are equally far from each other.
    const auto f = [](double x) { return 1 + x * (0.5 + x * (-0.3 + x * (0.2 + x * (0.1 - 0.05 * x)))); };
    const auto df = [](double x) { return 0.5 + x * (-0.6 + x * (0.6 + x * (0.4 - 0.25 * x))); };
    constexpr int n = 7, outputs = 4;
    const double low = 0.5, cutoff = 2.25, rule[5] = {13.0 / 240, -7.0 / 15, 73.0 / 40, -7.0 / 15, 13.0 / 240};
    const RadialGrid grid(low, cutoff, n);
    const auto x_of = [=](double r) { return r / (r + cutoff); };
    std::vector<double> rows((n + 5) * outputs);
    for (int i = 0; i < n + 5; ++i)
        for (int k = 0; k < 5; ++k)
            for (int c = 0; c < outputs; ++c)
                rows[static_cast<std::size_t>(i * outputs + c)] +=
                    (c + 1) * rule[k] * f(x_of(grid.distance(i + k - 4)));
    const RadialTable<double> table{rows.data(), grid, outputs};
    double R[outputs], dR[outputs];
    for (const double r : {low, 0.63, 1.1, 2.2, cutoff}) {
        radial_splined<P, true>(SplineWeights<double>(table, r), outputs, 0, Blocks{0, 1, 1}, R, dR);
        for (int c = 0; c < outputs; ++c) {
            CHECK(R[c] == Approx((c + 1) * f(x_of(r))).epsilon(1e-12));
            CHECK(dR[c] == Approx((c + 1) * df(x_of(r)) * cutoff / ((r + cutoff) * (r + cutoff))).epsilon(1e-11));
        }
    }
}

TEST_CASE("float splines have slopes as exact as their values") {
    // A straight line (in x) of size 1 with a small slope: B-spline coefficients are its values at the knots. From
    // rounded coefficients a slope would err by 6e-8 / h.
    constexpr int n = 100;
    const double low = 0.5, cutoff = 1.5, slope = 1e-3;
    const RadialGrid grid(low, cutoff, n);
    const double h = (0.5 - low / (low + cutoff)) / n;
    std::vector<float> rows;
    for (int i = 0; i < n + 3; ++i) {
        rows.push_back(static_cast<float>(1 + slope * (i - 1) * h));
        rows.push_back(static_cast<float>(slope * h));
    }
    const RadialTable<float> table{rows.data(), grid, 1};
    float R = 0, dR = 0;
    for (const double r : {0.5, 0.637, 1.1, 1.499}) {
        radial_splined<Pack<float, 1, void>, true>(SplineWeights<float>(table, r), 1, 0, Blocks{0, 1, 1}, &R, &dR);
        CHECK(R == Approx(1 + slope * (r / (r + cutoff) - low / (low + cutoff))).margin(2e-7));
        CHECK(dR == Approx(slope * cutoff / ((r + cutoff) * (r + cutoff))).epsilon(3e-7));
    }
}

TEST_CASE("the density stage and its adjoint") {
    constexpr int channels = 8, D1 = 3, D3 = 5;
    const Blocks blocks{0, channels / P::width, 1};
    const auto M = random_vector(D1 * D3, 2), R = random_vector(channels, 3), dR = random_vector(channels, 4);
    const auto u = random_vector(D1 * channels, 5), Dbar = random_vector(D3 * channels, 6);
    std::vector<double> ubar(D1 * channels, 0.0), Mbar(D1 * D3 + 1);
    const double* rows[] = {u.data(), u.data()};
    double* bars[] = {ubar.data(), ubar.data()};
    const PathEdges<double> edge{M.data(), R.data(), dR.data(), rows, bars, 0};
    std::vector<double> D(D3 * channels, 0.0), twice(D3 * channels, 0.0);
    path_forward<P, D1, D3, true, 1>(blocks, channels, edge, D.data());
    // Twice the same edge: entries of M next to each other.
    std::vector<double> M2, R2(R);
    for (const double m : M) M2.insert(M2.end(), {m, m});
    R2.insert(R2.end(), R.begin(), R.end());
    path_forward<P, D1, D3, true, 2, 2>(blocks, channels, {M2.data(), R2.data(), nullptr, rows, bars, 0}, twice.data());
    for (std::size_t i = 0; i < D.size(); ++i) CHECK(twice[i] == Approx(2 * D[i]));
    for (std::size_t m3 = 0; m3 < D3; ++m3)
        for (std::size_t k = 0; k < channels; ++k) {
            double sum = 0;
            for (std::size_t m1 = 0; m1 < D1; ++m1) sum += M[m3 * D1 + m1] * u[m1 * channels + k];
            CHECK(D[m3 * channels + k] == Approx(R[k] * sum).margin(1e-13));
        }
    P lanes[D1 * D3 + 1];
    lanes[D1 * D3] = P::zero();
    path_backward<P, D1, D3, true, 1>(blocks, channels, edge, Dbar.data(), lanes + D1 * D3, lanes);
    static_assert((D1 * D3 + 1) % P::width == 0);
    for (int p = 0; p < D1 * D3 + 1; p += P::width) lane_sums(lanes + p).store(Mbar.data() + p);
    const double rbar = Mbar.back();
    Mbar.pop_back();
    // D is linear in each of u, M and R, so <x, x̄> is the energy <D, D̄> for each.
    const double energy = inner(D, Dbar);
    CHECK(inner(u, ubar) == Approx(energy).epsilon(1e-12));
    CHECK(inner(M, Mbar) == Approx(energy).epsilon(1e-12));
    std::vector<double> slope(D3 * channels, 0.0);
    path_forward<P, D1, D3, true, 1>(blocks, channels, {M.data(), dR.data(), nullptr, rows, bars, 0}, slope.data());
    CHECK(rbar == Approx(inner(slope, Dbar)).epsilon(1e-12));
}

TEST_CASE("mixing multiplies rows, in blocks or alone") {
    for (const int rows : {1, 3, 4, 9}) {
        constexpr int channels = 12;
        const auto in = random_vector(static_cast<std::size_t>(rows * channels), 7),
                   W = random_vector(channels * channels, 8);
        std::vector<double> out(in.size(), 1.0), strips(mix_size<double>(channels));
        for (int k = 0; k < channels; ++k)
            for (int c = 0; c < channels; ++c)
                strips[static_cast<std::size_t>(mix_index<double>(channels, k, c))] =
                    W[static_cast<std::size_t>(k * channels + c)];
        mix<P, true>(Blocks{0, channels / P::width, 1}, channels, rows, {in.data(), 1, channels}, strips.data(),
                     {out.data(), 1, channels});
        for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r)
            for (std::size_t c = 0; c < channels; ++c) {
                double sum = 1;
                for (std::size_t k = 0; k < channels; ++k) sum += in[r * channels + k] * W[k * channels + c];
                CHECK(out[r * channels + c] == Approx(sum).epsilon(1e-12));
            }
    }
}

TEST_CASE("the product is the polynomial it is told, and its adjoint the gradient") {
    // B_0 = 2 A_1 + A_0 A_2 + 3 A_0 A_1 A_2 ,  B_1 = A_2³
    const ProductNode nodes[] = {{0, 0}, {0, 0}, {1, 1}, {0, 2}, {3, 2}};  // 1, A0, A0 A1, A2, A2²
    const ProductGroup groups[] = {{0, 0, 0, 1}, {1, 0, 1, 2}, {2, 0, 2, 3}, {4, 1, 3, 4}};
    const int variables[] = {1, 2, 2, 2};
    const ProductProgram program{nodes, groups, variables, 5, 4, 4, 3, 2};
    constexpr int channels = P::width;
    const double values[] = {2, 1, 3, 1};
    std::vector<double> coefficients(4 * channels);
    for (std::size_t t = 0; t < 4; ++t)
        for (std::size_t k = 0; k < channels; ++k) coefficients[t * channels + k] = values[t];
    const auto A = random_vector(3 * channels, 9), Bbar = random_vector(2 * channels, 10);
    std::vector<double> B(2 * channels), Abar(3 * channels);
    P scratch[16];
    product_forward<P>(program, coefficients.data(), channels, A.data(), B.data(), scratch);
    product_backward<P>(program, coefficients.data(), channels, A.data(), Bbar.data(), Abar.data(), scratch);
    for (std::size_t k = 0; k < channels; ++k) {
        const double a0 = A[k], a1 = A[channels + k], a2 = A[2 * channels + k];
        CHECK(B[k] == Approx(2 * a1 + a0 * a2 + 3 * a0 * a1 * a2).epsilon(1e-13));
        CHECK(B[channels + k] == Approx(a2 * a2 * a2).epsilon(1e-13));
        const double b0 = Bbar[k], b1 = Bbar[channels + k];
        CHECK(Abar[k] == Approx(b0 * (a2 + 3 * a1 * a2)).margin(1e-12));
        CHECK(Abar[channels + k] == Approx(b0 * (2 + 3 * a0 * a2)).margin(1e-12));
        CHECK(Abar[2 * channels + k] == Approx(b0 * (a0 + 3 * a0 * a1) + b1 * 3 * a2 * a2).margin(1e-12));
    }
}

TEST_CASE("readouts and their adjoints match central differences") {
    constexpr int channels = 6, hidden = 3;
    const auto w = random_vector(channels * hidden, 11), v = random_vector(hidden, 12);
    auto h = random_vector(channels, 13);
    for (const auto kind : {Activation::Silu, Activation::Tanh, Activation::Identity, Activation::Abs})
        for (const int width : {0, hidden}) {
            const ReadoutWeights weights{w.data(), v.data(), width, kind};
            std::vector<double> hbar(channels, 0.0);
            readout<P>(weights, channels, h.data(), 0.7, hbar.data());
            for (std::size_t k = 0; k < channels; ++k) {
                const double step = 1e-6, keep = h[k];
                h[k] = keep + step;
                const double plus = readout<P>(weights, channels, h.data(), 0, nullptr);
                h[k] = keep - step;
                const double minus = readout<P>(weights, channels, h.data(), 0, nullptr);
                h[k] = keep;
                CHECK(hbar[k] == Approx(0.7 * (plus - minus) / (2 * step)).margin(1e-8));
            }
        }
}

TEST_CASE("pair repulsion: slope against central differences, smooth end") {
    const ZblPair pair{14.3996 * 14 * 14, 1 / 0.12, 1 / 2.22};
    const ZblConstants constants{{0.1818, 0.5099, 0.2802, 0.02817}, 6};
    for (const double r : {0.4, 0.9, 1.7, 2.1}) {
        double slope = 0, ignore = 0;
        zbl(pair, constants, r, slope);
        const double h = 1e-5;
        const double difference = (zbl(pair, constants, r + h, ignore) - zbl(pair, constants, r - h, ignore)) / (2 * h);
        CHECK(slope == Approx(difference).epsilon(1e-6));
    }
    double slope = 1;
    CHECK(zbl(pair, constants, 2.22, slope) == 0);
    CHECK(slope == 0);
}

#if defined(__SSE2__)
TEST_CASE("subnormal numbers are zero as long as one asks for it") {
    volatile float tiny = 1e-30f;
    const auto product = [&] { return tiny * 1e-10f; };
    CHECK(product() > 0);
    {
        const FlushSubnormals guard;
        CHECK(product() == 0);
    }
    CHECK(product() > 0);
}
#endif
