// Design matrices of linear fits for Python: class Design.
// SPDX-License-Identifier: MIT
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "arrays.hpp"
#include "fit/design.hpp"
#include "runtime.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace equipot::python {

namespace {

std::vector<Feature> make_features(const Input<std::int32_t>& table) {
    if (table.ndim() != 2 || table.shape(1) != 3) throw Error("features are rows of order, path and channel");
    std::vector<Feature> features;
    for (py::ssize_t f = 0; f < table.shape(0); ++f)
        features.push_back({table.at(f, 0), table.at(f, 1), table.at(f, 2)});
    return features;
}

py::array_t<double> design_rows(const Design& design, const std::vector<Input<std::int32_t>>& numbers,
                                const std::vector<Input<double>>& positions, const Input<double>& cells,
                                const Input<bool>& periodic) {
    const std::size_t count = numbers.size();
    if (positions.size() != count || cells.size() != static_cast<py::ssize_t>(9 * count) ||
        periodic.size() != static_cast<py::ssize_t>(3 * count))
        throw Error("the arrays that describe the atoms do not fit together");
    std::vector<System> systems(count);
    std::int64_t rows = 0;
    for (std::size_t s = 0; s < count; ++s) {
        if (positions[s].size() != 3 * numbers[s].size())
            throw Error("the arrays that describe the atoms do not fit together");
        systems[s] = make_system(static_cast<std::size_t>(numbers[s].size()), numbers[s].data(), positions[s].data(),
                                 cells.data() + 9 * s, periodic.data() + 3 * s);
        rows += Design::rows(numbers[s].size());
    }
    py::array_t<double> X({static_cast<py::ssize_t>(design.columns()), static_cast<py::ssize_t>(rows)});
    double* data = X.mutable_data();
    {
        const py::gil_scoped_release release;
        require_runtime();
        std::fill_n(data, design.columns() * rows, 0.0);
        design.compute(systems, data, rows);
    }
    return X;
}

}  // namespace

void define_design(py::module_& m) {
    py::class_<Design>(m, "Design")
        .def(py::init([](const Model& model, const Input<std::int32_t>& features, int head) {
                 require_runtime();
                 return Design(model, head, make_features(features));
             }),
             "model"_a, "features"_a, "head"_a = 0)
        .def_property_readonly("columns", &Design::columns)
        .def("rows", &design_rows, "numbers"_a, "positions"_a, "cells"_a, "periodic"_a);
}

}  // namespace equipot::python
