// SPDX-License-Identifier: MIT
#include "fit/optimizer.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <string>
#include <utility>

#include "kokkos_kernels/optimizer.hpp"
#include "potential/engine_lock.hpp"
#include "potential/potential.hpp"

namespace equipot {

namespace {

constexpr std::size_t block = 16384;  // weights that one thread goes through before it takes the next ones

/// Calls f(begin, end) for blocks of `count` weights.
template <class F>
void for_blocks(std::size_t count, const F& f) {
    Kokkos::parallel_for("equipot::weights",
                         Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, (count + block - 1) / block),
                         [&](std::size_t b) { f(b * block, std::min(count, (b + 1) * block)); });
}

/// The length of a vector of any magnitude; its sum of squares never overflows.
double length(std::span<const double> x) {
    struct Part {
        double largest = 0, squares = 0;  // squares: of x / largest
    };
    std::vector<Part> parts((x.size() + block - 1) / block);
    for_blocks(x.size(), [&](std::size_t begin, std::size_t end) {
        Part part;
        bool finite = true;
        for (std::size_t i = begin; i < end; ++i) {
            part.largest = std::max(part.largest, std::abs(x[i]));
            finite = finite && std::isfinite(x[i]);
        }
        if (!finite) part.largest = std::nan("");
        if (part.largest > 0)
            for (std::size_t i = begin; i < end; ++i) part.squares += (x[i] / part.largest) * (x[i] / part.largest);
        parts[begin / block] = part;
    });
    double largest = 0, squares = 0;
    for (const Part& part : parts) {
        if (std::isnan(part.largest)) return part.largest;
        largest = std::max(largest, part.largest);
    }
    if (largest == 0) return 0;
    for (const Part& part : parts) squares += part.squares * (part.largest / largest) * (part.largest / largest);
    return largest * std::sqrt(squares);
}

}  // namespace

Optimizer::Optimizer(std::vector<double> weight_decay, std::span<const WeightMatrix> matrices,
                     OptimizerSettings settings)
    : mean(weight_decay.size(), 0.0),
      square(weight_decay.size(), 0.0),
      largest(settings.kind == OptimizerSettings::Kind::AmsGrad ? weight_decay.size() : 0, 0.0),
      weight_decay_(std::move(weight_decay)),
      settings_(settings) {
    const std::size_t size = mean.size();
    std::size_t at = 0;
    const auto single_until = [&](std::size_t end) {
        for (; at < end; at = std::min(end, at + block)) tasks_.push_back({at, std::min(block, end - at), 0, 0});
    };
    for (const WeightMatrix& m : matrices) {
        const auto fits = m.rows > 0 && m.columns > 0 && m.begin >= static_cast<std::int64_t>(at) &&
                          m.rows <= (static_cast<std::int64_t>(size) - m.begin) / m.columns;
        if (!fits)
            throw Error("the matrices of weights overlap, or reach beyond the " + std::to_string(size) + " weights");
        single_until(static_cast<std::size_t>(m.begin));
        tasks_.push_back(
            {at, static_cast<std::size_t>(m.rows * m.columns), static_cast<int>(m.rows), static_cast<int>(m.columns)});
        at += tasks_.back().count;
    }
    single_until(size);
    // Matrices take long: the largest first, so that no thread is left with one at the end.
    std::stable_sort(tasks_.begin(), tasks_.end(), [](const Task& a, const Task& b) {
        const auto work = [](const Task& t) {
            return static_cast<double>(t.rows) * t.columns * std::min(t.rows, t.columns);
        };
        return work(a) > work(b);
    });
}

double Optimizer::step(std::span<double> weights, std::span<const double> gradient, double rate, double longest) {
    if (weights.size() != mean.size() || gradient.size() != mean.size() || square.size() != mean.size())
        throw Error("the optimiser is for " + std::to_string(mean.size()) + " weights, not for " +
                    std::to_string(weights.size()) + " with " + std::to_string(gradient.size()) + " of a gradient");
    ensure_kokkos();
    const std::scoped_lock lock(engine_mutex());
    const double norm = length(gradient);
    if (!std::isfinite(norm)) return norm;
    const double factor = longest > 0 && norm > longest ? longest / norm : 1.0;
    ++steps;
    const auto t = static_cast<double>(steps);
    const kernels::AdamStep adam{rate,
                                 settings_.first_decay,
                                 settings_.second_decay,
                                 settings_.epsilon,
                                 1 / (1 - std::pow(settings_.first_decay, t)),
                                 1 / std::sqrt(1 - std::pow(settings_.second_decay, t)),
                                 static_cast<kernels::AdamStep::Kind>(settings_.kind)};
    const kernels::MuonStep muon{rate, settings_.matrix_decay};
    const kernels::OptimizerKernels kernel = kernels::make_optimizer_kernels();
    const auto threads = std::max(1, Kokkos::DefaultHostExecutionSpace().concurrency());
    std::vector<kernels::Scratch<float>> scratch(static_cast<std::size_t>(threads));
    std::atomic<std::size_t> next{0};
    Kokkos::parallel_for(
        "equipot::optimizer", Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, threads), [&](int thread) {
            for (std::size_t i = next++; i < tasks_.size(); i = next++) {
                const Task& task = tasks_[i];
                const std::size_t at = task.begin;
                const kernels::WeightState state{&weights[at], &gradient[at], &weight_decay_[at],
                                                 &mean[at],    &square[at],   largest.empty() ? nullptr : &largest[at],
                                                 factor};
                if (task.rows == 0)
                    kernel.adam(adam, state, task.count);
                else
                    kernel.muon(muon, state, task.rows, task.columns, scratch[static_cast<std::size_t>(thread)]);
            }
        });
    return norm;
}

void update_average(std::span<double> average, std::span<const double> weights, double decay) {
    if (average.size() != weights.size()) throw Error("the average is of another number of weights");
    ensure_kokkos();
    const std::scoped_lock lock(engine_mutex());
    for_blocks(weights.size(), [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) average[i] += (1 - decay) * (weights[i] - average[i]);
    });
}

}  // namespace equipot
