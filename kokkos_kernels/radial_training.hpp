// Radial functions in training: every step makes the tables of a layer anew from its weights, and afterwards takes the
// adjoint of the tables back to the weights. Its cost depends on the number of samples, not of edges.
//   samples E of the basis -> hidden layers of the network a -> spline coefficients c = F (cut a) -> out = c W_last
//   -> table = out, in the first layer table = out u_zj (as in radial_function.hpp)
// The filter F from samples to coefficients and the envelope act on the narrow a: what follows them is linear in it.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "kokkos_kernels/dense.hpp"
#include "kokkos_kernels/parameter_gradient.hpp"
#include "kokkos_kernels/parts.hpp"
#include "kokkos_kernels/plan.hpp"

namespace equipot::kernels {

/// W: the pack of the pipeline, whose precision all of this has, too. The model's arrays and their adjoints are
/// doubles.
template <class W>
class RadialTraining {
public:
    using Real = typename W::Real;

    /// `plan` has its tables built.
    RadialTraining(const Model& model, int layer, const Plan<Real>& plan)
        : t_(static_cast<std::size_t>(layer)),
          channels_(model.channels),
          padded_(plan.padded),
          samples_(plan.grid.intervals + degree + 2 * margin),
          rows_(plan.grid.intervals + degree) {
        const LayerPlan<Real>& lp = plan.layers[t_];
        outputs_ = lp.radial->outputs();
        const int first = -(degree - 1) / 2 - margin;
        std::map<int, std::size_t> known;
        for (std::size_t table = 0; table < lp.table_pairs.size(); ++table) {
            const auto [zi, zj] = lp.table_pairs[table];
            const auto [entry, is_new] = known.emplace(lp.radial->basis_key(zi, zj), groups_.size());
            if (is_new) {
                Group group;
                group.basis.resize(static_cast<std::size_t>(samples_ * model.radial.size));
                group.cut.resize(static_cast<std::size_t>(samples_));
                RadialScratch scratch;
                std::vector<double> values(static_cast<std::size_t>(model.radial.size));
                for (int s = 0; s < samples_; ++s) {
                    double cut = 0;
                    lp.radial->basis_values(zi, zj, plan.grid.distance(first + s), values.data(), cut, scratch);
                    std::transform(values.begin(), values.end(), row(group.basis, s, model.radial.size), narrow);
                    group.cut[static_cast<std::size_t>(s)] = model.radial.envelope_on_basis ? Real(1) : narrow(cut);
                }
                groups_.push_back(std::move(group));
            }
            groups_[entry->second].tables.push_back(table);
        }
    }

    /// Fills the tables of the plan from the weights of the model.
    void forward(const Model& model, Plan<Real>& plan) {
        const Layer& layer = model.layers[t_];
        LayerPlan<Real>& lp = plan.layers[t_];
        const int K = channels_, paths = lp.radial->rows();
        network_ = Weights(layer.radial);
        density_ = Weights(layer.density_net);
        if (t_ == 0) {
            const auto nz = static_cast<int>(model.species.size());
            const Weights folded({model.embedding, layer.up[0]});
            sender_.assign(static_cast<std::size_t>(nz * K), Real(0));
            add_product<W>(nz, K, K, folded[0], folded[1], {sender_.data(), K});
        }
        for (Group& group : groups_) {
            hidden_forward(network_, group, group.network);
            const int n = network_.height.back();
            group.coefficients = coefficients(group, last_hidden(group, group.network), n);
            group.out.assign(static_cast<std::size_t>(rows_ * paths * K), Real(0));
            for_each(paths, [&](int p) {
                const Matrix<Real> out{group.out.data() + p * K, paths * K};
                add_product<W>(rows_, n, K, {group.coefficients.data(), n}, network_.last(p * K), out);
                for (const std::size_t index : group.tables) {
                    std::vector<Real> table(static_cast<std::size_t>(rows_ * K));
                    const Real* u = t_ == 0 ? sender_of(lp.table_pairs[index].second) : nullptr;
                    for (int s = 0; s < rows_; ++s)
                        for (int k = 0; k < K; ++k)
                            table[static_cast<std::size_t>(s * K + k)] =
                                out.data[s * out.stride + k] * (u != nullptr ? u[k] : Real(1));
                    detail::store_columns(table.data(), rows_, K, lp.table_rows[index].data() + p * padded_, outputs_);
                }
            });
            if (lp.density) density_forward(lp, group);
        }
    }

