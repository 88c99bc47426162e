// One layer as team code: lanes are channels, a group of threads to each atom. Read DeviceLayer::forward and ::backward
// beside forward_tile and backward_tile of pipeline.hpp, which call the same stages in the same order.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

#include "kokkos_kernels/angular.hpp"
#include "kokkos_kernels/device_team.hpp"
#include "kokkos_kernels/mixing.hpp"

namespace equipot::kernels {

template <class Space, class Real>
struct DeviceLayer {
    using Team = DeviceTeam<Space, Real>;
    using P = typename Team::P;
    using Member = typename Team::Member;
    using Weights = typename Team::Weights;
    using Context = typename Team::Context;

    static constexpr int chunk = Team::chunk, batch = Team::batch;
    static constexpr int row_block = 8;  // rows that mixing takes at once

    ModelConstants model;
    LayerWeights<Real> layer, next;
    DeviceEdges edges;
    DeviceSums sums;
    TeamShape shape;
    bool first, last, do_forward, do_backward;
    int feature_width, feature_offset;
    const Real* u;
    Real *ubar, *skip;         // of this layer
    Real *next_u, *next_skip;  // of the next
    const Real* next_ubar;

    KOKKOS_FUNCTION void operator()(const Member& team) const {
        const Context c = Team::place(team, model, layer, edges, shape, first);
        if (c.count == 0) return;
        // Without a memory of A, the way back begins by working it out again.
        density(c);
        if (do_forward) forward(c);
        if (do_backward) backward(c);
    }

private:
    KOKKOS_FORCEINLINE_FUNCTION long weight_size() const { return static_cast<long>(mix_size<Real>(model.padded)); }
    KOKKOS_FORCEINLINE_FUNCTION const Real* coefficients(const Context& c, int channel) const {
        const long terms = layer.program.term_count;
        return layer.coefficients + c.species * terms * model.padded + channel / Gpu::warp * terms * Gpu::warp +
               channel % Gpu::warp;
    }

    /// out (+)= in W for the rows (atom, m) of the tile. Groups share blocks of rows, the same ones for the same m.
    KOKKOS_FUNCTION void mix_rows(const Context& c, bool add, int m, Rows<const Real> in, const Real* W,
                                  Rows<Real> out) const {
        const int rows = c.count * m;
        for (int from = row_block * c.group; from < rows; from += row_block * c.groups) {
            const int to = Kokkos::min(rows, from + row_block);
            if (add)
                mix<P, true>(c.blocks, model.padded, to, in, W, out, from);
            else
                mix<P, false>(c.blocks, model.padded, to, in, W, out, from);
        }
    }
    /// Rows l of a block of features of every atom of the tile, from that of the first group on.
    template <class Value>
    static KOKKOS_FORCEINLINE_FUNCTION Rows<Value> rows_of(const Context& c, Value* own, long stride, int row, int m,
                                                           int C) {
        return {own - c.group * stride + static_cast<long>(row) * C, m, stride};
    }

    // ---- geometry of a chunk of edges -----------------------------------------------------------------------------

