// Reading, checking and writing model files (FORMAT.md). Every check names the file, the key and what was expected.
// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "model/card.hpp"
#include "model/model.hpp"
#include "model/safetensors.hpp"
#include "model/weights.hpp"

namespace equipot {

namespace {

using nlohmann::json;

constexpr int format_version = 1;
// Bounds of what the kernels are made for; a file beyond them is refused rather than half understood.
constexpr int max_channels = 4096, max_l = 6, max_hidden_l = 3, max_correlation = 4, max_layers = 16, max_basis = 1024;
constexpr int max_coupled_l = 4;  // of the density, from features with l > 0
constexpr int max_readout = 4096, max_nesting = 100;

std::string shape_text(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + "]";
}

/// Takes typed, checked pieces out of a container; every failure is one sentence that names the file.
class Reader {
public:
    Reader(Container container, std::string name) : container_(std::move(container)), name_(std::move(name)) {}

    [[noreturn]] void fail(const std::string& what) const { throw Error("model file '" + name_ + "': " + what); }

    const json& at(const json& object, const std::string& key) const {
        if (!object.is_object() || !object.contains(key)) fail("the key '" + key + "' is missing");
        return object.at(key);
    }

    template <class T>
    T get(const json& object, const std::string& key) const {
        try {
            return at(object, key).get<T>();
        } catch (const json::exception&) {
            fail("the key '" + key + "' has the wrong type");
        }
    }

    int integer(const json& object, const std::string& key, int low, int high) const {
        const json& value = at(object, key);
        if (!value.is_number_integer()) fail("the key '" + key + "' is not an integer");
        const auto number = value.get<std::int64_t>();
        if (number < low || number > high)
            fail("'" + key + "' is " + std::to_string(number) + ", outside " + std::to_string(low) + ".." +
                 std::to_string(high));
        return static_cast<int>(number);
    }

    double number(const json& object, const std::string& key) const {
        const auto value = get<double>(object, key);
        if (!std::isfinite(value)) fail("'" + key + "' is not a finite number");
        return value;
    }

    bool has(const std::string& key) const { return container_.arrays.count(key) > 0; }

    /// Negative extents in `shape` match anything.
    Array take(const std::string& key, const std::vector<std::int64_t>& shape) {
        const auto found = container_.arrays.find(key);
        if (found == container_.arrays.end()) fail("the array '" + key + "' is missing");
        const Array& array = found->second;
        bool fits = array.shape.size() == shape.size();
        for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] < 0 || shape[i] == array.shape[i];
        if (!fits) fail("the array '" + key + "' has shape " + shape_text(array.shape) + ", not " + shape_text(shape));
        if (!std::all_of(array.data.begin(), array.data.end(), [](double x) { return std::isfinite(x); }))
            fail("the array '" + key + "' contains NaN or infinity");
        Array taken = std::move(found->second);
        container_.arrays.erase(found);
        return taken;
    }

    /// Of a layer, nothing may be left over: then description and arrays are not of one model.
    void check_all_taken() const {
        for (const auto& entry : container_.arrays)
            if (entry.first.rfind("layer.", 0) == 0)
                fail("it has the array '" + entry.first + "', which its description does not speak of");
    }

    std::vector<double> take_vector(const std::string& key, std::int64_t size) { return take(key, {size}).data; }

    IntegerArray take_integers(const std::string& key) {
        const auto found = container_.integers.find(key);
        if (found == container_.integers.end()) fail("the array '" + key + "' is missing");
        return std::move(found->second);
    }

    bool has_integers(const std::string& key) const { return container_.integers.count(key) > 0; }

