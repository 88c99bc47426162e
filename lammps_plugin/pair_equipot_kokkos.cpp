// SPDX-License-Identifier: GPL-2.0-only
#include "pair_equipot_kokkos.h"

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "atom_kokkos.h"
#include "atom_masks.h"
#include "equipot_engine.h"
#include "equipot_halo_kokkos.h"
#include "error.h"
#include "exceptions.h"
#include "force.h"
#include "kokkos.h"
#include "kokkos_kernels/device_evaluator.hpp"
#include "memory_kokkos.h"
#include "neigh_list_kokkos.h"
#include "neigh_request.h"
#include "neighbor.h"

namespace LAMMPS_NS {

namespace {

// Room for `n` without a new allocation at every step. What was there is lost.
template <class View>
void make_room(View &view, std::int64_t n, const char *name) {
    if (static_cast<std::int64_t>(view.extent(0)) >= n) return;
    view = View();
    view = View(Kokkos::view_alloc(std::string(name), Kokkos::WithoutInitializing), n + n / 16);
}

// A per-atom array of LAMMPS: on the host as `array`, zeroed in the memory of DeviceType.
template <class DeviceType, class DualView, class Array>
void zero_atoms(DualView &view, Array &array, int n, MemoryKokkos *memory, const char *name) {
    if (static_cast<int>(view.extent(0)) < n) {
        memory->destroy_kokkos(view, array);
        memory->create_kokkos(view, array, n, name);
    }
    view.clear_sync_state();
    Kokkos::deep_copy(view.template view<DeviceType>(), 0.0);
    view.template modify<DeviceType>();
}

void require_kokkos(LAMMPS *lmp) {
    if (lmp->kokkos == nullptr || !lmp->kokkos->kokkos_exists)
        lmp->error->all(
            FLERR,
            "pair_style equipot/kk needs KOKKOS switched on: run 'lmp -k on t 4 -sf kk ...' (4 threads), or use "
            "pair_style equipot");
}

}  // namespace

template <class DeviceType>
PairEquipotKokkos<DeviceType>::PairEquipotKokkos(LAMMPS *lmp, ExecutionSpace space) : PairEquipot(lmp) {
    require_kokkos(lmp);
    kokkosable = 1;
    atomKK = dynamic_cast<AtomKokkos *>(atom);
    execution_space = space;
    datamask_read = X_MASK | F_MASK | TYPE_MASK | TAG_MASK | ENERGY_MASK | VIRIAL_MASK;
    datamask_modify = F_MASK | ENERGY_MASK | VIRIAL_MASK;
    reverse_comm_device = space == Device;
    auto own = std::make_unique<EquipotHaloKokkos<DeviceType>>(lmp, this);
    halo = own.get();
    engine->halo = std::move(own);
}

template <class DeviceType>
PairEquipotKokkos<DeviceType>::~PairEquipotKokkos() {
    if (copymode) return;
    memoryKK->destroy_kokkos(k_eatom, eatom);
    memoryKK->destroy_kokkos(k_vatom, vatom);
    memoryKK->destroy_kokkos(k_cvatom, cvatom);
}

template <class DeviceType>
void PairEquipotKokkos<DeviceType>::init_style() {
    if (!force->newton_pair)
        error->all(FLERR, "pair equipot/kk needs newton on: run LAMMPS with '-pk kokkos newton on neigh half'");
    const std::string &device = engine->options.device;
    if (in_host_memory ? device != "cpu" && device != "host" : device == "cpu" || device == "host")
        error->all(FLERR, "pair equipot/kk works where LAMMPS keeps the atoms, which is not on device " + device +
                              ": leave out the option device, and choose equipot/kk/device or equipot/kk/host");
    PairEquipot::init_style();
    NeighRequest *request = neighbor->find_request(this);
    constexpr bool is_device = std::is_same_v<DeviceType, LMPDeviceType>;
    request->set_kokkos_device(is_device);
    request->set_kokkos_host(!is_device);
    std::vector<std::int32_t> of_types(numbers.begin(), numbers.end());
    if (on_device()) {
        // Devices number the elements from 0 on.
        const std::vector<std::int32_t> prepared = engine->potential->prepared_species();
        for (std::int32_t &number : of_types)
            number = static_cast<std::int32_t>(std::find(prepared.begin(), prepared.end(), number) - prepared.begin());
    }
    numbers_of_types = EquipotHaloKokkos<DeviceType>::upload(of_types);
}

template <class DeviceType>
void PairEquipotKokkos<DeviceType>::begin(int eflag, int vflag) {
    ev_init(eflag, vflag, 0);
    if (eflag_atom) zero_atoms<DeviceType>(k_eatom, eatom, maxeatom, memoryKK, "pair:eatom");
    if (vflag_atom) zero_atoms<DeviceType>(k_vatom, vatom, maxvatom, memoryKK, "pair:vatom");
    if (cvflag_atom) zero_atoms<DeviceType>(k_cvatom, cvatom, maxcvatom, memoryKK, "pair:cvatom");
    atomKK->sync(execution_space, datamask_read);
}

// The results that it gave lie in its memory.
template <class DeviceType>
void PairEquipotKokkos<DeviceType>::forget_model() {
    energies = forces = virials = centroid_virials = Readable<double>();
    PairEquipot::forget_model();
}

template <class DeviceType>
bool PairEquipotKokkos<DeviceType>::on_device() const {
    return engine->options.device != "cpu";
}

// What the messages of errors and the layout, which is host work, look at.
template <class DeviceType>
void PairEquipotKokkos<DeviceType>::read_atoms_on_host() {
    atomKK->sync(Host, TYPE_MASK | TAG_MASK);
}

template <class DeviceType>
void PairEquipotKokkos<DeviceType>::lay_out() {
    auto *list_there = static_cast<NeighListKokkos<DeviceType> *>(list);
    const double reach = cutoff + neighbor->skin;
    const auto find_received = [&](const std::vector<int> &first_image, std::vector<char> &received) {
        const auto x = atomKK->k_x.template view<DeviceType>();
        const auto numneigh = list_there->d_numneigh;
        const auto neighbors = list_there->d_neighbors;
        const auto owned = EquipotHaloKokkos<DeviceType>::upload(halo->atoms());
        const auto image = EquipotHaloKokkos<DeviceType>::upload(first_image);
        Array<int> found("equipot:found", first_image.size());
        Kokkos::parallel_for(
            "equipot:received", Kokkos::RangePolicy<DeviceType>(0, halo->owned()), KOKKOS_LAMBDA(const int row) {
                const int i = owned(row);
                for (int jj = 0; jj < numneigh(i); ++jj) {
                    const int j = neighbors(i, jj) & NEIGHMASK;
                    if (image(j) < 0) continue;
                    const double dx = x(j, 0) - x(i, 0), dy = x(j, 1) - x(i, 1), dz = x(j, 2) - x(i, 2);
                    if (dx * dx + dy * dy + dz * dz < reach * reach) Kokkos::atomic_store(&found(image(j)), 1);
                }
            });
        const auto on_host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), found);
        for (std::size_t g = 0; g < received.size(); ++g) received[g] = on_host(g) != 0;
    };

    read_atoms_on_host();
    const auto ilist = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), list_there->d_ilist);
    const std::span<const int> of_list(ilist.data(), static_cast<std::size_t>(list->inum));
    // The layout's own messages are made and read on the host: let LAMMPS take that way with them.
    struct HostMeanwhile {
        Pair *pair;
        ExecutionSpace space;
        ~HostMeanwhile() { pair->execution_space = space; }
    } const meanwhile{this, execution_space};
    execution_space = Host;
    halo->layout(of_list, numbers, find_received);
    sort_neighbors();
}