    /// Distances, harmonics and spline weights of the edges from `at` on, one to a thread; M of all of them.
    KOKKOS_FUNCTION void geometry(const Context& c, int at, bool backward_too) const {
        const int y_rows = square(model.l_max + 1);
        for (int q = c.lane; q < chunk; q += c.lanes) {
            double x[3] = {0, 0, 1}, r = 1;
            const Real* row = nullptr;
            std::int32_t j = 0, zj = 0;
            if (at + q < c.edge_count) {
                const std::int64_t e = edges.first[c.i] + edges.within[edges.first[c.i] + at + q];
                const double* d = edges.displacement + 3 * e;
                r = Kokkos::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
                for (int k = 0; k < 3; ++k) x[k] = d[k] / r;
                j = edges.neighbor[e];
                zj = edges.species[j];
                row = spline(c, q, r, zj);
            }
            for (int k = 0; k < 3; ++k) c.e.x[k * chunk + q] = x[k];
            c.e.r[q] = r;
            c.e.row[q] = row;
            c.e.j[q] = j;
            c.e.zj[q] = zj;
            with_l_max(model.l_max, [&]<int l>() {
                double Y[(l + 1) * (l + 1)];
                spherical_harmonics<l>(x[0], x[1], x[2], Y);
                for (int y = 0; y < (l + 1) * (l + 1); ++y) c.e.Y[y * chunk + q] = static_cast<Real>(Y[y]);
            });
            if (backward_too || row == nullptr) continue;
            if (layer.density) {
                Real R = 0;
                radial_splined<P, false>(weights_of(c, q), layer.outputs, layer.radial_rows * model.padded,
                                         Blocks{0, 1, 1}, &R, &R);
                c.e.rho[q] += static_cast<double>(R);
            }
            if (first && model.has_zbl) {
                double slope = 0;
                c.e.pair[q] += 0.5 * zbl(model.zbl_pairs[c.species * model.species + zj], model.zbl, r, slope);
            }
        }
        if (backward_too)
            for (int k = c.lane; k < (y_rows + layer.coupling.rows + 1) * chunk; k += c.lanes) c.e.bars[k] = Real(0);
        c.team.team_barrier();
        for (int k = c.lane; k < layer.coupling.rows * chunk; k += c.lanes) {
            const int entry = k / chunk, q = k % chunk;
            const Coupling<Real> one{layer.coupling.first + entry, layer.coupling.terms, 1};
            couple<false>(one, Strided<const Real>{c.e.Y + q, chunk}, Strided<Real>{c.e.M + k, chunk});
        }
        c.team.team_barrier();
    }

    /// Where edge q reads its table, and its weights. Closer than the tables begin there is no answer: not a number,
    /// and a count of such edges.
    KOKKOS_FUNCTION const Real* spline(const Context& c, int q, double r, int zj) const {
        const int index = layer.table_of[c.species * model.species + zj];
        const RadialTable<Real> table{layer.tables + index * layer.table_size, model.grid, layer.outputs};
        const bool good = r >= model.grid.low;
        const Weights weights(table, good ? r : model.grid.low);
        if (!good) Kokkos::atomic_add(sums.too_close, 1);
        for (int k = 0; k < Weights::terms; ++k) {
            c.e.weights[k * chunk + q] = good ? weights.value[k] : Kokkos::Experimental::quiet_NaN_v<Real>;
            c.e.weights[(Weights::terms + k) * chunk + q] =
                good ? weights.slope[k] : Kokkos::Experimental::quiet_NaN_v<Real>;
        }
        return weights.row;
    }
    KOKKOS_FORCEINLINE_FUNCTION Weights weights_of(const Context& c, int q) const {
        Weights weights;
        weights.row = c.e.row[q];
        for (int k = 0; k < Weights::terms; ++k) {
            weights.value[k] = c.e.weights[k * chunk + q];
            weights.slope[k] = c.e.weights[(Weights::terms + k) * chunk + q];
        }
        return weights;
    }

    /// R and dR of one path for a batch of edges, this thread's channels; zero where the batch has no edge.
    template <bool Derivative>
    KOKKOS_FUNCTION void radial(const Context& c, int q, int from) const {
        for (int e = 0; e < batch; ++e) {
            Real* R = c.R + e * model.padded;
            Real* dR = c.dR + e * model.padded;
            if (c.e.row[q + e] != nullptr)
                radial_splined<P, Derivative>(weights_of(c, q + e), layer.outputs, from, c.blocks, R, dR);
            else
                for (int k = c.blocks.begin; k < c.blocks.end; k += c.blocks.step) {
                    R[k] = Real(0);
                    if constexpr (Derivative) dR[k] = Real(0);
                }
        }
    }

    // ---- forward --------------------------------------------------------------------------------------------------

    struct PathForward {
        Blocks blocks;
        int channels, count;
        bool first;
        PathEdges<Real> edges;
        Real* D;

