// SPDX-License-Identifier: MIT
#include "kokkos_kernels/product_program.hpp"

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <tuple>

namespace equipot::kernels {

ProductTables::ProductTables(const Model& model, int layer_index) {
    const Layer& layer = model.layers[static_cast<std::size_t>(layer_index)];
    inputs_ = (model.l_max + 1) * (model.l_max + 1);
    outputs_ = (layer.hidden_out + 1) * (layer.hidden_out + 1);

    using Prefix = std::vector<int>;
    using Monomial = std::vector<int>;  // v1 <= ... <= vN
    struct Entry {
        int L, order, path;
        double value;
    };
    std::map<int, std::map<Monomial, std::vector<Entry>>> monomials;  // by output
    for (int L = 0; L <= layer.hidden_out; ++L)
        for (int order = 1; order <= layer.correlation; ++order) {
            const ProductBasis& basis = model.basis[static_cast<std::size_t>(L)][static_cast<std::size_t>(order - 1)];
            const auto stride = static_cast<std::size_t>(order + 2);
            for (std::size_t e = 0; e < basis.value.size(); ++e) {
                const std::int32_t* row = basis.index.data() + e * stride;
                Monomial monomial(row + 2, row + 2 + order);
                std::sort(monomial.begin(), monomial.end());
                monomials[L * L + row[0]][monomial].push_back({L, order, row[1], basis.value[e]});
            }
        }

    // A group is the monomials of an output that share a prefix. Any factor of a monomial may come last: prefixes that
    // take the most monomials are chosen first, among equals those that are there already, so that groups are few.
    std::map<std::tuple<std::size_t, Prefix, int>, std::map<int, std::vector<Entry>>>
        groups;  // length first: short prefixes come first
    std::set<Prefix> chosen;
    const auto for_prefixes = [](const Monomial& monomial, const auto& f) {
        for (std::size_t last = 0; last < monomial.size(); ++last) {
            if (last > 0 && monomial[last] == monomial[last - 1]) continue;
            Prefix prefix = monomial;
            prefix.erase(prefix.begin() + static_cast<std::ptrdiff_t>(last));
            f(prefix, monomial[last]);
        }
    };
    for (const auto& [output, of_output] : monomials) {
        std::map<Prefix, std::set<int>> open;  // last factors of the monomials that a prefix could take
        for (const auto& [monomial, entries] : of_output)
            for_prefixes(monomial, [&](const Prefix& prefix, int last) { open[prefix].insert(last); });
        std::priority_queue<std::tuple<std::size_t, bool, Prefix>> queue;
        for (const auto& [prefix, lasts] : open) queue.emplace(lasts.size(), chosen.contains(prefix), prefix);
        while (!queue.empty()) {
            const auto [count, is_known, prefix] = queue.top();
            queue.pop();
            const std::set<int> lasts = open[prefix];
            if (lasts.size() < count) {  // others took some of them
                queue.emplace(lasts.size(), is_known, prefix);
                continue;
            }
            for (const int last : lasts) {
                Monomial monomial = prefix;
                monomial.insert(std::upper_bound(monomial.begin(), monomial.end(), last), last);
                groups[{prefix.size(), prefix, output}][last] = of_output.at(monomial);
                for_prefixes(monomial, [&](const Prefix& other, int factor) { open[other].erase(factor); });
            }
            if (!lasts.empty()) chosen.insert(prefix);
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
