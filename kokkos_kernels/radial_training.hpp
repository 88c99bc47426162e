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

/// W: a pack of doubles for the dense work; Real: of the plan.
template <class W, class Real>
class RadialTraining {
public:
    /// `plan` has its tables built.
    RadialTraining(const Model& model, int layer, const Plan<Real>& plan)
        : t_(static_cast<std::size_t>(layer)),
          channels_(model.channels),
          padded_(plan.padded),
          samples_(plan.intervals + degree + 2 * margin),
          rows_(plan.intervals + degree) {
        const LayerPlan<Real>& lp = plan.layers[t_];
        outputs_ = lp.radial->outputs();
        const double h = (plan.cutoff - table_low) / plan.intervals;
        const int first = -(degree - 1) / 2 - margin;
        const bool transformed = model.radial.transform != RadialBasis::Transform::None;
        std::map<std::pair<int, int>, std::size_t> known;
        for (std::size_t table = 0; table < lp.table_pairs.size(); ++table) {
            const auto [zi, zj] = lp.table_pairs[table];
            const std::pair<int, int> key =
                transformed ? std::pair{std::min(zi, zj), std::max(zi, zj)} : std::pair{0, 0};
            const auto [entry, is_new] = known.emplace(key, groups_.size());
            if (is_new) {
                Group group;
                group.basis.resize(static_cast<std::size_t>(samples_ * model.radial.size));
                group.cut.resize(static_cast<std::size_t>(samples_));
                RadialScratch scratch;
                for (int s = 0; s < samples_; ++s)
                    lp.radial->basis_values(zi, zj, table_low + (first + s) * h,
                                            group.basis.data() + static_cast<std::ptrdiff_t>(s) * model.radial.size,
                                            group.cut[static_cast<std::size_t>(s)], scratch);
                if (model.radial.envelope_on_basis) std::fill(group.cut.begin(), group.cut.end(), 1.0);
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
        if (t_ == 0) {
            const auto nz = static_cast<int>(model.species.size());
            sender_.assign(static_cast<std::size_t>(nz * K), 0.0);
            add_product<W>(nz, K, K, {model.embedding.data.data(), K}, {layer.up[0].data.data(), K},
                           {sender_.data(), K});
        }
        for (Group& group : groups_) {
            hidden_forward(layer.radial, group, group.network);
            const auto n = static_cast<int>(layer.radial.back().shape[0]);
            group.coefficients = coefficients(group, last_hidden(group, group.network), n);
            group.out.assign(static_cast<std::size_t>(rows_ * paths * K), 0.0);
            for_each(paths, [&](int p) {
                const Matrix<double> out{group.out.data() + p * K, paths * K};
                add_product<W>(rows_, n, K, {group.coefficients.data(), n},
                               {layer.radial.back().data.data() + p * K, paths * K}, out);
                for (const std::size_t index : group.tables) {
                    std::vector<double> table(static_cast<std::size_t>(rows_ * K));
                    const double* u = t_ == 0 ? sender_of(lp.table_pairs[index].second) : nullptr;
                    for (int s = 0; s < rows_; ++s)
                        for (int k = 0; k < K; ++k)
                            table[static_cast<std::size_t>(s * K + k)] =
                                out.data[s * out.stride + k] * (u != nullptr ? u[k] : 1.0);
                    detail::store_columns(table.data(), rows_, K, lp.table_rows[index].data() + p * padded_, outputs_);
                }
            });
            if (lp.density) density_forward(layer, lp, group);
        }
    }

    /// The adjoint of the last forward: from the adjoints of the tables (in `flat`) to those of the model's arrays.
    void backward(const Model& model, const Plan<Real>& plan, const GradientLayout& layout, const Real* flat,
                  Model& gradient) {
        const Layer& layer = model.layers[t_];
        const LayerPlan<Real>& lp = plan.layers[t_];
        Layer& bar = gradient.layers[t_];
        const int K = channels_, paths = lp.radial->rows();
        const auto n = static_cast<int>(layer.radial.back().shape[0]);
        std::vector<std::vector<double>> sender_bar(static_cast<std::size_t>(paths));
        for (Group& group : groups_) {
            std::vector<std::vector<double>> coefficients_bar(static_cast<std::size_t>(paths));
            for_each(paths, [&](int p) {
                std::vector<double>& own_sender = sender_bar[static_cast<std::size_t>(p)];
                own_sender.resize(sender_.size(), 0.0);
                const Matrix<double> out{group.out.data() + p * K, paths * K};
                std::vector<double> out_bar(static_cast<std::size_t>(rows_ * K), 0.0);
                for (const std::size_t index : group.tables) {
                    const Real* from = flat + layout.layers[t_].tables[index] + p * padded_;
                    const int zj = lp.table_pairs[index].second;
                    const double* u = t_ == 0 ? sender_of(zj) : nullptr;
                    double* u_bar = t_ == 0 ? own_sender.data() + static_cast<std::ptrdiff_t>(zj) * K : nullptr;
                    for (int s = 0; s < rows_; ++s)
                        for (int k = 0; k < K; ++k) {
                            const auto table_bar =
                                static_cast<double>(from[static_cast<std::ptrdiff_t>(s) * outputs_ + k]);
                            out_bar[static_cast<std::size_t>(s * K + k)] += u != nullptr ? table_bar * u[k] : table_bar;
                            if (u != nullptr) u_bar[k] += table_bar * out.data[s * out.stride + k];
                        }
                }
                add_transposed_product<W>(rows_, n, K, {group.coefficients.data(), n}, {out_bar.data(), K},
                                          {bar.radial.back().data.data() + p * K, paths * K});
                std::vector<double>& own = coefficients_bar[static_cast<std::size_t>(p)];
                own.assign(static_cast<std::size_t>(rows_ * n), 0.0);
                add_product_transposed<W>(rows_, K, n, {out_bar.data(), K},
                                          {layer.radial.back().data.data() + p * K, paths * K}, {own.data(), n});
            });
            hidden_backward(layer.radial, group, group.network, samples_bar(group, sum(coefficients_bar), n),
                            bar.radial);
            if (lp.density) density_backward(layer, lp, layout, flat, group, bar);
        }
        if (t_ > 0) return;
        // sender = embedding · up.0
        const std::vector<double> total = sum(sender_bar);
        const auto nz = static_cast<int>(model.species.size());
        add_transposed_product<W>(nz, K, K, {model.embedding.data.data(), K}, {total.data(), K},
                                  {bar.up[0].data.data(), K});
        add_product_transposed<W>(nz, K, K, {total.data(), K}, {layer.up[0].data.data(), K},
                                  {gradient.embedding.data.data(), K});
    }

private:
    static constexpr int degree = spline_degree<Real>, margin = detail::spline_margin<degree>;

    static constexpr int block = 32;  // samples that go through the hidden layers together

    /// What the hidden layers of a network keep for their adjoint: [hidden layer][samples, width], z = y sigmoid(y).
    struct Hidden {
        std::vector<std::vector<double>> y, sigmoid, z, ybar;
    };

    /// Samples of one basis: a pair of species where distances are transformed by them, else all pairs.
    struct Group {
        std::vector<double> basis, cut;   // [samples, size], [samples], cut = 1 where it is on the basis
        std::vector<std::size_t> tables;  // of the plan
        Hidden network, density;
        std::vector<double> coefficients;  // [rows, width of the last hidden layer]
        std::vector<double> out;           // [rows, paths, K]
        std::vector<double> density_out;   // [samples] before tanh
    };

    template <class F>
    static void for_each(int count, const F& f) {
        for_parts("equipot::radial", count, f);
    }

    static std::vector<double> sum(const std::vector<std::vector<double>>& parts) {
        std::vector<double> total = parts[0];
        for (std::size_t i = 1; i < parts.size(); ++i)
            for (std::size_t c = 0; c < total.size(); ++c) total[c] += parts[i][c];
        return total;
    }

    [[nodiscard]] const double* sender_of(int zj) const {
        return sender_.data() + static_cast<std::ptrdiff_t>(zj) * channels_;
    }

    static const std::vector<double>& last_hidden(const Group& group, const Hidden& hidden) {
        return hidden.z.empty() ? group.basis : hidden.z.back();
    }

    static int height(const Array& weights) { return static_cast<int>(weights.shape[0]); }
    static int width(const Array& weights) { return static_cast<int>(weights.shape[1]); }
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

    void hidden_forward(const std::vector<Array>& weights, const Group& group, Hidden& hidden) const {
        const std::size_t layers = weights.size() - 1;
        for (auto* arrays : {&hidden.y, &hidden.sigmoid, &hidden.z, &hidden.ybar}) {
            arrays->resize(layers);
            for (std::size_t i = 0; i < layers; ++i)
                (*arrays)[i].resize(static_cast<std::size_t>(samples_ * width(weights[i])));
        }
        for_blocks([&](int first, int count) {
            const double* x = row(group.basis, first, height(weights[0]));
            for (std::size_t i = 0; i < layers; ++i) {
                const int n = height(weights[i]), m = width(weights[i]);
                double *y = row(hidden.y[i], first, m), *sigmoid = row(hidden.sigmoid[i], first, m),
                       *z = row(hidden.z[i], first, m);
                std::fill_n(y, count * m, 0.0);
                add_product<W>(count, n, m, {x, n}, {weights[i].data.data(), m}, {y, m});
                for (int c = 0; c < count * m; ++c) {
                    sigmoid[c] = 1 / (1 + std::exp(-y[c]));
                    z[c] = y[c] * sigmoid[c];
                }
                x = z;
            }
        });
    }

    /// From the adjoint of the last hidden layer to those of the hidden weights.
    void hidden_backward(const std::vector<Array>& weights, const Group& group, Hidden& hidden,
                         const std::vector<double>& bar, std::vector<Array>& gradient) const {
        const std::size_t layers = weights.size() - 1;
        if (layers == 0) return;
        std::copy(bar.begin(), bar.end(), hidden.ybar.back().begin());
        for_blocks([&](int first, int count) {
            for (std::size_t i = layers; i-- > 0;) {
                const int n = height(weights[i]), m = width(weights[i]);
                const double *y = row(hidden.y[i], first, m), *sigmoid = row(hidden.sigmoid[i], first, m);
                double* ybar = row(hidden.ybar[i], first, m);
                for (int c = 0; c < count * m; ++c) ybar[c] *= sigmoid[c] * (1 + y[c] * (1 - sigmoid[c]));
                if (i == 0) return;
                double* below = row(hidden.ybar[i - 1], first, n);
                std::fill_n(below, count * n, 0.0);
                add_product_transposed<W>(count, m, n, {ybar, m}, {weights[i].data.data(), m}, {below, n});
            }
        });
        for_each(static_cast<int>(layers), [&](int index) {
            const auto i = static_cast<std::size_t>(index);
            const int n = height(weights[i]), m = width(weights[i]);
            const std::vector<double>& x = i == 0 ? group.basis : hidden.z[i - 1];
            add_transposed_product<W>(samples_, n, m, {x.data(), n}, {hidden.ybar[i].data(), m},
                                      {gradient[i].data.data(), m});
        });
    }

    /// Spline coefficients of the samples a, times the envelope where it is on the weights.
    std::vector<double> coefficients(const Group& group, const std::vector<double>& a, int n) const {
        std::vector<double> cut(a);
        for (int s = 0; s < samples_; ++s)
            for (int c = 0; c < n; ++c)
                cut[static_cast<std::size_t>(s * n + c)] *= group.cut[static_cast<std::size_t>(s)];
        return detail::spline_coefficients<degree>(cut, static_cast<std::size_t>(n));
    }

    /// Its adjoint.
    std::vector<double> samples_bar(const Group& group, const std::vector<double>& bar, int n) const {
        std::vector<double> a = detail::spline_coefficients_adjoint<degree>(bar, static_cast<std::size_t>(n));
        for (int s = 0; s < samples_; ++s)
            for (int c = 0; c < n; ++c)
                a[static_cast<std::size_t>(s * n + c)] *= group.cut[static_cast<std::size_t>(s)];
        return a;
    }

    /// The density term, tanh(f²) with f the only output of its network: one column of every table.
    void density_forward(const Layer& layer, LayerPlan<Real>& lp, Group& group) const {
        const std::vector<Array>& weights = layer.density_net;
        hidden_forward(weights, group, group.density);
        const auto n = static_cast<int>(weights.back().shape[0]);
        group.density_out.assign(static_cast<std::size_t>(samples_), 0.0);
        add_product<W>(samples_, n, 1, {last_hidden(group, group.density).data(), n}, {weights.back().data.data(), 1},
                       {group.density_out.data(), 1});
        std::vector<double> values(group.density_out);
        for (double& f : values) f = std::tanh(f * f);
        const std::vector<double> column = coefficients(group, values, 1);
        for (const std::size_t index : group.tables)
            detail::store_columns(column.data(), rows_, 1, lp.table_rows[index].data() + lp.radial->rows() * padded_,
                                  outputs_);
    }

    void density_backward(const Layer& layer, const LayerPlan<Real>& lp, const GradientLayout& layout, const Real* flat,
                          Group& group, Layer& gradient) const {
        const std::vector<Array>& weights = layer.density_net;
        const auto n = static_cast<int>(weights.back().shape[0]);
        std::vector<double> column_bar(static_cast<std::size_t>(rows_), 0.0);
        for (const std::size_t index : group.tables) {
            const Real* from = flat + layout.layers[t_].tables[index] + lp.radial->rows() * padded_;
            for (int s = 0; s < rows_; ++s)
                column_bar[static_cast<std::size_t>(s)] +=
                    static_cast<double>(from[static_cast<std::ptrdiff_t>(s) * outputs_]);
        }
        std::vector<double> bar = samples_bar(group, column_bar, 1);
        for (std::size_t s = 0; s < bar.size(); ++s) {
            const double f = group.density_out[s], t = std::tanh(f * f);
            bar[s] *= (1 - t * t) * 2 * f;
        }
        add_transposed_product<W>(samples_, n, 1, {last_hidden(group, group.density).data(), n}, {bar.data(), 1},
                                  {gradient.density_net.back().data.data(), 1});
        std::vector<double> below(static_cast<std::size_t>(samples_ * n), 0.0);
        add_product_transposed<W>(samples_, 1, n, {bar.data(), 1}, {weights.back().data.data(), 1}, {below.data(), n});
        hidden_backward(weights, group, group.density, below, gradient.density_net);
    }

    std::size_t t_;
    int channels_, padded_, samples_, rows_, outputs_ = 0;
    std::vector<Group> groups_;
    std::vector<double> sender_;  // [species, K] u of the first layer
};

}  // namespace equipot::kernels
