// Neighbour lists against a brute-force search over explicit images.
// SPDX-License-Identifier: MIT
#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <limits>
#include <random>
#include <tuple>

#include "model/model.hpp"
#include "neighbors/neighbors.hpp"
#include "potential/potential.hpp"

using equipot::Error;
using equipot::Graph;
using equipot::NeighborList;
using equipot::System;

namespace {

struct Edge {
    std::int64_t i, j;
    double x, y, z;
};

/// Edges in an order that both searches agree on, whatever lattice vectors they count images with. Coordinates are
/// compared by their nearest 1e-6 Å, which separates different edges of random systems and hides round-off.
std::vector<Edge> ordered(std::vector<Edge> edges) {
    const auto key = [](const Edge& e) {
        return std::make_tuple(e.i, e.j, std::llround(e.x * 1e6), std::llround(e.y * 1e6), std::llround(e.z * 1e6));
    };
    std::sort(edges.begin(), edges.end(), [&](const Edge& a, const Edge& b) { return key(a) < key(b); });
    return edges;
}

std::vector<Edge> edges_of(const Graph& graph) {
    std::vector<Edge> edges;
    for (std::int64_t i = 0; i < graph.owned; ++i) {
        for (std::int64_t e = graph.first[i]; e < graph.first[i + 1]; ++e) {
            edges.push_back({i, graph.neighbor[e], graph.displacement[3 * e], graph.displacement[3 * e + 1],
                             graph.displacement[3 * e + 2]});
        }
    }
    return ordered(edges);
}

/// All images within `reach` cells of the atoms where they are: no wrapping, no reduction, nothing clever.
std::vector<Edge> brute_force(const System& s, double cutoff, int reach) {
    std::vector<Edge> edges;
    const auto n = static_cast<std::int64_t>(s.atomic_numbers.size());
    const int a = s.periodic[0] ? reach : 0, b = s.periodic[1] ? reach : 0, c = s.periodic[2] ? reach : 0;
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
            for (int u = -a; u <= a; ++u) {
                for (int v = -b; v <= b; ++v) {
                    for (int w = -c; w <= c; ++w) {
                        if (i == j && u == 0 && v == 0 && w == 0) continue;
                        double r[3];
                        for (int d = 0; d < 3; ++d) {
                            r[d] = s.positions[3 * j + d] - s.positions[3 * i + d] + u * s.cell[d] + v * s.cell[3 + d] +
                                   w * s.cell[6 + d];
                        }
                        if (r[0] * r[0] + r[1] * r[1] + r[2] * r[2] < cutoff * cutoff) {
                            edges.push_back({i, j, r[0], r[1], r[2]});
                        }
                    }
                }
            }
        }
    }
    return ordered(edges);
}

void require_same(const std::vector<Edge>& found, const std::vector<Edge>& expected, double tolerance = 1e-11) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t e = 0; e < found.size(); ++e) {
        const bool same = found[e].i == expected[e].i && found[e].j == expected[e].j &&
                          std::abs(found[e].x - expected[e].x) < tolerance &&
                          std::abs(found[e].y - expected[e].y) < tolerance &&
                          std::abs(found[e].z - expected[e].z) < tolerance;
        if (!same) FAIL("edge " << e << " differs");
    }
}

System random_system(std::mt19937& rng, int atoms, const std::array<double, 9>& cell,
                     const std::array<bool, 3>& periodic, double spread = 1.0) {
    std::uniform_real_distribution<double> uniform(0.0, spread);
    System s;
    s.cell = cell;
    s.periodic = periodic;
    s.atomic_numbers.assign(static_cast<std::size_t>(atoms), 14);
    for (int i = 0; i < atoms; ++i) {
        const double f[3] = {uniform(rng), uniform(rng), uniform(rng)};
        for (int d = 0; d < 3; ++d) s.positions.push_back(f[0] * cell[d] + f[1] * cell[3 + d] + f[2] * cell[6 + d]);
    }
    return s;
}

const std::array<double, 9> cube = {7, 0, 0, 0, 7, 0, 0, 0, 7};

}  // namespace

