// The evaluator for one instruction set: compiled once per set with -DEQUIPOT_ISA=v2|v3|v4|base and its flags.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/pipeline.hpp"

namespace equipot::kernels::EQUIPOT_ISA {

struct Isa {
#if defined(__AVX512F__)
    static constexpr int bytes = 64;
#elif defined(__AVX2__)
    static constexpr int bytes = 32;
#else
    static constexpr int bytes = 16;
#endif
};

std::unique_ptr<Evaluator> make(const Model& model, int head, Precision precision) {
    if (precision == Precision::Double)
        return std::make_unique<Pipeline<Pack<double, Isa::bytes / 8, Isa>>>(model, head);
    return std::make_unique<Pipeline<Pack<float, Isa::bytes / 4, Isa>>>(model, head);
}

}  // namespace equipot::kernels::EQUIPOT_ISA
