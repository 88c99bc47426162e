// Plan: a model made ready for one head, one set of species, one working precision and one pack width: padded weights
// and their transposes, radial tables, the evaluation order of the product. Built at load; stages only see raw pointers
// into it.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "equivariance/clebsch_gordan.hpp"
#include "kokkos_kernels/density.hpp"
#include "kokkos_kernels/mixing.hpp"
#include "kokkos_kernels/pair.hpp"
#include "kokkos_kernels/parts.hpp"
#include "kokkos_kernels/product.hpp"
#include "kokkos_kernels/product_program.hpp"
#include "kokkos_kernels/radial.hpp"
#include "kokkos_kernels/radial_function.hpp"
#include "kokkos_kernels/readout.hpp"
#include "model/model.hpp"

namespace equipot::kernels {

template <class T>
using Buffer = Kokkos::View<T*, Kokkos::HostSpace>;

template <class T>
Buffer<T> make_buffer(const char* label, std::size_t size) {
    return Buffer<T>(label, size);
}

/// Runs work that is independent of one another, each part by the next thread that is free.
inline void run_parts(const std::vector<std::function<void()>>& parts) {
    for_parts("equipot::weights", parts.size(), [&](std::size_t part) { parts[part](); });
}

/// Square weights [padded, padded] with zero padding, as mixing wants them, and the transpose for the adjoint.
template <class Real>
struct MixWeights {
    Buffer<Real> forward, backward;

    MixWeights() = default;
    explicit MixWeights(int padded)
        : forward("mix", mix_size<Real>(padded)), backward("mixT", mix_size<Real>(padded)) {}

    /// Takes W [channels, channels].
    void set(const double* W, int channels, int padded) {
        for (int i = 0; i < channels; ++i)
            for (int j = 0; j < channels; ++j) {
                forward(static_cast<std::size_t>(mix_index<Real>(padded, i, j))) =
                    static_cast<Real>(W[i * channels + j]);
                backward(static_cast<std::size_t>(mix_index<Real>(padded, j, i))) =
                    static_cast<Real>(W[i * channels + j]);
            }
    }
};

/// Owns a Coupling.
template <class Real>
struct SparseRows {
    std::vector<int> first;
    std::vector<typename Coupling<Real>::Term> terms;

    struct Entry {
        int row, column;
        double value;
    };
    SparseRows() = default;
    SparseRows(std::vector<Entry> entries, int rows) : first(static_cast<std::size_t>(rows) + 1, 0) {
        std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.row < b.row; });
        for (const Entry& entry : entries) {
            ++first[static_cast<std::size_t>(entry.row) + 1];
            terms.push_back({entry.column, static_cast<Real>(entry.value)});
        }
        for (std::size_t row = 1; row < first.size(); ++row) first[row] += first[row - 1];
    }
    [[nodiscard]] Coupling<Real> view() const {
        return {first.data(), terms.data(), static_cast<int>(first.size()) - 1};
    }
};

template <class Real>
struct LayerPlan {
    int hidden_in = 0, hidden_out = 0;
    int density_rows = 0, coupling_size = 0;
    bool density = false, skip = false, has_readout = false;
    bool folded = false;  // the mixing of this layer is part of its radial functions
    std::vector<PathShape> paths;
    SparseRows<Real> coupling, coupling_transposed;  // all paths; paths with l1 = 0 read Y itself

    std::unique_ptr<RadialFunction> radial;
    std::vector<Buffer<Real>> table_rows;
    std::vector<int> table_of;                     // [active, active] -> index into table_rows
    std::vector<std::pair<int, int>> table_pairs;  // [tables] species (of the model) that the table is for

    std::vector<std::vector<std::vector<MixWeights<Real>>>>
        mix;                            // [species or 1][l][path into l]; empty where it is folded
    std::vector<MixWeights<Real>> up;   // [l] applied to the features that enter (not in the first layer)
    std::vector<MixWeights<Real>> out;  // [L]
    std::vector<std::vector<MixWeights<Real>>> skip_weights;  // [species][L] (not in the first layer)

