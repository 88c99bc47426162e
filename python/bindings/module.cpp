// The Python module equipot._equipot: numpy arrays in, numpy arrays out, everything else in Python
// (equipot/potential.py).
// SPDX-License-Identifier: MIT
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#include "arrays.hpp"
#include "fit/graph_set.hpp"
#include "neighbors/neighbors.hpp"
#include "potential/potential.hpp"
#include "runtime.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace equipot::python {

void define_design(py::module_& m);     // fit_design.cpp
void define_optimizer(py::module_& m);  // fit_optimizer.cpp
void define_trainer(py::module_& m);    // fit_trainer.cpp

namespace {

/// A neighbour list that several Python threads may hold: one at a time uses it.
struct SharedNeighborList {
    NeighborList list{NeighborList::Order::InSpace};
    std::mutex mutex;
};

LoadOptions make_options(const std::string& head, const std::string& dtype, const std::string& radial,
                         const std::string& device) {
    LoadOptions options;
    options.head = head;
    options.device = device;
    if (dtype == "float64") {
        options.precision = Precision::Double;
    } else if (dtype == "float32") {
        options.precision = Precision::Float;
    } else if (dtype == "mixed") {
        options.precision = Precision::Mixed;
    } else {
        throw Error("dtype must be \"float64\", \"float32\" or \"mixed\", not \"" + dtype + "\"");
    }
    if (radial == "splined") {
        options.radial = Radial::Splined;
    } else if (radial == "exact") {
        options.radial = Radial::Exact;
    } else {
        throw Error("radial must be \"splined\" or \"exact\", not \"" + radial + "\"");
    }
    return options;
}

py::list describe_layers(const Model& model) {
    py::list layers;
    for (const Layer& layer : model.layers) {
        constexpr const char* readouts[] = {"none", "linear", "mlp"};
        layers.append(py::dict("hidden_in"_a = layer.hidden_in, "hidden_out"_a = layer.hidden_out,
                               "correlation"_a = layer.correlation, "paths"_a = layer.paths.size(),
                               "mixing"_a = layer.mixing_by_species ? "species" : "shared", "density"_a = layer.density,
                               "skip"_a = layer.skip, "readout"_a = readouts[static_cast<int>(layer.readout)]));
    }
    return layers;
}

py::dict describe(const Model& model) {
    constexpr const char* kinds[] = {"bessel", "gaussian", "chebyshev"};
    constexpr const char* transforms[] = {"none", "agnesi", "soft"};
    constexpr const char* activations[] = {"silu", "tanh", "identity", "abs"};
    const RadialBasis& radial = model.radial;
    return py::dict("species"_a = model.species, "cutoff"_a = model.cutoff, "channels"_a = model.channels,
                    "l_max"_a = model.l_max, "heads"_a = model.heads, "parameters"_a = model.parameters(),
                    "radial"_a = py::dict("basis"_a = kinds[static_cast<int>(radial.kind)], "size"_a = radial.size,
                                          "envelope"_a = radial.envelope,
                                          "envelope_on"_a = radial.envelope_on_basis ? "basis" : "weights",
                                          "transform"_a = transforms[static_cast<int>(radial.transform)]),
                    "zbl"_a = model.has_zbl, "activation"_a = activations[static_cast<int>(model.activation)],
                    "layers"_a = describe_layers(model), "card"_a = model.card);
}

std::vector<System> make_systems(const Input<std::int32_t>& numbers, const Input<double>& positions,
                                 const Input<double>& cells, const Input<bool>& periodic,
                                 const Input<std::int64_t>& offsets) {
    const py::ssize_t count = offsets.size() - 1;
    if (count < 0 || positions.size() != 3 * numbers.size() || cells.size() != 9 * count ||
        periodic.size() != 3 * count) {
        throw Error("the arrays that describe the atoms do not fit together");
    }
    std::vector<System> systems(static_cast<std::size_t>(count));
    for (py::ssize_t s = 0; s < count; ++s) {
        const std::int64_t begin = offsets.data()[s], end = offsets.data()[s + 1];
        if (begin < 0 || end < begin || end > numbers.size())
            throw Error("the offsets of the structures are out of order");
        systems[static_cast<std::size_t>(s)] =
            make_system(static_cast<std::size_t>(end - begin), numbers.data() + begin, positions.data() + 3 * begin,
                        cells.data() + 9 * s, periodic.data() + 3 * s);
    }
    return systems;
}

py::dict compute(Potential& potential, const Input<std::int32_t>& numbers, const Input<double>& positions,
                 const Input<double>& cells, const Input<bool>& periodic, const Input<std::int64_t>& offsets,
                 const Properties& what, SharedNeighborList* shared, double skin) {
    const std::vector<System> systems = make_systems(numbers, positions, cells, periodic, offsets);
    Result result;
    {
        const py::gil_scoped_release release;
        require_runtime();
        NoExchange exchange;
        if (systems.size() == 1 && shared != nullptr) {
            const std::scoped_lock lock(shared->mutex);
            shared->list.update(systems[0], potential.cutoff(), skin);
            potential.compute(shared->list.graph(), exchange, what, result);
            restore_order(result, shared->list.order());
        } else {
            GraphBatch batch;
            std::vector<std::vector<std::int32_t>> orders;
            for (std::size_t s = 0; s < systems.size(); ++s) {
                NeighborList list(NeighborList::Order::InSpace);
                try {
                    list.update(systems[s], potential.cutoff());
                } catch (const Error& error) {
                    if (systems.size() == 1) throw;
                    throw Error("structure " + std::to_string(s) + ": " + error.what());
                }
                batch.append(list.graph());
                orders.push_back(list.order());
            }
            potential.compute(batch.graph(), exchange, what, result);
            for (std::size_t s = 0; s < systems.size(); ++s)
                restore_order(result, orders[s], static_cast<std::size_t>(offsets.data()[s]));
        }
    }
    const py::ssize_t n = numbers.size();
    py::dict out;
    out["energies"] = to_numpy(std::move(result.energies), {n});
    if (what.forces) {
        out["forces"] = to_numpy(std::move(result.forces), {n, 3});
        out["virial"] = to_numpy({result.virial.begin(), result.virial.end()}, {3, 3});
    }
    if (what.virials) out["virials"] = to_numpy(std::move(result.virials), {n, 3, 3});
    if (what.centroid_virials) out["centroid_virials"] = to_numpy(std::move(result.centroid_virials), {n, 3, 3});
    if (what.profile) {
        py::list stages;
        for (const StageProfile& stage : result.profile)
            stages.append(py::dict(py::arg("stage") = stage.stage, py::arg("seconds") = stage.seconds,
                                   py::arg("multiply_adds") = stage.multiply_adds, py::arg("bytes") = stage.bytes));
        out["profile"] = stages;
    }
    if (what.features) out["features"] = to_numpy(std::move(result.features), {n, potential.feature_width()});
    return out;
}

/// All pairs of atoms within a cutoff: i, j, and from i to j, Å.
py::tuple neighbors(const Input<std::int32_t>& numbers, const Input<double>& positions, const Input<double>& cell,
                    const Input<bool>& periodic, double cutoff) {
    if (positions.size() != 3 * numbers.size() || cell.size() != 9 || periodic.size() != 3)
        throw Error("the arrays that describe the atoms do not fit together");
    const auto n = static_cast<std::size_t>(numbers.size());
    NeighborList list;
    {
        const py::gil_scoped_release release;
        list.update(make_system(n, numbers.data(), positions.data(), cell.data(), periodic.data()), cutoff);
    }
    const Graph graph = list.graph();
    const auto pairs = static_cast<py::ssize_t>(graph.neighbor.size());
    py::array_t<std::int64_t> first(pairs), second(pairs);
    for (std::size_t i = 0; i < n; ++i)
        std::fill(first.mutable_data() + graph.first[i], first.mutable_data() + graph.first[i + 1],
                  static_cast<std::int64_t>(i));
    std::copy(graph.neighbor.begin(), graph.neighbor.end(), second.mutable_data());
    return py::make_tuple(first, second, to_numpy({graph.displacement.begin(), graph.displacement.end()}, {pairs, 3}));
}

PyObject* error_type = nullptr;  // equipot.EquipotError, alive as long as the interpreter

void translate(std::exception_ptr pointer) {
    try {
        if (pointer) std::rethrow_exception(pointer);
    } catch (const Error& error) {
        // A sentence may quote bytes of a damaged file, which need not be text.
        PyObject* text =
            PyUnicode_DecodeUTF8(error.what(), static_cast<Py_ssize_t>(std::strlen(error.what())), "replace");
        PyErr_SetObject(error_type, text);
        Py_XDECREF(text);
    }
}

void define(py::module_& m) {
    m.doc() = "The compiled part of equipot; use the package equipot.";
    error_type = py::object(py::module_::import("equipot").attr("EquipotError")).release().ptr();
    py::register_local_exception_translator(translate);

    m.def("set_threads", &set_threads, "threads"_a);
    m.def("threads", &threads);
    m.def("element_symbol", &element_symbol, "atomic_number"_a);
    m.def("atomic_number", &atomic_number, "symbol"_a);
    m.def("neighbors", &neighbors, "numbers"_a, "positions"_a, "cell"_a, "periodic"_a, "cutoff"_a);

    py::class_<SharedNeighborList>(m, "NeighborList")
        .def(py::init<>())
        .def_property_readonly("builds", [](const SharedNeighborList& shared) { return shared.list.builds(); });

    py::class_<Model>(m, "Model")
        .def(py::init([](const std::string& path) {
                 const py::gil_scoped_release release;
                 return read_model(path);
             }),
             "path"_a)
        .def(py::init([](const py::bytes& bytes, const std::string& name) {
                 const auto text = static_cast<std::string_view>(bytes);
                 return read_model(std::vector<char>(text.begin(), text.end()), name);
             }),
             "content"_a, "name"_a)
        .def_property_readonly("info", &describe);

    py::class_<Properties>(m, "Properties")
        .def(py::init([](bool forces, bool virials, bool centroid_virials, bool features, bool profile) {
                 return Properties{forces, virials, centroid_virials, features, profile};
             }),
             "forces"_a, "virials"_a, "centroid_virials"_a, "features"_a, "profile"_a = false);

    py::class_<Potential>(m, "Engine")
        .def(py::init([](const Model& model, const std::string& head, const std::string& dtype,
                         const std::string& radial, const std::string& device) {
                 const py::gil_scoped_release release;
                 const LoadOptions options = make_options(head, dtype, radial, device);
                 require_runtime();
                 return std::make_unique<Potential>(model, options);
             }),
             "model"_a, "head"_a, "dtype"_a, "radial"_a, "device"_a = "cpu")
        .def_property_readonly("info", [](const Potential& potential) { return describe(potential.model()); })
        .def_property_readonly("head", &Potential::head)
        .def_property_readonly("layers", &Potential::layers)
        .def_property_readonly("feature_width", &Potential::feature_width)
        .def_property_readonly("execution", &Potential::execution)
        .def("measure_peak", &Potential::measure_peak)
        .def(
            "device_bytes_per_atom",
            [](const Potential& potential, double edges) { return potential.device_bytes_per_atom(edges); },
            "edges_per_atom"_a)
        .def(
            "prepare",
            [](Potential& potential, const std::vector<std::int32_t>& numbers) {
                const py::gil_scoped_release release;
                require_runtime();
                return potential.prepare(numbers);
            },
            "atomic_numbers"_a)
        .def(
            "write", [](const Potential& potential, const std::string& path) { write_model(potential.model(), path); },
            "path"_a)
        .def("compute", &compute, "numbers"_a, "positions"_a, "cells"_a, "periodic"_a, "offsets"_a, "what"_a,
             "neighbors"_a.none(true), "skin"_a);

    define_design(m);
    define_optimizer(m);
    define_trainer(m);
}

}  // namespace

}  // namespace equipot::python

PYBIND11_MODULE(_equipot, m) { equipot::python::define(m); }
