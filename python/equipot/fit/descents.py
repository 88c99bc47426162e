"""Descents: structures that the data have not are let down with the model in training, in search of holes.

Each kind has a bound that the energy may not fall below, wherever the atoms come to on their way. Where the model has
less, there is a hole, which no list of made-up structures need have had, and what stands there becomes a guard.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from equipot import _equipot
from equipot.fit.bonds import Mask
from equipot.fit.objective import graph_set
from equipot.fit.searches import Search

Array = NDArray[np.float64]

_STEPS, _STEP = 40, 0.06  # at most; Å, of the atom that moves most
_AT_REST = 0.2  # eV/Å
_TOGETHER = 2000  # atoms


@dataclass
class Descent:
    """Atoms on their way, what they began as (an index of `Search`), and which of them move."""

    place: int
    atoms: Atoms
    moves: Mask


class Descents(Search):
    """Descents of one kind, and the guards that they have led to.

    Parameters
    ----------
    pool, atoms
        As of `Search`.
    cutoff : float
        Å.
    closest : float
        Å; a descent ends where atoms come closer than this.
    seed : sequence of int
        Of what is drawn.
    enough : int
        Guards of one round.
    """

    def __init__(
        self, pool: list[int], atoms: float, cutoff: float, closest: float, seed: tuple[int, int], enough: int
    ) -> None:
        super().__init__(pool, atoms)
        self._cutoff, self._closest, self._seed = cutoff, closest, seed
        self._together = max(int(_TOGETHER / self.atoms), 1)
        self._enough = enough

    def run(self, trainer: _equipot.Trainer, evaluations: int) -> int:
        """Let atoms down with the engine's weights, for about so many evaluations; how many guards that gives."""
        rng = np.random.default_rng([*self._seed, self._round])
        self._round += 1
        before = len(self.guards)
        while evaluations > 0 and len(self.guards) < before + self._enough:
            draws = [self._begin(rng) for _ in range(int(np.clip(evaluations // _STEPS, 1, self._together)))]
            going = [descent for descent in draws if descent is not None]
            evaluations -= len(draws) - len(going)
            for _ in range(_STEPS):
                if not going:
                    break
                evaluations -= len(going)
                going = self._evaluate(trainer, going)
        return len(self.guards) - before

    @abstractmethod
    def _begin(self, rng: np.random.Generator) -> Descent | None:
        """A descent, if what is drawn can be one."""

    def _evaluate(self, trainer: _equipot.Trainer, going: list[Descent]) -> list[Descent]:
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
            guard = self._guard(descent.place, descent.atoms.positions, np.asarray(descent.atoms.cell))
            if energy < guard.lowest:
                self._keep(descent.place, guard)
                continue
            force = np.where(descent.moves[:, None], force, 0.0)
            most = float(np.linalg.norm(force, axis=1).max())
            if np.isfinite(most) and most > _AT_REST:
                descent.atoms.positions += force * (_STEP / most)
                left.append(descent)
        return left
