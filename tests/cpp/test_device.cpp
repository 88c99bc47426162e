// The device pipeline on the host's threads against the CPU pipeline, and what only devices have: warps, teams of
// several threads, exchange on their memory.
// SPDX-License-Identifier: MIT
#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "kokkos_kernels/device_evaluator.hpp"
#include "neighbors/neighbors.hpp"
#include "potential/potential.hpp"
#include "random_model.hpp"

using namespace equipot;
using namespace equipot::kernels;
using equipot::test::architectures;
using equipot::test::ModelOptions;
using equipot::test::random_model;

namespace {

constexpr Properties everything{.virials = true, .centroid_virials = true, .features = true};

System crowd(unsigned seed, int atoms = 14, double edge = 6.0) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<double> place(0, 1);
    System system;
    system.cell = {edge, 0, 0, 0.7, edge, 0, -0.4, 0.3, edge};
    system.periodic = {true, true, true};
    std::vector<std::array<double, 3>> taken;
    // Every image counts, so the distance is that to the nearest of them; the cell is not far from a cube.
    while (static_cast<int>(taken.size()) < atoms) {
        const std::array<double, 3> f{place(engine), place(engine), place(engine)};
        bool free = true;
        for (const auto& other : taken) {
            double x[3] = {0, 0, 0};
            for (std::size_t v = 0; v < 3; ++v) {
                const double d = f[v] - other[v] - std::round(f[v] - other[v]);
                for (std::size_t c = 0; c < 3; ++c) x[c] += d * system.cell[3 * v + c];
            }
            free = free && x[0] * x[0] + x[1] * x[1] + x[2] * x[2] > 1.2;
        }
        if (!free) continue;
        taken.push_back(f);
        system.atomic_numbers.push_back(taken.size() % 3 == 0 ? 8 : 1);
        for (std::size_t c = 0; c < 3; ++c)
            system.positions.push_back(f[0] * system.cell[c] + f[1] * system.cell[3 + c] + f[2] * system.cell[6 + c]);
    }
    return system;
}

/// Those of the CPU's tests, and what is laid out otherwise on a device: odd numbers of channels, large degrees.
std::vector<ModelOptions> architectures_of_devices() {
    std::vector<ModelOptions> all = architectures();
    all.insert(all.end(), {{.layers = 1, .channels = 40, .l_max = 4, .density = true},
                           {.layers = 1, .channels = 3, .l_max = 6, .zbl = false},
                           {.layers = 2, .channels = 33, .l_max = 3, .hidden = 0, .skip = false},
                           {.layers = 3, .channels = 5, .l_max = 4, .hidden = 2, .zbl = false}});
    return all;
}

double largest(const std::vector<double>& a) {
    double most = 0;
    for (const double x : a) most = std::max(most, std::abs(x));
    return most;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
    REQUIRE(a.size() == b.size());
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
    return most;
}

/// All results agree to `relative` of the largest number of each kind.
void check_same(const Result& a, const Result& b, double relative) {
    CHECK(a.energy == Approx(b.energy).epsilon(relative));
    CHECK(distance(a.energies, b.energies) <= relative * largest(b.energies));
    CHECK(distance(a.forces, b.forces) <= relative * largest(b.forces));
    const double virial = std::max(largest(b.virials), largest({b.virial.begin(), b.virial.end()}));
    CHECK(distance({a.virial.begin(), a.virial.end()}, {b.virial.begin(), b.virial.end()}) <= relative * virial);
    CHECK(distance(a.virials, b.virials) <= relative * virial);
    CHECK(distance(a.centroid_virials, b.centroid_virials) <= relative * virial);
    CHECK(distance(a.features, b.features) <= relative * largest(b.features));
}

}  // namespace

