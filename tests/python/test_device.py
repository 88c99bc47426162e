"""The code of GPUs, run on the CPU with device="host": the same answers as the CPU's own code.

It cannot show that a GPU runs it; benchmarks/gpu.py does, where there is one.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms
from structures import random_atoms, rattled_crystal
from test_golden import case  # noqa: F401 (a fixture)

import equipot
from equipot.golden import QUANTITIES, check

ALL = ("energy", "energies", "forces", "stress", "virials", "centroid_virials", "features")


def assert_same(found: dict, expected: dict, relative: float) -> None:
    for name in ALL:
        size = float(np.abs(expected[name]).max(initial=0.0))
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=relative * size, err_msg=name)


# Double: sums in another order. Float: either chooses by itself how fine its tables are, which err by up to 2e-5 eV/Å
# here; a hundred roundings of 6e-8 come to less.
@pytest.mark.parametrize(("dtype", "relative"), [("float64", 1e-10), ("mixed", 5e-5), ("float32", 5e-5)])
def test_same_as_on_the_cpu(any_architecture, make_potential, dtype, relative):
    cpu = make_potential(any_architecture, dtype=dtype)
    device = make_potential(any_architecture, dtype=dtype, device="host")
    for seed in range(3):
        atoms = random_atoms(seed, cpu.species, 9)
        assert_same(device.compute(atoms, ALL), cpu.compute(atoms, ALL), relative)


def test_sizes_that_come_and_go(make_potential):
    """Memory grows and stays; nothing of a larger system before may show."""
    cpu, device = make_potential("default"), make_potential("default", device="host")
    empty = device.compute(Atoms(), ("energy", "forces"))
    assert empty["energy"] == 0
    assert empty["forces"].shape == (0, 3)
    for count in (2, 12, 1, 7):
        atoms = random_atoms(count, cpu.species, count, cell=9.0)
        assert_same(device.compute(atoms, ALL), cpu.compute(atoms, ALL), 1e-10)
    atoms = Atoms(cpu.species[0], [[1, 2, 3]])
    assert device.compute(atoms)["energy"] == pytest.approx(cpu.compute(atoms)["energy"], rel=1e-14)
    batch = [random_atoms(seed, cpu.species, 4 + seed) for seed in range(3)]
    for found, expected in zip(device.compute(batch, ALL), cpu.compute(batch, ALL), strict=True):
        assert_same(found, expected, 1e-10)


def test_atoms_in_any_order(make_potential):
    device = make_potential("density_agnesi_zbl", device="host")
    atoms = random_atoms(5, device.species, 10)
    order = np.random.default_rng(5).permutation(len(atoms))
    found, again = device.compute(atoms), device.compute(atoms[order])
    np.testing.assert_allclose(again["forces"], found["forces"][order], atol=1e-10 * np.abs(found["forces"]).max())
    assert again["energy"] == pytest.approx(found["energy"], rel=1e-13)


def test_calculator_and_copies(model_file):
    atoms = random_atoms(6, ["H", "O"], 8)
    atoms.calc = equipot.Calculator(model_file("default"), device="host")
    potential = atoms.calc.potential
    assert "device code" in potential.execution
    again = pickle.loads(pickle.dumps(copy.copy(potential)))
    assert again.device == "host"
    np.testing.assert_allclose(again.compute(atoms)["forces"], atoms.get_forces(), atol=1e-11)
    assert potential.device_bytes_per_atom(40) > 40 * 32  # neighbours, their places and displacements


def test_devices_that_are_not_there(model_file):
    with pytest.raises(equipot.EquipotError, match=r"device must be .*not \"abacus\""):
        equipot.load(model_file("default"), device="abacus")
    with pytest.raises(equipot.EquipotError, match="exact radial functions are for the CPU"):
        equipot.load(model_file("default"), device="host", radial="exact")
    close = Atoms("HO", [[0, 0, 0], [0.45, 0, 0]])
    with pytest.raises(equipot.EquipotError, match=r"closer than 0\.5 Å"):
        equipot.load(model_file("default"), device="host").compute(close)


def test_silicon(silicon):
    atoms = rattled_crystal(amplitude=0.05)
    device = equipot.load(silicon.path, device="host")
    assert_same(device.compute(atoms, ALL), silicon.compute(atoms, ALL), 1e-10)


def test_agrees_with_mace(case):  # noqa: F811
    model, structures = case
    # Not the one that is closer than radial tables begin, nor, for their time, the largest.
    chosen = [r for r in structures if r.closest >= 0.5 and len(r.atoms) < 100]
    assert len(chosen) > len(structures) / 2
    for name, found in check(model, chosen, "splined", "host").items():
        assert found.value <= QUANTITIES[name][2], f"{name} of {found.structure}"
