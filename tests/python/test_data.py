"""Reference data: reading labels under any key, checks that find what is wrong, atomic energies, splits."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list
from ase.stress import voigt_6_to_full_3x3_stress
from test_cli import run

from equipot import EquipotError
from equipot.data import (
    DataSet,
    Structure,
    atomic_energies,
    binding_energies,
    check,
    data_picture,
    read_data,
    split,
)
from equipot.data.checks import measure_distances
from equipot.data.keys import quantity_of

ROOT = Path(__file__).resolve().parents[2]
GPA = 160.21766208


def copper(seed: int, strain: float = 0.0, rattle: float = 0.05) -> Atoms:
    """Eight copper atoms, rattled and strained, with EMT's labels."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
    deformation = strain * rng.normal(size=(3, 3))
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.5 * (deformation + deformation.T)), scale_atoms=True)
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    atoms.calc = EMT()
    labels = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


@pytest.fixture(scope="module")
def frames() -> list[Atoms]:
    return [copper(seed, strain=0.01 if seed % 2 else 0.0) for seed in range(24)]


@pytest.fixture(scope="module")
def crystal(frames: list[Atoms]) -> DataSet:
    return dataset(frames)


def dataset(frames: list[Atoms]) -> DataSet:
    """The same structures without a file between."""
    structures = []
    for k, atoms in enumerate(frames):
        results = atoms.calc.results
        structures.append(
            Structure(
                Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
                float(results["energy"]),
                np.array(results["forces"]),
                -atoms.get_volume() * voigt_6_to_full_3x3_stress(results["stress"]),
                source=f"made.xyz#{k}",
            )
        )
    return DataSet(structures)


def changed(data: DataSet, change: Callable[[Structure], dict]) -> DataSet:
    """A copy with some labels replaced."""
    structures = []
    for s in data:
        values = {"energy": s.energy, "forces": s.forces, "virial": s.virial, **change(s)}
        structures.append(Structure(s.atoms, **values, config_type=s.config_type, source=s.source))
    return DataSet(structures)


def topics(data: DataSet, severity: str) -> dict[str, str]:
    return {f.topic: f.text for f in check(data).findings if f.severity == severity}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def frame(properties: str = "species:S:1:pos:R:3", info: str = "", rows: str = "Cu 0 0 0\nCu 0 0 2.5") -> str:
    return f"{len(rows.splitlines())}\nProperties={properties} {info}\n{rows}\n"


# Reading


def test_labels_survive_a_file(frames, crystal, tmp_path):
    ase.io.write(tmp_path / "a.xyz", frames)
    data = read_data(tmp_path / "a.xyz")
    assert len(data) == len(frames)
    assert data.species == [29]
    assert data.keys_taken == {"energy": {"energy": 24}, "forces": {"forces": 24}, "virial": {"stress": 24}}
    for read, made in zip(data, crystal, strict=True):
        # extended XYZ holds eight decimals
        np.testing.assert_allclose(read.atoms.positions, made.atoms.positions, atol=1e-7)
        np.testing.assert_allclose(read.forces, made.forces, atol=1e-7)
        np.testing.assert_allclose(read.virial, made.virial, atol=1e-6)
        assert read.energy == pytest.approx(made.energy, abs=1e-7)
        assert not read.atoms.info
        assert read.atoms.calc is None
        assert set(read.atoms.arrays) == {"numbers", "positions"}
    assert data[3].source == "a.xyz#3"


@pytest.mark.parametrize("ending", [".xyz.gz", ".xyz.xz", ".xyz.bz2", ".extxyz", ".traj", ".json"])
def test_formats(frames, tmp_path, ending):
    path = tmp_path / f"a{ending}"
    ase.io.write(path, frames[:4], format="extxyz" if "xyz" in ending else None)
    data = read_data(path)
    assert [s.energy for s in data] == pytest.approx([f.calc.results["energy"] for f in frames[:4]], abs=1e-7)
    assert all(s.forces is not None and s.virial is not None for s in data)


def test_database_with_own_keys(frames, tmp_path):
    with ase.db.connect(tmp_path / "a.db") as database:
        for atoms in frames[:3]:
            bare = atoms.copy()
            database.write(
                bare, dft_energy=float(atoms.calc.results["energy"]), data={"dft_forces": atoms.get_forces()}
            )
    data = read_data(tmp_path / "a.db")
    assert data.keys_taken["energy"] == {"dft_energy": 3}
    np.testing.assert_allclose(data[1].forces, frames[1].get_forces())