TEST_CASE("neighbours agree with brute force", "[neighbors]") {
    std::mt19937 rng(1);
    const double cutoff = 5.0;
    const std::vector<std::tuple<std::array<double, 9>, int, int>> cells = {
        {cube, 40, 2},
        {{20, 0, 0, 0, 21, 0, 0, 0, 22}, 200, 1},
        {{6, 1, 0, -2, 8, 1, 1, 3, 9}, 30, 3},
        {{1.9, 0.3, 0, -0.2, 2.1, 0.5, 0.7, 0.1, 1.8}, 3, 8},  // much smaller than the cutoff
        {{6, 0, 0, 30, 6, 0, -40, 37, 6}, 10, 30},             // very skewed
        {{0, 0, 7, 0, 7, 0, 7, 0, 0}, 20, 2},                  // left-handed
    };
    for (const auto& [cell, atoms, reach] : cells) {
        for (int mask = 0; mask < 8; ++mask) {
            const System s = random_system(rng, atoms, cell, {(mask & 1) != 0, (mask & 2) != 0, (mask & 4) != 0});
            CAPTURE(cell, mask);
            NeighborList list;
            list.update(s, cutoff);
            require_same(edges_of(list.graph()), brute_force(s, cutoff, reach));
        }
    }
}

TEST_CASE("random cells agree with brute force", "[neighbors]") {
    std::mt19937 rng(11);
    std::normal_distribution<double> normal;
    const double cutoff = 3.0;
    for (int round = 0; round < 300; ++round) {
        std::array<double, 9> cell;
        for (double& x : cell) x = normal(rng) * std::exp(normal(rng) * 0.5 + 1.0);
        const std::array<bool, 3> periodic = {rng() % 4 != 0, rng() % 4 != 0, rng() % 4 != 0};
        const double volume = std::abs(cell[0] * (cell[4] * cell[8] - cell[5] * cell[7]) -
                                       cell[1] * (cell[3] * cell[8] - cell[5] * cell[6]) +
                                       cell[2] * (cell[3] * cell[7] - cell[4] * cell[6]));
        // Images further than cutoff / height + 1 cells away are out of reach of atoms inside the cell.
        int reach = 0;
        for (int d = 0; d < 3; ++d) {
            const double* a = &cell[3 * ((d + 1) % 3)];
            const double* b = &cell[3 * ((d + 2) % 3)];
            const double area =
                std::hypot(a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]);
            reach = std::max(reach, static_cast<int>(cutoff * area / volume) + 1);
        }
        if (reach > 12) continue;  // brute force would take too long
        const System s = random_system(rng, 1 + static_cast<int>(rng() % 6), cell, periodic);
        CAPTURE(round, cell, periodic);
        NeighborList list;
        list.update(s, cutoff, 0.1 * static_cast<double>(rng() % 10));
        require_same(edges_of(list.graph()), brute_force(s, cutoff, reach));
    }
}

