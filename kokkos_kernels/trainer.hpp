// Trainer kernels: energies and forces of a batch, and the parameter gradient of a function of them, for one model
// whose weights change every step. One per instruction set, compiled from trainer_instance.cpp.
// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/model.hpp"
#include "potential/potential.hpp"

namespace equipot::kernels {

class TrainingEvaluator {
public:
    virtual ~TrainingEvaluator() = default;
    /// Takes the weights of the model (the one it was made with), and samples its radial tables.
    virtual void update() = 0;
    virtual void compute(const Graph& graph, const std::vector<std::int32_t>& species, const Properties& what,
                         Result& result) = 0;
    /// Adds d/dε of the adjoint of every weight to `gradient`, of the shapes of the model, where edges go along
    /// direction [edges, 3] and the energy of atom i has the adjoint -1 + ε energy_bar[i]. Not for E0 and shift.
    virtual void gradient(const Graph& graph, const std::vector<std::int32_t>& species,
                          std::span<const double> direction, std::span<const double> energy_bar, Model& gradient) = 0;
};

/// Closest distance that training takes, Å: where the radial tables start.
constexpr double closest_pair = 0.5;

/// Keeps a reference to the model. All species of the model are active; tables have `intervals`.
std::unique_ptr<TrainingEvaluator> make_training_evaluator(const Model& model, int head, Precision precision,
                                                           int intervals);

/// The one for `Isa`; see isa.hpp.
template <class Isa>
std::unique_ptr<TrainingEvaluator> make_training(const Model& model, int head, Precision precision, int intervals);

}  // namespace equipot::kernels
