// Mixing stage: X'_row,k' (+)= Σ_k X_row,k W[k, k'] over the rows (atom, m) of a tile; the adjoint is the same with
// W^T.
// SPDX-License-Identifier: MIT
#pragma once

#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

/// Rows of a tile: row r = atom * per_atom + m lies at base + atom * atom_stride + m * channels.
template <class Value>
struct Rows {
    Value* base;
    int per_atom;
    long atom_stride;

    KOKKOS_FORCEINLINE_FUNCTION Value* row(int r, int channels) const {
        return base + (r / per_atom) * atom_stride + static_cast<long>(r % per_atom) * channels;
    }
};

/// Weights lie in strips of columns as wide as a cache line, row after row in each: what one block of the result needs
/// is contiguous. Where W[k, k'] is, for `channels` rows.
template <class Real>
constexpr int mix_strip = 64 / static_cast<int>(sizeof(Real));
template <class Real>
KOKKOS_FORCEINLINE_FUNCTION constexpr long mix_index(int channels, int k, int column) {
    constexpr int strip = mix_strip<Real>;
    return (static_cast<long>(column / strip) * channels + k) * strip + column % strip;
}
/// Numbers that [channels, channels] weights take; the last strip is padded.
template <class Real>
KOKKOS_INLINE_FUNCTION constexpr std::size_t mix_size(int channels) {
    return static_cast<std::size_t>(mix_index<Real>(channels, 0, channels + mix_strip<Real> - 1) / mix_strip<Real> *
                                    mix_strip<Real>);
}

namespace detail {

// NR rows x NB packs of the result live in registers while k runs.
template <class P, int NR, int NB, bool Add, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void mix_block(int channels, const Rows<const Value>& in, const typename P::Real* W,
                                           const Rows<Value>& out, int row, int c) {
    using Real = typename P::Real;
    using Weight = typename P::Weight;
    const Real* columns[NB];
    for (int b = 0; b < NB; ++b) columns[b] = W + mix_index<Real>(channels, 0, c + b * P::width);
    const Value* x[NR];
    Value* y[NR];
    P sum[NR][NB];
    for (int i = 0; i < NR; ++i) {
        x[i] = in.row(row + i, channels);
        y[i] = out.row(row + i, channels) + c;
        for (int b = 0; b < NB; ++b) sum[i][b] = Add ? P::load(y[i] + b * P::width) : P::zero();
    }
    for (int k = 0; k < channels; ++k) {
        Weight w[NB];
        for (int b = 0; b < NB; ++b) w[b] = Weight::load(columns[b] + static_cast<long>(k) * mix_strip<Real>);
        for (int i = 0; i < NR; ++i)
            for (int b = 0; b < NB; ++b) sum[i][b] += P::element(x[i], k) * w[b];
    }
    for (int i = 0; i < NR; ++i)
        for (int b = 0; b < NB; ++b) sum[i][b].store(y[i] + b * P::width);
}

// The last rows, fewer than `Most` + 1, in one block: on a GPU there are often no others, and weights are read once.
template <class P, int Most, int NB, bool Add, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void mix_rest(int channels, int rows, const Rows<const Value>& in,
                                          const typename P::Real* W, const Rows<Value>& out, int row, int c) {
    if (rows - row == Most)
        mix_block<P, Most, NB, Add>(channels, in, W, out, row, c);
    else if constexpr (Most > 1)
        mix_rest<P, Most - 1, NB, Add>(channels, rows, in, W, out, row, c);
}

template <class P, int NB, bool Add, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void mix_columns(int channels, int rows, const Rows<const Value>& in,
                                             const typename P::Real* W, const Rows<Value>& out, int c, int from) {
    [[maybe_unused]] constexpr int together = P::dual ? 2 : 4;  // dual numbers take two registers each
    int row = from;
    if constexpr (!P::dual && P::registers >= 32)
        for (; row + 8 <= rows; row += 8) mix_block<P, 8, NB, Add>(channels, in, W, out, row, c);
    if constexpr (P::width == 1 && !P::dual) {
        mix_rest<P, 7, NB, Add>(channels, rows, in, W, out, row, c);
    } else {
        for (; row + together <= rows; row += together) mix_block<P, together, NB, Add>(channels, in, W, out, row, c);
        for (; row < rows; ++row) mix_block<P, 1, NB, Add>(channels, in, W, out, row, c);
    }
}

}  // namespace detail

/// out = in · W, or out += in · W, for the rows `from` to `rows`. W is [channels, channels] in strips (see mix_index),
/// channels a multiple of the pack width; in and out differ.
template <class P, bool Add, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void mix(Blocks blocks, int channels, int rows, const Rows<const Value>& in,
                                     const typename P::Real* W, const Rows<Value>& out, int from = 0) {
    int b = blocks.begin;
    if constexpr (P::width > 1)
        for (; b + 2 <= blocks.end; b += 2)
            detail::mix_columns<P, 2, Add>(channels, rows, in, W, out, b * P::width, from);
    for (; b < blocks.end; b += blocks.step)
        detail::mix_columns<P, 1, Add>(channels, rows, in, W, out, b * P::width, from);
}

namespace detail {

// NK rows x NB packs of Wbar stay in registers while the rows of the tile run.
template <class P, int NK, int NB, class Value = typename P::Value>
void mix_gradient_block(int channels, int rows, const Rows<const Value>& in, const Rows<const Value>& outbar,
                        typename P::Real* Wbar, int k, int c) {
    using Weight = typename P::Weight;
    typename P::Real* target = Wbar + static_cast<long>(k) * channels + c;
    Weight sum[NK][NB];
    for (int i = 0; i < NK; ++i)
        for (int b = 0; b < NB; ++b) sum[i][b] = Weight::load(target + static_cast<long>(i) * channels + b * P::width);
    for (int r = 0; r < rows; ++r) {
        const Value* x = in.row(r, channels);
        const Value* y = outbar.row(r, channels) + c;
        P bar[NB];
        for (int b = 0; b < NB; ++b) bar[b] = P::load(y + b * P::width);
        for (int i = 0; i < NK; ++i)
            for (int b = 0; b < NB; ++b) sum[i][b] += derivative_of_product(P::element(x, k + i), bar[b]);
    }
    for (int i = 0; i < NK; ++i)
        for (int b = 0; b < NB; ++b) sum[i][b].store(target + static_cast<long>(i) * channels + b * P::width);
}

}  // namespace detail

/// The parameter gradient of mix over dual lanes: Wbar[k, k'] += d/dε Σ_rows in_row,k outbar_row,k'.
template <class P, class Value = typename P::Value>
void mix_gradient(int channels, int rows, const Rows<const Value>& in, const Rows<const Value>& outbar,
                  typename P::Real* Wbar) {
    constexpr int together = P::width < 4 ? P::width : 4;  // a divisor of the padded number of channels
    for (int k = 0; k < channels; k += together) {
        int c = 0;
        for (; c + 2 * P::width <= channels; c += 2 * P::width)
            detail::mix_gradient_block<P, together, 2>(channels, rows, in, outbar, Wbar, k, c);
        for (; c < channels; c += P::width)
            detail::mix_gradient_block<P, together, 1>(channels, rows, in, outbar, Wbar, k, c);
    }
}

}  // namespace equipot::kernels
