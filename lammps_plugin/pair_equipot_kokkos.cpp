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
#include "force.h"
#include "kokkos.h"
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
    if (!std::is_same_v<typename DeviceType::memory_space, Kokkos::HostSpace>)
        error->all(FLERR, "pair_style equipot/kk cannot compute on a GPU yet: use pair_style equipot/kk/host");
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
    PairEquipot::init_style();
    NeighRequest *request = neighbor->find_request(this);
    constexpr bool is_device = std::is_same_v<DeviceType, LMPDeviceType>;
    request->set_kokkos_device(is_device);
    request->set_kokkos_host(!is_device);
    numbers_of_types = EquipotHaloKokkos<DeviceType>::upload(numbers);
}

template <class DeviceType>
void PairEquipotKokkos<DeviceType>::begin(int eflag, int vflag) {
    ev_init(eflag, vflag, 0);
    if (eflag_atom) zero_atoms<DeviceType>(k_eatom, eatom, maxeatom, memoryKK, "pair:eatom");
    if (vflag_atom) zero_atoms<DeviceType>(k_vatom, vatom, maxvatom, memoryKK, "pair:vatom");
    if (cvflag_atom) zero_atoms<DeviceType>(k_cvatom, cvatom, maxcvatom, memoryKK, "pair:cvatom");
    atomKK->sync(execution_space, datamask_read);
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
    if constexpr (std::is_same_v<typename DeviceType::memory_space, Kokkos::HostSpace>) {
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
                if (r_squared > 0.0)
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
                if (!(r_squared < cutoff_squared && r_squared > 0.0) || rows(j) < 0) continue;
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

// THE SEAM: what computes the model. Everything is in the memory of DeviceType. It is given
//   - graph_numbers[halo->total()], graph_first[halo->owned() + 1], graph_neighbor[edges] and
//     graph_displacement[3 * edges]: an equipot::Graph,
//   - *halo, an equipot::Exchange whose rows are pointers to that memory,
//   - engine->what, after the flags that PairEquipot::run_model sets it by: the properties wanted;
// and leaves
//   - energies, forces, virials, centroid_virials: views that last until the next step,
//   - engine->result.energy, .virial and .features, on the host.
// On hosts equipot::Potential does it. An evaluator for a device goes into the other branch, and makes the refusal of
// devices in the constructor unnecessary.
template <class DeviceType>
void PairEquipotKokkos<DeviceType>::run_model() {
    if constexpr (std::is_same_v<typename DeviceType::memory_space, Kokkos::HostSpace>) {
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
    } else {
        error->all(FLERR, "pair_style equipot/kk cannot compute on a GPU yet: use pair_style equipot/kk/host");
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
double PairEquipotKokkos<DeviceType>::memory_usage() {
    return PairEquipot::memory_usage() +
           static_cast<double>(graph_numbers.size() + graph_neighbor.size()) * sizeof(std::int32_t) +
           static_cast<double>(graph_first.size() + graph_displacement.size()) * sizeof(double);
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