TEST_CASE("many atoms come in an order of space, with the same neighbours", "[neighbors]") {
    std::mt19937 rng(5);
    for (const bool periodic : {true, false}) {
        const System s = random_system(rng, 2000, {30, 0, 0, 3, 28, 0, -2, 1, 31}, {periodic, true, periodic});
        NeighborList given, spatial(NeighborList::Order::InSpace);
        given.update(s, 5.0, 0.5);
        spatial.update(s, 5.0, 0.5);
        const std::vector<std::int32_t>& order = spatial.order();
        REQUIRE(given.order().empty());
        REQUIRE(order.size() == 2000);
        auto sorted = order;
        std::sort(sorted.begin(), sorted.end());
        for (std::int32_t i = 0; i < 2000; ++i) REQUIRE(sorted[static_cast<std::size_t>(i)] == i);

        const Graph graph = spatial.graph();
        std::vector<Edge> edges = edges_of(graph);
        double apart_in_order = 0, apart_as_given = 0;  // mean distance in memory of atoms and their neighbours
        for (Edge& e : edges) {
            apart_in_order += std::abs(static_cast<double>(e.i - e.j));
            e.i = order[static_cast<std::size_t>(e.i)];
            e.j = order[static_cast<std::size_t>(e.j)];
            apart_as_given += std::abs(static_cast<double>(e.i - e.j));
        }
        require_same(ordered(edges), edges_of(given.graph()));
        CHECK(apart_in_order < 0.5 * apart_as_given);
        for (std::size_t row = 0; row < 2000; ++row)
            REQUIRE(graph.atomic_numbers[row] == s.atomic_numbers[static_cast<std::size_t>(order[row])]);

        System moved = s;  // by less than the skin
        for (double& x : moved.positions) x += 0.1 * std::sin(x);
        given.update(moved, 5.0, 0.5);
        spatial.update(moved, 5.0, 0.5);
        CHECK(spatial.builds() == 1);
        edges = edges_of(spatial.graph());
        for (Edge& e : edges) {
            e.i = order[static_cast<std::size_t>(e.i)];
            e.j = order[static_cast<std::size_t>(e.j)];
        }
        require_same(ordered(edges), edges_of(given.graph()));
    }
    System overlapping = random_system(rng, 1500, {90, 0, 0, 0, 90, 0, 0, 0, 90}, {true, true, true});
    std::copy_n(overlapping.positions.begin() + 3 * 7, 3, overlapping.positions.begin() + 3 * 1234);
    NeighborList spatial(NeighborList::Order::InSpace);
    CHECK_THROWS_WITH(spatial.update(overlapping, 5.0), Catch::Contains("atom 7 ") && Catch::Contains("atom 1234 "));
}

TEST_CASE("edges come sorted and in pairs", "[neighbors]") {
    std::mt19937 rng(2);
    const System s = random_system(rng, 30, cube, {true, true, true});
    NeighborList list;
    list.update(s, 5.0);
    const Graph graph = list.graph();
    REQUIRE(graph.first.size() == 31);
    std::vector<Edge> reversed;
    for (std::int64_t i = 0; i < graph.owned; ++i) {
        for (std::int64_t e = graph.first[i]; e < graph.first[i + 1]; ++e) {
            if (e > graph.first[i]) CHECK(graph.neighbor[e - 1] <= graph.neighbor[e]);
            reversed.push_back({graph.neighbor[e], i, -graph.displacement[3 * e], -graph.displacement[3 * e + 1],
                                -graph.displacement[3 * e + 2]});
        }
    }
    // The mirror image of an edge has exactly opposite bits: forces then cancel exactly, too.
    require_same(ordered(reversed), edges_of(graph), 1e-300);
}

TEST_CASE("open directions need no cell and may be huge", "[neighbors]") {
    std::mt19937 rng(3);
    System s = random_system(rng, 25, {30, 0, 0, 0, 30, 0, 0, 0, 30}, {false, false, false});
    const auto expected = brute_force(s, 6.0, 0);
    s.cell = {};
    NeighborList list;
    list.update(s, 6.0);
    require_same(edges_of(list.graph()), expected);

    s = random_system(rng, 25, {9, 0, 0, 1, 8, 0, 0, 0, 0}, {true, true, false});
    for (std::size_t i = 0; i < 25; ++i) s.positions[3 * i + 2] = static_cast<double>(rng() % 20);
    const auto slab = brute_force(s, 6.0, 3);
    list.update(s, 6.0);
    require_same(edges_of(list.graph()), slab);

    // Pairs, each 3 Å apart, scattered over centimetres.
    s = System{};
    for (int i = 0; i < 50; ++i) {
        const double x = std::ldexp(1.0, i % 30), y = -std::ldexp(1.0, i % 29);
        s.positions.insert(s.positions.end(), {x, y, 0.1 * i, x, y + 3.0, 0.1 * i});
        s.atomic_numbers.insert(s.atomic_numbers.end(), {14, 14});
    }
    list.update(s, 4.0);
    require_same(edges_of(list.graph()), brute_force(s, 4.0, 0), 1e-6);
}

