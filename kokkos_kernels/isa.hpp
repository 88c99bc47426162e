// Instruction sets. Code that is generic over `Isa` is compiled once per set, in files of its own with the set's flags
// and EQUIPOT_ISA for its name; there the set is a complete type, with the width of its packs. Others know its name
// only. SPDX-License-Identifier: MIT
#pragma once

#ifdef EQUIPOT_ISA
#include "kokkos_kernels/host_only.hpp"
#endif

namespace equipot::kernels {

namespace v2 {
struct Isa;
}
namespace v3 {
struct Isa;
}
namespace v4 {
struct Isa;
}
namespace base {
struct Isa;
}

#ifdef EQUIPOT_ISA
struct EQUIPOT_ISA::Isa {
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
#endif

}  // namespace equipot::kernels
