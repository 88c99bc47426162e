// Trainer: a model whose weights are being fitted. Energies, forces and virials of batches, and the exact gradient of a
// function of them by the weights, by forward over reverse: with v = ∂L/∂F, the gradient of the force term is
// -d/dε [∂E/∂θ](x + ε v), one pass of the pipeline over dual numbers.
// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "../model/model.hpp"
#include "../potential/potential.hpp"
#include "graph_set.hpp"

namespace equipot {

/// One array of the model file that can be fitted.
struct ParameterArray {
    std::string name;                 ///< as in FORMAT.md
    std::vector<std::int64_t> shape;  ///< C order
};

struct BatchResult {
    std::vector<double> energy;  ///< [structures] eV
    std::vector<double> forces;  ///< [atoms, 3] eV/Å
    std::vector<double> virial;  ///< [structures, 9] eV, -∂E/∂ε
};

class Trainer {
public:
    /// Weights, their gradients and all sums stay double; `precision` is that of the work per edge and per atom.
    /// @throws Error when the model has no such head.
    Trainer(Model model, const std::string& head, Precision precision = Precision::Double);
    ~Trainer();
    Trainer(Trainer&&) noexcept;
    Trainer& operator=(Trainer&&) noexcept;

    /// All floating-point weights, in one fixed order; get, set and gradient are flat in that order.
    [[nodiscard]] const std::vector<ParameterArray>& parameters() const;
    [[nodiscard]] std::size_t size() const;
    [[nodiscard]] std::vector<double> get() const;
    /// @throws Error when the number of values is wrong or one is not finite.
    void set(std::span<const double> values);

    [[nodiscard]] const Model& model() const;

    /// @throws Error naming the structure (its place in `structures`) that holds an element the model lacks or a pair
    /// closer than 0.5 Å, or for graphs of another cutoff.
    void evaluate(const GraphSet& graphs, std::span<const std::int64_t> structures, BatchResult& result);

    /// Sets out, in the order of `parameters`, to d/dθ (Σ_s energy_bar_s E_s + Σ_i forces_bar_i · F_i + Σ_s
    /// virial_bar_s : W_s); shapes as in BatchResult. @throws Error as `evaluate`, and for arrays of the wrong size.
    void gradient(const GraphSet& graphs, std::span<const std::int64_t> structures, std::span<const double> energy_bar,
                  std::span<const double> forces_bar, std::span<const double> virial_bar, std::span<double> out);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace equipot
