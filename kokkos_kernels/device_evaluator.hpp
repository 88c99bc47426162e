// The evaluator on a device for those whose atoms are on the host: copies graphs in and results out, and moves the rows
// of an exchange through the host.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kokkos_kernels/device_memory.hpp"
#include "kokkos_kernels/device_pipeline.hpp"
#include "kokkos_kernels/evaluator.hpp"

namespace equipot::kernels {

template <class Space, class Real>
class DeviceEvaluator final : public Evaluator {
    using Pipeline = DevicePipeline<Space, Real>;
    using Memory = typename Pipeline::Memory;
    template <class T>
    using Unmanaged = Kokkos::View<T, Kokkos::LayoutRight, Kokkos::HostSpace, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;

public:
    /// `exact` answers while there are no tables: they are measured against it.
    DeviceEvaluator(const Model& model, int head, std::unique_ptr<Evaluator> exact)
        : model_(model), head_(head), exact_(std::move(exact)) {}

    int prepare(const std::vector<int>& active, int intervals) override {
        pipeline_.reset();
        weights_.reset();
        prepare_plan(plan_, model_, head_, active, Gpu::warp, intervals);
        if (intervals == 0) return exact_->prepare(active, 0);
        weights_.emplace(plan_);
        pipeline_.emplace(*weights_);
        return plan_.grid.intervals;
    }

    void compute(const Graph& graph, const std::vector<std::int32_t>& species, Exchange& exchange,
                 const Properties& what, Result& result) override {
        if (!pipeline_) return exact_->compute(graph, species, exchange, what, result);
        compute_on_device(graph, species, exchange, what, result);
    }

    [[nodiscard]] int padded_channels() const override {
        return (model_.channels + Gpu::warp - 1) / Gpu::warp * Gpu::warp;
    }
    [[nodiscard]] double measure_peak() const override { return exact_->measure_peak(); }
    [[nodiscard]] double bytes_per_atom(double edges_per_atom, const Properties& what,
                                        double total_per_owned) const override {
        return pipeline_ ? pipeline_->bytes_per_atom(edges_per_atom, what, total_per_owned) : 0;
    }
    /// What is left for atoms: teams take their part at the first step.
    [[nodiscard]] DeviceMemory memory() const override {
        DeviceMemory device = memory_of(Space());
        if (pipeline_) device.free = std::max(0.0, device.free - pipeline_->bytes_of_teams());
        return device;
    }

    /// For those who have atoms on the device: `graph` and the rows that `exchange` is given lie there, species are
    /// numbered as in prepare. Sets the energy and the virial of `result`; the rest of the results stays on the device,
    /// in what is returned, until the next call. What `exchange` throws comes through unchanged.
    const typename Pipeline::Output& run(const typename Pipeline::Graph& graph, Exchange& exchange,
                                         const Properties& what, Result& result);
    /// Null before tables are there, and again while species are added.
    [[nodiscard]] Pipeline* pipeline() { return pipeline_ ? &*pipeline_ : nullptr; }

private:
    void compute_on_device(const Graph& graph, const std::vector<std::int32_t>& species, Exchange& exchange,
                           const Properties& what, Result& result);

    /// What a step is made for: known where it fails.
    struct Load {
        std::int64_t owned = 0, total = 0;
        std::size_t edges = 0;
        Properties what;
    };

    /// Says of whatever goes wrong on the device how much of its memory that step takes.
    template <class Work>
    auto on_device(const Load& load, const Work& work) const {
        try {
            return work();
        } catch (const Error&) {
            throw;
        } catch (const std::exception& error) {
            fail(load, error);
        }
    }
    [[noreturn]] void fail(const Load& load, const std::exception& error) const {
        const double owned = std::max(1.0, static_cast<double>(load.owned));
        const double bytes = owned * bytes_per_atom(static_cast<double>(load.edges) / owned, load.what,
                                                    static_cast<double>(load.total) / owned) +
                             static_cast<double>(weights_->bytes);
        throw Error("the device failed on " + std::to_string(load.owned) + " atoms, which need about " +
                    std::to_string(std::lround(1e-6 * bytes)) + " MB of its memory: " + error.what());
    }

