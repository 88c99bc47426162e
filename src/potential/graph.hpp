// What the engine computes on: atoms and their neighbours in CSR form, and how halo atoms are kept in step.
// r_ij = x_j - x_i; atom i receives, j sends. The engine never learns who built the graph.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

namespace equipot {

/// Å; atoms closer than this have no direction between them, and whoever builds a graph refuses them.
inline constexpr double overlap = 1e-6;

/// Atoms [0, owned) receive and carry energies; atoms [owned, total) are halo: they only send.
/// A periodic cell in one process has no halo: image neighbours point at the owned atom itself.
struct Graph {
    std::int64_t owned = 0;
    std::int64_t total = 0;
    std::span<const std::int32_t> atomic_numbers;  ///< [total]
    std::span<const std::int64_t> first;           ///< [owned + 1], edges of atom i are first[i] .. first[i+1]
    std::span<const std::int32_t> neighbor;        ///< [edges], the sender j in [0, total)
    std::span<const double> displacement;  ///< [edges * 3], r_ij in Å; edges beyond the cutoff contribute nothing
};

/// Keeps halo atoms in step between layers. Both verbs are collective: every rank calls them the same number of times,
/// also one without atoms. Rows are `width` numbers per atom, `total` rows, row-major.
class Exchange {
public:
    virtual ~Exchange() = default;
    /// Copies the rows of owned atoms into their halo images on this and other ranks.
    virtual void forward(double* rows, int width) = 0;
    /// Adds the rows of halo images to the rows of the atoms that own them.
    virtual void reverse(double* rows, int width) = 0;
    virtual void forward(float* rows, int width) = 0;
    virtual void reverse(float* rows, int width) = 0;
    /// False where the verbs do nothing, so that rows need not be brought to where they could reach them.
    [[nodiscard]] virtual bool moves_rows() const { return true; }
};

/// For graphs without halo atoms: nothing to exchange.
class NoExchange final : public Exchange {
public:
    void forward(double*, int) override {}
    void reverse(double*, int) override {}
    void forward(float*, int) override {}
    void reverse(float*, int) override {}
    [[nodiscard]] bool moves_rows() const override { return false; }
};

}  // namespace equipot
