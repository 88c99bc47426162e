// Product stage: B_LM,k = Σ_ν Σ_η w_{z,η,k} Σ_v U^{LM,η}_{v1..vν} A_v1,k ··· A_vν,k, one polynomial per channel. With
// the sum over η done at load, it is Σ_groups P_prefix · (Σ_terms c_term,k A_var): prefixes P are shared products of up
// to ν-1 factors. Backward, per group with P̂ = B̄ P: Ā_var += c P̂ and P̄ += B̄ Σ c A; then down the prefixes, P = P_parent
// A_var.
// SPDX-License-Identifier: MIT
#pragma once

#include "kokkos_kernels/lanes.hpp"

namespace equipot::kernels {

/// P[node] = P[parent] * A[variable]; node 0 is the empty product, 1. Parents come first.
struct ProductNode {
    int parent, variable;
};

/// B[output] += P[node] * Σ_{terms begin..end} c A[variable].
struct ProductGroup {
    int node, output, begin, end;
};

/// The evaluation order of one layer's product. Coefficients are [blocks][terms][pack width] per species.
struct ProductProgram {
    const ProductNode* nodes;
    const ProductGroup* groups;
    const int* variables;  ///< [terms]
    int node_count, group_count, term_count;
    int inputs, outputs;  ///< rows of A and of B
};

/// How far apart a block's coefficients of one term and the next lie: as wide as a pack, or as a block whose packs are
/// one number.
template <class Weight>
inline constexpr int coefficient_stride = Weight::width;

/// B rows = product(A rows) for one channel block. A and B point at the block; scratch holds node_count packs.
template <class P, class Packs = P*, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void product_forward(const ProductProgram& program, const typename P::Real* coefficients,
                                                 int channels, const Value* A, Value* B, Packs scratch) {
    using Weight = typename P::Weight;
    const Packs node = scratch;
    node[0] = P::broadcast(Value(1));
    for (int n = 1; n < program.node_count; ++n)
        node[n] = node[program.nodes[n].parent] * P::load(A + program.nodes[n].variable * channels);
    for (int o = 0; o < program.outputs; ++o) P::zero().store(B + o * channels);
    for (int g = 0; g < program.group_count; ++g) {
        const ProductGroup group = program.groups[g];
        P sum = P::zero();
        for (int t = group.begin; t < group.end; ++t)
            sum += Weight::load(coefficients + static_cast<long>(t) * coefficient_stride<Weight>) *
                   P::load(A + program.variables[t] * channels);
        P b = P::load(B + group.output * channels);
        b += node[group.node] * sum;
        b.store(B + group.output * channels);
    }
}

/// Abar rows = adjoint of product_forward at A for Bbar (Abar may be A); over dual lanes also cbar += d/dε of the
/// coefficients' adjoint. scratch holds 2 node_count + inputs packs.
template <class P, class Packs = P*, class Value = typename P::Value, class Real = typename P::Real>
KOKKOS_FORCEINLINE_FUNCTION void product_backward(const ProductProgram& program, const Real* coefficients, int channels,
                                                  const Value* A, const Value* Bbar, Value* Abar, Packs scratch,
                                                  [[maybe_unused]] Real* cbar = nullptr) {
    using Weight = typename P::Weight;
    const Packs node = scratch, nodebar = scratch + program.node_count, abar = nodebar + program.node_count;
    node[0] = P::broadcast(Value(1));
    nodebar[0] = P::zero();
    for (int n = 1; n < program.node_count; ++n) {
        node[n] = node[program.nodes[n].parent] * P::load(A + program.nodes[n].variable * channels);
        nodebar[n] = P::zero();
    }
    for (int v = 0; v < program.inputs; ++v) abar[v] = P::zero();
    for (int g = 0; g < program.group_count; ++g) {
        const ProductGroup group = program.groups[g];
        const P bbar = P::load(Bbar + group.output * channels);
        const P bnode = bbar * node[group.node];
        P sum = P::zero();
        for (int t = group.begin; t < group.end; ++t) {
            const Weight c = Weight::load(coefficients + static_cast<long>(t) * coefficient_stride<Weight>);
            const int v = program.variables[t];
            const P a = P::load(A + v * channels);
            sum += c * a;
            abar[v] += c * bnode;
            if constexpr (P::dual) {
                Real* target = cbar + static_cast<long>(t) * P::width;
                Weight gradient = Weight::load(target);
                gradient += derivative_of_product(bnode, a);
                gradient.store(target);
            }
        }
        nodebar[group.node] += bbar * sum;
    }
    for (int n = program.node_count - 1; n > 0; --n) {
        const int v = program.nodes[n].variable, parent = program.nodes[n].parent;
        abar[v] += nodebar[n] * node[parent];
        nodebar[parent] += nodebar[n] * P::load(A + v * channels);
    }
    for (int v = 0; v < program.inputs; ++v) abar[v].store(Abar + v * channels);
}

/// Packs of scratch that one block of product_backward needs.
inline int product_scratch(const ProductProgram& program) { return 2 * program.node_count + program.inputs; }

/// Packs of scratch that the product of N atoms needs.
inline std::size_t product_scratch(const ProductProgram& program, int atoms) {
    return static_cast<std::size_t>(atoms) *
           static_cast<std::size_t>(2 * program.node_count + 3 * program.inputs + program.outputs);
}

/// product_forward for all channels of N atoms of one species, whose rows of A and B lie the strides apart. They share
/// coefficients and the walk through the program.
template <class P, int N, class Value = typename P::Value, class Real = typename P::Real>
void product_forward_atoms(const ProductProgram& program, const Real* coefficients, int channels, const Value* A,
                           long a_stride, Value* B, long b_stride, P* scratch) {
    if constexpr (N == 1) {
        for (int c = 0; c < channels; c += P::width)
            product_forward<P>(program, coefficients + static_cast<long>(c) * program.term_count, channels, A + c,
                               B + c, scratch);
    } else {
        Value* a = reinterpret_cast<Value*>(scratch);
        Value* b = a + program.inputs * N * P::width;
        auto* rest = reinterpret_cast<AtomPacks<P, N>*>(b + program.outputs * N * P::width);
        for (int c = 0; c < channels; c += P::width) {
            for (int v = 0; v < program.inputs; ++v)
                for (int i = 0; i < N; ++i)
                    P::load(A + i * a_stride + v * channels + c).store(a + (v * N + i) * P::width);
            product_forward<AtomPacks<P, N>>(program, coefficients + static_cast<long>(c) * program.term_count,
                                             N * P::width, a, b, rest);
            for (int o = 0; o < program.outputs; ++o)
                for (int i = 0; i < N; ++i)
                    P::load(b + (o * N + i) * P::width).store(B + i * b_stride + o * channels + c);
        }
    }
}

/// Its adjoint, likewise.
template <class P, int N, class Value = typename P::Value, class Real = typename P::Real>
void product_backward_atoms(const ProductProgram& program, const Real* coefficients, int channels, const Value* A,
                            long a_stride, const Value* Bbar, long b_stride, Value* Abar, P* scratch,
                            [[maybe_unused]] Real* cbar = nullptr) {
    if constexpr (N == 1) {
        for (int c = 0; c < channels; c += P::width)
            product_backward<P>(program, coefficients + static_cast<long>(c) * program.term_count, channels, A + c,
                                Bbar + c, Abar + c, scratch,
                                P::dual ? cbar + static_cast<long>(c) * program.term_count : nullptr);
    } else {
        Value* a = reinterpret_cast<Value*>(scratch);
        Value* abar = a + program.inputs * N * P::width;
        Value* bbar = abar + program.inputs * N * P::width;
        auto* rest = reinterpret_cast<AtomPacks<P, N>*>(bbar + program.outputs * N * P::width);
        for (int c = 0; c < channels; c += P::width) {
            for (int v = 0; v < program.inputs; ++v)
                for (int i = 0; i < N; ++i)
                    P::load(A + i * a_stride + v * channels + c).store(a + (v * N + i) * P::width);
            for (int o = 0; o < program.outputs; ++o)
                for (int i = 0; i < N; ++i)
                    P::load(Bbar + i * b_stride + o * channels + c).store(bbar + (o * N + i) * P::width);
            product_backward<AtomPacks<P, N>>(program, coefficients + static_cast<long>(c) * program.term_count,
                                              N * P::width, a, bbar, abar, rest);
            for (int v = 0; v < program.inputs; ++v)
                for (int i = 0; i < N; ++i)
                    P::load(abar + (v * N + i) * P::width).store(Abar + i * a_stride + v * channels + c);
        }
    }
}

}  // namespace equipot::kernels
