"""Crystals that the data have not: simple lattices of an element or a compound, loose and dense, calm and shaken until
they are none, let down with the model in training.

A model that has seen four neighbours of an atom need not know what twelve do. Where the data have an element or a
compound as a crystal at rest, nothing of that composition may lie lower by more than 0.05 eV per atom, and what is
denser costs three tenths of Birch and Murnaghan's equation of state (see `equipot.fit.guards`): other phases are softer
than that, since they are denser to begin with. Atoms of a compound take turns on the lattice, or have any places.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray

from equipot.data import Structure
from equipot.data.structures import formula_unit
from equipot.fit.bonds import unwrapped
from equipot.fit.descents import Descent, Descents
from equipot.fit.guards import Guard, compression, raised, stiffness

Array = NDArray[np.float64]

_LATTICES = ("sc", "bcc", "fcc", "hcp", "diamond")  # of one atom or two to a cell
_LEAST_ATOMS, _MOST_ATOMS = 8, 27  # either, by lot; as many or a few more
_LARGEST_UNIT = 8  # atoms of a formula
_GUARDS = 40  # of a round
_SCALES = (0.6, 1.1)  # of lengths, against the crystal at rest
_STRAIN, _RATTLE = 0.03, 0.25  # of the cell; at most, in units of the cube root of an atom's volume
_AT_REST = 0.2  # eV/Å, root mean square of force components
_HIGHER, _KNOWN = 0.2, 0.085  # eV per atom: with a fifth of the gain, 0.05 below the crystal at rest is allowed
_SOFTNESS = 0.5  # of the equation of state; 0.3 with what it is known to


@dataclass(frozen=True)
class _Phase:
    """A formula unit and its crystal of lowest energy: eV and Å³ per atom, and how stiff it is, eV per atom."""

    numbers: tuple[int, ...]
    energy: float
    volume: float
    stiff: float
    config_type: str


class Crystals(Descents):
    """Descents from simple lattices of what the data have as a crystal at rest.

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
        self._phases = _phases(dataset)
        super().__init__(
            list(range(len(self._phases))), (_LEAST_ATOMS + _MOST_ATOMS) / 2, cutoff, closest, (seed, 5), _GUARDS
        )

    def _begin(self, rng: np.random.Generator) -> Descent:
        place = int(rng.integers(len(self._phases)))
        phase = self._phases[place]
        name = _LATTICES[int(rng.integers(len(_LATTICES)))]
        atoms = bulk("X", name, a=1.0)
        times = round(float(rng.choice([_LEAST_ATOMS, _MOST_ATOMS])) ** (1 / 3))
        atoms = atoms.repeat((times, times, -(-times // len(atoms))))
        unit = len(phase.numbers)
        atoms = atoms.repeat((1, 1, unit // gcd(unit, len(atoms))))
        if rng.random() < 0.5:
            atoms = atoms[rng.permutation(len(atoms))]
        atoms.numbers[:] = np.resize(phase.numbers, len(atoms))
        volume = len(atoms) * phase.volume * rng.uniform(*_SCALES) ** 3
        cell = np.asarray(atoms.cell) @ (np.eye(3) + rng.normal(scale=_STRAIN, size=(3, 3)))
        cell *= (volume / abs(np.linalg.det(cell))) ** (1 / 3)
        atoms.set_cell(cell, scale_atoms=True)
        spread = rng.uniform(0.0, _RATTLE) * (volume / len(atoms)) ** (1 / 3)
        atoms.positions += rng.normal(scale=spread, size=atoms.positions.shape)
        return Descent(place, atoms, np.ones(len(atoms), dtype=np.bool_))

    def _guard(self, place: int, positions: Array, cell: Array) -> Guard:
        phase, n = self._phases[place], len(positions)
        atoms = Atoms(np.resize(phase.numbers, n), positions=positions, cell=cell, pbc=True)
        dense = min(atoms.get_volume() / n / phase.volume, 1.0)
        gain = n * (_HIGHER + _SOFTNESS * compression(dense, phase.stiff))
        formula = Atoms(phase.numbers).get_chemical_formula()
        at_rest = Structure(atoms, n * phase.energy, config_type=phase.config_type, source=formula)
        guard = raised(at_rest, atoms, gain, n * _KNOWN, "crystal")
        return replace(guard, highest=np.inf)  # open lattices of metals cost several eV


def _phases(dataset: Sequence[Structure]) -> list[_Phase]:
    by_formula: dict[tuple[int, ...], list[Structure]] = {}
    for s in dataset:
        if s.energy is not None and len(s) and np.all(s.atoms.pbc):
            by_formula.setdefault(formula_unit(s.atoms.numbers), []).append(s)
    found = []
    for formula, structures in sorted(by_formula.items()):
        lowest = min(structures, key=lambda s: (s.energy or 0.0) / len(s))
        assert lowest.energy is not None
        calm = lowest.forces is not None and np.sqrt(np.mean(np.square(lowest.forces))) < _AT_REST
        # Molecules may lie closer in a crystal that the data have not.
        if len(formula) <= _LARGEST_UNIT and calm and unwrapped(lowest.atoms) is None:
            volume = lowest.atoms.get_volume() / len(lowest)
            found.append(
                _Phase(formula, lowest.energy / len(lowest), volume, stiffness(structures), lowest.config_type)
            )
    return found
