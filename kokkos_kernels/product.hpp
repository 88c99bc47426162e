// Product stage: B_LM,k = Σ_ν Σ_η w_{z,η,k} Σ_v U^{LM,η}_{v1..vν} A_v1,k ··· A_vν,k, one polynomial per channel. With
// the sum over η done at load, it is Σ_groups P_prefix · (Σ_terms c_term,k A_var): prefixes P are shared products of up
// to ν-1 factors. Backward, per group with P̂ = B̄ P: Ā_var += c P̂ and P̄ += B̄ Σ c A; then down the prefixes, P = P_parent
// A_var. SPDX-License-Identifier: MIT
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

/// B rows = product(A rows) for one channel block. A and B point at the block; scratch holds node_count packs.
template <class P, class Value = typename P::Value>
KOKKOS_FORCEINLINE_FUNCTION void product_forward(const ProductProgram& program, const typename P::Real* coefficients,
                                                 int channels, const Value* A, Value* B, P* scratch) {
    using Weight = typename P::Weight;
    P* node = scratch;
    node[0] = P::broadcast(Value(1));
    for (int n = 1; n < program.node_count; ++n)
        node[n] = node[program.nodes[n].parent] * P::load(A + program.nodes[n].variable * channels);
    for (int o = 0; o < program.outputs; ++o) P::zero().store(B + o * channels);
    for (int g = 0; g < program.group_count; ++g) {
        const ProductGroup group = program.groups[g];
        P sum = P::zero();
        for (int t = group.begin; t < group.end; ++t)
            sum += Weight::load(coefficients + static_cast<long>(t) * P::width) *
                   P::load(A + program.variables[t] * channels);
        P b = P::load(B + group.output * channels);
        b += node[group.node] * sum;
        b.store(B + group.output * channels);
    }
}

/// Abar rows = adjoint of product_forward at A for Bbar; over dual lanes also cbar += d/dε of the coefficients'
/// adjoint. scratch holds 2 node_count + inputs packs.
template <class P, class Value = typename P::Value, class Real = typename P::Real>
KOKKOS_FORCEINLINE_FUNCTION void product_backward(const ProductProgram& program, const Real* coefficients, int channels,
                                                  const Value* A, const Value* Bbar, Value* Abar, P* scratch,
                                                  [[maybe_unused]] Real* cbar = nullptr) {
    using Weight = typename P::Weight;
    P* node = scratch;
    P* nodebar = scratch + program.node_count;
    P* abar = nodebar + program.node_count;
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
            const Weight c = Weight::load(coefficients + static_cast<long>(t) * P::width);
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

}  // namespace equipot::kernels