TEST_CASE("long and flat boxes, where the cell list must limit its cells", "[neighbors]") {
    std::mt19937 rng(4);
    for (const auto& cell : std::vector<std::array<double, 9>>{
             {3e6, 0, 0, 0, 6, 0, 0, 0, 6}, {4e3, 0, 0, 0, 4e3, 0, 0, 0, 6}, {1e3, 0, 0, 0, 1e3, 0, 0, 0, 1e3}}) {
        System s = random_system(rng, 60, cell, {true, true, true});
        for (std::size_t i = 0; i < 30; ++i) {  // give half of the atoms a neighbour
            for (std::size_t d = 0; d < 3; ++d) s.positions[3 * (30 + i) + d] = s.positions[3 * i + d] + 1.0;
        }
        NeighborList list;
        list.update(s, 5.0);
        require_same(edges_of(list.graph()), brute_force(s, 5.0, 1), 1e-8);
    }
}

TEST_CASE("a few atoms in a large box, where cells would outnumber pairs", "[neighbors]") {
    std::mt19937 rng(6);
    for (const double length : {60.0, 200.0, 1e3, 1e6})
        for (const int n : {1, 2, 5, 12}) {
            System s = random_system(rng, n, {length, 0, 0, 0.3 * length, length, 0, 0, 0, length}, {true, true, true});
            for (int k = 1; k < n; ++k) {  // a chain, across faces of the box
                const double step[3] = {0.9 * k, 0.5 * (k % 3), -0.4 * k};
                for (std::size_t d = 0; d < 3; ++d)
                    s.positions[3 * static_cast<std::size_t>(k) + d] = s.positions[d] + step[d];
            }
            NeighborList list;
            list.update(s, 5.0);
            require_same(edges_of(list.graph()), brute_force(s, 5.0, 1), 1e-8);
        }
}

TEST_CASE("long and thin cells with few atoms cost little, and are refused where they would not", "[neighbors]") {
    const auto slab = [](double length) {
        return System{{14, 14}, {0, 0, 0, 1.3, 1.3, 1.4}, {3.84, 0, 0, 0, 3.84, 0, 0, 0, length}, {true, true, true}};
    };
    const auto wire = [](double length) {
        return System{{14, 14}, {0, 0, 0, 2.3, 0, 0}, {length, 0, 0, 0, 0, 0, 0, 0, 0}, {true, false, false}};
    };
    NeighborList list;
    for (const double length : {1e4, 1e5, 1e6}) {
        for (const System& s : {slab(length), wire(length)}) {
            const auto start = std::chrono::steady_clock::now();
            list.update(s, 6.0, 0.5);
            // Milliseconds; it would be minutes if every cell along the length meant a copy across it.
            CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
            std::size_t within = 0;
            for (int x = -2; x <= 2; ++x)
                for (int y = -2; y <= 2; ++y) {
                    const double dx = 3.84 * x, dy = 3.84 * y;
                    if (dx * dx + dy * dy < 36.0) within += x != 0 || y != 0 ? 2 : 0;
                    if ((dx + 1.3) * (dx + 1.3) + (dy + 1.3) * (dy + 1.3) + 1.4 * 1.4 < 36.0) within += 2;
                }
            CHECK(list.graph().neighbor.size() == (s.periodic[1] ? within : 2));
        }
    }
    CHECK_THROWS_WITH(list.update(slab(1e9), 6.0, 0.5), Catch::Contains("too long for how thin it is"));
}

TEST_CASE("atoms outside the cell see the same neighbours", "[neighbors]") {
    std::mt19937 rng(5);
    const std::array<double, 9> cell = {6, 1, 0, -2, 8, 1, 1, 3, 9};
    System s = random_system(rng, 20, cell, {true, true, true});
    NeighborList list;
    list.update(s, 5.0);
    const auto inside = edges_of(list.graph());
    for (std::size_t i = 0; i < 20; ++i) {
        const double turns[3] = {double(rng() % 2000) - 1000, double(rng() % 20) - 10, double(i)};
        for (std::size_t d = 0; d < 3; ++d) {
            for (std::size_t a = 0; a < 3; ++a) s.positions[3 * i + d] += turns[a] * cell[3 * a + d];
        }
    }
    list.update(s, 5.0);
    // Coordinates of 1e4 Å carry 1e-12 Å of round-off.
    require_same(edges_of(list.graph()), inside, 1e-10);
}