        template <int D1, int D3>
        KOKKOS_FUNCTION void operator()() const {
            if constexpr (D1 == 1)
                if (first) return add<1, D3, false>();
            add<D1, D3, true>();
        }
        template <int D1, int D3, bool Features>
        KOKKOS_FORCEINLINE_FUNCTION void add() const {
            constexpr int together = how_many_together(D1, P::registers, D1 <= 3 ? batch : batch / 2);
            for (int e = 0; e < count; e += together)
                path_forward<P, D1, D3, Features, together, chunk>(blocks, channels, edges.from(e, channels), D);
        }
    };

    /// A of the group's atom, and 1/(1 + ρ).
    KOKKOS_FUNCTION void density(const Context& c) const {
        const int C = model.padded, a_rows = square(model.l_max + 1);
        Real* D = first ? c.A : c.D;
        for (int row = 0; row < layer.density_rows; ++row)
            for (int k = c.lane; k < C; k += c.lanes) D[static_cast<long>(row) * C + k] = Real(0);
        for (int q = c.lane; q < chunk; q += c.lanes) c.e.rho[q] = c.e.pair[q] = 0;

        for (int at = 0; at < c.most_edges; at += chunk) {
            geometry(c, at, false);
            for (int q = 0; q < chunk && at + q < c.edge_count; q += batch) {
                const Real* u_of[batch];
                start_batch(c, q, u_of);
                for (int p = 0; p < layer.path_count; ++p) {
                    const PathShape path = layer.paths[p];
                    radial<false>(c, q, path.radial);
                    const Real* M = path.l1 == 0 ? c.e.Y + path.l3 * path.l3 * chunk : c.e.M + path.coupling * chunk;
                    const PathEdges<Real> of{M + q, c.R, c.dR, u_of, nullptr, static_cast<long>(path.feature) * C};
                    with_path_shape(path.l1, path.l3,
                                    PathForward{c.blocks, C, Kokkos::min(int{batch}, c.edge_count - at - q), first, of,
                                                D + static_cast<long>(path.density) * C});
                }
            }
            c.team.team_barrier();
        }

        c.team.team_barrier();
        if (c.lane == 0) {
            double rho = 0, pair = 0;
            for (int q = 0; q < chunk; ++q) {
                rho += c.e.rho[q];
                pair += c.e.pair[q];
            }
            c.e.sum[0] = 1 / (1 + rho);
            c.e.sum[1] = pair;
        }
        c.team.team_barrier();
        if (!first) {
            int into = -1;
            for (int p = 0; p < layer.path_count; ++p) {
                const PathShape path = layer.paths[p];
                const int m = 2 * path.l3 + 1;
                mix_rows(c, path.l3 == into, m, rows_of<const Real>(c, c.D, c.d_stride, path.density, m, C),
                         mix_weights(layer.mix, c.species, p), rows_of(c, c.A, c.a_stride, path.l3 * path.l3, m, C));
                into = path.l3;
            }
            c.team.team_barrier();
        }
        if (layer.density) {
            const auto factor = static_cast<Real>(c.e.sum[0]);
            for (int row = 0; row < a_rows; ++row)
                for (int k = c.lane; k < C; k += c.lanes) c.A[static_cast<long>(row) * C + k] *= factor;
        }
    }

    KOKKOS_FORCEINLINE_FUNCTION const Real* mix_weights(const Real* of, int species, int path) const {
        return of + ((layer.mix_by_species ? species * layer.path_count : 0) + path) * weight_size();
    }

    KOKKOS_FORCEINLINE_FUNCTION void start_batch(const Context& c, int q, const Real** u_of) const {
        const long u_row = static_cast<long>(square(layer.hidden_in + 1)) * model.padded;
        // Where the batch has no edge, its first one's features, times zero.
        for (int e = 0; e < batch; ++e)
            u_of[e] = first ? nullptr : u + c.e.j[c.e.row[q + e] != nullptr ? q + e : q] * u_row;
    }

