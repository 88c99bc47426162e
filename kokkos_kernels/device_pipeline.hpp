// DevicePipeline: the evaluator over a Kokkos execution space, with everything in that space's memory.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kokkos_kernels/device_layer.hpp"
#include "kokkos_kernels/device_plan.hpp"
#include "potential/graph.hpp"
#include "potential/potential.hpp"

namespace equipot::kernels {

namespace detail {

/// Places the atoms of one species behind those of the species before it. A scan: the order is the same every time.
struct SortSpecies {
    const std::int32_t* species;
    std::int32_t *order, *first;
    std::int32_t which;
    std::int64_t owned;
    KOKKOS_FUNCTION void operator()(std::int64_t i, std::int32_t& before, bool final) const {
        if (species[i] == which) {
            if (final) order[first[which] + before] = static_cast<std::int32_t>(i);
            ++before;
        }
        if (final && i + 1 == owned) first[which + 1] = first[which] + before;
    }
};

/// Lists the edges of each atom within the cutoff. What is not a number stays in the list, and in the result.
struct FindEdges {
    const std::int64_t* first;
    const double* displacement;
    std::int32_t *within, *count;
    double cutoff;
    KOKKOS_FUNCTION void operator()(std::int64_t i) const {
        std::int32_t found = 0;
        for (std::int64_t e = first[i]; e < first[i + 1]; ++e) {
            const double* d = displacement + 3 * e;
            if (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] >= cutoff * cutoff) continue;
            within[first[i] + found++] = static_cast<std::int32_t>(e - first[i]);
        }
        count[i] = found;
    }
};

struct SumEnergies {
    const double* energies;
    KOKKOS_FUNCTION void operator()(std::int64_t i, double& sum) const { sum += energies[i]; }
};

struct SumVirial {
    const double* slots;
    double* virial;
    KOKKOS_FUNCTION void operator()(int c) const {
        double sum = 0;
        for (int s = 0; s < DeviceSums::virial_slots; ++s) sum += slots[9 * s + c];
        virial[c] = sum;
    }
};

}  // namespace detail

/// The pipeline of pipeline.hpp on a device. The same stages run as team code (device_layer.hpp): lanes of channels are
/// the threads of a team, neighbours' adjoints and forces are added atomically, each layer is one kernel on the way
/// there and one on the way back, the last layer one for both.
///
/// Who has atoms on the device, and has equipot as a part of its build (add_subdirectory: these headers are not
/// installed), calls `compute` with its views:
///
///     Potential potential(model, {.precision = Precision::Mixed, .device = "gpu"});
///     potential.prepare(atomic_numbers);   // once: tables as fine as they need be; see prepared_species() for numbers
///     auto& evaluator = dynamic_cast<DeviceEvaluator<Space, float>&>(potential.evaluator());
///     const auto& output = evaluator.run(graph, exchange, what, result);   // every step; or pipeline()->compute(...)
///
/// - All work goes to the execution space instance given to the constructor, in order. `compute` neither waits for it
///   nor, once its memory has grown to the largest graph seen, allocates anything: fence before reading results.
/// - `graph` and `output` are views in the memory of Space, kept alive by the caller until the work is done. Species
///   are indices into the plan's `active`. Edges beyond the cutoff contribute nothing.
/// - Between layers it calls exchange.forward(rows, width) and, on the way back, exchange.reverse(rows, width), with
///   `rows` in the memory of Space and the kernels that fill them queued, not finished: an exchange that packs on the
///   same instance needs no fence, one that hands rows to others (MPI, the host) fences first. Width:
///   `exchange_width(t)` numbers per atom, at most `exchange_width()`.
/// - Energies are set; forces and virials are added to what is there, also on halo atoms, whose rows are to be added to
///   their owners. `totals` is set to the energy and the nine numbers of the virial, of this graph's edges.
/// - Radial functions come from tables, which start at `table_low` = 0.5 Å. Where an edge is shorter, or its length not
///   a number, results are NaN (never plausible numbers), and `too_close` counts it.
/// - Real = float is `mixed`: geometry and the sums of energies, forces and virials are double.
template <class Space, class Real>
class DevicePipeline {
public:
    using Memory = typename Space::memory_space;
    template <class T>
    using Array = Kokkos::View<T*, Memory>;
    using Vectors = Kokkos::View<double* [3], Kokkos::LayoutRight, Memory>;
    using Tensors = Kokkos::View<double* [9], Kokkos::LayoutRight, Memory>;

    struct Graph {
        std::int64_t owned = 0, total = 0;
        Array<const std::int32_t> species;                                          ///< [total]
        Array<const std::int64_t> first;                                            ///< [owned + 1]
        Array<const std::int32_t> neighbor;                                         ///< [edges]
        Kokkos::View<const double* [3], Kokkos::LayoutRight, Memory> displacement;  ///< [edges], r_ij = x_j - x_i
    };

