// A team of threads: what it sees of the layer, of atoms and edges, and how its memory is laid out.
// SPDX-License-Identifier: MIT
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

#include "kokkos_kernels/density.hpp"
#include "kokkos_kernels/device_lanes.hpp"
#include "kokkos_kernels/pair.hpp"
#include "kokkos_kernels/product.hpp"
#include "kokkos_kernels/radial.hpp"
#include "kokkos_kernels/readout.hpp"

namespace equipot::kernels {

/// What kernels see of a layer of the plan: pointers into the device's memory. Weights of one kind lie one after the
/// other, `mix_size` apart.
template <class Real>
struct LayerWeights {
    int hidden_in, hidden_out, density_rows, path_count, outputs, radial_rows;
    bool density, skip, has_readout, mix_by_species;
    const PathShape* paths;
    Coupling<Real> coupling, transposed;
    const Real* tables;              ///< `table_size` numbers each
    const int* table_of;             ///< [species, species]
    const Real *mix, *mix_back;      ///< [species or 1][path]; not in the first layer
    const Real *up, *up_back;        ///< [l]; likewise
    const Real *out, *out_back;      ///< [L]
    const Real *skips, *skips_back;  ///< [species][L up to skip_degrees]
    int skip_degrees;
    const Real* first_skip;    ///< [species, channels], of the first layer
    const Real* coefficients;  ///< [species][terms, channels]
    ProductProgram program;
    ReadoutWeights readout;
    long table_size;
};

/// What does not depend on the layer.
struct ModelConstants {
    int channels, padded, l_max, species;
    double cutoff, scale;
    RadialGrid grid;
    const double* base_energy;  ///< [species]
    bool has_zbl;
    ZblConstants zbl;
    const ZblPair* zbl_pairs;  ///< [species, species]
};

/// Atoms and edges in the device's memory.
struct DeviceEdges {
    std::int64_t owned, total;
    const std::int32_t* species;  ///< [total]
    const std::int64_t* first;    ///< [owned + 1]
    const std::int32_t* neighbor;
    const double* displacement;
    const std::int32_t* within;         ///< for each atom, from first[i] on: its edges within the cutoff, from first[i]
    const std::int32_t* within_count;   ///< [owned]
    const std::int32_t* order;          ///< [owned] atoms by species
    const std::int32_t* species_first;  ///< [species + 1] where each species begins in `order`
};

/// Where results go; null where not wanted.
struct DeviceSums {
    double *energies, *forces, *virials, *centroid, *features;
    double* virial;  ///< [virial_slots, 9]
    int* too_close;  ///< edges shorter than the tables reach
    static constexpr int virial_slots = 256;
};

/// Where a team works. The three regions of each of its groups are in fast memory as far as they fit there.
struct TeamShape {
    int lanes, groups;  ///< threads of a group, a group to each atom; a team is lanes x groups threads
    int edge_bytes, a_bytes, d_bytes, node_bytes;  ///< of a group; nodes: of the team
    int levels[3];                                 ///< of scratch memory, for edges, A and D
};

/// A team takes a tile of atoms of one species, a group of its threads each.
template <class Space, class Real>
struct DeviceTeam {
    using P = Pack<Real, 1, Gpu>;
    // Arguments go with the launch: from constant memory, as many as these would wait for the kernel before.
    using Policy = Kokkos::TeamPolicy<Space, Kokkos::LaunchBounds<256, 2>,
                                      Kokkos::Experimental::WorkItemProperty::HintLightWeight_t>;
    using Member = typename Policy::member_type;
    using Weights = SplineWeights<Real>;

    static constexpr int chunk = 8;  // edges whose geometry is worked out together
    static constexpr int batch = 4;  // edges that share the loads and stores of D; divides chunk

    /// The parts of a group's memory for edges: numbers of a chunk of edges side by side, chunk after chunk.
    struct EdgeRegion {
        double *r, *x, *rho, *pair, *force, *sum, *part, *factor;
        const Real** row;
        std::int32_t *j, *zj;
        Real *Y, *M, *bars, *weights;

        template <class Take>
        KOKKOS_FUNCTION void lay_out(const Take& take, int y_rows, int coupling, int hidden) {
            r = take.template operator()<double>(chunk);
            x = take.template operator()<double>(3 * chunk);
            rho = take.template operator()<double>(chunk);
            pair = take.template operator()<double>(chunk);
            force = take.template operator()<double>(12 * chunk);  // ∂E/∂r, then its products with r
            sum = take.template operator()<double>(2);             // 1/(1 + ρ), ρ̄
            part = take.template operator()<double>(hidden);
            factor = take.template operator()<double>(hidden);
            row = take.template operator()<const Real*>(chunk);
            j = take.template operator()<std::int32_t>(chunk);
            zj = take.template operator()<std::int32_t>(chunk);
            Y = take.template operator()<Real>(y_rows * chunk);
            M = take.template operator()<Real>(coupling * chunk);
            bars = take.template operator()<Real>((y_rows + coupling + 1) * chunk);
            weights = take.template operator()<Real>(2 * Weights::terms * chunk);
        }
    };

