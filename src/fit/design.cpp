// SPDX-License-Identifier: MIT
#include "fit/design.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "kokkos_kernels/design.hpp"
#include "kokkos_kernels/radial_function.hpp"
#include "kokkos_kernels/scratch.hpp"
#include "neighbors/neighbors.hpp"
#include "potential/engine_lock.hpp"

namespace equipot {

namespace {

Array filled(std::vector<std::int64_t> shape, double value) {
    std::size_t size = 1;
    for (const std::int64_t extent : shape) size *= static_cast<std::size_t>(extent);
    return {std::move(shape), std::vector<double>(size, value)};
}

Array identity(std::int64_t n) {
    Array eye = filled({n, n}, 0);
    for (std::int64_t i = 0; i < n; ++i) eye.data[static_cast<std::size_t>(i * n + i)] = 1;
    return eye;
}

/// A model whose radial functions are the radial basis itself, envelope included: its "channels" are the basis.
Model basis_alone(const Model& model) {
    Model alone;
    alone.species = model.species;
    alone.cutoff = model.cutoff;
    alone.channels = model.radial.size;
    alone.radial = model.radial;
    alone.embedding = filled({static_cast<std::int64_t>(model.species.size()), model.radial.size}, 1);
    Layer layer;
    layer.paths = {{0, 0, 0}};
    layer.up = {identity(model.radial.size)};
    layer.radial = {identity(model.radial.size)};
    alone.layers.push_back(std::move(layer));
    return alone;
}

void check(const Model& model, std::span<const Feature> features) {
    const auto refuse = [](const std::string& what) {
        throw Error("the design matrix of a linear fit needs a model with " + what);
    };
    if (model.layers.size() != 1) refuse("one layer, not " + std::to_string(model.layers.size()));
    const Layer& layer = model.layers[0];
    if (layer.radial.size() != 1)
        refuse("a linear radial map, not a network of " + std::to_string(layer.radial.size()));
    if (layer.density) refuse("no density term");
    if (layer.readout != Layer::Readout::Linear) refuse("a linear readout");
    if (features.empty()) throw Error("a linear fit needs at least one feature");
    std::set<std::array<int, 3>> seen;
    for (const Feature& f : features) {
        const auto order = static_cast<std::size_t>(f.order);
        const bool known = f.order >= 1 && f.order <= layer.correlation && order <= model.basis[0].size() &&
                           f.path >= 0 && f.path < model.basis[0][order - 1].paths && f.channel >= 0 &&
                           f.channel < model.channels;
        const std::string name = "product.0." + std::to_string(f.order) + "[:, " + std::to_string(f.path) + ", " +
                                 std::to_string(f.channel) + "]";
        if (!known) throw Error("the model has no coefficient " + name);
        if (f.order > 4) throw Error("features of a linear fit have order 4 at most, but " + name + " was asked for");
        if (!seen.insert({f.order, f.path, f.channel}).second) throw Error("the feature " + name + " is named twice");
    }
}

}  // namespace

struct Design::Impl {
    Impl(const Model& model, int head, std::span<const Feature> features);
    void add_paths(const Model& model, std::span<const Feature> features);
    void add_blocks(const Model& model, int head, std::span<const Feature> features);
    void fold_radial(const Model& model);