@pytest.mark.parametrize(
    ("key", "quantity"),
    [
        *[(key, "energy") for key in ("energy", "Energy", "REF_energy", "dft_energy", "free_energy", "TotEnergy")],
        *[(key, "energy") for key in ("energy_eV", "ref-energy", "total_energy", "dftEnergy", "energy_xtb", "TOTEN")],
        *[(key, "forces") for key in ("forces", "REF_forces", "dft_forces", "force", "Force", "forces_xtb")],
        *[(key, "stress") for key in ("stress", "REF_stress", "dft_stress")],
        *[(key, "virial") for key in ("virial", "virials", "REF_virials", "dft_virial")],
        *[(key, None) for key in ("formation_energy_per_atom", "corrected_energy", "energy_per_atom", "energies")],
        *[(key, None) for key in ("kinetic_energy", "mace_energy", "force_constants", "stresses", "energy_Ha")],
    ],
)
def test_key_names(key, quantity):
    assert quantity_of(key) == quantity


@pytest.mark.parametrize("prefix", ["REF_", "dft_", "DFT_"])
def test_prefixed_keys(frames, crystal, tmp_path, prefix):
    renamed = []
    for atoms in frames:
        bare = atoms.copy()
        bare.info[f"{prefix}energy"] = atoms.calc.results["energy"]
        bare.arrays[f"{prefix}forces"] = atoms.calc.results["forces"]
        bare.info[f"{prefix}virial"] = -atoms.get_volume() * voigt_6_to_full_3x3_stress(atoms.calc.results["stress"])
        renamed.append(bare)
    ase.io.write(tmp_path / "a.xyz", renamed, format="extxyz")
    data = read_data(tmp_path / "a.xyz")
    assert data.keys_taken["virial"] == {f"{prefix}virial": 24}
    np.testing.assert_allclose(data[5].virial, crystal[5].virial, atol=1e-6)
    np.testing.assert_allclose(data[5].forces, crystal[5].forces, atol=1e-7)


@pytest.mark.parametrize("key", ["stress", "virial", "REF_stress", "dft_virials"])
def test_six_numbers_are_in_voigts_order(tmp_path, key):
    cell = 'Lattice="3 0 0 0 3 0 0 0 3"'
    write(tmp_path / "a.xyz", frame(info=f'{cell} {key}="1 2 3 4 5 6" energy=1', rows="Cu 0 0 0"))
    virial = read_data(tmp_path / "a.xyz")[0].virial
    expected = np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    np.testing.assert_allclose(virial, -27 * expected if "stress" in key else expected)


def test_reference_keys_win_over_leftovers_and_say_so(frames, tmp_path):
    both = []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = SinglePointCalculator(copy, energy=0.0, forces=np.zeros((len(atoms), 3)))
        copy.info["REF_energy"] = atoms.calc.results["energy"]
        copy.arrays["REF_forces"] = atoms.calc.results["forces"]
        both.append(copy)
    ase.io.write(tmp_path / "a.xyz", both, format="extxyz")
    data = read_data(tmp_path / "a.xyz")
    assert data.keys_taken == {"energy": {"REF_energy": 24}, "forces": {"REF_forces": 24}}
    said = [f.text for f in data.findings if f.severity == "warning"]
    assert any("'REF_energy'" in text and "--energy-key energy" in text for text in said)
    named = read_data(tmp_path / "a.xyz", energy_key="energy", forces_key="forces")
    assert {s.energy for s in named} == {0.0}
    # Forces of the same calculation follow the energy that was named.
    assert read_data(tmp_path / "a.xyz", energy_key="energy").keys_taken["forces"] == {"forces": 24}


def test_named_key_brings_its_family(frames, tmp_path):
    copy = frames[0].copy()
    copy.info |= {"energy": 1.0, "run7_energy": 2.0}
    copy.arrays["run7_forces"] = np.ones((len(copy), 3))
    ase.io.write(tmp_path / "a.xyz", copy, format="extxyz")
    data = read_data(tmp_path / "a.xyz", energy_key="run7_energy")
    assert data[0].energy == 2.0
    assert data.keys_taken["forces"] == {"run7_forces": 1}


def test_missing_labels_are_none(tmp_path):
    text = frame(info="energy=-1 config_type=a") + frame("species:S:1:pos:R:3:forces:R:3", "", "H 0 0 0 1 2 3")
    data = read_data(write(tmp_path / "a.xyz", text))
    assert (data[0].energy, data[0].forces, data[0].virial, data[0].config_type) == (-1.0, None, None, "a")
    assert (data[1].energy, data[1].config_type) == (None, "default")
    np.testing.assert_array_equal(data[1].forces, [[1, 2, 3]])