    ProductTables product;
    std::vector<Buffer<Real>> product_coefficients;  // [species], [blocks][terms][width]

    Buffer<double> readout_w, readout_v;
    ReadoutWeights readout{};
    std::vector<double> first_skip;  // first layer: [active, K] skip of the embedding (L = 0)
};

/// Where the tables start: closer than any bond; shorter distances use the exact functions.
constexpr double table_low = 0.5;

template <class Real>
struct Plan {
    int channels = 0, padded = 0, l_max = 0, width = 0;
    double cutoff = 0, scale = 0;
    RadialGrid grid{};                // of the radial tables; no intervals: exact radial
    std::vector<int> active;          // model species index of each active species
    std::vector<double> base_energy;  // [active] E0 + shift
    std::vector<LayerPlan<Real>> layers;
    bool has_zbl = false;
    ZblConstants zbl{};
    std::vector<ZblPair> zbl_pairs;  // [active, active]

    [[nodiscard]] RadialTable<Real> table(const LayerPlan<Real>& layer, int ai, int aj) const {
        const auto n = active.size();
        const int index = layer.table_of[static_cast<std::size_t>(ai) * n + static_cast<std::size_t>(aj)];
        return {layer.table_rows[static_cast<std::size_t>(index)].data(), grid, layer.radial->outputs()};
    }

    [[nodiscard]] const ZblPair& zbl_pair(int ai, int aj) const {
        return zbl_pairs[static_cast<std::size_t>(ai) * active.size() + static_cast<std::size_t>(aj)];
    }

    /// Takes the weights of a head; may be called again when they have changed.
    void set_weights(const Model& model, int head);

    /// (Re)samples every table with `n` intervals, on all threads.
    void build_tables(int n);

    [[nodiscard]] double table_bytes() const;

    /// As many intervals as fit 512 MB of tables, which many species at once would need.
    [[nodiscard]] int most_intervals() const;
};

namespace detail {

/// Coefficients of the uniform B-spline of odd degree that interpolates `samples` [count + 2 margin][outputs] at the
/// knots: a local rule q that reproduces polynomials of that degree, then one correction c += q (f - B c) of what it
/// leaves. Local, so the ends need no conditions, only `spline_margin` samples beyond them.
template <int Degree>
struct SplineRule;
template <>
struct SplineRule<5> {
    static constexpr int half = 2;
    static constexpr double q[5] = {13.0 / 240, -7.0 / 15, 73.0 / 40, -7.0 / 15, 13.0 / 240};
    static constexpr double b[5] = {1.0 / 120, 26.0 / 120, 66.0 / 120, 26.0 / 120, 1.0 / 120};
};
template <>
struct SplineRule<3> {
    static constexpr int half = 1;
    static constexpr double q[3] = {-1.0 / 6, 4.0 / 3, -1.0 / 6};
    static constexpr double b[3] = {1.0 / 6, 4.0 / 6, 1.0 / 6};
};

template <int Degree>
constexpr int spline_margin = 3 * SplineRule<Degree>::half;

template <int Degree, class Number>
std::vector<Number> spline_coefficients(const std::vector<Number>& samples, std::size_t outputs) {
    constexpr std::size_t half = SplineRule<Degree>::half;
    const auto filter = [&](const std::vector<Number>& x, const double* taps) {
        const std::size_t count = x.size() / outputs - 2 * half;
        std::vector<Number> y(count * outputs, Number(0));
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t k = 0; k <= 2 * half; ++k) {
                const auto tap = static_cast<Number>(taps[k]);
                for (std::size_t c = 0; c < outputs; ++c) y[i * outputs + c] += tap * x[(i + k) * outputs + c];
            }
        return y;
    };
    const std::vector<Number> rough = filter(samples, SplineRule<Degree>::q);
    std::vector<Number> residual = filter(rough, SplineRule<Degree>::b);
    for (std::size_t i = 0; i < residual.size(); ++i) residual[i] = samples[i + 2 * half * outputs] - residual[i];
    std::vector<Number> coefficients = filter(residual, SplineRule<Degree>::q);
    for (std::size_t i = 0; i < coefficients.size(); ++i) coefficients[i] += rough[i + 2 * half * outputs];
    return coefficients;
}

