// SPDX-License-Identifier: MIT
#include "fit/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kokkos_kernels/parts.hpp"
#include "kokkos_kernels/trainer.hpp"
#include "model/weights.hpp"
#include "potential/engine_lock.hpp"

namespace equipot {

namespace {

/// Calls f(name, values, shape) for every array that can be fitted, energies and weights, in one fixed order.
template <class AnyModel, class F>
void for_each_array(AnyModel& model, F f) {
    const std::vector<std::int64_t> heads{static_cast<std::int64_t>(model.heads.size())};
    f("embedding", model.embedding.data, model.embedding.shape);
    f("energy.e0", model.e0.data, model.e0.shape);
    f("energy.scale", model.scale, heads);
    f("energy.shift", model.shift, heads);
    for_each_layer_weight(model, [&](const std::string& name, auto& array) { f(name, array.data, array.shape); });
}

/// Some numbers of an array of the model: where they are in the flat order, in the model and in its adjoints.
struct Piece {
    std::size_t at, size;
    double *value, *bar;
};

// Fine enough for quintic splines (double), or cubic ones, on functions that vary over a fraction of an ångström.
int training_intervals(double cutoff, Precision precision) {
    const double step = precision == Precision::Double ? 0.035 : 0.02;  // Å
    return static_cast<int>(std::ceil(cutoff / step));
}

}  // namespace

struct Trainer::Impl {
    Model model;
    int head = 0;
    std::vector<ParameterArray> parameters;
    std::size_t size = 0;
    std::unique_ptr<kernels::TrainingEvaluator> evaluator;
    Result result;
    Model bar;  // adjoints, in the shapes of the model
    std::vector<Piece> pieces;

    void cut_into_pieces() {
        constexpr std::size_t most = 16384;
        std::size_t at = 0;
        for_each_array(model, [&](const std::string&, std::vector<double>& values, const std::vector<std::int64_t>&) {
            for (std::size_t i = 0; i < values.size(); i += most) {
                const std::size_t count = std::min(most, values.size() - i);
                pieces.push_back({at, count, values.data() + i, nullptr});
                at += count;
            }
        });
        auto piece = pieces.begin();
        for_each_array(bar, [&](const std::string&, std::vector<double>& values, const std::vector<std::int64_t>&) {
            for (std::size_t i = 0; i < values.size(); i += most) (piece++)->bar = values.data() + i;
        });
    }

    /// Calls f(piece) for all numbers of the model, on all threads.
    template <class F>
    void for_pieces(const F& f) const {
        kernels::for_parts("equipot::weights", pieces.size(), [&](std::size_t i) { f(pieces[i]); });
    }

    /// The batch, checked, and the species of its atoms as indices into the model's.
    GraphBatch take(const GraphSet& graphs, std::span<const std::int64_t> structures,
                    std::vector<std::int32_t>& species) const {
        if (graphs.cutoff() != model.cutoff)
            throw Error("the graphs have a cutoff of " + std::to_string(graphs.cutoff()) + " Å, the model of " +
                        std::to_string(model.cutoff));
        GraphBatch batch = graphs.batch(structures);
        for (std::size_t s = 0; s < structures.size(); ++s) {
            const double shortest = graphs.shortest(static_cast<std::size_t>(structures[s]));
            if (shortest < kernels::closest_pair)
                throw Error("structure " + std::to_string(structures[s]) + " has two atoms " +
                            std::to_string(shortest) + " Å apart; fits take pairs from 0.5 Å on: leave it out");
        }
        species.resize(batch.atomic_numbers.size());
        for (std::size_t i = 0; i < species.size(); ++i) {
            const auto found = std::find(model.species.begin(), model.species.end(), batch.atomic_numbers[i]);
            if (found == model.species.end())
                throw Error("the model has no element " + element_symbol(batch.atomic_numbers[i]));
            species[i] = static_cast<std::int32_t>(found - model.species.begin());
        }
        return batch;
    }
};

Trainer::Trainer(Model model, const std::string& head, Precision precision) : impl_(std::make_unique<Impl>()) {
    impl_->model = std::move(model);
    impl_->head = find_head(impl_->model, head);
    for_each_array(impl_->model, [&](const std::string& name, const std::vector<double>& values,
                                     const std::vector<std::int64_t>& shape) {
        impl_->parameters.push_back({name, shape});
        impl_->size += values.size();
    });
    ensure_kokkos();
    const std::scoped_lock lock(engine_mutex());
    impl_->bar = impl_->model;
    impl_->cut_into_pieces();
    impl_->evaluator = kernels::make_training_evaluator(impl_->model, impl_->head, precision,
                                                        training_intervals(impl_->model.cutoff, precision));
}

Trainer::~Trainer() = default;
Trainer::Trainer(Trainer&&) noexcept = default;
Trainer& Trainer::operator=(Trainer&&) noexcept = default;

const std::vector<ParameterArray>& Trainer::parameters() const { return impl_->parameters; }
std::size_t Trainer::size() const { return impl_->size; }
const Model& Trainer::model() const { return impl_->model; }

std::vector<double> Trainer::get() const {
    std::vector<double> flat;
    flat.reserve(impl_->size);
    for_each_array(std::as_const(impl_->model),
                   [&](const std::string&, const std::vector<double>& values, const std::vector<std::int64_t>&) {
                       flat.insert(flat.end(), values.begin(), values.end());
                   });
    return flat;
}

void Trainer::set(std::span<const double> values) {
    if (values.size() != impl_->size)
        throw Error("the model has " + std::to_string(impl_->size) + " weights, not " + std::to_string(values.size()));
    if (!std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); }))
        throw Error("weights must be finite numbers");
    const std::scoped_lock lock(engine_mutex());
    impl_->for_pieces([&](const Piece& piece) { std::copy_n(values.data() + piece.at, piece.size, piece.value); });
    impl_->evaluator->update();
}

