// SPDX-License-Identifier: MIT
#include "kokkos_kernels/product_program.hpp"

#include <map>
#include <tuple>

namespace equipot::kernels {

ProductTables::ProductTables(const Model& model, int layer_index) {
    const Layer& layer = model.layers[static_cast<std::size_t>(layer_index)];
    inputs_ = (model.l_max + 1) * (model.l_max + 1);
    outputs_ = (layer.hidden_out + 1) * (layer.hidden_out + 1);

    // Monomials v1 <= ... <= vN, keyed by (prefix v1..v(N-1), output, last variable): the order in which groups are
    // evaluated.
    using Prefix = std::vector<int>;
    struct Entry {
        int L, order, path;
        double value;
    };
    std::map<std::tuple<std::size_t, Prefix, int>, std::map<int, std::vector<Entry>>>
        groups;  // length first: short prefixes come first
    for (int L = 0; L <= layer.hidden_out; ++L)
        for (int order = 1; order <= layer.correlation; ++order) {
            const ProductBasis& basis = model.basis[static_cast<std::size_t>(L)][static_cast<std::size_t>(order - 1)];
            const auto stride = static_cast<std::size_t>(order + 2);
            for (std::size_t e = 0; e < basis.value.size(); ++e) {
                const std::int32_t* row = basis.index.data() + e * stride;
                const Prefix prefix(row + 2, row + 1 + order);
                const int output = L * L + row[0];
                groups[{prefix.size(), prefix, output}][row[1 + order]].push_back({L, order, row[1], basis.value[e]});
            }
        }

    std::map<Prefix, int> node_of{{Prefix{}, 0}};
    nodes_.push_back({0, 0});
    const auto node_for = [&](const Prefix& prefix) {
        Prefix head;
        int node = 0;
        for (const int v : prefix) {
            head.push_back(v);
            const auto [found, is_new] = node_of.emplace(head, static_cast<int>(nodes_.size()));
            if (is_new) nodes_.push_back({node, v});
            node = found->second;
        }
        return node;
    };
    for (const auto& [key, terms] : groups) {
        const auto& [length, prefix, output] = key;
        const int begin = static_cast<int>(variables_.size());
        for (const auto& [variable, entries] : terms) {
            const int term = static_cast<int>(variables_.size());
            variables_.push_back(variable);
            for (const Entry& entry : entries)
                contributions_.push_back({term, entry.L, entry.order, entry.path, entry.value});
        }
        groups_.push_back({node_for(prefix), output, begin, static_cast<int>(variables_.size())});
    }
}

ProductProgram ProductTables::program() const {
    return {nodes_.data(),
            groups_.data(),
            variables_.data(),
            static_cast<int>(nodes_.size()),
            static_cast<int>(groups_.size()),
            static_cast<int>(variables_.size()),
            inputs_,
            outputs_};
}

std::vector<double> ProductTables::coefficients(const Model& model, int layer_index, int species) const {
    const Layer& layer = model.layers[static_cast<std::size_t>(layer_index)];
    const auto K = static_cast<std::size_t>(model.channels);
    std::vector<double> dense(variables_.size() * K, 0.0);
    for (const Contribution& c : contributions_) {
        const Array& weights = layer.product[static_cast<std::size_t>(c.L)][static_cast<std::size_t>(c.order - 1)];
        const auto row = static_cast<std::size_t>(species) * static_cast<std::size_t>(weights.shape[1]) +
                         static_cast<std::size_t>(c.path);
        const double* w = weights.data.data() + row * K;
        double* target = dense.data() + static_cast<std::size_t>(c.term) * K;
        for (std::size_t k = 0; k < K; ++k) target[k] += c.value * w[k];
    }
    return dense;
}

void ProductTables::add_gradient(const std::vector<double>& coefficients_bar, int layer_index, int species,
                                 Model& gradient) const {
    Layer& layer = gradient.layers[static_cast<std::size_t>(layer_index)];
    const auto K = static_cast<std::size_t>(gradient.channels);
    for (const Contribution& c : contributions_) {
        Array& weights = layer.product[static_cast<std::size_t>(c.L)][static_cast<std::size_t>(c.order - 1)];
        const auto row = static_cast<std::size_t>(species) * static_cast<std::size_t>(weights.shape[1]) +
                         static_cast<std::size_t>(c.path);
        double* w = weights.data.data() + row * K;
        const double* bar = coefficients_bar.data() + static_cast<std::size_t>(c.term) * K;
        for (std::size_t k = 0; k < K; ++k) w[k] += c.value * bar[k];
    }
}

}  // namespace equipot::kernels
