// Around the pipeline: memory and tiles before a step, sums over private rows within it, features and profile after it.
// SPDX-License-Identifier: MIT
#pragma once

#include "kokkos_kernels/pipeline.hpp"

namespace equipot::kernels {

template <class P>
double Pipeline<P>::measure_peak() const {
    // Independent chains, more than latency times throughput on any processor so far, few enough for 16 registers.
    constexpr int chains = 12;
    P x[chains];
    for (int i = 0; i < chains; ++i) x[i] = P::broadcast(Real(1 + 0.01 * i));
    const P factor = P::broadcast(Real(0.999)), term = P::broadcast(Real(0.001));
    double best = 0;
    for (int trial = 0; trial < 5; ++trial) {
        constexpr int rounds = 2000000;
        const auto start = std::chrono::steady_clock::now();
        for (int r = 0; r < rounds; ++r)
            for (int i = 0; i < chains; ++i) x[i] = x[i] * factor + term;
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        best = std::max(best, double(rounds) * chains * P::width / seconds);
    }
    // The chains end near 1, whatever they began with; using that keeps the compiler from dropping them.
    P sum = P::zero();
    for (int i = 0; i < chains; ++i) sum += x[i];
    return sum.lane(0) > 0 ? best : 0;
}

template <class P>
void Pipeline<P>::collect(const std::vector<Worker>& workers, double seconds_per_tick, Result& result) {
    for (std::size_t s = 0; s < stage_count; ++s) {
        StageProfile stage{stage_names[s], 0, 0, 0};
        for (const Worker& w : workers) {
            stage.seconds += static_cast<double>(w.counts.ticks[s]) * seconds_per_tick;
            stage.multiply_adds += w.counts.multiply_adds[s];
            stage.bytes += w.counts.bytes[s];
        }
        result.profile.push_back(stage);
    }
}

/// Features leave in the order of e3nn's irreps: for each L, channels, then m.
template <class P>
void Pipeline<P>::save_features(int t, const Worker& w, const Tile& tile, Result& result) const {
    std::size_t width = 0, offset = 0;
    for (std::size_t s = 0; s < plan_.layers.size(); ++s) {
        if (s == static_cast<std::size_t>(t)) offset = width;
        width += static_cast<std::size_t>(square(plan_.layers[s].hidden_out + 1) * plan_.channels);
    }
    const int L_max = plan_.layers[static_cast<std::size_t>(t)].hidden_out;
    for (int a = 0; a < tile.count; ++a) {
        double* target = result.features.data() +
                         static_cast<std::size_t>(order_[static_cast<std::size_t>(tile.first + a)]) * width + offset;
        const Real* h = w.h.data() + static_cast<std::ptrdiff_t>(a) * square(L_max + 1) * plan_.padded;
        for (int L = 0; L <= L_max; ++L)
            for (int k = 0; k < plan_.channels; ++k)
                for (int m = 0; m <= 2 * L; ++m) *target++ = static_cast<double>(h[(L * L + m) * plan_.padded + k]);
    }
}

/// What layers keep of an atom from the way there to the way back if densities are kept.
template <class P>
std::size_t Pipeline<P>::kept_bytes() const {
    int rows = 0;
    for (std::size_t t = 0; t < plan_.layers.size(); ++t) {
        const LayerPlan<Real>& layer = plan_.layers[t];
        if (t > 0) rows += 2 * square(layer.hidden_in + 1) + (layer.skip ? square(layer.hidden_out + 1) : 0);
        if (t + 1 < plan_.layers.size()) rows += square(plan_.l_max + 1);
    }
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(plan_.padded) * sizeof(Value);
}

template <class P>
void Pipeline<P>::resize(const Graph& graph, const Properties& what, Result& result) {
    const auto owned = static_cast<std::size_t>(graph.owned), total = static_cast<std::size_t>(graph.total);
    const auto C = static_cast<std::size_t>(plan_.padded);
    const bool derivatives = what.forces || what.virials || what.centroid_virials;
    result.energies.assign(owned, 0.0);
    result.forces.assign(derivatives ? 3 * total : 0, 0.0);
    result.virials.assign(what.virials ? 9 * total : 0, 0.0);
    result.centroid_virials.assign(what.centroid_virials ? 9 * total : 0, 0.0);

    // Growing with some room to spare: halo counts change a little at every rebuild. Contents need not survive.
    const auto reserve = [](Buffer<Value>& buffer, std::size_t size) {
        if (buffer.extent(0) < size)
            buffer = Buffer<Value>(Kokkos::view_alloc(Kokkos::WithoutInitializing, "equipot state"), size + size / 16);
    };
    std::size_t feature_width = 0, edge_outputs = 0, coupling = 1, u_rows = 1, b_rows = 1, density_rows = 1, packs = 1;
    const auto a_rows = static_cast<std::size_t>(square(plan_.l_max + 1));
    states_.resize(plan_.layers.size());
    keeps_density_ = P::dual || (derivatives && kept_bytes() <= most_kept);  // training takes what it needs
    for (std::size_t t = 0; t < plan_.layers.size(); ++t) {
        const LayerPlan<Real>& layer = plan_.layers[t];
        LayerState& state = states_[t];
        const auto in_rows = static_cast<std::size_t>(square(layer.hidden_in + 1)),
                   out_rows = static_cast<std::size_t>(square(layer.hidden_out + 1));
        state.one_over.resize(owned);
        if (t > 0) {
            reserve(state.u, total * in_rows * C);
            reserve(state.ubar, total * in_rows * C);
            if (layer.skip) reserve(state.skip, owned * out_rows * C);
        }
        if (t + 1 < plan_.layers.size() && keeps_density_) reserve(state.A, owned * a_rows * C);
        if constexpr (P::dual)
            if (t + 1 < plan_.layers.size()) {
                reserve(state.h, owned * out_rows * C);
                if (!layer.folded) reserve(state.D, owned * static_cast<std::size_t>(layer.density_rows) * C);
            }
        feature_width += out_rows * static_cast<std::size_t>(plan_.channels);
        edge_outputs = std::max(edge_outputs, static_cast<std::size_t>(layer.radial->outputs()));
        coupling = std::max(coupling, static_cast<std::size_t>(layer.coupling_size));
        u_rows = std::max(u_rows, in_rows);
        b_rows = std::max(b_rows, out_rows);
        density_rows = std::max(density_rows, static_cast<std::size_t>(layer.density_rows));
        const ProductProgram program = layer.product.program();
        packs = std::max(packs, product_scratch(program, product_atoms));
    }
    result.features.assign(what.features ? owned * feature_width : 0, 0.0);

    std::int64_t most = 0;
    for (std::size_t i = 0; i < owned; ++i) most = std::max(most, graph.first[i + 1] - graph.first[i]);
    const auto most_edges = static_cast<std::size_t>(most);

    workers_.resize(static_cast<std::size_t>(scatter_.chunks()));
    for_chunks("equipot::workspace", [&](int chunk) {
        Worker& w = workers_[static_cast<std::size_t>(chunk)];
        const auto foreign = static_cast<std::size_t>(scatter_.foreign(chunk));
        w.edges.reserve(most_edges);
        w.Y.reserve(a_rows * P::width);
        w.M.reserve(coupling * P::width);
        w.table_row.reserve(P::width);
        w.weights.reserve(2 * SplineWeights<Real>::terms * P::width);
        for (Scratch<Value>* buffer : {&w.R, &w.dR}) buffer->reserve(P::dual ? edge_outputs : batch_size * C);
        for (Scratch<Value>* buffer : {&w.exact_R, &w.exact_dR}) buffer->reserve(batch_size * edge_outputs);
        w.lanes.reserve(((a_rows + coupling + 1) * batch_size + P::width) * P::width);
        w.sums.reserve((a_rows + coupling + 1 + P::width) * P::width);
        w.D.reserve(tile_size * density_rows * C);
        for (Scratch<Value>* buffer : {&w.A, &w.Abar}) buffer->reserve(tile_size * a_rows * C);
        for (Scratch<Value>* buffer : {&w.B, &w.Bbar, &w.h, &w.hbar}) buffer->reserve(tile_size * b_rows * C);
        w.products.reserve(packs * P::width);
        w.exact.resize(edge_outputs);
        w.exact_slope.resize(edge_outputs);
        if (plan_.layers.size() > 1 && derivatives) {
            w.foreign_ubar.reserve(foreign * u_rows * C);
            // Each thread clears what it will add to; the rows of the top layer first, lower ones on the way down.
            const std::size_t top_rows = static_cast<std::size_t>(square(plan_.layers.back().hidden_in + 1)) * C;
            std::fill(w.foreign_ubar.data(), w.foreign_ubar.data() + foreign * top_rows, Value(0));
            for (std::size_t t = 1; t < plan_.layers.size(); ++t) {
                const std::size_t rows = static_cast<std::size_t>(square(plan_.layers[t].hidden_in + 1)) * C;
                Value* ubar = states_[t].ubar.data();
                std::fill(ubar + static_cast<std::size_t>(scatter_.begin(chunk)) * rows,
                          ubar + static_cast<std::size_t>(scatter_.end(chunk)) * rows, Value(0));
            }
        }
        w.foreign_forces.assign(derivatives ? 3 * foreign : 0, 0.0);
        w.foreign_virials.assign(what.virials ? 9 * foreign : 0, 0.0);
        w.foreign_centroid.assign(what.centroid_virials ? 9 * foreign : 0, 0.0);
        w.virial.fill(0);
        w.energy = 0;
        if constexpr (P::dual) w.gradient.assign(layout_->size, Real(0));
    });
}

template <class P>
double Pipeline<P>::memory_usage() const {
    double bytes = static_cast<double>(order_.capacity()) * sizeof(order_[0]);
    for (const LayerState& state : states_) {
        for (const Buffer<Value>* buffer : {&state.u, &state.ubar, &state.skip, &state.A, &state.h, &state.D})
            bytes += static_cast<double>(buffer->size()) * sizeof(Value);
        bytes += static_cast<double>(state.one_over.capacity()) * sizeof(Scalar);
    }
    for (const Worker& w : workers_) {
        bytes += w.foreign_ubar.bytes();
        for (const std::vector<double>* rows : {&w.foreign_forces, &w.foreign_virials, &w.foreign_centroid})
            bytes += static_cast<double>(rows->capacity()) * sizeof(double);
    }
    return bytes;
}

/// Cuts each chunk into tiles of one species, atoms in their order.
template <class P>
void Pipeline<P>::make_tiles(const Graph& graph, const std::vector<std::int32_t>& species) {
    order_.resize(static_cast<std::size_t>(graph.owned));
    for_chunks("equipot::tiles", [&](int chunk) {
        Worker& w = workers_[static_cast<std::size_t>(chunk)];
        w.tiles.clear();
        const auto from = static_cast<std::ptrdiff_t>(scatter_.begin(chunk)),
                   to = static_cast<std::ptrdiff_t>(scatter_.end(chunk));
        for (std::ptrdiff_t i = from; i < to; ++i) order_[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(i);
        std::stable_sort(order_.begin() + from, order_.begin() + to, [&](std::int32_t a, std::int32_t b) {
            return species[static_cast<std::size_t>(a)] < species[static_cast<std::size_t>(b)];
        });
        for (std::ptrdiff_t i = from; i < to;) {
            const std::int32_t z = species[static_cast<std::size_t>(order_[static_cast<std::size_t>(i)])];
            std::ptrdiff_t stop = i;
            while (stop < to && stop - i < tile_size &&
                   species[static_cast<std::size_t>(order_[static_cast<std::size_t>(stop)])] == z)
                ++stop;
            w.tiles.push_back({static_cast<std::int32_t>(i), static_cast<std::int32_t>(stop - i), z});
            i = stop;
        }
    });
}

/// Sums private rows of ū into the atoms they belong to, then clears them for the next layer down.
template <class P>
void Pipeline<P>::reduce_foreign_ubar(int t) {
    const std::size_t rows =
        static_cast<std::size_t>(square(plan_.layers[static_cast<std::size_t>(t)].hidden_in + 1) * plan_.padded);
    if (!scatter_.has_foreign()) return;
    Value* ubar = states_[static_cast<std::size_t>(t)].ubar.data();
    const auto& first = scatter_.source_first();
    const auto& sources = scatter_.sources();
    const std::int64_t owned = graph_->owned, total = graph_->total;
    Kokkos::parallel_for(
        "equipot::reduce", Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, total), [&](std::int64_t a) {
            Value* target = ubar + static_cast<std::size_t>(a) * rows;
            if (a >= owned) std::fill(target, target + rows, Value(0));
            for (std::int64_t s = first[static_cast<std::size_t>(a)]; s < first[static_cast<std::size_t>(a) + 1]; ++s) {
                const ScatterPlan::Source source = sources[static_cast<std::size_t>(s)];
                const Value* from = workers_[static_cast<std::size_t>(source.chunk)].foreign_ubar.data() +
                                    static_cast<std::size_t>(source.row) * rows;
                for (std::size_t c = 0; c < rows; ++c) target[c] += from[c];
            }
        });
    for_chunks("equipot::clear", [&](int chunk) {
        Worker& w = workers_[static_cast<std::size_t>(chunk)];
        const auto size = static_cast<std::size_t>(scatter_.foreign(chunk)) *
                          static_cast<std::size_t>(square(plan_.layers[static_cast<std::size_t>(t) - 1].hidden_in + 1) *
                                                   plan_.padded);
        std::fill(w.foreign_ubar.data(), w.foreign_ubar.data() + size, Value(0));
    });
}

template <class P>
void Pipeline<P>::reduce_foreign(int width, double* rows, const std::vector<double> Worker::*foreign) {
    const auto& first = scatter_.source_first();
    const auto& sources = scatter_.sources();
    Kokkos::parallel_for(
        "equipot::reduce", Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, graph_->total),
        [&](std::int64_t a) {
            for (std::int64_t s = first[static_cast<std::size_t>(a)]; s < first[static_cast<std::size_t>(a) + 1]; ++s) {
                const ScatterPlan::Source source = sources[static_cast<std::size_t>(s)];
                const double* from = (workers_[static_cast<std::size_t>(source.chunk)].*foreign).data() +
                                     static_cast<std::ptrdiff_t>(source.row) * width;
                for (int c = 0; c < width; ++c) rows[a * width + c] += from[c];
            }
        });
}

}  // namespace equipot::kernels
