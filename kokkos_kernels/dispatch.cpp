// Picks the evaluator for the processor it runs on.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/evaluator.hpp"

namespace equipot::kernels {

std::unique_ptr<Evaluator> make_evaluator(const Model& model, int head, Precision precision, std::string& isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        isa = "AVX-512";
        return v4::make(model, head, precision);
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
        isa = "AVX2";
        return v3::make(model, head, precision);
    }
    isa = "SSE4.2";
    return v2::make(model, head, precision);
#else
    isa = "baseline";
    return base::make(model, head, precision);
#endif
}

}  // namespace equipot::kernels
