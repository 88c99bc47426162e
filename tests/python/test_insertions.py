"""Insertions: what counts as a hole, that guards stand there, and that they go on to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule
from searching import CUTOFF, in_one_go_and_resumed, silicon_trainer

from equipot.data import Structure
from equipot.fit.guards import shortest_distances
from equipot.fit.insertions import Insertions
from equipot.fit.objective import graph_set


def crystals(count: int = 4) -> list[Structure]:
    rng = np.random.default_rng(5)
    made = []
    for k in range(count):
        atoms = bulk("Si", cubic=True).repeat((2, 2, 1))
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        made.append(Structure(atoms, -1000.0 + 0.3 * k, np.zeros_like(atoms.positions), source=f"memory#{k}"))
    return made


def trainer(folder: Path, shift: float = 0.0) -> Any:
    """A model that is full of holes unless it is high everywhere."""
    return silicon_trainer(folder, -1000.0 / 32, shift, scale=1.0)


def insertions(data: list[Structure]) -> Insertions:
    return Insertions(data, shortest_distances(data, CUTOFF), CUTOFF, 0.5, seed=1)


def test_guards_stand_where_the_model_is_too_low(tmp_path: Path) -> None:
    data, engine = crystals(), trainer(tmp_path)
    made = insertions(data)
    assert made.run(engine, 400) == len(made.guards) > 0
    graphs = graph_set([g.structure.atoms for g in made.guards], CUTOFF)
    energies = engine.evaluate(graphs, np.arange(len(made.guards)))["energy"]
    for guard, energy in zip(made.guards, energies, strict=True):
        (source,) = (s for s in data if guard.structure.source == f"descent from {s.source}")
        moved = np.any(guard.structure.atoms.positions != source.atoms.positions, axis=1).sum()
        assert guard.structure.energy is not None
        assert source.energy is not None
        gain = guard.structure.energy - source.energy
        assert gain >= 5.0
        assert guard.tolerance == pytest.approx(2.0 + 0.05 * moved + 0.2 * gain)
        assert energy < guard.structure.energy - 2 * guard.tolerance


class Falling:
    """An engine whose forces push all atoms along x, and whose energy falls after some steps."""

    def __init__(self, steps: int) -> None:
        self.steps = self.left = steps

    def evaluate(self, graphs: Any, indices: Any) -> dict[str, Any]:
        count, fallen = len(indices), self.left == 0
        self.left = self.steps if fallen else self.left - 1
        energies = np.full(count, -1e6 if fallen else 1e6)
        return {"energy": energies, "forces": np.tile([2.0, 0.0, 0.0], (32 * count, 1))}


def test_atoms_around_are_let_down_along_their_forces() -> None:
    data = crystals()
    made = insertions(data)
    assert made.run(Falling(3), 30) > 0
    for guard in made.guards:
        (source,) = (s for s in data if guard.structure.source == f"descent from {s.source}")
        along = guard.structure.atoms.positions - source.atoms.positions
        (inserted,) = np.flatnonzero(np.abs(along[:, 1]) > 1e-9)
        others = np.delete(along, inserted, axis=0)
        moved = others[:, 0] > 0
        assert others[moved, 0] == pytest.approx(3 * 0.06)
        assert not others[~moved].any()
        assert 4 < moved.sum() < 31  # those within 4 Å
        assert guard.structure.energy is not None
        assert source.energy is not None
        gain = guard.structure.energy - source.energy
        assert guard.tolerance == pytest.approx(2.0 + 0.05 * (moved.sum() + 1) + 0.2 * gain)


def test_what_is_high_everywhere_has_no_holes(tmp_path: Path) -> None:
    assert insertions(crystals()).run(trainer(tmp_path, shift=1e3), 200) == 0


def test_they_go_on_to_the_bit(tmp_path: Path) -> None:
    data = crystals(20)
    whole, first = in_one_go_and_resumed(lambda: insertions(data), trainer(tmp_path), evaluations=100)
    assert len(whole.guards) > len(first.guards) > 0


def test_only_periodic_structures_have_them() -> None:
    without = Structure(bulk("Si", cubic=True), None, source="memory#0")
    alone = Structure(bulk("Si").__class__("Si", cell=[5, 5, 5], pbc=True), -1.0, source="memory#1")
    methane = Structure(molecule("CH4"), -1.0, source="memory#2")
    assert not insertions([without, alone, methane]).possible
    assert insertions(crystals(1)).possible
    # nothing in the data tells how close atoms may be
    assert not Insertions(crystals(1), {}, CUTOFF, 0.5, seed=1).possible


def test_species_that_never_meet_end_the_search(tmp_path: Path) -> None:
    assert Insertions(crystals(1), {(1, 1): 0.7}, CUTOFF, 0.5, seed=1).run(trainer(tmp_path), 1000) == 0
