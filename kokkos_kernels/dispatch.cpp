// Picks the evaluators for the processor it runs on.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/design.hpp"
#include "kokkos_kernels/evaluator.hpp"
#include "kokkos_kernels/isa.hpp"
#include "kokkos_kernels/optimizer.hpp"
#include "kokkos_kernels/trainer.hpp"

namespace equipot::kernels {

namespace {

struct InstructionSet {
    const char* name;
    decltype(&make<base::Isa>) make_evaluator;
    decltype(&make_training<base::Isa>) make_training_evaluator;
    DesignKernel (*design)();
    OptimizerKernels (*optimizer)();
};

template <class Isa>
InstructionSet set(const char* name) {
    return {name, &make<Isa>, &make_training<Isa>, &design_kernel<Isa>, &optimizer_kernels<Isa>};
}

InstructionSet best() {
#if defined(__x86_64__)
    __builtin_cpu_init();
#ifdef EQUIPOT_HAS_v4
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return set<v4::Isa>("AVX-512");
#endif
#ifdef EQUIPOT_HAS_v3
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return set<v3::Isa>("AVX2");
#endif
    return set<v2::Isa>("SSE4.2");
#else
    return set<base::Isa>("baseline");
#endif
}

}  // namespace

std::unique_ptr<Evaluator> make_evaluator(const Model& model, int head, Precision precision, std::string& isa) {
    const InstructionSet chosen = best();
    isa = chosen.name;
    return chosen.make_evaluator(model, head, precision);
}

std::unique_ptr<TrainingEvaluator> make_training_evaluator(const Model& model, int head, Precision precision,
                                                           int intervals) {
    return best().make_training_evaluator(model, head, precision, intervals);
}

DesignKernel make_design_kernel() { return best().design(); }

OptimizerKernels make_optimizer_kernels() { return best().optimizer(); }

}  // namespace equipot::kernels
