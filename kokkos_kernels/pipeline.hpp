// Pipeline: the evaluator over a pack type P. Read forward_tile and backward_tile side by side: the second walks the
// first in reverse. SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>
#include <span>

#include "kokkos_kernels/angular.hpp"
#include "kokkos_kernels/evaluator.hpp"
#include "kokkos_kernels/mixing.hpp"
#include "kokkos_kernels/parameter_gradient.hpp"
#include "kokkos_kernels/plan.hpp"
#include "kokkos_kernels/profile.hpp"
#include "kokkos_kernels/scatter.hpp"
#include "kokkos_kernels/scratch.hpp"

namespace equipot::kernels {

/// What a parameter gradient starts from: the displacement of every edge goes along `direction` [edges, 3], and the
/// energy of atom i has the adjoint -1 + ε energy_bar[i].
struct GradientSeed {
    std::span<const double> direction, energy_bar;
};

template <class P>
class Pipeline final {
public:
    using Real = typename P::Real;      // of weights
    using Value = typename P::Value;    // of activations in memory
    using Scalar = typename P::Scalar;  // of geometry and sums

    explicit Pipeline(const Plan<Real>& plan) : plan_(plan) {}

    [[nodiscard]] double measure_peak() const;

    void compute(const Graph& graph, const std::vector<std::int32_t>& species, Exchange& exchange,
                 const Properties& what, Result& result);

    /// Over dual lanes: sets flat[layout.size] to d/dε of the adjoint of every weight; see GradientSeed.
    void gradient(const Graph& graph, const std::vector<std::int32_t>& species, const GradientSeed& seed,
                  const GradientLayout& layout, std::vector<Real>& flat);

private:
    static constexpr int tile_size = 8;
    static constexpr int batch_size = 4;  // edges that share the loads and stores of D

    struct Tile {
        std::int32_t first, count, species;  // atoms order_[first .. first + count)
    };

    /// What one thread works with.
    struct Worker {
        std::vector<Tile> tiles;
        Scratch<Value> R, dR, M;                      // of a batch of edges
        Scratch<Value> lanes, sums;                   // M̄ of one edge: packs, then their sums over lanes
        Scratch<Value> D, A, Abar, B, Bbar, h, hbar;  // of one tile
        Scratch<Value> products;                      // packs of the product stage
        std::vector<double> exact, exact_slope;
        RadialScratch radial;
        Scratch<Value> foreign_ubar;  // [foreign, rows of u]
        std::vector<double> foreign_forces, foreign_virials, foreign_centroid;
        std::array<double, 9> virial{};
        double energy = 0;
        std::vector<Real> gradient;  // over dual lanes: see GradientLayout
        StageCounts counts;
    };

    /// What a layer leaves behind for the layers after it and for its own backward pass.
    struct LayerState {
        Buffer<Value> u, ubar;  // [total, (hidden_in+1)², padded] features that enter, after up; not in the first layer
        Buffer<Value> skip;     // [owned, (hidden_out+1)², padded] skip term of h; overwritten by h̄ on the way back
        Buffer<Value> A;        // [owned, (l_max+1)², padded]; not in the last layer
        Buffer<Value> h, D;     // over dual lanes: features that leave, density; not in the last layer
        std::vector<Scalar> one_over;  // [owned] 1/(1 + ρ)
    };

    struct Edge {
        Scalar r, x[3];  // |r_ij| and r̂
        Value Y[most_harmonics];
    };

    void resize(const Graph& graph, const Properties& what, Result& result);
    void make_tiles(const Graph& graph, const std::vector<std::int32_t>& species);
    void forward_tile(int t, Worker& w, const Tile& tile, const Properties& what, Result& result);
    void backward_tile(int t, Worker& w, const Tile& tile, const Properties& what, Result& result);
    void backward_edges(int t, Worker& w, std::int64_t i, int species, const Value* Dbar, Scalar rho_bar,
                        const Properties& what, Result& result);
    void gradient_edges(int t, Worker& w, std::int64_t i, int species, const Value* Dbar, Scalar rho_bar);
    void gradient_features(int t, Worker& w, const Tile& tile);
    bool edge_geometry(std::int64_t e, Edge& edge, Worker& w) const;
    void mix_rows(bool add, Worker& w, int rows, Rows<const Value> in, const Buffer<Real>& W, Rows<Value> out) const;
    static void collect(const std::vector<Worker>& workers, double seconds_per_tick, Result& result);
    void edge_radial(const LayerPlan<Real>& layer, bool derivative, int zi, int zj, Scalar r, Worker& w, Value* R,
                     Value* dR) const;
    void add_batch(const LayerPlan<Real>& layer, Worker& w, bool first, const PathEdge<Value>* edges,
                   const Edge* geometry, int count, Value* D) const;
    void reduce_foreign_ubar(int t);
    void reduce_foreign(int width, double* rows, const std::vector<double> Worker::*foreign);
    void save_features(int t, const Worker& w, const Tile& tile, Result& result) const;

