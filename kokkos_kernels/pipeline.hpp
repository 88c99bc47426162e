// Pipeline: the evaluator over a pack type P. Read forward_tile and backward_tile side by side: the second walks the
// first in reverse.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>
#include <span>

#include "kokkos_kernels/edges.hpp"
#include "kokkos_kernels/evaluator.hpp"
#include "kokkos_kernels/mixing.hpp"
#include "kokkos_kernels/parameter_gradient.hpp"
#include "kokkos_kernels/plan.hpp"
#include "kokkos_kernels/profile.hpp"
#include "kokkos_kernels/scatter.hpp"
#include "kokkos_kernels/scratch.hpp"
#include "kokkos_kernels/subnormals.hpp"

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

    /// Bytes that grow with the number of atoms.
    [[nodiscard]] double memory_usage() const;

    void compute(const Graph& graph, const std::vector<std::int32_t>& species, Exchange& exchange,
                 const Properties& what, Result& result);

    /// Over dual lanes: sets flat[layout.size] to d/dε of the adjoint of every weight; see GradientSeed.
    void gradient(const Graph& graph, const std::vector<std::int32_t>& species, const GradientSeed& seed,
                  const GradientLayout& layout, std::vector<Real>& flat);

private:
    static constexpr int tile_size = 8;
    static constexpr int batch_size = P::width < 4 ? P::width : 4;  // edges that share the loads and stores of D
    static constexpr int product_atoms = P::dual ? 1 : 2;           // that go through the product together
    static constexpr std::size_t most_kept = 19700;  // bytes of an atom between layers: 20 kB with its results

    struct Tile {
        std::int32_t first, count, species;  // atoms order_[first .. first + count)
    };

    /// What one thread works with.
    struct Worker {
        std::vector<Tile> tiles;
        EdgeList<P> edges;       // of one atom
        Scratch<Value> Y, M;     // of a pack of edges
        Scratch<int> table_row;  // likewise
        Scratch<Real> weights;
        Scratch<Value> R, dR;              // of a batch of edges and one path; over dual lanes, of one edge
        Scratch<Value> exact_R, exact_dR;  // of a batch of edges without table
        Scratch<Value> lanes, sums;  // Ȳ, M̄, r̄: of a batch before, of a pack of edges after their sums over lanes
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
        Buffer<Value> A;        // [owned, (l_max+1)², padded]; of all layers but the last, or none
        Buffer<Value> h, D;     // over dual lanes: features that leave, density; not in the last layer
        std::vector<Scalar> one_over;  // [owned] 1/(1 + ρ)
    };

    /// Over dual lanes edges go one by one.
    struct Edge {
        Scalar r, x[3];  // |r_ij| and r̂
        Value Y[most_harmonics];
    };

    /// A few edges that go through the radial and density stages together.
    struct Batch {
        int count;
        int zj[batch_size];
        bool tabulated[batch_size];
        SplineWeights<Real> weights[batch_size];
        const Real* u[batch_size];
    };

    [[nodiscard]] std::size_t kept_bytes() const;
    void resize(const Graph& graph, const Properties& what, Result& result);
    void make_tiles(const Graph& graph, const std::vector<std::int32_t>& species);
    std::array<Scalar, tile_size> density_tile(int t, Worker& w, const Tile& tile);
    void forward_tile(int t, Worker& w, const Tile& tile, const Properties& what, Result& result);
    void backward_tile(int t, Worker& w, const Tile& tile, const Properties& what, Result& result);
    void backward_edges(int t, Worker& w, std::int64_t i, int species, const Value* Dbar, Scalar rho_bar,
                        const Properties& what, Result& result);
    void add_edges(int t, Worker& w, std::int64_t i, int zi, Value* D, Scalar& rho, Scalar& pair);
    void pack_geometry(const LayerPlan<Real>& layer, Worker& w, int at) const;
    void start_batch(int t, Worker& w, int zi, int at, int count, Batch& batch) const;
    template <class OnBatch, class AfterPack>
    void for_batches(int t, Worker& w, std::int64_t i, int zi, const OnBatch& on_batch, const AfterPack& after_pack);
    template <bool Derivative>
    void batch_radial(const LayerPlan<Real>& layer, Worker& w, const Batch& batch, int first, int packs) const;
    void add_force(Worker& w, int place, bool first, std::int64_t i, int zi, const double* slope,
                   const Properties& what, Result& result) const;
    void add_dual_edges(int t, Worker& w, std::int64_t i, int zi, Value* D, Scalar& rho, Scalar& pair);
    void gradient_edges(int t, Worker& w, std::int64_t i, int species, const Value* Dbar, Scalar rho_bar);
    void gradient_features(int t, Worker& w, const Tile& tile);
    bool dual_geometry(std::int64_t e, Edge& edge) const;
    template <class F>
    void for_dual_edges(int t, Worker& w, std::int64_t i, int zi, bool radial, const F& f) const;
    void mix_rows(bool add, Worker& w, int rows, Rows<const Value> in, const Buffer<Real>& W, Rows<Value> out) const;
    static void collect(const std::vector<Worker>& workers, double seconds_per_tick, Result& result);
    void reduce_foreign_ubar(int t);
    void reduce_foreign(int width, double* rows, const std::vector<double> Worker::*foreign);
    void save_features(int t, const Worker& w, const Tile& tile, Result& result) const;

    /// Where this thread adds the adjoint of the features that edge e reads.
    Value* ubar_of(const LayerState& state, Worker& w, std::int64_t e, std::ptrdiff_t u_row) const {
        const std::int32_t slot = scatter_.slot(e);
        return slot >= 0 ? state.ubar.data() + slot * u_row
                         : w.foreign_ubar.data() - (static_cast<std::ptrdiff_t>(slot) + 1) * u_row;
    }

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
            label, Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace, Kokkos::Schedule<Kokkos::Static>>(0, n),
            [&](int chunk) {
                [[maybe_unused]] const FlushSubnormals guard;
                f(chunk);
            });
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
    bool keeps_density_ = true;  // A for the way back; else it is worked out again there
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

