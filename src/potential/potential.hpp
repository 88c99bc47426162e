// The public face: load a model file, compute energies, forces and virials of a periodic system or of a graph.
// Units Å, eV; stress = -virial / volume in eV/Å³, tension positive; virial = -Σ r ⊗ ∂E/∂r.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "../model/model.hpp"
#include "graph.hpp"

namespace equipot {

namespace kernels {
class Evaluator;
}

enum class Precision { Double, Float, Mixed };
enum class Radial { Splined, Exact };

struct LoadOptions {
    std::string head;  ///< empty: the only head; with several heads the name is required
    Precision precision = Precision::Double;
    Radial radial = Radial::Splined;  ///< Exact evaluates the radial network on every edge (slow; for checks and fits)
    std::string device = "cpu";  ///< or "gpu", "cuda", "hip" where Kokkos was built for it; "host": GPU code, for tests
};

/// What to compute besides the energy and the energies of atoms.
struct Properties {
    bool forces = true;             ///< also the total virial
    bool virials = false;           ///< symmetric per-atom virials, half to each atom of an edge
    bool centroid_virials = false;  ///< 9-component, for heat flux: r_ij ⊗ f_j given to the sending atom j
    bool features = false;          ///< the last features of every layer, scalars and higher l
    bool profile = false;           ///< where the time goes; costs some time itself
};

/// One stage of one call, summed over threads. Bytes are those that must come from beyond the first-level cache.
struct StageProfile {
    std::string stage;
    double seconds = 0, multiply_adds = 0, bytes = 0;
};

/// Memory of a device as this process finds it now. Nameless where there is no device, or it cannot be asked.
struct DeviceMemory {
    std::string name;  ///< the same on one machine for all processes that share it
    double free = 0;   ///< bytes
};

/// Reused between calls: vectors keep their capacity.
struct Result {
    double energy = 0.0;           ///< eV, owned atoms only
    std::vector<double> energies;  ///< [owned] eV, with E0
    std::vector<double> forces;    ///< [total, 3] eV/Å, also when virials are asked for; rows of halo atoms are to be
                                   ///< added to their owners
    std::array<double, 9> virial{};        ///< eV, row-major, summed over the edges of this graph
    std::vector<double> virials;           ///< [total, 9] eV
    std::vector<double> centroid_virials;  ///< [total, 9] eV
    std::vector<double> features;          ///< [owned, feature_width]
    std::vector<StageProfile> profile;     ///< by stage, when asked for
};

/// A periodic (or not) system of atoms. Rows of `cell` are the lattice vectors; zero rows for open directions are fine.
struct System {
    std::vector<std::int32_t> atomic_numbers;  ///< [n]
    std::vector<double> positions;             ///< [n, 3] Å
    std::array<double, 9> cell{};              ///< Å
    std::array<bool, 3> periodic{false, false, false};
};

/// A model ready to run. Movable, not copyable. Calls from several threads take turns, those of all potentials in the
/// process, since each uses all threads itself; one that waits in an Exchange for another of them waits forever.
class Potential {
public:
    /// @throws Error when the file cannot be read, is damaged, or names no such head.
    static Potential load(const std::string& path, const LoadOptions& options = {});
    /// The same for a model in memory. @throws Error when its parts do not fit together.
    Potential(Model model, const LoadOptions& options);
    ~Potential();
    Potential(Potential&&) noexcept;
    Potential& operator=(Potential&&) noexcept;

    [[nodiscard]] const Model& model() const;
    [[nodiscard]] const LoadOptions& options() const;
    [[nodiscard]] double cutoff() const;          ///< Å
    [[nodiscard]] int layers() const;             ///< message-passing layers
    [[nodiscard]] int head() const;               ///< index into model().heads
    [[nodiscard]] int exchange_width() const;     ///< the largest row an Exchange will be given
    [[nodiscard]] int feature_width() const;      ///< numbers per atom in Result::features
    [[nodiscard]] std::string execution() const;  ///< for people: "OpenMP, 2 threads, AVX-512, double"
    [[nodiscard]] int threads() const;

    /// Builds radial tables for these elements now instead of at first use. Returns the largest force error of the
    /// tables against the exact radial on a probe structure (eV/Å); 0 with Radial::Exact.
    /// @throws Error naming an element that the model lacks.
    double prepare(std::span<const std::int32_t> atomic_numbers);

    /// Bytes of a device's memory that a step takes for each owned atom, with tables ready; 0 on the CPU.
    /// `total_per_owned`: atoms with halo to each owned one.
    [[nodiscard]] double device_bytes_per_atom(double edges_per_atom, const Properties& what = {},
                                               double total_per_owned = 1) const;

    [[nodiscard]] DeviceMemory device_memory() const;

    /// Bytes of the host's memory for radial tables and for what is kept between layers; none for those on a device.
    [[nodiscard]] double memory_usage() const;

    /// Fused multiply-adds per second that one thread reaches in the working precision, measured now.
    [[nodiscard]] double measure_peak() const;

    /// @throws Error for an element that the model lacks, atoms on top of each other, positions or a cell that are not
    /// finite, a periodic direction without a lattice vector, and arrays whose sizes differ.
    void compute(const System& system, const Properties& what, Result& result);
    /// The graph is taken at its word: neighbours in [0, total), first[0] = 0, no edge shorter than `overlap`.
    /// @throws Error for an element that the model lacks.
    void compute(const Graph& graph, Exchange& exchange, const Properties& what, Result& result);

    /// For front ends that are built with equipot and have their atoms on a device: what runs there, a DeviceEvaluator,
    /// and the atomic numbers that it numbers as species 0, 1, … since the last prepare or compute.
    [[nodiscard]] kernels::Evaluator& evaluator();
    [[nodiscard]] std::vector<std::int32_t> prepared_species() const;

private:
    struct Impl;
    explicit Potential(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

/// Cores that this process may run on.
int available_cores();

/// As many threads as this process would take by itself: OMP_NUM_THREADS, else all cores; at most `most_threads`.
int usual_threads();
/// More than this Kokkos has no room for.
inline constexpr int most_threads = 512;

/// Initialises Kokkos once per process if nobody has, and OpenMP's number of threads with it (threads = 0:
/// `usual_threads`); later calls change nothing. Never finalised by us: LAMMPS and Python may load and unload the
/// library in any order.
void ensure_kokkos(int threads = 0);

}  // namespace equipot
