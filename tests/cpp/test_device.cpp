// The device pipeline on the host's threads against the CPU pipeline, and what only devices have: warps, teams of
// several threads, exchange on their memory. SPDX-License-Identifier: MIT
#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "kokkos_kernels/device_pipeline.hpp"
#include "neighbors/neighbors.hpp"
#include "potential/potential.hpp"
#include "random_model.hpp"

using namespace equipot;
using namespace equipot::kernels;
using equipot::test::ModelOptions;
using equipot::test::random_model;

namespace {

constexpr Properties everything{.virials = true, .centroid_virials = true, .features = true};

System crowd(unsigned seed, int atoms = 14, double edge = 6.0) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<double> place(0, 1);
    System system;
    system.cell = {edge, 0, 0, 0.7, edge, 0, -0.4, 0.3, edge};
    system.periodic = {true, true, true};
    std::vector<std::array<double, 3>> taken;
    // Every image counts, so the distance is that to the nearest of them; the cell is not far from a cube.
    while (static_cast<int>(taken.size()) < atoms) {
        const std::array<double, 3> f{place(engine), place(engine), place(engine)};
        bool free = true;
        for (const auto& other : taken) {
            double x[3] = {0, 0, 0};
            for (std::size_t v = 0; v < 3; ++v) {
                const double d = f[v] - other[v] - std::round(f[v] - other[v]);
                for (std::size_t c = 0; c < 3; ++c) x[c] += d * system.cell[3 * v + c];
            }
            free = free && x[0] * x[0] + x[1] * x[1] + x[2] * x[2] > 1.2;
        }
        if (!free) continue;
        taken.push_back(f);
        system.atomic_numbers.push_back(taken.size() % 3 == 0 ? 8 : 1);
        for (std::size_t c = 0; c < 3; ++c)
            system.positions.push_back(f[0] * system.cell[c] + f[1] * system.cell[3 + c] + f[2] * system.cell[6 + c]);
    }
    return system;
}

std::vector<ModelOptions> architectures() {
    using Transform = RadialBasis::Transform;
    return {{.layers = 1},
            {.layers = 1, .channels = 40, .l_max = 4, .density = true},
            {.layers = 2},
            {.layers = 2, .channels = 33, .l_max = 3, .hidden = 0, .skip = false},
            {.layers = 2, .l_max = 3, .hidden = 2, .density = true, .transform = Transform::Agnesi},
            {.layers = 3,
             .channels = 9,
             .density = true,
             .skip = false,
             .mixing_by_species = true,
             .transform = Transform::Soft},
            {.layers = 3, .channels = 5, .l_max = 4, .hidden = 2, .zbl = false},
            {.layers = 2, .channels = 1, .l_max = 1, .zbl = false}};
}

double largest(const std::vector<double>& a) {
    double most = 0;
    for (const double x : a) most = std::max(most, std::abs(x));
    return most;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
    REQUIRE(a.size() == b.size());
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
    return most;
}

/// All results agree to `relative` of the largest number of each kind.
void check_same(const Result& a, const Result& b, double relative) {
    CHECK(a.energy == Approx(b.energy).epsilon(relative));
    CHECK(distance(a.energies, b.energies) <= relative * largest(b.energies));
    CHECK(distance(a.forces, b.forces) <= relative * largest(b.forces));
    const double virial = std::max(largest(b.virials), largest({b.virial.begin(), b.virial.end()}));
    CHECK(distance({a.virial.begin(), a.virial.end()}, {b.virial.begin(), b.virial.end()}) <= relative * virial);
    CHECK(distance(a.virials, b.virials) <= relative * virial);
    CHECK(distance(a.centroid_virials, b.centroid_virials) <= relative * virial);
    CHECK(distance(a.features, b.features) <= relative * largest(b.features));
}

}  // namespace

TEST_CASE("the device pipeline gives what the CPU pipeline gives") {
    for (const ModelOptions& options : architectures()) {
        CAPTURE(options.layers, options.channels, options.l_max, options.hidden);
        for (const Precision precision : {Precision::Double, Precision::Mixed}) {
            Potential cpu(random_model(options), {.head = "second", .precision = precision}),
                device(random_model(options), {.head = "second", .precision = precision, .device = "host"});
            for (const unsigned seed : {1u, 2u}) {
                Result a, b;
                cpu.compute(crowd(seed), everything, b);
                device.compute(crowd(seed), everything, a);
                // Double: sums in another order. Float: 24 bits, and sums of some dozens of terms that cancel.
                check_same(a, b, precision == Precision::Double ? 1e-10 : 1e-4);
            }
        }
    }
}
