"""Insertions: one atom of a crystal or a melt is put into the midst of others and let down with the model in training.

What it costs to put an atom elsewhere, 5 eV known to 2, and the walls of all atoms that are closer than in any data are
what the energy has to exceed on the way down as well (see `equipot.fit.guards`), but for 0.1 eV for each atom around
that is let down along with it.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from equipot.data import Structure
from equipot.fit.bonds import Indices
from equipot.fit.descents import Descent, Descents
from equipot.fit.guards import Guard, insert, insertion, insertion_limits, raised
from equipot.fit.searches import average_atoms

Array = NDArray[np.float64]

_AROUND = 4.0  # Å
_RELAXATION = 0.1  # eV per atom
_MOST_ATOMS = 500  # of a structure
_STRUCTURES_PER_GUARD, _LEAST_GUARDS = 8, 8  # of a round: more of them would not be trained on before the next


class Insertions(Descents):
    """Descents from structures of the data of which one atom was put elsewhere.

    Parameters
    ----------
    dataset : sequence of Structure
        The training data; periodic structures with energies are used.
    shortest : mapping
        Their `shortest_distances`.
    cutoff, closest : float
        As of `Descents`, Å.
    seed : int
        Of what is put where.
    """

    def __init__(
        self,
        dataset: Sequence[Structure],
        shortest: Mapping[tuple[int, int], float],
        cutoff: float,
        closest: float,
        seed: int,
    ) -> None:
        self._dataset, self._limits = dataset, insertion_limits(shortest)
        pool = [
            place
            for place, s in enumerate(dataset)
            if self._limits and s.energy is not None and 1 < len(s) <= _MOST_ATOMS and s.atoms.pbc.any()
        ]
        enough = max(_LEAST_GUARDS, len(pool) // _STRUCTURES_PER_GUARD)
        super().__init__(pool, average_atoms(dataset, pool), cutoff, closest, (seed, 4), enough)

    def _begin(self, rng: np.random.Generator) -> Descent | None:
        place = self._pool[int(rng.integers(len(self._pool)))]
        atoms = self._dataset[place].atoms.copy()
        atom = insert(atoms, self._limits, rng)
        if atom is None:
            return None
        return Descent(place, atoms, atoms.get_distances(atom, range(len(atoms)), mic=True) < _AROUND)

    def _guard(self, place: int, positions: Array, cell: Array) -> Guard:
        source = self._dataset[place]
        atoms = source.atoms.copy()
        atoms.positions[:] = positions
        moved: Indices = np.flatnonzero(np.abs(positions - source.atoms.positions).max(axis=1) > 0)
        gain, known = insertion(atoms, self._limits)
        return raised(source, atoms, gain, known + 0.5 * _RELAXATION * len(moved), "descent")
