// Evaluator: the pipeline of the canonical model form, forward through the layers and back, tile by tile.
//   geometry -> radial, angular -> density D -> mixing A -> product B -> h = out B + skip -> readout ε, next u = up h
// A tile is a handful of atoms of one species: what it needs stays in cache, nothing of size edges x channels is
// stored.
// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/model.hpp"
#include "potential/potential.hpp"

namespace equipot::kernels {

class Evaluator {
public:
    virtual ~Evaluator() = default;
    /// Makes the plan for these species (indices into model.species) with radial tables of `intervals`; 0 = exact
    /// radial. Returns how many intervals the tables got: fewer where they would outgrow their memory.
    virtual int prepare(const std::vector<int>& active, int intervals) = 0;
    /// species[total]: indices into the `active` list of the last prepare.
    virtual void compute(const Graph& graph, const std::vector<std::int32_t>& species, Exchange& exchange,
                         const Properties& what, Result& result) = 0;
    [[nodiscard]] virtual int padded_channels() const = 0;
    /// Fused multiply-adds per second of one thread on this pack type.
    [[nodiscard]] virtual double measure_peak() const = 0;
    /// Bytes of the host's memory that it holds: tables, and what was between the layers of the largest graph so far.
    [[nodiscard]] virtual double memory_usage() const { return 0; }
    /// Bytes of a device's memory that an owned atom takes; 0 where there is no device, or no tables yet.
    [[nodiscard]] virtual double bytes_per_atom(double /*edges_per_atom*/, const Properties& /*what*/,
                                                double /*total_per_owned*/) const {
        return 0;
    }
    [[nodiscard]] virtual DeviceMemory memory() const { return {}; }
};

/// The best evaluator for this processor and precision; `isa` gets its name for people.
std::unique_ptr<Evaluator> make_evaluator(const Model& model, int head, Precision precision, std::string& isa);

/// The evaluator on a device: "cuda", "hip", or "gpu" for whichever this build has; "host" runs the same code on the
/// host's threads, slowly, for tests. @throws Error for devices that are not in this build.
std::unique_ptr<Evaluator> make_device_evaluator(const Model& model, int head, Precision precision,
                                                 const std::string& device, std::string& name);

/// The evaluator for `Isa`; see isa.hpp.
template <class Isa>
std::unique_ptr<Evaluator> make(const Model& model, int head, Precision precision);

}  // namespace equipot::kernels
