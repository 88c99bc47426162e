"""Fragments of solids and melts: what is left, what counts as a hole, and that a search goes on to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from searching import CUTOFF, in_one_go_and_resumed, silicon_trainer

from equipot.data import Structure
from equipot.fit.cohesion import Neighborhood, cohesive_energy
from equipot.fit.fragments import Fragments

ENERGY = -4.5  # eV per atom


def data() -> list[Structure]:
    """A crystal at rest, and hotter ones."""
    rng = np.random.default_rng(5)
    made = []
    for k in range(4):
        atoms = bulk("Si", cubic=True).repeat((2, 1, 1))
        atoms.positions += rng.normal(scale=0.1 * k, size=atoms.positions.shape)
        energy = len(atoms) * (ENERGY + 0.1 * k)
        made.append(Structure(atoms, energy, np.zeros((16, 3)), config_type="bulk", source=f"memory#{k}"))
    return made


def fragments(structures: list[Structure]) -> Fragments:
    return Fragments(structures, CUTOFF, 0.5, seed=1)


def test_guards_stand_where_fragments_are_too_low(tmp_path: Path) -> None:
    structures = data()
    made = fragments(structures)
    assert made.run(silicon_trainer(tmp_path, ENERGY, -2.0, scale=0.1), 400) == len(made.guards) > 0
    cohesive = cohesive_energy([14])
    assert cohesive is not None
    sizes = set()
    for guard in made.guards:
        atoms = guard.structure.atoms
        (source,) = (s for s in structures if guard.structure.source == f"fragment of {s.source}")
        cost = max(Neighborhood(source.atoms, cohesive).cost(atoms), 0.0)
        assert source.energy is not None
        before = 0.5 * (source.energy / 16 + ENERGY)
        assert guard.structure.energy == pytest.approx(len(atoms) * before + cost)
        lowest = guard.structure.energy - 2 * guard.tolerance
        assert lowest == pytest.approx(len(atoms) * (before - 0.1) + 0.6 * cost)
        assert guard.highest == np.inf
        sizes.add(len(atoms))
    assert min(sizes) < 6
    assert max(sizes) > 10


def test_what_is_high_enough_has_no_holes(tmp_path: Path) -> None:
    assert fragments(data()).run(silicon_trainer(tmp_path, ENERGY, 1e3, scale=0.1), 400) == 0


def test_only_solids_whose_cohesive_energy_is_known() -> None:
    assert fragments(data()).possible
    for other in (bulk("He", "fcc", a=4.2, cubic=True), molecule("CH4", vacuum=4.0, pbc=True), bulk("C", cubic=True)):
        assert not fragments([Structure(other, -1.0, np.zeros((len(other), 3)))]).possible
    atom = bulk("Cu")
    assert not fragments([Structure(atom, -3.5, np.zeros((1, 3)))]).possible
    assert not fragments([]).possible


def test_compounds_keep_their_composition() -> None:
    compound = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    made = fragments([Structure(compound, -27.0, np.zeros((8, 3)))])
    rng = np.random.default_rng(3)
    for _ in range(10):
        atoms = made._begin(rng).atoms
        assert np.sum(atoms.numbers == 11) == np.sum(atoms.numbers == 17) > 0
        guard = made._guard(0, atoms.positions, np.asarray(atoms.cell))
        assert np.array_equal(guard.structure.atoms.numbers, atoms.numbers)


def test_it_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole, first = in_one_go_and_resumed(
        lambda: fragments(data()), silicon_trainer(tmp_path, ENERGY, -2.0, scale=0.1), evaluations=60
    )
    assert len(whole.guards) > len(first.guards) > 0
