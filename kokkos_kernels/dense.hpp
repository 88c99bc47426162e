// Dense products of small rectangular matrices in row-major order, over packs: C += A B, C += A^T B, C += A B^T.
// For training: a few hundred samples of the radial networks, and matrices of weights, go through them at once.
// SPDX-License-Identifier: MIT
#pragma once

#include <type_traits>
#include <vector>

#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

/// A matrix or a block of one: element (i, j) is data[i * stride + j].
template <class T>
struct Matrix {
    T* data;
    long stride;

    operator Matrix<const T>() const requires(!std::is_const_v<T>) { return {data, stride}; }
};

namespace detail {

// Rows x Columns packs of C stay in registers while k runs; a(i, k) reads A or its transpose.
template <class W, int Rows, int Columns, class A, class Real = typename W::Real>
void dense_block(int inner, const A& a, Matrix<const Real> B, Matrix<Real> C, int row, int c) {
    W sum[Rows][Columns];
    for (int i = 0; i < Rows; ++i)
        for (int j = 0; j < Columns; ++j) sum[i][j] = W::load(C.data + (row + i) * C.stride + c + j * W::width);
    for (int k = 0; k < inner; ++k) {
        W b[Columns];
        for (int j = 0; j < Columns; ++j) b[j] = W::load(B.data + k * B.stride + c + j * W::width);
        for (int i = 0; i < Rows; ++i)
            for (int j = 0; j < Columns; ++j) sum[i][j] += a(row + i, k) * b[j];
    }
    for (int i = 0; i < Rows; ++i)
        for (int j = 0; j < Columns; ++j) sum[i][j].store(C.data + (row + i) * C.stride + c + j * W::width);
}

template <class W, int Rows, class A, class Real = typename W::Real>
void dense_rows(int inner, int from, int n, const A& a, Matrix<const Real> B, Matrix<Real> C, int row) {
    int c = from;
    for (; c + 2 * W::width <= n; c += 2 * W::width) dense_block<W, Rows, 2>(inner, a, B, C, row, c);
    for (; c + W::width <= n; c += W::width) dense_block<W, Rows, 1>(inner, a, B, C, row, c);
    for (int i = row; i < row + Rows; ++i)
        for (int k = 0; k < inner; ++k)
            for (int j = c; j < n; ++j) C.data[i * C.stride + j] += a(i, k) * B.data[k * B.stride + j];
}

// With Symmetric, of a product that is so, only what is on and above the diagonal is sure to be computed.
template <class W, bool Symmetric, class A, class Real = typename W::Real>
void dense_product(int m, int inner, int n, const A& a, Matrix<const Real> B, Matrix<Real> C) {
    const auto from = [](int row) { return Symmetric ? row / W::width * W::width : 0; };
    int row = 0;
    for (; row + 4 <= m; row += 4) dense_rows<W, 4>(inner, from(row), n, a, B, C, row);
    for (; row < m; ++row) dense_rows<W, 1>(inner, from(row), n, a, B, C, row);
    if constexpr (Symmetric)
        for (int i = 0; i < m; ++i)
            for (int j = 0; j < i; ++j) C.data[i * C.stride + j] = C.data[j * C.stride + i];
}

}  // namespace detail

template <class W>
using Input = Matrix<const typename W::Real>;
template <class W>
using Output = Matrix<typename W::Real>;

/// C[m, n] += A[m, k] B[k, n]. Symmetric: the product and C are symmetric, and half of the work is saved.
template <class W, bool Symmetric = false>
void add_product(int m, int k, int n, Input<W> A, Input<W> B, Output<W> C) {
    detail::dense_product<W, Symmetric>(
        m, k, n, [=](int i, int q) { return A.data[i * A.stride + q]; }, B, C);
}

/// C[k, n] += A[m, k]^T B[m, n].
template <class W, bool Symmetric = false>
void add_transposed_product(int m, int k, int n, Input<W> A, Input<W> B, Output<W> C) {
    detail::dense_product<W, Symmetric>(
        k, m, n, [=](int i, int q) { return A.data[q * A.stride + i]; }, B, C);
}

/// C[m, k] += A[m, n] B[k, n]^T.
template <class W>
void add_product_transposed(int m, int n, int k, Input<W> A, Input<W> B, Output<W> C) {
    std::vector<typename W::Real> transposed(static_cast<std::size_t>(n) * static_cast<std::size_t>(k));
    for (int i = 0; i < k; ++i)
        for (int j = 0; j < n; ++j)
            transposed[static_cast<std::size_t>(j) * static_cast<std::size_t>(k) + static_cast<std::size_t>(i)] =
                B.data[i * B.stride + j];
    add_product<W>(m, n, k, A, {transposed.data(), k}, C);
}

}  // namespace equipot::kernels
