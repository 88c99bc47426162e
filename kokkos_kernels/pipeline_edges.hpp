// The pipeline along the edges of one atom: the density forward, and from its adjoint back to ū, forces and virials.
// Geometry goes by packs of edges; then, for a few edges at a time, path after path, radial functions and density, so
// that what lies between the two stays in the first-level cache.
// SPDX-License-Identifier: MIT
#pragma once

#include "kokkos_kernels/pipeline.hpp"

namespace equipot::kernels {

/// Y, M and the weights of the splines of the pack of edges from `at` on.
template <class P>
void Pipeline<P>::pack_geometry(const LayerPlan<Real>& layer, Worker& w, int at) const {
    const StageScope scope(w.counts, Stage::Geometry);
    pack_harmonics<P>(w.edges, at, plan_.l_max, w.Y.data());
    couple<false>(layer.coupling.view(), reinterpret_cast<const P*>(w.Y.data()), reinterpret_cast<P*>(w.M.data()));
    if (plan_.grid.intervals > 0) pack_splines<P>(w.edges, at, plan_.grid, w.table_row.data(), w.weights.data());
}

/// What the radial functions of `count` edges from `at` on start from.
template <class P>
void Pipeline<P>::start_batch(int t, Worker& w, int zi, int at, int count, Batch& batch) const {
    const StageScope scope(w.counts, Stage::Radial);
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    const LayerState& state = states_[static_cast<std::size_t>(t)];
    const std::ptrdiff_t u_row = static_cast<std::ptrdiff_t>(square(layer.hidden_in + 1)) * plan_.padded;
    const std::ptrdiff_t outputs = layer.radial->outputs();
    batch.count = count;
    for (int e = 0; e < count; ++e) {
        const auto place = static_cast<std::size_t>(at + e);
        const std::int64_t j = graph_->neighbor[static_cast<std::size_t>(w.edges.edge[place])];
        const int zj = species_[j];
        const double r = w.edges.r[place];
        batch.zj[e] = zj;
        batch.u[e] = t == 0 ? nullptr : state.u.data() + j * u_row;
        batch.tabulated[e] = plan_.grid.intervals > 0 && r >= plan_.grid.low;
        if (batch.tabulated[e]) {
            const int lane = (at + e) % P::width;
            batch.weights[e] = {plan_.table(layer, zi, zj), w.table_row[static_cast<std::size_t>(lane)],
                                w.weights.data() + lane, P::width};
            continue;
        }
        layer.radial->evaluate(plan_.active[static_cast<std::size_t>(zi)], plan_.active[static_cast<std::size_t>(zj)],
                               r, w.exact.data(), w.exact_slope.data(), w.radial);
        for (std::ptrdiff_t c = 0; c < outputs; ++c) {
            w.exact_R[static_cast<std::size_t>(e * outputs + c)] =
                static_cast<Real>(w.exact[static_cast<std::size_t>(c)]);
            w.exact_dR[static_cast<std::size_t>(e * outputs + c)] =
                static_cast<Real>(w.exact_slope[static_cast<std::size_t>(c)]);
        }
    }
}

/// R and, with Derivative, dR of a batch, from output `first` on, `packs` packs of them.
template <class P>
template <bool Derivative>
void Pipeline<P>::batch_radial(const LayerPlan<Real>& layer, Worker& w, const Batch& batch, int first,
                               int packs) const {
    StageScope scope(w.counts, Stage::Radial);
    const int outputs = layer.radial->outputs(), C = plan_.padded;
    const double touched = double(batch.count) * packs * P::width * (SplineWeights<Real>::terms + 1);
    scope.work(touched * (Derivative ? 2 : 1), touched * sizeof(Real));
    for (int e = 0; e < batch.count; ++e) {
        Real* R = w.R.data() + e * C;
        Real* dR = w.dR.data() + e * C;
        if (batch.tabulated[e]) {
            radial_splined<P, Derivative>(batch.weights[e], outputs, first, Blocks{0, packs, 1}, R, dR);
        } else {
            std::copy_n(w.exact_R.data() + e * outputs + first, packs * P::width, R);
            std::copy_n(w.exact_dR.data() + e * outputs + first, packs * P::width, dR);
        }
    }
}

/// Calls on_batch(batch, pack, lane) for a few edges of atom i after the other, those from place pack + lane of the
/// list on, and after_pack(pack, lanes) when a pack of them is done.
template <class P>
template <class OnBatch, class AfterPack>
void Pipeline<P>::for_batches(int t, Worker& w, std::int64_t i, int zi, const OnBatch& on_batch,
                              const AfterPack& after_pack) {
    {
        const StageScope scope(w.counts, Stage::Geometry);
        w.edges.gather(*graph_, species_, static_cast<int>(plan_.active.size()), i, plan_.cutoff);
    }
    for (int pack = 0; pack < w.edges.count; pack += P::width) {
        pack_geometry(plan_.layers[static_cast<std::size_t>(t)], w, pack);
        const int lanes = std::min(P::width, w.edges.count - pack);
        for (int lane = 0; lane < lanes; lane += batch_size) {
            Batch batch;
            start_batch(t, w, zi, pack + lane, std::min(batch_size, lanes - lane), batch);
            on_batch(batch, pack, lane);
        }
        after_pack(pack, lanes);
    }
}

/// D_i += all edges of atom i; also its ρ and pair energy.
template <class P>
void Pipeline<P>::add_edges(int t, Worker& w, std::int64_t i, int zi, Value* D, Scalar& rho, Scalar& pair) {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    const bool first = t == 0;
    const int C = plan_.padded;
    const auto on_batch = [&](const Batch& batch, int pack, int lane) {
        const int count = batch.count;
        for (const PathShape& path : layer.paths) {
            batch_radial<false>(layer, w, batch, path.radial, C / P::width);
            StageScope scope(w.counts, Stage::DensityForward);
            scope.work(double(count) * C * path.forward_work(first),
                       first ? 0.0 : double(count) * C * (2 * path.l1 + 1) * sizeof(Real));
            const Real* M =
                path.l1 == 0 ? w.Y.data() + path.l3 * path.l3 * P::width : w.M.data() + path.coupling * P::width;
            const PathEdges<Real> edges{M + lane, w.R.data(), nullptr, batch.u, nullptr, path.feature * C};
            Real* Dp = D + path.density * C;
            with_path_shape(path.l1, path.l3, [&]<int D1, int D3>() {
                const auto add = [&]<int Width, bool Features>() {
                    constexpr int together =
                        how_many_together(Width, P::registers, Width <= 3 ? batch_size : (batch_size + 1) / 2);
                    int e = 0;
                    for (; e + together <= count; e += together)
                        path_forward<P, Width, D3, Features, together, P::width>(blocks(), C, edges.from(e, C), Dp);
                    for (; e < count; ++e)
                        path_forward<P, Width, D3, Features, 1, P::width>(blocks(), C, edges.from(e, C), Dp);
                };
                // The first layer has scalars only. Less to compile, too.
                if constexpr (D1 == 1)
                    if (first) return add.template operator()<1, false>();
                add.template operator()<D1, true>();
            });
        }
        if (layer.density) {
            batch_radial<false>(layer, w, batch, layer.radial->rows() * C, 1);
            for (int e = 0; e < count; ++e) rho += static_cast<double>(w.R[static_cast<std::size_t>(e * C)]);
        }
        if (first && plan_.has_zbl)
            for (int e = 0; e < count; ++e) {
                double slope = 0;
                pair += 0.5 * zbl(plan_.zbl_pair(zi, batch.zj[e]), plan_.zbl,
                                  w.edges.r[static_cast<std::size_t>(pack + lane + e)], slope);
            }
    };
    for_batches(t, w, i, zi, on_batch, [](int, int) {});
}

/// From D̄_i and ρ̄_i to ū of the neighbours, ∂E/∂r_ij, forces and virials.
template <class P>
void Pipeline<P>::backward_edges(int t, Worker& w, std::int64_t i, int zi, const Value* Dbar, Scalar rho_bar,
                                 const Properties& what, Result& result) {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    LayerState& state = states_[static_cast<std::size_t>(t)];
    const bool first = t == 0;
    const int C = plan_.padded, y_rows = square(plan_.l_max + 1);
    const std::ptrdiff_t u_row = static_cast<std::ptrdiff_t>(square(layer.hidden_in + 1)) * C;
    // Ȳ, M̄ and r̄ before their sums over lanes, [sums][batch] packs, and after, [sums][lanes of edges].
    const int sums = y_rows + layer.coupling_size + 1;
    P* parts = reinterpret_cast<P*>(w.lanes.data());
    Real* bars = w.sums.data();
    Real* radial_bar = bars + (sums - 1) * P::width;
    const auto on_batch = [&](const Batch& batch, int pack, int lane) {
        const int count = batch.count;
        Real* ubar[batch_size];
        for (int e = 0; e < count && !first; ++e)
            ubar[e] = ubar_of(state, w, w.edges.edge[static_cast<std::size_t>(pack + lane + e)], u_row);
        for (int p = 0; p < y_rows * batch_size; ++p) parts[p] = P::zero();
        P* radial_parts = parts + (sums - 1) * batch_size;
        for (int e = 0; e < batch_size; ++e) radial_parts[e] = P::zero();
        for (const PathShape& path : layer.paths) {
            batch_radial<true>(layer, w, batch, path.radial, C / P::width);
            StageScope scope(w.counts, Stage::DensityBackward);
            scope.work(double(count) * C * path.backward_work(first),
                       first ? 0.0 : double(count) * C * 3 * (2 * path.l1 + 1) * sizeof(Real));
            const int entry = path.l1 == 0 ? path.l3 * path.l3 : y_rows + path.coupling;
            const Real* M =
                path.l1 == 0 ? w.Y.data() + path.l3 * path.l3 * P::width : w.M.data() + path.coupling * P::width;
            const PathEdges<Real> edges{M + lane, w.R.data(), w.dR.data(), batch.u, ubar, path.feature * C};
            const Real* Dp = Dbar + path.density * C;
            P* msum = parts + entry * batch_size;
            with_path_shape(path.l1, path.l3, [&]<int D1, int D3>() {
                const auto back = [&]<int Width, bool Features>() {
                    constexpr int together = backward_edges_together<P>(Width, D3, batch_size);
                    int e = 0;
                    for (; e + together <= count; e += together)
                        path_backward<P, Width, D3, Features, together, P::width, batch_size>(
                            blocks(), C, edges.from(e, C), Dp, radial_parts + e, msum + e);
                    for (; e < count; ++e)
                        path_backward<P, Width, D3, Features, 1, P::width, batch_size>(blocks(), C, edges.from(e, C),
                                                                                       Dp, radial_parts + e, msum + e);
                };
                if constexpr (D1 == 1)
                    if (first) return back.template operator()<1, false>();
                back.template operator()<D1, true>();
            });
        }
        {
            const StageScope scope(w.counts, Stage::DensityBackward);
            constexpr int entries = P::width / batch_size;  // of one pack of sums
            for (int entry = 0; entry < sums; entry += entries) {
                Real sum[P::width];
                lane_sums(parts + entry * batch_size).store(sum);
                for (int k = 0; k < entries; ++k)
                    std::copy(sum + k * batch_size, sum + (k + 1) * batch_size, bars + (entry + k) * P::width + lane);
            }
        }
        if (layer.density) {
            batch_radial<true>(layer, w, batch, layer.radial->rows() * C, 1);
            for (int e = 0; e < count; ++e)
                radial_bar[lane + e] +=
                    static_cast<Real>(rho_bar * static_cast<double>(w.dR[static_cast<std::size_t>(e * C)]));
        }
    };
    const auto after_pack = [&](int pack, int lanes) {
        const StageScope scope(w.counts, Stage::Geometry);  // and what is left of the edges
        couple<true>(layer.coupling_transposed.view(), reinterpret_cast<const P*>(bars + y_rows * P::width),
                     reinterpret_cast<P*>(bars));
        double g[3 * P::width];
        pack_gradients<P>(w.edges, pack, plan_.l_max, radial_bar, bars, g);
        for (int lane = 0; lane < lanes; ++lane) add_force(w, pack + lane, first, i, zi, g + lane, what, result);
    };
    for_batches(t, w, i, zi, on_batch, after_pack);
}

/// Forces and virials from g = ∂E/∂r_ij, components P::width apart, of the edge at `place` of the list.
template <class P>
void Pipeline<P>::add_force(Worker& w, int place, bool first, std::int64_t i, int zi, const double* slope,
                            const Properties& what, Result& result) const {
    const std::int64_t e = w.edges.edge[static_cast<std::size_t>(place)];
    const double r = w.edges.r[static_cast<std::size_t>(place)];
    const double x[3] = {w.edges.x[0][static_cast<std::size_t>(place)], w.edges.x[1][static_cast<std::size_t>(place)],
                         w.edges.x[2][static_cast<std::size_t>(place)]};
    double g[3] = {slope[0], slope[P::width], slope[2 * P::width]};
    if (first && plan_.has_zbl) {
        const int zj = species_[graph_->neighbor[static_cast<std::size_t>(e)]];
        double pair_slope = 0;
        zbl(plan_.zbl_pair(zi, zj), plan_.zbl, r, pair_slope);
        for (int c = 0; c < 3; ++c) g[c] += 0.5 * plan_.scale * pair_slope * x[c];
    }
    const std::int32_t slot = scatter_.slot(e);
    const std::int64_t target = slot >= 0 ? slot : -(static_cast<std::int64_t>(slot) + 1);
    double* force_i = result.forces.data() + 3 * i;
    double* force_j = (slot >= 0 ? result.forces.data() : w.foreign_forces.data()) + 3 * target;
    double tensor[9];  // r_ij ⊗ (force on j along this edge)
    for (int c = 0; c < 3; ++c) {
        force_i[c] += g[c];
        force_j[c] -= g[c];
        for (int d = 0; d < 3; ++d) tensor[3 * c + d] = -r * x[c] * g[d];
    }
    for (std::size_t c = 0; c < 9; ++c) w.virial[c] += tensor[c];
    if (what.virials) {
        double* own = result.virials.data() + 9 * i;
        double* other = (slot >= 0 ? result.virials.data() : w.foreign_virials.data()) + 9 * target;
        for (int c = 0; c < 3; ++c)
            for (int d = 0; d < 3; ++d) {
                const double half = 0.25 * (tensor[3 * c + d] + tensor[3 * d + c]);
                own[3 * c + d] += half;
                other[3 * c + d] += half;
            }
    }
    if (what.centroid_virials) {
        double* other = (slot >= 0 ? result.centroid_virials.data() : w.foreign_centroid.data()) + 9 * target;
        for (int c = 0; c < 9; ++c) other[c] += tensor[c];
    }
}

}  // namespace equipot::kernels