    struct Output {
        Array<double> energies;  ///< [owned]
        Array<double> totals;    ///< [10] energy, virial
        Array<int> too_close;    ///< [1]
        Vectors forces;          ///< [total]; needed when any of forces and virials are wanted
        Tensors virials;         ///< [total], symmetric, half to each atom of an edge; where wanted
        Tensors centroid;        ///< [total], r_ij ⊗ f_j to j; where wanted
        Kokkos::View<double**, Kokkos::LayoutRight, Memory> features;  ///< [owned, feature_width()]; where wanted
    };

    /// Threads per team: `lanes` for the channels of an atom, `groups` atoms. Zeros choose what suits the device.
    struct Threads {
        int lanes = 0, groups = 0;
    };

    explicit DevicePipeline(const DevicePlan<Space, Real>& plan, Space space = {}, Threads threads = {});

    void compute(const Graph& graph, Exchange& exchange, const Properties& what, const Output& output);

    [[nodiscard]] int exchange_width(std::size_t layer) const {
        return square(plan_.layers[layer].hidden_in + 1) * plan_.constants.padded;
    }
    [[nodiscard]] int exchange_width() const;
    [[nodiscard]] int feature_width() const { return feature_offset_.back(); }

    /// Bytes of the device's memory that a step needs for each owned atom: graph, results, and what is kept between
    /// layers. `total_per_owned`: atoms with halo to each owned one.
    [[nodiscard]] double bytes_per_atom(double edges_per_atom, const Properties& what,
                                        double total_per_owned = 1) const;
    /// Bytes of the device's memory that the teams at work need, however many atoms there are.
    [[nodiscard]] double bytes_of_teams() const;

private:
    using Layer = DeviceLayer<Space, Real>;
    using Team = typename Layer::Team;

    /// Rows that one layer hands to the next and the next hands back.
    struct State {
        Array<Real> u, ubar, skip;
    };

    void reserve(const Graph& graph, bool derivatives);
    void sort_and_filter(const Graph& graph);
    [[nodiscard]] TeamShape shape_of(std::size_t t, Threads threads) const;
    /// Bytes of a team, in fast memory and in slow.
    [[nodiscard]] static std::array<int, 2> scratch_of(const TeamShape& shape);
    void run(std::size_t t, bool forward, bool backward, const Graph& graph, const DeviceSums& sums);

    const DevicePlan<Space, Real>& plan_;
    Space space_;
    std::vector<TeamShape> shapes_;
    std::vector<State> states_;
    std::vector<int> feature_offset_;
    Array<std::int32_t> order_, species_first_, within_, within_count_;
    Array<double> virial_slots_;
};

template <class Space, class Real>
DevicePipeline<Space, Real>::DevicePipeline(const DevicePlan<Space, Real>& plan, Space space, Threads threads)
    : plan_(plan), space_(space), states_(plan.layers.size()), feature_offset_{0} {
    for (std::size_t t = 0; t < plan.layers.size(); ++t) {
        shapes_.push_back(shape_of(t, threads));
        feature_offset_.push_back(feature_offset_.back() +
                                  square(plan.layers[t].hidden_out + 1) * plan.constants.channels);
    }
    species_first_ = Array<std::int32_t>("equipot species", static_cast<std::size_t>(plan.constants.species) + 1);
    virial_slots_ = Array<double>("equipot virial", 9 * DeviceSums::virial_slots);
}

/// How many threads share an atom and how many atoms a team, and what of a team's memory is the fast kind.
template <class Space, class Real>
TeamShape DevicePipeline<Space, Real>::shape_of(std::size_t t, Threads threads) const {
    constexpr bool host = Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible;
    constexpr int most_threads = 256;  // as in the kernels' launch bounds
    const LayerWeights<Real>& layer = plan_.layers[t];
    const ModelConstants& constants = plan_.constants;
    const int row = constants.padded * static_cast<int>(sizeof(Real));
    TeamShape shape{};
    shape.edge_bytes = Team::edge_bytes(square(constants.l_max + 1), layer.coupling.rows, layer.readout.units());
    shape.a_bytes = Team::a_rows(layer, constants.l_max, t == 0) * row;
    shape.d_bytes = Team::d_rows(layer, t == 0) * row;
    const int fast = Team::Policy::scratch_size_max(0), slow = Team::Policy::scratch_size_max(1);

    // A divisor of the number of channels, of whole warps.
    const int warps = constants.padded / Gpu::warp;
    int lanes = 1;
    for (int w = 1; w <= warps && w * Gpu::warp <= most_threads; ++w)
        if (warps % w == 0) lanes = w * Gpu::warp;
    shape.lanes = threads.lanes > 0 ? threads.lanes : host ? 1 : lanes;
    shape.groups = threads.groups > 0 ? threads.groups : 1;
    const int each = shape.edge_bytes + shape.a_bytes + shape.d_bytes;
    if (threads.groups == 0 && !host)
        while (2 * shape.groups * shape.lanes <= most_threads && 2 * shape.groups * each <= fast) shape.groups *= 2;
    shape.node_bytes = product_scratch(layer.program) * static_cast<int>(sizeof(Real)) * shape.lanes * shape.groups;

    int left = fast, below = shape.node_bytes;
    const int sizes[3] = {shape.edge_bytes, shape.a_bytes, shape.d_bytes};
    for (int k = 0; k < 3; ++k) {
        const int bytes = sizes[k] * shape.groups;
        shape.levels[k] = bytes <= left ? 0 : 1;
        (shape.levels[k] == 0 ? left : below) += shape.levels[k] == 0 ? -bytes : bytes;
    }
    if (below > slow)
        throw Error(
            "layer " + std::to_string(t) + " of this model needs " + std::to_string(below >> 20) +
            " MB of working memory for each team of threads, more than the device gives: evaluate it on the CPU");
    return shape;
}

