// Density stage: D_i,p,m3,k = Σ_j R_pk(r) Σ_m1 M_p,m3m1(r̂) u_j,m1,k with M_p,m3m1 = Σ_m2 C^{m3}_{m1m2} Y_l2m2(r̂).
// M is per edge and free of channels; the sum over neighbours is fused with it, nothing of size edges x channels is
// kept. Backward, per edge, from D̄: ū_m1 = Σ R M D̄,  r̄ = Σ R' (M^T D̄)·u,  M̄_m3m1 = Σ_k R u_m1 D̄_m3 (summed over lanes).
// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>

#include "kokkos_kernels/constant_index.hpp"
#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

/// Rows up to degree l are (l + 1)².
KOKKOS_INLINE_FUNCTION constexpr int square(int n) { return n * n; }

/// A sparse matrix by rows: entries first[row] .. first[row + 1] of terms. All couplings of a layer: M = C Y, and Ȳ +=
/// C^T M̄.
template <class Real>
struct Coupling {
    struct Term {
        int column;
        Real value;
    };
    const int* first;
    const Term* terms;
    int rows;
};

/// A path as the kernels see it.
struct PathShape {
    int l1, l3;
    int feature;   ///< first row of u it reads: l1²
    int density;   ///< first row of D it writes
    int coupling;  ///< first entry of its M, stored [2 l3 + 1][2 l1 + 1]
    int radial;    ///< first output of R it reads

    /// Multiply-adds per channel and edge, for the profile; `first`: in the first layer.
    [[nodiscard]] int forward_work(bool first) const { return (2 * l1 + 1) * (2 * l3 + 1 + (first ? 0 : 1)); }
    [[nodiscard]] int backward_work(bool first) const { return (2 * l1 + 1) * (2 * (2 * l3 + 1) + (first ? 1 : 4)); }
};

/// y = C x, or y += C x, for arrays of numbers or of packs of edges.
template <bool Add, class Real, class In, class Out>
KOKKOS_FORCEINLINE_FUNCTION void couple(const Coupling<Real>& C, In x, Out y) {
    for (int row = 0; row < C.rows; ++row) {
        std::remove_cvref_t<decltype(y[0])> sum{};
        if constexpr (Add) sum = y[row];
        for (int t = C.first[row]; t < C.first[row + 1]; ++t) sum += C.terms[t].value * x[C.terms[t].column];
        y[row] = sum;
    }
}

/// A few edges of one atom as a path sees them. M is [D3][D1][Stride], edges next to each other; R and dR are [edges,
/// channels]; u and ū are the rows of each edge, not touched in the first layer, where u is 1 (folded into R).
template <class Value>
struct PathEdges {
    const Value *M, *R, *dR;
    const Value* const* u;
    Value* const* ubar;
    long feature;  ///< where the path's rows of u begin

    /// The same from edge e on.
    KOKKOS_FORCEINLINE_FUNCTION PathEdges from(int e, int channels) const {
        return {M + e,  R + static_cast<long>(e) * channels, dR + static_cast<long>(e) * channels, u + e, ubar + e,
                feature};
    }
};

/// How many of `most` (a power of two) run together when each takes `each` registers besides three.
KOKKOS_INLINE_FUNCTION constexpr int how_many_together(int each, int registers, int most) {
    while (most > 1 && most * each + 3 > registers) most /= 2;
    return most;
}

namespace detail {

template <class P, int D1, int D3, bool Features, int E, int Stride, int NB, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void path_forward_block(int c, int channels, const PathEdges<Value>& edges, Value* D) {
    P ru[NB][E][D1];
    for (int n = 0; n < NB; ++n)
        for (int e = 0; e < E; ++e) {
            const int at = c + n * P::width;
            const P r = P::load(edges.R + e * channels + at);
            for (int m1 = 0; m1 < D1; ++m1)
                ru[n][e][m1] = Features ? r * P::load(edges.u[e] + edges.feature + m1 * channels + at) : r;
        }
    for (int m3 = 0; m3 < D3; ++m3) {
        P sum[NB];
        for (int n = 0; n < NB; ++n) sum[n] = P::zero();
        for (int e = 0; e < E; ++e)
            for (int m1 = 0; m1 < D1; ++m1) {
                const Value m = edges.M[(m3 * D1 + m1) * Stride + e];
                for (int n = 0; n < NB; ++n) sum[n] += m * ru[n][e][m1];
            }
        // Added at the end: fewer roundings as large as those of D.
        for (int n = 0; n < NB; ++n) {
            Value* target = D + m3 * channels + c + n * P::width;
            (P::load(target) + sum[n]).store(target);
        }
    }
}

}  // namespace detail

/// D rows += Σ_edges R (M u) for one path and `E` edges of one atom: D is loaded and stored once for all of them, M
/// once for two blocks of channels.
template <class P, int D1, int D3, bool Features, int E, int Stride = 1, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void path_forward(Blocks blocks, int channels, const PathEdges<Value>& edges, Value* D) {
    int b = blocks.begin;
    if constexpr (P::width > 1 && E > 1 && 2 * E * D1 + 4 <= P::registers)
        for (; b + 2 <= blocks.end; b += 2)
            detail::path_forward_block<P, D1, D3, Features, E, Stride, 2>(b * P::width, channels, edges, D);
    for (; b < blocks.end; b += blocks.step)
        detail::path_forward_block<P, D1, D3, Features, E, Stride, 1>(b * P::width, channels, edges, D);
}

