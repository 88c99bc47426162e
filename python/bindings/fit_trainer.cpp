// What fits models: GraphSet and Trainer for the package equipot.fit.
// SPDX-License-Identifier: MIT
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "arrays.hpp"
#include "fit/trainer.hpp"
#include "runtime.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace equipot::python {

namespace {

GraphSet make_graphs(const std::vector<Input<std::int32_t>>& numbers, const std::vector<Input<double>>& positions,
                     const std::vector<Input<double>>& cells, const std::vector<Input<bool>>& periodic, double cutoff) {
    if (positions.size() != numbers.size() || cells.size() != numbers.size() || periodic.size() != numbers.size())
        throw Error("numbers, positions, cells and periodicities must be given for every structure");
    GraphSet graphs(cutoff);
    for (std::size_t s = 0; s < numbers.size(); ++s) {
        if (positions[s].size() != 3 * numbers[s].size() || cells[s].size() != 9 || periodic[s].size() != 3)
            throw Error("structure " + std::to_string(s) + ": the arrays that describe its atoms do not fit together");
        const System system = make_system(static_cast<std::size_t>(numbers[s].size()), numbers[s].data(),
                                          positions[s].data(), cells[s].data(), periodic[s].data());
        const py::gil_scoped_release release;
        try {
            graphs.append(system);
        } catch (const Error& error) {
            throw Error("structure " + std::to_string(s) + ": " + error.what());
        }
    }
    return graphs;
}

py::dict evaluate(Trainer& trainer, const GraphSet& graphs, const Input<std::int64_t>& indices) {
    BatchResult result;
    const std::span<const std::int64_t> structures(indices.data(), static_cast<std::size_t>(indices.size()));
    {
        const py::gil_scoped_release release;
        require_runtime();
        trainer.evaluate(graphs, structures, result);
    }
    const py::ssize_t count = indices.size(), atoms = static_cast<py::ssize_t>(result.forces.size() / 3);
    return py::dict("energy"_a = to_numpy(std::move(result.energy), {count}),
                    "forces"_a = to_numpy(std::move(result.forces), {atoms, 3}),
                    "virial"_a = to_numpy(std::move(result.virial), {count, 3, 3}));
}

InPlace gradient(Trainer& trainer, const GraphSet& graphs, const Input<std::int64_t>& indices,
                 const Input<double>& energy_bar, const Input<double>& forces_bar, const Input<double>& virial_bar,
                 std::optional<InPlace> into) {
    const auto view = [](const auto& a) { return std::span(a.data(), static_cast<std::size_t>(a.size())); };
    InPlace out = into ? *into : InPlace(static_cast<py::ssize_t>(trainer.size()));
    const std::span result(out.mutable_data(), static_cast<std::size_t>(out.size()));
    {
        const py::gil_scoped_release release;
        require_runtime();
        trainer.gradient(graphs, view(indices), view(energy_bar), view(forces_bar), view(virial_bar), result);
    }
    return out;
}

}  // namespace

void define_trainer(py::module_& m) {
    py::class_<GraphSet>(m, "GraphSet")
        .def(py::init(&make_graphs), "numbers"_a, "positions"_a, "cells"_a, "periodic"_a, "cutoff"_a)
        .def("__len__", &GraphSet::size)
        .def_property_readonly("cutoff", &GraphSet::cutoff)
        .def_property_readonly("atoms",
                               [](const GraphSet& graphs) {
                                   py::array_t<std::int64_t> out(static_cast<py::ssize_t>(graphs.size()));
                                   for (std::size_t s = 0; s < graphs.size(); ++s)
                                       out.mutable_at(static_cast<py::ssize_t>(s)) = graphs.atoms(s);
                                   return out;
                               })
        .def_property_readonly("edges",
                               [](const GraphSet& graphs) {
                                   py::array_t<std::int64_t> out(static_cast<py::ssize_t>(graphs.size()));
                                   for (std::size_t s = 0; s < graphs.size(); ++s)
                                       out.mutable_at(static_cast<py::ssize_t>(s)) = graphs.edges(s);
                                   return out;
                               })
        .def_property_readonly("shortest", [](const GraphSet& graphs) {
            py::array_t<double> out(static_cast<py::ssize_t>(graphs.size()));
            for (std::size_t s = 0; s < graphs.size(); ++s)
                out.mutable_at(static_cast<py::ssize_t>(s)) = graphs.shortest(s);
            return out;
        });

    py::class_<Trainer>(m, "Trainer")
        .def(py::init([](const std::string& path, const std::string& head, const std::string& dtype) {
                 if (dtype != "float64" && dtype != "mixed" && dtype != "float32")
                     throw Error("dtype must be \"float64\", \"float32\" or \"mixed\", not \"" + dtype + "\"");
                 const Precision precision = dtype == "float64" ? Precision::Double : Precision::Mixed;
                 const py::gil_scoped_release release;
                 require_runtime();
                 return std::make_unique<Trainer>(read_model(path), head, precision);
             }),
             "path"_a, "head"_a = "", "dtype"_a = "float64")
        .def_property_readonly("parameters",
                               [](const Trainer& trainer) {
                                   py::list list;
                                   for (const ParameterArray& array : trainer.parameters())
                                       list.append(py::make_tuple(array.name, py::tuple(py::cast(array.shape))));
                                   return list;
                               })
        .def("get",
             [](const Trainer& trainer) {
                 std::vector<double> flat = trainer.get();
                 const auto size = static_cast<py::ssize_t>(flat.size());
                 return to_numpy(std::move(flat), {size});
             })
        .def(
            "set",
            [](Trainer& trainer, const Input<double>& values) {
                const std::span flat(values.data(), static_cast<std::size_t>(values.size()));
                const py::gil_scoped_release release;
                require_runtime();
                trainer.set(flat);
            },
            "values"_a)
        .def("evaluate", &evaluate, "graphs"_a, "indices"_a)
        .def("gradient", &gradient, "graphs"_a, "indices"_a, "energy_bar"_a, "forces_bar"_a, "virial_bar"_a,
             py::arg("out").noconvert() = std::nullopt)
        .def(
            "write",
            [](const Trainer& trainer, const std::string& path, const std::string& card) {
                const py::gil_scoped_release release;
                Model model = trainer.model();
                if (!card.empty()) model.card = card;
                write_model(model, path);
            },
            "path"_a, "card"_a = "");
}

}  // namespace equipot::python