    /// Where this thread adds the adjoint of a product coefficient block or of a mixing matrix; null where not wanted.
    Real* product_bar(int t, Worker& w, int species, int block) const {
        if constexpr (!P::dual) return nullptr;
        const auto at = static_cast<std::size_t>(t);
        return w.gradient.data() + layout_->layers[at].product[static_cast<std::size_t>(species)] +
               static_cast<std::ptrdiff_t>(block) * plan_.layers[at].product.program().term_count * P::width;
    }
    Real* mix_bar(int t, Worker& w, int species, int l, std::size_t path) const {
        const LayerGradient& layer = layout_->layers[static_cast<std::size_t>(t)];
        const auto variant = layer.mix.size() > 1 ? static_cast<std::size_t>(species) : 0;
        return w.gradient.data() + layer.mix[variant][static_cast<std::size_t>(l)][path];
    }

    [[nodiscard]] Blocks blocks() const { return {0, plan_.padded / P::width, 1}; }
    template <class F>
    void for_chunks(const char* label, F f) {
        const auto n = static_cast<int>(workers_.size());
        Kokkos::parallel_for(
            label, Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace, Kokkos::Schedule<Kokkos::Static>>(0, n), f);
    }

    /// ∂L/∂E of an atom, which the way back starts from.
    [[nodiscard]] Scalar energy_bar(std::int64_t atom) const {
        if constexpr (P::dual)
            return {-1.0, seed_.energy_bar[static_cast<std::size_t>(atom)]};
        else
            return 1.0;
    }