    /// From A to h, ε, and what the next layer needs.
    KOKKOS_FUNCTION void forward(const Context& c) const {
        const int C = model.padded, b_rows = square(layer.hidden_out + 1);
        Real* B = c.D;
        Real* h = B + b_rows * C;
        Real* hbar = h + b_rows * C;  // or the skip term of the next layer
        if (c.active)
            for (int k = c.lane; k < C; k += c.lanes) {
                product_forward<P>(layer.program, coefficients(c, k), C, c.A + k, B + k, c.nodes);
                for (int row = 0; row < b_rows; ++row) {
                    Real start = 0;
                    if (layer.skip && !first) start = skip[(c.i * b_rows + row) * C + k];
                    if (layer.skip && first && row == 0) start = layer.first_skip[c.species * C + k];
                    h[row * C + k] = start;
                }
            }
        c.team.team_barrier();
        for (int L = 0; L <= layer.hidden_out; ++L) {
            const int m = 2 * L + 1;
            mix_rows(c, true, m, rows_of<const Real>(c, B, c.d_stride, L * L, m, C), layer.out + L * weight_size(),
                     rows_of(c, h, c.d_stride, L * L, m, C));
        }
        c.team.team_barrier();
        readout_and_energy(c, h, hbar);
        if (c.active && sums.features != nullptr) save_features(c, h);
        if (last) return;

        for (int L = 0; L <= layer.hidden_out; ++L) {
            const int m = 2 * L + 1;
            const Rows<const Real> in = rows_of<const Real>(c, h, c.d_stride, L * L, m, C);
            mix_rows(c, false, m, in, next.up + L * weight_size(), rows_of(c, B, c.d_stride, L * L, m, C));
            if (next.skip && L < next.skip_degrees)
                mix_rows(c, false, m, in, next.skips + (c.species * next.skip_degrees + L) * weight_size(),
                         rows_of(c, hbar, c.d_stride, L * L, m, C));
        }
        c.team.team_barrier();
        if (!c.active) return;
        for (int row = 0; row < b_rows; ++row)
            for (int k = c.lane; k < C; k += c.lanes) next_u[(c.i * b_rows + row) * C + k] = B[row * C + k];
        if (!next.skip) return;
        // Where the next layer's h has more rows than ours, nothing is skipped to them.
        const int rows = square(next.hidden_out + 1), common = square(next.skip_degrees);
        for (int row = 0; row < rows; ++row)
            for (int k = c.lane; k < C; k += c.lanes)
                next_skip[(c.i * rows + row) * C + k] = row < common ? hbar[row * C + k] : Real(0);
    }

    KOKKOS_FUNCTION void readout_and_energy(const Context& c, const Real* h, Real* hbar) const {
        const int C = model.padded, b_rows = square(layer.hidden_out + 1), units = layer.readout.units();
        if (c.active && layer.has_readout)
            for (int n = c.lane; n < units; n += c.lanes)
                c.e.part[n] = readout_unit<P>(layer.readout, model.channels, n, h, model.scale, c.e.factor[n]);
        c.team.team_barrier();
        if (!c.active) return;
        if (c.lane == 0) {
            double energy = first ? c.e.sum[1] : sums.energies[c.i];
            if (layer.has_readout)
                for (int n = 0; n < units; ++n) energy += c.e.part[n];
            sums.energies[c.i] = last ? model.base_energy[c.species] + model.scale * energy : energy;
        }
        if (!last || !do_backward) return;
        for (int k = c.lane; k < C; k += c.lanes) {
            for (int row = 0; row < b_rows; ++row) hbar[row * C + k] = Real(0);
            if (layer.has_readout && k < model.channels) hbar[k] = readout_bar(c, k);
        }
    }
    KOKKOS_FORCEINLINE_FUNCTION Real readout_bar(const Context& c, int k) const {
        Real sum = 0;
        for (int n = 0; n < layer.readout.units(); ++n)
            sum += static_cast<Real>(layer.readout.w[n * model.channels + k] * c.e.factor[n]);
        return sum;
    }

