// Compiled for CUDA, never run, once with -DEQUIPOT_REAL=float and once with double: the device pipeline with every
// kernel it launches. It keeps the stages free of anything a GPU cannot do, and tells what the kernels take.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/device_evaluator.hpp"

namespace equipot::kernels {

template class DevicePipeline<Kokkos::Cuda, EQUIPOT_REAL>;
template class DeviceEvaluator<Kokkos::Cuda, EQUIPOT_REAL>;

}  // namespace equipot::kernels
