// Density stage: D_i,p,m3,k = Σ_j R_pk(r) Σ_m1 M_p,m3m1(r̂) u_j,m1,k with M_p,m3m1 = Σ_m2 C^{m3}_{m1m2} Y_l2m2(r̂).
// M is per edge and free of channels; the sum over neighbours is fused with it, nothing of size edges x channels is
// kept. Backward, per edge, from D̄: ū_m1 = Σ R M D̄,  r̄ = Σ R' (M^T D̄)·u,  M̄_m3m1 = Σ_k R u_m1 D̄_m3 (summed over lanes).
// SPDX-License-Identifier: MIT
#pragma once

#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

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
};

/// y = C x, or y += C x.
template <bool Add, class Real, class Value>
KOKKOS_FORCEINLINE_FUNCTION void couple(const Coupling<Real>& C, const Value* x, Value* y) {
    for (int row = 0; row < C.rows; ++row) {
        Value sum = Add ? y[row] : Value(0);
        for (int t = C.first[row]; t < C.first[row + 1]; ++t) sum += C.terms[t].value * x[C.terms[t].column];
        y[row] = sum;
    }
}

/// One edge as a path sees it. u is not read in the first layer, where it is 1 (folded into R).
template <class Value>
struct PathEdge {
    const Value *M, *R, *dR, *u;
};

/// D rows += Σ_edges R (M u) for one path and `E` edges of one atom: D is loaded and stored once for all of them.
template <class P, int D1, int D3, bool Features, int E, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void path_forward(Blocks blocks, int channels, const PathEdge<Value>* edges, Value* D) {
    for (int b = blocks.begin; b < blocks.end; b += blocks.step) {
        const int c = b * P::width;
        P ru[E][D1];
        for (int e = 0; e < E; ++e) {
            const P r = P::load(edges[e].R + c);
            for (int m1 = 0; m1 < D1; ++m1) ru[e][m1] = Features ? r * P::load(edges[e].u + m1 * channels + c) : r;
        }
        for (int m3 = 0; m3 < D3; ++m3) {
            P sum = P::load(D + m3 * channels + c);
            for (int e = 0; e < E; ++e)
                for (int m1 = 0; m1 < D1; ++m1) sum += edges[e].M[m3 * D1 + m1] * ru[e][m1];
            sum.store(D + m3 * channels + c);
        }
    }
}

/// The adjoint of path_forward for one edge. Adds to ubar (rows like u) and, lane by lane, to rsum, whose sum over
/// lanes is r̄ = ∂E/∂r at fixed r̂; sets msum[D3][D1], whose sums over lanes are M̄.
template <class P, int D1, int D3, bool Features, class Real = typename P::Real>
KOKKOS_FORCEINLINE_FUNCTION void path_backward(Blocks blocks, int channels, const PathEdge<Real>& edge,
                                               const Real* Dbar, Real* ubar, P& rsum, P* msum) {
    for (int m1 = 0; m1 < D1; ++m1) {
        P m[D3];
        for (int m3 = 0; m3 < D3; ++m3) m[m3] = P::zero();
        P rpart = P::zero();
        for (int b = blocks.begin; b < blocks.end; b += blocks.step) {
            const int c = b * P::width;
            const P r = P::load(edge.R + c);
            const P u = Features ? P::load(edge.u + m1 * channels + c) : P::broadcast(Real(1));
            const P ru = Features ? r * u : r;
            P g = P::zero();
            for (int m3 = 0; m3 < D3; ++m3) {
                const P dbar = P::load(Dbar + m3 * channels + c);
                g += edge.M[m3 * D1 + m1] * dbar;
                m[m3] += ru * dbar;
            }
            const P dr = P::load(edge.dR + c);
            if constexpr (Features) {
                P ub = P::load(ubar + m1 * channels + c);
                ub += r * g;
                ub.store(ubar + m1 * channels + c);
                rpart += dr * (g * u);
            } else {
                rpart += dr * g;
            }
        }
        rsum += rpart;
        for (int m3 = 0; m3 < D3; ++m3) msum[m3 * D1 + m1] = m[m3];
    }
}

/// The adjoint of path_forward for one edge in training, where positions are given: adds to ubar, sets Rbar.
template <class P, int D1, int D3, bool Features, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void path_backward_radial(Blocks blocks, int channels, const PathEdge<Value>& edge,
                                                      const Value* Dbar, Value* ubar, Value* Rbar) {
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
                rbar += g * P::load(edge.u + m1 * channels + c);
            } else {
                rbar += g;
            }
        }
        rbar.store(Rbar + c);
    }
}

/// Calls f.template operator()<2 l1 + 1, 2 l3 + 1>() for the path's shape: l3 <= 6 for l1 = 0, l1 <= 3 and l3 <= 4
/// for the others.
template <class F>
KOKKOS_FORCEINLINE_FUNCTION void with_path_shape(int l1, int l3, const F& f) {
    switch (l1 * 7 + l3) {
        case 0:
            f.template operator()<1, 1>();
            break;
        case 1:
            f.template operator()<1, 3>();
            break;
        case 2:
            f.template operator()<1, 5>();
            break;
        case 3:
            f.template operator()<1, 7>();
            break;
        case 4:
            f.template operator()<1, 9>();
            break;
        case 5:
            f.template operator()<1, 11>();
            break;
        case 6:
            f.template operator()<1, 13>();
            break;
        case 7:
            f.template operator()<3, 1>();
            break;
        case 8:
            f.template operator()<3, 3>();
            break;
        case 9:
            f.template operator()<3, 5>();
            break;
        case 10:
            f.template operator()<3, 7>();
            break;
        case 11:
            f.template operator()<3, 9>();
            break;
        case 14:
            f.template operator()<5, 1>();
            break;
        case 15:
            f.template operator()<5, 3>();
            break;
        case 16:
            f.template operator()<5, 5>();
            break;
        case 17:
            f.template operator()<5, 7>();
            break;
        case 18:
            f.template operator()<5, 9>();
            break;
        case 21:
            f.template operator()<7, 1>();
            break;
        case 22:
            f.template operator()<7, 3>();
            break;
        case 23:
            f.template operator()<7, 5>();
            break;
        case 24:
            f.template operator()<7, 7>();
            break;
        default:
            f.template operator()<7, 9>();
            break;
    }
}

}  // namespace equipot::kernels
