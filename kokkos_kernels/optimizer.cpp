// The optimiser's stage for one instruction set: compiled once per set with -DEQUIPOT_ISA=v2|v3|v4|base and its flags.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/isa.hpp"
// The line above comes first: see there.
#include "kokkos_kernels/optimizer.hpp"

namespace equipot::kernels {

template <class Isa>
OptimizerKernels optimizer_kernels() {
    return {&adam_block<Isa>, &muon_block<Pack<float, Isa::bytes / 4, Isa>>};
}

template OptimizerKernels optimizer_kernels<EQUIPOT_ISA::Isa>();

}  // namespace equipot::kernels
