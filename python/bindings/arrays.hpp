// Between numpy arrays and what the library takes and gives.
// SPDX-License-Identifier: MIT
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "potential/potential.hpp"

namespace equipot::python {

template <typename T>
using Input = pybind11::array_t<T, pybind11::array::c_style | pybind11::array::forcecast>;

/// An array that is written to: taken as it is, never converted to a copy (with py::arg().noconvert()).
using InPlace = pybind11::array_t<double, pybind11::array::c_style>;

/// Hands the memory of `values` to numpy without copying.
inline pybind11::array_t<double> to_numpy(std::vector<double>&& values, std::vector<pybind11::ssize_t> shape) {
    auto owned = std::make_unique<std::vector<double>>(std::move(values));
    double* data = owned->data();
    pybind11::capsule owner(owned.get(), [](void* p) { delete static_cast<std::vector<double>*>(p); });
    owned.release();
    return pybind11::array_t<double>(std::move(shape), data, owner);
}

/// positions [atoms, 3], cell [9], periodic [3]; the caller has checked that the arrays are that long.
inline System make_system(std::size_t atoms, const std::int32_t* numbers, const double* positions, const double* cell,
                          const bool* periodic) {
    System system;
    system.atomic_numbers.assign(numbers, numbers + atoms);
    system.positions.assign(positions, positions + 3 * atoms);
    std::copy_n(cell, 9, system.cell.begin());
    std::copy_n(periodic, 3, system.periodic.begin());
    return system;
}

}  // namespace equipot::python
