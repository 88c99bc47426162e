// Chemical symbols and atomic numbers.
// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>

#include "model/model.hpp"

namespace equipot {

namespace {

constexpr std::array<const char*, 118> symbols = {
    "H",  "He", "Li", "Be", "B",  "C",  "N",  "O",  "F",  "Ne", "Na", "Mg", "Al", "Si", "P",  "S",  "Cl",
    "Ar", "K",  "Ca", "Sc", "Ti", "V",  "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se",
    "Br", "Kr", "Rb", "Sr", "Y",  "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb",
    "Te", "I",  "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er",
    "Tm", "Yb", "Lu", "Hf", "Ta", "W",  "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At",
    "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",  "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No",
    "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"};

}  // namespace

std::string element_symbol(int atomic_number) {
    if (atomic_number < 1 || atomic_number > static_cast<int>(symbols.size())) return "?";
    return symbols[static_cast<std::size_t>(atomic_number - 1)];
}

int atomic_number(const std::string& symbol) {
    const auto* found = std::find_if(symbols.begin(), symbols.end(), [&](const char* s) { return symbol == s; });
    return found == symbols.end() ? 0 : static_cast<int>(found - symbols.begin()) + 1;
}

}  // namespace equipot
