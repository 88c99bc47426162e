"""Crystals that the data have not: simple lattices of an element, loose and dense, calm and shaken until they are none,
let down with the model in training.

A model that has seen four neighbours of an atom need not know what twelve do. Where the data have an element as a
crystal at rest, nothing that it forms may lie lower than that by more than 0.05 eV per atom, and what is denser costs
three tenths of Birch and Murnaghan's equation of state (see `equipot.fit.guards`): other phases are softer than that,
since they are denser to begin with.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols
from numpy.typing import NDArray

from equipot.data import Structure
from equipot.fit.descents import Descent, Descents
from equipot.fit.guards import Guard, compression, raised, stiffness

Array = NDArray[np.float64]

_LATTICES = ("sc", "bcc", "fcc", "hcp", "diamond")  # of one atom or two to a cell
_LEAST_ATOMS, _MOST_ATOMS = 8, 27  # either, by lot; as many or a few more
_GUARDS = 40  # of a round
_SCALES = (0.6, 1.1)  # of lengths, against the crystal at rest
_STRAIN, _RATTLE = 0.03, 0.25  # of the cell; at most, in units of the cube root of an atom's volume
_AT_REST = 0.2  # eV/Å, root mean square of force components
_HIGHER, _KNOWN = 0.2, 0.085  # eV per atom: with a fifth of the gain, 0.05 below the crystal at rest is allowed
_SOFTNESS = 0.5  # of the equation of state; 0.3 with what it is known to


@dataclass(frozen=True)
class _Element:
    """The element's crystal of lowest energy: eV per atom, Å³ per atom, and how stiff it is, eV per atom."""

    number: int
    energy: float
    volume: float
    stiff: float
    config_type: str


class Crystals(Descents):
    """Descents from simple lattices of the elements that the data have as a crystal at rest.

    Parameters
    ----------
    dataset : sequence of Structure
        The training data.
    cutoff, closest : float
        As of `Descents`, Å.
    seed : int
        Of the lattices.
    """

    def __init__(self, dataset: Sequence[Structure], cutoff: float, closest: float, seed: int) -> None:
        self._elements = _elements(dataset)
        super().__init__(
            list(range(len(self._elements))), (_LEAST_ATOMS + _MOST_ATOMS) / 2, cutoff, closest, (seed, 5), _GUARDS
        )

    def _begin(self, rng: np.random.Generator) -> Descent:
        place = int(rng.integers(len(self._elements)))
        element = self._elements[place]
        name = _LATTICES[int(rng.integers(len(_LATTICES)))]
        atoms = bulk(chemical_symbols[element.number], name, a=1.0)
        times = round(float(rng.choice([_LEAST_ATOMS, _MOST_ATOMS])) ** (1 / 3))
        atoms = atoms.repeat((times, times, -(-times // len(atoms))))
        volume = len(atoms) * element.volume * rng.uniform(*_SCALES) ** 3
        cell = np.asarray(atoms.cell) @ (np.eye(3) + rng.normal(scale=_STRAIN, size=(3, 3)))
        cell *= (volume / abs(np.linalg.det(cell))) ** (1 / 3)
        atoms.set_cell(cell, scale_atoms=True)
        spread = rng.uniform(0.0, _RATTLE) * (volume / len(atoms)) ** (1 / 3)
        atoms.positions += rng.normal(scale=spread, size=atoms.positions.shape)
        return Descent(place, atoms, np.ones(len(atoms), dtype=np.bool_))

    def _guard(self, place: int, positions: Array, cell: Array) -> Guard:
        element, n = self._elements[place], len(positions)
        atoms = Atoms([element.number] * n, positions=positions, cell=cell, pbc=True)
        dense = min(atoms.get_volume() / n / element.volume, 1.0)
        gain = n * (_HIGHER + _SOFTNESS * compression(dense, element.stiff))
        name = chemical_symbols[element.number]
        at_rest = Structure(atoms, n * element.energy, config_type=element.config_type)
        guard = raised(at_rest, atoms, gain, n * _KNOWN, f"crystal of {name}")
        return replace(guard, highest=np.inf)  # open lattices of metals cost several eV


def _elements(dataset: Sequence[Structure]) -> list[_Element]:
    by_number: dict[int, list[Structure]] = {}
    for s in dataset:
        if s.energy is not None and len(s) and np.all(s.atoms.pbc) and np.all(s.atoms.numbers == s.atoms.numbers[0]):
            by_number.setdefault(int(s.atoms.numbers[0]), []).append(s)
    found = []
    for number, structures in sorted(by_number.items()):
        lowest = min(structures, key=lambda s: (s.energy or 0.0) / len(s))
        assert lowest.energy is not None
        if lowest.forces is not None and np.sqrt(np.mean(np.square(lowest.forces))) < _AT_REST:
            volume = lowest.atoms.get_volume() / len(lowest)
            stiff = stiffness(structures)[1]
            found.append(_Element(number, lowest.energy / len(lowest), volume, stiff, lowest.config_type))
    return found