    KOKKOS_FUNCTION void save_features(const Context& c, const Real* h) const {
        double* target = sums.features + c.i * feature_width + feature_offset;
        for (int L = 0; L <= layer.hidden_out; ++L) {
            const int m = 2 * L + 1;
            for (int k = c.lane; k < model.channels; k += c.lanes)
                for (int row = 0; row < m; ++row)
                    target[k * m + row] = static_cast<double>(h[(L * L + row) * model.padded + k]);
            target += model.channels * m;
        }
    }

    // ---- backward -------------------------------------------------------------------------------------------------

    /// From h̄ to Ā and D̄, then along the edges to ū, forces and virials.
    KOKKOS_FUNCTION void backward(const Context& c) const {
        const int C = model.padded, a_rows = square(model.l_max + 1), b_rows = square(layer.hidden_out + 1);
        Real* B = c.D;  // and B̄
        Real* above = B + b_rows * C;
        Real* hbar = above + b_rows * C;
        if (!last) {
            const int rows = square(next.hidden_out + 1), common = square(next.skip_degrees);
            if (c.active)
                for (int row = 0; row < b_rows; ++row)
                    for (int k = c.lane; k < C; k += c.lanes) {
                        B[row * C + k] = next_ubar[(c.i * b_rows + row) * C + k];
                        if (next.skip && row < common) above[row * C + k] = next_skip[(c.i * rows + row) * C + k];
                    }
            c.team.team_barrier();
            for (int L = 0; L <= layer.hidden_out; ++L) {
                const int m = 2 * L + 1;
                const Rows<Real> out = rows_of(c, hbar, c.d_stride, L * L, m, C);
                mix_rows(c, false, m, rows_of<const Real>(c, B, c.d_stride, L * L, m, C),
                         next.up_back + L * weight_size(), out);
                if (next.skip && L < next.skip_degrees)
                    mix_rows(c, true, m, rows_of<const Real>(c, above, c.d_stride, L * L, m, C),
                             next.skips_back + (c.species * next.skip_degrees + L) * weight_size(), out);
            }
            c.team.team_barrier();
            if (c.active && layer.has_readout)  // linear: its adjoint does not depend on h
                for (int k = c.lane; k < model.channels; k += c.lanes)
                    hbar[k] += static_cast<Real>(model.scale * layer.readout.w[k]);
        }
        if (c.active && layer.skip && !first)
            for (int row = 0; row < b_rows; ++row)
                for (int k = c.lane; k < C; k += c.lanes) skip[(c.i * b_rows + row) * C + k] = hbar[row * C + k];
        c.team.team_barrier();

        // B̄ = h̄ out^T, then the product.
        for (int L = 0; L <= layer.hidden_out; ++L) {
            const int m = 2 * L + 1;
            mix_rows(c, false, m, rows_of<const Real>(c, hbar, c.d_stride, L * L, m, C),
                     layer.out_back + L * weight_size(), rows_of(c, B, c.d_stride, L * L, m, C));
        }
        if (c.lane == 0) c.e.sum[1] = 0;
        c.team.team_barrier();
        double along = 0;
        if (c.active)
            for (int k = c.lane; k < C; k += c.lanes) {
                product_backward<P>(layer.program, coefficients(c, k), C, c.A + k, B + k, c.Abar + k, c.nodes);
                if (!layer.density) continue;
                // A = A0 / (1 + ρ): ρ̄ = -Σ Ā A / (1 + ρ), Ā0 = Ā / (1 + ρ).
                for (int row = 0; row < a_rows; ++row) {
                    Real& bar = c.Abar[row * C + k];
                    along += static_cast<double>(bar) * static_cast<double>(c.A[row * C + k]);
                    bar *= static_cast<Real>(c.e.sum[0]);
                }
            }
        if (layer.density) {
            along *= -c.e.sum[0];
            add_over_lanes<1>(c.lanes, c.lane, &along, [&](int) { return &c.e.sum[1]; });
        }
        c.team.team_barrier();

        // D̄ = Ā mix^T.
        if (!first) {
            for (int p = 0; p < layer.path_count; ++p) {
                const PathShape path = layer.paths[p];
                const int m = 2 * path.l3 + 1;
                mix_rows(c, false, m, rows_of<const Real>(c, c.Abar, c.a_stride, path.l3 * path.l3, m, C),
                         mix_weights(layer.mix_back, c.species, p), rows_of(c, c.D, c.d_stride, path.density, m, C));
            }
            c.team.team_barrier();
        }
        backward_edges(c, first ? c.Abar : c.D);
    }

