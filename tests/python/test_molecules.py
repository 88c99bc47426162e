"""Molecules cut out of periodic data: they are whole, have their share of the energy, and what has none gives none."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from equipot.data import Structure
from equipot.fit.hot_walks import HotWalks
from equipot.fit.molecules import molecules

ENERGIES = {"H2O": -470.0, "CH4": -220.0, "Ar": -1.0}
SPACING = 4.5  # Å


def liquid(contents: Mapping[str, int], seed: int) -> Structure:
    """Molecules at the points of a lattice, in any order, turned at random, with their atoms wrapped into the cell."""
    rng = np.random.default_rng(seed)
    names = rng.permutation([name for name, count in contents.items() for _ in range(count)])
    side = int(np.ceil(len(names) ** (1 / 3)))
    atoms = Atoms(cell=[side * SPACING] * 3, pbc=True)
    for name, place in zip(names, np.ndindex(side, side, side), strict=False):
        one = Atoms("Ar") if name == "Ar" else molecule(name)
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate(SPACING * np.array(place) - one.positions.mean(axis=0))
        atoms += one
    atoms.wrap()
    energy = sum(count * ENERGIES[name] for name, count in contents.items())
    return Structure(atoms, energy, config_type="liquid", source=f"memory#{seed}")


def test_molecules_are_whole_and_have_their_share_of_the_energy() -> None:
    made = molecules([liquid({"H2O": 27}, seed) for seed in range(20)], seed=1)
    assert len(made) == 20
    sizes = set()
    for k, guard in enumerate(made):
        cut = guard.structure
        assert not cut.atoms.pbc.any()
        assert cut.config_type == "liquid"
        count = len(cut) // 3
        sizes.add(count)
        name = "a molecule" if count == 1 else f"{count} molecules"
        assert cut.source == f"{name} of memory#{k}"
        lengths = cut.atoms.get_all_distances()
        bound = lengths[np.ix_(cut.atoms.numbers == 8, cut.atoms.numbers == 1)] < 1.2
        assert bound.shape == (count, 2 * count)
        assert np.all(bound.sum(axis=0) == 1)
        assert np.all(bound.sum(axis=1) == 2)
        # Neighbours on the lattice, not images on the other side of the cell.
        assert lengths.max() < 4 * SPACING
        assert guard.structure.energy == pytest.approx(count * (ENERGIES["H2O"] + 0.29))
        assert guard.structure.energy - 2 * guard.tolerance == pytest.approx(count * ENERGIES["H2O"])
        assert guard.highest == pytest.approx(count * (ENERGIES["H2O"] + 0.58))
    assert sizes >= {1, 2, 3}
    assert HotWalks([guard.structure for guard in made], 4.0, 0.5, seed=1).possible


def test_kinds_are_told_apart_where_their_numbers_vary() -> None:
    varied = [liquid({"H2O": 4 + k % 3, "CH4": 3 + k % 4}, k) for k in range(20)]
    made = molecules(varied, seed=1)
    assert len(made) == 20
    for guard in made:
        oxygens = int(np.sum(guard.structure.atoms.numbers == 8))
        carbons = int(np.sum(guard.structure.atoms.numbers == 6))
        assert guard.structure.energy is not None
        lowest = oxygens * ENERGIES["H2O"] + carbons * ENERGIES["CH4"]
        assert guard.structure.energy - 2 * guard.tolerance == pytest.approx(lowest)
    assert molecules([liquid({"H2O": 4, "CH4": 4}, k) for k in range(5)], seed=1) == []


def test_what_is_no_molecule_gives_none() -> None:
    carbon = bulk("C", cubic=True)
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    chain = Atoms("CH2CH2", cell=[2.6, 9, 9], pbc=True)  # bound to its own image
    chain.positions[:] = [[0, 0, 0.4], [0, 0.9, 1], [0, -0.9, 1], [1.3, 0, -0.4], [1.3, 0.9, -1], [1.3, -0.9, -1]]
    for atoms in (carbon, salt, chain, molecule("H2O")):
        assert molecules([Structure(atoms, -10.0)], seed=1) == []
    with_argon = molecules([liquid({"Ar": 1 + k, "CH4": 2}, k) for k in range(12)], seed=1)
    assert len(with_argon) < 12
    assert all(18 not in guard.structure.atoms.numbers for guard in with_argon)
    assert molecules([Structure(liquid({"H2O": 8}, 1).atoms)], seed=1) == []