TEST_CASE("the device pipeline gives what the CPU pipeline gives") {
    for (const ModelOptions& options : architectures_of_devices()) {
        CAPTURE(options.layers, options.channels, options.l_max, options.hidden);
        for (const Precision precision : {Precision::Double, Precision::Mixed}) {
            Potential cpu(random_model(options), {.head = "second", .precision = precision}),
                device(random_model(options), {.head = "second", .precision = precision, .device = "host"});
            for (const unsigned seed : {1u, 2u}) {
                Result a, b;
                cpu.compute(crowd(seed), everything, b);
                device.compute(crowd(seed), everything, a);
                // Double: sums in another order. Float: a hundred roundings of 6e-8.
                check_same(a, b, precision == Precision::Double ? 1e-10 : 1e-5);
            }
        }
    }
}

TEST_CASE("halves of warps add up to the sums of all values") {
    // All 32 lanes at once: a value is what each of them holds.
    struct Lanes {
        std::array<double, Gpu::warp> of{};
        Lanes operator+(const Lanes& other) const {
            Lanes sum;
            for (std::size_t i = 0; i < of.size(); ++i) sum.of[i] = of[i] + other.of[i];
            return sum;
        }
    };
    struct InLockstep {
        Lanes choose(int bit, const Lanes& without, const Lanes& with) const {
            Lanes kept;
            for (std::size_t i = 0; i < kept.of.size(); ++i)
                kept.of[i] = (static_cast<int>(i) & bit) != 0 ? with.of[i] : without.of[i];
            return kept;
        }
        Lanes exchange(const Lanes& x, int bit) const {
            Lanes got;
            for (std::size_t i = 0; i < got.of.size(); ++i) got.of[i] = x.of[i ^ static_cast<std::size_t>(bit)];
            return got;
        }
    };
    const auto check = []<int n>() {
        Lanes values[n];
        std::vector<double> sums(n, 0.0);
        for (int v = 0; v < n; ++v)
            for (int i = 0; i < Gpu::warp; ++i) {
                // Integers: sums are exact in any order.
                values[v].of[static_cast<std::size_t>(i)] = 1000 * v + i * i;
                sums[static_cast<std::size_t>(v)] += 1000 * v + i * i;
            }
        warp_sums<n>(InLockstep{}, values);
        for (int i = 0; i < Gpu::warp; ++i)
            CHECK(values[0].of[static_cast<std::size_t>(i)] == sums[static_cast<std::size_t>(i * n / Gpu::warp)]);
    };
    check.operator()<1>();
    check.operator()<2>();
    check.operator()<4>();
    check.operator()<8>();
    check.operator()<16>();
    check.operator()<32>();
}

TEST_CASE("mixing by lanes of one number, any rows of any number of rows") {
    using P = Pack<double, 1, Gpu>;
    constexpr int channels = 32, most = 19;
    std::mt19937 engine(3);
    std::normal_distribution<double> normal;
    std::vector<double> W(channels * channels), strips(mix_size<double>(channels)), in(most * channels);
    for (double& w : W) w = normal(engine);
    for (double& x : in) x = normal(engine);
    for (int i = 0; i < channels; ++i)
        for (int j = 0; j < channels; ++j)
            strips[static_cast<std::size_t>(mix_index<double>(channels, i, j))] =
                W[static_cast<std::size_t>(i * channels + j)];
    for (int rows = 0; rows <= most; ++rows)
        for (const int from : {0, 8}) {
            std::vector<double> out(most * channels, 1.0);
            for (int lane = 0; lane < 4; ++lane)
                mix<P, true>(Blocks{lane, channels, 4}, channels, rows, Rows<const double>{in.data(), 1, channels},
                             strips.data(), Rows<double>{out.data(), 1, channels}, from);
            double worst = 0;
            for (int r = 0; r < most; ++r)
                for (int j = 0; j < channels; ++j) {
                    double expected = 1;
                    for (int i = 0; i < channels && r >= from && r < rows; ++i)
                        expected += in[static_cast<std::size_t>(r * channels + i)] *
                                    W[static_cast<std::size_t>(i * channels + j)];
                    worst = std::max(worst, std::abs(out[static_cast<std::size_t>(r * channels + j)] - expected));
                }
            CHECK(worst < 1e-12);  // sums of 32 products of size 1
        }
}