/// Writes coefficients [count][columns] into columns of a table's rows, in its working precision and parts.
template <class Real, class Number>
void store_columns(const Number* coefficients, int count, int columns, Real* rows, int outputs) {
    constexpr int parts = table_parts<Real>;
    for (int i = 0; i < count; ++i) {
        const Number* from = coefficients + static_cast<std::ptrdiff_t>(i) * columns;
        Real* row = rows + static_cast<std::ptrdiff_t>(i) * parts * outputs;
        for (int c = 0; c < columns; ++c) row[c] = static_cast<Real>(from[c]);
        if constexpr (parts == 2)
            for (int c = 0; c < columns; ++c)
                row[outputs + c] = i + 1 < count ? static_cast<Real>(from[columns + c] - from[c]) : Real(0);
    }
}

/// The adjoint of spline_coefficients: what the samples get when the coefficients have the adjoint `bar`.
template <int Degree, class Number>
std::vector<Number> spline_coefficients_adjoint(const std::vector<Number>& bar, std::size_t outputs) {
    constexpr std::size_t half = SplineRule<Degree>::half;
    // y = filter(x) is shorter than x by 2 half rows; its adjoint spreads each row over 2 half + 1.
    const auto spread = [&](const std::vector<Number>& y, const double* taps, double sign, std::vector<Number>& x) {
        for (std::size_t i = 0; i < y.size() / outputs; ++i)
            for (std::size_t k = 0; k <= 2 * half; ++k) {
                const auto tap = static_cast<Number>(sign * taps[k]);
                for (std::size_t c = 0; c < outputs; ++c) x[(i + k) * outputs + c] += tap * y[i * outputs + c];
            }
    };
    std::vector<Number> residual(bar.size() + 2 * half * outputs, Number(0));
    spread(bar, SplineRule<Degree>::q, 1, residual);
    std::vector<Number> rough(residual.size() + 2 * half * outputs, Number(0));
    for (std::size_t i = 0; i < bar.size(); ++i) rough[i + 2 * half * outputs] = bar[i];
    spread(residual, SplineRule<Degree>::b, -1, rough);
    std::vector<Number> samples(rough.size() + 2 * half * outputs, Number(0));
    for (std::size_t i = 0; i < residual.size(); ++i) samples[i + 2 * half * outputs] = residual[i];
    spread(rough, SplineRule<Degree>::q, 1, samples);
    return samples;
}

}  // namespace detail

template <class Real>
void Plan<Real>::build_tables(int n) {
    constexpr int degree = spline_degree<Real>, margin = detail::spline_margin<degree>;
    grid = {};  // until they are all there
    const RadialGrid next(table_low, cutoff, n);
    const auto count = active.size();
    for (LayerPlan<Real>& layer : layers) {
        const auto outputs = static_cast<std::size_t>(layer.radial->outputs());
        layer.table_rows.clear();
        layer.table_pairs.clear();
        layer.table_of.assign(count * count, -1);
        std::map<int, int> known;
        for (std::size_t ai = 0; ai < count; ++ai)
            for (std::size_t aj = 0; aj < count; ++aj) {
                const int zi = active[ai], zj = active[aj];
                const int key = layer.radial->table_key(zi, zj);
                const auto [entry, is_new] = known.emplace(key, static_cast<int>(layer.table_rows.size()));
                layer.table_of[ai * count + aj] = entry->second;
                if (!is_new) continue;
                layer.table_pairs.emplace_back(zi, zj);
                // Row i of the table belongs to knot i - (degree - 1)/2.
                const int first = -(degree - 1) / 2 - margin, sample_count = n + degree + 2 * margin;
                std::vector<double> samples(static_cast<std::size_t>(sample_count) * outputs);
                const RadialFunction& radial = *layer.radial;
                Kokkos::parallel_for(
                    "equipot::tables", Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, sample_count),
                    [&](int s) {
                        RadialScratch scratch;
                        radial.evaluate(zi, zj, next.distance(first + s),
                                        samples.data() + static_cast<std::size_t>(s) * outputs, nullptr, scratch);
                    });
                const std::vector<double> coefficients = detail::spline_coefficients<degree>(samples, outputs);
                Buffer<Real> rows("radial table", table_parts<Real> * coefficients.size());
                detail::store_columns(coefficients.data(), n + degree, static_cast<int>(outputs), rows.data(),
                                      static_cast<int>(outputs));
                layer.table_rows.push_back(rows);
            }
    }
    grid = next;
}

