// Radial functions in training: every step samples the tables of a layer anew from its weights, all samples at once
// (basis E -> network -> in the first layer times sender and mixing, as in radial_function.hpp), and afterwards takes
// the adjoint of the tables back to the weights. Its cost depends on the number of samples, not of edges.
// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <vector>

#include "kokkos_kernels/dense.hpp"
#include "kokkos_kernels/parameter_gradient.hpp"
#include "kokkos_kernels/plan.hpp"

namespace equipot::kernels {

template <class W>
class RadialTraining {
public:
    using Real = typename W::Real;

    /// `plan` has its tables built.
    RadialTraining(const Model& model, int layer, const Plan<Real>& plan) : t_(static_cast<std::size_t>(layer)) {
        const LayerPlan<Real>& lp = plan.layers[t_];
        constexpr int degree = spline_degree<Real>, margin = detail::spline_margin<degree>;
        samples_ = plan.intervals + degree + 2 * margin;
        const double h = (plan.cutoff - table_low) / plan.intervals;
        const int first = -(degree - 1) / 2 - margin;
        outputs_ = lp.radial->outputs();
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
                groups_.push_back(std::move(group));
            }
            groups_[entry->second].tables.push_back(table);
        }
    }

    /// Fills the tables of the plan from the weights of the model.
    void forward(const Model& model, Plan<Real>& plan) {
        const Layer& layer = model.layers[t_];
        LayerPlan<Real>& lp = plan.layers[t_];
        const auto outputs = static_cast<std::size_t>(outputs_);
        if (t_ == 0) senders(model);
        for (Group& group : groups_) {
            std::vector<std::vector<double>> tables(
                group.tables.size(), std::vector<double>(static_cast<std::size_t>(samples_) * outputs, 0.0));
            group.network.resize(layer.radial, samples_);
            group.density.resize(layer.density_net, samples_);
            for_chunks([&](int begin, int count) {
                network_forward(layer.radial, group.basis, group.network, begin, count);
                if (layer.density) network_forward(layer.density_net, group.basis, group.density, begin, count);
                for (std::size_t i = 0; i < group.tables.size(); ++i)
                    fill(model, lp, group, lp.table_pairs[group.tables[i]], tables[i], begin, count);
            });
            for (std::size_t i = 0; i < group.tables.size(); ++i) {
                const std::vector<double> coefficients =
                    detail::spline_coefficients<spline_degree<Real>>(tables[i], outputs);
                Real* rows = lp.table_rows[group.tables[i]].data();
                for (std::size_t c = 0; c < coefficients.size(); ++c) rows[c] = static_cast<Real>(coefficients[c]);
            }
        }
    }

    /// The adjoint of the last forward: from the adjoints of the tables (in `flat`) to those of the model's arrays.
    void backward(const Model& model, const Plan<Real>& plan, const GradientLayout& layout, const Real* flat,
                  Model& gradient) {
        const Layer& layer = model.layers[t_];
        const LayerPlan<Real>& lp = plan.layers[t_];
        const auto K = static_cast<std::size_t>(model.channels);
        std::vector<double> sender_bar(sender_.size(), 0.0);
        for (Group& group : groups_) {
            group.network.clear_bars();
            group.density.clear_bars();
            for (const std::size_t table : group.tables) {
                const Real* from = flat + layout.layers[t_].tables[table];
                const std::vector<double> rows(from, from + lp.table_rows[table].extent(0));
                const std::vector<double> bar =
                    detail::spline_coefficients_adjoint<spline_degree<Real>>(rows, static_cast<std::size_t>(outputs_));
                take(model, lp, group, lp.table_pairs[table], bar, sender_bar, gradient.layers[t_]);
            }
            network_backward(layer.radial, group.basis, group.network, gradient.layers[t_].radial);
            if (layer.density)
                network_backward(layer.density_net, group.basis, group.density, gradient.layers[t_].density_net);
        }
        if (t_ > 0) return;
        // sender = embedding · up.0
        const auto nz = static_cast<int>(model.species.size()), k = static_cast<int>(K);
        add_transposed_product<W>(nz, k, k, model.embedding.data.data(), sender_bar.data(),
                                  gradient.layers[0].up[0].data.data());
        add_product_transposed<W>(nz, k, k, sender_bar.data(), layer.up[0].data.data(), gradient.embedding.data.data());
    }

