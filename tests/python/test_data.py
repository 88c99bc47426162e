"""Data as a user meets them: the command, pictures, and published sets."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
import os
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from test_cli import run

from equipot import EquipotError
from equipot.data import DataSet, Structure, check, data_picture, read_data

ROOT = Path(__file__).resolve().parents[2]


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
    failed = [atoms.copy() for atoms in frames]
    for k, atoms in enumerate(failed):
        atoms.info["energy"] = float("nan") if k in (3, 5) else 1.0
    ase.io.write(tmp_path / "failed.xyz", failed)
    result = run("data", "check", "failed.xyz", cwd=tmp_path)
    assert result.returncode == 1
    assert "22 structures, from 'energy'" in result.stdout
    assert "2 structures cannot be used" in result.stdout
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
    scaled = [bulk("Cu", a=a) for a in (3.4, 3.6, 3.8)]
    unstressed = DataSet([Structure(a, 1.0, np.zeros((1, 3)), source=f"a#{k}") for k, a in enumerate(scaled)])
    data_picture(tmp_path / "volumes.png", check(unstressed))
    with pytest.raises(EquipotError, match="kind"):
        data_picture(tmp_path / "a.doc", check(alone))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone.svg", "flat.pdf", "many.png", "volumes.png"]


def test_one_is_no_plural():
    one = DataSet([Structure(Atoms("H"), -13.6, source="a#0")])
    assert repr(one) == "DataSet(1 structure, 1 atom, H)"
    assert repr(one + one) == "DataSet(2 structures, 2 atoms, H)"


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
    # A note says that a set cannot tell.
    wrong = [f for f in findings if f.topic in ("energy units", "stress") and f.severity not in ("ok", "note")]
    assert not wrong
    assert not [f for f in findings if f.severity == "error"]
