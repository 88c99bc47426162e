// Design matrices: the rows of a feature against central differences of its energy, and sums of columns against the
// engine.
// SPDX-License-Identifier: MIT
#include <catch2/catch.hpp>
#include <cmath>
#include <random>
#include <vector>

#include "fit/design.hpp"
#include "potential/potential.hpp"
#include "random_model.hpp"

using namespace equipot;

namespace {

struct Case {
    Model model;
    std::vector<Feature> features;
};

// One layer with a linear radial map and readout, couplings up to order 3, and every other feature.
Case linear_case(int l_max, int channels) {
    test::ModelOptions options;
    options.layers = 1;
    options.l_max = l_max;
    options.channels = channels;
    Case c{test::random_model(options), {}};
    Model& model = c.model;
    Layer& layer = model.layers[0];
    const auto K = static_cast<std::size_t>(channels), N = static_cast<std::size_t>(model.radial.size);
    const auto paths = layer.paths.size();
    std::mt19937 engine(3);
    std::normal_distribution<double> normal;
    layer.radial = {
        {{static_cast<std::int64_t>(N), static_cast<std::int64_t>(paths * K)}, std::vector<double>(N * paths * K)}};
    for (double& w : layer.radial[0].data) w = normal(engine);
    layer.readout = Layer::Readout::Linear;
    layer.readout0 = {{static_cast<std::int64_t>(model.heads.size()), channels},
                      std::vector<double>(model.heads.size() * K, 1.0)};
    layer.readout1 = {};
    for (int order = 1; order <= layer.correlation; ++order)
        for (int path = 0; path < model.basis[0][static_cast<std::size_t>(order - 1)].paths; ++path)
            for (int k = path % 2; k < channels; k += 2) c.features.push_back({order, path, k});
    return c;
}

System random_system(unsigned seed, int atoms, double cell, const std::vector<int>& species) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<double> uniform;
    System system;
    system.cell = {cell, 0.3, 0, 0, cell, 0, 0.2, 0, cell};
    system.periodic = {true, true, true};
    for (int i = 0; i < atoms; ++i) {
        system.atomic_numbers.push_back(species[static_cast<std::size_t>(i) % species.size()]);
        // a jittered grid, so that no two atoms meet
        const int place[3] = {i % 2, i / 2 % 2, i / 4};
        for (const int p : place) system.positions.push_back(cell / 2 * (p + 0.3 * uniform(engine)));
    }
    return system;
}

std::vector<double> rows_of(const Design& design, const std::vector<System>& systems) {
    std::int64_t rows = 0;
    for (const System& s : systems) rows += Design::rows(static_cast<std::int64_t>(s.atomic_numbers.size()));
    std::vector<double> X(static_cast<std::size_t>(design.columns() * rows), 0.0);
    design.compute(systems, X.data(), rows);
    return X;
}

}  // namespace

TEST_CASE("forces and virials of every feature match central differences of its energy") {
    const Case c = linear_case(2, 3);
    const Design design(c.model, 0, c.features);
    const System system = random_system(1, 5, 4.5, c.model.species);
    const auto columns = static_cast<std::size_t>(design.columns());
    REQUIRE(columns == c.model.species.size() * c.features.size());
    const auto X = rows_of(design, {system});
    const std::size_t rows = X.size() / columns, n = system.atomic_numbers.size();
    const double h = 1e-4;
    const auto difference = [&](auto&& move, std::size_t column) {
        System plus = system, minus = system;
        move(plus, h);
        move(minus, -h);
        return (rows_of(design, {plus})[column * rows] - rows_of(design, {minus})[column * rows]) / (2 * h);
    };
    for (std::size_t column = 0; column < columns; column += 7) {
        double size = 1e-3;
        for (std::size_t r = 1; r < rows; ++r) size = std::max(size, std::abs(X[column * rows + r]));
        for (std::size_t i = 0; i < 3 * n; i += 2) {
            const double slope = difference([&](System& s, double step) { s.positions[i] += step; }, column);
            // Central differences err by h² f'''/6, of the order of h² in units of the largest force.
            CHECK(X[column * rows + 1 + i] == Approx(-slope).margin(1e-6 * size));
        }
        constexpr int axes[6][2] = {{0, 0}, {1, 1}, {2, 2}, {1, 2}, {0, 2}, {0, 1}};
        for (std::size_t v = 0; v < 6; ++v) {
            const auto [a, b] = axes[v];
            const auto strain = [&](System& s, double step) {
                const auto row = [&](double* x) {
                    const double old[3] = {x[0], x[1], x[2]};
                    x[a] += 0.5 * step * old[b];
                    x[b] += 0.5 * step * old[a];
                };
                for (std::size_t i = 0; i < n; ++i) row(s.positions.data() + 3 * i);
                for (std::size_t i = 0; i < 3; ++i) row(s.cell.data() + 3 * i);
            };
            CHECK(X[column * rows + 1 + 3 * n + v] == Approx(-difference(strain, column)).margin(1e-5 * size));
        }
    }
}

