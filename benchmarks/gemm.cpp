// Channel mixing against general matrix libraries, on the shapes that a tile of eight atoms has: rows x channels times
// channels x channels. One thread; ten matrices in turn, as in a layer, so that weights come from beyond the
// first-level cache. Prints a table of thousand million multiply-adds per second. Not part of the build:
//
//   c++ -std=c++20 -O3 -march=native -mprefer-vector-width=512 -DEQUIPOT_ISA=base -I. -I$EIGEN
//       -I$KOKKOS/include benchmarks/gemm.cpp -ldl -o gemm
//   OPENBLAS_NUM_THREADS=1 ./gemm libopenblas.so.0
//
// SPDX-License-Identifier: MIT
#include <dlfcn.h>

#include <Eigen/Dense>
#include <chrono>
#include <cstdio>
#include <vector>

#include "kokkos_kernels/isa.hpp"
#include "kokkos_kernels/mixing.hpp"

namespace {

using equipot::kernels::Blocks;
using equipot::kernels::Pack;

constexpr int matrices = 10;

template <class F>
double best_rate(double multiply_adds, F f) {
    using Clock = std::chrono::steady_clock;
    double best = 0;
    for (int trial = 0; trial < 15; ++trial) {
        const auto start = Clock::now();
        int rounds = 0;
        double seconds = 0;
        do {
            for (int i = 0; i < matrices; ++i) f(i);
            ++rounds;
            seconds = std::chrono::duration<double>(Clock::now() - start).count();
        } while (seconds < 3e-3);
        best = std::max(best, multiply_adds * matrices * rounds / seconds);
    }
    return best;
}

template <class Real>
using Gemm = void (*)(int, int, int, int, int, int, Real, const Real*, int, const Real*, int, Real, Real*, int);

template <class Real>
void table(const char* name, Gemm<Real> blas) {
    using P =
        Pack<Real, equipot::kernels::base::Isa::bytes / static_cast<int>(sizeof(Real)), equipot::kernels::base::Isa>;
    using Matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    for (const int channels : {64, 96, 128, 256})
        for (const int rows : {8, 24, 40, 56}) {
            const Matrix in = Matrix::Random(rows, channels);
            std::vector<Matrix> W(matrices, Matrix::Random(channels, channels));
            std::vector<std::vector<Real>> strips;
            for (const Matrix& w : W) {
                strips.emplace_back(equipot::kernels::mix_size<Real>(channels));
                for (int k = 0; k < channels; ++k)
                    for (int c = 0; c < channels; ++c)
                        strips.back()[static_cast<std::size_t>(equipot::kernels::mix_index<Real>(channels, k, c))] =
                            w(k, c);
            }
            Matrix ours(rows, channels), eigen(rows, channels), theirs(rows, channels);
            const double work = double(rows) * channels * channels;
            const double a = best_rate(work, [&](int i) {
                equipot::kernels::mix<P, false>(Blocks{0, channels / P::width, 1}, channels, rows,
                                                {in.data(), 1, channels}, strips[static_cast<std::size_t>(i)].data(),
                                                {ours.data(), 1, channels});
            });
            const double b = best_rate(work, [&](int i) { eigen.noalias() = in * W[static_cast<std::size_t>(i)]; });
            double c = 0;
            if (blas != nullptr) {
                constexpr int row_major = 101, plain = 111;
                c = best_rate(work, [&](int i) {
                    blas(row_major, plain, plain, rows, channels, channels, Real(1), in.data(), channels,
                         W[static_cast<std::size_t>(i)].data(), channels, Real(0), theirs.data(), channels);
                });
                if (!theirs.isApprox(eigen, Real(1e-4))) std::printf("OpenBLAS differs\n");
            }
            if (!ours.isApprox(eigen, Real(1e-4))) std::printf("ours differs\n");
            std::printf("| %s | %d | %d | %.1f | %.1f | %.1f |\n", name, channels, rows, a * 1e-9, b * 1e-9, c * 1e-9);
        }
}

}  // namespace

int main(int count, char** words) {
    void* library = count > 1 ? dlopen(words[1], RTLD_NOW) : nullptr;
    if (count > 1 && library == nullptr) std::printf("%s\n", dlerror());
    const auto find = [&](const char* name) { return library != nullptr ? dlsym(library, name) : nullptr; };
    std::printf("| numbers | channels | rows | equipot | Eigen | OpenBLAS |\n|---|---|---|---|---|---|\n");
    table<float>("float", reinterpret_cast<Gemm<float>>(find("cblas_sgemm")));
    table<double>("double", reinterpret_cast<Gemm<double>>(find("cblas_dgemm")));
}
