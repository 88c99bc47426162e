// Compiled for CUDA, never run: every stage, forward and backward, as team kernels where lanes are the threads of a
// team. It keeps the stages free of anything a GPU cannot do. SPDX-License-Identifier: MIT
#include <Kokkos_Core.hpp>

#include "kokkos_kernels/angular.hpp"
#include "kokkos_kernels/density.hpp"
#include "kokkos_kernels/mixing.hpp"
#include "kokkos_kernels/pair.hpp"
#include "kokkos_kernels/product.hpp"
#include "kokkos_kernels/radial.hpp"
#include "kokkos_kernels/readout.hpp"

namespace equipot::kernels {

namespace {

struct Gpu {};

template <class Real>
struct StageArguments {
    RadialTable<Real> table;
    Coupling<Real> coupling, transposed;
    PathShape path;
    ProductProgram program;
    const Real* coefficients;
    ReadoutWeights readout;
    ZblPair pair;
    ZblConstants zbl;
    Real *R, *dR, *M, *Mbar, *u, *ubar, *D, *Dbar, *A, *Abar, *B, *Bbar, *W;
    double* out;
    int channels, l_max;
};

template <class Real>
struct ForwardCall {
    StageArguments<Real> a;
    Blocks blocks;
    template <int D1, int D3>
    KOKKOS_FUNCTION void operator()() const {
        const PathEdges<Real> edge{a.M, a.R, nullptr, &a.u, nullptr, 0};
        path_forward<Pack<Real, 1, Gpu>, D1, D3, true, 1>(blocks, a.channels, edge, a.D);
    }
};

template <class Real>
struct BackwardCall {
    StageArguments<Real> a;
    Blocks blocks;
    template <int D1, int D3>
    KOKKOS_FUNCTION void operator()() const {
        using P = Pack<Real, 1, Gpu>;
        const PathEdges<Real> edge{a.M, a.R, a.dR, &a.u, &a.ubar, 0};
        P sum = P::zero(), parts[D1 * D3];
        path_backward<P, D1, D3, true, 1>(blocks, a.channels, edge, a.Dbar, &sum, parts);
        for (int i = 0; i < D1 * D3; ++i) a.Mbar[i] += lane_sums(parts + i).lane(0);
        a.out[0] += sum.lane(0);
    }
};

template <class Real>
struct AllStages {
    using P = Pack<Real, 1, Gpu>;
    StageArguments<Real> a;

    KOKKOS_FUNCTION void operator()(const typename Kokkos::TeamPolicy<>::member_type& team) const {
        const Blocks blocks{team.team_rank(), a.channels, team.team_size()};
        const double x = a.out[0], y = a.out[1], z = a.out[2], r = a.out[3];
        Real Y[most_harmonics], Ybar[most_harmonics] = {}, gradient[3];
        spherical_harmonics<4, Real>(Real(x), Real(y), Real(z), Y);
        radial_splined<P, true>(SplineWeights<Real>(a.table, r), a.table.outputs, 0, blocks, a.R, a.dR);
        couple<false>(a.coupling, Y, a.M);
        team.team_barrier();
        with_path_shape(a.path.l1, a.path.l3, ForwardCall<Real>{a, blocks});
        mix<P, true>(blocks, a.channels, a.l_max, {a.D, 1, a.channels}, a.W, {a.A, 1, a.channels});
        team.team_barrier();
        P scratch[256];
        for (int b = blocks.begin; b < blocks.end; b += blocks.step) {
            product_forward<P>(a.program, a.coefficients + b * a.program.term_count, a.channels, a.A + b, a.B + b,
                               scratch);
            product_backward<P>(a.program, a.coefficients + b * a.program.term_count, a.channels, a.A + b, a.Bbar + b,
                                a.Abar + b, scratch);
        }
        a.out[0] += readout<P>(a.readout, a.channels, a.B, 1.0, a.Bbar);
        with_path_shape(a.path.l1, a.path.l3, BackwardCall<Real>{a, blocks});
        couple<true>(a.transposed, a.Mbar, Ybar);
        spherical_harmonics_backward<4, Real>(Real(x), Real(y), Real(z), Ybar, gradient);
        double slope = 0;
        a.out[1] += zbl(a.pair, a.zbl, r, slope) + gradient[0];
    }
};

}  // namespace

void compile_stages(double* out) {
    StageArguments<double> in_double{};
    StageArguments<float> in_float{};
    in_double.out = in_float.out = out;
    Kokkos::parallel_for("double", Kokkos::TeamPolicy<>(1, 32), AllStages<double>{in_double});
    Kokkos::parallel_for("float", Kokkos::TeamPolicy<>(1, 32), AllStages<float>{in_float});
}

}  // namespace equipot::kernels
