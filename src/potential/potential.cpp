// SPDX-License-Identifier: MIT
#include "potential/potential.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "kokkos_kernels/evaluator.hpp"
#include "neighbors/neighbors.hpp"
#include "potential/engine_lock.hpp"

namespace equipot {

std::mutex& engine_mutex() {
    static std::mutex mutex;
    return mutex;
}

int find_head(const Model& model, const std::string& name) {
    std::string known;
    for (const std::string& head : model.heads) known += (known.empty() ? "'" : ", '") + head + "'";
    if (name.empty()) {
        if (model.heads.size() == 1) return 0;
        throw Error("this model has several heads: choose one of " + known);
    }
    const auto found = std::find(model.heads.begin(), model.heads.end(), name);
    if (found == model.heads.end()) throw Error("the model has no head '" + name + "'; it has " + known);
    return static_cast<int>(found - model.heads.begin());
}

namespace {

// A cluster with a few atoms of each species at distances between those of bonds and the cutoff, the same every time.
System probe_structure(const std::vector<std::int32_t>& atomic_numbers, double cutoff) {
    System probe;
    std::uint64_t state = 0x9e3779b97f4a7c15ULL;
    const auto uniform = [&] {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        return static_cast<double>(state >> 11) / 9007199254740992.0;
    };
    const std::size_t atoms = std::clamp<std::size_t>(3 * atomic_numbers.size(), 8, 48);
    const auto closest = [](std::int32_t a, std::int32_t b) {
        return a == 1 || b == 1 ? 0.7 : 1.1;
    };  // Å, as in short bonds
    double radius = std::min(0.75 * cutoff, 1.3 * std::cbrt(static_cast<double>(atoms)));
    for (int tries = 0; probe.atomic_numbers.size() < atoms;) {
        double x[3], r2 = 0;
        for (double& c : x) {
            c = radius * (2 * uniform() - 1);
            r2 += c * c;
        }
        const std::int32_t z = atomic_numbers[probe.atomic_numbers.size() % atomic_numbers.size()];
        bool free = r2 < radius * radius;
        for (std::size_t a = 0; free && a < probe.atomic_numbers.size(); ++a) {
            double d2 = 0;
            for (std::size_t c = 0; c < 3; ++c)
                d2 += (x[c] - probe.positions[3 * a + c]) * (x[c] - probe.positions[3 * a + c]);
            free = std::sqrt(d2) > closest(z, probe.atomic_numbers[a]);
        }
        if (free) {
            probe.atomic_numbers.push_back(z);
            probe.positions.insert(probe.positions.end(), x, x + 3);
        } else if (++tries % 1000 == 0) {
            radius *= 1.1;
        }
    }
    return probe;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
    return largest;
}

}  // namespace

struct Potential::Impl {
    Model model;
    LoadOptions options;
    int head;
    std::string isa;
    std::unique_ptr<kernels::Evaluator> evaluator;
    std::vector<int> active;  // species indices of the current plan, ascending
    double table_error = 0;   // eV/Å, of the current tables
    NeighborList neighbors{NeighborList::Order::InSpace};
    std::vector<std::int32_t> species;  // [total] of the current graph, indices into active

    Impl(Model wanted, const LoadOptions& chosen)
        : model(std::move(wanted)), options(chosen), head(find_head(model, options.head)) {
        ensure_kokkos();
        if (options.device == "cpu") {
            evaluator = kernels::make_evaluator(model, head, options.precision, isa);
        } else {
            if (options.radial == Radial::Exact)
                throw Error("exact radial functions are for the CPU only: choose splined ones, or device \"cpu\"");
            evaluator = kernels::make_device_evaluator(model, head, options.precision, options.device, isa);
        }
    }

    int index_of(std::int32_t z) const {
        const auto found = std::find(model.species.begin(), model.species.end(), z);
        if (found != model.species.end()) return static_cast<int>(found - model.species.begin());
        std::string known;
        for (const int s : model.species) known += (known.empty() ? "" : " ") + element_symbol(s);
        throw Error("the model has no element " + element_symbol(z) + " (atomic number " + std::to_string(z) +
                    "); it has " + known);
    }