template <class Real>
double Plan<Real>::table_bytes() const {
    double bytes = 0;
    for (const LayerPlan<Real>& layer : layers)
        for (const Buffer<Real>& rows : layer.table_rows) bytes += static_cast<double>(rows.size()) * sizeof(Real);
    return bytes;
}

template <class Real>
int Plan<Real>::most_intervals() const {
    constexpr double budget = 512e6;
    double bytes = 1;
    for (const LayerPlan<Real>& layer : layers) {
        std::set<int> keys;
        for (const int zi : active)
            for (const int zj : active) keys.insert(layer.radial->table_key(zi, zj));
        bytes += static_cast<double>(keys.size()) * layer.radial->outputs() * table_parts<Real> * sizeof(Real);
    }
    return std::max(64, static_cast<int>(std::min(budget / bytes, 2000.0)));
}

/// The fewest intervals for which the samples beyond the start of a table stay at positive distances.
template <class Real>
int least_intervals(double cutoff) {
    constexpr int below = (spline_degree<Real> - 1) / 2 + detail::spline_margin<spline_degree<Real>>;
    const RadialGrid one(table_low, cutoff, 1);
    return static_cast<int>(std::ceil(below / (0.8 * one.start * one.inverse_step)));
}

/// What does not depend on the weights: shapes, couplings, the order of evaluation. `fold`: see LayerPlan::folded.
template <class Real>
Plan<Real> make_plan_structure(const Model& model, const std::vector<int>& active, int width, bool fold) {
    Plan<Real> plan;
    const int K = model.channels;
    const int Kp = (K + width - 1) / width * width;
    plan.channels = K;
    plan.padded = Kp;
    plan.width = width;
    plan.l_max = model.l_max;
    plan.cutoff = model.cutoff;
    plan.active = active;

    if (model.has_zbl) {
        plan.has_zbl = true;
        for (std::size_t i = 0; i < 4; ++i) plan.zbl.c[i] = model.zbl.c[i];
        plan.zbl.p = model.zbl.envelope;
        for (const int a : active)
            for (const int b : active) {
                const auto ia = static_cast<std::size_t>(a), ib = static_cast<std::size_t>(b);
                const double za = model.species[ia], zb = model.species[ib];
                const double length =
                    model.zbl.prefactor * 0.529 / (std::pow(za, model.zbl.exponent) + std::pow(zb, model.zbl.exponent));
                plan.zbl_pairs.push_back(
                    {14.3996 * za * zb, 1 / length, 1 / (model.zbl.radii[ia] + model.zbl.radii[ib])});
            }
    }

    for (std::size_t t = 0; t < model.layers.size(); ++t) {
        const Layer& layer = model.layers[t];
        LayerPlan<Real> lp;
        lp.hidden_in = layer.hidden_in;
        lp.hidden_out = layer.hidden_out;
        lp.density = layer.density;
        lp.skip = layer.skip;
        lp.has_readout = layer.readout != Layer::Readout::None;
        lp.folded = fold && t == 0;
        std::vector<typename SparseRows<Real>::Entry> couplings;
        for (std::size_t p = 0; p < layer.paths.size(); ++p) {
            const auto [l1, l2, l3] = layer.paths[p];
            PathShape shape{l1, l3, square(l1), lp.density_rows, lp.coupling_size, static_cast<int>(p) * Kp};
            lp.density_rows += 2 * l3 + 1;
            if (l1 > 0) {
                const std::vector<double> w3j = wigner_3j(l1, l2, l3);
                const int n1 = 2 * l1 + 1, n2 = 2 * l2 + 1, n3 = 2 * l3 + 1;
                const double norm = std::sqrt(2.0 * l3 + 1);
                for (int m1 = 0; m1 < n1; ++m1)
                    for (int m2 = 0; m2 < n2; ++m2)
                        for (int m3 = 0; m3 < n3; ++m3) {
                            const double value = w3j[static_cast<std::size_t>((m1 * n2 + m2) * n3 + m3)];
                            if (value != 0)
                                couplings.push_back({shape.coupling + m3 * n1 + m1, l2 * l2 + m2, norm * value});
                        }
                lp.coupling_size += n1 * n3;
            }
            lp.paths.push_back(shape);
        }
        lp.coupling = SparseRows<Real>(couplings, lp.coupling_size);
        for (auto& entry : couplings) std::swap(entry.row, entry.column);
        lp.coupling_transposed = SparseRows<Real>(couplings, square(model.l_max + 1));
        lp.product = ProductTables(model, static_cast<int>(t));

        const auto matrices = [&](std::size_t count) {
            std::vector<MixWeights<Real>> made;
            for (std::size_t i = 0; i < count; ++i) made.emplace_back(Kp);
            return made;
        };
        if (t > 0) lp.up = matrices(static_cast<std::size_t>(layer.hidden_in) + 1);
        lp.out = matrices(static_cast<std::size_t>(layer.hidden_out) + 1);
        if (!lp.folded)
            for (std::size_t v = 0; v < (layer.mixing_by_species ? active.size() : 1); ++v) {
                auto& by_l = lp.mix.emplace_back();
                for (const Array& mix : layer.mix)
                    by_l.push_back(matrices(static_cast<std::size_t>(mix.shape[mix.shape.size() - 2] / K)));
            }
        for (std::size_t a = 0; a < active.size(); ++a) {
            if (layer.skip && t > 0) lp.skip_weights.push_back(matrices(layer.skip_weights.size()));
            lp.product_coefficients.emplace_back("product coefficients",
                                                 lp.product.program().term_count * static_cast<std::size_t>(Kp));
        }
        plan.layers.push_back(std::move(lp));
    }
    return plan;
}

