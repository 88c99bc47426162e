// The lattice in which neighbours are searched: reduced periodic vectors, and a frame for the open directions.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>

namespace equipot {

using Vec3 = std::array<double, 3>;

inline double dot(const Vec3& a, const Vec3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
inline Vec3 cross(const Vec3& a, const Vec3& b) {
    return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

/// Three lattice vectors that span space.
struct Lattice {
    std::array<Vec3, 3> vectors;
    std::array<Vec3, 3> reciprocal;  ///< fractional coordinate d of x is reciprocal[d]·x
    Vec3 heights;                    ///< distances between opposite faces, Å
};

/// The periodic rows of `cell` (row-major), reduced to the shortest vectors of the same lattice, so that very skewed
/// cells cost no more than compact ones; open directions become unit vectors at right angles to them.
/// @throws Error when the periodic vectors are not finite or span no volume.
std::array<Vec3, 3> search_vectors(const std::array<double, 9>& cell, const std::array<bool, 3>& periodic);

/// Reciprocal vectors and heights of three independent vectors.
Lattice make_lattice(const std::array<Vec3, 3>& vectors);

}  // namespace equipot