template <class Space, class Real>
int DevicePipeline<Space, Real>::exchange_width() const {
    int width = 0;
    for (std::size_t t = 1; t < plan_.layers.size(); ++t) width = std::max(width, exchange_width(t));
    return width;
}

template <class Space, class Real>
double DevicePipeline<Space, Real>::bytes_per_atom(double edges_per_atom, const Properties& what,
                                                   double total_per_owned) const {
    constexpr double of_real = sizeof(Real), of_double = 8, of_index = 4, of_offset = 8;
    const bool derivatives = what.forces || what.virials || what.centroid_virials;
    double owned = of_offset + 2 * of_index + of_double;  // first edge; place by species, count of edges; energy
    double total =
        of_index + of_double * ((derivatives ? 3 : 0) + (what.virials ? 9 : 0) + (what.centroid_virials ? 9 : 0));
    const double edge = 2 * of_index + 3 * of_double;  // neighbour, place in the list; displacement
    for (std::size_t t = 1; t < plan_.layers.size(); ++t) {
        total += exchange_width(t) * (derivatives ? 2.0 : 1.0) * of_real;
        if (plan_.layers[t].skip)
            owned += square(plan_.layers[t].hidden_out + 1) * double(plan_.constants.padded) * of_real;
    }
    if (what.features) owned += feature_width() * of_double;
    return owned + total * total_per_owned + edge * edges_per_atom;
}

template <class Space, class Real>
std::array<int, 2> DevicePipeline<Space, Real>::scratch_of(const TeamShape& shape) {
    std::array<int, 2> scratch = {0, shape.node_bytes};
    const int sizes[3] = {shape.edge_bytes, shape.a_bytes, shape.d_bytes};
    for (std::size_t k = 0; k < 3; ++k) scratch[static_cast<std::size_t>(shape.levels[k])] += sizes[k] * shape.groups;
    return scratch;
}

template <class Space, class Real>
double DevicePipeline<Space, Real>::bytes_of_teams() const {
    double most = 0;
    for (const TeamShape& shape : shapes_) {
        const double teams = space_.concurrency() / (shape.lanes * shape.groups);
        most = std::max(most, teams * scratch_of(shape)[1]);
    }
    return most;
}

template <class Space, class Real>
void DevicePipeline<Space, Real>::reserve(const Graph& graph, bool derivatives) {
    // Growing with some room to spare: numbers of halo atoms and edges change a little at every rebuild.
    const auto grow = [](auto& array, std::size_t size) {
        using View = std::remove_reference_t<decltype(array)>;
        if (array.extent(0) >= size) return;
        array = View();  // gives back first what is too small
        array = View(Kokkos::view_alloc(Kokkos::WithoutInitializing, "equipot state"), size + size / 16);
    };
    const auto owned = static_cast<std::size_t>(graph.owned), total = static_cast<std::size_t>(graph.total);
    grow(order_, owned);
    grow(within_count_, owned);
    grow(within_, graph.neighbor.extent(0));
    for (std::size_t t = 1; t < plan_.layers.size(); ++t) {
        const auto width = static_cast<std::size_t>(exchange_width(t));
        const LayerWeights<Real>& layer = plan_.layers[t];
        grow(states_[t].u, total * width);
        if (layer.skip)
            grow(states_[t].skip,
                 owned * static_cast<std::size_t>(square(layer.hidden_out + 1) * plan_.constants.padded));
        if (!derivatives) continue;
        grow(states_[t].ubar, total * width);
        if (total > 0)
            Kokkos::deep_copy(space_, Kokkos::subview(states_[t].ubar, std::pair(std::size_t(0), total * width)),
                              Real(0));
    }
}

