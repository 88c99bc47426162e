// The one walk over the arrays of a model's layers, by the names that FORMAT.md gives them. Internal.
// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "model.hpp"

namespace equipot {

/// Calls f(name, array) for every array that the layers have, in the order of FORMAT.md. `AnyModel` is Model or const
/// Model.
template <class AnyModel, class F>
void for_each_layer_weight(AnyModel& model, F f) {
    const auto take = [&](const std::string& name, auto& array) {
        if (!array.shape.empty()) f(name, array);
    };
    for (std::size_t t = 0; t < model.layers.size(); ++t) {
        auto& layer = model.layers[t];
        const std::string prefix = "layer." + std::to_string(t) + ".";
        const auto take_all = [&](const std::string& name, auto& arrays) {
            for (std::size_t l = 0; l < arrays.size(); ++l) take(prefix + name + "." + std::to_string(l), arrays[l]);
        };
        take_all("up", layer.up);
        take_all("radial", layer.radial);
        take_all("density", layer.density_net);
        take_all("mix", layer.mix);
        for (std::size_t L = 0; L < layer.product.size(); ++L)
            for (std::size_t n = 0; n < layer.product[L].size(); ++n)
                take(prefix + "product." + std::to_string(L) + "." + std::to_string(n + 1), layer.product[L][n]);
        take_all("out", layer.out);
        take_all("skip", layer.skip_weights);
        take(prefix + "readout.0", layer.readout0);
        take(prefix + "readout.1", layer.readout1);
    }
}

}  // namespace equipot
