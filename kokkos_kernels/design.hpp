// Design stage: the rows of a linear fit. The energy of a one-layer model is linear in product.0.ν[z, η, k], so every
// coefficient has its own energy, forces and virial: those of the feature B_ηk. Per atom and channel, with
// G[η, v] = ∂B_η/∂A_v (lanes = channels) and J[v, 3 edges] = ∂A_v/∂r_ij (lanes = edges), the forces of all features are
// the one small product G J; the same rows of J summed over edges give the atom's own force and the virial.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

#include "kokkos_kernels/angular.hpp"
#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

/// One coupling: B = Σ value · A_v1 ··· A_vν over the monomials begin .. end.
struct DesignPath {
    int order, begin, end;
};

/// Up to four features of one channel that are multiplied with J together, over the components that any of them
/// touches. Unused places repeat the first feature.
struct DesignGroup {
    static constexpr int size = 4;
    int lane, count, touched_begin, touched_end;
    int slot[size];     ///< of the path within the block
    int feature[size];  ///< column within one species
};

/// As many channels as a pack has lanes: the paths that any of them uses, and its features.
struct DesignBlock {
    int path_begin, path_end;    ///< in DesignPlan::block_paths
    int group_begin, group_end;  ///< in DesignPlan::groups, ordered by lane
};

/// What all structures share. Pointers into arrays that outlive the call.
struct DesignPlan {
    int l_max, components, basis_size, features, species, largest_slots, block_count;
    const DesignPath* paths;
    const int* monomials;  ///< [monomials, 4] factors, unused places are -1
    const double* values;  ///< [monomials]
    const int* touched;    ///< components, by group
    const int* block_paths;
    const DesignGroup* groups;
    const DesignBlock* blocks;
    const double* radial;   ///< [receiver, sender, block, l, lane, basis]: R_lk = Σ_n radial e_n
    const double* factors;  ///< [block, lane] energy per unit of B
};

/// One structure. Edges shorter than the cutoff only, in CSR form.
struct DesignStructure {
    std::int64_t atoms;
    const std::int32_t* species;  ///< [atoms]
    const std::int64_t* first;    ///< [atoms + 1]
    const std::int32_t* neighbor;
    const double* displacement;  ///< [edges, 3]
    const double* basis;         ///< [edges, 2, basis_size]: e_n(r) and its slope
    std::int64_t most_edges;     ///< of one atom
};

/// Numbers of scratch that one structure needs.
inline std::size_t design_scratch(const DesignPlan& plan, std::int64_t most_edges, int width) {
    const auto W = static_cast<std::size_t>(width);
    const auto edges = (static_cast<std::size_t>(most_edges) + W - 1) / W * W;
    const auto V = static_cast<std::size_t>(plan.components), L = static_cast<std::size_t>(plan.l_max + 1);
    const std::size_t columns = 3 * edges + 9 + 2 * W;
    return edges * (4 + 7 * V + 2 * L * W) + V * W + static_cast<std::size_t>(plan.largest_slots) * V * W +
           (V + DesignGroup::size) * columns;
}

