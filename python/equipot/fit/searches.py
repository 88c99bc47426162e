"""Searches for holes of a model in training: the guards that a search has put there, and how it goes on to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipot import _equipot
from equipot.fit.guards import Guard

_MOST = 2000  # guards


class Search(ABC):
    """A search and the guards that it has found.

    Parameters
    ----------
    pool : list of int
        Indices of the structures of the data that it begins with.
    """

    def __init__(self, pool: list[int]) -> None:
        self.guards: list[Guard] = []
        self._pool = pool
        self._places: list[int] = []  # of the structures that they began with
        self._round = 0

    @property
    def possible(self) -> bool:
        """Whether there are structures to begin with, and room for more guards."""
        return bool(self._pool) and len(self.guards) < _MOST

    @abstractmethod
    def run(self, trainer: _equipot.Trainer, evaluations: int) -> int:
        """Search with the engine's weights, for about so many evaluations; how many guards that gives."""

    @abstractmethod
    def _guard(self, place: int, positions: NDArray[np.float64]) -> Guard:
        """The guard where a structure of the data has come to these positions."""

    def _keep(self, place: int, guard: Guard) -> None:
        self.guards.append(guard)
        self._places.append(place)

    def state(self) -> dict[str, Any]:
        """What a run needs to go on."""
        positions = [g.structure.atoms.positions for g in self.guards]
        return {
            "round": self._round,
            "places": self._places,
            "guards": {str(i): x for i, x in enumerate(positions)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._round = int(state["round"])
        self._places = [int(place) for place in state["places"]]
        self.guards = [self._guard(*found) for found in zip(self._places, state["guards"].values(), strict=True)]
