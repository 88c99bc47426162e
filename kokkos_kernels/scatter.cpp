// SPDX-License-Identifier: MIT
#include "kokkos_kernels/scatter.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>

namespace equipot::kernels {

void ScatterPlan::build(const Graph& graph, int chunks) {
    // An atom costs about as much as a few dozen edges (mixing and product), so balance both.
    constexpr std::int64_t atom_cost = 20;
    const auto cost = [&](std::int64_t atom) { return graph.first[static_cast<std::size_t>(atom)] + atom_cost * atom; };
    const std::int64_t total_cost = graph.owned > 0 ? cost(graph.owned) : 0;
    begin_.assign(1, 0);
    for (int c = 1; c < chunks; ++c) {
        const std::int64_t target = total_cost / chunks * c;
        std::int64_t low = begin_.back(), high = graph.owned;
        while (low < high) {
            const std::int64_t middle = (low + high) / 2;
            if (cost(middle) < target)
                low = middle + 1;
            else
                high = middle;
        }
        begin_.push_back(low);
    }
    begin_.push_back(graph.owned);
    foreign_.assign(static_cast<std::size_t>(chunks), 0);
    source_first_.clear();
    if (chunks == 1 && graph.owned == graph.total) {
        slots_ = graph.neighbor.data();
        return;
    }

    slot_storage_.resize(graph.neighbor.size());
    slots_ = slot_storage_.data();
    row_of_.resize(static_cast<std::size_t>(chunks));
    foreign_atoms_.resize(static_cast<std::size_t>(chunks));
    using Chunks = Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace, Kokkos::Schedule<Kokkos::Static>>;
    Kokkos::parallel_for("equipot::scatter", Chunks(0, chunks), [&](int c) {
        auto& atoms = foreign_atoms_[static_cast<std::size_t>(c)];
        auto& row_of = row_of_[static_cast<std::size_t>(c)];
        atoms.clear();
        if (row_of.size() < static_cast<std::size_t>(graph.total))
            row_of.assign(static_cast<std::size_t>(graph.total), -1);
        const std::int64_t from = begin(c), to = end(c);
        for (std::int64_t e = graph.first[static_cast<std::size_t>(from)];
             e < graph.first[static_cast<std::size_t>(to)]; ++e) {
            const std::int32_t j = graph.neighbor[static_cast<std::size_t>(e)];
            if (j >= from && j < to) {
                slot_storage_[static_cast<std::size_t>(e)] = j;
                continue;
            }
            std::int32_t& row = row_of[static_cast<std::size_t>(j)];
            if (row < 0) {
                row = static_cast<std::int32_t>(atoms.size());
                atoms.push_back(j);
            }
            slot_storage_[static_cast<std::size_t>(e)] = -row - 1;
        }
        for (const std::int32_t j : atoms) row_of[static_cast<std::size_t>(j)] = -1;
        foreign_[static_cast<std::size_t>(c)] = static_cast<std::int64_t>(atoms.size());
    });

    source_first_.assign(static_cast<std::size_t>(graph.total) + 1, 0);
    for (const auto& atoms : foreign_atoms_)
        for (const std::int32_t j : atoms) ++source_first_[static_cast<std::size_t>(j) + 1];
    for (std::size_t a = 0; a < static_cast<std::size_t>(graph.total); ++a) source_first_[a + 1] += source_first_[a];
    sources_.resize(static_cast<std::size_t>(source_first_.back()));
    std::vector<std::int64_t> cursor(source_first_.begin(), source_first_.end() - 1);
    for (std::size_t c = 0; c < foreign_atoms_.size(); ++c)
        for (std::size_t row = 0; row < foreign_atoms_[c].size(); ++row) {
            const auto j = static_cast<std::size_t>(foreign_atoms_[c][row]);
            sources_[static_cast<std::size_t>(cursor[j]++)] = {static_cast<std::int32_t>(c),
                                                               static_cast<std::int32_t>(row)};
        }
}

}  // namespace equipot::kernels
