// How much memory a device has left for this process, and who else takes from it.
// SPDX-License-Identifier: MIT
#pragma once

#include <sys/resource.h>

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <fstream>
#include <string>

#include "potential/potential.hpp"

namespace equipot::kernels {

/// The machine's, and what limits on this process leave of it.
inline DeviceMemory memory_of(const Kokkos::DefaultHostExecutionSpace&) {
    // Lines of "MemAvailable:   12345 kB".
    const auto kilobytes = [](const char* file, const std::string& wanted) {
        std::ifstream lines(file);
        std::string key, rest;
        for (double value = 0; lines >> key >> value; std::getline(lines, rest))
            if (key == wanted) return value;
        return -1.0;
    };
    double free = 1024 * kilobytes("/proc/meminfo", "MemAvailable:");
    rlimit limit{};
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        std::ifstream pages("/proc/self/statm");
        double used = 0;
        pages >> used;
        free = std::min(free, std::max(0.0, static_cast<double>(limit.rlim_cur) - 4096 * used));
    }
    return free < 0 ? DeviceMemory{} : DeviceMemory{"host", free};
}

#if defined(KOKKOS_ENABLE_CUDA)
inline DeviceMemory memory_of(const Kokkos::Cuda& space) {
    std::size_t free = 0, total = 0;
    char address[32] = {};
    if (cudaMemGetInfo(&free, &total) != cudaSuccess ||
        cudaDeviceGetPCIBusId(address, sizeof(address), space.cuda_device()) != cudaSuccess)
        return {};
    return {address, static_cast<double>(free)};
}
#endif

#if defined(KOKKOS_ENABLE_HIP)
inline DeviceMemory memory_of(const Kokkos::HIP& space) {
    std::size_t free = 0, total = 0;
    char address[32] = {};
    if (hipMemGetInfo(&free, &total) != hipSuccess ||
        hipDeviceGetPCIBusId(address, sizeof(address), space.hip_device()) != hipSuccess)
        return {};
    return {address, static_cast<double>(free)};
}
#endif

}  // namespace equipot::kernels
