// What the pipeline over dual lanes does on its way back in place of forces: adjoints of weights, d/dε part only, added
// to the thread's own copy (see parameter_gradient.hpp).
// SPDX-License-Identifier: MIT
#pragma once

#include "kokkos_kernels/pipeline.hpp"

namespace equipot::kernels {

template <class P>
void Pipeline<P>::gradient(const Graph& graph, const std::vector<std::int32_t>& species, const GradientSeed& seed,
                           const GradientLayout& layout, std::vector<Real>& flat) {
    seed_ = seed;
    layout_ = &layout;
    NoExchange none;
    Result unused;
    compute(graph, species, none, Properties{}, unused);
    flat.resize(layout.size);
    Kokkos::parallel_for(
        "equipot::gradient",
        Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, static_cast<std::int64_t>(layout.size)),
        [&](std::int64_t c) {
            Real sum = 0;
            for (const Worker& w : workers_) sum += w.gradient[static_cast<std::size_t>(c)];
            flat[static_cast<std::size_t>(c)] = sum;
        });
}

/// out, readout, and the first skip of this layer; up and skip of the next one. Brings back what forward_tile left.
template <class P>
void Pipeline<P>::gradient_features(int t, Worker& w, const Tile& tile) {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    const LayerState& state = states_[static_cast<std::size_t>(t)];
    const LayerGradient& offsets = layout_->layers[static_cast<std::size_t>(t)];
    const bool first = t == 0, last = static_cast<std::size_t>(t) + 1 == plan_.layers.size();
    const int C = plan_.padded, a_rows = square(plan_.l_max + 1), b_rows = square(layer.hidden_out + 1);
    const std::int32_t* atoms = order_.data() + tile.first;
    Real* gradient = w.gradient.data();

    if (!last) {
        const LayerPlan<Real>& next = plan_.layers[static_cast<std::size_t>(t) + 1];
        const LayerState& next_state = states_[static_cast<std::size_t>(t) + 1];
        const LayerGradient& next_offsets = layout_->layers[static_cast<std::size_t>(t) + 1];
        const int skip_rows = square(next.hidden_out + 1);
        const ProductProgram program = layer.product.program();
        const Real* coefficients = layer.product_coefficients[static_cast<std::size_t>(tile.species)].data();
        for (std::ptrdiff_t a = 0; a < tile.count; ++a) {
            const std::ptrdiff_t atom = atoms[a];
            std::copy_n(state.h.data() + atom * b_rows * C, b_rows * C, w.h.data() + a * b_rows * C);
            if (!layer.folded)
                std::copy_n(state.D.data() + atom * layer.density_rows * C, layer.density_rows * C,
                            w.D.data() + a * layer.density_rows * C);
            for (int b = 0; b < C / P::width; ++b)
                product_forward<P>(program,
                                   coefficients + static_cast<std::ptrdiff_t>(b) * program.term_count * P::width, C,
                                   w.A.data() + a * a_rows * C + b * P::width,
                                   w.B.data() + a * b_rows * C + b * P::width, reinterpret_cast<P*>(w.products.data()));
            for (int L = 0; L <= layer.hidden_out; ++L) {
                const auto l = static_cast<std::size_t>(L);
                const int m = 2 * L + 1;
                const Rows<const Value> h{w.h.data() + (a * b_rows + L * L) * C, m, 0};
                mix_gradient<P>(C, m, h, {next_state.ubar.data() + (atom * b_rows + L * L) * C, m, 0},
                                gradient + next_offsets.up[l]);
                if (next.skip && L <= next.hidden_out)
                    mix_gradient<P>(C, m, h, {next_state.skip.data() + (atom * skip_rows + L * L) * C, m, 0},
                                    gradient + next_offsets.skip[static_cast<std::size_t>(tile.species)][l]);
            }
        }
    }
    for (int L = 0; L <= layer.hidden_out; ++L) {
        const int m = 2 * L + 1;
        mix_gradient<P>(C, tile.count * m, {w.B.data() + L * L * C, m, b_rows * C},
                        {w.hbar.data() + L * L * C, m, b_rows * C},
                        gradient + offsets.out[static_cast<std::size_t>(L)]);
    }
    for (std::ptrdiff_t a = 0; a < tile.count; ++a) {
        const Value* h = w.h.data() + a * b_rows * C;
        const Scalar seed = energy_bar(atoms[a]);
        if (layer.has_readout) {
            const Scalar energy = readout<P>(layer.readout, plan_.channels, h, seed, nullptr);
            gradient[layout_->scale] += static_cast<Real>((seed * energy).du);
            readout_gradient<P>(layer.readout, plan_.channels, h, plan_.scale * seed, gradient + offsets.readout_w,
                                gradient + offsets.readout_v);
        }
        if (first && layer.skip)
            for (int k = 0; k < plan_.channels; ++k)
                gradient[offsets.first_skip + static_cast<std::size_t>(tile.species * C + k)] +=
                    P::element(w.hbar.data() + a * b_rows * C, k).du;
    }
}

