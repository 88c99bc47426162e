// The design stage for one instruction set: compiled once per set with -DEQUIPOT_ISA=v2|v3|v4|base and its flags.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/design.hpp"

namespace equipot::kernels::EQUIPOT_ISA {

namespace {

struct Isa {};
#if defined(__AVX512F__)
using Lanes = Pack<double, 8, Isa>;
#elif defined(__AVX2__)
using Lanes = Pack<double, 4, Isa>;
#else
using Lanes = Pack<double, 2, Isa>;
#endif

}  // namespace

DesignKernel design_kernel() { return {&design_block<Lanes>, Lanes::width}; }

}  // namespace equipot::kernels::EQUIPOT_ISA