/// Fills in the weights of one head, on all threads: training does so in every step. Radial tables are separate.
template <class Real>
void Plan<Real>::set_weights(const Model& model, int head) {
    const auto nz = static_cast<int>(model.species.size());
    const int K = channels, Kp = padded;
    scale = model.scale[static_cast<std::size_t>(head)];
    base_energy.clear();
    for (const int z : active)
        base_energy.push_back(model.e0.data[static_cast<std::size_t>(head * nz + z)] +
                              model.shift[static_cast<std::size_t>(head)]);
    std::vector<std::function<void()>> parts;  // independent of one another
    const auto set = [&](MixWeights<Real>& to, const double* W) { parts.emplace_back([=, &to] { to.set(W, K, Kp); }); };
    for (std::size_t t = 0; t < layers.size(); ++t) {
        const Layer& layer = model.layers[t];
        LayerPlan<Real>& lp = layers[t];
        lp.radial = std::make_unique<RadialFunction>(model, static_cast<int>(t), Kp, width, lp.folded);

        for (std::size_t l = 0; l < lp.up.size(); ++l) set(lp.up[l], layer.up[l].data.data());
        for (std::size_t l = 0; l < lp.out.size(); ++l) set(lp.out[l], layer.out[l].data.data());
        for (std::size_t v = 0; v < lp.mix.size(); ++v)
            for (std::size_t l = 0; l < lp.mix[v].size(); ++l) {
                const double* W = layer.mix[l].data.data();
                if (layer.mixing_by_species) W += active[v] * layer.mix[l].shape[1] * K;
                for (MixWeights<Real>& into : lp.mix[v][l]) {
                    set(into, W);
                    W += K * K;
                }
            }
        lp.first_skip.assign(t == 0 && layer.skip ? active.size() * static_cast<std::size_t>(K) : 0, 0.0);
        for (std::size_t a = 0; a < active.size(); ++a) {
            const auto z = static_cast<std::size_t>(active[a]), k_size = static_cast<std::size_t>(K);
            if (layer.skip && t > 0)
                for (std::size_t l = 0; l < lp.skip_weights[a].size(); ++l)
                    set(lp.skip_weights[a][l], layer.skip_weights[l].data.data() + z * k_size * k_size);
            if (layer.skip && t == 0)
                parts.emplace_back([=, &model, &layer, &lp] {
                    for (std::size_t k = 0; k < k_size; ++k)
                        for (std::size_t c = 0; c < k_size; ++c)
                            lp.first_skip[a * k_size + c] += model.embedding.data[z * k_size + k] *
                                                             layer.skip_weights[0].data[(z * k_size + k) * k_size + c];
                });
            parts.emplace_back([=, this, &model, &lp] {
                const std::vector<double> dense =
                    lp.product.coefficients(model, static_cast<int>(t), active[a]);  // [terms][K]
                const int terms = lp.product.program().term_count;
                Buffer<Real>& packed = lp.product_coefficients[a];
                for (int term = 0; term < terms; ++term)
                    for (int k = 0; k < K; ++k)
                        packed(static_cast<std::size_t>((k / width * terms + term) * width + k % width)) =
                            static_cast<Real>(dense[static_cast<std::size_t>(term * K + k)]);
            });
        }

        if (lp.has_readout) {
            const bool mlp = layer.readout == Layer::Readout::Mlp;
            const int hidden = mlp ? static_cast<int>(layer.readout0.shape[2]) : 0;
            const int rows = mlp ? hidden : 1;
            lp.readout_w = make_buffer<double>("readout", static_cast<std::size_t>(rows * K));
            for (int n = 0; n < rows; ++n)
                for (int k = 0; k < K; ++k)
                    lp.readout_w(static_cast<std::size_t>(n * K + k)) =
                        layer.readout0.data[static_cast<std::size_t>((head * K + k) * rows + n)];
            if (mlp) {
                lp.readout_v = make_buffer<double>("readout", static_cast<std::size_t>(hidden));
                for (int n = 0; n < hidden; ++n)
                    lp.readout_v(static_cast<std::size_t>(n)) =
                        layer.readout1.data[static_cast<std::size_t>(head * hidden + n)];
            }
            lp.readout = {lp.readout_w.data(), lp.readout_v.data(), hidden, static_cast<Activation>(model.activation)};
        }
    }
    run_parts(parts);
}

/// Makes `plan` the one for these species, with tables of about `intervals`; 0 = exact radial. `fold`: the mixing of
/// the first layer becomes part of its tables, which pays where they are used for more than one step.
template <class Real>
void prepare_plan(Plan<Real>& plan, const Model& model, int head, const std::vector<int>& active, int width,
                  int intervals, bool fold = true) {
    if (active != plan.active) {
        plan = make_plan_structure<Real>(model, active, width, fold);
        try {
            plan.set_weights(model, head);
        } catch (...) {
            plan.active.clear();  // the next call is not to take it for a whole one
            throw;
        }
    }
    plan.grid = {};
    if (intervals > 0)
        plan.build_tables(std::max(least_intervals<Real>(plan.cutoff), std::min(intervals, plan.most_intervals())));
}

}  // namespace equipot::kernels
