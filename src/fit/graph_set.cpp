// SPDX-License-Identifier: MIT
#include "fit/graph_set.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "neighbors/neighbors.hpp"

namespace equipot {

void GraphBatch::append(const Graph& graph) {
    const auto atoms = static_cast<std::int32_t>(atomic_numbers.size());
    const std::int64_t edges = first.back() - graph.first.front();
    atomic_numbers.insert(atomic_numbers.end(), graph.atomic_numbers.begin(), graph.atomic_numbers.end());
    for (std::size_t i = 1; i < graph.first.size(); ++i) first.push_back(edges + graph.first[i]);
    for (const std::int32_t j : graph.neighbor) neighbor.push_back(atoms + j);
    displacement.insert(displacement.end(), graph.displacement.begin(), graph.displacement.end());
    offsets.push_back(static_cast<std::int64_t>(atomic_numbers.size()));
}

Graph GraphBatch::graph() const {
    const auto n = static_cast<std::int64_t>(atomic_numbers.size());
    return {n, n, atomic_numbers, first, neighbor, displacement};
}

void GraphSet::append(const System& system) {
    NeighborList list;
    list.update(system, cutoff_);
    const Graph graph = list.graph();
    double shortest = std::numeric_limits<double>::infinity();
    for (std::size_t e = 0; e < graph.neighbor.size(); ++e)
        shortest = std::min(shortest, std::hypot(graph.displacement[3 * e], graph.displacement[3 * e + 1],
                                                 graph.displacement[3 * e + 2]));
    const std::int64_t edges = first_.back();
    atomic_numbers_.insert(atomic_numbers_.end(), graph.atomic_numbers.begin(), graph.atomic_numbers.end());
    for (std::size_t i = 1; i < graph.first.size(); ++i) first_.push_back(edges + graph.first[i]);
    neighbor_.insert(neighbor_.end(), graph.neighbor.begin(), graph.neighbor.end());
    displacement_.insert(displacement_.end(), graph.displacement.begin(), graph.displacement.end());
    offsets_.push_back(static_cast<std::int64_t>(atomic_numbers_.size()));
    shortest_.push_back(shortest);
}

GraphBatch GraphSet::batch(std::span<const std::int64_t> structures) const {
    GraphBatch batch;
    for (const std::int64_t s : structures) {
        if (s < 0 || s >= static_cast<std::int64_t>(size()))
            throw Error("there is no structure " + std::to_string(s) + " in a set of " + std::to_string(size()));
        const auto at = static_cast<std::size_t>(s);
        const auto from = static_cast<std::size_t>(offsets_[at]), count = static_cast<std::size_t>(atoms(at));
        const auto edge = static_cast<std::size_t>(first_[from]), edge_count = static_cast<std::size_t>(edges(at));
        batch.append({atoms(at), atoms(at), std::span(atomic_numbers_).subspan(from, count),
                      std::span(first_).subspan(from, count + 1), std::span(neighbor_).subspan(edge, edge_count),
                      std::span(displacement_).subspan(3 * edge, 3 * edge_count)});
    }
    return batch;
}

}  // namespace equipot