TEST_CASE("the skin saves searches and changes nothing", "[neighbors]") {
    std::mt19937 rng(6);
    std::normal_distribution<double> kick(0.0, 0.02);
    System s = random_system(rng, 40, cube, {true, true, false});
    NeighborList with_skin;
    for (int step = 0; step < 60; ++step) {
        for (double& x : s.positions) x += kick(rng);
        if (step == 40) s.cell[0] = 7.3;         // a new cell needs a new search
        if (step == 50) s.positions[0] += 14.6;  // a wrapped atom, too
        with_skin.update(s, 4.0, 1.0);
        NeighborList fresh;
        fresh.update(s, 4.0, 0.0);
        require_same(edges_of(with_skin.graph()), edges_of(fresh.graph()));
    }
    CHECK(with_skin.builds() >= 3);
    CHECK(with_skin.builds() < 20);
    s.positions.resize(9);
    s.atomic_numbers = {1, 6, 8};
    with_skin.update(s, 4.0, 1.0);
    CHECK(with_skin.graph().owned == 3);
    require_same(edges_of(with_skin.graph()), brute_force(s, 4.0, 3));
    CHECK(with_skin.graph().atomic_numbers[1] == 6);
}

TEST_CASE("no atom and one atom", "[neighbors]") {
    NeighborList list;
    for (const bool periodic : {false, true}) {
        System s;
        s.cell = cube;
        s.periodic = {periodic, periodic, periodic};
        list.update(s, 5.0, 0.5);
        CHECK(list.graph().owned == 0);
        CHECK(list.graph().first.size() == 1);
        s.atomic_numbers = {8};
        s.positions = {1, 2, 3};
        list.update(s, 5.0, 0.5);
        CHECK(list.graph().owned == 1);
        CHECK(list.graph().neighbor.empty());
        list.update(s, 7.5, 0.5);
        CHECK(list.graph().neighbor.size() == (periodic ? 6 : 0));
    }
}

TEST_CASE("bad systems are refused with one sentence", "[neighbors]") {
    using Catch::Matchers::Contains;
    NeighborList list;
    System s;
    s.atomic_numbers = {14, 8};
    s.positions = {0, 0, 0, 2, 0, 0};
    s.cell = cube;
    s.periodic = {true, true, true};
    const auto update = [&] { list.update(s, 5.0, 0.5); };
    CHECK_NOTHROW(update());

    s.positions[4] = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_WITH(update(), Contains("atom 1 (O)") && Contains("not finite"));
    s.positions[4] = std::numeric_limits<double>::infinity();
    CHECK_THROWS_WITH(update(), Contains("atom 1 (O)") && Contains("not finite"));
    s.positions[4] = 1e200;
    CHECK_THROWS_WITH(update(), Contains("atom 1 (O)") && Contains("1e10"));
    s.positions[4] = 0;

    s.positions[3] = 7.0 + 1e-8;  // on top of an image
    CHECK_THROWS_WITH(update(), Contains("atom 0 (Si)") && Contains("atom 1 (O)") && Contains("Å apart"));
    s.positions[3] = 2;

    s.cell = {};
    CHECK_THROWS_WITH(update(), Contains("no volume"));
    s.cell = {7, 0, 0, 0, 7, 0, 7, 7, 0};
    CHECK_THROWS_WITH(update(), Contains("no volume"));
    s.periodic = {true, true, false};
    CHECK_NOTHROW(update());
    s.cell = {7, 0, 0, 14, 0, 0, 0, 0, 7};
    CHECK_THROWS_WITH(update(), Contains("no volume"));
    s.cell = {7, 0, 0, std::numeric_limits<double>::quiet_NaN(), 7, 0, 0, 0, 7};
    CHECK_THROWS_WITH(update(), Contains("lattice vector 2"));
    s.cell = {1e-3, 0, 0, 0, 1e-3, 0, 0, 0, 1e-3};
    CHECK_THROWS_WITH(update(), Contains("small"));
    s.cell = cube;
    CHECK_THROWS_AS(list.update(s, -1.0), Error);
    CHECK_THROWS_AS(list.update(s, 5.0, std::numeric_limits<double>::infinity()), Error);
    CHECK_NOTHROW(update());
}