    /// The adjoint of the last forward: from the adjoints of the tables (in `flat`) to those of the model's arrays.
    void backward(const Model& model, const Plan<Real>& plan, const GradientLayout& layout, const Real* flat,
                  Model& gradient) {
        const Layer& layer = model.layers[t_];
        const LayerPlan<Real>& lp = plan.layers[t_];
        Layer& bar = gradient.layers[t_];
        const int K = channels_, paths = lp.radial->rows(), n = network_.height.back();
        Weights network_bar = network_.zeros(), density_bar = density_.zeros();
        std::vector<std::vector<Real>> sender_bar(static_cast<std::size_t>(paths));
        for (Group& group : groups_) {
            std::vector<std::vector<Real>> coefficients_bar(static_cast<std::size_t>(paths));
            for_each(paths, [&](int p) {
                std::vector<Real>& own_sender = sender_bar[static_cast<std::size_t>(p)];
                own_sender.resize(sender_.size(), Real(0));
                const Matrix<Real> out{group.out.data() + p * K, paths * K};
                std::vector<Real> out_bar(static_cast<std::size_t>(rows_ * K), Real(0));
                for (const std::size_t index : group.tables) {
                    const Real* from = flat + layout.layers[t_].tables[index] + p * padded_;
                    const int zj = lp.table_pairs[index].second;
                    const Real* u = t_ == 0 ? sender_of(zj) : nullptr;
                    Real* u_bar = t_ == 0 ? own_sender.data() + static_cast<std::ptrdiff_t>(zj) * K : nullptr;
                    for (int s = 0; s < rows_; ++s)
                        for (int k = 0; k < K; ++k) {
                            const Real table_bar = from[static_cast<std::ptrdiff_t>(s) * outputs_ + k];
                            out_bar[static_cast<std::size_t>(s * K + k)] += u != nullptr ? table_bar * u[k] : table_bar;
                            if (u != nullptr) u_bar[k] += table_bar * out.data[s * out.stride + k];
                        }
                }
                add_transposed_product<W>(rows_, n, K, {group.coefficients.data(), n}, {out_bar.data(), K},
                                          network_bar.last(p * K));
                std::vector<Real>& own = coefficients_bar[static_cast<std::size_t>(p)];
                own.assign(static_cast<std::size_t>(rows_ * n), Real(0));
                add_product_transposed<W>(rows_, K, n, {out_bar.data(), K}, network_.last(p * K), {own.data(), n});
            });
            hidden_backward(network_, group, group.network, samples_bar(group, sum(coefficients_bar), n), network_bar);
            if (lp.density) density_backward(lp, layout, flat, group, density_bar);
        }
        network_bar.add_to(bar.radial);
        density_bar.add_to(bar.density_net);
        if (t_ > 0) return;
        // sender = embedding · up.0
        const std::vector<Real> total = sum(sender_bar);
        const auto nz = static_cast<int>(model.species.size());
        const Weights folded({model.embedding, layer.up[0]});
        Weights folded_bar = folded.zeros();
        add_transposed_product<W>(nz, K, K, folded[0], {total.data(), K}, folded_bar[1]);
        add_product_transposed<W>(nz, K, K, {total.data(), K}, folded[1], folded_bar[0]);
        folded_bar.add_to(0, gradient.embedding);
        folded_bar.add_to(1, bar.up[0]);
    }

private:
    static constexpr int degree = spline_degree<Real>, margin = detail::spline_margin<degree>;

    static Real narrow(double x) { return static_cast<Real>(x); }

    /// Matrices of weights, or their adjoints, in the precision of the work.
    struct Weights {
        std::vector<std::vector<Real>> data;
        std::vector<int> height, width;

        Weights() = default;
        explicit Weights(const std::vector<Array>& arrays) {
            for (const Array& array : arrays) {
                data.emplace_back(array.data.size());
                std::transform(array.data.begin(), array.data.end(), data.back().begin(), narrow);
                height.push_back(static_cast<int>(array.shape[0]));
                width.push_back(static_cast<int>(array.shape[1]));
            }
        }
        [[nodiscard]] Weights zeros() const {
            Weights same = *this;
            for (std::vector<Real>& numbers : same.data) std::fill(numbers.begin(), numbers.end(), Real(0));
            return same;
        }
        Matrix<const Real> operator[](std::size_t i) const { return {data[i].data(), width[i]}; }
        Matrix<Real> operator[](std::size_t i) { return {data[i].data(), width[i]}; }
        /// The last one from a column on.
        [[nodiscard]] Matrix<const Real> last(int column) const { return {data.back().data() + column, width.back()}; }
        Matrix<Real> last(int column) { return {data.back().data() + column, width.back()}; }
        void add_to(std::size_t i, Array& array) const {
            for (std::size_t c = 0; c < data[i].size(); ++c) array.data[c] += static_cast<double>(data[i][c]);
        }
        void add_to(std::vector<Array>& arrays) const {
            for (std::size_t i = 0; i < data.size(); ++i) add_to(i, arrays[i]);
        }
    };

