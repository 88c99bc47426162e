"""Energies of isolated atoms: from the data, given, or by least squares."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from copper import changed

from equipot import EquipotError
from equipot.data import DataSet, Structure, atomic_energies, binding_energies


def test_atomic_energies_from_isolated_atoms_and_given(crystal):
    alone = [
        Structure(Atoms("Cu"), -1.5, config_type="IsolatedAtom", source="e0.xyz#0"),
        Structure(Atoms("Cu", cell=[9, 9, 9], pbc=True), -1.4, config_type="other", source="e0.xyz#1"),
    ]
    data = crystal + DataSet(alone)
    energies, note = atomic_energies(data)
    assert energies == {29: -1.5}
    assert "from isolated atoms" in note
    assert atomic_energies(data, {"Cu": -2.0}) == ({29: -2.0}, "energies of isolated atoms: Cu given")
    assert atomic_energies(data, {29: -2.0, 8: -3.0})[0] == {8: -3.0, 29: -2.0}
    assert binding_energies(data, energies)[-2] == 0.0
    again = DataSet([*alone, Structure(Atoms("Cu"), -7.0, config_type="IsolatedAtom", source="e0.xyz#2")])
    with pytest.raises(EquipotError, match=r"e0\.xyz#0.*e0\.xyz#2"):
        atomic_energies(again)


@pytest.mark.parametrize(
    ("edge", "config_type", "isolated"),
    [(7.5, "IsolatedAtom", True), (7.5, "default", False), (9.0, "default", True), (4.0, "IsolatedAtom", False)],
)
def test_which_atoms_in_a_box_are_isolated(edge, config_type, isolated):
    """In a box where a crystal is hardly possible, its config_type is believed."""
    structure = Structure(Atoms("Cu", cell=[edge] * 3, pbc=True), -1.5, config_type=config_type)
    assert structure.is_isolated_atom is isolated


def test_atomic_energies_by_least_squares():
    exact = {1: -13.0, 6: -1027.0, 8: -2041.0}
    names = ("H2O", "CH4", "CO2", "CH3OH", "H2")
    data = DataSet([Structure(m, sum(exact[z] for z in m.numbers)) for m in map(molecule, names)])
    energies, note = atomic_energies(data)
    assert energies == pytest.approx(exact, rel=1e-10)  # the system is determined and consistent
    assert "least squares" in note
    assert "do not determine" not in note
    # One composition: every atom gets the same, and their sum is right.
    energies, note = atomic_energies(data.subset([3]))
    assert len(set(np.round(list(energies.values()), 9))) == 1
    assert sum(energies[z] for z in data[3].atoms.numbers) == pytest.approx(data[3].energy)
    assert "do not determine" in note
    # What is given is taken off first.
    energies, _ = atomic_energies(data.subset([0]), {"H": -13.0})
    assert energies == pytest.approx({1: -13.0, 8: -2041.0})


def test_absurd_atomic_energies_and_missing_ones(crystal):
    assert "Warning" in atomic_energies(crystal, {"Cu": 100.0})[1]
    assert "Warning" in atomic_energies(crystal, {"Cu": -100.0})[1]
    assert "Warning" not in atomic_energies(crystal, {"Cu": 3.0})[1]
    with pytest.raises(EquipotError, match="no structure with Cu has an energy"):
        atomic_energies(changed(crystal, lambda s: {"energy": None}))
    for given in ({"Qq": 1.0}, {"Cu": float("nan")}, {0: 1.0}):
        with pytest.raises(EquipotError, match="atomic energies"):
            atomic_energies(crystal, given)
