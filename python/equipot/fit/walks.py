"""Walks: dynamics with the model in training, in search of holes; where a walker has fallen, a guard is put."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from equipot import _equipot
from equipot.fit.searches import Search
from equipot.fit.walkers import Walker, Walkers

Array = NDArray[np.float64]

_WALKERS = 24  # at most
_ROUND = 50  # steps, or more
_LOOK_EVERY = 10  # steps


class Walks(Search):
    """Walks of one kind, and the guards that they have led to.

    Parameters
    ----------
    pool, atoms
        As of `Search`.
    walkers : Walkers
        None yet.
    seed : sequence of int
        Of choices, velocities and the thermostat.
    """

    def __init__(self, pool: list[int], atoms: float, walkers: Walkers, seed: tuple[int, int]) -> None:
        super().__init__(pool, atoms)
        self._walkers, self._seed = walkers, seed

    def run(self, trainer: _equipot.Trainer, evaluations: int) -> int:
        """Walk on with the engine's weights, for about so many evaluations; how many guards that gives."""
        walkers = self._walkers
        walkers.rng = np.random.default_rng([*self._seed, self._round])
        self._round += 1
        count = int(np.clip(evaluations // _ROUND, 1, _WALKERS))
        walkers.all += [walkers.begin() for _ in range(count - len(walkers.all))]
        before = len(self.guards)

        def engine(graphs: Any, atoms: Sequence[Atoms]) -> Mapping[str, Array]:
            found: Mapping[str, Array] = trainer.evaluate(graphs, np.arange(len(atoms), dtype=np.int64))
            return found

        _, forces = walkers.evaluate(engine)
        for _ in range(evaluations // count):
            found, forces = walkers.step(engine, forces)
            if self._look(found["energy"]):
                _, forces = walkers.evaluate(engine)
        return len(self.guards) - before

    def state(self) -> dict[str, Any]:
        """What a run needs to go on."""
        return super().state() | {"walkers": {str(i): vars(w) for i, w in enumerate(self._walkers.all)}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        super().restore(state)
        self._walkers.all = [Walker(**w) for w in state["walkers"].values()]

    def _look(self, energies: Array) -> bool:
        """Look after walkers whose time it is; whether some began anew, as these do whose walks are over."""
        anew = False
        for i, (walker, energy) in enumerate(zip(self._walkers.all, energies, strict=True)):
            if walker.age % _LOOK_EVERY == 0 and self._over(walker, float(energy)):
                self._walkers.all[i] = self._walkers.begin()
                anew = True
        return anew

    @abstractmethod
    def _over(self, walker: Walker, energy: float) -> bool:
        """Make a guard if the walker has fallen; whether its walk is over."""
