// The whole pipeline on random models: derivatives, symmetry, halo atoms, determinism, and the model file.
// SPDX-License-Identifier: MIT
#include <catch2/catch.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "neighbors/neighbors.hpp"
#include "potential/potential.hpp"
#include "random_model.hpp"

using namespace equipot;
using equipot::test::architectures;
using equipot::test::ModelOptions;
using equipot::test::random_model;

namespace {

System water_like(unsigned seed, int molecules = 4, double edge = 5.2) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<double> uniform(-0.15, 0.15);
    System system;
    system.cell = {edge, 0, 0, 0.4, edge, 0, -0.3, 0.2, edge};
    system.periodic = {true, true, true};
    const double shape[3][3] = {{0, 0, 0}, {0.95, 0.1, 0}, {-0.25, 0.9, 0.2}};
    for (int m = 0; m < molecules; ++m)
        for (int a = 0; a < 3; ++a) {
            system.atomic_numbers.push_back(a == 0 ? 8 : 1);
            const double origin[3] = {m % 2 * 2.6, m / 2 % 2 * 2.6, m / 4 * 2.6};
            for (int c = 0; c < 3; ++c) system.positions.push_back(origin[c] + shape[a][c] + uniform(engine));
        }
    return system;
}

double energy_of(Potential& potential, const System& system) {
    Result result;
    potential.compute(system, {.forces = false}, result);
    return result.energy;
}

/// What LAMMPS does on one rank: periodic images become halo atoms, kept in step by an exchange.
struct Images final : Exchange {
    std::vector<std::int32_t> owner;
    std::int64_t owned = 0;
    void forward(double* rows, int width) override { copy(rows, width); }
    void reverse(double* rows, int width) override { add(rows, width); }
    void forward(float* rows, int width) override { copy(rows, width); }
    void reverse(float* rows, int width) override { add(rows, width); }

private:
    template <class Real>
    void copy(Real* rows, int width) const {
        for (std::size_t h = 0; h < owner.size(); ++h)
            std::copy_n(rows + owner[h] * width, width, rows + (owned + static_cast<std::int64_t>(h)) * width);
    }
    template <class Real>
    void add(Real* rows, int width) const {
        for (std::size_t h = 0; h < owner.size(); ++h)
            for (int c = 0; c < width; ++c)
                rows[owner[h] * width + c] += rows[(owned + static_cast<std::int64_t>(h)) * width + c];
    }
};

}  // namespace

TEST_CASE("forces and virial are derivatives of the energy") {
    const LoadOptions ways[] = {{.head = "second", .radial = Radial::Exact},
                                {.head = "second", .radial = Radial::Splined},
                                {.head = "second", .device = "host"}};
    for (const ModelOptions& options : architectures())
        for (const LoadOptions& way : ways) {
            Potential potential(random_model(options), way);
            System system = water_like(3);
            Result result;
            potential.compute(system, {.virials = true, .centroid_virials = true}, result);
            // The five-point rule errs by h^4 f'''''/30, below 1e-8 here; round-off of the energy over h is 1e-10.
            const double h = 3e-4;
            const auto slope = [&](const auto& energy) {
                return (8 * (energy(h) - energy(-h)) - (energy(2 * h) - energy(-2 * h))) / (12 * h);
            };
            for (const std::size_t c : {0u, 4u, 8u, 19u}) {
                const double force = -slope([&](double x) {
                    System moved = system;
                    moved.positions[c] += x;
                    return energy_of(potential, moved);
                });
                CHECK(result.forces[c] == Approx(force).epsilon(1e-6).margin(1e-6));
            }
            for (const std::size_t component : {0u, 4u, 1u}) {
                const auto strained = [&](double e) {
                    System s = system;
                    const std::size_t row = component / 3, column = component % 3;
                    for (std::size_t a = 0; a < s.positions.size(); a += 3)
                        s.positions[a + column] += e * system.positions[a + row];
                    for (std::size_t v = 0; v < 9; v += 3) s.cell[v + column] += e * system.cell[v + row];
                    return s;
                };
                const double virial = -slope([&](double e) { return energy_of(potential, strained(e)); });
                CHECK(result.virial[component] == Approx(virial).epsilon(1e-6).margin(1e-6));
            }
            // Sums over atoms: round-off of a hundred additions.
            for (std::size_t c = 0; c < 9; ++c) {
                double half = 0, centroid = 0;
                for (std::size_t a = 0; a < result.energies.size(); ++a) {
                    half += result.virials[9 * a + c];
                    centroid += result.centroid_virials[9 * a + c];
                }
                CHECK(centroid == Approx(result.virial[c]).margin(1e-10));
                CHECK(half == Approx(0.5 * (result.virial[c] + result.virial[c % 3 * 3 + c / 3])).margin(1e-10));
            }
        }
}

