// Pairs come from vesin's cell list on a prepared, fully periodic box; the Verlet skin and the CSR form are made here.
// SPDX-License-Identifier: MIT
#include "neighbors/neighbors.hpp"

#include <vesin.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

#include "model/model.hpp"
#include "neighbors/lattice.hpp"
#include "potential/potential.hpp"

namespace equipot {

namespace {

/// Beyond this a double no longer resolves 1e-6 Å.
constexpr double largest_coordinate = 1e10;
/// Periodic images within reach of one atom; a cell that needs more is almost surely in the wrong unit.
constexpr double most_images = 1e5;
/// Fewer atoms than this fit into caches in any order.
constexpr std::size_t least_ordered = 1000;

std::string atom_name(const System& system, std::size_t i) {
    return "atom " + std::to_string(i) + " (" + element_symbol(system.atomic_numbers[i]) + ")";
}

std::string number(double value) {
    std::ostringstream text;
    text.precision(6);
    text << value;
    return text.str();
}

void check_positions(const System& system) {
    if (system.positions.size() != 3 * system.atomic_numbers.size()) {
        throw Error("there are " + std::to_string(system.atomic_numbers.size()) + " atoms but " +
                    std::to_string(system.positions.size()) + " coordinates");
    }
    for (std::size_t k = 0; k < system.positions.size(); ++k) {
        const double x = system.positions[k];
        if (std::abs(x) <= largest_coordinate) continue;
        throw Error("the position of " + atom_name(system, k / 3) + " is " +
                    (std::isfinite(x) ? "further than 1e10 Å from the origin" : "not finite"));
    }
}

/// How vesin lays cells at least as wide as a radius, and what it looks through: every cell, and for each the cells
/// within the radius, which are images of itself across a direction that is thinner.
struct Cells {
    Vec3 along;
    double count = 1.0, work = 1.0;
    Cells(double radius, const Vec3& heights) {
        for (std::size_t d = 0; d < 3; ++d) {
            along[d] = std::max(1.0, std::trunc(heights[d] / radius));
            count *= along[d];
            work *= along[d] * (2.0 * std::ceil(radius * along[d] / heights[d]) + 1.0);
        }
    }
};

/// vesin limits the number of its cells by a formula that gives zero cells along short sides of very long or flat boxes
/// (seen in 0.6.2). Returns the smallest radius >= `radius` (in steps of 25 %) that stays clear of this, and has no
/// more cells than there are pairs, where that is less work: a few atoms in a large box would cost what empty cells do.
double safe_radius(double radius, const Vec3& heights, std::size_t atoms) {
    constexpr double vesins_most = 1e5, always = 64, most_work = 3e9;
    const double pairs = static_cast<double>(atoms) * static_cast<double>(atoms);
    const auto is_safe = [&](const Cells& cells) {
        if (cells.count <= vesins_most) return true;
        const double xy = cells.along[0] / cells.along[1];
        const double yz = cells.along[1] / cells.along[2];
        const double z = std::trunc(std::cbrt(vesins_most / (xy * yz * yz)));
        const double y = std::trunc(yz * z);
        return z >= 1.0 && y >= 1.0 && std::trunc(xy * y) >= 1.0;
    };
    for (;; radius *= 1.25) {
        const Cells cells(radius, heights);
        if (!is_safe(cells)) continue;
        if (cells.count > std::max(always, pairs) && Cells(1.25 * radius, heights).work < cells.work) continue;
        if (std::min(cells.work, vesins_most * cells.work / cells.count) > most_work) {
            throw Error("the cell is too long for how thin it is, " + number(heights[0]) + ", " + number(heights[1]) +
                        " and " + number(heights[2]) + " Å between its faces: are its vectors in Å?");
        }
        return radius;
    }
}

/// Owns what vesin allocates.
struct VesinPairs {
    VesinNeighborList list;
    ~VesinPairs() { vesin_free(&list); }
};

void run_vesin(const std::vector<double>& positions, const Lattice& lattice, double radius, VesinNeighborList& list) {
    VesinOptions options{};
    options.cutoff = radius;
    options.full = true;
    options.sorted = false;
    options.algorithm = VesinCellList;
    options.n_threads = 1;  // the order of pairs must not depend on threads
    options.return_shifts = true;
    double box[3][3];
    for (std::size_t d = 0; d < 3; ++d) std::copy(lattice.vectors[d].begin(), lattice.vectors[d].end(), box[d]);
    const bool periodic[3] = {true, true, true};
    const char* message = nullptr;
    const int status = vesin_neighbors(reinterpret_cast<const double(*)[3]>(positions.data()), positions.size() / 3,
                                       box, periodic, {VesinCPU, 0}, options, &list, &message);
    if (status != 0)
        throw Error(std::string("the neighbour search failed: ") + (message ? message : "no reason given"));
}

/// Scales the open directions to hold all atoms. The box is periodic for vesin; pairs through an open face are dropped
/// later, so its size along open directions matters only for speed.
Lattice enclose(std::array<Vec3, 3> vectors, const System& system, double radius, Vec3& origin) {
    origin = {0, 0, 0};
    const double n = static_cast<double>(system.atomic_numbers.size());
    for (std::size_t d = 0; d < 3; ++d) {
        if (system.periodic[d]) continue;
        const Vec3 axis = vectors[d];
        double low = INFINITY, high = -INFINITY;
        for (std::size_t k = 0; k < system.positions.size(); k += 3) {
            const double t = dot(axis, {system.positions[k], system.positions[k + 1], system.positions[k + 2]});
            low = std::min(low, t);
            high = std::max(high, t);
        }
        // A few atoms scattered over a huge range fold into a box with a bounded number of cells.
        const double length = std::min(high - low + 1.1 * radius, radius * (n + 3.0));
        for (std::size_t c = 0; c < 3; ++c) {
            origin[c] += (low - 0.05 * radius) * axis[c];
            vectors[d][c] = length * axis[c];
        }
    }
    return make_lattice(vectors);
}

/// Rows of atoms along a curve through cells of about half a cutoff (Morton's), from their fractional coordinates.
std::vector<std::int32_t> along_curve(const std::vector<Vec3>& fractional, const Vec3& heights, double cutoff) {
    const auto spread = [](std::uint64_t x) {  // ten bits to every third place
        x = (x | x << 16) & 0x30000ffULL;
        x = (x | x << 8) & 0x300f00fULL;
        x = (x | x << 4) & 0x30c30c3ULL;
        return (x | x << 2) & 0x9249249ULL;
    };
    std::vector<std::pair<std::uint64_t, std::int32_t>> keys;
    keys.reserve(fractional.size());
    Vec3 cells;
    for (std::size_t d = 0; d < 3; ++d) cells[d] = std::clamp(std::floor(2.0 * heights[d] / cutoff), 1.0, 1024.0);
    for (const Vec3& x : fractional) {
        std::uint64_t key = 0;
        for (std::size_t d = 0; d < 3; ++d) {
            const double cell = std::clamp((x[d] - std::floor(x[d])) * cells[d], 0.0, cells[d] - 1.0);
            key |= spread(static_cast<std::uint64_t>(cell)) << d;
        }
        keys.emplace_back(key, static_cast<std::int32_t>(keys.size()));
    }
    std::sort(keys.begin(), keys.end());
    std::vector<std::int32_t> order;
    order.reserve(keys.size());
    for (const auto& [key, atom] : keys) order.push_back(atom);
    return order;
}

struct Pair {
    std::int32_t j;
    std::array<std::int32_t, 3> shift;
    auto operator<=>(const Pair&) const = default;
};

}  // namespace

void NeighborList::update(const System& system, double cutoff, double skin) {
    if (!(cutoff > 0.0) || !(skin >= 0.0) || !std::isfinite(cutoff + skin)) {
        throw Error("the cutoff must be positive and the skin not negative, but they are " + number(cutoff) + " and " +
                    number(skin) + " Å");
    }
    check_positions(system);
    if (!is_current(system, cutoff, skin)) search(system, cutoff, skin);
    atomic_numbers_.resize(system.atomic_numbers.size());
    for (std::size_t i = 0; i < atomic_numbers_.size(); ++i) atomic_numbers_[i] = system.atomic_numbers[atom(i)];
    compute_edges(system);
}

bool NeighborList::is_current(const System& system, double cutoff, double skin) const {
    if (searched_positions_.empty() || searched_positions_.size() != system.positions.size()) return false;
    if (cutoff != cutoff_ || skin != skin_ || system.cell != cell_ || system.periodic != periodic_) return false;
    // Two atoms that each move by skin / 2 come closer by no more than the skin.
    const double limit = 0.25 * skin * skin;
    for (std::size_t k = 0; k < system.positions.size(); k += 3) {
        const double dx = system.positions[k] - searched_positions_[k];
        const double dy = system.positions[k + 1] - searched_positions_[k + 1];
        const double dz = system.positions[k + 2] - searched_positions_[k + 2];
        if (dx * dx + dy * dy + dz * dz > limit) return false;
    }
    return true;
}

void NeighborList::search(const System& system, double cutoff, double skin) {
    searched_positions_.clear();
    order_.clear();
    const std::size_t n = system.atomic_numbers.size();
    // The margin covers round-off in the check of who has moved how far.
    const double radius = (cutoff + skin) * (1.0 + 1e-9);
    std::array<Vec3, 3> vectors = search_vectors(system.cell, system.periodic);
    const Lattice cell = make_lattice(vectors);
    double images = 1.0;
    for (std::size_t d = 0; d < 3; ++d) {
        if (system.periodic[d]) images *= 2.0 * radius / cell.heights[d] + 1.0;
    }
    if (images > most_images) {
        throw Error("the cell is so small that each atom would see " + number(images) +
                    " images of every atom within the cutoff; are its vectors in Å?");
    }

    wrap_.assign(3 * n, 0.0);
    wrapped_.resize(3 * n);
    pair_first_.assign(n + 1, 0);
    pair_neighbor_.clear();
    pair_shift_.clear();
    ++builds_;
    if (n == 0) return;

    Vec3 origin;
    const Lattice lattice = enclose(vectors, system, radius, origin);
    std::vector<Vec3> fractional(n);  // in the system's order
    for (std::size_t i = 0; i < n; ++i) {
        const double* x = &system.positions[3 * i];
        const Vec3 from_origin = {x[0] - origin[0], x[1] - origin[1], x[2] - origin[2]};
        for (std::size_t d = 0; d < 3; ++d) fractional[i][d] = dot(lattice.reciprocal[d], from_origin);
    }
    if (order_wanted_ == Order::InSpace && n >= least_ordered)
        order_ = along_curve(fractional, lattice.heights, cutoff);
    std::vector<std::array<double, 3>> turns(n);  // whole lattice vectors taken off each atom
    for (std::size_t i = 0; i < n; ++i) {
        const double* x = &system.positions[3 * atom(i)];
        for (std::size_t d = 0; d < 3; ++d) {
            turns[i][d] = std::floor(fractional[atom(i)][d]);
            for (std::size_t c = 0; c < 3; ++c) wrap_[3 * i + c] += turns[i][d] * lattice.vectors[d][c];
        }
        for (std::size_t c = 0; c < 3; ++c) wrapped_[3 * i + c] = x[c] - wrap_[3 * i + c];
    }
    std::vector<double> in_box = wrapped_;  // relative to the origin: small numbers for vesin
    for (std::size_t k = 0; k < in_box.size(); ++k) in_box[k] -= origin[k % 3];

    VesinPairs found;
    run_vesin(in_box, lattice, safe_radius(radius, lattice.heights, n), found.list);

    // A pair is real when it joins the atoms themselves along open directions, not a copy that the box put there.
    const auto is_real = [&](std::size_t p) {
        const auto [i, j] = found.list.pairs[p];
        for (std::size_t d = 0; d < 3; ++d) {
            if (!system.periodic[d] && found.list.shifts[p][d] != turns[j][d] - turns[i][d]) return false;
        }
        return true;
    };
    for (std::size_t p = 0; p < found.list.length; ++p) {
        if (is_real(p)) ++pair_first_[found.list.pairs[p][0] + 1];
    }
    for (std::size_t i = 0; i < n; ++i) pair_first_[i + 1] += pair_first_[i];
    std::vector<Pair> pairs(static_cast<std::size_t>(pair_first_[n]));
    std::vector<std::int64_t> next(pair_first_.begin(), pair_first_.end() - 1);
    for (std::size_t p = 0; p < found.list.length; ++p) {
        if (!is_real(p)) continue;
        const auto& shift = found.list.shifts[p];
        pairs[static_cast<std::size_t>(next[found.list.pairs[p][0]]++)] = {
            static_cast<std::int32_t>(found.list.pairs[p][1]), {shift[0], shift[1], shift[2]}};
    }
    for (std::size_t i = 0; i < n; ++i) std::sort(pairs.begin() + pair_first_[i], pairs.begin() + pair_first_[i + 1]);

    pair_neighbor_.resize(pairs.size());
    pair_shift_.resize(3 * pairs.size());
    for (std::size_t p = 0; p < pairs.size(); ++p) {
        pair_neighbor_[p] = pairs[p].j;
        for (std::size_t c = 0; c < 3; ++c) {
            pair_shift_[3 * p + c] = pairs[p].shift[0] * lattice.vectors[0][c] +
                                     pairs[p].shift[1] * lattice.vectors[1][c] +
                                     pairs[p].shift[2] * lattice.vectors[2][c];
        }
    }
    cutoff_ = cutoff;
    skin_ = skin;
    cell_ = system.cell;
    periodic_ = system.periodic;
    searched_positions_ = system.positions;
}

void NeighborList::compute_edges(const System& system) {
    const std::size_t n = system.atomic_numbers.size();
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t c = 0; c < 3; ++c) wrapped_[3 * i + c] = system.positions[3 * atom(i) + c] - wrap_[3 * i + c];
    first_.assign(n + 1, 0);
    neighbor_.resize(pair_neighbor_.size());
    displacement_.resize(pair_shift_.size());
    const double cutoff2 = cutoff_ * cutoff_;
    std::size_t edge = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double* xi = &wrapped_[3 * i];
        for (auto p = static_cast<std::size_t>(pair_first_[i]); p < static_cast<std::size_t>(pair_first_[i + 1]); ++p) {
            const auto j = static_cast<std::size_t>(pair_neighbor_[p]);
            const double* xj = &wrapped_[3 * j];
            const double* shift = &pair_shift_[3 * p];
            const double x = xj[0] - xi[0] + shift[0];
            const double y = xj[1] - xi[1] + shift[1];
            const double z = xj[2] - xi[2] + shift[2];
            const double r2 = x * x + y * y + z * z;
            if (r2 >= cutoff2) continue;
            if (r2 < overlap * overlap) {
                throw Error(atom_name(system, atom(i)) + " and " + atom_name(system, atom(j)) + " overlap: they are " +
                            number(std::sqrt(r2)) + " Å apart");
            }
            neighbor_[edge] = pair_neighbor_[p];
            displacement_[3 * edge] = x;
            displacement_[3 * edge + 1] = y;
            displacement_[3 * edge + 2] = z;
            ++edge;
        }
        first_[i + 1] = static_cast<std::int64_t>(edge);
    }
    neighbor_.resize(edge);
    displacement_.resize(3 * edge);
}

void restore_order(Result& result, const std::vector<std::int32_t>& order, std::size_t begin) {
    if (order.empty()) return;
    const std::size_t rows = result.energies.size();
    for (std::vector<double>* values :
         {&result.energies, &result.forces, &result.virials, &result.centroid_virials, &result.features}) {
        const std::size_t width = values->size() / rows;
        if (width == 0) continue;
        const auto first = values->begin() + static_cast<std::ptrdiff_t>(begin * width);
        const std::vector<double> ordered(first, first + static_cast<std::ptrdiff_t>(order.size() * width));
        for (std::size_t i = 0; i < order.size(); ++i)
            std::copy_n(ordered.begin() + static_cast<std::ptrdiff_t>(i * width), width,
                        first + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(order[i]) * width));
    }
}

Graph NeighborList::graph() const {
    Graph graph;
    graph.owned = graph.total = static_cast<std::int64_t>(atomic_numbers_.size());
    graph.atomic_numbers = atomic_numbers_;
    graph.first = first_;
    graph.neighbor = neighbor_;
    graph.displacement = displacement_;
    return graph;
}

}  // namespace equipot
