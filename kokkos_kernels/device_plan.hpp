// DevicePlan: a plan's weights and tables in the memory of a device.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>
#include <any>
#include <vector>

#include "kokkos_kernels/device_layer.hpp"
#include "kokkos_kernels/plan.hpp"

namespace equipot::kernels {

template <class Space, class Real>
class DevicePlan {
public:
    /// Copies what the plan holds now: made for packs as wide as a warp, and with tables.
    explicit DevicePlan(const Plan<Real>& plan);

    ModelConstants constants{};
    std::vector<LayerWeights<Real>> layers;
    std::size_t bytes = 0;  ///< of weights and tables

private:
    /// A copy in the device's memory that lives as long as this object.
    template <class T>
    const T* keep(const std::vector<T>& host) {
        Kokkos::View<T*, typename Space::memory_space> copy(
            Kokkos::view_alloc(Kokkos::WithoutInitializing, "equipot plan"), host.size());
        Kokkos::deep_copy(copy, Kokkos::View<const T*, Kokkos::HostSpace, Kokkos::MemoryTraits<Kokkos::Unmanaged>>(
                                    host.data(), host.size()));
        bytes += host.size() * sizeof(T);
        kept_.emplace_back(copy);
        return copy.data();
    }
    Coupling<Real> keep(const SparseRows<Real>& rows) {
        const Coupling<Real> host = rows.view();
        return {keep(rows.first), keep(rows.terms), host.rows};
    }
    ProductProgram keep(ProductProgram program) {
        const auto copy = [&](const auto* from, int count) { return keep(std::vector(from, from + count)); };
        program.nodes = copy(program.nodes, program.node_count);
        program.groups = copy(program.groups, program.group_count);
        program.variables = copy(program.variables, program.term_count);
        return program;
    }

    /// Buffers one after the other; all of one size.
    template <class T>
    static void append(std::vector<T>& all, const Buffer<T>& one) {
        all.insert(all.end(), one.data(), one.data() + one.extent(0));
    }
    /// Weights of mixing one after the other, and their transposes.
    struct Mixing {
        std::vector<Real> forward, backward;
        void add(const MixWeights<Real>& one) {
            append(forward, one.forward);
            append(backward, one.backward);
        }
    };

    std::vector<std::any> kept_;
};

template <class Space, class Real>
DevicePlan<Space, Real>::DevicePlan(const Plan<Real>& plan) {
    const auto species = plan.active.size(), padded = static_cast<std::size_t>(plan.padded);
    constants.channels = plan.channels;
    constants.padded = plan.padded;
    constants.l_max = plan.l_max;
    constants.species = static_cast<int>(species);
    constants.cutoff = plan.cutoff;
    constants.scale = plan.scale;
    constants.grid = plan.grid;
    constants.base_energy = keep(plan.base_energy);
    constants.has_zbl = plan.has_zbl;
    constants.zbl = plan.zbl;
    constants.zbl_pairs = keep(plan.zbl_pairs);

    for (std::size_t t = 0; t < plan.layers.size(); ++t) {
        const LayerPlan<Real>& from = plan.layers[t];
        LayerWeights<Real> to{};
        to.hidden_in = from.hidden_in;
        to.hidden_out = from.hidden_out;
        to.density_rows = from.density_rows;
        to.path_count = static_cast<int>(from.paths.size());
        to.outputs = from.radial->outputs();
        to.radial_rows = from.radial->rows();
        to.density = from.density;
        to.skip = from.skip;
        to.has_readout = from.has_readout;
        to.mix_by_species = from.mix.size() > 1;
        to.paths = keep(from.paths);
        to.coupling = keep(from.coupling);
        to.transposed = keep(from.coupling_transposed);

        std::vector<Real> tables, coefficients, first_skip;
        for (const Buffer<Real>& rows : from.table_rows) append(tables, rows);
        to.table_size = static_cast<long>(from.table_rows.empty() ? 0 : from.table_rows[0].extent(0));
        to.tables = keep(tables);
        to.table_of = keep(from.table_of);

        Mixing mix, up, out, skips;
        for (const auto& variant : from.mix)
            for (const auto& degree : variant)
                for (const MixWeights<Real>& weights : degree) mix.add(weights);
        for (const MixWeights<Real>& weights : from.up) up.add(weights);
        for (const MixWeights<Real>& weights : from.out) out.add(weights);
        for (const auto& of_species : from.skip_weights) {
            for (const MixWeights<Real>& weights : of_species) skips.add(weights);
            to.skip_degrees = static_cast<int>(of_species.size());
        }
        to.mix = keep(mix.forward), to.mix_back = keep(mix.backward);
        to.up = keep(up.forward), to.up_back = keep(up.backward);
        to.out = keep(out.forward), to.out_back = keep(out.backward);
        to.skips = keep(skips.forward), to.skips_back = keep(skips.backward);

        if (!from.first_skip.empty()) {
            const auto channels = static_cast<std::size_t>(plan.channels);
            first_skip.assign(species * padded, Real(0));
            for (std::size_t s = 0; s < species; ++s)
                for (std::size_t k = 0; k < channels; ++k)
                    first_skip[s * padded + k] = static_cast<Real>(from.first_skip[s * channels + k]);
        }
        to.first_skip = keep(first_skip);
        for (const Buffer<Real>& one : from.product_coefficients) append(coefficients, one);
        to.coefficients = keep(coefficients);
        to.program = keep(from.product.program());
        to.readout = from.readout;
        if (from.has_readout) {
            std::vector<double> w, v;
            append(w, from.readout_w);
            if (from.readout.hidden > 0) append(v, from.readout_v);
            to.readout.w = keep(w);
            to.readout.v = keep(v);
        }
        layers.push_back(to);
    }
}

}  // namespace equipot::kernels