    Model alone;
    kernels::RadialFunction basis;
    kernels::DesignKernel kernel;
    kernels::DesignPlan plan{};
    std::map<int, std::int32_t> species_of;  // atomic number -> index
    std::map<std::pair<int, int>, int> path_of;
    std::vector<kernels::DesignPath> paths;
    std::vector<int> monomials, touched, block_paths;
    std::vector<double> values, radial, factors;
    std::vector<std::vector<int>> components;  // by path
    std::vector<kernels::DesignGroup> groups;
    std::vector<kernels::DesignBlock> blocks;
};

Design::Impl::Impl(const Model& model, int head, std::span<const Feature> features)
    : alone(basis_alone(model)), basis(alone, 0, model.radial.size, 0, false), kernel(kernels::make_design_kernel()) {
    for (std::size_t z = 0; z < model.species.size(); ++z) species_of[model.species[z]] = static_cast<std::int32_t>(z);
    add_paths(model, features);
    add_blocks(model, head, features);
    plan.l_max = model.l_max;
    plan.components = (model.l_max + 1) * (model.l_max + 1);
    plan.basis_size = model.radial.size;
    plan.features = static_cast<int>(features.size());
    plan.species = static_cast<int>(model.species.size());
    plan.block_count = static_cast<int>(blocks.size());
    fold_radial(model);
    for (const auto& block : blocks)
        plan.largest_slots = std::max(plan.largest_slots, block.path_end - block.path_begin);
    plan.paths = paths.data();
    plan.monomials = monomials.data();
    plan.values = values.data();
    plan.touched = touched.data();
    plan.block_paths = block_paths.data();
    plan.groups = groups.data();
    plan.blocks = blocks.data();
    plan.radial = radial.data();
    plan.factors = factors.data();
}

void Design::Impl::add_paths(const Model& model, std::span<const Feature> features) {
    std::set<std::pair<int, int>> wanted;
    for (const Feature& f : features) wanted.insert({f.order, f.path});
    for (const auto& [order, path] : wanted) {
        const ProductBasis& couplings = model.basis[0][static_cast<std::size_t>(order - 1)];
        const auto stride = static_cast<std::size_t>(order + 2);
        const int begin = static_cast<int>(values.size());
        std::set<int> used;
        for (std::size_t e = 0; e < couplings.value.size(); ++e) {
            const std::int32_t* row = couplings.index.data() + e * stride;
            if (row[1] != path) continue;
            for (int q = 0; q < 4; ++q) monomials.push_back(q < order ? row[2 + q] : -1);
            used.insert(row + 2, row + 2 + order);
            values.push_back(couplings.value[e]);
        }
        path_of[{order, path}] = static_cast<int>(paths.size());
        paths.push_back({order, begin, static_cast<int>(values.size())});
        components.emplace_back(used.begin(), used.end());
    }
}

void Design::Impl::add_blocks(const Model& model, int head, std::span<const Feature> features) {
    const Layer& layer = model.layers[0];
    const auto K = static_cast<std::size_t>(model.channels);
    const auto W = static_cast<std::size_t>(kernel.width);
    std::vector<std::vector<std::pair<int, int>>> by_channel(K);  // (path, feature), paths in order
    for (std::size_t f = 0; f < features.size(); ++f)
        by_channel[static_cast<std::size_t>(features[f].channel)].push_back(
            {path_of.at({features[f].order, features[f].path}), static_cast<int>(f)});
    for (std::size_t first = 0; first < K; first += W) {
        kernels::DesignBlock block{};
        block.path_begin = static_cast<int>(block_paths.size());
        block.group_begin = static_cast<int>(groups.size());
        std::map<int, int> slot_of;
        for (std::size_t k = first; k < std::min(first + W, K); ++k) {
            std::sort(by_channel[k].begin(), by_channel[k].end());
            for (const auto& [path, f] : by_channel[k]) slot_of.emplace(path, 0);
        }
        for (auto& [path, slot] : slot_of) {
            slot = static_cast<int>(block_paths.size()) - block.path_begin;
            block_paths.push_back(path);
        }
        for (std::size_t lane = 0; lane < W; ++lane) {
            const std::size_t k = first + lane;
            double factor = 0;
            for (std::size_t c = 0; k < K && c < K; ++c)
                factor += layer.out[0].data[k * K + c] * layer.readout0.data[static_cast<std::size_t>(head) * K + c];
            factors.push_back(factor * model.scale[static_cast<std::size_t>(head)]);
            if (k >= K) continue;
            for (std::size_t begin = 0; begin < by_channel[k].size(); begin += kernels::DesignGroup::size) {
                kernels::DesignGroup group{};
                group.lane = static_cast<int>(lane);
                std::set<int> used;
                for (std::size_t q = 0; q < kernels::DesignGroup::size; ++q) {
                    const bool there = begin + q < by_channel[k].size();
                    const auto [path, f] = by_channel[k][there ? begin + q : begin];
                    group.count += there ? 1 : 0;
                    group.slot[q] = slot_of.at(path);
                    group.feature[q] = f;
                    used.insert(components[static_cast<std::size_t>(path)].begin(),
                                components[static_cast<std::size_t>(path)].end());
                }
                group.touched_begin = static_cast<int>(touched.size());
                touched.insert(touched.end(), used.begin(), used.end());
                group.touched_end = static_cast<int>(touched.size());
                groups.push_back(group);
            }
        }
        block.path_end = static_cast<int>(block_paths.size());
        block.group_end = static_cast<int>(groups.size());
        blocks.push_back(block);
    }
}

/// radial[zi, zj, block, l, lane, n] = Σ_k radial.0[n, l k] u_zj,k mix.l[(zi), k, channel].
void Design::Impl::fold_radial(const Model& model) {
    const Layer& layer = model.layers[0];
    const auto K = static_cast<std::size_t>(model.channels), nz = model.species.size(),
               W = static_cast<std::size_t>(kernel.width);
    const auto N = static_cast<std::size_t>(model.radial.size), rows = layer.paths.size();
    std::vector<double> sender(nz * K, 0.0);
    for (std::size_t z = 0; z < nz; ++z)
        for (std::size_t k = 0; k < K; ++k)
            for (std::size_t c = 0; c < K; ++c)
                sender[z * K + c] += model.embedding.data[z * K + k] * layer.up[0].data[k * K + c];
    radial.assign(nz * nz * blocks.size() * rows * W * N, 0.0);
    for (std::size_t zi = 0; zi < nz; ++zi)
        for (std::size_t zj = 0; zj < nz; ++zj)
            for (std::size_t row = 0; row < rows; ++row) {
                const auto l = static_cast<std::size_t>(layer.paths[row][2]);
                const double* mix = layer.mix[l].data.data() + (layer.mixing_by_species ? zi * K * K : 0);
                for (std::size_t c = 0; c < K; ++c) {
                    const std::size_t block = c / W, lane = c % W;
                    double* T = radial.data() + ((((zi * nz + zj) * blocks.size() + block) * rows + l) * W + lane) * N;
                    for (std::size_t k = 0; k < K; ++k) {
                        const double w = sender[zj * K + k] * mix[k * K + c];
                        if (w == 0) continue;
                        for (std::size_t n = 0; n < N; ++n)
                            T[n] += layer.radial[0].data[n * rows * K + row * K + k] * w;
                    }
                }
            }
}

Design::Design(const Model& model, int head, std::span<const Feature> features) {
    check(model, features);
    if (head < 0 || static_cast<std::size_t>(head) >= model.heads.size()) throw Error("the model has no such head");
    ensure_kokkos();
    impl_ = std::make_unique<Impl>(model, head, features);
}
Design::~Design() = default;
Design::Design(Design&&) noexcept = default;
Design& Design::operator=(Design&&) noexcept = default;

std::int64_t Design::columns() const { return std::int64_t{impl_->plan.species} * impl_->plan.features; }

namespace {

/// Calls f(task, worker's scratch) for all tasks, each by the next thread that is free.
template <class F>
void for_tasks(std::size_t count, F f) {
    std::atomic<std::size_t> next{0};
    std::vector<std::exception_ptr> errors(count);
    const int threads = std::max(1, Kokkos::DefaultHostExecutionSpace().concurrency());
    Kokkos::parallel_for("equipot::design", Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, threads),
                         [&](int) {
                             kernels::Scratch<double> scratch;
                             for (std::size_t task = next++; task < count; task = next++) try {
                                     f(task, scratch);
                                 } catch (...) {
                                     errors[task] = std::current_exception();
                                 }
                         });
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
}

/// What the kernel reads of one structure.
struct Prepared {
    std::vector<std::int32_t> species, neighbor;
    std::vector<std::int64_t> first;
    std::vector<double> displacement, basis;
    std::int64_t most_edges = 0;
};

}  // namespace

