// Small models with random weights for tests: every stage is exercised, couplings are those that can be written by
// hand.
// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "model/model.hpp"

namespace equipot::test {

struct ModelOptions {
    int layers = 2, channels = 6, l_max = 2, hidden = 1;
    bool density = false, skip = true, mixing_by_species = false, zbl = true;
    RadialBasis::Transform transform = RadialBasis::Transform::None;
    unsigned seed = 7;
};

inline Model random_model(const ModelOptions& options) {
    std::mt19937 engine(options.seed);
    std::normal_distribution<double> normal;
    const auto array = [&](std::vector<std::int64_t> shape, double size) {
        std::int64_t count = 1;
        for (const auto n : shape) count *= n;
        Array a{std::move(shape), std::vector<double>(static_cast<std::size_t>(count))};
        for (double& x : a.data) x = size * normal(engine);
        return a;
    };
    const std::int64_t K = options.channels, nz = 2;
    const double unit = 1 / std::sqrt(static_cast<double>(K));
    Model model;
    model.species = {1, 8};
    model.cutoff = 4.0;
    model.channels = options.channels;
    model.l_max = options.l_max;
    model.heads = {"first", "second"};
    model.radial.kind = RadialBasis::Kind::Bessel;
    model.radial.size = 6;
    model.radial.prefactor = std::sqrt(2 / model.cutoff);
    for (int n = 1; n <= 6; ++n) model.radial.points.push_back(n * M_PI / model.cutoff);
    model.radial.envelope = 5;
    model.radial.transform = options.transform;
    model.radial.a = 1.0805, model.radial.p = 4.5791, model.radial.q = 0.9183, model.radial.alpha = 4;
    if (options.transform != RadialBasis::Transform::None) model.radial.radii = {0.31, 0.66};
    model.has_zbl = options.zbl;
    model.zbl.c = {0.1818, 0.5099, 0.2802, 0.02817};
    model.zbl.radii = {0.31, 0.66};
    model.embedding = array({nz, K}, 1);
    model.e0 = array({2, nz}, 10);
    model.scale = {0.8, 1.3};
    model.shift = {0.1, -0.2};

    // L = 0: A_00 and Σ_m A_lm²; L = 1: A_1M, A_00 A_1M and, when l = 2 is there, nothing more; orders 1 to 3.
    model.basis.resize(static_cast<std::size_t>(options.hidden + 1));
    for (int L = 0; L <= options.hidden; ++L) {
        ProductBasis one{1, 1, {}, {}}, two{2, 0, {}, {}}, three{3, 0, {}, {}};
        for (int M = 0; M <= 2 * L; ++M) {
            one.index.insert(one.index.end(), {M, 0, L * L + M});
            one.value.push_back(1);
        }
        if (L == 0) {
            for (int l = 0; l <= options.l_max; ++l)
                for (int m = 0; m <= 2 * l; ++m) {
                    two.index.insert(two.index.end(), {0, l, l * l + m, l * l + m});
                    two.value.push_back(1 / std::sqrt(2.0 * l + 1));
                    if (l == 0) continue;
                    three.index.insert(three.index.end(), {0, l - 1, 0, l * l + m, l * l + m});
                    three.value.push_back(0.3);
                }
            two.paths = options.l_max + 1;
            three.paths = options.l_max;
        } else {
            for (int M = 0; M <= 2 * L; ++M) {
                two.index.insert(two.index.end(), {M, 0, 0, L * L + M});
                two.value.push_back(0.7);
                three.index.insert(three.index.end(), {M, 0, 0, 0, L * L + M});
                three.value.push_back(0.4);
            }
            two.paths = three.paths = 1;
        }
        model.basis[static_cast<std::size_t>(L)] = {one, two, three};
    }

    int hidden = 0;
    for (int t = 0; t < options.layers; ++t) {
        Layer layer;
        layer.hidden_in = hidden;
        layer.hidden_out = t + 1 < options.layers ? options.hidden : 0;
        layer.correlation = 3;
        layer.density = options.density;
        layer.mixing_by_species = options.mixing_by_species || t == 0;
        layer.skip = options.skip && t > 0;
        layer.readout = t + 1 < options.layers ? Layer::Readout::Linear : Layer::Readout::Mlp;
        for (int l3 = 0; l3 <= options.l_max; ++l3) {
            std::int64_t into = 0;
            for (int l1 = 0; l1 <= hidden; ++l1)
                for (int l2 = std::abs(l1 - l3); l2 <= std::min(options.l_max, l1 + l3); ++l2)
                    if ((l1 + l2 + l3) % 2 == 0) {
                        layer.paths.push_back({l1, l2, l3});
                        ++into;
                    }
            const double size = 0.15 / std::sqrt(static_cast<double>(into * K));
            layer.mix.push_back(layer.mixing_by_species ? array({nz, into * K, K}, size) : array({into * K, K}, size));
        }
        for (int l = 0; l <= hidden; ++l) layer.up.push_back(array({K, K}, unit));
        layer.radial = {array({6, 16}, 1.5), array({16, static_cast<std::int64_t>(layer.paths.size()) * K}, 1)};
        if (layer.density) layer.density_net = {array({6, 1}, 1)};
        for (int L = 0; L <= layer.hidden_out; ++L) {
            layer.product.emplace_back();
            for (const ProductBasis& basis : model.basis[static_cast<std::size_t>(L)])
                layer.product.back().push_back(basis.paths == 0 ? Array{} : array({nz, basis.paths, K}, 1));
            layer.out.push_back(array({K, K}, unit));
        }
        if (layer.skip)
            for (int L = 0; L <= std::min(layer.hidden_in, layer.hidden_out); ++L)
                layer.skip_weights.push_back(array({nz, K, K}, unit));
        if (layer.readout == Layer::Readout::Linear)
            layer.readout0 = array({2, K}, unit);
        else
            layer.readout0 = array({2, K, 5}, unit), layer.readout1 = array({2, 5}, 1);
        hidden = layer.hidden_out;
        model.layers.push_back(std::move(layer));
    }
    model.card = "{\"title\":\"random weights\"}";
    return model;
}

/// Shapes of models that differ in every option; of the last the CPU works densities out again instead of keeping them.
inline std::vector<ModelOptions> architectures() {
    using Transform = RadialBasis::Transform;
    return {{.layers = 1},
            {.layers = 2},
            {.layers = 2, .l_max = 3, .hidden = 2, .density = true, .transform = Transform::Agnesi},
            {.layers = 3,
             .channels = 9,
             .density = true,
             .skip = false,
             .mixing_by_species = true,
             .transform = Transform::Soft},
            {.layers = 2, .channels = 1, .l_max = 1, .zbl = false},
            {.layers = 2, .channels = 97, .l_max = 3, .density = true}};
}

}  // namespace equipot::test