    /// A network: arrays prefix.0, prefix.1, … whose widths chain from `inputs` to `outputs`.
    std::vector<Array> take_network(const std::string& prefix, std::int64_t inputs, std::int64_t outputs) {
        std::vector<Array> network;
        std::int64_t width = inputs;
        for (int i = 0; has(prefix + "." + std::to_string(i)); ++i) {
            network.push_back(take(prefix + "." + std::to_string(i), {width, -1}));
            width = network.back().shape[1];
        }
        if (network.empty()) fail("the array '" + prefix + ".0' is missing");
        if (width != outputs)
            fail("the network '" + prefix + "' ends in " + std::to_string(width) + " outputs, not " +
                 std::to_string(outputs));
        return network;
    }

private:
    Container container_;
    std::string name_;
};

/// Numbers with a fraction, or too large for an int, would be cut down to something else.
bool is_small_integer(const json& value) {
    return value.is_number_integer() && value.get<std::int64_t>() >= 0 && value.get<std::int64_t>() <= 1000;
}

RadialBasis read_radial(Reader& reader, const json& text, std::int64_t species) {
    RadialBasis radial;
    const auto kind = reader.get<std::string>(text, "basis");
    radial.size = reader.integer(text, "size", 1, max_basis);
    radial.envelope = reader.integer(text, "envelope", 1, 64);
    const auto on = reader.get<std::string>(text, "envelope_on");
    if (on != "basis" && on != "weights") reader.fail("'envelope_on' is '" + on + "', not 'basis' or 'weights'");
    radial.envelope_on_basis = on == "basis";
    if (kind == "bessel") {
        radial.kind = RadialBasis::Kind::Bessel;
        radial.prefactor = reader.number(text, "prefactor");
        radial.points = reader.take_vector("radial.frequencies", radial.size);
    } else if (kind == "gaussian") {
        radial.kind = RadialBasis::Kind::Gaussian;
        radial.coefficient = reader.number(text, "coefficient");
        radial.points = reader.take_vector("radial.centers", radial.size);
    } else if (kind == "chebyshev") {
        radial.kind = RadialBasis::Kind::Chebyshev;
    } else {
        reader.fail("the radial basis '" + kind + "' is unknown (bessel, gaussian, chebyshev)");
    }
    const json& transform = reader.at(text, "transform");
    const auto type = reader.get<std::string>(transform, "type");
    if (type == "agnesi") {
        radial.transform = RadialBasis::Transform::Agnesi;
        radial.a = reader.number(transform, "a");
        radial.p = reader.number(transform, "p");
        radial.q = reader.number(transform, "q");
    } else if (type == "soft") {
        radial.transform = RadialBasis::Transform::Soft;
        radial.alpha = reader.number(transform, "alpha");
    } else if (type != "none") {
        reader.fail("the distance transform '" + type + "' is unknown (none, agnesi, soft)");
    }
    if (radial.transform != RadialBasis::Transform::None) {
        radial.radii = reader.take_vector("radial.transform.radii", species);
        for (const double r : radial.radii)
            if (r <= 0) reader.fail("'radial.transform.radii' holds a radius that is not positive");
    }
    return radial;
}

std::vector<std::vector<ProductBasis>> read_basis(Reader& reader, int l_max, int hidden_max, int correlation) {
    const int variables = (l_max + 1) * (l_max + 1);
    std::vector<std::vector<ProductBasis>> basis(static_cast<std::size_t>(hidden_max + 1));
    for (int L = 0; L <= hidden_max; ++L) {
        for (int order = 1; order <= correlation; ++order) {
            const std::string key = "basis." + std::to_string(L) + "." + std::to_string(order);
            ProductBasis product;
            product.order = order;
            if (reader.has_integers(key + ".index")) {
                IntegerArray index = reader.take_integers(key + ".index");
                if (index.shape.size() != 2 || index.shape[1] != order + 2)
                    reader.fail("the array '" + key + ".index' has shape " + shape_text(index.shape));
                product.value = reader.take_vector(key + ".value", index.shape[0]);
                product.index = std::move(index.data);
                const auto stride = static_cast<std::size_t>(order + 2);
                for (std::size_t e = 0; e < product.value.size(); ++e) {
                    const std::int32_t* row = product.index.data() + e * stride;
                    bool valid = row[0] >= 0 && row[0] <= 2 * L && row[1] >= 0 && row[1] < (1 << 20);
                    for (int v = 0; v < order; ++v) {
                        valid = valid && row[2 + v] >= 0 && row[2 + v] < variables;
                        valid = valid && (v == 0 || row[1 + v] <= row[2 + v]);
                    }
                    if (!valid) reader.fail("row " + std::to_string(e) + " of '" + key + ".index' is out of range");
                    product.paths = std::max(product.paths, row[1] + 1);
                }
            } else if (reader.has(key + ".value")) {
                reader.fail("the array '" + key + ".index' is missing");
            }
            basis[static_cast<std::size_t>(L)].push_back(std::move(product));
        }
    }
    return basis;
}

Layer read_layer(Reader& reader, const json& text, int t, const Model& model, int expected_in) {
    const std::string prefix = "layer." + std::to_string(t) + ".";
    const std::int64_t K = model.channels;
    const auto nz = static_cast<std::int64_t>(model.species.size());
    const auto heads = static_cast<std::int64_t>(model.heads.size());
    Layer layer;
    layer.hidden_in = reader.integer(text, "hidden_in", 0, max_hidden_l);
    layer.hidden_out = reader.integer(text, "hidden_out", 0, std::min(max_hidden_l, model.l_max));
    layer.correlation = reader.integer(text, "correlation", 1, max_correlation);
    if (layer.hidden_in != expected_in)
        reader.fail("layer " + std::to_string(t) + " takes features up to l = " + std::to_string(layer.hidden_in) +
                    ", the one before gives l = " + std::to_string(expected_in));
    const auto mixing = reader.get<std::string>(text, "mixing");
    if (mixing != "shared" && mixing != "species")
        reader.fail("'mixing' is '" + mixing + "', not 'shared' or 'species'");
    layer.mixing_by_species = mixing == "species";
    layer.density = reader.get<bool>(text, "density");
    layer.skip = reader.get<bool>(text, "skip");
    const auto readout = reader.get<std::string>(text, "readout");
    if (readout == "linear")
        layer.readout = Layer::Readout::Linear;
    else if (readout == "mlp")
        layer.readout = Layer::Readout::Mlp;
    else if (readout != "none")
        reader.fail("the readout '" + readout + "' is unknown (none, linear, mlp)");

    for (const json& path : reader.at(text, "paths"))
        if (!path.is_array() || path.size() != 3 || !std::all_of(path.begin(), path.end(), is_small_integer))
            reader.fail("'paths' of layer " + std::to_string(t) + " are not lists of three small integers");
    layer.paths = reader.get<std::vector<Path>>(text, "paths");
    std::vector<std::int64_t> paths_into(static_cast<std::size_t>(model.l_max + 1), 0);
    int last = 0;
    std::set<Path> seen;
    for (const auto& [l1, l2, l3] : layer.paths) {
        const bool valid = l1 >= 0 && l1 <= layer.hidden_in && l2 >= 0 && l2 <= model.l_max && l3 >= last &&
                           l3 <= model.l_max && (l1 + l2 + l3) % 2 == 0 && l3 <= l1 + l2 && l3 >= std::abs(l1 - l2) &&
                           (l1 == 0 || l3 <= max_coupled_l);
        if (!valid || !seen.insert({l1, l2, l3}).second)
            reader.fail("layer " + std::to_string(t) + " has an impossible, unsorted or repeated path (" +
                        std::to_string(l1) + ", " + std::to_string(l2) + ", " + std::to_string(l3) + ")");
        last = l3;
        ++paths_into[static_cast<std::size_t>(l3)];
    }
    for (int l = 0; l <= model.l_max; ++l)
        if (paths_into[static_cast<std::size_t>(l)] == 0)
            reader.fail("layer " + std::to_string(t) + " has no path into l = " + std::to_string(l));

    for (int l = 0; l <= layer.hidden_in; ++l)
        layer.up.push_back(reader.take(prefix + "up." + std::to_string(l), {K, K}));
    layer.radial =
        reader.take_network(prefix + "radial", model.radial.size, static_cast<std::int64_t>(layer.paths.size()) * K);
    if (layer.density) layer.density_net = reader.take_network(prefix + "density", model.radial.size, 1);
    for (int l = 0; l <= model.l_max; ++l) {
        const std::int64_t rows = paths_into[static_cast<std::size_t>(l)] * K;
        const std::string key = prefix + "mix." + std::to_string(l);
        layer.mix.push_back(layer.mixing_by_species ? reader.take(key, {nz, rows, K}) : reader.take(key, {rows, K}));
    }
    for (int L = 0; L <= layer.hidden_out; ++L) {
        std::vector<Array> weights;
        for (int order = 1; order <= layer.correlation; ++order) {
            const ProductBasis& basis = model.basis[static_cast<std::size_t>(L)][static_cast<std::size_t>(order - 1)];
            const std::string key = prefix + "product." + std::to_string(L) + "." + std::to_string(order);
            if (basis.paths == 0 && reader.has(key))
                reader.fail("the array '" + key + "' has no couplings: 'basis." + std::to_string(L) + "." +
                            std::to_string(order) + "' is missing");
            weights.push_back(basis.paths > 0 ? reader.take(key, {nz, basis.paths, K}) : Array{});
        }
        layer.product.push_back(std::move(weights));
        layer.out.push_back(reader.take(prefix + "out." + std::to_string(L), {K, K}));
    }
    if (layer.skip)
        for (int L = 0; L <= std::min(layer.hidden_in, layer.hidden_out); ++L)
            layer.skip_weights.push_back(reader.take(prefix + "skip." + std::to_string(L), {nz, K, K}));
    if (layer.readout == Layer::Readout::Linear) layer.readout0 = reader.take(prefix + "readout.0", {heads, K});
    if (layer.readout == Layer::Readout::Mlp) {
        layer.readout0 = reader.take(prefix + "readout.0", {heads, K, -1});
        if (layer.readout0.shape[2] < 1 || layer.readout0.shape[2] > max_readout)
            reader.fail("the array '" + prefix + "readout.0' has shape " + shape_text(layer.readout0.shape) +
                        ", whose last number is outside 1.." + std::to_string(max_readout));
        layer.readout1 = reader.take(prefix + "readout.1", {heads, layer.readout0.shape[2]});
    }
    return layer;
}

Model build_model(Reader& reader, const json& text) {
    Model model;
    for (const json& z : reader.at(text, "species"))
        if (!is_small_integer(z)) reader.fail("'species' holds " + z.dump() + ", which is not an atomic number");
    model.species = reader.get<std::vector<int>>(text, "species");
    if (model.species.empty()) reader.fail("it lists no species");
    for (const int z : model.species)
        if (z < 1 || z > 118 || std::count(model.species.begin(), model.species.end(), z) != 1)
            reader.fail("'species' holds " + std::to_string(z) + ", which is repeated or not an atomic number");
    model.cutoff = reader.number(text, "cutoff");
    if (model.cutoff <= 0 || model.cutoff > 100)
        reader.fail("the cutoff is " + std::to_string(model.cutoff) + " Å, outside 0..100 Å");
    model.channels = reader.integer(text, "channels", 1, max_channels);
    model.l_max = reader.integer(text, "l_max", 0, max_l);
    model.heads = reader.get<std::vector<std::string>>(text, "heads");
    if (model.heads.empty()) reader.fail("it lists no heads");
    const auto nz = static_cast<std::int64_t>(model.species.size());
    const auto heads = static_cast<std::int64_t>(model.heads.size());
    model.radial = read_radial(reader, reader.at(text, "radial"), nz);
    if (const json& zbl = reader.at(text, "zbl"); !zbl.is_null()) {
        model.has_zbl = true;
        model.zbl.envelope = reader.integer(zbl, "envelope", 1, 64);
        model.zbl.exponent = reader.number(zbl, "exponent");
        model.zbl.prefactor = reader.number(zbl, "prefactor");
        model.zbl.c = reader.get<std::array<double, 4>>(zbl, "c");
        model.zbl.radii = reader.take_vector("zbl.radii", nz);
    }
    const auto activation = text.contains("activation") ? reader.get<std::string>(text, "activation") : "silu";
    if (activation == "silu")
        model.activation = Model::Activation::Silu;
    else if (activation == "tanh")
        model.activation = Model::Activation::Tanh;
    else if (activation == "identity")
        model.activation = Model::Activation::Identity;
    else if (activation == "abs")
        model.activation = Model::Activation::Abs;
    else
        reader.fail("the activation '" + activation + "' is unknown (silu, tanh, identity, abs)");
    model.card = text.contains("card") ? text.at("card").dump() : "{}";
    model.embedding = reader.take("embedding", {nz, model.channels});
    model.e0 = reader.take("energy.e0", {heads, nz});
    model.scale = reader.take_vector("energy.scale", heads);
    model.shift = reader.take_vector("energy.shift", heads);

    const json& layers = reader.at(text, "layers");
    if (!layers.is_array() || layers.empty() || layers.size() > max_layers)
        reader.fail("'layers' is not a list of 1.." + std::to_string(max_layers) + " layers");
    int hidden_max = 0, correlation = 1;
    for (const json& layer : layers) {
        hidden_max = std::max(hidden_max, reader.integer(layer, "hidden_out", 0, std::min(max_hidden_l, model.l_max)));
        correlation = std::max(correlation, reader.integer(layer, "correlation", 1, max_correlation));
    }
    model.basis = read_basis(reader, model.l_max, hidden_max, correlation);
    int hidden = 0;
    for (std::size_t t = 0; t < layers.size(); ++t) {
        model.layers.push_back(read_layer(reader, layers[t], static_cast<int>(t), model, hidden));
        hidden = model.layers.back().hidden_out;
        // The way back through earlier layers knows linear readouts only.
        if (model.layers.back().readout == Layer::Readout::Mlp && t + 1 < layers.size())
            reader.fail("layer " + std::to_string(t) + " has an mlp readout, which only the last layer may have");
    }
    reader.check_all_taken();
    return model;
}

json describe_radial(const RadialBasis& radial) {
    json text = {{"size", radial.size},
                 {"envelope", radial.envelope},
                 {"envelope_on", radial.envelope_on_basis ? "basis" : "weights"}};
    if (radial.kind == RadialBasis::Kind::Bessel) text.update({{"basis", "bessel"}, {"prefactor", radial.prefactor}});
    if (radial.kind == RadialBasis::Kind::Gaussian)
        text.update({{"basis", "gaussian"}, {"coefficient", radial.coefficient}});
    if (radial.kind == RadialBasis::Kind::Chebyshev) text["basis"] = "chebyshev";
    text["transform"] = {{"type", "none"}};
    if (radial.transform == RadialBasis::Transform::Agnesi)
        text["transform"] = {{"type", "agnesi"}, {"a", radial.a}, {"p", radial.p}, {"q", radial.q}};
    if (radial.transform == RadialBasis::Transform::Soft)
        text["transform"] = {{"type", "soft"}, {"alpha", radial.alpha}};
    return text;
}

Container describe(const Model& model) {
    Container container;
    auto& arrays = container.arrays;
    const auto vector = [&](const std::string& key, const std::vector<double>& data) {
        arrays[key] = Array{{static_cast<std::int64_t>(data.size())}, data};
    };
    constexpr std::array activations = {"silu", "tanh", "identity", "abs"};
    json text = {{"version", format_version},
                 {"species", model.species},
                 {"cutoff", model.cutoff},
                 {"channels", model.channels},
                 {"l_max", model.l_max},
                 {"heads", model.heads},
                 {"radial", describe_radial(model.radial)},
                 {"zbl", nullptr},
                 {"activation", activations.at(static_cast<std::size_t>(model.activation))},
                 {"layers", json::array()},
                 {"card", json::parse(model.card.empty() ? "{}" : model.card)}};
    if (model.radial.kind == RadialBasis::Kind::Bessel) vector("radial.frequencies", model.radial.points);
    if (model.radial.kind == RadialBasis::Kind::Gaussian) vector("radial.centers", model.radial.points);
    if (model.radial.transform != RadialBasis::Transform::None) vector("radial.transform.radii", model.radial.radii);
    if (model.has_zbl) {
        text["zbl"] = {{"envelope", model.zbl.envelope},
                       {"exponent", model.zbl.exponent},
                       {"prefactor", model.zbl.prefactor},
                       {"c", model.zbl.c}};
        vector("zbl.radii", model.zbl.radii);
    }
    arrays["embedding"] = model.embedding;
    for_each_layer_weight(model, [&](const std::string& name, const Array& array) { arrays[name] = array; });
    arrays["energy.e0"] = model.e0;
    vector("energy.scale", model.scale);
    vector("energy.shift", model.shift);
    for (const Layer& layer : model.layers) {
        constexpr std::array readouts = {"none", "linear", "mlp"};
        text["layers"].push_back({{"hidden_in", layer.hidden_in},
                                  {"hidden_out", layer.hidden_out},
                                  {"correlation", layer.correlation},
                                  {"paths", layer.paths},
                                  {"mixing", layer.mixing_by_species ? "species" : "shared"},
                                  {"density", layer.density},
                                  {"skip", layer.skip},
                                  {"readout", readouts.at(static_cast<std::size_t>(layer.readout))}});
    }
    for (std::size_t L = 0; L < model.basis.size(); ++L)
        for (const ProductBasis& basis : model.basis[L]) {
            if (basis.value.empty()) continue;
            const std::string key = "basis." + std::to_string(L) + "." + std::to_string(basis.order);
            const auto entries = static_cast<std::int64_t>(basis.value.size());
            container.integers[key + ".index"] = IntegerArray{{entries, basis.order + 2}, basis.index};
            vector(key + ".value", basis.value);
        }
    container.metadata["equipot"] = text.dump();
    return container;
}

}  // namespace