TEST_CASE("columns times coefficients are the energies, forces and virials of the engine") {
    for (const int l_max : {0, 1, 3, 5})
        for (const int channels : {2, 11}) {
            Case c = linear_case(l_max, channels);
            const Design design(c.model, 1, c.features);
            const std::vector<System> systems = {random_system(1, 7, 4.5, c.model.species),
                                                 random_system(2, 2, 3.1, {c.model.species[0]}),
                                                 random_system(3, 1, 2.4, {c.model.species.back()})};
            const auto X = rows_of(design, systems);
            const std::size_t nz = c.model.species.size(), F = c.features.size(), rows = X.size() / (nz * F);
            for (auto& product : c.model.layers[0].product[0]) std::fill(product.data.begin(), product.data.end(), 0.0);
            Model silent = c.model;
            std::mt19937 engine(5);
            std::normal_distribution<double> normal;
            std::vector<double> y(rows, 0.0);
            for (std::size_t z = 0; z < nz; ++z)
                for (std::size_t f = 0; f < F; ++f) {
                    const Feature& feature = c.features[f];
                    Array& product = c.model.layers[0].product[0][static_cast<std::size_t>(feature.order - 1)];
                    const double w = normal(engine);
                    product.data[(z * static_cast<std::size_t>(product.shape[1]) +
                                  static_cast<std::size_t>(feature.path)) *
                                     static_cast<std::size_t>(channels) +
                                 static_cast<std::size_t>(feature.channel)] = w;
                    for (std::size_t r = 0; r < rows; ++r) y[r] += w * X[(z * F + f) * rows + r];
                }
            const LoadOptions exact{c.model.heads[1], Precision::Double, Radial::Exact};
            Potential potential(c.model, exact), base(silent, exact);
            std::size_t at = 0;
            for (const System& system : systems) {
                Result with, without;
                potential.compute(system, {}, with);
                base.compute(system, {}, without);
                double size = 1;
                for (const double f : with.forces) size = std::max(size, std::abs(f));
                const double tolerance = 1e-12 * size;  // sums of a few thousand terms in double
                CHECK(y[at] == Approx(with.energy - without.energy).margin(tolerance * 10));
                for (std::size_t i = 0; i < with.forces.size(); ++i)
                    CHECK(y[at + 1 + i] == Approx(with.forces[i] - without.forces[i]).margin(tolerance));
                const std::size_t place[6] = {0, 4, 8, 5, 2, 1};
                at += 1 + with.forces.size();
                for (std::size_t v = 0; v < 6; ++v)
                    CHECK(y[at + v] == Approx(with.virial[place[v]] - without.virial[place[v]]).margin(tolerance * 10));
                at += 6;
            }
        }
}

TEST_CASE("a design matrix says what it cannot do") {
    const Case c = linear_case(1, 2);
    const std::vector<Feature> none, unknown = {{1, 0, 2}}, twice = {{1, 0, 0}, {1, 0, 0}};
    CHECK_THROWS_WITH(Design(c.model, 0, none), Catch::Contains("at least one feature"));
    CHECK_THROWS_WITH(Design(c.model, 0, unknown), Catch::Contains("product.0.1[:, 0, 2]"));
    CHECK_THROWS_WITH(Design(c.model, 0, twice), Catch::Contains("named twice"));
    const Model deep = test::random_model({});
    CHECK_THROWS_WITH(Design(deep, 0, c.features), Catch::Contains("one layer"));
    const Design design(c.model, 0, c.features);
    const std::vector<System> systems = {random_system(1, 2, 4, c.model.species), random_system(1, 2, 4, {92})};
    std::vector<double> X(static_cast<std::size_t>(design.columns() * 26), 0.0);
    CHECK_THROWS_WITH(design.compute(systems, X.data(), 26), Catch::Contains("structure 1") && Catch::Contains("U"));
    CHECK_THROWS_WITH(design.compute(std::vector<System>{systems[0]}, X.data(), 3), Catch::Contains("too few rows"));
}
