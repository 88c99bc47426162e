"""Reading data: labels under any key, files of any kind, and what is wrong with them."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import gzip
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import voigt_6_to_full_3x3_stress
from copper import GPA

from equipot import EquipotError
from equipot.data import read_data
from equipot.data.keys import quantity_of


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def frame(properties: str = "species:S:1:pos:R:3", info: str = "", rows: str = "Cu 0 0 0\nCu 0 0 2.5") -> str:
    return f"{len(rows.splitlines())}\nProperties={properties} {info}\n{rows}\n"


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


@pytest.mark.parametrize("name", ["a.db", "a.json"])
def test_database_with_own_keys(frames, tmp_path, name):
    with ase.db.connect(tmp_path / name) as database:
        for atoms in frames[:3]:
            bare = atoms.copy()
            database.write(
                bare,
                dft_energy=float(atoms.calc.results["energy"]),
                config_type="melt",
                data={"dft_forces": atoms.get_forces()},
            )
    data = read_data(tmp_path / name)
    assert data.config_types == {"melt": 3}
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


def test_a_choice_of_frames_after_a_pattern(frames, tmp_path):
    for name in ("a1", "a2", "b", "c@300"):
        ase.io.write(tmp_path / f"{name}.xyz", frames)
    chosen = read_data(f"{tmp_path}/a*.xyz@::10")
    assert [s.source for s in chosen] == [f"{name}.xyz#{k}" for name in ("a1", "a2") for k in (0, 10, 20)]
    assert len(read_data(f"{tmp_path}/*@300.xyz")) == 24
    assert len(read_data(f"{tmp_path}/*@300.xyz@3")) == 1
    with pytest.raises(EquipotError, match=r"no file matches .*d\*\.xyz$"):
        read_data(f"{tmp_path}/d*.xyz@::10")


def test_all_structures_that_cannot_be_used_are_named(tmp_path):
    good, failed = frame(info="energy=1"), frame(info="energy=nan")
    one = write(tmp_path / "one.xyz", good + failed + good)
    two = write(tmp_path / "two.xyz", frame(info="energy=failed") + 6 * failed + good)
    with pytest.raises(EquipotError) as raised:
        read_data([one, two])
    said = str(raised.value)
    assert said.startswith("8 structures cannot be used")
    assert "one.xyz, frame 1: the energy 'energy' is nan; two.xyz, frame 0: 'energy' is 'failed'" in said
    assert said.endswith("; and 3 more")
    data = read_data([one, two], strict=False)
    assert [s.source for s in data] == ["one.xyz#0", "one.xyz#2", "two.xyz#7"]
    assert data.keys_taken["energy"] == {"energy": 3}
    (finding,) = [f for f in data.findings if f.severity == "error"]
    assert finding.text == said
    assert len(finding.sources) == 8
    with pytest.raises(EquipotError, match="frame 0: the energy 'energy' is nan"):
        read_data(write(tmp_path / "none.xyz", failed), strict=False)


def test_missing_named_key_names_those_there(tmp_path):
    path = write(tmp_path / "a.xyz", frame(info="energy=1 smearing=0.1"))
    with pytest.raises(EquipotError, match=r"'E0'; there are .*energy, smearing"):
        read_data(path, energy_key="E0")


def test_weights_of_structures(tmp_path):
    """config_weight, as MACE and others write it."""
    text = frame(info="energy=1.0 config_weight=0.25") + frame(info="energy=1.0") + frame(info="config_weight=0")
    data = read_data(write(tmp_path / "weighted.xyz", text))
    assert [s.weight for s in data] == [0.25, 1.0, 0.0]
    assert any("2 structures count as their config_weight says" in f.text for f in data.findings)
    for value in ("-1", "much", "nan"):
        with pytest.raises(EquipotError, match=r"frame 0: config_weight is .*, not a number of zero or more"):
            read_data(write(tmp_path / "bad.xyz", frame(info=f"config_weight={value}")))


def unused(path: Path, *info: str, **options: str) -> list[str]:
    text = "".join(frame(info=f"energy=1 {words}") for words in info)
    return [f.text for f in read_data(write(path, text), **options).findings if f.severity == "warning"]


@pytest.mark.parametrize("key", ["head", "charge", "total_charge", "spin", "total_spin", "multiplicity", "REF_magmom"])
def test_keys_that_vary_and_are_not_used(key, tmp_path):
    path = tmp_path / "a.xyz"
    (said,) = unused(path, f"{key}=1", f"{key}=1", f"{key}=2", "")
    assert f"the key '{key}' has 2 values (1 2, 2 1) and is not used" in said
    assert not unused(path, f"{key}=1", f"{key}=1")
    assert not unused(path, f"{key}=1", f"{key}=2", config_type_key=key)


def test_moments_of_atoms_count_by_their_sum(tmp_path):
    def magnetic(*moments: float) -> str:
        return frame("species:S:1:pos:R:3:magmoms:R:1", "energy=1", "\n".join(f"Fe 0 0 {m} {m}" for m in moments))

    alike = write(tmp_path / "a.xyz", magnetic(2.21, 2.19) + magnetic(2.2, 2.21) + magnetic(3.0))
    assert not read_data(alike).findings
    other = write(tmp_path / "b.xyz", magnetic(2.21, 2.19) + magnetic(2.2, -2.2))
    assert any("'magmoms' has 2 values (4.4 1, 0 1)" in f.text for f in read_data(other).findings)


@pytest.mark.parametrize("name", ["energy", "forces", "stress", "virials"])
def test_weights_of_labels_are_not_used(name, tmp_path):
    key = f"config_{name}_weight"
    (said,) = unused(tmp_path / "a.xyz", f"{key}=0", f"{key}=1", f"{key}=1.0", "")
    assert f"the key '{key}' is not 1 in 1 structure and is not used" in said
    assert not unused(tmp_path / "a.xyz", f"{key}=1", f"{key}=1.0", "")


def test_keys_that_look_like_labels_are_named(tmp_path):
    text = frame(info='corrected_total_energy=1.0 stress_GPa="0 0 0 0 0 0"')
    data = read_data(write(tmp_path / "other.xyz", text))
    assert data[0].energy is None
    told = [f.text for f in data.findings if f.topic == "keys"]
    assert any("no energy under a name that is known, but corrected_total_energy (1)" in text for text in told)
    assert any("stress_GPa (1)" in text for text in told)
    assert not read_data(write(tmp_path / "one.xyz", frame(info="energy=1.0 corrected_total_energy=1.0"))).findings


def test_zero_forces_of_fixed_atoms_are_told(tmp_path):
    rows = "Cu 0 0 0 {} 0 0 {}\nCu 0 0 2.5 0 0 0.5 T"
    properties = "species:S:1:pos:R:3:forces:R:3:move_mask:L:1"
    for force, mask, told in (("0", "F", True), ("0.1", "F", False), ("0", "T", False)):
        text = frame(properties, "energy=1.0", rows.format(force, mask))
        data = read_data(write(tmp_path / "fixed.xyz", text))
        assert any("fixed atoms whose forces are zero" in f.text for f in data.findings) == told


def test_stresses_without_periodic_cell_are_left_out(frames, tmp_path):
    """Programs that have no stress for a molecule in a box write zeros."""
    molecules = [atoms.copy() for atoms in frames]
    for atoms in molecules:
        atoms.pbc = False
        atoms.info |= {"REF_stress": np.zeros(6), "REF_energy": -1.0}
    ase.io.write(tmp_path / "a.xyz", molecules, format="extxyz")
    data = read_data(tmp_path / "a.xyz")
    assert all(s.virial is None for s in data)
    assert any("no periodic cell" in finding.text for finding in data.findings)


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
