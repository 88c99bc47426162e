// The exact radial functions of one layer, R_c(r; z_i, z_j) and their slopes: transform -> basis x envelope -> network.
// Tables are sampled from it; Radial::Exact calls it on every edge. The first layer sees only species and geometry, so
// its sender features are part of it, and where weights stay as they are its mixing is folded in, too:
// R_lk'(r; z_i, z_j) = Σ_k MLP_lk(r) u_zj,k mix_l[(z_i), k, k'].
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <vector>

#include "model/model.hpp"

namespace equipot::kernels {

/// Values and slopes travel together: forward mode by hand.
struct RadialScratch {
    std::vector<double> value[2], slope[2], raw, raw_slope;
};

class RadialFunction {
public:
    /// `padded` >= channels is the row length of the output; `tail` numbers follow the rows where the layer has a
    /// density term; `folded` says whether the mixing of the first layer is.
    RadialFunction(const Model& model, int layer, int padded, int tail, bool folded);

    [[nodiscard]] int outputs() const { return rows_ * padded_ + (layer_->density ? tail_ : 0); }
    [[nodiscard]] int rows() const { return rows_; }

    /// A number that is equal for pairs (species indices of the model) with the same functions.
    [[nodiscard]] int table_key(int zi, int zj) const;

    /// A number that is equal for pairs with the same basis: those whose distances are transformed alike.
    [[nodiscard]] int basis_key(int zi, int zj) const { return basis_keys_[pair(zi, zj)]; }

    /// out[outputs] and, unless null, dout[outputs] at r > 0 (Å). Not cut at the cutoff: the envelope goes on as the
    /// polynomial it is, which is what a spline needs on its last interval.
    void evaluate(int zi, int zj, double r, double* out, double* dout, RadialScratch& scratch) const;

    /// e_n(r), n = 1..size, with the envelope where it is on the basis; `cut` is the envelope itself.
    void basis_values(int zi, int zj, double r, double* values, double& cut, RadialScratch& scratch) const {
        double slope = 0;
        basis(zi, zj, r, cut, slope, scratch);
        std::copy(scratch.value[0].begin(), scratch.value[0].end(), values);
    }

private:
    [[nodiscard]] std::size_t pair(int zi, int zj) const {
        return static_cast<std::size_t>(zi) * model_->species.size() + static_cast<std::size_t>(zj);
    }
    void basis(int zi, int zj, double r, double& cut, double& dcut, RadialScratch& scratch) const;

    const Model* model_;
    const Layer* layer_;
    bool first_, folded_;
    int rows_, padded_, tail_;
    std::vector<int> basis_keys_;  // [species, species]
    std::vector<double> sender_;   // [species, K] u of the first layer
};

}  // namespace equipot::kernels