// LAMMPS's threads leave the neighbours of an atom in an order that changes from run to run, and with it the last
// digits of sums. Nobody minds another order of the list. On a device sums differ anyway.
template <class DeviceType>
void PairEquipotKokkos<DeviceType>::sort_neighbors() {
    if constexpr (in_host_memory) {
        const auto *list_there = static_cast<NeighListKokkos<DeviceType> *>(list);
        const auto numneigh = list_there->d_numneigh;
        const auto neighbors = list_there->d_neighbors;
        const auto atoms = halo->atoms_of_rows();
        Kokkos::parallel_for("equipot:sort", Kokkos::RangePolicy<DeviceType>(0, halo->owned()), [=](const int row) {
            const int i = atoms(row);
            std::vector<int> sorted(numneigh(i));
            for (std::size_t jj = 0; jj < sorted.size(); ++jj) sorted[jj] = neighbors(i, jj);
            std::sort(sorted.begin(), sorted.end());
            for (std::size_t jj = 0; jj < sorted.size(); ++jj) neighbors(i, jj) = sorted[jj];
        });
    }
}

template <class DeviceType>
std::string PairEquipotKokkos<DeviceType>::build_graph() {
    const auto x = atomKK->k_x.template view<DeviceType>();
    const auto type = atomKK->k_type.template view<DeviceType>();
    const auto *list_there = static_cast<NeighListKokkos<DeviceType> *>(list);
    const auto numneigh = list_there->d_numneigh;
    const auto neighbors = list_there->d_neighbors;
    const auto atoms = halo->atoms_of_rows();
    const auto rows = halo->rows_of_atoms();
    const auto types = numbers_of_types;
    const int owned = halo->owned(), total = halo->total();
    const double cutoff_squared = cutoff * cutoff;
    constexpr double least_squared = equipot::overlap * equipot::overlap;

    make_room(graph_numbers, total, "equipot:numbers");
    make_room(graph_first, owned + 1, "equipot:first");
    const auto number = graph_numbers;
    const auto first = graph_first;
    Kokkos::parallel_for(
        "equipot:numbers", Kokkos::RangePolicy<DeviceType>(0, total),
        KOKKOS_LAMBDA(const int row) { number(row) = types(type(atoms(row))); });

    // First count, then write: so the threads share nothing and the order does not depend on them. While counting, look
    // for the first atom whose position is not a number, else for the first that lies on another: at `val`, with `loc`.
    using Worst = Kokkos::MinLoc<std::int64_t, int>;
    constexpr std::int64_t on_another = std::int64_t{1} << 32;
    typename Worst::value_type worst;
    Kokkos::parallel_reduce(
        "equipot:count", Kokkos::RangePolicy<DeviceType>(0, owned),
        KOKKOS_LAMBDA(const int row, typename Worst::value_type &trouble) {
            const int i = atoms(row);
            std::int64_t count = 0;
            if (!Kokkos::isfinite(x(i, 0) + x(i, 1) + x(i, 2)) && row < trouble.val) trouble.val = row;
            for (int jj = 0; jj < numneigh(i); ++jj) {
                const int j = neighbors(i, jj) & NEIGHMASK;
                const double dx = x(j, 0) - x(i, 0), dy = x(j, 1) - x(i, 1), dz = x(j, 2) - x(i, 2);
                const double r_squared = dx * dx + dy * dy + dz * dz;
                if (!(r_squared < cutoff_squared) || rows(j) < 0) continue;
                if (r_squared > least_squared)
                    ++count;
                else if (on_another + row < trouble.val)
                    trouble.val = on_another + row, trouble.loc = j;
            }
            first(row) = count;
        },
        Worst(worst));
    Kokkos::parallel_scan(
        "equipot:first", Kokkos::RangePolicy<DeviceType>(0, owned + 1),
        KOKKOS_LAMBDA(const int row, std::int64_t &sum, const bool last) {
            const std::int64_t count = row < owned ? first(row) : 0;
            if (last) first(row) = sum;
            sum += count;
        },
        edges);
    make_room(graph_neighbor, edges, "equipot:neighbor");
    make_room(graph_displacement, 3 * edges, "equipot:displacement");
    const auto neighbor_row = graph_neighbor;
    const auto displacement = graph_displacement;
    Kokkos::parallel_for(
        "equipot:edges", Kokkos::RangePolicy<DeviceType>(0, owned), KOKKOS_LAMBDA(const int row) {
            const int i = atoms(row);
            std::int64_t edge = first(row);
            for (int jj = 0; jj < numneigh(i); ++jj) {
                const int j = neighbors(i, jj) & NEIGHMASK;
                const double dx = x(j, 0) - x(i, 0), dy = x(j, 1) - x(i, 1), dz = x(j, 2) - x(i, 2);
                const double r_squared = dx * dx + dy * dy + dz * dz;
                if (!(r_squared < cutoff_squared && r_squared > least_squared) || rows(j) < 0) continue;
                neighbor_row(edge) = rows(j);
                displacement(3 * edge) = dx;
                displacement(3 * edge + 1) = dy;
                displacement(3 * edge + 2) = dz;
                ++edge;
            }
        });
    Kokkos::fence("equipot:graph");

    if (owned == 0 || worst.val >= on_another + owned) return {};
    read_atoms_on_host();
    const int row = static_cast<int>(worst.val % on_another);
    return worst.val < on_another ? trouble_with_position(halo->atoms()[row])
                                  : trouble_with_places(halo->atoms()[row], worst.loc);
}