    struct PathBackward {
        Blocks blocks;
        int channels, count, lane, lanes;
        bool first;
        PathEdges<Real> edges;
        const Real* Dbar;
        Real *radial_bar, *bars;  // of the batch's first edge

        template <int D1, int D3>
        KOKKOS_FUNCTION void operator()() const {
            if constexpr (D1 == 1)
                if (first) return add<1, D3, false>();
            add<D1, D3, true>();
        }
        template <int D1, int D3, bool Features>
        KOKKOS_FORCEINLINE_FUNCTION void add() const {
            constexpr int together = backward_edges_together<P>(D1, D3, batch), entries = D1 * D3 * together;
            for (int e = 0; e < count; e += together) {
                P part[entries + together];  // M̄, then r̄
                for (int k = 0; k < together; ++k) part[entries + k] = P::zero();
                path_backward<P, D1, D3, Features, together, chunk>(blocks, channels, edges.from(e, channels), Dbar,
                                                                    part + entries, part);
                Real values[entries + together];
                for (int k = 0; k < entries + together; ++k) values[k] = part[k].v;
                add_over_lanes<entries + together>(lanes, lane, values, [&](int k) {
                    return k < entries ? bars + k / together * chunk + e + k % together : radial_bar + e + k - entries;
                });
            }
        }
    };

    KOKKOS_FUNCTION void backward_edges(const Context& c, const Real* Dbar) const {
        const int C = model.padded, y_rows = square(model.l_max + 1), u_rows = square(layer.hidden_in + 1);
        Real* radial_bar = c.e.bars + (y_rows + layer.coupling.rows) * chunk;
        for (int q = c.lane; q < chunk; q += c.lanes)
            for (int k = 0; k < 12; ++k) c.e.force[k * chunk + q] = 0;
        for (int at = 0; at < c.most_edges; at += chunk) {
            geometry(c, at, true);
            for (int q = 0; q < chunk && at + q < c.edge_count; q += batch) {
                const int count = Kokkos::min(int{batch}, c.edge_count - at - q);
                const Real* u_of[batch];
                Real* ub_of[batch];
                start_batch(c, q, u_of);
                for (int e = 0; e < batch; ++e) ub_of[e] = c.ub + static_cast<long>(e) * u_rows * C;
                if (!first)
                    for (int row = 0; row < batch * u_rows; ++row)
                        for (int k = c.lane; k < C; k += c.lanes) c.ub[row * C + k] = Real(0);
                for (int p = 0; p < layer.path_count; ++p) {
                    const PathShape path = layer.paths[p];
                    radial<true>(c, q, path.radial);
                    const Real* M = path.l1 == 0 ? c.e.Y + path.l3 * path.l3 * chunk : c.e.M + path.coupling * chunk;
                    const int entry = path.l1 == 0 ? path.l3 * path.l3 : y_rows + path.coupling;
                    const PathEdges<Real> of{M + q, c.R, c.dR, u_of, ub_of, static_cast<long>(path.feature) * C};
                    with_path_shape(path.l1, path.l3,
                                    PathBackward{c.blocks, C, count, c.lane, c.lanes, first, of,
                                                 Dbar + static_cast<long>(path.density) * C, radial_bar + q,
                                                 c.e.bars + entry * chunk + q});
                }
                if (!first)
                    for (int e = 0; e < count; ++e) {
                        Real* target = ubar + static_cast<long>(c.e.j[q + e]) * u_rows * C;
                        for (int row = 0; row < u_rows; ++row)
                            for (int k = c.lane; k < C; k += c.lanes)
                                Kokkos::atomic_add(target + row * C + k, ub_of[e][row * C + k]);
                    }
            }
            c.team.team_barrier();
            for (int k = c.lane; k < y_rows * chunk; k += c.lanes) {
                const int entry = k / chunk, q = k % chunk;
                const Coupling<Real> one{layer.transposed.first + entry, layer.transposed.terms, 1};
                couple<true>(one, Strided<const Real>{c.e.bars + y_rows * chunk + q, chunk},
                             Strided<Real>{c.e.bars + k, chunk});
            }
            c.team.team_barrier();
            for (int q = c.lane; q < chunk && at + q < c.edge_count; q += c.lanes) add_force(c, q, radial_bar[q]);
            c.team.team_barrier();
        }
        c.team.team_barrier();
        if (c.active) add_own(c);
    }