void Design::compute(std::span<const System> systems, double* X, std::int64_t stride) const {
    const std::scoped_lock lock(engine_mutex());
    const Impl& impl = *impl_;
    const auto N = static_cast<std::size_t>(impl.plan.basis_size);
    std::vector<Prepared> prepared(systems.size());
    for_tasks(systems.size(), [&](std::size_t s, kernels::Scratch<double>&) {
        const System& system = systems[s];
        Prepared& p = prepared[s];
        const auto fail = [&](const std::string& what) {
            throw Error(systems.size() == 1 ? what : "structure " + std::to_string(s) + ": " + what);
        };
        for (const std::int32_t z : system.atomic_numbers) {
            const auto found = impl.species_of.find(z);
            if (found == impl.species_of.end()) fail("the model lacks the element " + element_symbol(z));
            p.species.push_back(found->second);
        }
        NeighborList list;
        try {
            list.update(system, impl.alone.cutoff);
        } catch (const Error& error) {
            fail(error.what());
        }
        const Graph graph = list.graph();
        p.first.assign(graph.first.begin(), graph.first.end());
        p.neighbor.assign(graph.neighbor.begin(), graph.neighbor.end());
        p.displacement.assign(graph.displacement.begin(), graph.displacement.end());
        p.basis.resize(p.neighbor.size() * 2 * N);
        kernels::RadialScratch radial;
        for (std::size_t i = 0; i + 1 < p.first.size(); ++i) {
            p.most_edges = std::max(p.most_edges, p.first[i + 1] - p.first[i]);
            for (auto e = static_cast<std::size_t>(p.first[i]); e < static_cast<std::size_t>(p.first[i + 1]); ++e) {
                const double* d = p.displacement.data() + 3 * e;
                const double r = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
                double* out = p.basis.data() + e * 2 * N;
                const auto zj = p.species[static_cast<std::size_t>(p.neighbor[e])];
                impl.basis.evaluate(p.species[i], zj, r, out, out + N, radial);
            }
        }
    });
    std::vector<std::int64_t> place(systems.size() + 1, 0);
    for (std::size_t s = 0; s < systems.size(); ++s)
        place[s + 1] = place[s] + rows(static_cast<std::int64_t>(prepared[s].species.size()));
    if (place.back() > stride) throw Error("the design matrix has too few rows for its structures");

    const std::size_t blocks = impl.blocks.size();
    for_tasks(systems.size() * blocks, [&](std::size_t task, kernels::Scratch<double>& scratch) {
        const std::size_t s = task / blocks;
        const Prepared& p = prepared[s];
        const kernels::DesignStructure structure{static_cast<std::int64_t>(p.species.size()),
                                                 p.species.data(),
                                                 p.first.data(),
                                                 p.neighbor.data(),
                                                 p.displacement.data(),
                                                 p.basis.data(),
                                                 p.most_edges};
        scratch.reserve(kernels::design_scratch(impl.plan, p.most_edges, impl.kernel.width));
        impl.kernel.run(impl.plan, static_cast<int>(task % blocks), structure, X + place[s], stride, scratch.data());
    });
}

}  // namespace equipot