// The CPU's evaluator works on the graph where it is, in the memory of the host.
template <class DeviceType>
void PairEquipotKokkos<DeviceType>::run_model() {
    if (on_device()) {
        if (engine->options.precision == equipot::Precision::Double)
            run_on_device<double>();
        else
            run_on_device<float>();
        return;
    }
    const auto owned = static_cast<std::size_t>(halo->owned()), all = static_cast<std::size_t>(halo->total());
    const auto count = static_cast<std::size_t>(edges);
    engine->graph.owned = halo->owned();
    engine->graph.total = halo->total();
    engine->graph.atomic_numbers = {graph_numbers.data(), all};
    engine->graph.first = {graph_first.data(), owned + 1};
    engine->graph.neighbor = {graph_neighbor.data(), count};
    engine->graph.displacement = {graph_displacement.data(), 3 * count};
    PairEquipot::run_model();
    const equipot::Result &result = engine->result;
    energies = Readable<double>(result.energies.data(), owned);
    forces = Readable<double>(result.forces.data(), 3 * all);
    virials = Readable<double>(result.virials.data(), vflag_atom ? 9 * all : 0);
    centroid_virials = Readable<double>(result.centroid_virials.data(), cvflag_atom ? 9 * all : 0);
}

// On a device nothing but the energy, the virial and, when asked for, features leave its memory.
template <class DeviceType>
template <class Real>
void PairEquipotKokkos<DeviceType>::run_on_device() {
    using Evaluator = equipot::kernels::DeviceEvaluator<DeviceType, Real>;
    using Pipeline = equipot::kernels::DevicePipeline<DeviceType, Real>;
    auto &evaluator = dynamic_cast<Evaluator &>(engine->potential->evaluator());
    typename Pipeline::Graph graph;
    graph.owned = halo->owned();
    graph.total = halo->total();
    graph.species = graph_numbers;
    graph.first = graph_first;
    graph.neighbor = graph_neighbor;
    graph.displacement = decltype(graph.displacement)(graph_displacement.data(), edges);
    try {
        const auto &output = evaluator.run(graph, *halo, engine->what, engine->result);
        energies = Readable<double>(output.energies.data(), output.energies.size());
        forces = Readable<double>(output.forces.data(), output.forces.size());
        virials = Readable<double>(output.virials.data(), output.virials.size());
        centroid_virials = Readable<double>(output.centroid.data(), output.centroid.size());
        std::vector<double> &features_of_atoms = engine->result.features;
        features_of_atoms.resize(output.features.size());
        Kokkos::deep_copy(Kokkos::View<double *, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(features_of_atoms.data(),
                                                                                             features_of_atoms.size()),
                          Readable<double>(output.features.data(), output.features.size()));
    } catch (const LAMMPSException &) {
        throw;  // from LAMMPS's own communication, during an exchange
    } catch (const std::exception &problem) {
        error->one(FLERR, std::string("pair equipot: ") + problem.what());
    }
}

