// The evaluators on devices that this build has, and on the host's threads, which is how they are tested.
// SPDX-License-Identifier: MIT
#include "kokkos_kernels/device_evaluator.hpp"

namespace equipot::kernels {

template class DevicePipeline<Kokkos::DefaultHostExecutionSpace, double>;
template class DevicePipeline<Kokkos::DefaultHostExecutionSpace, float>;
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
template class DevicePipeline<DeviceSpace, double>;
template class DevicePipeline<DeviceSpace, float>;
#endif

namespace {

#if defined(KOKKOS_ENABLE_CUDA)
constexpr const char* device_name = "cuda";
#elif defined(KOKKOS_ENABLE_HIP)
constexpr const char* device_name = "hip";
#endif

template <class Space>
std::unique_ptr<Evaluator> make_on(const Model& model, int head, Precision precision,
                                   std::unique_ptr<Evaluator> exact) {
    if (precision == Precision::Double)
        return std::make_unique<DeviceEvaluator<Space, double>>(model, head, std::move(exact));
    return std::make_unique<DeviceEvaluator<Space, float>>(model, head, std::move(exact));
}

}  // namespace

std::unique_ptr<Evaluator> make_device_evaluator(const Model& model, int head, Precision precision,
                                                 const std::string& device, std::string& name) {
    std::string exact_name;
    const auto exact = [&] { return make_evaluator(model, head, precision, exact_name); };
    if (device == "host") {
        name = "device code on the host";
        return make_on<Kokkos::DefaultHostExecutionSpace>(model, head, precision, exact());
    }
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
    if (device == "gpu" || device == device_name) {
        name = DeviceSpace::name();
        return make_on<DeviceSpace>(model, head, precision, exact());
    }
    const std::string built = std::string("a GPU (\"") + device_name + "\")";
#else
    const std::string built = "no GPU: it was built with a Kokkos for CPUs";
#endif
    if (device == "gpu" || device == "cuda" || device == "hip")
        throw Error("device \"" + device + "\" is not in this build of equipot, which knows " + built);
    throw Error("device must be \"cpu\", \"gpu\", \"cuda\", \"hip\" or \"host\", not \"" + device + "\"");
}

}  // namespace equipot::kernels