def test_other_group_key(tmp_path):
    path = write(tmp_path / "a.xyz", frame(info="energy=1 tag=hot"))
    assert read_data(path, config_type_key="tag")[0].config_type == "hot"
    with pytest.raises(EquipotError, match="'label'; there are tag"):
        read_data(path, config_type_key="label")


def test_several_files_patterns_and_choices(frames, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ase.io.write(tmp_path / name / "run.xyz", frames)
    data = read_data(str(tmp_path / "*" / "run.xyz"))
    assert len(data) == 48
    assert len({s.source for s in data}) == 48  # files of one name are told apart
    chosen = read_data(str(tmp_path / "a" / "run.xyz@::10"))
    assert [s.source for s in chosen] == ["run.xyz#0", "run.xyz#10", "run.xyz#20"]
    joined = read_data(tmp_path / "a" / "run.xyz") + chosen
    assert joined.keys_taken["energy"] == {"energy": 27}
    assert [s.source for s in joined[1:3]] == ["run.xyz#1", "run.xyz#2"]


FORCES = "species:S:1:pos:R:3:forces:R:3"
BAD_FILES = {
    "empty": ("", "no structure"),
    "nonsense": ("what is this\n", "cannot be read"),
    "cut short": (frame(info="energy=1") + "2\nProperties=species:S:1:pos:R:3\nCu 0 0 0\n", "frame 1, line 5"),
    "far too many atoms": ("1000000000000\n\nCu 0 0 0\n", "says that it has 1000000000000 atoms"),
    "fewer than no atoms": ("-3\n\n", "-3 atoms"),
    "no atoms": ("0\n\n", "no atoms in it"),
    "a column short": (
        frame(FORCES, "", "Cu 0 0 0 0 0 0") + frame(FORCES, "", "Cu 0 0 0 0"),
        "frame 1, line 5: Properties names 7",
    ),
    "an empty line inside": (frame(info="energy=1") + "\n" + frame(info="energy=2"), "line 5"),
    "energy nan": (frame(info="energy=nan"), "frame 0: the energy 'energy' is nan"),
    "energy is no number": (frame(info="energy=high"), "'high', which is no number"),
    "energy is a flag": (frame(info="energy"), "no number"),
    "several energies": (frame(info='energy="1 2"'), "holds 2 numbers"),
    "force nan": (frame(FORCES, "", "Cu 0 0 0 0 0 0\nSi 0 0 2 0 nan 0"), r"atom 1 \(Si"),
    "force inf": (frame(FORCES, "", "Cu 0 0 0 0 inf 0"), r"atom 0 \(Cu"),
    "forces with two columns": (frame("species:S:1:pos:R:3:REF_forces:R:2", "", "Cu 0 0 0 0 0"), r"shape \(1, 2\)"),
    "forces as text": (frame("species:S:1:pos:R:3:forces:S:1", "", "Cu 0 0 0 x"), "could not convert"),
    "stress of four": (frame(info='REF_stress="1 2 3 4"'), "4 numbers"),
    "stress inf": (frame(info='REF_virial="1 2 3 4 5 inf"'), "not finite"),
    "position nan": (frame(rows="Cu 0 0 nan"), "position of atom 0"),
    "no such element": (frame(rows="Qq 0 0 0"), "unknown name 'Qq'"),
    "no element": (frame(rows="X 0 0 0"), "no chemical element"),
    "columns without end": (frame("species:S:1:pos:R:3:forces:R:99999999999"), "names 100000000003 columns"),
    "flat cell": (frame(info='Lattice="3 0 0 0 3 0 3 3 1e-9"'), "only 1e-09 Å thick"),
    "periodic without a cell": (frame(info='pbc="T F F" energy=1'), "no cell vector"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_get_one_sentence(case, tmp_path):
    text, expected = BAD_FILES[case]
    path = write(tmp_path / "bad.xyz", text)
    with pytest.raises(EquipotError, match=expected) as raised:
        read_data(path)
    assert "bad.xyz" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_are_not_there(tmp_path):
    for path, expected in (
        (tmp_path / "none.xyz", "no such file"),
        (tmp_path, "is a folder"),
        (str(tmp_path / "*.xyz"), "no file matches"),
        ([], "no data files"),
    ):
        with pytest.raises(EquipotError, match=expected):
            read_data(path)
    path = write(tmp_path / "a.xyz", frame(info="energy=1"))
    with pytest.raises(EquipotError, match="named twice"):
        read_data([path, path])
    with pytest.raises(EquipotError, match="leaves none"):
        read_data(f"{path}@5:")
    with pytest.raises(EquipotError, match="no choice of frames"):
        read_data(f"{path}@some")
    (tmp_path / "broken.xyz.gz").write_bytes(gzip.compress(b"1\n\nCu 0 0 0\n")[:-9])
    with pytest.raises(EquipotError, match=r"broken\.xyz\.gz: cannot be read"):
        read_data(tmp_path / "broken.xyz.gz")


def test_missing_named_key_names_those_there(tmp_path):
    path = write(tmp_path / "a.xyz", frame(info="energy=1 smearing=0.1"))
    with pytest.raises(EquipotError, match=r"'E0'; there are .*energy, smearing"):
        read_data(path, energy_key="E0")


def test_virial_and_stress_that_disagree(frames, tmp_path):
    wrong = []
    for atoms in frames:
        copy = atoms.copy()
        stress = voigt_6_to_full_3x3_stress(atoms.calc.results["stress"])
        copy.info |= {"virial": -atoms.get_volume() * stress, "REF_stress": -10 * GPA * stress}
        wrong.append(copy)
    ase.io.write(tmp_path / "a.xyz", wrong, format="extxyz")
    (finding,) = [f for f in read_data(tmp_path / "a.xyz").findings if "disagree" in f.text]
    assert "opposite sign" in finding.text
    assert "kbar" in finding.text


# Checks


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


def test_energies_in_hartree_by_isolated_atoms():
    atoms = [Structure(Atoms(symbol), energy, source=symbol) for symbol, energy in (("H", -0.4998), ("O", -75.02))]
    assert "Hartree" in topics(DataSet(atoms), "error")["energy units"]


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
    bare = changed(crystal, lambda s: {"energy": None, "forces": None, "virial": None})
    assert "nothing can be fitted" in topics(bare, "warning")["labels"]
    with pytest.raises(EquipotError, match="no structures"):
        check(DataSet())


def test_large_sets_are_sampled_with_a_seed(crystal, monkeypatch):
    monkeypatch.setattr("equipot.data.checks._MOST_STRUCTURES", 5)
    first, second, third = (check(crystal, seed) for seed in (1, 1, 2))
    assert "seed 1" in next(f.text for f in first.findings if f.topic == "distances")
    assert first.distances.shortest == second.distances.shortest
    assert first.distances.structures == 5
    assert first.distances.shortest != third.distances.shortest


# Atomic energies


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


# Splits


@pytest.fixture
def mixed(crystal) -> DataSet:
    groups = ["a"] * 12 + ["b"] * 8 + ["c"] * 4
    structures = [
        Structure(s.atoms, s.energy, config_type=g, source=s.source) for s, g in zip(crystal, groups, strict=True)
    ]
    return DataSet([*structures, Structure(Atoms("Cu"), 0.0, config_type="IsolatedAtom", source="e0.xyz#0")])


def test_split_by_fraction(mixed):
    train, valid, test = split(mixed, valid=0.25, test=0.25, seed=3)
    assert {s.source for part in (train, valid, test) for s in part} == {s.source for s in mixed}
    assert len(train) + len(valid) + len(test) == len(mixed)
    assert valid.config_types == test.config_types == {"a": 3, "b": 2, "c": 1}
    assert train.config_types["IsolatedAtom"] == 1
    again = split(mixed, valid=0.25, test=0.25, seed=3)
    assert [s.source for s in valid] == [s.source for s in again[1]]
    assert [s.source for s in valid] != [s.source for s in split(mixed, valid=0.25, test=0.25, seed=4)[1]]


def test_small_shares_still_give_a_part(mixed):
    train, valid = split(mixed, valid=0.01)
    assert (len(train), len(valid)) == (24, 1)
    assert split(mixed, valid=0.0)[0].structures == mixed.structures


def test_split_by_name(mixed):
    train, valid, test = split(mixed, valid="a", test=["b"], by="config_type")
    assert (train.config_types, valid.config_types, test.config_types) == (
        {"c": 4, "IsolatedAtom": 1},
        {"a": 12},
        {"b": 8},
    )
    with pytest.raises(EquipotError, match="'d'; there are a, b, c"):
        split(mixed, valid="d", by="config_type")
    with pytest.raises(EquipotError, match="left for valid"):
        split(mixed, valid="e0.xyz", by="file")  # isolated atoms stay in train


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.6, 0.4), (-0.1, 0.0), ("a", 0.0), (True, 0.0)])
def test_impossible_shares(mixed, shares):
    with pytest.raises(EquipotError):
        split(mixed, valid=shares[0], test=shares[1])


