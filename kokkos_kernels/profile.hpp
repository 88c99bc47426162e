// Profile: seconds, multiply-adds and bytes per stage, counted where the stages are called. Off unless asked for.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace equipot::kernels {

enum class Stage { Geometry, Radial, DensityForward, DensityBackward, Mixing, ProductForward, ProductBackward };
constexpr std::size_t stage_count = 7;
constexpr std::array<const char*, stage_count> stage_names = {"geometry",         "radial",         "density forward",
                                                              "density backward", "channel mixing", "product forward",
                                                              "product backward"};

/// Processor ticks where they are cheap to read: a stage of one edge takes a fraction of a microsecond.
inline std::uint64_t ticks() {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

/// What one thread did.
struct StageCounts {
    bool on = false;
    std::array<std::uint64_t, stage_count> ticks{};
    std::array<double, stage_count> multiply_adds{}, bytes{};
};

/// Adds the time of its scope, and the work it is told, to a stage.
class StageScope {
public:
    StageScope(StageCounts& counts, Stage stage) : counts_(counts), stage_(static_cast<std::size_t>(stage)) {
        if (counts_.on) start_ = ticks();
    }
    ~StageScope() {
        if (counts_.on) counts_.ticks[stage_] += ticks() - start_;
    }
    StageScope(const StageScope&) = delete;
    StageScope& operator=(const StageScope&) = delete;

    /// `bytes`: what has to come from beyond the first-level cache at least once (weights, tables, neighbours'
    /// features).
    void work(double multiply_adds, double bytes) {
        if (!counts_.on) return;
        counts_.multiply_adds[stage_] += multiply_adds;
        counts_.bytes[stage_] += bytes;
    }

private:
    StageCounts& counts_;
    std::size_t stage_;
    std::uint64_t start_ = 0;
};

}  // namespace equipot::kernels