    /// Passes on to another exchange, and remembers whether that threw: the device did nothing wrong then.
    struct WatchedExchange final : Exchange {
        Exchange& watched;
        bool has_thrown = false;
        explicit WatchedExchange(Exchange& of) : watched(of) {}
        void forward(double* rows, int width) override {
            watch([&] { watched.forward(rows, width); });
        }
        void reverse(double* rows, int width) override {
            watch([&] { watched.reverse(rows, width); });
        }
        void forward(float* rows, int width) override {
            watch([&] { watched.forward(rows, width); });
        }
        void reverse(float* rows, int width) override {
            watch([&] { watched.reverse(rows, width); });
        }

    private:
        template <class Move>
        void watch(const Move& move) {
            has_thrown = true;
            move();
            has_thrown = false;
        }
    };

    /// Hands rows of the device to an exchange of the host.
    struct HostExchange final : Exchange {
        const DeviceEvaluator& evaluator;
        Exchange& of_host;
        const Load& load;
        HostExchange(const DeviceEvaluator& mine, Exchange& of, const Load& of_step)
            : evaluator(mine), of_host(of), load(of_step) {}
        void forward(double* rows, int width) override { move(rows, width, true); }
        void reverse(double* rows, int width) override { move(rows, width, false); }
        void forward(float* rows, int width) override { move(rows, width, true); }
        void reverse(float* rows, int width) override { move(rows, width, false); }

    private:
        template <class T>
        void move(T* rows, int width, bool is_forward) {
            if (!of_host.moves_rows()) return;
            const auto size = static_cast<std::size_t>(load.total) * static_cast<std::size_t>(width);
            const Kokkos::View<T*, Memory, Kokkos::MemoryTraits<Kokkos::Unmanaged>> device(rows, size);
            const auto host = evaluator.on_device(
                load, [&] { return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), device); });
            if (is_forward)
                of_host.forward(host.data(), width);
            else
                of_host.reverse(host.data(), width);
            evaluator.on_device(load, [&] { Kokkos::deep_copy(device, host); });
        }
    };

    /// The first `size` numbers of an array that grows.
    template <class T>
    static auto leading(typename Pipeline::template Array<T>& array, std::size_t size) {
        if (array.extent(0) < size)
            array = typename Pipeline::template Array<T>(Kokkos::view_alloc(Kokkos::WithoutInitializing, "equipot"),
                                                         size + size / 16);
        return Kokkos::subview(array, std::pair(std::size_t(0), size));
    }
    template <class T, class From>
    static auto copy_in(typename Pipeline::template Array<T>& array, const From& from) {
        const auto target = leading<T>(array, from.size());
        Kokkos::deep_copy(target, Unmanaged<const T*>(from.data(), from.size()));
        return target;
    }
    static auto zeroed(typename Pipeline::template Array<double>& array, std::size_t size) {
        const auto target = leading<double>(array, size);
        Kokkos::deep_copy(Space(), target, 0.0);
        return target;
    }
    static void copy_out(const typename Pipeline::template Array<double>& from, std::size_t size,
                         std::vector<double>& to) {
        to.resize(size);
        Kokkos::deep_copy(Unmanaged<double*>(to.data(), size), Kokkos::subview(from, std::pair(std::size_t(0), size)));
    }

    const Model& model_;
    int head_;
    std::unique_ptr<Evaluator> exact_;
    Plan<Real> plan_;
    std::optional<DevicePlan<Space, Real>> weights_;
    std::optional<Pipeline> pipeline_;
    typename Pipeline::template Array<std::int32_t> species_, neighbor_;
    typename Pipeline::template Array<std::int64_t> first_;
    typename Pipeline::template Array<double> displacement_, energies_, forces_, virials_, centroid_, features_;
    typename Pipeline::template Array<double> totals_{"equipot totals", 10};
    typename Pipeline::template Array<int> too_close_{"equipot too close", 1};
    typename Pipeline::Output output_;
};

