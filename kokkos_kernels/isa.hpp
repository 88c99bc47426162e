// The pack widths of the instruction set that EQUIPOT_ISA names, for the files that are compiled once per set.
// SPDX-License-Identifier: MIT
#pragma once

#include "kokkos_kernels/host_only.hpp"

namespace equipot::kernels::EQUIPOT_ISA {

struct Isa {
#if defined(__AVX512F__)
    static constexpr int bytes = 64, registers = 32;
#elif defined(__AVX2__)
    static constexpr int bytes = 32, registers = 16;
#elif defined(__aarch64__)
    static constexpr int bytes = 16, registers = 32;
#else
    static constexpr int bytes = 16, registers = 16;
#endif
};

}  // namespace equipot::kernels::EQUIPOT_ISA