void Trainer::evaluate(const GraphSet& graphs, std::span<const std::int64_t> structures, BatchResult& result) {
    std::vector<std::int32_t> species;
    const GraphBatch batch = impl_->take(graphs, structures, species);
    const std::scoped_lock lock(engine_mutex());
    Properties what;
    what.virials = true;
    impl_->evaluator->compute(batch.graph(), species, what, impl_->result);
    const Result& r = impl_->result;
    result.forces = r.forces;
    result.energy.assign(structures.size(), 0.0);
    result.virial.assign(9 * structures.size(), 0.0);
    for (std::size_t s = 0; s < structures.size(); ++s)
        for (auto i = static_cast<std::size_t>(batch.offsets[s]); i < static_cast<std::size_t>(batch.offsets[s + 1]);
             ++i) {
            result.energy[s] += r.energies[i];
            for (std::size_t c = 0; c < 9; ++c) result.virial[9 * s + c] += r.virials[9 * i + c];
        }
}

void Trainer::gradient(const GraphSet& graphs, std::span<const std::int64_t> structures,
                       std::span<const double> energy_bar, std::span<const double> forces_bar,
                       std::span<const double> virial_bar, std::span<double> out) {
    std::vector<std::int32_t> species;
    const GraphBatch batch = impl_->take(graphs, structures, species);
    const std::size_t atoms = batch.atomic_numbers.size();
    if (energy_bar.size() != structures.size() || forces_bar.size() != 3 * atoms ||
        virial_bar.size() != 9 * structures.size())
        throw Error("the adjoints do not fit the batch of " + std::to_string(structures.size()) + " structures and " +
                    std::to_string(atoms) + " atoms");

    if (out.size() != impl_->size)
        throw Error("the model has " + std::to_string(impl_->size) + " weights, not " + std::to_string(out.size()));

    // Positions go along forces_bar and strains along virial_bar: r_ij goes along f_j - f_i + r_ij · v.
    std::vector<double> direction(batch.displacement.size()), atom_bar(atoms);
    for (std::size_t s = 0; s < structures.size(); ++s)
        for (auto i = static_cast<std::size_t>(batch.offsets[s]); i < static_cast<std::size_t>(batch.offsets[s + 1]);
             ++i) {
            atom_bar[i] = energy_bar[s];
            for (auto e = static_cast<std::size_t>(batch.first[i]); e < static_cast<std::size_t>(batch.first[i + 1]);
                 ++e) {
                const auto j = static_cast<std::size_t>(batch.neighbor[e]);
                for (std::size_t c = 0; c < 3; ++c) {
                    double d = forces_bar[3 * j + c] - forces_bar[3 * i + c];
                    for (std::size_t a = 0; a < 3; ++a)
                        d += batch.displacement[3 * e + a] * virial_bar[9 * s + 3 * a + c];
                    direction[3 * e + c] = d;
                }
            }
        }

    const std::scoped_lock lock(engine_mutex());
    impl_->for_pieces([](const Piece& piece) { std::fill_n(piece.bar, piece.size, 0.0); });
    Model& bar = impl_->bar;
    const auto head = static_cast<std::size_t>(impl_->head);
    for (std::size_t i = 0; i < atoms; ++i) {
        bar.e0.data[head * bar.species.size() + static_cast<std::size_t>(species[i])] += atom_bar[i];
        bar.shift[head] += atom_bar[i];
    }
    impl_->evaluator->gradient(batch.graph(), species, direction, atom_bar, bar);
    impl_->for_pieces([&](const Piece& piece) { std::copy_n(piece.bar, piece.size, out.data() + piece.at); });
}

}  // namespace equipot