    const Plan<Real>& plan_;
    ScatterPlan scatter_;
    std::vector<Worker> workers_;
    std::vector<LayerState> states_;
    std::vector<std::int32_t> order_;
    const Graph* graph_ = nullptr;
    const std::int32_t* species_ = nullptr;
    GradientSeed seed_;
    const GradientLayout* layout_ = nullptr;
};

template <class P>
void Pipeline<P>::compute(const Graph& graph, const std::vector<std::int32_t>& species, Exchange& exchange,
                          const Properties& what, Result& result) {
    graph_ = &graph;
    species_ = species.data();
    scatter_.build(graph, std::max(1, Kokkos::DefaultHostExecutionSpace().concurrency()));
    resize(graph, what, result);
    make_tiles(graph, species);
    const int layers = static_cast<int>(plan_.layers.size());
    const bool derivatives = what.forces || what.virials || what.centroid_virials;
    const std::uint64_t first_tick = ticks();
    const auto start = std::chrono::steady_clock::now();
    for (Worker& w : workers_) {
        w.counts = StageCounts{};
        w.counts.on = what.profile;
    }

    for (int t = 0; t < layers; ++t) {
        const bool last = t + 1 == layers;
        for_chunks("equipot::forward", [&](int chunk) {
            Worker& w = workers_[static_cast<std::size_t>(chunk)];
            for (const Tile& tile : w.tiles) {
                forward_tile(t, w, tile, what, result);
                if (last && derivatives) backward_tile(t, w, tile, what, result);
            }
        });
        if constexpr (!P::dual)
            if (!last) {
                LayerState& next = states_[static_cast<std::size_t>(t) + 1];
                exchange.forward(next.u.data(),
                                 square(plan_.layers[static_cast<std::size_t>(t) + 1].hidden_in + 1) * plan_.padded);
            }
    }
    for (int t = layers - 2; derivatives && t >= 0; --t) {
        LayerState& next = states_[static_cast<std::size_t>(t) + 1];
        reduce_foreign_ubar(t + 1);
        if constexpr (!P::dual)
            exchange.reverse(next.ubar.data(),
                             square(plan_.layers[static_cast<std::size_t>(t) + 1].hidden_in + 1) * plan_.padded);
        for_chunks("equipot::backward", [&](int chunk) {
            Worker& w = workers_[static_cast<std::size_t>(chunk)];
            for (const Tile& tile : w.tiles) backward_tile(t, w, tile, what, result);
        });
    }

    result.energy = 0;
    result.virial.fill(0);
    for (const Worker& w : workers_) {
        result.energy += w.energy;
        for (std::size_t c = 0; c < 9; ++c) result.virial[c] += w.virial[c];
    }
    result.profile.clear();
    if (what.profile) {
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        collect(workers_, seconds / static_cast<double>(std::max<std::uint64_t>(1, ticks() - first_tick)), result);
    }
    if (derivatives && scatter_.has_foreign()) {
        reduce_foreign(3, result.forces.data(), &Worker::foreign_forces);
        if (what.virials) reduce_foreign(9, result.virials.data(), &Worker::foreign_virials);
        if (what.centroid_virials) reduce_foreign(9, result.centroid_virials.data(), &Worker::foreign_centroid);
    }
}

/// Layer t for one tile: from neighbours' u to h, ε, and what the next layer needs.
template <class P>
void Pipeline<P>::forward_tile(int t, Worker& w, const Tile& tile, const Properties& what, Result& result) {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    LayerState& state = states_[static_cast<std::size_t>(t)];
    const bool first = t == 0, last = static_cast<std::size_t>(t) + 1 == plan_.layers.size();
    const int C = plan_.padded, density_rows = layer.density_rows, a_rows = square(plan_.l_max + 1),
              b_rows = square(layer.hidden_out + 1);
    const int u_rows = square(layer.hidden_in + 1);
    const std::int32_t* atoms = order_.data() + tile.first;

    // Density. In the first layer mixing is folded into the radial functions, so D is A.
    Value* D = first ? w.A.data() : w.D.data();
    std::fill(D, D + static_cast<std::ptrdiff_t>(tile.count) * density_rows * C, Value(0));
    for (int a = 0; a < tile.count; ++a) {
        const std::int64_t i = atoms[a];
        Value* Di = D + static_cast<std::ptrdiff_t>(a) * density_rows * C;
        Scalar rho(0), pair(0);
        const auto outputs = static_cast<std::ptrdiff_t>(layer.radial->outputs());
        Edge geometry[batch_size];
        PathEdge<Value> edges[batch_size];
        int count = 0;
        for (std::int64_t e = graph_->first[static_cast<std::size_t>(i)];
             e < graph_->first[static_cast<std::size_t>(i) + 1]; ++e) {
            Edge& edge = geometry[count];
            if (!edge_geometry(e, edge, w)) continue;
            const std::int64_t j = graph_->neighbor[static_cast<std::size_t>(e)];
            const int zj = species_[j];
            Value* R = w.R.data() + count * outputs;
            Value* M = w.M.data() + static_cast<std::ptrdiff_t>(count) * layer.coupling_size;
            edge_radial(layer, false, tile.species, zj, edge.r, w, R, w.dR.data());
            const StageScope scope(w.counts, Stage::Geometry);
            couple<false>(layer.coupling.view(), edge.Y, M);
            edges[count] = {M, R, nullptr, first ? nullptr : state.u.data() + j * u_rows * C};
            if (layer.density) rho += Scalar(P::element(R, layer.radial->rows() * C));
            if (first && plan_.has_zbl) {
                double slope = 0;
                const double energy =
                    0.5 * zbl(plan_.zbl_pairs[static_cast<std::size_t>(tile.species) * plan_.active.size() +
                                              static_cast<std::size_t>(zj)],
                              plan_.zbl, real_part(edge.r), slope);
                if constexpr (P::dual)
                    pair += Scalar(energy, 0.5 * slope * edge.r.du);
                else
                    pair += energy;
            }
            if (++count == batch_size) {
                add_batch(layer, w, first, edges, geometry, count, Di);
                count = 0;
            }
        }
        add_batch(layer, w, first, edges, geometry, count, Di);
        state.one_over[static_cast<std::size_t>(i)] = Scalar(1) / (Scalar(1) + rho);
        if constexpr (P::dual)
            w.gradient[layout_->scale] += static_cast<Real>((energy_bar(i) * pair).du);
        else
            result.energies[static_cast<std::size_t>(i)] += pair;
    }

    // Mixing: A = D mix / (1 + ρ).
    if (!first) {
        const auto& mix_of = layer.mix[layer.mix.size() > 1 ? static_cast<std::size_t>(tile.species) : 0];
        int row = 0;
        for (int l = 0; l <= plan_.l_max; ++l) {
            const int m = 2 * l + 1;
            const Rows<Value> out{w.A.data() + l * l * C, m, a_rows * C};
            bool add = false;
            for (const MixWeights<Real>& weights : mix_of[static_cast<std::size_t>(l)]) {
                const Rows<const Value> in{w.D.data() + row * C, m, density_rows * C};
                mix_rows(add, w, tile.count * m, in, weights.forward, out);
                add = true;
                row += m;
            }
        }
    }
    if (layer.density)
        for (int a = 0; a < tile.count; ++a) {
            const auto factor = Value(state.one_over[static_cast<std::size_t>(atoms[a])]);
            Value* A = w.A.data() + static_cast<std::ptrdiff_t>(a) * a_rows * C;
            for (int c = 0; c < a_rows * C; c += P::width) (factor * P::load(A + c)).store(A + c);
        }

    // Product, then h = out B + skip.
    const ProductProgram program = layer.product.program();
    const Real* coefficients = layer.product_coefficients[static_cast<std::size_t>(tile.species)].data();
    for (int a = 0; a < tile.count; ++a) {
        StageScope scope(w.counts, Stage::ProductForward);
        scope.work((program.node_count + program.term_count + program.group_count) * double(C),
                   program.term_count * double(C) * sizeof(Real));
        for (int b = 0; b < C / P::width; ++b)
            product_forward<P>(program, coefficients + static_cast<std::ptrdiff_t>(b) * program.term_count * P::width,
                               C, w.A.data() + static_cast<std::ptrdiff_t>(a) * a_rows * C + b * P::width,
                               w.B.data() + static_cast<std::ptrdiff_t>(a) * b_rows * C + b * P::width,
                               reinterpret_cast<P*>(w.products.data()));
    }
    for (int a = 0; a < tile.count; ++a) {
        Value* h = w.h.data() + static_cast<std::ptrdiff_t>(a) * b_rows * C;
        if (layer.skip && !first) {
            const Value* skip = state.skip.data() + static_cast<std::ptrdiff_t>(atoms[a]) * b_rows * C;
            std::copy(skip, skip + b_rows * C, h);
        } else {
            std::fill(h, h + b_rows * C, Value(0));
            if (layer.skip)
                for (int k = 0; k < plan_.channels; ++k)
                    P::set_element(h, k,
                                   Value(static_cast<Real>(
                                       layer.first_skip[static_cast<std::size_t>(tile.species * plan_.channels + k)])));
        }
    }
    for (int L = 0; L <= layer.hidden_out; ++L) {
        const int m = 2 * L + 1;
        mix_rows(true, w, tile.count * m, {w.B.data() + L * L * C, m, b_rows * C},
                 layer.out[static_cast<std::size_t>(L)].forward, {w.h.data() + L * L * C, m, b_rows * C});
    }

    // Readout; its adjoint is the seed of the way back.
    std::fill(w.hbar.data(), w.hbar.data() + static_cast<std::ptrdiff_t>(tile.count) * b_rows * C, Value(0));
    for (int a = 0; a < tile.count; ++a) {
        double& energy = result.energies[static_cast<std::size_t>(atoms[a])];
        if (layer.has_readout)
            energy += real_part(
                readout<P>(layer.readout, plan_.channels, w.h.data() + static_cast<std::ptrdiff_t>(a) * b_rows * C,
                           plan_.scale * energy_bar(atoms[a]),
                           last ? w.hbar.data() + static_cast<std::ptrdiff_t>(a) * b_rows * C : nullptr));
        if (last) {
            energy = plan_.base_energy[static_cast<std::size_t>(tile.species)] + plan_.scale * energy;
            w.energy += energy;
        }
    }
    if constexpr (!P::dual)
        if (what.features) save_features(t, w, tile, result);
    if (last) return;

    // What stays behind: A for the way back, u and the skip term for the next layer.
    const LayerPlan<Real>& next = plan_.layers[static_cast<std::size_t>(t) + 1];
    LayerState& next_state = states_[static_cast<std::size_t>(t) + 1];
    const int skip_rows = square(next.hidden_out + 1);
    for (int a = 0; a < tile.count; ++a) {
        const Value* A = w.A.data() + static_cast<std::ptrdiff_t>(a) * a_rows * C;
        std::copy(A, A + a_rows * C, state.A.data() + static_cast<std::ptrdiff_t>(atoms[a]) * a_rows * C);
        if constexpr (P::dual) {
            const std::ptrdiff_t atom = atoms[a];
            std::copy_n(w.h.data() + a * b_rows * C, b_rows * C, state.h.data() + atom * b_rows * C);
            if (!first)
                std::copy_n(w.D.data() + a * density_rows * C, density_rows * C,
                            state.D.data() + atom * density_rows * C);
        }
    }
    for (int a = 0; a < tile.count; ++a) {
        const std::ptrdiff_t atom = atoms[a];
        Value* h = w.h.data() + static_cast<std::ptrdiff_t>(a) * b_rows * C;
        if (next.skip) {
            Value* skip = next_state.skip.data() + atom * skip_rows * C;
            std::fill(skip, skip + skip_rows * C, Value(0));
        }
        for (int L = 0; L <= layer.hidden_out; ++L) {
            const int m = 2 * L + 1;
            const Rows<const Value> in{h + L * L * C, m, 0};
            mix_rows(false, w, m, in, next.up[static_cast<std::size_t>(L)].forward,
                     {next_state.u.data() + (atom * b_rows + L * L) * C, m, 0});
            if (next.skip && L <= next.hidden_out)
                mix_rows(false, w, m, in,
                         next.skip_weights[static_cast<std::size_t>(tile.species)][static_cast<std::size_t>(L)].forward,
                         {next_state.skip.data() + (atom * skip_rows + L * L) * C, m, 0});
        }
    }
}

/// The adjoint of forward_tile. For the last layer it runs right after it, on what is still in the worker.
template <class P>
void Pipeline<P>::backward_tile(int t, Worker& w, const Tile& tile, const Properties& what, Result& result) {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    LayerState& state = states_[static_cast<std::size_t>(t)];
    const bool first = t == 0, last = static_cast<std::size_t>(t) + 1 == plan_.layers.size();
    const int C = plan_.padded, density_rows = layer.density_rows, a_rows = square(plan_.l_max + 1),
              b_rows = square(layer.hidden_out + 1);
    const std::int32_t* atoms = order_.data() + tile.first;
    const auto tile_rows = static_cast<std::ptrdiff_t>(tile.count);

    // h̄ = ū up^T + h̄_next skip^T + readout.
    if (!last) {
        const LayerPlan<Real>& next = plan_.layers[static_cast<std::size_t>(t) + 1];
        const LayerState& next_state = states_[static_cast<std::size_t>(t) + 1];
        const int skip_rows = square(next.hidden_out + 1);
        for (int a = 0; a < tile.count; ++a) {
            const std::ptrdiff_t atom = atoms[a];
            const Value* A = state.A.data() + atom * a_rows * C;
            std::copy(A, A + a_rows * C, w.A.data() + a * a_rows * C);
            Value* hbar = w.hbar.data() + a * b_rows * C;
            for (int L = 0; L <= layer.hidden_out; ++L) {
                const int m = 2 * L + 1;
                mix_rows(false, w, m, {next_state.ubar.data() + (atom * b_rows + L * L) * C, m, 0},
                         next.up[static_cast<std::size_t>(L)].backward, {hbar + L * L * C, m, 0});
                if (next.skip && L <= next.hidden_out)
                    mix_rows(
                        true, w, m, {next_state.skip.data() + (atom * skip_rows + L * L) * C, m, 0},
                        next.skip_weights[static_cast<std::size_t>(tile.species)][static_cast<std::size_t>(L)].backward,
                        {hbar + L * L * C, m, 0});
            }
            if (layer.has_readout && layer.readout.hidden == 0)
                for (int k = 0; k < plan_.channels; ++k)
                    P::set_element(
                        hbar, k, P::element(hbar, k) + Value(plan_.scale * layer.readout.w[k] * energy_bar(atoms[a])));
        }
    }
    if (layer.skip && !first)
        for (int a = 0; a < tile.count; ++a) {
            const Value* hbar = w.hbar.data() + a * b_rows * C;
            std::copy(hbar, hbar + b_rows * C, state.skip.data() + static_cast<std::ptrdiff_t>(atoms[a]) * b_rows * C);
        }

    if constexpr (P::dual) gradient_features(t, w, tile);

    // B̄ = h̄ out^T, then the product.
    for (int L = 0; L <= layer.hidden_out; ++L) {
        const int m = 2 * L + 1;
        mix_rows(false, w, tile.count * m, {w.hbar.data() + L * L * C, m, b_rows * C},
                 layer.out[static_cast<std::size_t>(L)].backward, {w.Bbar.data() + L * L * C, m, b_rows * C});
    }
    const ProductProgram program = layer.product.program();
    const Real* coefficients = layer.product_coefficients[static_cast<std::size_t>(tile.species)].data();
    for (std::ptrdiff_t a = 0; a < tile_rows; ++a) {
        StageScope scope(w.counts, Stage::ProductBackward);
        scope.work((3 * program.node_count + 2 * program.term_count + 2 * program.group_count) * double(C),
                   program.term_count * double(C) * sizeof(Real));
        for (int b = 0; b < C / P::width; ++b)
            product_backward<P>(program, coefficients + static_cast<std::ptrdiff_t>(b) * program.term_count * P::width,
                                C, w.A.data() + a * a_rows * C + b * P::width,
                                w.Bbar.data() + a * b_rows * C + b * P::width,
                                w.Abar.data() + a * a_rows * C + b * P::width, reinterpret_cast<P*>(w.products.data()),
                                product_bar(t, w, tile.species, b));
    }

    // A = A0 / (1 + ρ): ρ̄ = -Σ Ā A / (1 + ρ), Ā0 = Ā / (1 + ρ).
    std::array<Scalar, tile_size> rho_bar{};
    if (layer.density)
        for (int a = 0; a < tile.count; ++a) {
            const Scalar one_over = state.one_over[static_cast<std::size_t>(atoms[a])];
            Value* Abar = w.Abar.data() + a * a_rows * C;
            const Value* A = w.A.data() + a * a_rows * C;
            Scalar sum(0);
            for (int c = 0; c < a_rows * C; ++c) sum += Scalar(P::element(Abar, c)) * Scalar(P::element(A, c));
            for (int c = 0; c < a_rows * C; c += P::width) (Value(one_over) * P::load(Abar + c)).store(Abar + c);
            rho_bar[static_cast<std::size_t>(a)] = -sum * one_over;
        }

    // D̄ = Ā mix^T.
    if (!first) {
        const auto& mix_of = layer.mix[layer.mix.size() > 1 ? static_cast<std::size_t>(tile.species) : 0];
        int row = 0;
        for (int l = 0; l <= plan_.l_max; ++l) {
            const int m = 2 * l + 1;
            for (const MixWeights<Real>& weights : mix_of[static_cast<std::size_t>(l)]) {
                const Rows<const Value> bar{w.Abar.data() + l * l * C, m, a_rows * C};
                const Rows<Value> D{w.D.data() + row * C, m, density_rows * C};
                if constexpr (P::dual)
                    mix_gradient<P>(
                        C, tile.count * m, {D.base, D.per_atom, D.atom_stride}, bar,
                        mix_bar(t, w, tile.species, l,
                                static_cast<std::size_t>(&weights - mix_of[static_cast<std::size_t>(l)].data())));
                mix_rows(false, w, tile.count * m, bar, weights.backward, D);
                row += m;
            }
        }
    }
    const Value* Dbar = first ? w.Abar.data() : w.D.data();
    for (int a = 0; a < tile.count; ++a) {
        const Value* bar = Dbar + static_cast<std::ptrdiff_t>(a) * density_rows * C;
        if constexpr (P::dual)
            gradient_edges(t, w, atoms[a], tile.species, bar, rho_bar[static_cast<std::size_t>(a)]);
        else
            backward_edges(t, w, atoms[a], tile.species, bar, rho_bar[static_cast<std::size_t>(a)], what, result);
    }
}

/// From D̄_i and ρ̄_i to ū of the neighbours, ∂E/∂r_ij, forces and virials.
template <class P>
void Pipeline<P>::backward_edges(int t, Worker& w, std::int64_t i, int zi, const Value* Dbar, Scalar rho_bar,
                                 const Properties& what, Result& result) {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    LayerState& state = states_[static_cast<std::size_t>(t)];
    const bool first = t == 0;
    const int C = plan_.padded, u_rows = square(layer.hidden_in + 1), y_rows = square(plan_.l_max + 1);
    double* force_i = result.forces.data() + 3 * i;
    for (std::int64_t e = graph_->first[static_cast<std::size_t>(i)];
         e < graph_->first[static_cast<std::size_t>(i) + 1]; ++e) {
        Edge edge;
        if (!edge_geometry(e, edge, w)) continue;
        const std::int64_t j = graph_->neighbor[static_cast<std::size_t>(e)];
        const int zj = species_[j];
        const std::int32_t slot = scatter_.slot(e);
        const std::int64_t target = slot >= 0 ? slot : -(static_cast<std::int64_t>(slot) + 1);
        edge_radial(layer, true, zi, zj, edge.r, w, w.R.data(), w.dR.data());
        {
            const StageScope scope(w.counts, Stage::Geometry);
            couple<false>(layer.coupling.view(), edge.Y, w.M.data());
        }
        const Real* u = first ? nullptr : state.u.data() + j * u_rows * C;
        Real* ubar = first ? nullptr : (slot >= 0 ? state.ubar.data() : w.foreign_ubar.data()) + target * u_rows * C;
        P* lanes = reinterpret_cast<P*>(w.lanes.data());  // Ȳ, M̄, r̄
        const int sums = y_rows + layer.coupling_size + 1;
        for (int y = 0; y < y_rows; ++y) lanes[y] = P::zero();
        P& radial_lanes = lanes[sums - 1];
        radial_lanes = P::zero();
        {
            StageScope scope(w.counts, Stage::DensityBackward);
            scope.work(layer.backward_work(first) * double(C), first ? 0 : 3.0 * u_rows * C * sizeof(Real));
            for (const PathShape& path : layer.paths) {
                const bool bare = path.l1 == 0;
                const PathEdge<Real> view{bare ? edge.Y + path.l3 * path.l3 : w.M.data() + path.coupling,
                                          w.R.data() + path.radial, w.dR.data() + path.radial,
                                          first ? nullptr : u + path.feature * C};
                P* msum = lanes + (bare ? path.l3 * path.l3 : y_rows + path.coupling);
                with_path_shape(path.l1, path.l3, [&]<int D1, int D3>() {
                    if (first)
                        path_backward<P, 1, D3, false>(blocks(), C, view, Dbar + path.density * C, ubar, radial_lanes,
                                                       msum);
                    else
                        path_backward<P, D1, D3, true>(blocks(), C, view, Dbar + path.density * C,
                                                       ubar + path.feature * C, radial_lanes, msum);
                });
            }
            for (int p = 0; p < sums; p += P::width) lane_sums(lanes + p).store(w.sums.data() + p);
        }
        const StageScope scope(w.counts, Stage::Geometry);  // and what is left of the edge
        Real* Ybar = w.sums.data();
        double radial_bar = static_cast<double>(w.sums[static_cast<std::size_t>(sums - 1)]);
        couple<true>(layer.coupling_transposed.view(), w.sums.data() + y_rows, Ybar);
        if (layer.density)
            radial_bar += rho_bar * static_cast<double>(w.dR[static_cast<std::size_t>(layer.radial->rows() * C)]);
        if (first && plan_.has_zbl) {
            double slope = 0;
            zbl(plan_.zbl_pairs[static_cast<std::size_t>(zi) * plan_.active.size() + static_cast<std::size_t>(zj)],
                plan_.zbl, edge.r, slope);
            radial_bar += 0.5 * plan_.scale * slope;
        }

        // g = ∂E/∂r_ij = r̄ r̂ + (1 - r̂ r̂^T) ∇_r̂ / r.
        double Yb[most_harmonics], gradient[3];
        for (int y = 0; y < y_rows; ++y) Yb[y] = static_cast<double>(Ybar[y]);
        with_l_max<Int>(plan_.l_max, [&](auto L) {
            spherical_harmonics_backward<decltype(L)::value>(edge.x[0], edge.x[1], edge.x[2], Yb, gradient);
        });
        const double along = edge.x[0] * gradient[0] + edge.x[1] * gradient[1] + edge.x[2] * gradient[2];
        double g[3];
        for (int c = 0; c < 3; ++c) g[c] = radial_bar * edge.x[c] + (gradient[c] - along * edge.x[c]) / edge.r;

        double* force_j = (slot >= 0 ? result.forces.data() : w.foreign_forces.data()) + 3 * target;
        double tensor[9];  // r_ij ⊗ (force on j along this edge)
        for (int c = 0; c < 3; ++c) {
            force_i[c] += g[c];
            force_j[c] -= g[c];
            for (int d = 0; d < 3; ++d) tensor[3 * c + d] = -edge.r * edge.x[c] * g[d];
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
}

template <class P>
void Pipeline<P>::mix_rows(bool add, Worker& w, int rows, Rows<const Value> in, const Buffer<Real>& W,
                           Rows<Value> out) const {
    const int C = plan_.padded;
    StageScope scope(w.counts, Stage::Mixing);
    scope.work(double(rows) * C * C, double(C) * C * sizeof(Real));
    if (add)
        mix<P, true>(blocks(), C, rows, in, W.data(), out);
    else
        mix<P, false>(blocks(), C, rows, in, W.data(), out);
}

/// False for pairs beyond the cutoff.
template <class P>
bool Pipeline<P>::edge_geometry(std::int64_t e, Edge& edge, Worker& w) const {
    const StageScope scope(w.counts, Stage::Geometry);
    using std::sqrt;
    Scalar d[3];
    for (int c = 0; c < 3; ++c) {
        const auto at = static_cast<std::size_t>(3 * e + c);
        if constexpr (P::dual)
            d[c] = {graph_->displacement[at], seed_.direction[at]};
        else
            d[c] = graph_->displacement[at];
    }
    const Scalar r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
    if (real_part(r2) >= plan_.cutoff * plan_.cutoff) return false;
    edge.r = sqrt(r2);
    for (int c = 0; c < 3; ++c) edge.x[c] = d[c] / edge.r;
    Scalar Y[most_harmonics];
    with_l_max<Int>(plan_.l_max,
                    [&](auto L) { spherical_harmonics<decltype(L)::value>(edge.x[0], edge.x[1], edge.x[2], Y); });
    for (int y = 0; y < square(plan_.l_max + 1); ++y) edge.Y[y] = Value(Y[y]);
    return true;
}

template <class P>
void Pipeline<P>::edge_radial(const LayerPlan<Real>& layer, bool derivative, int zi, int zj, Scalar r, Worker& w,
                              Value* R, Value* dR) const {
    const bool tabulated = plan_.intervals > 0 && real_part(r) >= table_low;
    if constexpr (P::dual) {
        radial_dual<P>(plan_.table(layer, zi, zj), r, R);  // training refuses closer pairs
    } else if (tabulated) {
        StageScope scope(w.counts, Stage::Radial);
        const RadialTable<Real> table = plan_.table(layer, zi, zj);
        const double touched = double(table.outputs) * (spline_degree<Real> + 1);
        scope.work(touched * (derivative ? 2 : 1), touched * sizeof(Real));
        const Blocks all{0, table.outputs / P::width, 1};
        if (derivative)
            radial_splined<P, true>(table, r, all, R, dR);
        else
            radial_splined<P, false>(table, r, all, R, dR);
    } else {
        layer.radial->evaluate(plan_.active[static_cast<std::size_t>(zi)], plan_.active[static_cast<std::size_t>(zj)],
                               r, w.exact.data(), w.exact_slope.data(), w.radial);
        for (std::size_t c = 0; c < static_cast<std::size_t>(layer.radial->outputs()); ++c) {
            R[c] = static_cast<Real>(w.exact[c]);
            dR[c] = static_cast<Real>(w.exact_slope[c]);
        }
    }
}

/// D_i += the edges of a batch, path by path.
template <class P>
void Pipeline<P>::add_batch(const LayerPlan<Real>& layer, Worker& w, bool first, const PathEdge<Value>* edges,
                            const Edge* geometry, int count, Value* D) const {
    if (count == 0) return;
    const int C = plan_.padded;
    StageScope scope(w.counts, Stage::DensityForward);
    scope.work(count * layer.forward_work(first) * double(C),
               first ? 0 : count * double(square(layer.hidden_in + 1) * C) * sizeof(Real));
    for (const PathShape& path : layer.paths) {
        PathEdge<Value> view[batch_size];
        for (int e = 0; e < count; ++e)
            view[e] = {path.l1 == 0 ? geometry[e].Y + path.l3 * path.l3 : edges[e].M + path.coupling,
                       edges[e].R + path.radial, nullptr, first ? nullptr : edges[e].u + path.feature * C};
        Value* Dp = D + path.density * C;
        with_path_shape(path.l1, path.l3, [&]<int D1, int D3>() {
            // Wider features leave fewer registers for edges.
            constexpr int together = P::dual ? 1 : D1 <= 3 ? batch_size : 2;
            int e = 0;
            if (first) {
                for (; e + batch_size <= count; e += batch_size)
                    path_forward<P, 1, D3, false, batch_size>(blocks(), C, view + e, Dp);
                for (; e < count; ++e) path_forward<P, 1, D3, false, 1>(blocks(), C, view + e, Dp);
            } else {
                for (; e + together <= count; e += together)
                    path_forward<P, D1, D3, true, together>(blocks(), C, view + e, Dp);
                for (; e < count; ++e) path_forward<P, D1, D3, true, 1>(blocks(), C, view + e, Dp);
            }
        });
    }
}

}  // namespace equipot::kernels

#include "kokkos_kernels/pipeline_gradient.hpp"
#include "kokkos_kernels/pipeline_setup.hpp"