TEST_CASE("threads of a team share channels and atoms as one thread would do it all") {
    ensure_kokkos();
    using Space = Kokkos::DefaultHostExecutionSpace;
    using Pipeline = DevicePipeline<Space, double>;
    for (const ModelOptions& options : architectures_of_devices()) {
        CAPTURE(options.layers, options.channels, options.l_max, options.hidden);
        const Model model = random_model(options);
        const System system = crowd(4);
        NeighborList list;
        list.update(system, model.cutoff, 0.3);  // and some edges beyond the cutoff
        const Graph graph = list.graph();
        std::vector<std::int32_t> species;
        for (const std::int32_t z : system.atomic_numbers) species.push_back(z == 8 ? 1 : 0);

        Plan<double> plan;
        prepare_plan(plan, model, 1, {0, 1}, Gpu::warp, 400);
        const DevicePlan<Space, double> weights(plan);
        const auto n = static_cast<std::size_t>(graph.owned);
        const auto evaluate = [&](Pipeline::Threads threads) {
            Pipeline pipeline(weights, Space(), threads);
            Pipeline::Graph on_device{graph.owned,
                                      graph.total,
                                      {species.data(), species.size()},
                                      {graph.first.data(), graph.first.size()},
                                      {graph.neighbor.data(), graph.neighbor.size()},
                                      {graph.displacement.data(), graph.neighbor.size()}};
            const auto width = static_cast<std::size_t>(pipeline.feature_width());
            Pipeline::Output output;
            output.energies = Pipeline::Array<double>("energies", n);
            output.totals = Pipeline::Array<double>("totals", 10);
            output.too_close = Pipeline::Array<int>("too close", 1);
            output.forces = Pipeline::Vectors("forces", n);
            output.virials = Pipeline::Tensors("virials", n);
            output.centroid = Pipeline::Tensors("centroid", n);
            output.features = decltype(output.features)("features", n, width);
            NoExchange none;
            pipeline.compute(on_device, none, everything, output);
            Space().fence();
            Result result;
            const auto take = [](const auto& view) {
                return std::vector<double>(view.data(), view.data() + view.size());
            };
            result.energy = output.totals(0);
            for (std::size_t c = 0; c < 9; ++c) result.virial[c] = output.totals(c + 1);
            result.energies = take(output.energies);
            result.forces = take(output.forces);
            result.virials = take(output.virials);
            result.centroid_virials = take(output.centroid);
            result.features = take(output.features);
            CHECK(output.too_close(0) == 0);
            CHECK(pipeline.bytes_per_atom(30, everything) > 0);
            return result;
        };
        const Result alone = evaluate({1, 1});
        // A host's teams have as many threads as its pool: where that is one, only groups of one are left.
        const int pool = Space().concurrency();
        if (pool >= 2) check_same(evaluate({2, 1}), alone, 1e-12);
        if (pool >= 2) check_same(evaluate({1, 2}), alone, 1e-12);
        if (pool >= 4) check_same(evaluate({2, 2}), alone, 1e-12);
        if (pool >= 4) check_same(evaluate({4, 1}), alone, 1e-12);
        if (pool >= 3) check_same(evaluate({1, 3}), alone, 1e-12);
    }
}

