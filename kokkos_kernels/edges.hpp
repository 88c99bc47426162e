// Edges: those of one atom that are within the cutoff, in an order that suits the radial tables, and their harmonics, a
// pack of edges at a time.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kokkos_kernels/angular.hpp"
#include "kokkos_kernels/lanes.hpp"
#include "kokkos_kernels/radial.hpp"
#include "kokkos_kernels/scratch.hpp"
#include "potential/graph.hpp"

namespace equipot::kernels {

/// Neighbours of one species are together and come nearer from one to the next: edge after edge reads rows of a table
/// that the one before has brought into the cache, and sums begin with what is small.
template <class P>
struct EdgeList {
    int count = 0;
    Scratch<double> r, x[3];     // |r_ij|, r̂; padded to whole packs with something harmless
    Scratch<std::int64_t> edge;  // of the graph

    void reserve(std::size_t edges) {
        for (Scratch<double>* s : {&r, &x[0], &x[1], &x[2]}) s->reserve(edges + P::width);
        edge.reserve(edges);
        candidates_.reserve(edges);
    }

    /// species[total], each below `species_count`.
    void gather(const Graph& graph, const std::int32_t* species, int species_count, std::int64_t i, double cutoff);

private:
    struct Candidate {
        std::int64_t edge;
        int bin;
        double r2;
    };
    Scratch<Candidate> candidates_;
    std::vector<int> start_;  // of each bin
};

template <class P>
void EdgeList<P>::gather(const Graph& graph, const std::int32_t* species, int species_count, std::int64_t i,
                         double cutoff) {
    // Shells about as thin as the intervals of a table, but not so many that clearing their counts costs time.
    const int shells = std::clamp(512 / species_count, 16, 256);
    const double cutoff2 = cutoff * cutoff, scale = shells / cutoff2;
    start_.assign(static_cast<std::size_t>(shells * species_count) + 1, 0);
    Candidate* candidates = candidates_.data();
    int found = 0;
    for (std::int64_t e = graph.first[static_cast<std::size_t>(i)]; e < graph.first[static_cast<std::size_t>(i) + 1];
         ++e) {
        const double* d = graph.displacement.data() + 3 * e;
        const double r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        if (r2 >= cutoff2) continue;
        // A distance that is not a number goes on to the results; here it must not become an index.
        const int shell = std::max(shells - 1 - static_cast<int>(std::min(cutoff2, r2) * scale), 0);
        const int bin = species[graph.neighbor[static_cast<std::size_t>(e)]] * shells + shell;
        candidates[found++] = {e, bin, r2};
        ++start_[static_cast<std::size_t>(bin) + 1];
    }
    count = found;
    for (std::size_t bin = 1; bin < start_.size(); ++bin) start_[bin] += start_[bin - 1];
    for (int c = 0; c < found; ++c) {
        const Candidate& one = candidates[c];
        const auto to = static_cast<std::size_t>(start_[static_cast<std::size_t>(one.bin)]++);
        const double* d = graph.displacement.data() + 3 * one.edge;
        edge[to] = one.edge;
        r[to] = std::sqrt(one.r2);
        const double inverse = 1 / r[to];
        for (int k = 0; k < 3; ++k) x[k][to] = d[k] * inverse;
    }
    for (auto to = static_cast<std::size_t>(count); to % P::width != 0; ++to) {
        r[to] = x[2][to] = 1;
        x[0][to] = x[1][to] = 0;
    }
}

/// How packs of edges go with packs of channels: as many edges as a pack has channels, in pieces of doubles.
template <class P>
struct EdgePack;
template <class T, int N, class Isa>
struct EdgePack<Pack<T, N, Isa>> {
    static constexpr int piece = N * static_cast<int>(sizeof(T)) / 8;
    using Lanes = EdgeLanes<piece, Isa>;
};

/// Y[(l_max + 1)²][P::width] of the edges from `at` on.
template <class P, class Real = typename P::Real>
void pack_harmonics(const EdgeList<P>& edges, int at, int l_max, Real* Y) {
    using Lanes = typename EdgePack<P>::Lanes;
    with_l_max(l_max, [&]<int l>() {
        constexpr int rows = (l + 1) * (l + 1);
        for (int piece = 0; piece < P::width; piece += Lanes::width) {
            const auto load = [&](int k) { return Lanes::load(edges.x[k].data() + at + piece); };
            Lanes values[rows];
            spherical_harmonics<l>(load(0), load(1), load(2), values);
            for (int y = 0; y < rows; ++y) values[y].store(Y + y * P::width + piece);
        }
    });
}

/// Where the edges from `at` on read their tables: first rows [P::width] and
/// weights [2 terms][P::width], those of the value first. Edges before the start of the tables get nothing of use.
template <class P, class Real = typename P::Real>
void pack_splines(const EdgeList<P>& edges, int at, const RadialGrid& grid, int* rows, Real* weights) {
    using Lanes = typename EdgePack<P>::Lanes;
    using Weights = SplineWeights<Real>;
    double fraction[P::width], along[P::width];
    for (int lane = 0; lane < P::width; ++lane) {
        const RadialGrid::Place place = grid.at(edges.r[static_cast<std::size_t>(at + lane)]);
        rows[lane] = grid.interval(place.t);
        fraction[lane] = place.t - rows[lane];
        along[lane] = place.slope;
    }
    for (int piece = 0; piece < P::width; piece += Lanes::width) {
        Lanes value[spline_degree<Real> + 1], slope[spline_degree<Real> + 1];
        bspline_weights<spline_degree<Real>>(Lanes::load(fraction + piece), value, slope);
        Weights::of_coefficients(value);
        Weights::of_coefficients(slope);
        for (int q = 0; q < Weights::terms; ++q) {
            value[q].store(weights + q * P::width + piece);
            (Lanes::load(along + piece) * slope[q]).store(weights + (Weights::terms + q) * P::width + piece);
        }
    }
}

/// g[3][P::width] = ∂E/∂r_ij = r̄ r̂ + (1 - r̂ r̂^T) ∇_r̂ / r, from r̄[P::width] and Ȳ[(l_max + 1)²][P::width].
template <class P, class Real = typename P::Real>
void pack_gradients(const EdgeList<P>& edges, int at, int l_max, const Real* rbar, const Real* Ybar, double* g) {
    using Lanes = typename EdgePack<P>::Lanes;
    with_l_max(l_max, [&]<int l>() {
        constexpr int rows = (l + 1) * (l + 1);
        for (int piece = 0; piece < P::width; piece += Lanes::width) {
            const auto load = [&](int k) { return Lanes::load(edges.x[k].data() + at + piece); };
            const Lanes x[3] = {load(0), load(1), load(2)};
            Lanes bars[rows], slope[3];
            for (int y = 0; y < rows; ++y) bars[y] = Lanes::load(Ybar + y * P::width + piece);
            edge_gradient<l>(x, Lanes::load(edges.r.data() + at + piece), Lanes::load(rbar + piece), bars, slope);
            for (int k = 0; k < 3; ++k) slope[k].store(g + k * P::width + piece);
        }
    });
}

}  // namespace equipot::kernels
