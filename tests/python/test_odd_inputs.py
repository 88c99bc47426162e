"""Unusual structures give right answers; impossible ones give one clear sentence."""
# SPDX-License-Identifier: MIT

import numpy as np
import pytest
from ase import Atoms
from structures import random_atoms

import equipot
from equipot.modelfile import read_model, write_model

ALL = ("energy", "energies", "forces", "virial", "virials", "centroid_virials", "features")


def test_one_atom_alone(any_potential):
    symbol = any_potential.species[0]
    results = any_potential.compute(Atoms(symbol, [[1, 2, 3]]), ALL)
    np.testing.assert_array_equal(results["forces"], np.zeros((1, 3)))
    np.testing.assert_array_equal(results["virial"], np.zeros((3, 3)))
    far = any_potential.compute(Atoms(symbol, [[1, 2, 3]], cell=np.eye(3) * 50, pbc=True), ("energy", "stress"))
    assert far["energy"] == results["energy"]
    np.testing.assert_array_equal(far["stress"], np.zeros(6))


def test_atoms_out_of_reach_of_each_other(any_potential):
    symbols = any_potential.species[:2] * 2
    positions = [[100.0 * k, 0, 0] for k in range(len(symbols))]
    results = any_potential.compute(Atoms(symbols, positions), ALL)
    np.testing.assert_array_equal(results["forces"], 0.0)
    for symbol, energy in zip(symbols, results["energies"], strict=True):
        assert any_potential.compute(Atoms(symbol, [[0, 0, 0]]), ("energy",))["energy"] == energy


def test_a_cell_much_smaller_than_the_cutoff(potential):
    """One atom that sees dozens of its own images, against the supercell where they are atoms of their own."""
    cell = np.array([[2.1, 0.1, 0.0], [0.3, 2.2, -0.2], [0.0, 0.4, 2.0]])
    single = Atoms(potential.species[0], [[0.3, 0.2, 0.1]], cell=cell, pbc=True)
    small = potential.compute(single, ("energy", "stress"))
    big = potential.compute(single.repeat(3), ("energy", "stress", "forces"))
    scale = max(1.0, abs(small["energy"]))
    # Sums of the same terms in another order.
    assert big["energy"] / 27 == pytest.approx(small["energy"], abs=1e-11 * scale)
    np.testing.assert_allclose(big["stress"], small["stress"], atol=1e-11 * scale)


def test_a_very_skewed_cell_is_the_same_crystal(potential):
    atoms = random_atoms(1, potential.species, 6, cell=5.0)
    skewed = atoms.copy()
    skewed.set_cell(np.array([[1, 0, 0], [9, 1, 0], [-14, 23, 1]]) @ np.asarray(atoms.cell))
    before = potential.compute(atoms, ("energy", "forces", "stress"))
    after = potential.compute(skewed, ("energy", "forces", "stress"))
    # Lattice vectors of 100 Å: some 1e-14 Å of round-off in distances.
    scale = max(1.0, np.abs(before["forces"]).max(), abs(before["energy"]))
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-11 * scale)


@pytest.mark.parametrize(
    "pbc", [(True, False, False), (False, True, True), (False, False, True), (False, False, False)]
)
def test_mixed_periodicity(potential, pbc):
    """Open directions are like a cell with a lot of vacuum, whatever their lattice vectors are."""
    atoms = random_atoms(2, potential.species, 6, cell=5.0, pbc=pbc)
    vacuum = atoms.copy()
    scale = np.where(pbc, 1.0, 20.0)
    vacuum.set_cell(np.asarray(atoms.cell) * scale)
    vacuum.set_pbc(True)
    no_vectors = atoms.copy()
    no_vectors.set_cell(np.asarray(atoms.cell) * np.array(pbc)[:, None])
    expected = potential.compute(vacuum, ("energy", "forces"))
    for other in (atoms, no_vectors):
        found = potential.compute(other, ("energy", "forces"))
        size = max(1.0, np.abs(expected["forces"]).max(), abs(expected["energy"]))
        assert found["energy"] == pytest.approx(expected["energy"], abs=1e-11 * size)
        np.testing.assert_allclose(found["forces"], expected["forces"], atol=1e-11 * size)


def test_coordinates_far_from_the_origin(potential):
    atoms = random_atoms(3, potential.species, 6, cell=None)
    here = potential.compute(atoms, ("forces",))["forces"]
    atoms.positions += 1e6
    there = potential.compute(atoms, ("forces",))["forces"]
    # Positions of 1e6 Å carry 1e-10 Å of round-off, times the stiffness of the random model.
    np.testing.assert_allclose(there, here, atol=1e-6 * max(1.0, np.abs(here).max()))