namespace detail {

/// Y[(L+1)²] and its derivatives by the displacement, dY[(L+1)², 3], at the unit vector x and distance r.
template <int L>
KOKKOS_FORCEINLINE_FUNCTION void harmonics_with_slopes(const double* x, double r, double* Y, double* dY) {
    constexpr HarmonicNorms<L> norm;
    const Legendre<double, L> p(x[0], x[1], x[2]);
    const auto put = [&](int v, double gx, double gy, double gz) {
        const double along = x[0] * gx + x[1] * gy + x[2] * gz;
        dY[3 * v] = (gx - x[0] * along) / r;
        dY[3 * v + 1] = (gy - x[1] * along) / r;
        dY[3 * v + 2] = (gz - x[2] * along) / r;
    };
    for (int l = 0; l <= L; ++l) {
        const int v = l * l + l;
        Y[v] = norm.n[l][0] * p.q[l][0];
        put(v, 0, norm.n[l][0] * p.q[l][1], 0);
        for (int m = 1; m <= l; ++m) {
            const double n = norm.n[l][m], nq = n * p.q[l][m], dq = n * p.q[l][m + 1], mq = m * nq;
            Y[v + m] = nq * p.c[m];
            Y[v - m] = nq * p.s[m];
            put(v + m, -mq * p.s[m - 1], dq * p.c[m], mq * p.c[m - 1]);
            put(v - m, mq * p.c[m - 1], dq * p.s[m], mq * p.s[m - 1]);
        }
    }
}

/// G[v] += value · ∂(A_v1 ··· A_vν)/∂A_v for all monomials of a path; one pack per component.
template <class P>
KOKKOS_FORCEINLINE_FUNCTION void path_gradient(const DesignPlan& plan, const DesignPath& path, const P* A, P* G) {
    for (int v = 0; v < plan.components; ++v) G[v] = P::zero();
    for (int e = path.begin; e < path.end; ++e) {
        const int* v = plan.monomials + static_cast<std::ptrdiff_t>(4) * e;
        const double c = plan.values[e];
        switch (path.order) {
            case 1:
                G[v[0]] += P::broadcast(c);
                break;
            case 2:
                G[v[0]] += c * A[v[1]];
                G[v[1]] += c * A[v[0]];
                break;
            case 3: {
                const P a = c * A[v[0]];
                G[v[2]] += a * A[v[1]];
                G[v[1]] += a * A[v[2]];
                G[v[0]] += c * A[v[1]] * A[v[2]];
                break;
            }
            default: {
                const P a = c * A[v[0]] * A[v[1]], b = A[v[2]] * A[v[3]];
                G[v[3]] += a * A[v[2]];
                G[v[2]] += a * A[v[3]];
                const P d = c * b;
                G[v[1]] += d * A[v[0]];
                G[v[0]] += d * A[v[1]];
                break;
            }
        }
    }
}

/// out[4][columns] = Σ_v G[slot][v][lane] J[v][columns] for the components of the group.
template <class P>
KOKKOS_FORCEINLINE_FUNCTION void group_product(const DesignPlan& plan, const DesignGroup& group, const double* G,
                                               const double* J, std::ptrdiff_t columns, double* out) {
    constexpr int W = P::width;
    const double* g[DesignGroup::size];
    for (int f = 0; f < DesignGroup::size; ++f)
        g[f] = G + static_cast<std::ptrdiff_t>(group.slot[f]) * plan.components * W + group.lane;
    for (std::ptrdiff_t c = 0; c < columns; c += 2 * W) {
        P sum[DesignGroup::size][2];
        for (auto& s : sum) s[0] = s[1] = P::zero();
        for (int t = group.touched_begin; t < group.touched_end; ++t) {
            const int v = plan.touched[t];
            const P left = P::load(J + v * columns + c), right = P::load(J + v * columns + c + W);
            for (int f = 0; f < DesignGroup::size; ++f) {
                const double w = g[f][v * W];
                sum[f][0] += w * left;
                sum[f][1] += w * right;
            }
        }
        for (int f = 0; f < DesignGroup::size; ++f) {
            sum[f][0].store(out + f * columns + c);
            sum[f][1].store(out + f * columns + c + W);
        }
    }
}

template <class P, int L>
void design_atom(const DesignPlan& plan, int block_index, const DesignStructure& structure, std::int64_t i, double* X,
                 std::ptrdiff_t stride, double* scratch) {
    constexpr int W = P::width, V = (L + 1) * (L + 1);
    const DesignBlock& block = plan.blocks[block_index];
    const std::int64_t first = structure.first[i];
    const auto count = static_cast<std::ptrdiff_t>(structure.first[i + 1] - first);
    const std::ptrdiff_t E = (count + W - 1) / W * W;
    const std::ptrdiff_t columns = (3 * E + 9 + 2 * W - 1) / (2 * W) * (2 * W);
    const int N = plan.basis_size;

    double* r = scratch;                                                      // [3][E] displacements
    double* Y = r + 4 * E;                                                    // [V][E]
    double* rY = Y + V * E;                                                   // [V][3][E] r̂ Y
    double* dY = rY + 3 * V * E;                                              // [V][3][E]
    double* R = dY + 3 * V * E;                                               // [l][lane][E]
    double* dR = R + (L + 1) * W * E;                                         // [l][lane][E]
    double* A = dR + (L + 1) * W * E;                                         // [V][lane]
    double* G = A + V * W;                                                    // [slot][V][lane]
    double* J = G + static_cast<std::ptrdiff_t>(plan.largest_slots) * V * W;  // [V][columns]
    double* out = J + V * columns;                                            // [4][columns]

    // Geometry and radial functions of the edges; places beyond the last edge are zero.
    for (double* p = r; p < A; ++p) *p = 0;
    for (std::ptrdiff_t e = 0; e < count; ++e) {
        const double* d = structure.displacement + 3 * (first + e);
        const double length = __builtin_sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
        const double x[3] = {d[0] / length, d[1] / length, d[2] / length};
        double y[V], dy[3 * V];
        harmonics_with_slopes<L>(x, length, y, dy);
        for (int c = 0; c < 3; ++c) r[c * E + e] = d[c];
        for (int v = 0; v < V; ++v) {
            Y[v * E + e] = y[v];
            for (int c = 0; c < 3; ++c) {
                rY[(3 * v + c) * E + e] = x[c] * y[v];
                dY[(3 * v + c) * E + e] = dy[3 * v + c];
            }
        }
        const double* basis = structure.basis + (first + e) * 2 * N;
        const int pair = structure.species[i] * plan.species + structure.species[structure.neighbor[first + e]];
        const double* T =
            plan.radial + (static_cast<std::ptrdiff_t>(pair) * plan.block_count + block_index) * (L + 1) * W * N;
        for (int row = 0; row < (L + 1) * W; ++row) {
            double value = 0, slope = 0;
            for (int n = 0; n < N; ++n) {
                value += T[row * N + n] * basis[n];
                slope += T[row * N + n] * basis[N + n];
            }
            R[row * E + e] = value;
            dR[row * E + e] = slope;
        }
    }
    for (int l = 0; l <= L; ++l)
        for (int v = l * l; v < (l + 1) * (l + 1); ++v)
            for (int lane = 0; lane < W; ++lane) {
                P sum = P::zero();
                for (std::ptrdiff_t e = 0; e < E; e += W)
                    sum += P::load(R + (l * W + lane) * E + e) * P::load(Y + v * E + e);
                double total = 0;
                for (int q = 0; q < W; ++q) total += sum.lane(q);
                A[v * W + lane] = total;
            }

    for (int p = block.path_begin; p < block.path_end; ++p)
        path_gradient(plan, plan.paths[plan.block_paths[p]], reinterpret_cast<const P*>(A),
                      reinterpret_cast<P*>(G) + static_cast<std::ptrdiff_t>(p - block.path_begin) * V);

    int lane = -1;
    double* Xz = X + static_cast<std::ptrdiff_t>(structure.species[i]) * plan.features * stride;
    for (int g = block.group_begin; g < block.group_end; ++g) {
        const DesignGroup& group = plan.groups[g];
        if (group.lane != lane) {
            lane = group.lane;
            for (int l = 0; l <= L; ++l)
                for (int v = l * l; v < (l + 1) * (l + 1); ++v) {
                    double* row = J + v * columns;
                    const double* Rl = R + (l * W + lane) * E;
                    const double* dRl = dR + (l * W + lane) * E;
                    for (int c = 0; c < 3; ++c) {
                        P own = P::zero(), moment[3] = {P::zero(), P::zero(), P::zero()};
                        for (std::ptrdiff_t e = 0; e < E; e += W) {
                            const P j = P::load(dRl + e) * P::load(rY + (3 * v + c) * E + e) +
                                        P::load(Rl + e) * P::load(dY + (3 * v + c) * E + e);
                            j.store(row + c * E + e);
                            own += j;
                            for (int d = c; d < 3; ++d) moment[d] += j * P::load(r + d * E + e);
                        }
                        const auto total = [](P p) {
                            double s = 0;
                            for (int q = 0; q < W; ++q) s += p.lane(q);
                            return s;
                        };
                        row[3 * E + c] = total(own);
                        // xx yy zz yz xz xy
                        for (int d = c; d < 3; ++d) row[3 * E + 3 + (c == d ? c : 6 - c - d)] = total(moment[d]);
                    }
                    for (std::ptrdiff_t c = 3 * E + 9; c < columns; ++c) row[c] = 0;
                }
        }
        group_product<P>(plan, group, G, J, columns, out);
        const double factor = plan.factors[block_index * W + lane];
        for (int f = 0; f < group.count; ++f) {
            const double* s = out + f * columns;
            const double* gradient = G + static_cast<std::ptrdiff_t>(group.slot[f]) * V * W + lane;
            const int order = plan.paths[plan.block_paths[block.path_begin + group.slot[f]]].order;
            double* row = Xz + group.feature[f] * stride;
            double energy = 0;  // Euler: Σ_v A_v ∂B/∂A_v = ν B
            for (int t = group.touched_begin; t < group.touched_end; ++t) {
                const int v = plan.touched[t];
                energy += gradient[v * W] * A[v * W + lane];
            }
            row[0] += factor * energy / order;
            double* forces = row + 1;
            for (std::ptrdiff_t e = 0; e < count; ++e) {
                double* force = forces + 3 * static_cast<std::ptrdiff_t>(structure.neighbor[first + e]);
                force[0] -= factor * s[e];
                force[1] -= factor * s[E + e];
                force[2] -= factor * s[2 * E + e];
            }
            for (int c = 0; c < 3; ++c) forces[3 * i + c] += factor * s[3 * E + c];
            double* virial = forces + 3 * structure.atoms;
            for (int c = 0; c < 6; ++c) virial[c] -= factor * s[3 * E + 3 + c];
        }
    }
}

}  // namespace detail

/// Adds the rows of all atoms for the features of one block: X[species · features][stride], of which one structure
/// takes 1 + 3 atoms + 6 places: energy, forces, virial (xx yy zz yz xz xy). Blocks write to different columns of the
/// fit.
template <class P>
void design_block(const DesignPlan& plan, int block, const DesignStructure& structure, double* X, std::ptrdiff_t stride,
                  double* scratch) {
    with_l_max(plan.l_max, [&]<int l_max>() {
        for (std::int64_t i = 0; i < structure.atoms; ++i)
            detail::design_atom<P, l_max>(plan, block, structure, i, X, stride, scratch);
    });
}

struct DesignKernel {
    using Function = void (*)(const DesignPlan&, int block, const DesignStructure&, double* X, std::ptrdiff_t stride,
                              double* scratch);
    Function run;
    int width;  ///< channels of a block
};

/// The best kernel for this processor.
DesignKernel make_design_kernel();

/// The one for `Isa`; see isa.hpp.
template <class Isa>
DesignKernel design_kernel();

}  // namespace equipot::kernels
