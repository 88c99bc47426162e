// Design matrices: the energies, forces and virials of a one-layer model by each coefficient of its product, for fits
// by linear algebra. A column is a coefficient product.0.ν[z, η, k], a row an energy, a force or a virial component.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "../model/model.hpp"
#include "../potential/potential.hpp"

namespace equipot {

/// Which coefficient, for every species: product.0.order[z, path, channel].
struct Feature {
    int order, path, channel;
};

class Design {
public:
    /// @throws Error unless the model has one layer with a linear radial map, no density term and a linear readout, and
    /// all features exist in it, of order 4 at most.
    Design(const Model& model, int head, std::span<const Feature> features);
    ~Design();
    Design(Design&&) noexcept;
    Design& operator=(Design&&) noexcept;

    /// species · features; column z · features + f.
    [[nodiscard]] std::int64_t columns() const;
    /// Energy (eV), 3 forces per atom (eV/Å), virial xx yy zz yz xz xy (eV).
    static std::int64_t rows(std::int64_t atoms) { return 1 + 3 * atoms + 6; }

    /// X[columns, stride], zero on entry: structure after structure along the rows. All threads take part; the result
    /// does not depend on their number. @throws Error naming a structure by its place, or an element.
    void compute(std::span<const System> systems, double* X, std::int64_t stride) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace equipot
