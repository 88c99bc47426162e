"""Where holes of solids and melts are looked for: atoms put elsewhere, other lattices, and what has more room."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping, Sequence

from equipot.data import Structure
from equipot.fit.crystals import Crystals
from equipot.fit.expansions import Expansions
from equipot.fit.insertions import Insertions
from equipot.fit.objective import SHORTEST
from equipot.fit.searches import Search


def solid_searches(
    dataset: Sequence[Structure], shortest: Mapping[tuple[int, int], float], cutoff: float, seed: int
) -> list[Search]:
    """Searches from the training data, with their `shortest_distances`."""
    return [
        Insertions(dataset, shortest, cutoff, SHORTEST, seed),
        Crystals(dataset, cutoff, SHORTEST, seed),
        Expansions(dataset, cutoff, SHORTEST, seed),
    ]
