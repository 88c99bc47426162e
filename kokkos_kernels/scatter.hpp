// Scatter: how several threads add to the same atoms with the same bits every time. Owned atoms are cut into one chunk
// per thread; a chunk adds straight into rows of its own atoms, and into private rows for the atoms of others and of
// the halo, which are then summed atom by atom in the order of the chunks. No atomics, no copy of everything per
// thread.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "potential/graph.hpp"

namespace equipot::kernels {

class ScatterPlan {
public:
    /// Cuts [0, owned) into at most `chunks` pieces with about equal numbers of edges.
    void build(const Graph& graph, int chunks);

    [[nodiscard]] int chunks() const { return static_cast<int>(begin_.size()) - 1; }
    [[nodiscard]] std::int64_t begin(int chunk) const { return begin_[static_cast<std::size_t>(chunk)]; }
    [[nodiscard]] std::int64_t end(int chunk) const { return begin_[static_cast<std::size_t>(chunk) + 1]; }

    /// Where the chunk that owns edge e adds for its sender: s >= 0 is atom s itself, s < 0 is private row -s-1.
    [[nodiscard]] std::int32_t slot(std::int64_t edge) const { return slots_[edge]; }

    /// Number of private rows of a chunk.
    [[nodiscard]] std::int64_t foreign(int chunk) const { return foreign_[static_cast<std::size_t>(chunk)]; }

    /// Contributions to atom a from private rows: entries source_first()[a] .. source_first()[a+1] of sources(). Empty
    /// plans have none.
    struct Source {
        std::int32_t chunk, row;
    };
    [[nodiscard]] bool has_foreign() const { return !source_first_.empty(); }
    [[nodiscard]] const std::vector<std::int64_t>& source_first() const { return source_first_; }
    [[nodiscard]] const std::vector<Source>& sources() const { return sources_; }

private:
    std::vector<std::int64_t> begin_, foreign_, source_first_;
    std::vector<Source> sources_;
    std::vector<std::int32_t> slot_storage_;
    std::vector<std::vector<std::int32_t>> foreign_atoms_, row_of_;  // by chunk; the latter all -1 between calls
    const std::int32_t* slots_ = nullptr;
};

}  // namespace equipot::kernels
