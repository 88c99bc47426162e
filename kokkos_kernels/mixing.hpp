// Mixing stage: X'_row,k' (+)= Σ_k X_row,k W[k, k'] over the rows (atom, m) of a tile; the adjoint is the same with
// W^T. SPDX-License-Identifier: MIT
#pragma once

#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

/// Rows of a tile: row r = atom * per_atom + m lies at base + atom * atom_stride + m * channels.
template <class Real>
struct Rows {
    Real* base;
    int per_atom;
    long atom_stride;

    KOKKOS_FORCEINLINE_FUNCTION Real* row(int r, int channels) const {
        return base + (r / per_atom) * atom_stride + static_cast<long>(r % per_atom) * channels;
    }
};

namespace detail {

// NR rows x NB packs of the result live in registers while k runs.
template <class P, int NR, int NB, bool Add, class Real = typename P::Real>
KOKKOS_FORCEINLINE_FUNCTION void mix_block(int channels, const Rows<const Real>& in, const Real* W,
                                           const Rows<Real>& out, int row, int c) {
    const Real* x[NR];
    Real* y[NR];
    P sum[NR][NB];
    for (int i = 0; i < NR; ++i) {
        x[i] = in.row(row + i, channels);
        y[i] = out.row(row + i, channels) + c;
        for (int b = 0; b < NB; ++b) sum[i][b] = Add ? P::load(y[i] + b * P::width) : P::zero();
    }
    for (int k = 0; k < channels; ++k) {
        P w[NB];
        for (int b = 0; b < NB; ++b) w[b] = P::load(W + static_cast<long>(k) * channels + c + b * P::width);
        for (int i = 0; i < NR; ++i)
            for (int b = 0; b < NB; ++b) sum[i][b] += x[i][k] * w[b];
    }
    for (int i = 0; i < NR; ++i)
        for (int b = 0; b < NB; ++b) sum[i][b].store(y[i] + b * P::width);
}

template <class P, int NB, bool Add, class Real = typename P::Real>
KOKKOS_FORCEINLINE_FUNCTION void mix_columns(int channels, int rows, const Rows<const Real>& in, const Real* W,
                                             const Rows<Real>& out, int c) {
    int row = 0;
    for (; row + 4 <= rows; row += 4) mix_block<P, 4, NB, Add>(channels, in, W, out, row, c);
    for (; row < rows; ++row) mix_block<P, 1, NB, Add>(channels, in, W, out, row, c);
}

}  // namespace detail

/// out = in · W, or out += in · W. W is [channels, channels], channels a multiple of the pack width; in and out differ.
template <class P, bool Add, class Real = typename P::Real>
KOKKOS_FORCEINLINE_FUNCTION void mix(Blocks blocks, int channels, int rows, const Rows<const Real>& in, const Real* W,
                                     const Rows<Real>& out) {
    int b = blocks.begin;
    if (blocks.step == 1)
        for (; b + 2 <= blocks.end; b += 2) detail::mix_columns<P, 2, Add>(channels, rows, in, W, out, b * P::width);
    for (; b < blocks.end; b += blocks.step) detail::mix_columns<P, 1, Add>(channels, rows, in, W, out, b * P::width);
}

}  // namespace equipot::kernels