/// False for pairs beyond the cutoff.
template <class P>
bool Pipeline<P>::dual_geometry(std::int64_t e, Edge& edge) const {
    Scalar d[3];
    for (int c = 0; c < 3; ++c) {
        const auto at = static_cast<std::size_t>(3 * e + c);
        d[c] = {graph_->displacement[at], seed_.direction[at]};
    }
    const Scalar r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
    if (r2.re >= plan_.cutoff * plan_.cutoff) return false;
    edge.r = sqrt(r2);
    for (int c = 0; c < 3; ++c) edge.x[c] = d[c] / edge.r;
    Scalar Y[most_harmonics];
    with_l_max(plan_.l_max, [&]<int l>() { spherical_harmonics<l>(edge.x[0], edge.x[1], edge.x[2], Y); });
    for (int y = 0; y < square(plan_.l_max + 1); ++y) edge.Y[y] = Value(Y[y]);
    return true;
}

/// Calls f(e, zj, edge, u) for the edges of atom i within the cutoff, one by one, when M is there, and R if asked for.
template <class P>
template <class F>
void Pipeline<P>::for_dual_edges(int t, Worker& w, std::int64_t i, int zi, bool radial, const F& f) const {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    const Value* features = states_[static_cast<std::size_t>(t)].u.data();
    const std::ptrdiff_t u_row = square(layer.hidden_in + 1) * plan_.padded;
    for (std::int64_t e = graph_->first[static_cast<std::size_t>(i)];
         e < graph_->first[static_cast<std::size_t>(i) + 1]; ++e) {
        Edge edge;
        if (!dual_geometry(e, edge)) continue;
        const std::int64_t j = graph_->neighbor[static_cast<std::size_t>(e)];
        const int zj = species_[j];
        if (radial) radial_dual<P>(plan_.table(layer, zi, zj), edge.r, w.R.data());
        couple<false>(layer.coupling.view(), edge.Y, w.M.data());
        f(e, zj, edge, t == 0 ? nullptr : features + j * u_row);
    }
}

/// D_i += all edges of atom i; also its ρ and pair energy. Training refuses pairs closer than the tables begin.
template <class P>
void Pipeline<P>::add_dual_edges(int t, Worker& w, std::int64_t i, int zi, Value* D, Scalar& rho, Scalar& pair) {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    const bool first = t == 0;
    const int C = plan_.padded;
    for_dual_edges(t, w, i, zi, true, [&](std::int64_t, int zj, const Edge& edge, const Value* u) {
        for (const PathShape& path : layer.paths) {
            const Value* M = path.l1 == 0 ? edge.Y + path.l3 * path.l3 : w.M.data() + path.coupling;
            const PathEdges<Value> view{M, w.R.data() + path.radial, nullptr, &u, nullptr, path.feature * C};
            with_path_shape(path.l1, path.l3, [&]<int D1, int D3>() {
                if (first)
                    path_forward<P, 1, D3, false, 1>(blocks(), C, view, D + path.density * C);
                else
                    path_forward<P, D1, D3, true, 1>(blocks(), C, view, D + path.density * C);
            });
        }
        if (layer.density) rho += Scalar(P::element(w.R.data(), layer.radial->rows() * C));
        if (first && plan_.has_zbl) {
            double slope = 0;
            const double energy = 0.5 * zbl(plan_.zbl_pair(zi, zj), plan_.zbl, edge.r.re, slope);
            pair += Scalar(energy, 0.5 * slope * edge.r.du);
        }
    });
}

/// From D̄_i and ρ̄_i to ū of the neighbours and the adjoint of the radial tables.
template <class P>
void Pipeline<P>::gradient_edges(int t, Worker& w, std::int64_t i, int zi, const Value* Dbar, Scalar rho_bar) {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    LayerState& state = states_[static_cast<std::size_t>(t)];
    const bool first = t == 0;
    const int C = plan_.padded;
    for_dual_edges(t, w, i, zi, !first, [&](std::int64_t e, int zj, const Edge& edge, const Value* u) {
        Value* ubar = first ? nullptr : ubar_of(state, w, e, square(layer.hidden_in + 1) * C);
        Value* Rbar = w.dR.data();
        for (const PathShape& path : layer.paths) {
            const Value* M = path.l1 == 0 ? edge.Y + path.l3 * path.l3 : w.M.data() + path.coupling;
            const PathEdges<Value> view{M, w.R.data() + path.radial, nullptr, &u, &ubar, path.feature * C};
            with_path_shape(path.l1, path.l3, [&]<int D1, int D3>() {
                if (first)
                    path_backward_radial<P, 1, D3, false>(blocks(), C, view, Dbar + path.density * C,
                                                          Rbar + path.radial);
                else
                    path_backward_radial<P, D1, D3, true>(blocks(), C, view, Dbar + path.density * C,
                                                          Rbar + path.radial);
            });
        }
        if (layer.density) {
            Value* tail = Rbar + layer.radial->rows() * C;
            std::fill(tail, tail + P::width, Value(0));
            P::set_element(tail, 0, Value(rho_bar));
        }
        const auto n = plan_.active.size();
        const int table = layer.table_of[static_cast<std::size_t>(zi) * n + static_cast<std::size_t>(zj)];
        radial_gradient<P>(
            plan_.table(layer, zi, zj), edge.r, Rbar,
            w.gradient.data() + layout_->layers[static_cast<std::size_t>(t)].tables[static_cast<std::size_t>(table)]);
    });
}

}  // namespace equipot::kernels
