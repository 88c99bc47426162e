// Optimizer: Adam, AMSGrad or AdamW for single weights, Muon for weights that are matrices; formulas and papers in
// kokkos_kernels/optimizer.hpp. Average: a running mean of weights. Both change flat arrays in place, on all threads,
// with the same bits for any number of them.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace equipot {

/// rows · columns weights from `begin` on, row by row.
struct WeightMatrix {
    std::int64_t begin, rows, columns;
};

struct OptimizerSettings {
    enum class Kind { Adam, AmsGrad, AdamW } kind = Kind::AmsGrad;  ///< of single weights; as AdamStep's
    double first_decay = 0.9, second_decay = 0.999, epsilon = 1e-8;
    double matrix_decay = 0.98;  ///< μ: of the mean gradient of matrices
};

class Optimizer {
public:
    /// `weight_decay`: of each weight; its size is that of all arrays. `matrices` are in order and do not overlap.
    /// @throws Error for matrices that lie outside or overlap.
    Optimizer(std::vector<double> weight_decay, std::span<const WeightMatrix> matrices, OptimizerSettings settings);

    /// One step with a gradient shortened to the length `longest` (0: never); returns its length before. Does nothing
    /// where that is not finite. @throws Error for arrays of another size.
    double step(std::span<double> weights, std::span<const double> gradient, double rate, double longest);

    /// What to save and put back to go on to the bit. Matrices have their mean gradient in `mean` and zeros elsewhere.
    std::int64_t steps = 0;
    std::vector<double> mean, square, largest;

private:
    struct Task {
        std::size_t begin, count;
        int rows, columns;  // of a matrix; 0 for single weights
    };
    std::vector<double> weight_decay_;
    OptimizerSettings settings_;
    std::vector<Task> tasks_;  // the largest first
};

/// average += (1 - decay) (weights - average). @throws Error for arrays of different sizes.
void update_average(std::span<double> average, std::span<const double> weights, double decay);

}  // namespace equipot
