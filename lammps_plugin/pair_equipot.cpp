// SPDX-License-Identifier: GPL-2.0-only
#include "pair_equipot.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "equipot_engine.h"
#include "error.h"
#include "exceptions.h"
#include "force.h"
#include "memory.h"
#include "model/card.hpp"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"

namespace LAMMPS_NS {

// 1 eV per particle = e N_A J/mol, and 1 kcal = 4184 J: exact in the SI of 2019.
static constexpr double KCAL_PER_MOL = 1.602176634e-19 * 6.02214076e23 / 4184.0;

PairEquipot::PairEquipot(LAMMPS *lmp) : Pair(lmp), engine(std::make_unique<Engine>()) {
    engine->halo = std::make_unique<EquipotHalo>(lmp, this);
    single_enable = 0;
    restartinfo = 0;
    one_coeff = 1;
    manybody_flag = 1;
    reinitflag = 0;
    centroidstressflag = CENTROID_AVAIL;
    // LAMMPS's own F.r would count the edges between images of one rank's atoms wrongly: we put those forces on owners.
    no_virial_fdotr_compute = 1;
}

PairEquipot::~PairEquipot() {
    if (copymode) return;
    if (allocated) {
        memory->destroy(setflag);
        memory->destroy(cutsq);
    }
    memory->destroy(features);
}

void PairEquipot::allocate() {
    const int n = atom->ntypes + 1;
    memory->create(setflag, n, n, "pair:setflag");
    memory->create(cutsq, n, n, "pair:cutsq");
    allocated = 1;
}

// Before a new pair_style or pair_coeff: what an earlier one left need not fit any more.
void PairEquipot::forget_model() {
    engine->potential.reset();
    numbers.clear();
    ready = false;
    memory_is_told = false;
    memory->destroy(features);  // as wide as the old model's
    features_rows = 0;
    if (allocated) {
        for (int i = 1; i <= atom->ntypes; ++i) std::fill_n(setflag[i] + 1, atom->ntypes, 0);
    }
}

void PairEquipot::settings(int narg, char **arg) {
    engine->options = equipot::LoadOptions{};
    engine->options.device = usual_device();
    forget_model();
    for (int k = 0; k < narg; k += 2) {
        const std::string key = arg[k];
        if (key != "head" && key != "precision" && key != "radial" && key != "device")
            error->all(FLERR,
                       "pair_style equipot has no option '" + key + "'; it has head, precision, radial and device");
        if (k + 1 == narg) error->all(FLERR, "pair_style equipot: the option " + key + " needs a value");
        const std::string value = arg[k + 1];
        if (key == "head") {
            engine->options.head = value;
        } else if (key == "device") {
            engine->options.device = value;
        } else if (key == "precision") {
            if (value == "double")
                engine->options.precision = equipot::Precision::Double;
            else if (value == "float")
                engine->options.precision = equipot::Precision::Float;
            else if (value == "mixed")
                engine->options.precision = equipot::Precision::Mixed;
            else
                error->all(FLERR, "pair_style equipot: precision is double, float or mixed, not '" + value + "'");
        } else {
            if (value == "splined")
                engine->options.radial = equipot::Radial::Splined;
            else if (value == "exact")
                engine->options.radial = equipot::Radial::Exact;
            else
                error->all(FLERR, "pair_style equipot: radial is splined or exact, not '" + value + "'");
        }
    }
}

static std::string elements_of(const equipot::Model &model) {
    std::string names;
    for (const int z : model.species) names += (names.empty() ? "" : " ") + equipot::element_symbol(z);
    return names;
}

void PairEquipot::coeff(int narg, char **arg) {
    const int ntypes = atom->ntypes;
    if (!allocated) allocate();
    forget_model();

    if (narg < 3 || std::strcmp(arg[0], "*") != 0 || std::strcmp(arg[1], "*") != 0)
        error->all(FLERR, "pair equipot: write pair_coeff as 'pair_coeff * * FILE ELEMENT1 ELEMENT2 ...'");
    const std::string units = update->unit_style;
    if (units != "metal" && units != "real")
        error->all(FLERR, "pair equipot works in 'units metal' and 'units real', not in 'units " + units + "'");
    energy_unit = units == "real" ? KCAL_PER_MOL : 1.0;

    const std::string found = utils::get_potential_file_path(arg[2]);
    const std::string file = found.empty() ? arg[2] : found;
    if (file != arg[2] && platform::path_basename(arg[2]) != arg[2] && comm->me == 0)
        error->warning(FLERR, "pair equipot: there is no file {}; LAMMPS_POTENTIALS has {}", arg[2], file);
    // OpenMP builds of LAMMPS know how many threads are wanted; others always say 1 and leave it to the engine.
    const bool threads_from_environment = platform::openmp_standard() == "OpenMP not enabled";

    std::string trouble;
    double spline_error = 0.0;
    try {
        equipot::ensure_kokkos(threads_from_environment ? 0 : comm->nthreads);
        engine->potential = std::make_unique<equipot::Potential>(equipot::Potential::load(file, engine->options));
        const equipot::Model &model = engine->potential->model();
        if (narg - 3 != ntypes) {
            throw equipot::Error(fmt::format("pair_coeff names {} element{} for {} atom type{}; {} has: {}", narg - 3,
                                             narg == 4 ? "" : "s", ntypes, ntypes == 1 ? "" : "s", arg[2],
                                             elements_of(model)));
        }
        numbers.assign(ntypes + 1, 0);
        std::vector<std::int32_t> in_use;
        for (int type = 1; type <= ntypes; ++type) {
            const std::string symbol = arg[2 + type];
            if (symbol == "NULL") continue;
            const int number = equipot::atomic_number(symbol);
            if (number == 0 || std::find(model.species.begin(), model.species.end(), number) == model.species.end()) {
                throw equipot::Error(fmt::format("pair_coeff gives atom type {} the element '{}', but {} has only: {}",
                                                 type, symbol, arg[2], elements_of(model)));
            }
            numbers[type] = number;
            if (std::find(in_use.begin(), in_use.end(), number) == in_use.end()) in_use.push_back(number);
        }
        if (in_use.empty()) throw equipot::Error("pair_coeff gives NULL to every atom type");
        spline_error = engine->potential->prepare(in_use);
    } catch (const std::exception &problem) {
        trouble = problem.what();
        forget_model();
    }
    stop_together(trouble);

    for (int i = 1; i <= ntypes; ++i) {
        for (int j = 1; j <= ntypes; ++j) setflag[i][j] = numbers[i] != 0 && numbers[j] != 0;
    }
    cutoff = engine->potential->cutoff();
    comm_forward = comm_reverse = engine->halo->buffer_width(engine->potential->exchange_width());
    if (comm->me == 0) print_summary(file, spline_error);
    warn_of_crowding();
}

// Ranks that share a node see the same cores, unless the launcher has bound each to some of them.
void PairEquipot::warn_of_crowding() {
    char name[MPI_MAX_PROCESSOR_NAME] = {};
    int length = 0;
    MPI_Get_processor_name(name, &length);
    std::vector<char> names(static_cast<std::size_t>(comm->nprocs) * MPI_MAX_PROCESSOR_NAME);
    MPI_Allgather(name, MPI_MAX_PROCESSOR_NAME, MPI_CHAR, names.data(), MPI_MAX_PROCESSOR_NAME, MPI_CHAR, world);
    int mine[2] = {engine->potential->threads(), equipot::available_cores()};
    std::vector<int> all(2 * static_cast<std::size_t>(comm->nprocs));
    MPI_Allgather(mine, 2, MPI_INT, all.data(), 2, MPI_INT, world);
    int ranks = 0, threads = 0, cores = 0;
    for (int rank = 0; rank < comm->nprocs; ++rank) {
        if (std::strncmp(name, &names[rank * MPI_MAX_PROCESSOR_NAME], MPI_MAX_PROCESSOR_NAME) != 0) continue;
        ++ranks;
        threads += all[2 * rank];
        cores += all[2 * rank + 1];
    }
    cores = std::min(cores, static_cast<int>(std::thread::hardware_concurrency()));
    if (comm->me == 0 && ranks > 1 && cores > 0 && threads > cores)
        error->warning(
            FLERR, fmt::format("pair equipot: {} ranks run {} threads on a node with {} cores, which is slower than "
                               "one thread per core; run {} rank{} with OMP_NUM_THREADS={}",
                               ranks, threads, cores, std::min(ranks, cores), std::min(ranks, cores) == 1 ? "" : "s",
                               std::max(1, cores / ranks)));
}

void PairEquipot::print_summary(const std::string &file, double spline_error) {
    const equipot::Potential &potential = *engine->potential;
    std::string title = equipot::card_title(potential.model());
    if (!title.empty()) title = ": " + title;
    std::string types;
    for (std::size_t type = 1; type < numbers.size(); ++type) {
        types += fmt::format("{}{} = {}", type == 1 ? "" : ", ", type,
                             numbers[type] ? equipot::element_symbol(numbers[type]) : "NULL");
    }
    const std::string radial = potential.options().radial == equipot::Radial::Exact
                                   ? "exact"
                                   : fmt::format("splined, largest force error {:.1e} eV/A", spline_error);
    utils::logmesg(lmp, "pair equipot: {}{}\n  atom types: {}\n  model: {} layer{}, cutoff {:g} A, head {}\n", file,
                   title, types, potential.layers(), potential.layers() == 1 ? "" : "s", potential.cutoff(),
                   potential.model().heads[potential.head()]);
    utils::logmesg(lmp, "  radial functions: {}\n  runs on: {}\n", radial, potential.execution());
}

void PairEquipot::init_style() {
    if (!engine->potential)
        error->all(FLERR, "pair equipot has no model yet: give pair_coeff * * FILE ELEMENT1 ELEMENT2 ...");
    if (!force->newton_pair)
        error->all(FLERR,
                   "pair equipot needs newton on: put 'newton on' before the box is created and leave out '-pk ... "
                   "newton off'");

    check_box();

    // Hybrid styles read the sizes of their sub-styles when those have no model yet.
    if (force->pair != nullptr && force->pair != this) {
        force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
        force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
    }
    neighbor->add_request(this, NeighConst::REQ_FULL);
    layout_is_stale = true;
    ready = true;
}

// LAMMPS copies atoms until the images cover the cutoff, however many it takes: a mistyped box would seem to hang.
void PairEquipot::check_box() const {
    const double *inverse = domain->h_inv;
    double rows[3] = {inverse[0], inverse[1], inverse[2]};
    if (domain->triclinic) {
        rows[0] = std::hypot(inverse[0], inverse[5], inverse[4]);
        rows[1] = std::hypot(inverse[1], inverse[3]);
    }
    const char *tilt = domain->triclinic ? " and tilt" : "";
    for (int d = 0; d < domain->dimension; ++d) {
        const double thickness = 1.0 / rows[d];
        if (domain->periodicity[d] && thickness < 0.1 * cutoff) {
            error->all(
                FLERR,
                fmt::format("pair equipot: the periodic box is only {:g} A thick along {}, too thin for a cutoff of "
                            "{:g} A: check its size{} or replicate it",
                            thickness, "xyz"[d], cutoff, tilt));
        }
    }
}

double PairEquipot::init_one(int i, int j) {
    if (setflag[i][j] == 0) error->all(FLERR, fmt::format("pair equipot: atom types {} and {} have no element", i, j));
    return cutoff;
}

void PairEquipot::compute(int eflag, int vflag) {
    if (!ready)
        error->all(FLERR, "pair equipot: after a new pair_coeff LAMMPS must set up the run: leave out 'pre no'");
    begin(eflag, vflag);
    engine->what.forces = true;
    engine->what.virials = vflag_atom != 0;
    engine->what.centroid_virials = cvflag_atom != 0;
    engine->what.features = features_flag != 0;
    if (layout_is_stale || neighbor->ago == 0) {
        if (layout_is_stale) warn_of_hidden_pairs();
        lay_out();
        layout_is_stale = false;
    }
    std::string trouble = build_graph();
    if (!memory_is_told) tell_device_memory();
    run_model();
    if (trouble.empty()) trouble = find_nonfinite();
    stop_together(trouble);
    add_results();
    if (features_flag) store_features();
}

// Not in init_style: LAMMPS takes in what neigh_modify and pair_coeff of a hybrid said after it.
void PairEquipot::warn_of_hidden_pairs() const {
    if (comm->me != 0) return;
    if (neighbor->exclude || neighbor->includegroup)
        error->warning(FLERR, "pair equipot: neigh_modify {} hides atoms from each other, also within this model",
                       neighbor->exclude ? "exclude" : "include");
    if (list->ijskip == nullptr) return;
    for (int i = 1; i <= atom->ntypes; ++i) {
        for (int j = i; j <= atom->ntypes; ++j) {
            if (numbers[i] == 0 || numbers[j] == 0 || list->ijskip[i][j] == 0) continue;
            error->warning(
                FLERR,
                "pair equipot: atom types {} and {} do not see each other within this model, since pair_coeff "
                "gives this pair to another style",
                i, j);
        }
    }
}

void PairEquipot::begin(int eflag, int vflag) { ev_init(eflag, vflag); }

void PairEquipot::lay_out() {
    const double reach = cutoff + neighbor->skin;
    double **x = atom->x;
    const auto find_received = [&](const std::vector<int> &first_image, std::vector<char> &received) {
        for (int row = 0; row < engine->halo->owned(); ++row) {
            const int i = engine->halo->atoms()[row];
            for (int jj = 0; jj < list->numneigh[i]; ++jj) {
                const int j = list->firstneigh[i][jj] & NEIGHMASK;
                if (first_image[j] < 0) continue;
                const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
                if (dx * dx + dy * dy + dz * dz < reach * reach) received[first_image[j]] = 1;
            }
        }
    };
    engine->halo->layout({list->ilist, static_cast<std::size_t>(list->inum)}, numbers, find_received);
}

std::int64_t PairEquipot::edges_of_graph() const { return static_cast<std::int64_t>(engine->graph.neighbor.size()); }

// With the first graph of a model, and before a step asks for the memory. Collective.
void PairEquipot::tell_device_memory() {
    memory_is_told = true;
    const equipot::DeviceMemory device = engine->potential->device_memory();
    int known = device.name.empty() ? 0 : 1, known_to_all = 0;
    MPI_Allreduce(&known, &known_to_all, 1, MPI_INT, MPI_MIN, world);
    if (known_to_all == 0) return;

    const double owned = engine->halo->owned();
    double bytes = 0.0;
    if (owned > 0) {
        bytes = owned * engine->potential->device_bytes_per_atom(edges_of_graph() / owned, engine->what,
                                                                 engine->halo->total() / owned);
        bytes += bytes / 16;  // arrays that grow are made longer than they need to be by that
    }

    // Devices are told apart by machine and name: ranks may share one.
    char machine[MPI_MAX_PROCESSOR_NAME] = {};
    int length = 0;
    MPI_Get_processor_name(machine, &length);
    struct Share {
        std::uint64_t device;
        double free, owned, bytes, to_come;
    };
    const Share mine{std::hash<std::string>()(std::string(machine) + " " + device.name), device.free, owned, bytes,
                     std::max(0.0, bytes - device_bytes_of_graph())};
    std::vector<Share> shares(comm->nprocs);
    MPI_Allgather(&mine, sizeof(Share), MPI_BYTE, shares.data(), sizeof(Share), MPI_BYTE, world);
    struct Sum {
        int ranks = 0;
        double free = 0.0, owned = 0.0, bytes = 0.0, to_come = 0.0;
    };
    std::map<std::uint64_t, Sum> devices;
    for (const Share &share : shares) {
        Sum &sum = devices[share.device];
        sum.free = sum.ranks++ == 0 ? share.free : std::min(sum.free, share.free);
        sum.owned += share.owned;
        sum.bytes += share.bytes;
        sum.to_come += share.to_come;
    }
    const auto most = std::max_element(devices.begin(), devices.end(), [](const auto &a, const auto &b) {
        return a.second.to_come - a.second.free < b.second.to_come - b.second.free;
    });
    const Sum &fullest = most->second;
    const std::string need =
        fmt::format("{:.0f} atoms{} need about {:.3g} GB of the device's memory, {:.0f} bytes each", fullest.owned,
                    fullest.ranks > 1 ? fmt::format(" of {} ranks", fullest.ranks) : "", 1e-9 * fullest.bytes,
                    fullest.bytes / std::max(1.0, fullest.owned));
    if (fullest.to_come > fullest.free) {
        const bool is_double = engine->potential->options().precision == equipot::Precision::Double;
        error->all(FLERR,
                   fmt::format("pair equipot: {}, and {:.3g} GB are free: use more devices, {}or a smaller model", need,
                               1e-9 * fullest.free, is_double ? "precision mixed, " : ""));
    }
    if (comm->me == 0) utils::logmesg(lmp, "pair equipot: {}; {:.3g} GB are free\n", need, 1e-9 * fullest.free);
}

void PairEquipot::run_model() {
    try {
        engine->potential->compute(engine->graph, *engine->halo, engine->what, engine->result);
    } catch (const LAMMPSException &) {
        throw;  // from LAMMPS's own communication, during an exchange
    } catch (const std::exception &problem) {
        error->one(FLERR, std::string("pair equipot: ") + problem.what());
    }
}

// Edges inside the cutoff from the list, which also holds those of the skin. Returns what is wrong with the positions.
std::string PairEquipot::build_graph() {
    Engine &e = *engine;
    const EquipotHalo &halo = *e.halo;
    double **x = atom->x;
    const int owned = halo.owned();
    const double cutoff_squared = cutoff * cutoff;

    e.numbers.resize(halo.total());
    for (int row = 0; row < halo.total(); ++row) e.numbers[row] = numbers[atom->type[halo.atoms()[row]]];

    // First count, then write: so the threads share nothing and the order does not depend on them.
    int unplaced = -1;  // an atom whose position is not a number
    int stacked = -1, below = -1;
    e.first.resize(owned + 1);
    e.first[0] = 0;
    for (const bool write : {false, true}) {
#pragma omp parallel for schedule(static) num_threads(comm->nthreads)
        for (int row = 0; row < owned; ++row) {
            const int i = halo.atoms()[row];
            const int *neighbors = list->firstneigh[i];
            const std::int64_t edge = write ? e.first[row] : 0;
            std::int64_t count = 0;
            for (int jj = 0; jj < list->numneigh[i]; ++jj) {
                const int j = neighbors[jj] & NEIGHMASK;
                const double dx = x[j][0] - x[i][0], dy = x[j][1] - x[i][1], dz = x[j][2] - x[i][2];
                const double r_squared = dx * dx + dy * dy + dz * dz;
                if (!(r_squared < cutoff_squared) || halo.row(j) < 0) continue;
                if (r_squared < equipot::overlap * equipot::overlap) {
#pragma omp critical(equipot_trouble)
                    stacked = i, below = j;
                    continue;
                }
                if (write) {
                    e.neighbor[edge + count] = halo.row(j);
                    double *d = &e.displacement[3 * (edge + count)];
                    d[0] = dx, d[1] = dy, d[2] = dz;
                }
                ++count;
            }
            if (!write) e.first[row + 1] = count;
        }
        if (write) break;
        for (int row = 0; row < owned; ++row) e.first[row + 1] += e.first[row];
        e.neighbor.resize(e.first[owned]);
        e.displacement.resize(3 * e.first[owned]);
    }
    for (int row = 0; row < owned && unplaced < 0; ++row) {
        const int i = halo.atoms()[row];
        if (!std::isfinite(x[i][0] + x[i][1] + x[i][2])) unplaced = i;
    }

    e.graph.owned = owned;
    e.graph.total = halo.total();
    e.graph.atomic_numbers = e.numbers;
    e.graph.first = e.first;
    e.graph.neighbor = e.neighbor;
    e.graph.displacement = e.displacement;

    if (unplaced >= 0) return trouble_with_position(unplaced);
    if (stacked >= 0) return trouble_with_places(stacked, below);
    return {};
}

std::string PairEquipot::trouble_with_position(int i) const {
    return fmt::format("the position of {} is not a number at step {}", describe(i), update->ntimestep);
}

std::string PairEquipot::trouble_with_places(int i, int j) const {
    return fmt::format("{} and {} are at the same place at step {}", describe(i), describe(j), update->ntimestep);
}

std::string PairEquipot::trouble_with_force(int i) const {
    return fmt::format(
        "the energy or force of {} is not a finite number at step {}: atoms are too close or the time step is too long",
        describe(i), update->ntimestep);
}

std::string PairEquipot::describe(int i) const {
    const int type = atom->type[i];
    const std::string kind = fmt::format("(type {}, {})", type, equipot::element_symbol(numbers[type]));
    return atom->tag_enable ? fmt::format("atom {} {}", atom->tag[i], kind) : "an atom " + kind;
}

std::string PairEquipot::find_nonfinite() {
    const equipot::Result &result = engine->result;
    const std::vector<int> &atoms = engine->halo->atoms();
    for (int row = 0; row < engine->halo->total(); ++row) {
        const double *f = &result.forces[3 * static_cast<std::size_t>(row)];
        double sum = f[0] + f[1] + f[2];
        if (row < engine->halo->owned()) sum += result.energies[row];
        if (!std::isfinite(sum)) return trouble_with_force(atoms[row]);
    }
    return {};
}

void PairEquipot::add_results() {
    const equipot::Result &result = engine->result;
    const EquipotHalo &halo = *engine->halo;
    double **f = atom->f;
    const double unit = energy_unit;

    // Forces and virials on halo rows go to one ghost image; LAMMPS adds ghosts to their owners.
    for (int row = 0; row < halo.total(); ++row) {
        const int i = halo.atoms()[row];
        for (int k = 0; k < 3; ++k) f[i][k] += unit * result.forces[3 * static_cast<std::size_t>(row) + k];
    }

    atom_energies.assign(atom->nmax, 0.0);
    for (int row = 0; row < halo.owned(); ++row) {
        const int i = halo.atoms()[row];
        atom_energies[i] = unit * result.energies[row];
        if (eflag_atom) eatom[i] += atom_energies[i];
    }
    if (eflag_global) eng_vdwl += unit * result.energy;

    if (vflag_global) {
        for (int k = 0; k < 6; ++k) virial[k] += unit * result.virial[EQUIPOT_COMPONENTS[k]];
    }
    if (vflag_atom) {
        for (int row = 0; row < halo.total(); ++row) {
            double *v = vatom[halo.atoms()[row]];
            for (int k = 0; k < 6; ++k)
                v[k] += unit * result.virials[9 * static_cast<std::size_t>(row) + EQUIPOT_COMPONENTS[k]];
        }
    }
    if (cvflag_atom) {
        for (int row = 0; row < halo.total(); ++row) {
            double *v = cvatom[halo.atoms()[row]];
            for (int k = 0; k < 9; ++k)
                v[k] += unit * result.centroid_virials[9 * static_cast<std::size_t>(row) + EQUIPOT_COMPONENTS[k]];
        }
    }
}

void PairEquipot::store_features() {
    const int width = engine->potential->feature_width();
    if (width != features_told)
        error->all(
            FLERR,
            "pair equipot: fix pair was defined for {} features of each atom, but since the last pair_coeff there "
            "are {}: define it after that",
            features_told, width);
    if (features_rows < atom->nmax) {
        memory->destroy(features);
        memory->create(features, atom->nmax, width, "pair:features");
        features_rows = atom->nmax;
    }
    if (atom->nlocal > 0) std::fill_n(features[0], static_cast<std::size_t>(atom->nlocal) * width, 0.0);
    for (int row = 0; row < engine->halo->owned(); ++row) {
        const double *from = &engine->result.features[static_cast<std::size_t>(row) * width];
        std::copy_n(from, width, features[engine->halo->atoms()[row]]);
    }
}

// Every rank stops with the sentence of the first rank that has one, so that it is printed once. Collective.
void PairEquipot::stop_together(const std::string &trouble) {
    int mine = trouble.empty() ? comm->nprocs : comm->me;
    int first = mine;
    if (comm->nprocs > 1) MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, world);
    if (first == comm->nprocs) return;
    std::string text = trouble;
    int length = static_cast<int>(text.size());
    MPI_Bcast(&length, 1, MPI_INT, first, world);
    text.resize(length);
    MPI_Bcast(text.data(), length, MPI_CHAR, first, world);
    error->all(FLERR, "pair equipot: " + text);
}