TEST_CASE("energy is invariant, forces turn with the system") {
    for (const ModelOptions& options : architectures()) {
        Potential potential(random_model(options), {.head = "first"});
        const System system = water_like(5);
        Result before, after;
        potential.compute(system, {}, before);
        // A rotation about (1, 2, 3) by 1.1 rad, then inversion.
        const double n = std::sqrt(14.0), axis[3] = {1 / n, 2 / n, 3 / n}, cosine = std::cos(1.1), sine = std::sin(1.1);
        double Q[3][3];
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j) {
                const double cross = i == j ? 0 : (j == (i + 1) % 3 ? -1 : 1) * axis[3 - i - j];
                Q[i][j] = -((i == j ? cosine : 0) + (1 - cosine) * axis[i] * axis[j] + sine * cross);
            }
        const auto turn = [&](const double* x, double* y) {
            for (int i = 0; i < 3; ++i) y[i] = Q[i][0] * x[0] + Q[i][1] * x[1] + Q[i][2] * x[2];
        };
        System turned = system;
        for (std::size_t a = 0; a < system.positions.size(); a += 3) turn(&system.positions[a], &turned.positions[a]);
        for (std::size_t v = 0; v < 9; v += 3) turn(&system.cell[v], &turned.cell[v]);
        potential.compute(turned, {}, after);
        CHECK(after.energy == Approx(before.energy).epsilon(1e-13));
        for (std::size_t a = 0; a < before.forces.size(); a += 3) {
            double expected[3];
            turn(&before.forces[a], expected);
            for (std::size_t c = 0; c < 3; ++c) CHECK(after.forces[a + c] == Approx(expected[c]).margin(1e-10));
        }
    }
}

TEST_CASE("halo atoms and exchange give what periodic images give, and the same bits every time") {
    for (const std::string device : {"cpu", "host"})
        for (const ModelOptions& options : architectures()) {
            Potential potential(random_model(options), {.head = "first", .device = device});
            const System system = water_like(6);
            Result direct, again, halo;
            const Properties all{.virials = true, .centroid_virials = true, .features = true};
            potential.compute(system, all, direct);
            potential.compute(system, all, again);
            if (device == "cpu") {  // on devices, sums of forces come in any order
                CHECK(direct.energy == again.energy);
                CHECK(direct.forces == again.forces);
            }

            NeighborList list;
            list.update(system, potential.cutoff());
            const Graph graph = list.graph();
            Images images;
            images.owned = graph.owned;
            std::vector<std::int32_t> numbers(graph.atomic_numbers.begin(), graph.atomic_numbers.end());
            std::vector<std::int32_t> neighbor(graph.neighbor.begin(), graph.neighbor.end());
            std::map<std::array<long, 4>, std::int32_t> known;
            for (std::int64_t i = 0; i < graph.owned; ++i)
                for (std::int64_t e = graph.first[static_cast<std::size_t>(i)];
                     e < graph.first[static_cast<std::size_t>(i) + 1]; ++e) {
                    const auto edge = static_cast<std::size_t>(e);
                    const std::int32_t j = neighbor[edge];
                    std::array<long, 4> key{j, 0, 0, 0};
                    bool image = false;
                    for (std::size_t c = 0; c < 3; ++c) {
                        const double shift = graph.displacement[3 * edge + c] +
                                             system.positions[static_cast<std::size_t>(3 * i) + c] -
                                             system.positions[static_cast<std::size_t>(3 * j) + c];
                        key[c + 1] = std::lround(1e6 * shift);
                        image = image || std::abs(shift) > 1e-3;
                    }
                    if (!image) continue;
                    const auto [entry, is_new] = known.emplace(
                        key, static_cast<std::int32_t>(graph.owned) + static_cast<std::int32_t>(images.owner.size()));
                    if (is_new) {
                        images.owner.push_back(j);
                        numbers.push_back(numbers[static_cast<std::size_t>(j)]);
                    }
                    neighbor[edge] = entry->second;
                }
            Graph with_halo = graph;
            with_halo.total = static_cast<std::int64_t>(numbers.size());
            with_halo.atomic_numbers = numbers;
            with_halo.neighbor = neighbor;
            potential.compute(with_halo, images, all, halo);
            images.reverse(halo.forces.data(), 3);
            images.reverse(halo.virials.data(), 9);
            images.reverse(halo.centroid_virials.data(), 9);
            CHECK(halo.energy == Approx(direct.energy).epsilon(1e-13));
            const auto close = [](const std::vector<double>& a, const std::vector<double>& b, std::size_t n) {
                for (std::size_t i = 0; i < n; ++i) CHECK(a[i] == Approx(b[i]).margin(1e-10));
            };
            close(halo.forces, direct.forces, direct.forces.size());
            close(halo.virials, direct.virials, direct.virials.size());
            close(halo.centroid_virials, direct.centroid_virials, direct.centroid_virials.size());
            close(halo.features, direct.features, direct.features.size());
        }
}