template <class Space, class Real>
void DevicePipeline<Space, Real>::sort_and_filter(const Graph& graph) {
    Kokkos::deep_copy(space_, species_first_, 0);
    if (graph.owned == 0) return;
    const Kokkos::RangePolicy<Space, Kokkos::IndexType<std::int64_t>> atoms(space_, 0, graph.owned);
    for (std::int32_t s = 0; s < plan_.constants.species; ++s)
        Kokkos::parallel_scan(
            "equipot::sort", atoms,
            detail::SortSpecies{graph.species.data(), order_.data(), species_first_.data(), s, graph.owned});
    Kokkos::parallel_for("equipot::edges", atoms,
                         detail::FindEdges{graph.first.data(), graph.displacement.data(), within_.data(),
                                           within_count_.data(), plan_.constants.cutoff});
}

template <class Space, class Real>
void DevicePipeline<Space, Real>::run(std::size_t t, bool forward, bool backward, const Graph& graph,
                                      const DeviceSums& sums) {
    if (graph.owned == 0) return;
    const bool last = t + 1 == plan_.layers.size();
    const TeamShape& shape = shapes_[t];
    Layer kernel{};
    kernel.model = plan_.constants;
    kernel.layer = plan_.layers[t];
    kernel.edges = {graph.owned,          graph.total,           graph.species.data(),
                    graph.first.data(),   graph.neighbor.data(), graph.displacement.data(),
                    within_.data(),       within_count_.data(),  order_.data(),
                    species_first_.data()};
    kernel.sums = sums;
    kernel.shape = shape;
    kernel.first = t == 0;
    kernel.last = last;
    kernel.do_forward = forward;
    kernel.do_backward = backward;
    kernel.feature_width = feature_width();
    kernel.feature_offset = feature_offset_[t];
    kernel.u = states_[t].u.data();
    kernel.ubar = states_[t].ubar.data();
    kernel.skip = states_[t].skip.data();
    if (!last) {
        kernel.next = plan_.layers[t + 1];
        kernel.next_u = states_[t + 1].u.data();
        kernel.next_ubar = states_[t + 1].ubar.data();
        kernel.next_skip = states_[t + 1].skip.data();
    }
    // Tiles are of one species: at most one more for each than atoms would fill.
    const auto tiles = static_cast<int>(graph.owned / shape.groups) + plan_.constants.species;
    const std::array<int, 2> scratch = scratch_of(shape);
    typename Team::Policy policy(space_, tiles, shape.lanes * shape.groups);
    policy.set_scratch_size(0, Kokkos::PerTeam(scratch[0])).set_scratch_size(1, Kokkos::PerTeam(scratch[1]));
    Kokkos::parallel_for(forward ? (backward ? "equipot::last layer" : "equipot::forward") : "equipot::backward",
                         policy, kernel);
}

template <class Space, class Real>
void DevicePipeline<Space, Real>::compute(const Graph& graph, Exchange& exchange, const Properties& what,
                                          const Output& output) {
    const bool derivatives = what.forces || what.virials || what.centroid_virials;
    reserve(graph, derivatives);
    Kokkos::deep_copy(space_, virial_slots_, 0.0);
    Kokkos::deep_copy(space_, output.totals, 0.0);
    Kokkos::deep_copy(space_, output.too_close, 0);
    sort_and_filter(graph);

    const DeviceSums sums{output.energies.data(),
                          output.forces.data(),
                          what.virials ? output.virials.data() : nullptr,
                          what.centroid_virials ? output.centroid.data() : nullptr,
                          what.features ? output.features.data() : nullptr,
                          virial_slots_.data(),
                          output.too_close.data()};
    const std::size_t layers = plan_.layers.size();
    for (std::size_t t = 0; t < layers; ++t) {
        const bool last = t + 1 == layers;
        run(t, true, last && derivatives, graph, sums);
        if (!last) exchange.forward(states_[t + 1].u.data(), exchange_width(t + 1));
    }
    for (std::size_t t = layers - 1; derivatives && t-- > 0;) {
        exchange.reverse(states_[t + 1].ubar.data(), exchange_width(t + 1));
        run(t, false, true, graph, sums);
    }

    if (graph.owned == 0) return;
    Kokkos::parallel_reduce(
        "equipot::energy", Kokkos::RangePolicy<Space, Kokkos::IndexType<std::int64_t>>(space_, 0, graph.owned),
        detail::SumEnergies{sums.energies},
        Kokkos::View<double, Memory, Kokkos::MemoryTraits<Kokkos::Unmanaged>>(output.totals.data()));
    Kokkos::parallel_for("equipot::virial", Kokkos::RangePolicy<Space>(space_, 0, 9),
                         detail::SumVirial{virial_slots_.data(), output.totals.data() + 1});
}

}  // namespace equipot::kernels
