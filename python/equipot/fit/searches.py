"""Searches for holes of a model in training: the guards that a search has put there, and how it goes on to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipot import _equipot
from equipot.data import Structure
from equipot.fit.guards import Guard

Array = NDArray[np.float64]

_MOST = 2000  # guards


class Search(ABC):
    """A search and the guards that it has found.

    Parameters
    ----------
    pool : list of int
        What it can begin with: indices of structures of the data, or of what else a search has.
    atoms : float
        How many these have on average.
    """

    def __init__(self, pool: list[int], atoms: float) -> None:
        self.guards: list[Guard] = []
        self.atoms = max(atoms, 1.0)
        self._pool = pool
        self._places: list[int] = []  # what they began with
        self._round = 0

    @property
    def possible(self) -> bool:
        """Whether there are structures to begin with, and room for more guards."""
        return bool(self._pool) and len(self.guards) < _MOST

    @abstractmethod
    def run(self, trainer: _equipot.Trainer, evaluations: int) -> int:
        """Search with the engine's weights, for about so many evaluations; how many guards that gives."""

    @abstractmethod
    def _guard(self, place: int, positions: Array, cell: Array) -> Guard:
        """The guard where that which it began with has come to these positions, in this cell."""

    def _keep(self, place: int, guard: Guard) -> None:
        self.guards.append(guard)
        self._places.append(place)

    def state(self) -> dict[str, Any]:
        """What a run needs to go on."""
        atoms = [g.structure.atoms for g in self.guards]
        return {
            "round": self._round,
            "places": self._places,
            "guards": {str(i): np.vstack([a.positions, a.cell]) for i, a in enumerate(atoms)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._round = int(state["round"])
        self._places = [int(place) for place in state["places"]]
        found = zip(self._places, state["guards"].values(), strict=True)
        self.guards = [self._guard(place, rows[:-3], rows[-3:]) for place, rows in found]


def average_atoms(dataset: Sequence[Structure], pool: Sequence[int]) -> float:
    """How many atoms those structures of a data set have on average that are in the pool."""
    return sum(len(dataset[place]) for place in pool) / max(len(pool), 1)
