// The evaluator for one instruction set: compiled once per set with -DEQUIPOT_ISA=v2|v3|v4|base and its flags.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/isa.hpp"
#include "kokkos_kernels/pipeline.hpp"

namespace equipot::kernels {

namespace {

/// Owns the plan that its pipeline runs.
template <class P>
class PipelineEvaluator final : public Evaluator {
public:
    PipelineEvaluator(const Model& model, int head) : model_(model), head_(head) {}

    int prepare(const std::vector<int>& active, int intervals) override {
        prepare_plan(plan_, model_, head_, active, P::width, intervals);
        return plan_.grid.intervals;
    }
    void compute(const Graph& graph, const std::vector<std::int32_t>& species, Exchange& exchange,
                 const Properties& what, Result& result) override {
        pipeline_.compute(graph, species, exchange, what, result);
    }
    [[nodiscard]] int padded_channels() const override {
        return (model_.channels + P::width - 1) / P::width * P::width;
    }
    [[nodiscard]] double measure_peak() const override { return pipeline_.measure_peak(); }
    [[nodiscard]] double memory_usage() const override { return plan_.table_bytes() + pipeline_.memory_usage(); }

private:
    const Model& model_;
    int head_;
    Plan<typename P::Real> plan_;
    Pipeline<P> pipeline_{plan_};
};

}  // namespace

template <class Isa>
std::unique_ptr<Evaluator> make(const Model& model, int head, Precision precision) {
    if (precision == Precision::Double)
        return std::make_unique<PipelineEvaluator<Pack<double, Isa::bytes / 8, Isa>>>(model, head);
    return std::make_unique<PipelineEvaluator<Pack<float, Isa::bytes / 4, Isa>>>(model, head);
}

template std::unique_ptr<Evaluator> make<EQUIPOT_ISA::Isa>(const Model& model, int head, Precision precision);

}  // namespace equipot::kernels