    /// Force and virials of edge q on its neighbour; what the atom itself gets is summed up.
    KOKKOS_FUNCTION void add_force(const Context& c, int q, Real rbar) const {
        const double r = c.e.r[q], x[3] = {c.e.x[q], c.e.x[chunk + q], c.e.x[2 * chunk + q]};
        double along = static_cast<double>(rbar), g[3];
        if (layer.density) {
            Real R[2];
            radial_splined<P, true>(weights_of(c, q), layer.outputs, layer.radial_rows * model.padded, Blocks{0, 1, 1},
                                    R, R + 1);
            along += c.e.sum[1] * static_cast<double>(R[1]);
        }
        if (first && model.has_zbl) {
            double slope = 0;
            zbl(model.zbl_pairs[c.species * model.species + c.e.zj[q]], model.zbl, r, slope);
            along += 0.5 * model.scale * slope;
        }
        with_l_max(model.l_max, [&]<int l>() {
            constexpr int rows = (l + 1) * (l + 1);
            double bars[rows];
            for (int y = 0; y < rows; ++y) bars[y] = static_cast<double>(c.e.bars[y * chunk + q]);
            edge_gradient<l>(x, r, along, bars, g);
        });
        const std::int64_t j = c.e.j[q];
        for (int k = 0; k < 3; ++k) {
            c.e.force[k * chunk + q] += g[k];
            Kokkos::atomic_add(sums.forces + 3 * j + k, -g[k]);
            for (int d = 0; d < 3; ++d) {
                const double tensor = -r * x[k] * g[d];  // r_ij ⊗ (force on j along this edge)
                c.e.force[(3 + 3 * k + d) * chunk + q] += tensor;
                if (sums.centroid != nullptr) Kokkos::atomic_add(sums.centroid + 9 * j + 3 * k + d, tensor);
                if (sums.virials != nullptr) {
                    // Half of the symmetric part to either atom.
                    Kokkos::atomic_add(sums.virials + 9 * j + 3 * k + d, 0.25 * tensor);
                    Kokkos::atomic_add(sums.virials + 9 * j + 3 * d + k, 0.25 * tensor);
                }
            }
        }
    }

    KOKKOS_FUNCTION void add_own(const Context& c) const {
        double* slot = sums.virial + 9 * (c.team.league_rank() % DeviceSums::virial_slots);
        for (int k = c.lane; k < 12; k += c.lanes) {
            double sum = 0;
            for (int q = 0; q < chunk; ++q) sum += c.e.force[k * chunk + q];
            if (k < 3) {
                Kokkos::atomic_add(sums.forces + 3 * c.i + k, sum);
                continue;
            }
            const int a = (k - 3) / 3, b = (k - 3) % 3;
            Kokkos::atomic_add(slot + k - 3, sum);
            if (sums.virials != nullptr) {
                Kokkos::atomic_add(sums.virials + 9 * c.i + 3 * a + b, 0.25 * sum);
                Kokkos::atomic_add(sums.virials + 9 * c.i + 3 * b + a, 0.25 * sum);
            }
        }
    }
};

}  // namespace equipot::kernels
