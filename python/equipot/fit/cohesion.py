"""How strongly solids hold together, by measured cohesive energies of the elements, where lengths or neighbours grow.

A solid of cohesive energy E_c and stiffness B V₀ (bulk modulus times volume), whose lengths are s times those at rest,
lies E_c (1 - (1 + a) exp(-a)) above its energy at rest, a = 3 (s - 1) √(B V₀ / E_c): Rose, Smith, Guinea and Ferrante,
Phys. Rev. B 29, 2963 (1984). Atoms that lost neighbours are bound by E_c Σ_i (H_i^α - γ A_i) / (1 - γ), with sums over
neighbours H_i of exp(-2 q (r/r₀ - 1)) and A_i of exp(-p (r/r₀ - 1)) in units of their means before. In metals α = 1/2
and γ = q/p, tight binding in its second moment with p = 10 and q = 2.5 (Cleri and Rosato, Phys. Rev. B 48, 22, 1993);
where four neighbours bind α = 3/4 and γ = 0, with which vacancies and dimers of silicon and germanium come out right.
Data of crystals and melts hardly know either, and fits to them may lose all cohesion.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

from equipot.fit.bonds import Indices, neighbors

Array = NDArray[np.float64]

_REPULSION, _HOPPING = 10.0, 2.5  # p and q
_METAL, _SEMICONDUCTOR = (0.5, 0.25), (0.75, 0.0)  # α and γ
_NEXT, _FEW = 1.35, 5.0  # times the shortest distance is as far as neighbours are counted, of which these are few

# eV per atom, against free neutral atoms: C. Kittel, Introduction to Solid State Physics, 8th edition, chapter 3.
# fmt: off
_COHESIVE_ENERGIES = {
    "Li": 1.63, "Be": 3.32, "B": 5.81, "C": 7.37, "N": 4.92, "O": 2.60, "F": 0.84, "Ne": 0.02, "Na": 1.11, "Mg": 1.51,
    "Al": 3.39, "Si": 4.63, "P": 3.43, "S": 2.85, "Cl": 1.40, "Ar": 0.08, "K": 0.93, "Ca": 1.84, "Sc": 3.90,
    "Ti": 4.85, "V": 5.31, "Cr": 4.10, "Mn": 2.92, "Fe": 4.28, "Co": 4.39, "Ni": 4.44, "Cu": 3.49, "Zn": 1.35,
    "Ga": 2.81, "Ge": 3.85, "As": 2.96, "Se": 2.46, "Br": 1.22, "Kr": 0.12, "Rb": 0.85, "Sr": 1.72, "Y": 4.37,
    "Zr": 6.25, "Nb": 7.57, "Mo": 6.82, "Tc": 6.85, "Ru": 6.74, "Rh": 5.75, "Pd": 3.89, "Ag": 2.95, "Cd": 1.16,
    "In": 2.52, "Sn": 3.14, "Sb": 2.75, "Te": 2.19, "I": 1.11, "Xe": 0.16, "Cs": 0.80, "Ba": 1.90, "La": 4.47,
    "Ce": 4.32, "Pr": 3.70, "Nd": 3.40, "Sm": 2.14, "Eu": 1.86, "Gd": 4.14, "Tb": 4.05, "Dy": 3.04, "Ho": 3.14,
    "Er": 3.29, "Tm": 2.42, "Yb": 1.60, "Lu": 4.43, "Hf": 6.44, "Ta": 8.10, "W": 8.90, "Re": 8.03, "Os": 8.17,
    "Ir": 6.94, "Pt": 5.84, "Au": 3.81, "Hg": 0.67, "Tl": 1.88, "Pb": 2.03, "Bi": 2.18, "Po": 1.50, "Ra": 1.66,
    "Ac": 4.25, "Th": 6.20, "U": 5.55, "Np": 4.73, "Pu": 3.60,
}
# fmt: on


def cohesive_energy(numbers: ArrayLike) -> float | None:
    """Cohesive energy of elements in the shares of these atomic numbers, eV per atom; None if one is not known.

    Compounds hold together by what their formation gains as well.
    """
    found = [_COHESIVE_ENERGIES.get(chemical_symbols[int(z)]) for z in np.asarray(numbers)]
    known = [energy for energy in found if energy is not None]
    return float(np.mean(known)) if found and len(known) == len(found) else None


def stretching(scale: float, stiff: float, cohesive: float) -> float:
    """What it costs that lengths are so many times those at rest, eV per atom, with E_c and B V₀ in eV per atom."""
    a = 3 * (scale - 1) * np.sqrt(stiff / cohesive)
    return float(cohesive * (1 - (1 + a) * np.exp(-a)))


class Neighborhood:
    """The neighbours that atoms of a solid or a melt have on average, and what it costs to lose some of them.

    Parameters
    ----------
    atoms : ase.Atoms
        The whole, periodic.
    cohesive : float
        E_c, eV per atom.
    """

    def __init__(self, atoms: Atoms, cohesive: float) -> None:
        n = len(atoms)
        self._cohesive = cohesive
        self._range = 2.0 * float(np.cbrt(atoms.get_volume() / n))
        i, r = neighbors("id", atoms, self._range)
        nearest = np.full(n, np.inf)
        np.minimum.at(nearest, i, r)
        self._nearest = float(nearest[np.isfinite(nearest)].mean())  # atoms that have left a surface have none
        few = np.count_nonzero(r < _NEXT * self._nearest) < _FEW * n
        self._power, self._repelled = _SEMICONDUCTOR if few else _METAL
        hopping, repulsion = self._sums(i, r, n)
        self._means = hopping.mean(), repulsion.mean()
        self._whole = float(self._bound(hopping, repulsion).mean())

    def cost(self, atoms: Atoms) -> float:
        """What these atoms lack, eV, of what as many of the whole are bound by: E_c for each if they are alone."""
        i, r = neighbors("id", atoms, self._range)
        bound = self._bound(*self._sums(i, r, len(atoms))) / self._whole
        return self._cohesive * float(np.sum(1 - bound))

    def _sums(self, i: Indices, r: Array, n: int) -> tuple[Array, Array]:
        """H and A of n atoms, of which these have neighbours at these distances."""
        stretch = r / self._nearest - 1
        hopping, repulsion = (
            np.asarray(np.bincount(i, np.exp(-steep * stretch), n), dtype=np.float64)
            for steep in (2 * _HOPPING, _REPULSION)
        )
        return hopping, repulsion

    def _bound(self, hopping: Array, repulsion: Array) -> Array:
        """H^α - γ A, in units of their means in the whole."""
        mean_hopping, mean_repulsion = self._means
        return (hopping / mean_hopping) ** self._power - self._repelled * (repulsion / mean_repulsion)
