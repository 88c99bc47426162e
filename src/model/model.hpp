// Model: the plain description of a potential, and its file (see FORMAT.md). No behaviour, no hot code.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace equipot {

/// Every error of the library: one sentence for people.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A dense float64 array with its shape, C order.
struct Array {
    std::vector<std::int64_t> shape;
    std::vector<double> data;
};

struct RadialBasis {
    enum class Kind { Bessel, Gaussian, Chebyshev };
    enum class Transform { None, Agnesi, Soft };
    Kind kind = Kind::Bessel;
    int size = 0;
    double prefactor = 1.0;         ///< bessel
    double coefficient = 0.0;       ///< gaussian
    std::vector<double> points;     ///< [size] frequencies (bessel) or centers (gaussian)
    int envelope = 6;               ///< exponent p of the polynomial cutoff
    bool envelope_on_basis = true;  ///< else on the outputs of the radial network
    Transform transform = Transform::None;
    double a = 0.0, p = 0.0, q = 0.0;  ///< agnesi
    double alpha = 0.0;                ///< soft
    std::vector<double> radii;         ///< [species] covalent radii of the transform, Å
};

/// E = 14.4 eV Å z_i z_j / r Σ_k c_k exp(-b_k r / a) times the envelope, a = prefactor 0.529 Å / (z_i^x + z_j^x), with
/// x the exponent and b_k those of Ziegler, Biersack and Littmark; half to each atom.
struct Zbl {
    int envelope = 6;
    double exponent = 0.3;
    double prefactor = 0.4543;
    std::array<double, 4> c{};
    std::vector<double> radii;  ///< [species] Å
};

/// Sparse coupling coefficients of the symmetric product for one (L, order): monomial v_1 <= ... <= v_order -> (M,
/// path).
struct ProductBasis {
    int order = 0;
    int paths = 0;
    std::vector<std::int32_t> index;  ///< [entries, order + 2] = M, path, v...
    std::vector<double> value;        ///< [entries]
};

using Path = std::array<int, 3>;  ///< l1 (sender features), l2 (harmonics), l3 (density)

struct Layer {
    enum class Readout { None, Linear, Mlp };
    int hidden_in = 0;   ///< largest l of the features that enter
    int hidden_out = 0;  ///< largest l of the features that leave
    int correlation = 1;
    std::vector<Path> paths;
    bool mixing_by_species = false;
    bool density = false;
    bool skip = false;
    Readout readout = Readout::None;

    std::vector<Array> up;           ///< by l: [K, K], as all matrices of channels (from, to)
    std::vector<Array> radial;       ///< network weights [in, out]
    std::vector<Array> density_net;  ///< network weights [in, out]
    std::vector<Array> mix;          ///< by l: [P_l K, K] or [species, P_l K, K]
    std::vector<std::vector<Array>>
        product;                      ///< by L, by order - 1: [species, paths, K], empty where there is no coupling
    std::vector<Array> out;           ///< by L: [K, K]
    std::vector<Array> skip_weights;  ///< by L: [species, K, K]
    Array readout0;                   ///< linear [heads, K]; mlp [heads, K, n]
    Array readout1;                   ///< mlp [heads, n]
};

struct Model {
    enum class Activation { Silu, Tanh, Identity, Abs };
    std::vector<int> species;  ///< atomic numbers
    double cutoff = 0.0;       ///< Å
    int channels = 0;
    int l_max = 0;
    std::vector<std::string> heads;
    RadialBasis radial;
    bool has_zbl = false;
    Zbl zbl;
    Activation activation = Activation::Silu;
    Array embedding;                   ///< [species, K]
    Array e0;                          ///< [heads, species] eV
    std::vector<double> scale, shift;  ///< [heads] E = Σ_i E0 + scale (readouts + ZBL) + shift; shift in eV
    std::vector<Layer> layers;
    std::vector<std::vector<ProductBasis>> basis;  ///< by L, by order - 1
    std::string card;                              ///< JSON text, for people

    [[nodiscard]] std::int64_t parameters() const;
};

/// Reads and checks a model file. @throws Error saying what is wrong with which file.
Model read_model(const std::string& path);
/// The same from bytes already in memory; `name` is used in errors.
Model read_model(const std::vector<char>& bytes, const std::string& name);
/// What `read_model` would refuse, in a model that was made or changed by hand. @throws Error.
void check_model(const Model& model);
/// Writes through a temporary file in the same folder, then renames. @throws Error.
void write_model(const Model& model, const std::string& path);

/// "Si" for 14; "?" outside 1..118.
std::string element_symbol(int atomic_number);
/// 14 for "Si"; 0 if there is no such element.
int atomic_number(const std::string& symbol);

}  // namespace equipot
