// What a pair style keeps between steps: the model, the graph it is computed on, and what came out.
// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "equipot_halo.h"
#include "pair_equipot.h"
#include "potential/potential.hpp"

namespace LAMMPS_NS {

struct PairEquipot::Engine {
    equipot::LoadOptions options;
    std::unique_ptr<equipot::Potential> potential;
    std::unique_ptr<EquipotHalo> halo;
    equipot::Properties what;
    equipot::Result result;

    std::vector<std::int32_t> numbers;  // the arrays that the graph points to
    std::vector<std::int64_t> first;
    std::vector<std::int32_t> neighbor;
    std::vector<double> displacement;
    equipot::Graph graph;
};

// Components of a row-major 3 x 3 matrix in LAMMPS's orders: xx yy zz xy xz yz, and for centroid virials yx zx zy after
// them.
inline constexpr int EQUIPOT_COMPONENTS[9] = {0, 4, 8, 1, 2, 5, 3, 6, 7};

}  // namespace LAMMPS_NS
