// Compiled for CUDA, never run: the device pipeline in both precisions, with every kernel it launches. It keeps the stages
// free of anything a GPU cannot do, and tells what registers and memory the kernels take. SPDX-License-Identifier: MIT
#include "kokkos_kernels/device_pipeline.hpp"

namespace equipot::kernels {

template class DevicePlan<Kokkos::Cuda, double>;
template class DevicePlan<Kokkos::Cuda, float>;
template class DevicePipeline<Kokkos::Cuda, double>;
template class DevicePipeline<Kokkos::Cuda, float>;

}  // namespace equipot::kernels
