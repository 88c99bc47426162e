// Compiled for CUDA, never run: every stage, forward and backward, as team kernels where lanes are the threads of a team.
// It keeps the stages free of anything a GPU cannot do.
// SPDX-License-Identifier: MIT
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
    const CouplingTerm* terms;
    PathShape path;
    ProductProgram program;
    const Real* coefficients;
    ReadoutWeights readout;
    ZblPair pair;
    ZblConstants zbl;
    Real *R, *dR, *M, *Mbar, *u, *ubar, *D, *Dbar, *A, *Abar, *B, *Bbar, *W;
    double* out;
    int term_count, channels, l_max;
};

template <class Real>
struct ForwardCall {
    StageArguments<Real> a;
    Blocks blocks;
    template <int D1, int D3>
    KOKKOS_FUNCTION void operator()() const {
        path_forward<Pack<Real, 1, Gpu>, D1, D3, true>(blocks, a.channels, a.M, a.R, a.u, a.D);
    }
};

template <class Real>
struct BackwardCall {
    StageArguments<Real> a;
    Blocks blocks;
    template <int D1, int D3>
    KOKKOS_FUNCTION void operator()() const {
        a.out[0] += path_backward<Pack<Real, 1, Gpu>, D1, D3, true>(blocks, a.channels, a.M, a.R, a.dR, a.u, a.Dbar, a.ubar, a.Mbar);
    }
};

template <class Real>
struct AllStages {
    using P = Pack<Real, 1, Gpu>;
    StageArguments<Real> a;

    KOKKOS_FUNCTION void operator()(const typename Kokkos::TeamPolicy<>::member_type& team) const {
        const Blocks blocks{team.team_rank(), a.channels, team.team_size()};
        const double x = a.out[0], y = a.out[1], z = a.out[2], r = a.out[3];
        Real Y[25], Ybar[25] = {}, gradient[3];
        spherical_harmonics<4, Real>(Real(x), Real(y), Real(z), Y);
        radial_splined<P, true>(a.table, r, blocks, a.R, a.dR);
        coupling_forward(a.terms, a.term_count, 63, Y, a.M);
        team.team_barrier();
        with_path_shape(a.path.l1, a.path.l3, ForwardCall<Real>{a, blocks});
        mix<P, true>(blocks, a.channels, a.l_max, {a.D, 1, a.channels}, a.W, {a.A, 1, a.channels});
        team.team_barrier();
        P scratch[256];
        for (int b = blocks.begin; b < blocks.end; b += blocks.step) {
            product_forward<P>(a.program, a.coefficients + b * a.program.term_count, a.channels, a.A + b, a.B + b, scratch);
            product_backward<P>(a.program, a.coefficients + b * a.program.term_count, a.channels, a.A + b, a.Bbar + b, a.Abar + b, scratch);
        }
        a.out[0] += readout<Real>(a.readout, a.channels, a.B, 1.0, a.Bbar);
        with_path_shape(a.path.l1, a.path.l3, BackwardCall<Real>{a, blocks});
        coupling_backward(a.terms, a.term_count, a.Mbar, Ybar);
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