    template <class T>
    static KOKKOS_FORCEINLINE_FUNCTION int bytes_of(int count) {
        return (count * static_cast<int>(sizeof(T)) + 7) / 8 * 8;
    }
    struct Take {
        char** at;
        template <class T>
        KOKKOS_FUNCTION T* operator()(int count) const {
            T* here = reinterpret_cast<T*>(*at);
            *at += bytes_of<T>(count);
            return here;
        }
    };
    struct Measure {
        int* bytes;
        template <class T>
        KOKKOS_FUNCTION T* operator()(int count) const {
            *bytes += bytes_of<T>(count);
            return nullptr;
        }
    };

    static int edge_bytes(int y_rows, int coupling, int hidden) {
        int bytes = 0;
        EdgeRegion region;
        region.lay_out(Measure{&bytes}, y_rows, coupling, hidden);
        return bytes;
    }

    /// Rows of channels in the region of A, where in turn A, Ā (in place unless the density needs both), and the radial
    /// functions and ū of a batch of edges live; in that of D also B, h and their adjoints. In the first layer D is A,
    /// and batches live in the region of D.
    static int a_rows(const LayerWeights<Real>& layer, int l_max, bool first) {
        const int A = (l_max + 1) * (l_max + 1) * (layer.density ? 2 : 1);
        const int u_rows = (layer.hidden_in + 1) * (layer.hidden_in + 1);
        return first ? A : Kokkos::max(A, batch * (2 + u_rows));
    }
    static int d_rows(const LayerWeights<Real>& layer, bool first) {
        const int b_rows = (layer.hidden_out + 1) * (layer.hidden_out + 1);
        return Kokkos::max(first ? 2 * batch : layer.density_rows, 3 * b_rows);
    }

    /// A thread's place, its atom and its memory.
    struct Context {
        const Member& team;
        Blocks blocks;
        int lane, lanes, group, groups;
        int species, count;         // of the tile
        const std::int32_t* atoms;  // [count]
        bool active;                // whether the group has an atom
        Strided<P> nodes;           // of the product
        std::int64_t i = -1;        // the group's atom
        int edge_count = 0;         // its edges within the cutoff
        int most_edges = 0;         // of any atom of the tile
        EdgeRegion e{};
        Real *A = nullptr, *Abar = nullptr, *D = nullptr;  // of the group
        Real *R = nullptr, *dR = nullptr, *ub = nullptr;   // of a batch
        long a_stride = 0, d_stride = 0;                   // from group to group
    };

    /// The place of the thread that calls it; without atoms (count = 0) for teams beyond the last tile.
    static KOKKOS_FUNCTION Context place(const Member& team, const ModelConstants& model,
                                         const LayerWeights<Real>& layer, const DeviceEdges& edges,
                                         const TeamShape& shape, bool first) {
        const int C = model.padded;
        const int rank = team.team_rank(), lanes = shape.lanes, groups = shape.groups;

        // Which atoms: tiles of the first species, then of the second, …
        int tile = team.league_rank(), species = 0, begin = 0, end = 0;
        for (; species < model.species; ++species) {
            begin = edges.species_first[species];
            end = edges.species_first[species + 1];
            const int tiles = (end - begin + groups - 1) / groups;
            if (tile < tiles) break;
            tile -= tiles;
        }
        const bool beyond = species == model.species;
        begin += beyond ? 0 : tile * groups;
        const int count = beyond ? 0 : Kokkos::min(groups, end - begin);

        char* memory[3];
        const int bytes[3] = {shape.edge_bytes, shape.a_bytes, shape.d_bytes};
        for (int k = 0; k < 3; ++k)
            memory[k] = static_cast<char*>(
                team.team_scratch(shape.levels[k]).get_shmem(static_cast<std::ptrdiff_t>(bytes[k]) * groups));
        P* nodes = static_cast<P*>(team.team_scratch(1).get_shmem(shape.node_bytes));

        const int group = rank / lanes, lane = rank % lanes;
        Context c{.team = team,
                  .blocks = {lane, C, lanes},
                  .lane = lane,
                  .lanes = lanes,
                  .group = group,
                  .groups = groups,
                  .species = species,
                  .count = count,
                  .atoms = edges.order + begin,
                  .active = group < count,
                  .nodes = {nodes + rank, static_cast<long>(lanes) * groups}};
        if (c.active) {
            c.i = c.atoms[group];
            c.edge_count = edges.within_count[c.i];
        }
        for (int a = 0; a < count; ++a) c.most_edges = Kokkos::max(c.most_edges, edges.within_count[c.atoms[a]]);
        char* at = memory[0] + static_cast<std::ptrdiff_t>(group) * bytes[0];
        c.e.lay_out(Take{&at}, square(model.l_max + 1), layer.coupling.rows, layer.readout.units());
        c.a_stride = bytes[1] / static_cast<long>(sizeof(Real));
        c.d_stride = bytes[2] / static_cast<long>(sizeof(Real));
        c.A = reinterpret_cast<Real*>(memory[1]) + group * c.a_stride;
        c.D = reinterpret_cast<Real*>(memory[2]) + group * c.d_stride;
        c.Abar = layer.density ? c.A + square(model.l_max + 1) * C : c.A;
        c.R = first ? c.D : c.A;
        c.dR = c.R + batch * C;
        c.ub = c.dR + batch * C;
        return c;
    }
};

}  // namespace equipot::kernels
