// Reduction of lattices in one, two and three dimensions.
// SPDX-License-Identifier: MIT
#include "neighbors/lattice.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "model/model.hpp"

namespace equipot {

namespace {

double norm(const Vec3& a) { return std::sqrt(dot(a, a)); }

Vec3 add(const Vec3& a, double factor, const Vec3& b) {
    return {a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]};
}

Vec3 unit(const Vec3& a) {
    const double length = norm(a);
    return {a[0] / length, a[1] / length, a[2] / length};
}

/// A reduction step must shorten by more than round-off, or two equally good cells would swap for ever.
bool replace_if_shorter(Vec3& vector, const Vec3& candidate) {
    if (dot(candidate, candidate) >= dot(vector, vector) * (1.0 - 1e-12)) return false;
    vector = candidate;
    return true;
}

/// Subtracts whole multiples of the vectors from each other (and of two from the third) until nothing gets shorter: in
/// up to three dimensions this ends at Minkowski-reduced vectors.
void reduce(std::vector<Vec3*>& vectors) {
    for (bool changed = true; changed;) {
        changed = false;
        for (Vec3* b : vectors) {
            for (const Vec3* a : vectors) {
                if (a == b) continue;
                changed |= replace_if_shorter(*b, add(*b, -std::round(dot(*a, *b) / dot(*a, *a)), *a));
            }
        }
        if (vectors.size() < 3) continue;
        for (std::size_t c = 0; c < 3; ++c) {
            for (const double s : {-1.0, 1.0}) {
                for (const double t : {-1.0, 1.0}) {
                    const Vec3 sum = add(add(*vectors[c], s, *vectors[(c + 1) % 3]), t, *vectors[(c + 2) % 3]);
                    changed |= replace_if_shorter(*vectors[c], sum);
                }
            }
        }
    }
}

/// Length, area or volume spanned, relative to that of a box with the same edges: 1 for right angles, 0 for no volume.
double relative_volume(const std::vector<Vec3*>& v) {
    if (v.size() == 1) return 1.0;
    const Vec3 normal = cross(unit(*v[0]), unit(*v[1]));
    return v.size() == 2 ? norm(normal) : std::abs(dot(normal, unit(*v[2])));
}

}  // namespace

std::array<Vec3, 3> search_vectors(const std::array<double, 9>& cell, const std::array<bool, 3>& periodic) {
    std::array<Vec3, 3> rows{};
    std::vector<Vec3*> vectors;
    std::vector<Vec3*> open;
    for (std::size_t d = 0; d < 3; ++d) {
        rows[d] = {cell[3 * d], cell[3 * d + 1], cell[3 * d + 2]};
        (periodic[d] ? vectors : open).push_back(&rows[d]);
        if (!periodic[d]) continue;
        const double length = norm(rows[d]);
        if (!std::isfinite(length)) throw Error("lattice vector " + std::to_string(d + 1) + " is not finite");
        if (length < 1e-6) {
            throw Error("the cell has no volume: it is periodic along lattice vector " + std::to_string(d + 1) +
                        ", which is zero");
        }
    }
    // Below this, round-off in the rows decides the volume.
    if (!vectors.empty() && relative_volume(vectors) < 1e-10) {
        throw Error("the cell has no volume: its periodic lattice vectors are linearly dependent");
    }
    reduce(vectors);

    if (vectors.empty()) return {Vec3{1, 0, 0}, Vec3{0, 1, 0}, Vec3{0, 0, 1}};
    if (open.size() == 2) {
        const Vec3 a = unit(*vectors[0]);
        const Vec3 helper = std::abs(a[0]) < 0.8 ? Vec3{1, 0, 0} : Vec3{0, 1, 0};
        *open[0] = unit(cross(a, helper));
        *open[1] = cross(a, *open[0]);
    } else if (open.size() == 1) {
        *open[0] = unit(cross(*vectors[0], *vectors[1]));
    }
    return rows;
}

Lattice make_lattice(const std::array<Vec3, 3>& vectors) {
    Lattice lattice;
    lattice.vectors = vectors;
    for (std::size_t d = 0; d < 3; ++d) {
        const Vec3 normal = cross(vectors[(d + 1) % 3], vectors[(d + 2) % 3]);
        const double volume = dot(vectors[d], normal);
        lattice.reciprocal[d] = {normal[0] / volume, normal[1] / volume, normal[2] / volume};
        lattice.heights[d] = 1.0 / norm(lattice.reciprocal[d]);
    }
    return lattice;
}

}  // namespace equipot
