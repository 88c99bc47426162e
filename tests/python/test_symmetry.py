"""Energies do not depend on the frame or on the order of atoms; forces, stresses and virials turn with the frame."""
# SPDX-License-Identifier: MIT

import numpy as np
import pytest
from ase import Atoms
from structures import random_atoms, random_rotation

import equipot

PROPERTIES = ("energy", "energies", "forces", "virial", "virials", "centroid_virials")

# Sums of a few thousand terms of the size of the result: round-off of 1e-16 grows to some 1e-13, and 1e-11 leaves room
# for the cancellation inside the random models.
TOLERANCE = 1e-11


def close(found, expected, scale):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale)


def scale_of(results):
    return max(1.0, *(float(np.abs(results[name]).max()) for name in PROPERTIES))


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("inversion", [1.0, -1.0])
def test_rotation(any_potential, periodic, inversion):
    cell = np.array([[5.5, 0.3, 0.0], [-0.7, 6.1, 0.4], [0.2, 0.9, 5.8]]) if periodic else None
    atoms = random_atoms(1, any_potential.species, 9, cell=cell)
    q = inversion * random_rotation(np.random.default_rng(2))
    rotated = atoms.copy()
    rotated.positions = atoms.positions @ q.T
    rotated.cell = np.asarray(atoms.cell) @ q.T
    before = any_potential.compute(atoms, PROPERTIES)
    after = any_potential.compute(rotated, PROPERTIES)
    scale = scale_of(before)
    close(after["energy"], before["energy"], scale)
    close(after["energies"], before["energies"], scale)
    close(after["forces"], before["forces"] @ q.T, scale)
    close(after["virial"], q @ before["virial"] @ q.T, scale)
    close(after["virials"], q @ before["virials"] @ q.T, scale)
    close(after["centroid_virials"], q @ before["centroid_virials"] @ q.T, scale)


def test_translation_and_wrapping(any_potential):
    atoms = random_atoms(3, any_potential.species, 8)
    moved = atoms.copy()
    moved.positions += [1.234, -17.3, 5.1]
    moved.positions[::2] += 3 * np.asarray(atoms.cell)[1] - 7 * np.asarray(atoms.cell)[2]
    before = any_potential.compute(atoms, PROPERTIES)
    after = any_potential.compute(moved, PROPERTIES)
    # Positions some ten cells away lose a digit of their differences.
    scale = 10 * scale_of(before)
    for name in PROPERTIES:
        close(after[name], before[name], scale)


def test_permutation(any_potential):
    atoms = random_atoms(4, any_potential.species, 9)
    order = np.random.default_rng(5).permutation(len(atoms))
    before = any_potential.compute(atoms, PROPERTIES)
    after = any_potential.compute(atoms[order], PROPERTIES)
    scale = scale_of(before)
    for name in ("energy", "virial"):
        close(after[name], before[name], scale)
    for name in ("energies", "forces", "virials", "centroid_virials"):
        close(after[name], before[name][order], scale)


def test_permutation_of_many(potential):
    """So many that they are computed in an order of space: alone, among others, and with neighbours that are kept."""
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*3 * [np.arange(11)], indexing="ij"), axis=-1).reshape(-1, 3)
    symbols = [potential.species[k % len(potential.species)] for k in range(len(grid))]
    positions = 2.4 * grid + rng.uniform(-0.35, 0.35, grid.shape)
    atoms = Atoms(symbols, positions, cell=3 * [2.4 * 11], pbc=True)
    order, small = rng.permutation(len(atoms)), random_atoms(5, potential.species, 7)
    before = potential.compute(atoms, (*PROPERTIES, "features"))
    _, after, _ = potential.compute([small, atoms[order], small], (*PROPERTIES, "features"))
    scale = scale_of(before)
    for name in (*PROPERTIES, "features"):
        close(after[name], before[name] if name in ("energy", "virial") else before[name][order], scale)
    moving = atoms[order]
    moving.calc = equipot.Calculator(potential)
    for step in range(2):
        moving.positions += 0.05 * np.sin(moving.positions + step)
        found = potential.compute(moving, ("forces", "energies"))
        close(moving.get_forces(), found["forces"], scale)
        close(moving.get_potential_energies(), found["energies"], scale)


def test_supercell(any_potential):
    atoms = random_atoms(6, any_potential.species, 6)
    single = any_potential.compute(atoms, ("energy", "forces", "stress"))
    double = any_potential.compute(atoms.repeat((2, 1, 2)), ("energy", "forces", "stress"))
    scale = max(1.0, abs(single["energy"]), np.abs(single["forces"]).max())
    close(double["energy"] / 4, single["energy"], scale)
    close(double["forces"], np.tile(single["forces"], (4, 1)), scale)
    close(double["stress"], single["stress"], scale)


def test_forces_sum_to_zero_and_virial_is_symmetric(any_potential):
    results = any_potential.compute(random_atoms(7, any_potential.species, 9), PROPERTIES)
    scale = scale_of(results)
    close(results["forces"].sum(axis=0), 0.0, scale)
    close(results["virial"], results["virial"].T, scale)
    close(results["virials"], results["virials"].transpose(0, 2, 1), scale)


def test_parts_sum_to_the_whole(any_potential):
    results = any_potential.compute(random_atoms(8, any_potential.species, 9), (*PROPERTIES, "stress", "stresses"))
    scale = scale_of(results)
    close(results["energies"].sum(), results["energy"], scale)
    close(results["virials"].sum(axis=0), results["virial"], scale)
    close(results["centroid_virials"].sum(axis=0), results["virial"], scale)
    close(results["stresses"].sum(axis=0), results["stress"], scale)


def test_features_are_invariant_where_scalar(any_potential):
    atoms = random_atoms(9, any_potential.species, 6, cell=None)
    rotated = atoms.copy()
    rotated.positions = atoms.positions @ random_rotation(np.random.default_rng(10)).T
    before = any_potential.compute(atoms, ("features",))["features"]
    after = any_potential.compute(rotated, ("features",))["features"]
    assert before.shape == (6, any_potential.feature_width)
    # The last layer gives scalars to the readout: the final K columns stay, and so does the length of the whole row.
    channels = any_potential.info["channels"]
    scale = max(1.0, np.abs(before).max())
    close(after[:, -channels:], before[:, -channels:], scale)
    close((after**2).sum(axis=1), (before**2).sum(axis=1), scale**2 * before.shape[1])
