// Periodic cell -> Graph: the full neighbour list of a System, kept between calls with a Verlet skin.
// r_ij = x_j - x_i + S·cell; edges are sorted by i, then j, then S, so sums over them are reproducible. Units Å.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "../potential/graph.hpp"

namespace equipot {

struct System;
struct Result;

/// The neighbours of one system. Holds what the Graph points into, so it must outlive the graph.
class NeighborList {
public:
    /// In which order the graph has the atoms. InSpace: of many, those that are near one another come one after
    /// another, whatever their order in the system, so that threads have patches of space and what they need stays in
    /// caches.
    enum class Order { AsGiven, InSpace };
    explicit NeighborList(Order order = Order::AsGiven) : order_wanted_(order) {}

    /// Brings the list up to date with `system`. With skin > 0 all pairs within cutoff + skin are kept, and searched
    /// again only when the cell, the periodicity, the number of atoms or the radii changed, or when an atom has moved
    /// by more than skin / 2; otherwise only the displacements are computed anew. The result is the same either way.
    /// @throws Error for positions or cells that are not finite, periodic cells without volume, and overlapping atoms.
    void update(const System& system, double cutoff, double skin = 0.0);

    /// Edges shorter than the cutoff, as of the last update.
    [[nodiscard]] Graph graph() const;

    /// The system's atom of each of the graph's; empty where they are the same.
    [[nodiscard]] const std::vector<std::int32_t>& order() const { return order_; }

    /// How often pairs have been searched, for tests and for people who tune the skin.
    [[nodiscard]] std::int64_t builds() const { return builds_; }

private:
    [[nodiscard]] bool is_current(const System& system, double cutoff, double skin) const;
    void search(const System& system, double cutoff, double skin);
    void compute_edges(const System& system);

    [[nodiscard]] std::size_t atom(std::size_t row) const {
        return order_.empty() ? row : static_cast<std::size_t>(order_[row]);
    }

    Order order_wanted_;
    double cutoff_ = -1.0, skin_ = 0.0;
    std::array<double, 9> cell_{};
    std::array<bool, 3> periodic_{};
    std::int64_t builds_ = 0;

    std::vector<double> searched_positions_;  // [n, 3] where the pairs were searched; empty: nothing to reuse
    std::vector<std::int32_t> order_;         // [n] or none
    // What follows is in this order.
    std::vector<std::int32_t> atomic_numbers_;  // [n]
    std::vector<double> wrap_;                  // [n, 3] lattice vector that brings each atom into the cell
    std::vector<std::int64_t> pair_first_;      // [n + 1]
    std::vector<std::int32_t> pair_neighbor_;   // [pairs]
    std::vector<double> pair_shift_;            // [pairs, 3] S·cell between the wrapped atoms

    std::vector<double> wrapped_;         // [n, 3]
    std::vector<std::int64_t> first_;     // [n + 1]
    std::vector<std::int32_t> neighbor_;  // [edges]
    std::vector<double> displacement_;    // [edges, 3]
};

/// Brings the rows of results from `begin` on, those of a graph in the order of a list, into that of its system.
void restore_order(Result& result, const std::vector<std::int32_t>& order, std::size_t begin = 0);

}  // namespace equipot
