// The evaluation order of a layer's symmetric product (see product.hpp), made from the sparse coupling coefficients,
// and the per-species coefficients c_term,k = Σ_η U_term,η w_{z,η,k}.
// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "kokkos_kernels/product.hpp"
#include "model/model.hpp"

namespace equipot::kernels {

class ProductTables {
public:
    ProductTables() = default;
    ProductTables(const Model& model, int layer);

    /// Pointers into this object: valid while it lives and is not moved.
    [[nodiscard]] ProductProgram program() const;

    /// [terms][channels] of one species (index in the model).
    [[nodiscard]] std::vector<double> coefficients(const Model& model, int layer, int species) const;

    /// The adjoint of `coefficients`: adds to the product weights of `gradient`, a model of the same shape.
    void add_gradient(const std::vector<double>& coefficients_bar, int layer, int species, Model& gradient) const;

private:
    struct Contribution {
        int term, L, order, path;
        double value;
    };
    std::vector<ProductNode> nodes_;
    std::vector<ProductGroup> groups_;
    std::vector<int> variables_;
    std::vector<Contribution> contributions_;
    int inputs_ = 0, outputs_ = 0;
};

}  // namespace equipot::kernels