/// Layer t for one tile: from neighbours' u to A, in the worker; 1/(1 + ρ) stays behind. Returns the pair energies.
template <class P>
auto Pipeline<P>::density_tile(int t, Worker& w, const Tile& tile) -> std::array<Scalar, tile_size> {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    LayerState& state = states_[static_cast<std::size_t>(t)];
    const int C = plan_.padded, density_rows = layer.density_rows, a_rows = square(plan_.l_max + 1);
    const std::int32_t* atoms = order_.data() + tile.first;
    std::array<Scalar, tile_size> pairs{};

    // Density. Where mixing is folded into the radial functions, D is A.
    Value* D = layer.folded ? w.A.data() : w.D.data();
    for (int a = 0; a < tile.count; ++a) {
        const std::int64_t i = atoms[a];
        Value* Di = D + static_cast<std::ptrdiff_t>(a) * density_rows * C;
        std::fill(Di, Di + density_rows * C, Value(0));
        Scalar rho(0), &pair = pairs[static_cast<std::size_t>(a)];
        if constexpr (P::dual)
            add_dual_edges(t, w, i, tile.species, Di, rho, pair);
        else
            add_edges(t, w, i, tile.species, Di, rho, pair);
        state.one_over[static_cast<std::size_t>(i)] = Scalar(1) / (Scalar(1) + rho);
    }

    // Mixing: A = D mix / (1 + ρ).
    if (!layer.folded) {
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
    return pairs;
}

/// Layer t for one tile: from neighbours' u to h, ε, and what the next layer needs.
template <class P>
void Pipeline<P>::forward_tile(int t, Worker& w, const Tile& tile, const Properties& what, Result& result) {
    const LayerPlan<Real>& layer = plan_.layers[static_cast<std::size_t>(t)];
    LayerState& state = states_[static_cast<std::size_t>(t)];
    const bool first = t == 0, last = static_cast<std::size_t>(t) + 1 == plan_.layers.size();
    const int C = plan_.padded, density_rows = layer.density_rows, a_rows = square(plan_.l_max + 1),
              b_rows = square(layer.hidden_out + 1);
    const std::ptrdiff_t a_stride = a_rows * C, b_stride = b_rows * C;
    const std::int32_t* atoms = order_.data() + tile.first;

    const std::array<Scalar, tile_size> pairs = density_tile(t, w, tile);
    for (int a = 0; a < tile.count; ++a) {
        const Scalar pair = pairs[static_cast<std::size_t>(a)];
        if constexpr (P::dual)
            w.gradient[layout_->scale] += static_cast<Real>((energy_bar(atoms[a]) * pair).du);
        else
            result.energies[static_cast<std::size_t>(atoms[a])] += pair;
    }

    // Product, then h = out B + skip.
    const ProductProgram program = layer.product.program();
    const Real* coefficients = layer.product_coefficients[static_cast<std::size_t>(tile.species)].data();
    {
        StageScope scope(w.counts, Stage::ProductForward);
        scope.work((program.node_count + program.term_count + program.group_count) * double(C) * tile.count,
                   program.term_count * double(C) * sizeof(Real));
        P* scratch = reinterpret_cast<P*>(w.products.data());
        int a = 0;
        for (; a + product_atoms <= tile.count; a += product_atoms)
            product_forward_atoms<P, product_atoms>(program, coefficients, C, w.A.data() + a * a_stride, a_stride,
                                                    w.B.data() + a * b_stride, b_stride, scratch);
        for (; a < tile.count; ++a)
            product_forward_atoms<P, 1>(program, coefficients, C, w.A.data() + a * a_stride, a_stride,
                                        w.B.data() + a * b_stride, b_stride, scratch);
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

    // What stays behind: u and the skip term for the next layer; A for the way back.
    const LayerPlan<Real>& next = plan_.layers[static_cast<std::size_t>(t) + 1];
    LayerState& next_state = states_[static_cast<std::size_t>(t) + 1];
    const int skip_rows = square(next.hidden_out + 1);
    for (int a = 0; a < tile.count; ++a) {
        const std::ptrdiff_t atom = atoms[a];
        if (keeps_density_) std::copy_n(w.A.data() + a * a_stride, a_stride, state.A.data() + atom * a_stride);
        if constexpr (P::dual) {
            std::copy_n(w.h.data() + a * b_rows * C, b_rows * C, state.h.data() + atom * b_rows * C);
            if (!layer.folded)
                std::copy_n(w.D.data() + a * density_rows * C, density_rows * C,
                            state.D.data() + atom * density_rows * C);
        }
    }
    for (int L = 0; L <= layer.hidden_out; ++L) {
        const int m = 2 * L + 1, row = L * L * C;
        const Rows<const Value> in{w.h.data() + row, m, b_stride};
        mix_rows(false, w, tile.count * m, in, next.up[static_cast<std::size_t>(L)].forward,
                 {w.B.data() + row, m, b_stride});
        if (next.skip && L <= next.hidden_out)
            mix_rows(false, w, tile.count * m, in,
                     next.skip_weights[static_cast<std::size_t>(tile.species)][static_cast<std::size_t>(L)].forward,
                     {w.Bbar.data() + row, m, b_stride});
    }
    for (int a = 0; a < tile.count; ++a) {
        const std::ptrdiff_t atom = atoms[a];
        std::copy_n(w.B.data() + a * b_stride, b_stride, next_state.u.data() + atom * b_stride);
        if (next.skip) {
            // Where the next layer's h has more rows than ours, nothing is skipped to them.
            const int common = std::min(skip_rows, b_rows) * C;
            Value* skip = next_state.skip.data() + atom * skip_rows * C;
            std::fill(std::copy_n(w.Bbar.data() + a * b_stride, common, skip), skip + skip_rows * C, Value(0));
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
    const std::ptrdiff_t a_stride = a_rows * C, b_stride = b_rows * C;
    const std::int32_t* atoms = order_.data() + tile.first;

    // h̄ = ū up^T + h̄_next skip^T + readout.
    if (!last) {
        if (!keeps_density_) density_tile(t, w, tile);
        const LayerPlan<Real>& next = plan_.layers[static_cast<std::size_t>(t) + 1];
        const LayerState& next_state = states_[static_cast<std::size_t>(t) + 1];
        const int skip_rows = square(next.hidden_out + 1);
        const int common = std::min(skip_rows, b_rows) * C;
        for (int a = 0; a < tile.count; ++a) {
            const std::ptrdiff_t atom = atoms[a];
            if (keeps_density_) std::copy_n(state.A.data() + atom * a_stride, a_stride, w.A.data() + a * a_stride);
            std::copy_n(next_state.ubar.data() + atom * b_stride, b_stride, w.B.data() + a * b_stride);
            if (next.skip)
                std::copy_n(next_state.skip.data() + atom * skip_rows * C, common, w.Bbar.data() + a * b_stride);
        }
        for (int L = 0; L <= layer.hidden_out; ++L) {
            const int m = 2 * L + 1, row = L * L * C;
            const Rows<Value> out{w.hbar.data() + row, m, b_stride};
            mix_rows(false, w, tile.count * m, {w.B.data() + row, m, b_stride},
                     next.up[static_cast<std::size_t>(L)].backward, out);
            if (next.skip && L <= next.hidden_out)
                mix_rows(
                    true, w, tile.count * m, {w.Bbar.data() + row, m, b_stride},
                    next.skip_weights[static_cast<std::size_t>(tile.species)][static_cast<std::size_t>(L)].backward,
                    out);
        }
        if (layer.has_readout && layer.readout.hidden == 0)
            for (int a = 0; a < tile.count; ++a) {
                Value* hbar = w.hbar.data() + a * b_stride;
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
    {
        StageScope scope(w.counts, Stage::ProductBackward);
        scope.work((3 * program.node_count + 2 * program.term_count + 2 * program.group_count) * double(C) * tile.count,
                   program.term_count * double(C) * sizeof(Real));
        P* scratch = reinterpret_cast<P*>(w.products.data());
        Real* bar = product_bar(t, w, tile.species, 0);
        int a = 0;
        for (; a + product_atoms <= tile.count; a += product_atoms)
            product_backward_atoms<P, product_atoms>(program, coefficients, C, w.A.data() + a * a_stride, a_stride,
                                                     w.Bbar.data() + a * b_stride, b_stride,
                                                     w.Abar.data() + a * a_stride, scratch, bar);
        for (; a < tile.count; ++a)
            product_backward_atoms<P, 1>(program, coefficients, C, w.A.data() + a * a_stride, a_stride,
                                         w.Bbar.data() + a * b_stride, b_stride, w.Abar.data() + a * a_stride, scratch,
                                         bar);
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
    if (!layer.folded) {
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
    const Value* Dbar = layer.folded ? w.Abar.data() : w.D.data();
    for (int a = 0; a < tile.count; ++a) {
        const Value* bar = Dbar + static_cast<std::ptrdiff_t>(a) * density_rows * C;
        if constexpr (P::dual)
            gradient_edges(t, w, atoms[a], tile.species, bar, rho_bar[static_cast<std::size_t>(a)]);
        else
            backward_edges(t, w, atoms[a], tile.species, bar, rho_bar[static_cast<std::size_t>(a)], what, result);
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

}  // namespace equipot::kernels

#include "kokkos_kernels/pipeline_edges.hpp"
#include "kokkos_kernels/pipeline_gradient.hpp"
#include "kokkos_kernels/pipeline_setup.hpp"
