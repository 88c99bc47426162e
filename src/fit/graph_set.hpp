// GraphSet: the neighbours of many structures, found once, and batches of them as one graph.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "../potential/graph.hpp"
#include "../potential/potential.hpp"

namespace equipot {

/// Several structures side by side in one graph; holds what the graph points into.
struct GraphBatch {
    std::vector<std::int32_t> atomic_numbers;
    std::vector<std::int64_t> first{0};
    std::vector<std::int32_t> neighbor;
    std::vector<double> displacement;
    std::vector<std::int64_t> offsets{0};  ///< [structures + 1], atoms of structure s are offsets[s] .. offsets[s+1]

    void append(const Graph& graph);
    [[nodiscard]] Graph graph() const;
};

/// About 28 bytes per edge. Immutable but for append.
class GraphSet {
public:
    explicit GraphSet(double cutoff) : cutoff_(cutoff) {}

    /// @throws Error as NeighborList::update does.
    void append(const System& system);

    [[nodiscard]] double cutoff() const { return cutoff_; }
    [[nodiscard]] std::size_t size() const { return offsets_.size() - 1; }
    [[nodiscard]] std::int64_t atoms(std::size_t s) const { return offsets_[s + 1] - offsets_[s]; }
    [[nodiscard]] std::int64_t edges(std::size_t s) const {
        return first_[static_cast<std::size_t>(offsets_[s + 1])] - first_[static_cast<std::size_t>(offsets_[s])];
    }
    /// Shortest edge of a structure, Å; infinite without edges.
    [[nodiscard]] double shortest(std::size_t s) const { return shortest_[s]; }

    /// @throws Error for an index out of range.
    [[nodiscard]] GraphBatch batch(std::span<const std::int64_t> structures) const;

private:
    double cutoff_;
    std::vector<std::int32_t> atomic_numbers_;  // of all structures, one after the other
    std::vector<std::int64_t> first_{0}, offsets_{0};
    std::vector<std::int32_t> neighbor_;  // counted within the structure
    std::vector<double> displacement_, shortest_;
};

}  // namespace equipot