std::string card_title(const Model& model) {
    const json card = json::parse(model.card, nullptr, false);
    return card.is_object() && card.contains("title") && card["title"].is_string() ? card["title"].get<std::string>()
                                                                                   : "";
}

std::int64_t Model::parameters() const {
    std::size_t count = embedding.data.size();
    for_each_layer_weight(*this, [&](const std::string&, const Array& array) { count += array.data.size(); });
    return static_cast<std::int64_t>(count);
}

Model read_model(const std::vector<char>& bytes, const std::string& name) {
    Container container = parse_container(bytes, name);
    const auto found = container.metadata.find("equipot");
    if (found == container.metadata.end())
        throw Error("model file '" + name +
                    "' is a safetensors file but not an equipot model: it has no 'equipot' description");
    // What nests without end would overflow the stack of those who walk through it.
    bool too_deep = false;
    const auto shallow = [&](int depth, json::parse_event_t, json&) {
        too_deep = too_deep || depth > max_nesting;
        return !too_deep;
    };
    const json text = json::parse(found->second, shallow, false);
    Reader reader(std::move(container), name);
    if (too_deep) reader.fail("its description is nested more than " + std::to_string(max_nesting) + " deep");
    if (text.is_discarded() || !text.is_object()) reader.fail("its description is not a JSON object");
    const json& version = reader.at(text, "version");
    if (!version.is_number_integer() || version.get<std::int64_t>() < 1)
        reader.fail("its format version is not a positive integer");
    if (version.get<std::int64_t>() > format_version)
        reader.fail("it has format version " + version.dump() + ", this equipot reads up to " +
                    std::to_string(format_version) + "; update equipot");
    return build_model(reader, text);
}