template <class Space, class Real>
auto DeviceEvaluator<Space, Real>::run(const typename Pipeline::Graph& graph, Exchange& exchange,
                                       const Properties& what, Result& result) -> const typename Pipeline::Output& {
    const auto owned = static_cast<std::size_t>(graph.owned), total = static_cast<std::size_t>(graph.total);
    const bool derivatives = what.forces || what.virials || what.centroid_virials;
    const auto width = what.features ? static_cast<std::size_t>(pipeline_->feature_width()) : 0;
    const std::size_t moved = derivatives ? total : 0, sheared = what.virials ? total : 0,
                      centred = what.centroid_virials ? total : 0;
    const Load load{graph.owned, graph.total, graph.neighbor.extent(0), what};
    WatchedExchange watched(exchange);
    std::array<double, 10> totals{};
    int too_close = 0;
    try {
        output_.energies = leading<double>(energies_, owned);
        output_.totals = totals_;
        output_.too_close = too_close_;
        output_.forces = typename Pipeline::Vectors(zeroed(forces_, 3 * moved).data(), moved);
        output_.virials = typename Pipeline::Tensors(zeroed(virials_, 9 * sheared).data(), sheared);
        output_.centroid = typename Pipeline::Tensors(zeroed(centroid_, 9 * centred).data(), centred);
        output_.features = decltype(output_.features)(leading<double>(features_, owned * width).data(), owned, width);
        pipeline_->compute(graph, watched, what, output_);
        Space().fence();
        Kokkos::deep_copy(Unmanaged<double*>(totals.data(), totals.size()), totals_);
        Kokkos::deep_copy(Unmanaged<int*>(&too_close, 1), too_close_);
    } catch (const Error&) {
        throw;
    } catch (const std::exception& error) {
        if (watched.has_thrown) throw;
        fail(load, error);
    }

    result.energy = totals[0];
    std::copy(totals.begin() + 1, totals.end(), result.virial.begin());
    if (too_close > 0)
        throw Error(
            "two atoms are closer than 0.5 Å, or a position is not a number: on a device the radial functions "
            "start there; look at the structure, or evaluate it with device \"cpu\"");
    return output_;
}

template <class Space, class Real>
void DeviceEvaluator<Space, Real>::compute_on_device(const Graph& graph, const std::vector<std::int32_t>& species,
                                                     Exchange& exchange, const Properties& what, Result& result) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    const auto owned = static_cast<std::size_t>(graph.owned);

    const Load load{graph.owned, graph.total, graph.neighbor.size(), what};
    typename Pipeline::Graph there;
    there.owned = graph.owned;
    there.total = graph.total;
    on_device(load, [&] {
        there.species = copy_in<std::int32_t>(species_, species);
        there.first = copy_in<std::int64_t>(first_, graph.first);
        there.neighbor = copy_in<std::int32_t>(neighbor_, graph.neighbor);
        there.displacement = decltype(there.displacement)(copy_in<double>(displacement_, graph.displacement).data(),
                                                          graph.neighbor.size());
        Space().fence();
    });

    HostExchange moved(*this, exchange, load);
    const Clock::time_point ready = Clock::now();
    const auto& output = run(there, moved, what, result);
    const Clock::time_point done = Clock::now();

    on_device(load, [&] {
        copy_out(energies_, owned, result.energies);
        copy_out(forces_, output.forces.size(), result.forces);
        copy_out(virials_, output.virials.size(), result.virials);
        copy_out(centroid_, output.centroid.size(), result.centroid_virials);
        copy_out(features_, output.features.size(), result.features);
    });
    result.profile.clear();
    if (!what.profile) return;
    const auto stage = [&](const char* name, Clock::time_point from, Clock::time_point to) {
        result.profile.push_back({name, std::chrono::duration<double>(to - from).count(), 0, 0});
    };
    stage("copies to the device", start, ready);
    stage("device", ready, done);
    stage("copies from the device", done, Clock::now());
}

// Compiled once, in device_instance.cpp: it takes minutes.
extern template class DevicePipeline<Kokkos::DefaultHostExecutionSpace, double>;
extern template class DevicePipeline<Kokkos::DefaultHostExecutionSpace, float>;
#if defined(KOKKOS_ENABLE_CUDA)
using DeviceSpace = Kokkos::Cuda;
#elif defined(KOKKOS_ENABLE_HIP)
using DeviceSpace = Kokkos::HIP;
#endif
#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
extern template class DevicePipeline<DeviceSpace, double>;
extern template class DevicePipeline<DeviceSpace, float>;
#endif

}  // namespace equipot::kernels