# The command


def test_command(frames, tmp_path):
    ase.io.write(tmp_path / "good.xyz", frames)
    result = run("data", "check", "good.xyz", "--picture", "data.png", "--json", "data.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "24 structures, from 'energy'" in result.stdout
    assert (tmp_path / "data.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((tmp_path / "data.json").read_text())
    assert content["structures"] == 24
    assert content["tested_range"]["species"] == ["Cu"]
    for atoms in frames:
        atoms = atoms.copy()
        atoms.positions[0] = atoms.positions[1]
        ase.io.write(tmp_path / "bad.xyz", atoms, append=True)
    result = run("data", "check", "bad.xyz", cwd=tmp_path)
    assert result.returncode == 1
    assert "on top of each other" in " ".join(result.stdout.split())
    result = run("data", "check", "none.xyz", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1


def test_picture_of_odd_data(tmp_path):
    """Nothing to show in a panel is said there, and never a crash."""
    alone = DataSet([Structure(Atoms("H"), -13.6, source="a#0")])
    many = DataSet([Structure(molecule("CO"), source=f"a#{k}", config_type=f"type {k}") for k in range(12)])
    flat = DataSet([Structure(bulk("Cu"), 1.0, np.zeros((1, 3)), np.zeros((3, 3)), source="a#0")])
    for name, data in (("alone.svg", alone), ("many.png", many), ("flat.pdf", flat)):
        data_picture(tmp_path / name, check(data))
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(EquipotError, match="kind"):
        data_picture(tmp_path / "a.doc", check(alone))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone.svg", "flat.pdf", "many.png"]


# Published sets

SETS = {
    "mlearn/Si/train.xyz.gz": (214, {14}, 214, 214, 214),
    "mlearn/Cu/test.xyz": (16, {29}, 16, 16, 16),
    "mlearn/Ge/train.xyz.gz": (228, {32}, 228, 228, 228),
    "botnet_3bpa/train_300K.xyz.gz": (500, {1, 6, 7, 8}, 500, 500, 0),
    "botnet_3bpa/isolated_atoms.xyz": (4, {1, 6, 7, 8}, 4, 0, 0),
    "botnet_acac/test_dihedral.xyz": (23, {1, 6, 8}, 23, 0, 0),
    "botnet_ethanol_rmd17/train.xyz.gz": (1000, {1, 6, 8}, 1000, 1000, 0),
    "rmd17_aspirin/train.xyz.gz": (1000, {1, 6, 8}, 1000, 1000, 0),
    "inp_fitsnap/test.xyz.gz": (191, {15, 49}, 191, 191, 191),
    "ta_fitsnap/train.xyz.gz": (295, {73}, 295, 295, 295),
    "solvent_xtb/train.xyz.gz": (200, {1, 6, 8}, 200, 200, 0),
    "solvent_xtb/isolated_atoms.xyz": (3, {1, 6, 8}, 3, 3, 0),
    "monbtaw/test.xyz.gz": (188, {41, 42, 73, 74}, 188, 188, 188),
    "water_deepmd/test.xyz.gz": (40, {1, 8}, 40, 40, 0),
    "water_cheng_fragments/forces_only_test.xyz.gz": (20, {1, 8}, 0, 20, 0),
    "matcalc_bench/wbm_equilibrium_test.xyz.gz": (481, None, 481, 0, 0),
    "matcalc_bench/mp_binary_elasticity_test.xyz.gz": (1995, None, 0, 0, 0),
    "mattersim_bench/random-TP/train.xyz.gz": (436, None, 436, 436, 436),
}


@pytest.mark.parametrize("name", SETS)
def test_published_sets(name):
    path = Path(os.environ.get("EQUIPOT_SHARED", ROOT.parent / "shared")) / "data" / name
    if not path.exists():
        pytest.skip("no published data sets: put them into ../shared/data or name their folder in EQUIPOT_SHARED")
    count, species, *labels = SETS[name]
    data = read_data(path)
    assert len(data) == count
    assert species is None or set(data.species) == species
    assert [sum(getattr(s, label) is not None for s in data) for label in ("energy", "forces", "virial")] == labels
    assert not [f for f in data.findings if f.severity in ("warning", "error")]
    findings = check(data[:400]).findings
    assert not [
        f for f in findings if f.severity == "error" or (f.topic in ("energy units", "stress") and f.severity != "ok")
    ]