/// The adjoint of path_forward for `E` edges of one atom. Adds to their ū and, lane by lane, to rsum[E], whose sums
/// over lanes are r̄ = ∂E/∂r at fixed r̂; sets msum[D3][D1][.. E ..], whose sums over lanes are M̄. There, edges are next
/// to each other and entries `Spacing` apart. All m1 of a path share the loads of D̄ where registers allow it.
template <class P, int D1, int D3, bool Features, int E, int Stride = 1, int Spacing = E, class Real = typename P::Real>
KOKKOS_FORCEINLINE_FUNCTION void path_backward(Blocks blocks, int channels, const PathEdges<Real>& edges,
                                               const Real* Dbar, P* rsum, P* msum) {
    constexpr int T = D1 * (D3 + 2) + 3 <= P::registers ? D1 : 1;
    const Real* u[E];
    Real* ubar[E];
    P rpart[E];
    for (int e = 0; e < E; ++e) {
        u[e] = Features ? edges.u[e] + edges.feature : nullptr;
        ubar[e] = Features ? edges.ubar[e] + edges.feature : nullptr;
        rpart[e] = P::zero();
    }
    for (int first = 0; first < D1; first += T) {
        P m[D3][T][E];
        for (int e = 0; e < E; ++e)
            for (int t = 0; t < T; ++t)
                for (int m3 = 0; m3 < D3; ++m3) m[m3][t][e] = P::zero();
        for (int b = blocks.begin; b < blocks.end; b += blocks.step) {
            const int c = b * P::width;
            P ru[T][E], g[T][E];
            for (int e = 0; e < E; ++e) {
                const P r = P::load(edges.R + e * channels + c);
                for (int t = 0; t < T; ++t) {
                    ru[t][e] = Features ? r * P::load(u[e] + (first + t) * channels + c) : r;
                    g[t][e] = P::zero();
                }
            }
            for (int m3 = 0; m3 < D3; ++m3) {
                const P dbar = P::load(Dbar + m3 * channels + c);
                for (int e = 0; e < E; ++e)
                    for (int t = 0; t < T; ++t) {
                        g[t][e] += edges.M[(m3 * D1 + first + t) * Stride + e] * dbar;
                        m[m3][t][e] += ru[t][e] * dbar;
                    }
            }
            for (int e = 0; e < E; ++e) {
                const P dr = P::load(edges.dR + e * channels + c);
                if constexpr (Features) {
                    const P r = P::load(edges.R + e * channels + c);
                    P gu = P::zero();
                    for (int t = 0; t < T; ++t) {
                        const int at = (first + t) * channels + c;
                        P ub = P::load(ubar[e] + at);
                        ub += r * g[t][e];
                        ub.store(ubar[e] + at);
                        gu += g[t][e] * P::load(u[e] + at);
                    }
                    rpart[e] += dr * gu;
                } else {
                    rpart[e] += dr * g[0][e];
                }
            }
        }
        for (int e = 0; e < E; ++e)
            for (int t = 0; t < T; ++t)
                for (int m3 = 0; m3 < D3; ++m3) msum[(m3 * D1 + first + t) * Spacing + e] = m[m3][t][e];
    }
    for (int e = 0; e < E; ++e) rsum[e] += rpart[e];
}

/// The adjoint of path_forward for one edge in training, where positions are given: adds to ubar, sets Rbar.
template <class P, int D1, int D3, bool Features, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void path_backward_radial(Blocks blocks, int channels, const PathEdges<Value>& edge,
                                                      const Value* Dbar, Value* Rbar) {
    const Value* u = Features ? edge.u[0] + edge.feature : nullptr;
    Value* ubar = Features ? edge.ubar[0] + edge.feature : nullptr;
    for (int b = blocks.begin; b < blocks.end; b += blocks.step) {
        const int c = b * P::width;
        P dbar[D3], rbar = P::zero();
        for (int m3 = 0; m3 < D3; ++m3) dbar[m3] = P::load(Dbar + m3 * channels + c);
        const P r = P::load(edge.R + c);
        for (int m1 = 0; m1 < D1; ++m1) {
            P g = P::zero();
            for (int m3 = 0; m3 < D3; ++m3) g += edge.M[m3 * D1 + m1] * dbar[m3];
            if constexpr (Features) {
                P ub = P::load(ubar + m1 * channels + c);
                ub += r * g;
                ub.store(ubar + m1 * channels + c);
                rbar += g * P::load(u + m1 * channels + c);
            } else {
                rbar += g;
            }
        }
        rbar.store(Rbar + c);
    }
}

/// How many edges path_backward takes at once.
template <class P>
KOKKOS_INLINE_FUNCTION constexpr int backward_edges_together(int D1, int D3, int most) {
    const int each = D1 * (D3 + 2) + 3 <= P::registers ? D1 * (D3 + 2) : D3 + 2;
    return how_many_together(each, P::registers, most);
}

/// Calls f.template operator()<2 l1 + 1, 2 l3 + 1>() for the path's shape: l3 <= 6 for l1 = 0, l1 <= 3 and l3 <= 4
/// for the others.
template <class F>
KOKKOS_FORCEINLINE_FUNCTION void with_path_shape(int l1, int l3, const F& f) {
    with_index<4 * 7>(7 * l1 + l3, [&]<int Shape>() {
        if constexpr (Shape < 7 || Shape % 7 <= 4) f.template operator()<2 * (Shape / 7) + 1, 2 * (Shape % 7) + 1>();
    });
}

}  // namespace equipot::kernels
