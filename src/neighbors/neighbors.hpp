// Periodic cell -> Graph: the full neighbour list of a System, kept between calls with a Verlet skin.
// r_ij = x_j - x_i + S·cell; edges are sorted by i, then j, then S, so sums over them are reproducible. Units Å.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "potential/graph.hpp"

namespace equipot {

struct System;

/// The neighbours of one system. Holds what the Graph points into, so it must outlive the graph.
class NeighborList {
public:
    /// Brings the list up to date with `system`. With skin > 0 all pairs within cutoff + skin are kept, and searched
    /// again only when the cell, the periodicity, the number of atoms or the radii changed, or when an atom has moved
    /// by more than skin / 2; otherwise only the displacements are computed anew. The result is the same either way.
    /// @throws Error for positions or cells that are not finite, periodic cells without volume, and overlapping atoms.
    void update(const System& system, double cutoff, double skin = 0.0);

    /// Edges shorter than the cutoff, as of the last update.
    [[nodiscard]] Graph graph() const;

    /// How often pairs have been searched, for tests and for people who tune the skin.
    [[nodiscard]] std::int64_t builds() const { return builds_; }

private:
    [[nodiscard]] bool is_current(const System& system, double cutoff, double skin) const;
    void search(const System& system, double cutoff, double skin);
    void compute_edges(const System& system);

    double cutoff_ = -1.0, skin_ = 0.0;
    std::array<double, 9> cell_{};
    std::array<bool, 3> periodic_{};
    std::int64_t builds_ = 0;

    std::vector<std::int32_t> atomic_numbers_;  // [n]
    std::vector<double> searched_positions_;    // [n, 3] where the pairs were searched; empty: nothing to reuse
    std::vector<double> wrap_;                  // [n, 3] lattice vector that brings each atom into the cell
    std::vector<std::int64_t> pair_first_;      // [n + 1]
    std::vector<std::int32_t> pair_neighbor_;   // [pairs]
    std::vector<double> pair_shift_;            // [pairs, 3] S·cell between the wrapped atoms

    std::vector<double> wrapped_;         // [n, 3]
    std::vector<std::int64_t> first_;     // [n + 1]
    std::vector<std::int32_t> neighbor_;  // [edges]
    std::vector<double> displacement_;    // [edges, 3]
};

}  // namespace equipot
