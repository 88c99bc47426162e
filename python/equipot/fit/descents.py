"""Descents: one atom of a crystal or a melt is put into the midst of others and let down with the model in training.

What it costs to put an atom elsewhere, 5 eV known to 2, and the walls of all atoms that are closer than in any data are
what the energy has to exceed on the way down as well (see `equipot.fit.guards`), but for 0.1 eV for each atom around
that is let down along with it. Where the model has less, there is a hole, which no list of made-up structures need have
had, and what stands there becomes a guard.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from equipot import _equipot
from equipot.data import Structure
from equipot.fit.bonds import Indices, Mask
from equipot.fit.guards import Guard, insert, insertion, insertion_limits, raised
from equipot.fit.objective import graph_set
from equipot.fit.searches import Search

Array = NDArray[np.float64]

_STEPS, _STEP = 40, 0.06  # at most; Å, of the atom that moves most
_AT_REST = 0.2  # eV/Å
_AROUND = 4.0  # Å
_RELAXATION = 0.1  # eV per atom
_TOGETHER = 2000  # atoms
_MOST_ATOMS = 500  # of a structure
_STRUCTURES_PER_GUARD = 8  # of a round: more of them would not be trained on before the next


@dataclass
class _Descent:
    place: int
    atoms: Atoms
    moves: Mask


class Descents(Search):
    """Descents from structures of the data, and the guards that they have led to.

    Parameters
    ----------
    dataset : sequence of Structure
        The training data; periodic structures with energies are used.
    shortest : mapping
        Their `shortest_distances`.
    cutoff : float
        Å.
    closest : float
        Å; a descent ends where atoms come closer than this.
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
        self._dataset, self._cutoff, self._closest, self._seed = dataset, cutoff, closest, seed
        self._limits = insertion_limits(shortest)
        super().__init__(
            [
                place
                for place, s in enumerate(dataset)
                if self._limits and s.energy is not None and 1 < len(s) <= _MOST_ATOMS and s.atoms.pbc.any()
            ]
        )
        atoms = sum(len(dataset[place]) for place in self._pool)
        self._together = max(_TOGETHER * len(self._pool) // max(atoms, 1), 1)

    def run(self, trainer: _equipot.Trainer, evaluations: int) -> int:
        """Let atoms down with the engine's weights, for about so many evaluations; how many guards that gives."""
        rng = np.random.default_rng([self._seed, 4, self._round])
        self._round += 1
        before = len(self.guards)
        enough = before + max(8, len(self._pool) // _STRUCTURES_PER_GUARD)
        while evaluations > 0 and len(self.guards) < enough:
            draws = [self._begin(rng) for _ in range(int(np.clip(evaluations // _STEPS, 1, self._together)))]
            going = [descent for descent in draws if descent is not None]
            evaluations -= len(draws) - len(going)
            for _ in range(_STEPS):
                if not going:
                    break
                evaluations -= len(going)
                going = self._evaluate(trainer, going)
        return len(self.guards) - before

    def _begin(self, rng: np.random.Generator) -> _Descent | None:
        """A descent, if what is drawn can be one."""
        place = self._pool[int(rng.integers(len(self._pool)))]
        atoms = self._dataset[place].atoms.copy()
        atom = insert(atoms, self._limits, rng)
        if atom is None:
            return None
        return _Descent(place, atoms, atoms.get_distances(atom, range(len(atoms)), mic=True) < _AROUND)

    def _evaluate(self, trainer: _equipot.Trainer, going: list[_Descent]) -> list[_Descent]:
        """Take a step with each; those that go on."""
        graphs = graph_set([d.atoms for d in going], self._cutoff)
        apart = np.flatnonzero(np.asarray(graphs.shortest) >= self._closest)
        if not len(apart):
            return []
        found = trainer.evaluate(graphs, apart.astype(np.int64))
        going = [going[i] for i in apart]
        forces = np.split(found["forces"], np.cumsum([len(d.atoms) for d in going])[:-1])
        left = []
        for descent, energy, force in zip(going, found["energy"], forces, strict=True):
            guard = self._guard(descent.place, descent.atoms.positions)
            assert guard.structure.energy is not None
            if energy < guard.structure.energy - 2 * guard.tolerance:
                self._keep(descent.place, guard)
                continue
            force = np.where(descent.moves[:, None], force, 0.0)
            most = float(np.linalg.norm(force, axis=1).max())
            if np.isfinite(most) and most > _AT_REST:
                descent.atoms.positions += force * (_STEP / most)
                left.append(descent)
        return left

    def _guard(self, place: int, positions: Array) -> Guard:
        source = self._dataset[place]
        atoms = source.atoms.copy()
        atoms.positions[:] = positions
        moved: Indices = np.flatnonzero(np.abs(positions - source.atoms.positions).max(axis=1) > 0)
        gain, known = insertion(atoms, self._limits)
        return raised(source, atoms, gain, known + 0.5 * _RELAXATION * len(moved), f"descent from {source.source}")
