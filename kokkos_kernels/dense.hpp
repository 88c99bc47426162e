// Dense products of small rectangular matrices in row-major order, over packs: C += A B, C += A^T B, C += A B^T.
// For training, where a few hundred samples of the radial networks go through them at once.
// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

namespace detail {

// Rows x W::width (or 1) numbers of C stay in registers; a(i, k) reads A or its transpose.
template <class W, int Rows, class A>
void dense_block(int inner, int n, const A& a, const double* B, double* C, int row, int& c) {
    for (; c + W::width <= n; c += W::width) {
        W sum[Rows];
        for (int i = 0; i < Rows; ++i) sum[i] = W::load(C + static_cast<long>(row + i) * n + c);
        for (int k = 0; k < inner; ++k) {
            const W b = W::load(B + static_cast<long>(k) * n + c);
            for (int i = 0; i < Rows; ++i) sum[i] += a(row + i, k) * b;
        }
        for (int i = 0; i < Rows; ++i) sum[i].store(C + static_cast<long>(row + i) * n + c);
    }
}

template <class W, class A>
void dense_product(int m, int inner, int n, const A& a, const double* B, double* C) {
    int row = 0;
    for (; row + 4 <= m; row += 4) {
        int c = 0;
        dense_block<W, 4>(inner, n, a, B, C, row, c);
    }
    for (; row < m; ++row) {
        int c = 0;
        dense_block<W, 1>(inner, n, a, B, C, row, c);
    }
    const int tail = n / W::width * W::width;
    for (int i = 0; i < m; ++i)
        for (int k = 0; k < inner; ++k)
            for (int c = tail; c < n; ++c) C[static_cast<long>(i) * n + c] += a(i, k) * B[static_cast<long>(k) * n + c];
}

}  // namespace detail

/// C[m, n] += A[m, k] B[k, n].
template <class W>
void add_product(int m, int k, int n, const double* A, const double* B, double* C) {
    detail::dense_product<W>(
        m, k, n, [=](int i, int q) { return A[static_cast<long>(i) * k + q]; }, B, C);
}

/// C[k, n] += A[m, k]^T B[m, n].
template <class W>
void add_transposed_product(int m, int k, int n, const double* A, const double* B, double* C) {
    detail::dense_product<W>(
        k, m, n, [=](int i, int q) { return A[static_cast<long>(q) * k + i]; }, B, C);
}

/// C[m, k] += A[m, n] B[k, n]^T.
template <class W>
void add_product_transposed(int m, int n, int k, const double* A, const double* B, double* C) {
    std::vector<double> transposed(static_cast<std::size_t>(n) * static_cast<std::size_t>(k));
    for (int i = 0; i < k; ++i)
        for (int j = 0; j < n; ++j)
            transposed[static_cast<std::size_t>(j) * static_cast<std::size_t>(k) + static_cast<std::size_t>(i)] =
                B[static_cast<long>(i) * n + j];
    add_product<W>(m, n, k, A, transposed.data(), C);
}

}  // namespace equipot::kernels