template <class DeviceType>
std::string PairEquipotKokkos<DeviceType>::find_nonfinite() {
    const auto energy = energies, force = forces;
    const int owned = halo->owned(), total = halo->total();
    int first = total;
    Kokkos::parallel_reduce(
        "equipot:nonfinite", Kokkos::RangePolicy<DeviceType>(0, total),
        KOKKOS_LAMBDA(const int row, int &least) {
            const std::int64_t at = 3 * static_cast<std::int64_t>(row);
            const double sum = force(at) + force(at + 1) + force(at + 2) + (row < owned ? energy(row) : 0.0);
            if (!Kokkos::isfinite(sum) && row < least) least = row;
        },
        Kokkos::Min<int>(first));
    if (total == 0 || first >= total) return {};
    read_atoms_on_host();
    return trouble_with_force(halo->atoms()[first]);
}

template <class DeviceType>
void PairEquipotKokkos<DeviceType>::add_results() {
    const double unit = energy_unit;
    const equipot::Result &result = engine->result;
    if (eflag_global) eng_vdwl += unit * result.energy;
    if (vflag_global) {
        for (int k = 0; k < 6; ++k) virial[k] += unit * result.virial[EQUIPOT_COMPONENTS[k]];
    }

    const auto f = atomKK->k_f.template view<DeviceType>();
    const auto eatoms = k_eatom.template view<DeviceType>();
    const auto vatoms = k_vatom.template view<DeviceType>();
    const auto cvatoms = k_cvatom.template view<DeviceType>();
    const auto atoms = halo->atoms_of_rows();
    const auto energy = energies, force = forces, v = virials, cv = centroid_virials;
    const int owned = halo->owned();
    Kokkos::Array<int, 9> component;
    std::copy_n(EQUIPOT_COMPONENTS, 9, component.data());
    const bool with_energies = eflag_atom != 0, with_virials = vflag_atom != 0, with_centroids = cvflag_atom != 0;
    // Forces and virials on halo rows go to one ghost image; LAMMPS adds ghosts to their owners.
    Kokkos::parallel_for(
        "equipot:results", Kokkos::RangePolicy<DeviceType>(0, halo->total()), KOKKOS_LAMBDA(const int row) {
            const int i = atoms(row);
            const std::int64_t at = row;
            for (int k = 0; k < 3; ++k) f(i, k) += unit * force(3 * at + k);
            if (with_energies && row < owned) eatoms(i) += unit * energy(row);
            if (with_virials) {
                for (int k = 0; k < 6; ++k) vatoms(i, k) += unit * v(9 * at + component[k]);
            }
            if (with_centroids) {
                for (int k = 0; k < 9; ++k) cvatoms(i, k) += unit * cv(9 * at + component[k]);
            }
        });
    Kokkos::fence("equipot:results");
    atomKK->modified(execution_space, F_MASK);
    if (with_energies) k_eatom.template sync<LMPHostType>();
    if (with_virials) k_vatom.template sync<LMPHostType>();
    if (with_centroids) k_cvatom.template sync<LMPHostType>();
}

