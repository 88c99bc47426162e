"""Hot walks: dynamics of the molecules of the data with the model that is being trained, and where it falls, a guard.

A molecule of N atoms in thermal motion has about the potential energy E_min + (3N/2) kT, give or take √(3N/2) kT: three
times that, and there is a hole in the model. What stands there becomes a guard, a structure whose energy is at least
that. So does a molecule one of whose bonds has come apart, with 2.5 eV more and one standard deviation less, unless its
atoms are on the way to others that may have them: hydrogen does not pass between carbons, say, unless the data show it.
E_min is the lowest energy of the data for the same atoms. Molecules that are broken somewhere in the data do not walk:
what that costs is there to be learned. Dynamics finds holes of many atoms, which no list of made-up distances and
angles has.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from numpy.typing import NDArray

from equipot.data import Structure
from equipot.fit.bonds import BOND, MAY_BIND, NONMETALS, Indices, Mask, barred, hydrogen_takers
from equipot.fit.guards import Guard
from equipot.fit.searches import average_atoms
from equipot.fit.walkers import Walker, Walkers, drawn
from equipot.fit.walks import Walks

Array = NDArray[np.float64]

_TEMPERATURE = 1500.0  # K; molecules stay whole for picoseconds
_KT = units.kB * _TEMPERATURE
_STEP, _FRICTION = 0.5 * units.fs, 0.01 / units.fs
_WARM_AFTER = 200  # steps, when a walker is in thermal motion
_FOLLOW = 3  # guards of one fall
_APART = 1.6  # times the sum of covalent radii is the length of a bond that has come apart
_BOND_ENERGY = 2.5  # eV
_LEAST_ATOMS, _MOST_ATOMS = 3, 400  # two atoms are what guards are for; larger molecules take long


class HotWalks(Walks):
    """Walkers and the guards that they have found.

    Parameters
    ----------
    dataset : sequence of Structure
        The training data, and molecules cut out of them; molecules with energies are walked.
    cutoff : float
        Å.
    closest : float
        Å; walkers whose atoms come closer than this begin anew.
    seed : int
        Of choices, velocities and the thermostat.
    """

    def __init__(self, dataset: Sequence[Structure], cutoff: float, closest: float, seed: int) -> None:
        self._dataset = dataset
        whole = [
            place
            for place, s in enumerate(dataset)
            if s.energy is not None and _LEAST_ATOMS <= len(s) <= _MOST_ATOMS and not s.atoms.pbc.any()
        ]
        self._takers = hydrogen_takers([dataset[place] for place in whole])
        pool = _unbroken(dataset, whole, self._takers)
        walkers = Walkers(drawn(dataset, pool, [_TEMPERATURE]), cutoff, closest, _STEP, _FRICTION)
        super().__init__(pool, average_atoms(dataset, pool), walkers, (seed, 2))
        self._lowest: dict[bytes, float] = {}
        self._bonds: dict[int, Mask] = {}
        for place in pool:
            key, energy = _composition(dataset[place]), dataset[place].energy
            assert energy is not None
            self._lowest[key] = min(self._lowest.get(key, np.inf), energy)

    def _over(self, walker: Walker, energy: float) -> bool:
        guard, broken = self._judge(walker.place, walker.positions)
        assert guard.structure.energy is not None
        if (broken or walker.age >= _WARM_AFTER) and energy < guard.lowest:
            self._keep(walker.place, guard)
            walker.marks += 1
        elif broken:
            walker.marks = _FOLLOW
        flies = energy > guard.structure.energy + 10 * guard.tolerance or not np.isfinite(energy)
        return flies or walker.marks >= _FOLLOW

    def _guard(self, place: int, positions: Array, cell: Array) -> Guard:
        return self._judge(place, positions)[0]

    def _judge(self, place: int, positions: Array) -> tuple[Guard, bool]:
        """A guard where a walker is that began at a structure, and whether a bond has come apart."""
        s = self._dataset[place]
        half = 1.5 * len(s)
        atoms = s.atoms.copy()
        atoms.positions[:] = positions
        if place not in self._bonds:
            self._bonds[place] = _lengths(s.atoms) < BOND
        broken = _broken(atoms, self._bonds[place], self._takers)
        energy = self._lowest[_composition(s)] + half * _KT + (_BOND_ENERGY if broken else 0.0)
        made = Structure(atoms, energy, config_type=s.config_type, source=f"hot walk from {s.source}")
        # Bonds cost more than what is asked for, so that less is left to chance.
        return Guard(made, (0.5 if broken else 1.5) * np.sqrt(half) * _KT), broken


def _unbroken(dataset: Sequence[Structure], places: Sequence[int], takers: Indices) -> list[int]:
    """Those places whose atoms, in their order, have the bonds of the lowest of them wherever they are in the data."""
    groups: dict[bytes, list[int]] = {}
    for place in places:
        groups.setdefault(dataset[place].atoms.numbers.astype(np.int64).tobytes(), []).append(place)
    kept: list[int] = []
    for group in groups.values():
        lowest = min(group, key=lambda place: dataset[place].energy or 0.0)
        bound = _lengths(dataset[lowest].atoms) < BOND
        if not any(_broken(dataset[place].atoms, bound, takers) for place in group):
            kept += group
    return sorted(kept)


def _broken(atoms: Atoms, bonds: Mask, takers: Indices) -> bool:
    """Whether one of the bonds, shape (N, N), of non-metals has come apart, and its atoms may not have bound anew."""
    numbers, lengths = atoms.numbers, _lengths(atoms)
    near = (lengths < MAY_BIND) & ~bonds & ~barred(numbers[:, None], numbers, takers)
    settled = near.any(axis=1) | ~np.isin(numbers, NONMETALS)
    return bool(np.any(bonds & (lengths > _APART) & ~settled & ~settled[:, None]))


def _lengths(atoms: Atoms) -> Array:
    """Distances in units of the sums of covalent radii, shape (N, N); infinite from an atom to itself."""
    radii = covalent_radii[atoms.numbers]
    lengths: Array = atoms.get_all_distances() / (radii[:, None] + radii)
    np.fill_diagonal(lengths, np.inf)
    return lengths


def _composition(structure: Structure) -> bytes:
    return np.sort(structure.atoms.numbers).astype(np.int64).tobytes()