    /// Extends the plan to these elements and fills `species`.
    void adopt(std::span<const std::int32_t> atomic_numbers) {
        std::array<int, 119> index{};  // atomic number -> model species + 1
        std::vector<int> wanted = active;
        for (const std::int32_t z : atomic_numbers) {
            if (z >= 1 && z <= 118 && index[static_cast<std::size_t>(z)] != 0) continue;
            const int s = index_of(z);
            index[static_cast<std::size_t>(z)] = s + 1;
            if (std::find(wanted.begin(), wanted.end(), s) == wanted.end()) wanted.push_back(s);
        }
        std::sort(wanted.begin(), wanted.end());
        if (wanted != active) {
            active.clear();  // what fails on the way is no plan
            build(wanted);
            active = wanted;
        }
        std::vector<std::int32_t> position(model.species.size(), 0);
        for (std::size_t a = 0; a < active.size(); ++a)
            position[static_cast<std::size_t>(active[a])] = static_cast<std::int32_t>(a);
        species.resize(atomic_numbers.size());
        for (std::size_t i = 0; i < atomic_numbers.size(); ++i)
            species[i] = position[static_cast<std::size_t>(index[static_cast<std::size_t>(atomic_numbers[i])] - 1)];
    }

    /// Plans for `wanted`, with tables fine enough that forces on a probe structure agree with the exact radial.
    void build(const std::vector<int>& wanted) {
        evaluator->prepare(wanted, 0);
        table_error = 0;
        if (options.radial == Radial::Exact) return;

        std::vector<std::int32_t> elements;
        for (const int s : wanted) elements.push_back(model.species[static_cast<std::size_t>(s)]);
        const System probe = probe_structure(elements, model.cutoff);
        NeighborList list;
        list.update(probe, model.cutoff);
        const Graph graph = list.graph();
        std::vector<std::int32_t> indices;
        for (std::size_t i = 0; i < probe.atomic_numbers.size(); ++i)
            indices.push_back(static_cast<std::int32_t>(i % elements.size()));
        NoExchange none;
        Result exact, splined;
        evaluator->compute(graph, indices, none, {}, exact);
        double size = 0;
        for (const double f : exact.forces) size = std::max(size, std::abs(f));
        // The table error is of order 5 (double, quintic) or 3 (float, cubic) in the step, so one measurement tells how
        // many intervals the target needs. The target leaves room for environments denser than the probe, which amplify
        // errors; forces cannot agree better than round-off where they are large.
        const bool is_double = options.precision == Precision::Double;
        const double target = is_double ? std::max(1e-11, 3e-14 * size) : std::max(1e-6, 1e-7 * size);
        const double order = is_double ? 5 : 3;
        int intervals = 128;
        for (int attempt = 0; attempt < 3; ++attempt) {
            const int used = evaluator->prepare(wanted, intervals);
            evaluator->compute(graph, indices, none, {}, splined);
            table_error = largest_difference(exact.forces, splined.forces);
            if (table_error < target || used < intervals) return;
            const double factor = std::pow(table_error / target, 1 / order);
            intervals = static_cast<int>(used * std::clamp(factor, 1.1, is_double ? 6.0 : 3.0));
        }
    }
};

Potential::Potential(Model model, const LoadOptions& options) {
    check_model(model);
    impl_ = std::make_unique<Impl>(std::move(model), options);
}

// read_model has checked it.
Potential Potential::load(const std::string& path, const LoadOptions& options) {
    return Potential(std::make_unique<Impl>(read_model(path), options));
}

Potential::Potential(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Potential::~Potential() = default;
Potential::Potential(Potential&&) noexcept = default;
Potential& Potential::operator=(Potential&&) noexcept = default;

const Model& Potential::model() const { return impl_->model; }
const LoadOptions& Potential::options() const { return impl_->options; }
double Potential::cutoff() const { return impl_->model.cutoff; }
int Potential::layers() const { return static_cast<int>(impl_->model.layers.size()); }
int Potential::head() const { return impl_->head; }

int Potential::exchange_width() const {
    int rows = 0;
    for (std::size_t t = 1; t < impl_->model.layers.size(); ++t) {
        const int l = impl_->model.layers[t].hidden_in;
        rows = std::max(rows, (l + 1) * (l + 1));
    }
    return rows * impl_->evaluator->padded_channels();
}

int Potential::feature_width() const {
    int width = 0;
    for (const Layer& layer : impl_->model.layers)
        width += (layer.hidden_out + 1) * (layer.hidden_out + 1) * impl_->model.channels;
    return width;
}

int Potential::threads() const { return Kokkos::DefaultHostExecutionSpace().concurrency(); }

std::string Potential::execution() const {
    const int count = threads(), cores = available_cores();
    const char* precision = impl_->options.precision == Precision::Double  ? "double"
                            : impl_->options.precision == Precision::Mixed ? "mixed"
                                                                           : "float";
    if (impl_->options.device != "cpu") return impl_->isa + ", " + precision;
    std::string text = Kokkos::DefaultHostExecutionSpace::name();
    text += ", " + std::to_string(count) + (count == 1 ? " thread" : " threads");
    if (count > cores)
        text += " on " + std::to_string(cores) + (cores == 1 ? " core" : " cores") + " (slower than as many as cores)";
    return text + ", " + impl_->isa + ", " + precision;
}

double Potential::device_bytes_per_atom(double edges_per_atom, const Properties& what, double total_per_owned) const {
    return impl_->evaluator->bytes_per_atom(edges_per_atom, what, total_per_owned);
}

double Potential::memory_usage() const { return impl_->evaluator->memory_usage(); }

DeviceMemory Potential::device_memory() const { return impl_->evaluator->memory(); }

double Potential::measure_peak() const { return impl_->evaluator->measure_peak(); }

double Potential::prepare(std::span<const std::int32_t> atomic_numbers) {
    const std::scoped_lock lock(engine_mutex());
    impl_->adopt(atomic_numbers);
    return impl_->table_error;
}

void Potential::compute(const System& system, const Properties& what, Result& result) {
    const std::scoped_lock lock(engine_mutex());
    impl_->neighbors.update(system, impl_->model.cutoff);
    const Graph graph = impl_->neighbors.graph();
    impl_->adopt(graph.atomic_numbers);
    NoExchange none;
    impl_->evaluator->compute(graph, impl_->species, none, what, result);
    restore_order(result, impl_->neighbors.order());
}

void Potential::compute(const Graph& graph, Exchange& exchange, const Properties& what, Result& result) {
    const std::scoped_lock lock(engine_mutex());
    impl_->adopt(graph.atomic_numbers);
    impl_->evaluator->compute(graph, impl_->species, exchange, what, result);
}

kernels::Evaluator& Potential::evaluator() { return *impl_->evaluator; }

std::vector<std::int32_t> Potential::prepared_species() const {
    std::vector<std::int32_t> numbers;
    for (const int s : impl_->active) numbers.push_back(impl_->model.species[static_cast<std::size_t>(s)]);
    return numbers;
}

int available_cores() {
#ifdef __linux__
    cpu_set_t cores;
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof(cores), &cores) == 0) return CPU_COUNT(&cores);
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int usual_threads() {
    // The value may be a list, one number per nesting level; the first counts.
    if (const char* text = std::getenv("OMP_NUM_THREADS")) {
        const long value = std::strtol(text, nullptr, 10);
        if (value > 0) return static_cast<int>(std::min<long>(value, most_threads));
    }
    return std::min(available_cores(), most_threads);
}

void ensure_kokkos(int threads) {
    static std::mutex mutex;
    const std::scoped_lock lock(mutex);
    if (Kokkos::is_initialized()) return;
    Kokkos::InitializationSettings settings;
    settings.set_disable_warnings(true);
    const int count = threads > 0 ? std::min(threads, most_threads) : usual_threads();
    settings.set_num_threads(count);
#ifdef _OPENMP
    omp_set_num_threads(count);  // Kokkos starts as many as OMP_NUM_THREADS says to see how many there may be
#endif
    Kokkos::initialize(settings);
}

}  // namespace equipot