void *PairEquipot::extract(const char *name, int &dim) {
    dim = 0;
    if (std::strcmp(name, "cutoff") == 0) return &cutoff;
    if (std::strcmp(name, "features_flag") == 0) return &features_flag;
    return nullptr;
}

void *PairEquipot::extract_peratom(const char *name, int &columns) {
    if (std::strcmp(name, "energy") == 0) {
        columns = 0;
        if (atom_energies.size() < static_cast<std::size_t>(atom->nmax)) atom_energies.resize(atom->nmax, 0.0);
        return atom_energies.data();
    }
    if (std::strcmp(name, "features") == 0 && engine->potential) {
        columns = engine->potential->feature_width();
        // None before the first step that computed them: then a fix pair begins, which remembers how many there are.
        if (features == nullptr) features_told = columns;
        return features;
    }
    return nullptr;
}

double PairEquipot::memory_usage() {
    const Engine &e = *engine;
    double bytes = Pair::memory_usage() + e.halo->memory_usage();
    if (e.potential) bytes += e.potential->memory_usage();
    bytes += static_cast<double>(e.numbers.capacity() + e.neighbor.capacity()) * sizeof(std::int32_t);
    bytes += static_cast<double>(e.first.capacity()) * sizeof(std::int64_t);
    const equipot::Result &r = e.result;
    bytes += static_cast<double>(e.displacement.capacity() + r.energies.capacity() + r.forces.capacity() +
                                 r.virials.capacity() + r.centroid_virials.capacity() + r.features.capacity() +
                                 atom_energies.capacity()) *
             sizeof(double);
    return bytes;
}

int PairEquipot::pack_forward_comm(int n, int *send, double *buffer, int, int *) {
    return engine->halo->pack_forward(n, send, buffer);
}

void PairEquipot::unpack_forward_comm(int n, int first, double *buffer) {
    engine->halo->unpack_forward(n, first, buffer);
}

int PairEquipot::pack_reverse_comm(int n, int first, double *buffer) {
    return engine->halo->pack_reverse(n, first, buffer);
}

void PairEquipot::unpack_reverse_comm(int n, int *send, double *buffer) {
    engine->halo->unpack_reverse(n, send, buffer);
}

}  // namespace LAMMPS_NS
