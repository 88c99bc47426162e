"""Checks of data: units, signs, duplicates, distances, outliers."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list
from copper import GPA, changed, copper, dataset

from equipot import EquipotError
from equipot.data import DataSet, Structure, check
from equipot.data.checks import measure_distances


def topics(data: DataSet, severity: str) -> dict[str, str]:
    return {f.topic: f.text for f in check(data).findings if f.severity == severity}


def test_good_data_pass(crystal):
    report = check(crystal)
    assert not [f for f in report.findings if f.severity in ("warning", "error")]
    assert {f.topic for f in report.findings if f.severity == "ok"} >= {"energy units", "stress"}
    distance, source = report.distances.shortest[29, 29]
    every = [s.atoms.get_all_distances(mic=False) for s in crystal]
    assert distance <= min(d[d > 0].min() for d in every)
    assert source.startswith("made.xyz#")
    assert report.tested_range()["shortest_distances"] == {"Cu-Cu": round(distance, 3)}


# EMT's energies and forces belong together, so each of these is wrong by exactly the factor that is to be named.
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda s: {"energy": s.energy / 27.2114}, "Hartree"),
        (lambda s: {"energy": s.energy * 23.0605}, "kcal/mol"),
        (lambda s: {"forces": s.forces * 23.0605}, "kcal/mol/Å"),
        (lambda s: {"forces": s.forces / 51.4221}, "Hartree/Bohr"),
        (lambda s: {"energy": s.energy / 27.2114, "forces": s.forces / 51.4221}, "per Bohr"),
        (lambda s: {"forces": -s.forces}, "opposite sign"),
        (lambda s: {"energy": s.energy / len(s)}, "per atom"),
    ],
)
def test_units_of_energies_and_forces(crystal, change, word):
    assert word in topics(changed(crystal, change), "error")["energy units"]


def test_shuffled_energies():
    data = dataset([copper(seed) for seed in range(80)])
    energies = np.random.default_rng(0).permutation([s.energy for s in data])
    mixed_up = changed(data, lambda s: {"energy": energies[int(s.source.split("#")[1])]})
    assert "same order" in topics(mixed_up, "warning")["energy units"]


@pytest.mark.parametrize(
    ("factor", "word"), [(-1.0, "opposite sign"), (GPA, "GPa"), (10 * GPA, "kbar"), (-10 * GPA, "opposite sign")]
)
def test_units_of_stresses(factor, word):
    strained = dataset([copper(seed, strain=0.01, rattle=0.0) for seed in range(16)])
    assert word in topics(changed(strained, lambda s: {"virial": factor * s.virial}), "error")["stress"]
    assert "stress" in topics(strained, "ok")


@pytest.mark.parametrize(("factor", "word"), [(-1.0, "opposite sign"), (10 * GPA, "kbar")])
def test_units_of_stresses_alone(factor, word):
    """Without energies, pressure against volume has to tell."""
    frames = []
    for seed, scale in enumerate(np.linspace(0.97, 1.03, 8)):
        atoms = copper(seed)
        atoms.set_cell(atoms.cell * scale, scale_atoms=True)
        atoms.calc = EMT()
        labels = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    data = changed(dataset(frames), lambda s: {"energy": None, "forces": None, "virial": factor * s.virial})
    assert word in topics(data, "warning")["stress"]


@pytest.mark.parametrize("count", [7, 8, 10])
def test_few_strained_pairs_are_no_proof(count):
    """Factors that anharmonic energies may make are errors in many pairs, and signs and units in few."""
    strained = dataset([copper(seed, strain=0.01, rattle=0.0) for seed in range(40)])
    few = strained[:count]
    for data, factor, wrong in ((few, 1 / 1.6, False), (strained, 1 / 1.6, True), (few, -1.0, True), (few, GPA, True)):
        told = topics(changed(data, lambda s, factor=factor: {"virial": factor * s.virial}), "error")
        assert ("stress" in told) == wrong


@pytest.fixture(scope="module")
def loose():
    """Cells that differ and atoms far from their sites: hardly any pair is told by its forces alone."""
    return dataset([copper(seed, strain=0.02, rattle=0.08) for seed in range(60)])


@pytest.mark.parametrize("first", [0, 20, 40])
def test_forces_where_cells_differ(loose, first):
    part = loose[first : first + 20]
    assert "energies follow the forces" in topics(part, "ok")["energy units"]
    for change, word in (
        (lambda s: {"forces": -s.forces}, "opposite sign (they are gradients)"),
        (lambda s: {"forces": s.forces / 51.4221}, "Hartree/Bohr"),
        (lambda s: {"energy": s.energy * 23.0605, "forces": -s.forces}, "opposite sign"),
    ):
        assert word in topics(changed(part, change), "error")["energy units"]


def test_forces_that_cannot_be_compared_are_told(loose):
    assert "no structures differ so that energies tell" in topics(loose[:2], "note")["energy units"]
    assert "energy units" not in topics(changed(loose[:2], lambda s: {"forces": None}), "note")


def test_energies_in_hartree_by_isolated_atoms():
    atoms = [Structure(Atoms(symbol), energy, source=symbol) for symbol, energy in (("H", -0.4998), ("O", -75.02))]
    assert "Hartree" in topics(DataSet(atoms), "error")["energy units"]


def test_structures_that_were_shifted_or_wrapped_are_the_same(crystal):
    one = crystal[0]
    moved = one.atoms.copy()
    moved.positions += [0.3, -1.7, 2.2]
    moved.positions[1] += moved.cell[0] - 2 * moved.cell[2]
    assert Structure(moved).geometry == one.geometry
    moved.wrap()
    assert Structure(moved).geometry == one.geometry
    moved.positions[1, 0] += 1e-3
    assert Structure(moved).geometry != one.geometry
    open_slab = one.atoms.copy()
    open_slab.pbc = [True, True, False]
    above = open_slab.copy()
    above.positions[1] += above.cell[2]
    assert Structure(above).geometry != Structure(open_slab).geometry


def test_duplicates(crystal):
    same = crystal + DataSet([crystal[4]])
    assert "made.xyz#4 = made.xyz#4" in next(f for f in check(same).findings if f.topic == "duplicates").sources
    other = Structure(crystal[4].atoms, crystal[4].energy + 1.0, source="other.xyz#0")
    (finding,) = [f for f in check(crystal + DataSet([other])).findings if f.topic == "duplicates"]
    assert finding.severity == "warning"
    assert finding.sources == ("made.xyz#4 = other.xyz#0",)


def test_short_distances(crystal):
    for distance, severity in ((0.4, "warning"), (0.0, "error")):
        pair = Structure(Atoms("CuO", [[0, 0, 0], [0, 0, distance]]), 1.0, source="pair.xyz#7")
        (finding,) = [f for f in check(crystal + DataSet([pair])).findings if f.topic == "distances"]
        assert finding.severity == severity
        assert "O-Cu" in finding.text
        assert finding.sources == ("pair.xyz#7",)


@pytest.mark.parametrize("direct", [0, 10**9])
def test_distances_are_those_of_ase(direct, monkeypatch):
    """Skewed cells smaller than the reach, any periodicity, atoms outside of the cell; both ways to find pairs."""
    monkeypatch.setattr("equipot.data.checks._DIRECT", direct)
    rng = np.random.default_rng(0)
    for _ in range(25):
        count = int(rng.integers(1, 8))
        cell = rng.normal(size=(3, 3)) + np.eye(3) * rng.uniform(3, 9)
        atoms = Atoms(rng.choice([1, 8], count), rng.normal(size=(count, 3)) * 6, cell=cell, pbc=rng.random(3) < 0.6)
        found = measure_distances(DataSet([Structure(atoms, source="a#0")]))
        i, j, distance = neighbor_list("ijd", atoms, found.edges[-1])
        assert sum(int(counts.sum()) for counts in found.counts.values()) * 2 == len(distance)
        for (a, b), (shortest, _) in found.shortest.items():
            here = (atoms.numbers[i] == a) & (atoms.numbers[j] == b)
            assert shortest == pytest.approx(distance[here].min(), abs=1e-9)


def test_net_force_outliers_species_and_unlabelled(crystal):
    pushed = changed(crystal, lambda s: {"forces": s.forces + 0.1} if s.source.endswith("#3") else {})
    assert "net force" in topics(pushed, "warning")
    hot = changed(crystal, lambda s: {"energy": s.energy + 500} if s.source.endswith("#3") else {})
    assert "outliers" in topics(hot, "note")
    lonely = crystal + DataSet([Structure(molecule("CO"), -10.0, source="co.xyz#0")])
    assert "C (1)" in topics(lonely, "note")["species"] or "C-Cu" in topics(lonely, "note")["species"]
    assert "1 structure has an energy far from the rest of the same config_type" in topics(hot, "note")["outliers"]
    bare = changed(crystal, lambda s: {"energy": None, "forces": None, "virial": None})
    assert "nothing can be fitted" in topics(bare, "warning")["labels"]
    with pytest.raises(EquipotError, match="no structures"):
        check(DataSet())


def test_primitive_cells_are_no_rare_species():
    cells = [bulk("Cu", a=a) for a in (3.5, 3.6, 3.7)]
    primitive = DataSet([Structure(atoms, 0.0, source=f"a#{k}") for k, atoms in enumerate(cells)])
    assert "species" not in topics(primitive, "note")
    mixed = primitive + DataSet([Structure(molecule("CO"), -10.0, source="co.xyz#0"), Structure(Atoms("H"), -1.0)])
    assert any("H (0), C (1), O (1), Cu (3)" in f.text for f in check(mixed).findings)


def test_large_sets_are_sampled_with_a_seed(crystal, monkeypatch):
    monkeypatch.setattr("equipot.data.checks._MOST_STRUCTURES", 5)
    first, second, third = (check(crystal, seed) for seed in (1, 1, 2))
    assert "seed 1" in next(f.text for f in first.findings if f.topic == "distances")
    assert first.distances.shortest == second.distances.shortest
    assert first.distances.structures == 5
    assert first.distances.shortest != third.distances.shortest