TEST_CASE("nothing, one atom, and neighbours out of reach") {
    const std::string device = GENERATE("cpu", "host");
    Potential potential(random_model({}), {.head = "first", .device = device});
    Result result;
    potential.compute(System{}, {}, result);
    CHECK(result.energy == 0);
    System one;
    one.atomic_numbers = {8};
    one.positions = {1, 2, 3};
    potential.compute(one, {}, result);
    const double alone = result.energy;
    CHECK(result.forces == std::vector<double>{0, 0, 0});
    System two = one;
    two.atomic_numbers = {8, 8};
    two.positions = {0, 0, 0, 4.0, 0, 0};
    potential.compute(two, {}, result);
    CHECK(result.energy == 2 * alone);
    // The envelope meets zero with two zero derivatives: 1e-6 Å inside, what is left is of order 1e-18.
    two.positions[3] = 4.0 - 1e-6;
    potential.compute(two, {}, result);
    CHECK(result.energy == Approx(2 * alone).margin(1e-9));
    two.atomic_numbers = {8, 26};
    CHECK_THROWS_WITH(potential.compute(two, {}, result), Catch::Contains("Fe") && Catch::Contains("H O"));
}

TEST_CASE("float agrees with double to what float can") {
    Potential in_double(random_model({}), {.head = "first"}),
        in_float(random_model({}), {.head = "first", .precision = Precision::Mixed});
    const System system = water_like(8);
    Result a, b;
    in_double.compute(system, {}, a);
    in_float.compute(system, {}, b);
    CHECK(b.energy == Approx(a.energy).epsilon(1e-6));
    // 24 bits, and sums of some dozens of terms as large as the largest force.
    double largest = 0;
    for (const double f : a.forces) largest = std::max(largest, std::abs(f));
    for (std::size_t c = 0; c < a.forces.size(); ++c) CHECK(b.forces[c] == Approx(a.forces[c]).margin(5e-6 * largest));
}

TEST_CASE("a model survives its file; damaged files are refused in words") {
    const auto folder = std::filesystem::temp_directory_path() / "equipot_test_model";
    std::filesystem::create_directories(folder);
    const std::string path = (folder / "model.equipot").string();
    const Model model = random_model({.layers = 3, .density = true, .transform = RadialBasis::Transform::Agnesi});
    write_model(model, path);
    Potential before(model, {.head = "second"}), after = Potential::load(path, {.head = "second"});
    CHECK(energy_of(before, water_like(9)) == energy_of(after, water_like(9)));
    CHECK(after.model().parameters() == model.parameters());

    CHECK_THROWS_WITH(Potential::load(path), Catch::Contains("'first', 'second'"));
    CHECK_THROWS_WITH(Potential::load(path, {.head = "third"}), Catch::Contains("no head 'third'"));
    CHECK_THROWS_WITH(read_model(path + ".missing"), Catch::Contains("cannot open"));
    CHECK_THROWS_WITH(read_model(folder.string()), Catch::Contains("folder"));

    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{7}, std::size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
        const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK_THROWS_AS(read_model(cut, "cut"), Error);
    }
    // One flipped bit anywhere either leaves a model that reads, or throws Error: never anything else.
    std::mt19937 engine(1);
    for (int trial = 0; trial < 300; ++trial) {
        std::vector<char> flipped = bytes;
        const std::size_t at = trial < 250 ? engine() % 6000 : engine() % bytes.size();
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << (engine() % 8)));
        try {
            read_model(flipped, "flipped");
        } catch (const Error&) {
        }
    }
    std::filesystem::remove_all(folder);
}

TEST_CASE("a model in memory is checked as a file is") {
    const LoadOptions first{.head = "first"};
    const auto changed = [](auto&& change) {
        Model model = random_model({});
        change(model);
        return model;
    };
    CHECK_NOTHROW(Potential(random_model({}), first));
    CHECK_THROWS_AS(Potential(Model{}, {}), Error);
    CHECK_THROWS_AS(Potential(changed([](Model& m) { m.l_max = 9; }), first), Error);
    CHECK_THROWS_AS(Potential(changed([](Model& m) { m.channels *= 4; }), first), Error);
    CHECK_THROWS_AS(Potential(changed([](Model& m) { m.species.push_back(92); }), first), Error);
    CHECK_THROWS_AS(Potential(changed([](Model& m) { m.embedding.data.clear(); }), first), Error);
    CHECK_THROWS_AS(Potential(changed([](Model& m) { m.e0.data.pop_back(); }), first), Error);
    CHECK_THROWS_AS(Potential(changed([](Model& m) { m.layers.clear(); }), first), Error);
    CHECK_THROWS_AS(Potential(changed([](Model& m) { m.layers.back().out[0].data.push_back(0); }), first), Error);
}