private:
    /// What a network keeps for its adjoint: inputs and sigmoids of every activation, the output, and its adjoint.
    struct Activations {
        std::vector<std::vector<double>> before, after;  // [hidden layer][samples, width]
        std::vector<double> out, out_bar;                // [samples, width of the last]

        void resize(const std::vector<Array>& weights, int samples) {
            if (weights.empty()) return;
            before.resize(weights.size() - 1);
            after.resize(weights.size() - 1);
            for (std::size_t i = 0; i + 1 < weights.size(); ++i) {
                before[i].resize(static_cast<std::size_t>(samples * weights[i].shape[1]));
                after[i].resize(before[i].size());
            }
            out.resize(static_cast<std::size_t>(samples * weights.back().shape[1]));
        }
        void clear_bars() { out_bar.assign(out.size(), 0.0); }
    };

    /// Samples of one basis: a pair of species where distances are transformed by them, else all pairs.
    struct Group {
        std::vector<double> basis, cut;  // [samples, size], [samples]
        std::vector<std::size_t> tables;
        Activations network, density;
    };

    template <class F>
    void for_chunks(F f) const {
        const int chunks = std::min(samples_, std::max(1, Kokkos::DefaultHostExecutionSpace().concurrency()));
        Kokkos::parallel_for(
            "equipot::radial",
            Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace, Kokkos::Schedule<Kokkos::Static>>(0, chunks),
            [&](int chunk) {
                const int begin = samples_ * chunk / chunks, end = samples_ * (chunk + 1) / chunks;
                f(begin, end - begin);
            });
    }

    void senders(const Model& model) {
        const auto nz = static_cast<int>(model.species.size());
        sender_.assign(static_cast<std::size_t>(nz * model.channels), 0.0);
        add_product<W>(nz, model.channels, model.channels, model.embedding.data.data(),
                       model.layers[0].up[0].data.data(), sender_.data());
    }

    static void network_forward(const std::vector<Array>& weights, const std::vector<double>& basis, Activations& a,
                                int begin, int count) {
        const double* x = basis.data() + begin * weights[0].shape[0];
        for (std::size_t i = 0; i < weights.size(); ++i) {
            const auto n = static_cast<int>(weights[i].shape[0]), m = static_cast<int>(weights[i].shape[1]);
            const bool last = i + 1 == weights.size();
            double* y = (last ? a.out.data() : a.before[i].data()) + static_cast<std::ptrdiff_t>(begin) * m;
            std::fill(y, y + static_cast<std::ptrdiff_t>(count) * m, 0.0);
            add_product<W>(count, n, m, x, weights[i].data.data(), y);
            if (last) break;
            double* z = a.after[i].data() + static_cast<std::ptrdiff_t>(begin) * m;
            for (std::ptrdiff_t c = 0; c < static_cast<std::ptrdiff_t>(count) * m; ++c)
                z[c] = y[c] / (1 + std::exp(-y[c]));
            x = z;
        }
    }

    void network_backward(const std::vector<Array>& weights, const std::vector<double>& basis, Activations& a,
                          std::vector<Array>& gradient) const {
        std::vector<double> bar = a.out_bar;
        for (std::size_t i = weights.size(); i-- > 0;) {
            const auto n = static_cast<int>(weights[i].shape[0]), m = static_cast<int>(weights[i].shape[1]);
            const double* x = i == 0 ? basis.data() : a.after[i - 1].data();
            add_transposed_product<W>(samples_, n, m, x, bar.data(), gradient[i].data.data());
            if (i == 0) break;
            std::vector<double> below(static_cast<std::size_t>(samples_ * n), 0.0);
            add_product_transposed<W>(samples_, m, n, bar.data(), weights[i].data.data(), below.data());
            for (std::size_t c = 0; c < below.size(); ++c) {
                const double y = a.before[i - 1][c];
                const double sigmoid = 1 / (1 + std::exp(-y));
                below[c] *= sigmoid * (1 + y * (1 - sigmoid));
            }
            bar = std::move(below);
        }
    }

    /// mix of the first layer for one path, [K, K].
    static std::size_t mix_offset(const Model& model, int zi) {
        const auto K = static_cast<std::size_t>(model.channels);
        return model.layers[0].mixing_by_species ? static_cast<std::size_t>(zi) * K * K : 0;
    }

    /// One table's samples begin .. begin + count from the networks' outputs.
    void fill(const Model& model, const LayerPlan<Real>& lp, const Group& group, std::pair<int, int> species,
              std::vector<double>& table, int begin, int count) const {
        const int K = model.channels, Kp = padded(model, lp), paths = lp.radial->rows();
        const bool cut_weights = !model.radial.envelope_on_basis;
        std::vector<double> row(static_cast<std::size_t>(count * K)), mixed;
        for (int p = 0; p < paths; ++p) {
            for (int s = 0; s < count; ++s) {
                const double factor = cut_weights ? group.cut[static_cast<std::size_t>(begin + s)] : 1.0;
                const double* out = group.network.out.data() + (static_cast<std::ptrdiff_t>(begin + s) * paths + p) * K;
                const double* u = t_ == 0 ? sender_.data() + static_cast<std::ptrdiff_t>(species.second) * K : nullptr;
                for (int k = 0; k < K; ++k)
                    row[static_cast<std::size_t>(s * K + k)] = factor * out[k] * (u != nullptr ? u[k] : 1.0);
            }
            const std::vector<double>* result = &row;
            if (t_ == 0) {
                const Array& mix =
                    model.layers[0].mix[static_cast<std::size_t>(lp.paths[static_cast<std::size_t>(p)].l3)];
                mixed.assign(row.size(), 0.0);
                add_product<W>(count, K, K, row.data(), mix.data.data() + mix_offset(model, species.first),
                               mixed.data());
                result = &mixed;
            }
            for (int s = 0; s < count; ++s)
                std::copy_n(result->data() + static_cast<std::ptrdiff_t>(s) * K, K,
                            table.data() + static_cast<std::ptrdiff_t>(begin + s) * outputs_ + p * Kp);
        }
        if (lp.density)
            for (int s = begin; s < begin + count; ++s) {
                const double f = group.density.out[static_cast<std::size_t>(s)];
                table[static_cast<std::size_t>(s) * static_cast<std::size_t>(outputs_) +
                      static_cast<std::size_t>(paths * Kp)] =
                    std::tanh(f * f) * (cut_weights ? group.cut[static_cast<std::size_t>(s)] : 1.0);
            }
    }

    /// The adjoint of fill, for all samples.
    void take(const Model& model, const LayerPlan<Real>& lp, Group& group, std::pair<int, int> species,
              const std::vector<double>& bar, std::vector<double>& sender_bar, Layer& gradient) const {
        const int K = model.channels, Kp = padded(model, lp), paths = lp.radial->rows();
        const bool cut_weights = !model.radial.envelope_on_basis;
        std::vector<double> row_bar(static_cast<std::size_t>(samples_ * K)), raw, unmixed;
        for (int p = 0; p < paths; ++p) {
            for (int s = 0; s < samples_; ++s)
                std::copy_n(bar.data() + static_cast<std::ptrdiff_t>(s) * outputs_ + p * Kp, K,
                            row_bar.data() + static_cast<std::ptrdiff_t>(s) * K);
            const double* u = t_ == 0 ? sender_.data() + static_cast<std::ptrdiff_t>(species.second) * K : nullptr;
            if (t_ == 0) {
                const auto l3 = static_cast<std::size_t>(lp.paths[static_cast<std::size_t>(p)].l3);
                const std::size_t offset = mix_offset(model, species.first);
                raw.resize(row_bar.size());
                for (int s = 0; s < samples_; ++s)
                    for (int k = 0; k < K; ++k)
                        raw[static_cast<std::size_t>(s * K + k)] =
                            u[k] * (cut_weights ? group.cut[static_cast<std::size_t>(s)] : 1.0) *
                            group.network.out[static_cast<std::size_t>((s * paths + p) * K + k)];
                add_transposed_product<W>(samples_, K, K, raw.data(), row_bar.data(),
                                          gradient.mix[l3].data.data() + offset);
                unmixed.assign(row_bar.size(), 0.0);
                add_product_transposed<W>(samples_, K, K, row_bar.data(), model.layers[0].mix[l3].data.data() + offset,
                                          unmixed.data());
                std::swap(row_bar, unmixed);
            }
            for (int s = 0; s < samples_; ++s) {
                const double factor = cut_weights ? group.cut[static_cast<std::size_t>(s)] : 1.0;
                const std::size_t at = static_cast<std::size_t>((s * paths + p) * K);
                for (int k = 0; k < K; ++k) {
                    const double y = factor * row_bar[static_cast<std::size_t>(s * K + k)];
                    const auto c = at + static_cast<std::size_t>(k);
                    if (u == nullptr) {
                        group.network.out_bar[c] += y;
                    } else {
                        group.network.out_bar[c] += y * u[k];
                        sender_bar[static_cast<std::size_t>(species.second * K + k)] += y * group.network.out[c];
                    }
                }
            }
        }
        if (lp.density)
            for (int s = 0; s < samples_; ++s) {
                const auto at = static_cast<std::size_t>(s);
                const double f = group.density.out[at], th = std::tanh(f * f);
                group.density.out_bar[at] +=
                    bar[at * static_cast<std::size_t>(outputs_) + static_cast<std::size_t>(paths * Kp)] *
                    (cut_weights ? group.cut[at] : 1.0) * (1 - th * th) * 2 * f;
            }
    }

    static int padded(const Model& model, const LayerPlan<Real>& lp) {
        return lp.paths.size() > 1 ? lp.paths[1].radial : (model.channels + W::width - 1) / W::width * W::width;
    }

    std::size_t t_;
    int samples_ = 0, outputs_ = 0;
    std::vector<Group> groups_;
    std::vector<double> sender_;  // [species, K] u of the first layer
};

}  // namespace equipot::kernels