Model read_model(const std::string& path) {
    std::error_code code;
    if (std::filesystem::is_directory(path, code)) throw Error("'" + path + "' is a folder, not a model file");
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file) throw Error("cannot open the model file '" + path + "': check the path and that it can be read");
    const std::streamoff size = file.tellg();
    if (size < 0) throw Error("cannot read the model file '" + path + "'");
    // What is no model need not fit into memory to be refused.
    std::string start(static_cast<std::size_t>(std::min<std::streamoff>(size, 9)), '\0');
    file.seekg(0);
    file.read(start.data(), static_cast<std::streamsize>(start.size()));
    if (start.starts_with("PK\3\4") || start.starts_with("\3757zXZ"))  // archives: zip and xz
        throw Error("model file '" + path +
                    "' is not an equipot model; if it is a MACE model, convert it: equipot convert " + path);
    if (size > 8 && (!file || start[8] != '{'))  // the header's first letter, after its length
        throw Error("model file '" + path +
                    "' is damaged or not an equipot model: it does not begin as a safetensors file does");
    std::vector<char> bytes(static_cast<std::size_t>(size));
    file.seekg(0);
    if (!file.read(bytes.data(), size)) throw Error("cannot read the model file '" + path + "' to its end");
    return read_model(bytes, path);
}

void check_model(const Model& model) { read_model(serialise_container(describe(model)), "in memory"); }

void write_model(const Model& model, const std::string& path) {
    const std::vector<char> bytes = serialise_container(describe(model));
    const std::string temporary = path + ".part";
    {
        std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
        file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        file.close();
        if (!file) {
            std::remove(temporary.c_str());
            throw Error("cannot write the model file '" + path + "': check the folder and the free space");
        }
    }
    std::error_code code;
    std::filesystem::rename(temporary, path, code);
    if (code) {
        std::remove(temporary.c_str());
        throw Error("cannot rename the new model file to '" + path + "': " + code.message());
    }
}

}  // namespace equipot
