"""Fragments: what is left of a solid or a melt that has lost atoms, shaken and let down with the model in training.

Atoms that are left may come closer, but not below the energy that they had by more than 0.1 eV each, with three fifths
of what their missing neighbours held them by on top (see `equipot.fit.cohesion`). The energy that they had is taken
halfway to the lowest of the data.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from equipot.data import Structure
from equipot.data.structures import formula_unit
from equipot.fit.cohesion import Neighborhood
from equipot.fit.descents import Descent, Descents
from equipot.fit.guards import Guard, held_together_by, raised, thinnable, thinned

Array = NDArray[np.float64]

_MOST_ATOMS = 500  # of a structure
_GUARDS = 40  # of a round
_SCALES, _RATTLE = (0.75, 1.05), 0.25  # of lengths; at most, in units of the cube root of an atom's volume
_KNOWN = 0.05  # eV per atom


class Fragments(Descents):
    """Descents of what is left when atoms are taken out of structures of the data.

    Parameters
    ----------
    dataset : sequence of Structure
        The training data; periodic structures with energies and without covalent bonds are used.
    cutoff, closest : float
        As of `Descents`, Å.
    seed : int
        Of what is taken.
    """

    def __init__(self, dataset: Sequence[Structure], cutoff: float, closest: float, seed: int) -> None:
        self._dataset = dataset
        self._cohesive: dict[int, float] = {}
        self._whole: dict[int, Neighborhood] = {}
        self._lowest: dict[tuple[int, ...], float] = {}
        for place, s in enumerate(dataset):
            if s.energy is None or len(s) > _MOST_ATOMS or not thinnable(s.atoms):
                continue
            if (cohesive := held_together_by(s)) is not None:
                self._cohesive[place] = cohesive
                unit = formula_unit(s.atoms.numbers)
                self._lowest[unit] = min(self._lowest.get(unit, np.inf), s.energy / len(s))
        pool = list(self._cohesive)
        atoms = 0.5 * sum(len(dataset[place]) for place in pool) / max(len(pool), 1)
        super().__init__(pool, atoms, cutoff, closest, (seed, 6), _GUARDS)

    def _begin(self, rng: np.random.Generator) -> Descent:
        place = self._pool[int(rng.integers(len(self._pool)))]
        atoms = thinned(self._dataset[place].atoms, rng)
        scale, far = rng.uniform(*_SCALES), rng.uniform(0.0, _RATTLE) * np.cbrt(atoms.get_volume() / len(atoms))
        atoms.set_cell(np.asarray(atoms.cell) * scale, scale_atoms=True)
        atoms.positions += rng.normal(scale=far, size=atoms.positions.shape)
        return Descent(place, atoms, np.ones(len(atoms), dtype=np.bool_))

    def _guard(self, place: int, positions: Array, cell: Array) -> Guard:
        source, n = self._dataset[place], len(positions)
        if place not in self._whole:
            self._whole[place] = Neighborhood(source.atoms, self._cohesive[place])
        unit = formula_unit(source.atoms.numbers)
        atoms = Atoms(np.repeat(unit, n // len(unit)), positions=positions, cell=cell, pbc=True)
        assert source.energy is not None
        # Half of what a melt lies above a crystal is motion, which it loses on the way.
        energy = 0.5 * (source.energy / len(source) + self._lowest[unit])
        calm = Structure(atoms, n * energy, config_type=source.config_type)
        cost = max(self._whole[place].cost(atoms), 0.0)
        guard = raised(calm, atoms, cost, n * _KNOWN, f"fragment of {source.source}")
        return replace(guard, highest=np.inf)  # what is left of a melt lies higher than that of a crystal