TEST_CASE("what a device cannot do is said in words") {
    CHECK_THROWS_WITH(Potential(random_model({}), {.head = "first", .device = "abacus"}),
                      Catch::Contains("\"host\", not \"abacus\""));
    CHECK_THROWS_WITH(Potential(random_model({}), {.head = "first", .radial = Radial::Exact, .device = "host"}),
                      Catch::Contains("exact radial functions are for the CPU"));
#if !defined(KOKKOS_ENABLE_CUDA) && !defined(KOKKOS_ENABLE_HIP)
    for (const char* device : {"gpu", "cuda", "hip"})
        CHECK_THROWS_WITH(Potential(random_model({}), {.head = "first", .device = device}),
                          Catch::Contains("not in this build"));
#endif
    // Closer than the radial tables begin, and at no distance at all: an error, and nothing wrong afterwards.
    Potential potential(random_model({}), {.head = "first", .device = "host"});
    System pair;
    pair.atomic_numbers = {1, 8};
    Result result;
    for (const double r : {0.4, 0.499999}) {
        pair.positions = {0, 0, 0, r, 0, 0};
        CHECK_THROWS_WITH(potential.compute(pair, {}, result), Catch::Contains("0.5 Å"));
    }
    pair.positions[3] = 0.500001;
    potential.compute(pair, {}, result);
    CHECK(std::isfinite(result.energy));
    CHECK(potential.device_bytes_per_atom(40) > 0);
}

TEST_CASE("who has atoms on the device gets at the pipeline") {
    using Space = Kokkos::DefaultHostExecutionSpace;
    Potential potential(random_model({}), {.head = "first", .device = "host"});
    auto& evaluator = dynamic_cast<DeviceEvaluator<Space, double>&>(potential.evaluator());
    CHECK(evaluator.pipeline() == nullptr);
    const std::vector<std::int32_t> numbers{8};
    CHECK(potential.prepare(numbers) < 1e-6);
    CHECK(potential.prepared_species() == numbers);
    REQUIRE(evaluator.pipeline() != nullptr);
    CHECK(evaluator.pipeline()->exchange_width() == potential.exchange_width());
    CHECK(evaluator.pipeline()->feature_width() == potential.feature_width());
}

TEST_CASE("a device answers for what fails on it, not for an exchange that fails") {
    using Space = Kokkos::DefaultHostExecutionSpace;
    using Evaluator = DeviceEvaluator<Space, double>;
    struct Lost : std::runtime_error {
        using std::runtime_error::runtime_error;
    };
    struct Broken final : Exchange {
        bool breaks_forward;
        explicit Broken(bool forwards) : breaks_forward(forwards) {}
        void move(bool is_forward) const {
            if (is_forward == breaks_forward) throw Lost("the network is gone");
        }
        void forward(double*, int) override { move(true); }
        void reverse(double*, int) override { move(false); }
        void forward(float*, int) override { move(true); }
        void reverse(float*, int) override { move(false); }
    };

    Potential potential(random_model({.layers = 2}), {.head = "first", .device = "host"});
    const System system = crowd(4);
    NeighborList list;
    list.update(system, potential.cutoff());
    Result good, result;
    potential.compute(system, {}, good);

    // From the host, and with atoms that are on the device already.
    auto& evaluator = dynamic_cast<Evaluator&>(potential.evaluator());
    const Graph graph = list.graph();
    std::vector<std::int32_t> species;
    for (const std::int32_t z : system.atomic_numbers) species.push_back(z == 8 ? 1 : 0);
    DevicePipeline<Space, double>::Graph there{graph.owned,
                                               graph.total,
                                               {species.data(), species.size()},
                                               {graph.first.data(), graph.first.size()},
                                               {graph.neighbor.data(), graph.neighbor.size()},
                                               {graph.displacement.data(), graph.neighbor.size()}};
    for (const bool forwards : {true, false}) {
        Broken broken(forwards);
        CHECK_THROWS_AS(potential.compute(graph, broken, {}, result), Lost);
        CHECK_THROWS_AS(evaluator.run(there, broken, {}, result), Lost);
    }
    NoExchange none;
    evaluator.run(there, none, {}, result);
    CHECK(result.energy == Approx(good.energy).epsilon(1e-13));

    // More atoms than any machine has memory for.
    there.owned = there.total = std::int64_t{1} << 50;
    CHECK_THROWS_WITH(evaluator.run(there, none, {}, result),
                      Catch::StartsWith("the device failed on 1125899906842624 atoms, which need about"));
}