    static constexpr int block = 32;  // samples that go through the hidden layers together

    /// What the hidden layers of a network keep for their adjoint: [hidden layer][samples, width], z = y sigmoid(y).
    struct Hidden {
        std::vector<std::vector<Real>> y, sigmoid, z, ybar;
    };

    /// Samples of one basis: a pair of species where distances are transformed by them, else all pairs.
    struct Group {
        std::vector<Real> basis, cut;     // [samples, size], [samples], cut = 1 where it is on the basis
        std::vector<std::size_t> tables;  // of the plan
        Hidden network, density;
        std::vector<Real> coefficients;  // [rows, width of the last hidden layer]
        std::vector<Real> out;           // [rows, paths, K]
        std::vector<Real> density_out;   // [samples] before tanh
    };

    template <class F>
    static void for_each(int count, const F& f) {
        for_parts("equipot::radial", count, f);
    }

    static std::vector<Real> sum(const std::vector<std::vector<Real>>& parts) {
        std::vector<Real> total = parts[0];
        for (std::size_t i = 1; i < parts.size(); ++i)
            for (std::size_t c = 0; c < total.size(); ++c) total[c] += parts[i][c];
        return total;
    }

    [[nodiscard]] const Real* sender_of(int zj) const {
        return sender_.data() + static_cast<std::ptrdiff_t>(zj) * channels_;
    }

    static const std::vector<Real>& last_hidden(const Group& group, const Hidden& hidden) {
        return hidden.z.empty() ? group.basis : hidden.z.back();
    }

    /// Row `sample` of an array [samples, width].
    template <class Numbers>
    static auto* row(Numbers& numbers, int sample, int width) {
        return numbers.data() + static_cast<std::ptrdiff_t>(sample) * width;
    }

    /// Calls f(first sample, number of samples) for blocks of them.
    template <class F>
    void for_blocks(const F& f) const {
        for_each((samples_ + block - 1) / block, [&](int b) { f(b * block, std::min(block, samples_ - b * block)); });
    }

    void hidden_forward(const Weights& weights, const Group& group, Hidden& hidden) const {
        const std::size_t layers = weights.data.size() - 1;
        for (auto* arrays : {&hidden.y, &hidden.sigmoid, &hidden.z, &hidden.ybar}) {
            arrays->resize(layers);
            for (std::size_t i = 0; i < layers; ++i)
                (*arrays)[i].resize(static_cast<std::size_t>(samples_ * weights.width[i]));
        }
        for_blocks([&](int first, int count) {
            const Real* x = row(group.basis, first, weights.height[0]);
            for (std::size_t i = 0; i < layers; ++i) {
                const int n = weights.height[i], m = weights.width[i];
                Real *y = row(hidden.y[i], first, m), *sigmoid = row(hidden.sigmoid[i], first, m),
                     *z = row(hidden.z[i], first, m);
                std::fill_n(y, count * m, Real(0));
                add_product<W>(count, n, m, {x, n}, weights[i], {y, m});
                for (int c = 0; c < count * m; ++c) {
                    sigmoid[c] = 1 / (1 + std::exp(-y[c]));
                    z[c] = y[c] * sigmoid[c];
                }
                x = z;
            }
        });
    }

