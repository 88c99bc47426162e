// The training evaluator for one instruction set, compiled like instance.cpp: the same pipeline over packs for energies
// and forces, and over dual packs for parameter gradients, on one plan.
// SPDX-License-Identifier: MIT
#include <numeric>

#include "kokkos_kernels/isa.hpp"
#include "kokkos_kernels/pipeline.hpp"
#include "kokkos_kernels/radial_training.hpp"
#include "kokkos_kernels/trainer.hpp"

namespace equipot::kernels {

namespace {

/// W: the pack of the pipeline.
template <class W>
class Training final : public TrainingEvaluator {
public:
    using Real = typename W::Real;

    Training(const Model& model, int head, int intervals) : model_(model), head_(head) {
        std::vector<int> active(model.species.size());
        std::iota(active.begin(), active.end(), 0);
        prepare_plan(plan_, model, head, active, W::width, intervals, false);
        for (std::size_t t = 0; t < model.layers.size(); ++t) radial_.emplace_back(model, static_cast<int>(t), plan_);
        layout_ = GradientLayout(plan_);
    }

    void update() override {
        plan_.set_weights(model_, head_);
        for (RadialTraining<W>& radial : radial_) radial.forward(model_, plan_);
        is_current_ = true;
    }

    void compute(const Graph& graph, const std::vector<std::int32_t>& species, const Properties& what,
                 Result& result) override {
        if (!is_current_) update();
        NoExchange none;
        values_.compute(graph, species, none, what, result);
    }

    void gradient(const Graph& graph, const std::vector<std::int32_t>& species, std::span<const double> direction,
                  std::span<const double> energy_bar, Model& gradient) override {
        if (!is_current_) update();
        duals_.gradient(graph, species, {direction, energy_bar}, layout_, flat_);
        add_to_model(plan_, layout_, flat_.data(), model_, head_, gradient);
        for (RadialTraining<W>& radial : radial_) radial.backward(model_, plan_, layout_, flat_.data(), gradient);
    }

private:
    const Model& model_;
    int head_;
    Plan<Real> plan_;
    Pipeline<W> values_{plan_};
    Pipeline<DualPack<W>> duals_{plan_};
    std::vector<RadialTraining<W>> radial_;
    GradientLayout layout_;
    std::vector<Real> flat_;
    bool is_current_ = false;
};

}  // namespace

template <class Isa>
std::unique_ptr<TrainingEvaluator> make_training(const Model& model, int head, Precision precision, int intervals) {
    using D = Pack<double, Isa::bytes / 8, Isa>;
    if (precision == Precision::Double) return std::make_unique<Training<D>>(model, head, intervals);
    return std::make_unique<Training<Pack<float, Isa::bytes / 4, Isa>>>(model, head, intervals);
}

template std::unique_ptr<TrainingEvaluator> make_training<EQUIPOT_ISA::Isa>(const Model& model, int head,
                                                                            Precision precision, int intervals);

}  // namespace equipot::kernels
