"""The precisions `mixed` and `float32` against `float64`.

Three kinds of bounds:

- What the project promises, absolute: forces within 1e-4 eV/Å and energies within 1e-6 eV per atom. Held where forces
  are those of matter, and not of a random model or of atoms pushed into each other.
- Relative to the largest force F of a structure, as F × 3e-5 and F × 3e-6 Å per atom, where F is larger than 1 eV/Å.
  A float resolves 6e-8 of a number; a force is a sum over a hundred edges with terms larger than the sum that mostly
  cancel. Together that has been measured to cost up to 250 roundings (diamond64).
- Round-off of doubles, for whatever `mixed` sums in doubles.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from structures import random_atoms, random_rotation, rattled_crystal

import equipot
from equipot.golden import Reference, references, unpack

FORCE, ENERGY = 1e-4, 1e-6  # promised; eV/Å, eV per atom
RELATIVE_FORCE, RELATIVE_ENERGY = 3e-5, 3e-6  # of the largest force; 1, Å per atom
SINGLE = ["mixed", "float32"]
ALL = ("energy", "energies", "forces", "stress", "virials")

# The structure of the golden models whose forces ask for more than floats have, with what has been measured: 1.1e-3
# eV/Å of 80 and 7e-4 of 380. Of all others, the worst is off by 4e-5 (water64).
HARD = {"diamond64"}


def largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


@pytest.fixture(scope="module", params=SINGLE)
def silicon_single(request: pytest.FixtureRequest, silicon: equipot.Potential) -> equipot.Potential:
    """The silicon potential that ships, in a precision with floats."""
    return equipot.load(silicon.path, dtype=request.param)


@pytest.fixture(scope="module")
def silicon_mixed(silicon: equipot.Potential) -> equipot.Potential:
    return equipot.load(silicon.path, dtype="mixed")


# From cold to beyond the melt: root mean square displacements in Å, forces of 0.5 to 7 eV/Å.
@pytest.mark.parametrize("amplitude", [0.01, 0.05, 0.1])
def test_silicon_keeps_the_promise(silicon, silicon_single, amplitude):
    atoms = rattled_crystal(amplitude=amplitude, seed=3)
    exact, found = (p.compute(atoms, ALL) for p in (silicon, silicon_single))
    assert largest(found["forces"] - exact["forces"]) < FORCE
    assert abs(found["energy"] - exact["energy"]) < ENERGY * len(atoms)
    # A stress is a sum over n edges of force times distance, divided by the volume: with errors of the edges that are
    # independent and no larger than FORCE, sqrt(64 atoms × 30 edges) × 3 Å × 1e-4 eV/Å / 1280 Å³.
    np.testing.assert_allclose(found["stress"], exact["stress"], rtol=0, atol=1e-5)


def test_silicon_surface_and_cluster(silicon, silicon_single):
    """Without periodicity, far from the origin, and with atoms that have few neighbours."""
    for pbc in ((True, True, False), False):
        atoms = rattled_crystal(amplitude=0.05, seed=4)
        atoms.center(vacuum=8.0, axis=2)
        atoms.positions += 1e4
        atoms.pbc = pbc
        exact, found = (p.compute(atoms) for p in (silicon, silicon_single))
        # Displacements are taken in doubles, so a shift of 1e4 Å costs nothing; in floats it would cost 1e-3 Å.
        assert largest(found["forces"] - exact["forces"]) < FORCE
        assert abs(found["energy"] - exact["energy"]) < ENERGY * len(atoms)


@pytest.mark.parametrize("dtype", SINGLE)
def test_random_models(any_architecture, make_potential, dtype):
    exact_potential, potential = make_potential(any_architecture), make_potential(any_architecture, dtype=dtype)
    structures = [random_atoms(seed, potential.species, 8) for seed in range(4)]
    results = zip(structures, exact_potential.compute(structures, ALL), potential.compute(structures, ALL), strict=True)
    for atoms, exact, found in results:
        scale = max(1.0, largest(exact["forces"]))
        assert largest(found["forces"] - exact["forces"]) < RELATIVE_FORCE * scale
        assert abs(found["energy"] - exact["energy"]) < RELATIVE_ENERGY * scale * len(atoms)
        # Eight atoms, each with edges of some Å; virials in eV.
        assert largest(found["virials"] - exact["virials"]) < 8 * RELATIVE_FORCE * scale


def test_what_is_summed_in_doubles(silicon_mixed):
    atoms = rattled_crystal(amplitude=0.1, seed=5)
    found = silicon_mixed.compute(atoms, ALL)
    # What one end of an edge gains the other loses, to the last bit; sums of some thousand doubles of size 1.
    assert largest(found["forces"].sum(axis=0)) < 1e-11
    np.testing.assert_allclose(found["energies"].sum(), found["energy"], rtol=1e-14)
    tensor = -found["virials"].sum(axis=0) / atoms.get_volume()
    np.testing.assert_allclose(tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], found["stress"], atol=1e-13)
    assert found["energies"].dtype == found["forces"].dtype == np.float64
    # Much smaller than one float's resolution of the total energy: sums do not go through floats.
    many = silicon_mixed.compute(atoms.repeat(2), ("energy",))["energy"]
    assert many == pytest.approx(8 * found["energy"], abs=1e-7 * len(atoms))


def test_mixed_is_deterministic(silicon, silicon_mixed):
    atoms = rattled_crystal(amplitude=0.1, seed=6)
    first = silicon_mixed.compute(atoms, ALL)
    silicon_mixed.compute(rattled_crystal(repeat=1), ALL)  # something else in between
    for potential in (silicon_mixed, equipot.load(silicon.path, dtype="mixed")):
        again = potential.compute(atoms, ALL)
        for name in ALL:
            np.testing.assert_array_equal(again[name], first[name])


def test_batch_equals_single(silicon_mixed):
    structures = [rattled_crystal(repeat=1 + seed % 2, amplitude=0.1, seed=seed) for seed in range(5)]
    for atoms, found in zip(structures, silicon_mixed.compute(structures, ALL), strict=True):
        alone = silicon_mixed.compute(atoms, ALL)
        for name in ALL:
            # Round-off of floats: which atoms share a tile may change the order of sums, by a few units of 6e-8.
            np.testing.assert_allclose(found[name], alone[name], rtol=1e-9, atol=2e-6 * max(1.0, largest(alone[name])))


def test_symmetry_in_mixed(silicon_mixed):
    rng = np.random.default_rng(7)
    atoms = rattled_crystal(amplitude=0.1, seed=7)
    found = silicon_mixed.compute(atoms)
    q, order = random_rotation(rng), rng.permutation(len(atoms))
    turned = Atoms(atoms.numbers[order], (atoms.positions @ q.T)[order], cell=np.asarray(atoms.cell) @ q.T, pbc=True)
    again = silicon_mixed.compute(turned)
    assert largest(again["forces"] - (found["forces"] @ q.T)[order]) < FORCE
    assert abs(again["energy"] - found["energy"]) < ENERGY * len(atoms)


def test_forces_are_the_slope_of_the_energy_in_mixed(silicon_mixed):
    """Work along a path against the change of the energy: what dynamics conserve."""
    atoms = rattled_crystal(amplitude=0.05, seed=8)
    direction = np.random.default_rng(8).normal(size=atoms.positions.shape)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    work, start = 0.0, atoms.positions.copy()
    for node, weight in zip(nodes, weights, strict=True):
        atoms.positions = start + 0.05 * node * direction
        work += 0.05 * weight * np.vdot(silicon_mixed.compute(atoms)["forces"], direction)
    energies = []
    for end in (-1, 1):
        atoms.positions = start + 0.05 * end * direction
        energies.append(silicon_mixed.compute(atoms, ("energy",))["energy"])
    # Ends within ENERGY; forces along 0.1 Å within FORCE, independent for 192 components.
    assert abs(work + energies[1] - energies[0]) < 2 * ENERGY * len(atoms) + FORCE * 0.1 * np.sqrt(192)


@pytest.fixture(scope="module", params=["B_128x0e_agnesi_zbl", "B_128x0e_128x1o_agnesi_zbl"])
def golden(
    request: pytest.FixtureRequest, golden_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Reference]]:
    folder = golden_folder / request.param
    if not folder.is_dir():
        pytest.skip(f"no reference model {request.param}")
    # The largest is left out for its time: a smaller one of the same kind is there.
    chosen = [r for r in references(folder / "reference.npz") if len(r.atoms) < 150]
    return unpack(folder, tmp_path_factory.mktemp("golden")), chosen


def test_golden_models(golden, record_property):
    """Random weights, tuned so that every layer and every order matters: harder than what fits make."""
    model, structures = golden
    atoms = [r.atoms for r in structures]
    exact, found = (equipot.load(model, dtype=d).compute(atoms) for d in ("float64", "mixed"))
    for reference, x, y in zip(structures, exact, found, strict=True):
        count, size = len(reference.atoms), largest(x["forces"])
        force = largest(y["forces"] - x["forces"])
        energy = abs(y["energy"] - x["energy"]) / count
        record_property(reference.name, f"{force:.1e} eV/Å of {size:.2g}, {energy:.1e} eV per atom")
        if reference.name in HARD:
            assert force < RELATIVE_FORCE * max(1.0, size), reference.name
        else:
            assert force < FORCE, reference.name
        # Rounding nothing but the weights to floats and computing in doubles changes these energies by as much: up to
        # 3e-6 eV per atom, and 9e-5 in diamond64. So ENERGY is not within reach of any float for random weights.
        assert energy < RELATIVE_ENERGY * max(1.0, size), reference.name