    /// From the adjoint of the last hidden layer to those of the hidden weights.
    void hidden_backward(const Weights& weights, const Group& group, Hidden& hidden, const std::vector<Real>& bar,
                         Weights& gradient) const {
        const std::size_t layers = weights.data.size() - 1;
        if (layers == 0) return;
        std::copy(bar.begin(), bar.end(), hidden.ybar.back().begin());
        for_blocks([&](int first, int count) {
            for (std::size_t i = layers; i-- > 0;) {
                const int n = weights.height[i], m = weights.width[i];
                const Real *y = row(hidden.y[i], first, m), *sigmoid = row(hidden.sigmoid[i], first, m);
                Real* ybar = row(hidden.ybar[i], first, m);
                for (int c = 0; c < count * m; ++c) ybar[c] *= sigmoid[c] * (1 + y[c] * (1 - sigmoid[c]));
                if (i == 0) return;
                Real* below = row(hidden.ybar[i - 1], first, n);
                std::fill_n(below, count * n, Real(0));
                add_product_transposed<W>(count, m, n, {ybar, m}, weights[i], {below, n});
            }
        });
        for_each(static_cast<int>(layers), [&](int index) {
            const auto i = static_cast<std::size_t>(index);
            const int n = weights.height[i], m = weights.width[i];
            const std::vector<Real>& x = i == 0 ? group.basis : hidden.z[i - 1];
            add_transposed_product<W>(samples_, n, m, {x.data(), n}, {hidden.ybar[i].data(), m}, gradient[i]);
        });
    }

    /// Spline coefficients of the samples a, times the envelope where it is on the weights.
    std::vector<Real> coefficients(const Group& group, const std::vector<Real>& a, int n) const {
        std::vector<Real> cut(a);
        for (int s = 0; s < samples_; ++s)
            for (int c = 0; c < n; ++c)
                cut[static_cast<std::size_t>(s * n + c)] *= group.cut[static_cast<std::size_t>(s)];
        return detail::spline_coefficients<degree>(cut, static_cast<std::size_t>(n));
    }

    /// Its adjoint.
    std::vector<Real> samples_bar(const Group& group, const std::vector<Real>& bar, int n) const {
        std::vector<Real> a = detail::spline_coefficients_adjoint<degree>(bar, static_cast<std::size_t>(n));
        for (int s = 0; s < samples_; ++s)
            for (int c = 0; c < n; ++c)
                a[static_cast<std::size_t>(s * n + c)] *= group.cut[static_cast<std::size_t>(s)];
        return a;
    }

    /// The density term, tanh(f²) with f the only output of its network: one column of every table.
    void density_forward(LayerPlan<Real>& lp, Group& group) const {
        hidden_forward(density_, group, group.density);
        const int n = density_.height.back();
        group.density_out.assign(static_cast<std::size_t>(samples_), Real(0));
        add_product<W>(samples_, n, 1, {last_hidden(group, group.density).data(), n}, density_.last(0),
                       {group.density_out.data(), 1});
        std::vector<Real> values(group.density_out);
        for (Real& f : values) f = std::tanh(f * f);
        const std::vector<Real> column = coefficients(group, values, 1);
        for (const std::size_t index : group.tables)
            detail::store_columns(column.data(), rows_, 1, lp.table_rows[index].data() + lp.radial->rows() * padded_,
                                  outputs_);
    }

    void density_backward(const LayerPlan<Real>& lp, const GradientLayout& layout, const Real* flat, Group& group,
                          Weights& gradient) const {
        const int n = density_.height.back();
        std::vector<Real> column_bar(static_cast<std::size_t>(rows_), Real(0));
        for (const std::size_t index : group.tables) {
            const Real* from = flat + layout.layers[t_].tables[index] + lp.radial->rows() * padded_;
            for (int s = 0; s < rows_; ++s)
                column_bar[static_cast<std::size_t>(s)] += from[static_cast<std::ptrdiff_t>(s) * outputs_];
        }
        std::vector<Real> bar = samples_bar(group, column_bar, 1);
        for (std::size_t s = 0; s < bar.size(); ++s) {
            const Real f = group.density_out[s], t = std::tanh(f * f);
            bar[s] *= (1 - t * t) * 2 * f;
        }
        add_transposed_product<W>(samples_, n, 1, {last_hidden(group, group.density).data(), n}, {bar.data(), 1},
                                  gradient.last(0));
        std::vector<Real> below(static_cast<std::size_t>(samples_ * n), Real(0));
        add_product_transposed<W>(samples_, 1, n, {bar.data(), 1}, density_.last(0), {below.data(), n});
        hidden_backward(density_, group, group.density, below, gradient);
    }

    std::size_t t_;
    int channels_, padded_, samples_, rows_, outputs_ = 0;
    std::vector<Group> groups_;
    Weights network_, density_;  // of the last forward
    std::vector<Real> sender_;   // [species, K] u of the first layer
};

}  // namespace equipot::kernels
