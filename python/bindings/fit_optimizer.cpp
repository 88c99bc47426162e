// Optimiser steps and averages of weights for Python: class Optimizer, update_average.
// SPDX-License-Identifier: MIT
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "arrays.hpp"
#include "fit/optimizer.hpp"
#include "runtime.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace equipot::python {

namespace {

std::span<double> changed(InPlace& a) { return {a.mutable_data(), static_cast<std::size_t>(a.size())}; }
std::span<const double> view(const Input<double>& a) { return {a.data(), static_cast<std::size_t>(a.size())}; }

Optimizer make_optimizer(const Input<double>& weight_decay,
                         const std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>>& matrices,
                         const std::string& kind, double matrix_decay) {
    OptimizerSettings settings;
    settings.matrix_decay = matrix_decay;
    if (kind == "adam")
        settings.kind = OptimizerSettings::Kind::Adam;
    else if (kind == "adamw")
        settings.kind = OptimizerSettings::Kind::AdamW;
    else if (kind != "amsgrad")
        throw Error("the optimiser of single weights is \"adam\", \"amsgrad\" or \"adamw\", not \"" + kind + "\"");
    std::vector<WeightMatrix> list;
    for (const auto& [begin, rows, columns] : matrices) list.push_back({begin, rows, columns});
    const std::span decay = view(weight_decay);
    return {std::vector<double>(decay.begin(), decay.end()), list, settings};
}

py::array_t<double> copy_of(const std::vector<double>& values) {
    return to_numpy(std::vector<double>(values), {static_cast<py::ssize_t>(values.size())});
}

}  // namespace

void define_optimizer(py::module_& m) {
    py::class_<Optimizer>(m, "Optimizer")
        .def(py::init(&make_optimizer), "weight_decay"_a,
             "matrices"_a = std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>>{}, "kind"_a = "amsgrad",
             "matrix_decay"_a = OptimizerSettings{}.matrix_decay)
        .def(
            "step",
            [](Optimizer& optimizer, InPlace& weights, const Input<double>& gradient, double rate, double longest) {
                const std::span w = changed(weights);
                const std::span g = view(gradient);
                const py::gil_scoped_release release;
                require_runtime();
                return optimizer.step(w, g, rate, longest);
            },
            py::arg("weights").noconvert(), "gradient"_a, "rate"_a, "longest"_a = 0.0)
        .def("state",
             [](const Optimizer& optimizer) {
                 return py::dict("steps"_a = optimizer.steps, "mean"_a = copy_of(optimizer.mean),
                                 "square"_a = copy_of(optimizer.square), "largest"_a = copy_of(optimizer.largest));
             })
        .def("restore", [](Optimizer& optimizer, const py::dict& state) {
            const auto take = [&](const char* name, std::vector<double>& into) {
                const auto from = state[name].cast<Input<double>>();
                if (static_cast<std::size_t>(from.size()) != into.size())
                    throw Error("the saved state belongs to another optimiser");
                std::copy_n(from.data(), from.size(), into.begin());
            };
            take("mean", optimizer.mean);
            take("square", optimizer.square);
            take("largest", optimizer.largest);
            optimizer.steps = state["steps"].cast<std::int64_t>();
        });
    m.def(
        "update_average",
        [](InPlace& average, const Input<double>& weights, double decay) {
            const std::span a = changed(average);
            const std::span w = view(weights);
            const py::gil_scoped_release release;
            require_runtime();
            update_average(a, w, decay);
        },
        py::arg("average").noconvert(), "weights"_a, "decay"_a);
}

}  // namespace equipot::python
