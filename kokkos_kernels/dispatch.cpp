// Picks the evaluators for the processor it runs on.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/design.hpp"
#include "kokkos_kernels/evaluator.hpp"
#include "kokkos_kernels/optimizer.hpp"
#include "kokkos_kernels/trainer.hpp"

namespace equipot::kernels {

namespace {

struct InstructionSet {
    const char* name;
    decltype(&base::make) make;
    decltype(&base::make_training) make_training;
    decltype(&base::design_kernel) design_kernel;
    decltype(&base::optimizer_kernels) optimizer_kernels;
};

InstructionSet best() {
#if defined(__x86_64__)
    __builtin_cpu_init();
#ifdef EQUIPOT_HAS_v4
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return {"AVX-512", &v4::make, &v4::make_training, &v4::design_kernel, &v4::optimizer_kernels};
#endif
#ifdef EQUIPOT_HAS_v3
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return {"AVX2", &v3::make, &v3::make_training, &v3::design_kernel, &v3::optimizer_kernels};
#endif
    return {"SSE4.2", &v2::make, &v2::make_training, &v2::design_kernel, &v2::optimizer_kernels};
#else
    return {"baseline", &base::make, &base::make_training, &base::design_kernel, &base::optimizer_kernels};
#endif
}

}  // namespace

std::unique_ptr<Evaluator> make_evaluator(const Model& model, int head, Precision precision, std::string& isa) {
    const InstructionSet chosen = best();
    isa = chosen.name;
    return chosen.make(model, head, precision);
}

std::unique_ptr<TrainingEvaluator> make_training_evaluator(const Model& model, int head, Precision precision,
                                                           int intervals) {
    return best().make_training(model, head, precision, intervals);
}

DesignKernel make_design_kernel() { return best().design_kernel(); }

OptimizerKernels make_optimizer_kernels() { return best().optimizer_kernels(); }

}  // namespace equipot::kernels
