// The design stage for one instruction set: compiled once per set with -DEQUIPOT_ISA=v2|v3|v4|base and its flags.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/isa.hpp"
// The line above comes first: see there.
#include "kokkos_kernels/design.hpp"

namespace equipot::kernels {

template <class Isa>
DesignKernel design_kernel() {
    using Lanes = Pack<double, Isa::bytes / 8, Isa>;
    return {&design_block<Lanes>, Lanes::width};
}

template DesignKernel design_kernel<EQUIPOT_ISA::Isa>();

}  // namespace equipot::kernels