// Asked for by few, so it is put together only then.
template <class DeviceType>
void *PairEquipotKokkos<DeviceType>::extract_peratom(const char *name, int &columns) {
    if (std::string(name) == "energy") {
        atom_energies.assign(atom->nmax, 0.0);
        const auto on_host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), energies);
        // Before the first step of a run, `energies` are those of an earlier layout.
        const auto known = std::min(on_host.extent(0), static_cast<std::size_t>(halo->owned()));
        for (std::size_t row = 0; row < known; ++row) atom_energies[halo->atoms()[row]] = energy_unit * on_host(row);
    }
    return PairEquipot::extract_peratom(name, columns);
}

template <class DeviceType>
double PairEquipotKokkos<DeviceType>::device_bytes_of_graph() const {
    return static_cast<double>(graph_numbers.size() + graph_neighbor.size()) * sizeof(std::int32_t) +
           static_cast<double>(graph_first.size() + graph_displacement.size()) * sizeof(double);
}

template <class DeviceType>
double PairEquipotKokkos<DeviceType>::memory_usage() {
    return PairEquipot::memory_usage() + device_bytes_of_graph();
}

template <class DeviceType>
int PairEquipotKokkos<DeviceType>::pack_forward_comm_kokkos(int n, DAT::tdual_int_1d list, DAT::tdual_xfloat_1d &buffer,
                                                            int, int *) {
    return halo->pack_forward_there(n, list.h_view.data(), buffer.template view<DeviceType>().data());
}

template <class DeviceType>
void PairEquipotKokkos<DeviceType>::unpack_forward_comm_kokkos(int n, int first, DAT::tdual_xfloat_1d &buffer) {
    halo->unpack_forward_there(n, first, buffer.template view<DeviceType>().data());
}

template <class DeviceType>
int PairEquipotKokkos<DeviceType>::pack_reverse_comm_kokkos(int n, int first, DAT::tdual_xfloat_1d &buffer) {
    return halo->pack_reverse_there(n, first, buffer.template view<DeviceType>().data());
}

template <class DeviceType>
void PairEquipotKokkos<DeviceType>::unpack_reverse_comm_kokkos(int n, DAT::tdual_int_1d list,
                                                               DAT::tdual_xfloat_1d &buffer) {
    halo->unpack_reverse_there(n, list.h_view.data(), buffer.template view<DeviceType>().data());
}

template class PairEquipotKokkos<LMPDeviceType>;
#ifdef LMP_KOKKOS_GPU
template class PairEquipotKokkos<LMPHostType>;
#endif

}  // namespace LAMMPS_NS
