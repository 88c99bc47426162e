// Parameter gradient: where the adjoint of every weight of a plan lies in one flat array, which each thread adds to in
// private, and how it becomes the adjoint of the arrays of the model file (the adjoint of Plan::set_weights).
// Radial tables are the business of radial_training.hpp.
// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <vector>

#include "kokkos_kernels/plan.hpp"

namespace equipot::kernels {

struct LayerGradient {
    std::vector<std::size_t> tables;                         // [intervals + degree, outputs] per table of the plan
    std::vector<std::vector<std::vector<std::size_t>>> mix;  // and so on: offsets in place of the weights
    std::vector<std::size_t> up, out, product;
    std::vector<std::vector<std::size_t>> skip;
    std::size_t first_skip = 0, readout_w = 0, readout_v = 0;
};

struct GradientLayout {
    std::vector<LayerGradient> layers;
    std::size_t scale = 0, size = 0;

    GradientLayout() = default;

    template <class Real>
    explicit GradientLayout(const Plan<Real>& plan) {
        const auto take = [&](std::size_t count) {
            const std::size_t offset = size;
            size += (count + 15) / 16 * 16;
            return offset;
        };
        const auto matrix = static_cast<std::size_t>(square(plan.padded));
        for (const LayerPlan<Real>& lp : plan.layers) {
            LayerGradient layer;
            for (const Buffer<Real>& rows : lp.table_rows)
                layer.tables.push_back(take(rows.extent(0) / table_parts<Real>));
            for (const auto& variant : lp.mix) {
                auto& by_l = layer.mix.emplace_back();
                for (const auto& into : variant) {
                    auto& paths = by_l.emplace_back();
                    for (std::size_t p = 0; p < into.size(); ++p) paths.push_back(take(matrix));
                }
            }
            for (std::size_t l = 0; l < lp.up.size(); ++l) layer.up.push_back(take(matrix));
            for (std::size_t l = 0; l < lp.out.size(); ++l) layer.out.push_back(take(matrix));
            for (const auto& by_l : lp.skip_weights) {
                auto& offsets = layer.skip.emplace_back();
                for (std::size_t l = 0; l < by_l.size(); ++l) offsets.push_back(take(matrix));
            }
            for (const Buffer<Real>& packed : lp.product_coefficients) layer.product.push_back(take(packed.extent(0)));
            layer.first_skip = take(plan.active.size() * static_cast<std::size_t>(plan.padded));
            layer.readout_w = take(lp.readout_w.extent(0));
            layer.readout_v = take(lp.readout_v.extent(0));
            layers.push_back(std::move(layer));
        }
        scale = take(1);
    }
};

namespace detail {

template <class Real>
void add_matrix(const Real* padded_bar, int channels, int padded, double* bar) {
    for (int i = 0; i < channels; ++i)
        for (int j = 0; j < channels; ++j) bar[i * channels + j] += static_cast<double>(padded_bar[i * padded + j]);
}

}  // namespace detail

/// Adds `flat` to the arrays of `gradient`, which has the shapes of `model`, on all threads; all but what the radial
/// tables depend on.
template <class Real>
void add_to_model(const Plan<Real>& plan, const GradientLayout& layout, const Real* flat, const Model& model, int head,
                  Model& gradient) {
    const int K = plan.channels, Kp = plan.padded;
    const auto k_size = static_cast<std::size_t>(K);
    gradient.scale[static_cast<std::size_t>(head)] += static_cast<double>(flat[layout.scale]);
    std::vector<std::function<void()>> parts;  // which touch different numbers
    const auto add_matrix = [&](std::size_t from, double* to) {
        parts.emplace_back([=] { detail::add_matrix(flat + from, K, Kp, to); });
    };
    for (std::size_t t = 0; t < plan.layers.size(); ++t) {
        const LayerPlan<Real>& lp = plan.layers[t];
        const LayerGradient& from = layout.layers[t];
        const Layer& layer = model.layers[t];
        Layer& to = gradient.layers[t];
        for (std::size_t v = 0; v < from.mix.size(); ++v)
            for (std::size_t l = 0; l < from.mix[v].size(); ++l) {
                double* bar = to.mix[l].data.data();
                if (layer.mixing_by_species)
                    bar += static_cast<std::size_t>(plan.active[v]) * from.mix[v][l].size() * k_size * k_size;
                for (std::size_t p = 0; p < from.mix[v][l].size(); ++p)
                    add_matrix(from.mix[v][l][p], bar + p * k_size * k_size);
            }
        for (std::size_t l = 0; l < from.up.size(); ++l) add_matrix(from.up[l], to.up[l].data.data());
        for (std::size_t l = 0; l < from.out.size(); ++l) add_matrix(from.out[l], to.out[l].data.data());
        for (std::size_t a = 0; a < plan.active.size(); ++a) {
            const auto z = static_cast<std::size_t>(plan.active[a]);
            if (layer.skip && t > 0)
                for (std::size_t l = 0; l < from.skip[a].size(); ++l)
                    add_matrix(from.skip[a][l], to.skip_weights[l].data.data() + z * k_size * k_size);
            if (layer.skip && t == 0)  // embedding · skip.0
                parts.emplace_back([=, &model, &gradient, &layer, &to] {
                    const Real* bar = flat + from.first_skip + a * static_cast<std::size_t>(Kp);
                    for (std::size_t k = 0; k < k_size; ++k) {
                        const double* weights = layer.skip_weights[0].data.data() + (z * k_size + k) * k_size;
                        double* weights_bar = to.skip_weights[0].data.data() + (z * k_size + k) * k_size;
                        double sum = 0;
                        for (std::size_t c = 0; c < k_size; ++c) {
                            sum += weights[c] * static_cast<double>(bar[c]);
                            weights_bar[c] += model.embedding.data[z * k_size + k] * static_cast<double>(bar[c]);
                        }
                        gradient.embedding.data[z * k_size + k] += sum;
                    }
                });
            parts.emplace_back([=, &plan, &lp, &from, &gradient] {
                const int terms = lp.product.program().term_count, width = plan.width;
                const Real* packed = flat + from.product[a];
                std::vector<double> dense(static_cast<std::size_t>(terms) * k_size);
                for (int term = 0; term < terms; ++term)
                    for (int k = 0; k < K; ++k)
                        dense[static_cast<std::size_t>(term * K + k)] =
                            static_cast<double>(packed[(k / width * terms + term) * width + k % width]);
                lp.product.add_gradient(dense, static_cast<int>(t), plan.active[a], gradient);
            });
        }
        if (lp.has_readout) {
            const int rows = std::max(lp.readout.hidden, 1);
            for (int n = 0; n < rows; ++n)
                for (int k = 0; k < K; ++k)
                    to.readout0.data[static_cast<std::size_t>((head * K + k) * rows + n)] +=
                        static_cast<double>(flat[from.readout_w + static_cast<std::size_t>(n * K + k)]);
            for (int n = 0; n < lp.readout.hidden; ++n)
                to.readout1.data[static_cast<std::size_t>(head * lp.readout.hidden + n)] +=
                    static_cast<double>(flat[from.readout_v + static_cast<std::size_t>(n)]);
        }
    }
    run_parts(parts);
}

}  // namespace equipot::kernels
