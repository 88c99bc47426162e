"""Crystals of other kinds: which elements have them, what counts as a hole, and what a fit does about it."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk, molecule
from searching import CUTOFF, in_one_go_and_resumed, silicon_trainer

from equipot.data import Structure
from equipot.fit.crystals import Crystals
from equipot.fit.guards import compression, stiffness

ENERGY = -4.5  # eV per atom


def data(element: str = "Si", force: float = 0.0) -> list[Structure]:
    """A crystal at rest, or nearly, and hotter ones."""
    rng = np.random.default_rng(5)
    made = []
    for k in range(4):
        atoms = bulk(element, cubic=True)
        forces = np.zeros_like(atoms.positions) if k == 0 else rng.normal(size=atoms.positions.shape)
        forces[0, 0] += force
        energy, kind = len(atoms) * (ENERGY + 0.1 * k), "bulk" if k == 0 else "hot"
        made.append(Structure(atoms, energy, forces, config_type=kind, source=f"memory#{k}"))
    return made


def trainer(folder: Path, shift: float) -> Any:
    return silicon_trainer(folder, ENERGY, shift, scale=0.1)


def test_guards_stand_where_dense_or_loose_lattices_are_too_low(tmp_path: Path) -> None:
    made = Crystals(data(), CUTOFF, 0.5, seed=1)
    assert made.run(trainer(tmp_path, -2.0), 800) == len(made.guards) > 0
    stiff, volume = stiffness(data()), data()[0].atoms.get_volume() / 8
    seen = set()
    for guard in made.guards:
        atoms = guard.structure.atoms
        assert np.all(atoms.numbers == 14)
        assert np.all(atoms.pbc)
        dense = atoms.get_volume() / len(atoms) / volume
        assert 0.6**3 < dense < 1.1**3
        seen.add(round(3 * dense))
        gain = 0.2 + 0.5 * compression(min(dense, 1.0), stiff)
        assert guard.structure.energy == pytest.approx(len(atoms) * (ENERGY + gain))
        lowest = guard.structure.energy - 2 * guard.tolerance
        assert lowest == pytest.approx(len(atoms) * (ENERGY - 0.05 + 0.3 * compression(min(dense, 1.0), stiff)))
        assert guard.highest == np.inf
        assert guard.structure.config_type == "bulk"
    assert len(seen) >= 3


def test_what_is_high_enough_has_no_holes(tmp_path: Path) -> None:
    assert Crystals(data(), CUTOFF, 0.5, seed=1).run(trainer(tmp_path, 1e3), 800) == 0


def test_only_crystals_at_rest() -> None:
    def possible(structures: list[Structure]) -> bool:
        return Crystals(structures, CUTOFF, 0.5, seed=1).possible

    assert possible(data())
    assert not possible(data(force=3.0))  # a melt's lowest energy says nothing
    assert not possible([Structure(s.atoms, s.energy) for s in data()])  # nobody knows whether it is at rest
    assert not possible([Structure(molecule("CH4"), -1.0, np.zeros((5, 3)))])
    slab = data()[0].atoms.copy()
    slab.pbc = [True, True, False]
    assert not possible([Structure(slab, -36.0, np.zeros((8, 3)))])
    salt = bulk("NaCl", "rocksalt", a=5.64)
    assert possible([Structure(salt, -8.0, np.zeros((2, 3)))])
    gas = molecule("CH4", cell=[8.0, 8.0, 8.0], pbc=True)
    assert not possible([Structure(gas, -24.0, np.zeros((5, 3)))])
    mixed = bulk("Si", cubic=True).repeat(2)
    mixed.numbers[:3] = 14, 32, 32  # a formula of 64 atoms
    assert not possible([Structure(mixed, -300.0, np.zeros((64, 3)))])


def test_lattices_of_a_compound_have_its_composition(tmp_path: Path) -> None:
    compound = bulk("SiGe2", "fluorite", a=5.4)
    made = Crystals([Structure(compound, 3 * ENERGY, np.zeros((3, 3)))], CUTOFF, 0.5, seed=1)
    rng = np.random.default_rng(3)
    orders, sizes = set(), set()
    for _ in range(40):
        atoms = made._begin(rng).atoms
        assert np.sum(atoms.numbers == 32) == 2 * np.sum(atoms.numbers == 14) > 0
        guard = made._guard(0, atoms.positions, np.asarray(atoms.cell))
        assert np.array_equal(guard.structure.atoms.numbers, atoms.numbers)
        assert guard.structure.source == "crystal from Ge2Si"
        sizes.add(len(atoms))
        shift = atoms.get_scaled_positions()[1] - atoms.get_scaled_positions()[0]
        orders.add(tuple(np.round(shift, 1)))
    assert min(sizes) <= 27
    assert max(sizes) <= 81
    assert len(orders) > 10


def test_it_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole, first = in_one_go_and_resumed(
        lambda: Crystals(data(), CUTOFF, 0.5, seed=1), trainer(tmp_path, -2.0), evaluations=100
    )
    assert len(whole.guards) > len(first.guards) > 0


def test_lattices_of_few_and_of_more_atoms() -> None:
    made = Crystals(data(), CUTOFF, 0.5, seed=1)
    rng = np.random.default_rng(2)
    counts = {len(made._begin(rng).atoms) for _ in range(100)}
    assert counts == {8, 27, 36}