def test_no_atoms_and_no_structures(potential):
    results = potential.compute(Atoms(), ALL)
    assert results["energy"] == 0.0
    assert results["forces"].shape == (0, 3)
    assert results["features"].shape == (0, potential.feature_width)
    assert potential.compute(Atoms(cell=np.eye(3) * 4, pbc=True), ("energy",))["energy"] == 0.0
    assert potential.compute([], ALL) == []
    atoms = random_atoms(4, potential.species, 4)
    results = potential.compute([Atoms(), atoms, Atoms()], ("energy", "forces"))
    assert results[0]["energy"] == 0.0
    assert results[1]["energy"] == pytest.approx(potential.compute(atoms)["energy"], rel=1e-12)
    assert len(results[2]["forces"]) == 0


def refused(potential, atoms, *words, properties=("energy", "forces")):
    with pytest.raises(equipot.EquipotError) as caught:
        potential.compute(atoms, properties)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_an_element_that_the_model_lacks(potential):
    refused(potential, Atoms("Og", [[0, 0, 0]]), "Og", *potential.species)
    refused(potential, Atoms("X", [[0, 0, 0]]), "atomic number 0")
    refused(potential, [Atoms(potential.species[0], [[0, 0, 0]]), Atoms("U", [[0, 0, 0]])], "structure 1", "U")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_positions_that_are_not_finite(potential, bad):
    atoms = random_atoms(5, potential.species, 4)
    atoms.positions[2, 1] = bad
    refused(potential, atoms, "atom 2", "not finite")
    refused(potential, [random_atoms(5, potential.species, 4), atoms], "structure 1", "atom 2")


def test_overlapping_atoms(potential):
    symbol = potential.species[0]
    refused(potential, Atoms([symbol] * 3, [[0, 0, 0], [2, 0, 0], [2, 0, 0]]), "atom 1", "atom 2", "0 Å")
    refused(potential, Atoms([symbol] * 2, [[0, 0, 0], [5, 0, 0]], cell=np.eye(3) * 5, pbc=True), "atom 0", "atom 1")


def test_very_close_atoms_are_finite(potential):
    results = potential.compute(Atoms([potential.species[0]] * 2, [[0, 0, 0], [1e-3, 0, 0]]), ALL)
    for name in ALL:
        assert np.isfinite(results[name]).all(), name


def test_results_that_are_not_finite(model_file, tmp_path):
    """Weights with which single precision overflows: nobody gets numbers that are none."""
    model = read_model(model_file("default"))
    for name in model.arrays:
        if name.startswith("layer.0.mix."):
            model.arrays[name] *= 1e20
    write_model(model, tmp_path / "large.equipot")
    large = equipot.load(tmp_path / "large.equipot", dtype="mixed")
    alone, pair = Atoms(large.species[0], [[0, 0, 0]]), Atoms([large.species[0]] * 2, [[0, 0, 0], [2, 0, 0]])
    assert not np.isfinite(large.compute(pair, check_finite=False)["energy"])
    refused(large, [alone, pair], "structure 1", f"atom 0 ({large.species[0]})", "not a finite number")
    pair.calc = equipot.Calculator(large)
    with pytest.raises(equipot.EquipotError, match="not a finite number"):
        pair.get_potential_energy()


def test_cells_without_volume(potential):
    symbol = potential.species[0]
    for cell in (np.zeros((3, 3)), [[3, 0, 0], [0, 3, 0], [3, 3, 0]], [[3, 0, 0], [0, 3, 0], [0, 0, 0]]):
        refused(potential, Atoms(symbol, [[0, 0, 0]], cell=cell, pbc=True), "volume")
    refused(potential, Atoms(symbol, [[0, 0, 0]], cell=np.eye(3) * 1e-3, pbc=True), "small")
    cell = np.eye(3) * 5
    cell[1, 1] = np.nan
    refused(potential, Atoms(symbol, [[0, 0, 0]], cell=cell, pbc=True), "lattice vector 2")


def test_unknown_properties(potential):
    refused(potential, Atoms(potential.species[0]), "magmoms", "energy", properties=("energy", "magmoms"))


def test_wrong_options(make_potential, model_file):
    for options in ({"dtype": "float16"}, {"radial": "guessed"}, {"head": "no such head"}):
        with pytest.raises(equipot.EquipotError):
            equipot.load(model_file("default"), **options)
    with pytest.raises(equipot.EquipotError) as caught:
        equipot.load(model_file("two_heads"))
    heads = make_potential("two_heads", head="a").heads
    for head in heads:
        assert head in str(caught.value)


def test_heads(make_potential):
    first, second = (make_potential("two_heads", head=head) for head in ("a", "b"))
    assert (first.head, second.head) == ("a", "b")
    atoms = random_atoms(6, first.species, 5)
    assert first.compute(atoms)["energy"] != second.compute(atoms)["energy"]
