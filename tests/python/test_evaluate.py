"""Errors of a potential on reference data: exact numbers for known errors, units, groups, pictures, the command."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from structures import random_atoms
from test_cli import run

from equipot import EquipotError
from equipot.data import DataSet, Structure, read_data
from equipot.evaluate import Prediction, error_table, number, parity_picture, predict, write_predictions

GPA = 160.21766208


@pytest.fixture
def data(potential) -> DataSet:
    """Crystals and molecules with the potential's own labels, but for known errors."""
    structures = []
    for k in range(8):
        molecule = k % 2 == 1
        atoms = random_atoms(k, ["H", "O"], count=6 + k, cell=None if molecule else 6.0)
        r = potential.compute(atoms, ("energy", "forces", "virial"))
        structures.append(
            Structure(
                atoms,
                r["energy"],
                r["forces"],
                r["virial"],
                config_type="molecule" if molecule else "crystal",
                source=f"{'ab'[k // 4]}.xyz#{k}",
            )
        )
    return DataSet(structures)


def test_no_error_where_there_is_none(potential, data):
    table = error_table(data, predict(potential, data))
    for name, limit in (("energy", 1e-9), ("forces", 1e-8), ("stress", 1e-9)):
        # evaluated alone and in a batch: round-off, in meV and GPa
        assert table.overall.mae[name] < limit
    assert table.overall.structures == 8
    assert table.overall.atoms == data.atoms


def test_known_errors_have_the_right_size_and_unit(potential, data):
    predictions = predict(potential, data)
    for s, p in zip(data, predictions, strict=True):
        p.energy += 0.002 * len(s)
        p.forces = p.forces + np.array([0.01, 0.0, -0.01])
        if s.atoms.cell.rank == 3:
            p.virial = p.virial - 0.5 / GPA * s.atoms.get_volume() * np.eye(3)
    table = error_table(data, predictions)
    assert table.overall.mae["energy"] == pytest.approx(2.0)  # meV/atom
    assert table.overall.rmse["energy"] == pytest.approx(2.0)
    assert table.energy_offset == pytest.approx(2.0)
    assert table.overall.mae["forces"] == pytest.approx(20 / 3)  # meV/Å, two of three components are off by 10
    assert table.overall.rmse["forces"] == pytest.approx(10 * np.sqrt(2 / 3))
    assert table.overall.mae["stress"] == pytest.approx(0.25)  # GPa, three of six components are off by a half
    assert set(table.config_types) == {"crystal", "molecule"}
    assert "stress" not in table.config_types["molecule"].mae  # no cell, no stress
    assert set(table.files) == {"a.xyz", "b.xyz"}
    assert {name: e.atoms for name, e in table.species.items()} == {
        symbol: sum(s.atoms.symbols.count(symbol) for s in data) for symbol in ("H", "O")
    }


def test_labels_count_where_they_are(potential, data):
    part = DataSet(
        [
            Structure(data[0].atoms, data[0].energy, source="e"),
            Structure(data[1].atoms, None, data[1].forces + 0.003, source="f"),
            Structure(data[2].atoms, source="none"),
        ]
    )
    table = error_table(part, predict(potential, part))
    assert table.overall.mae["energy"] < 1e-9
    assert table.overall.mae["forces"] == pytest.approx(3.0)
    assert "stress" not in table.overall.mae
    assert [w["source"] for w in table.worst] == ["f"]
    assert table.to_dict()["all"]["stress_mae"] is None
    assert "stress" not in table.text()
    bare = error_table(part.subset([2]), predict(potential, part.subset([2])))
    assert bare.energy_offset is None
    assert bare.text()


def test_worst_structures(potential, data):
    predictions = predict(potential, data)
    for k in (5, 2):
        predictions[k].forces = predictions[k].forces.copy()
        predictions[k].forces[3] += np.array([0.0, 0.1 * k, 0.0])
    worst = error_table(data, predictions).worst
    assert len(worst) == 5
    assert [w["source"] for w in worst[:2]] == ["b.xyz#5", "a.xyz#2"]
    assert worst[0]["atom"] == 3
    assert worst[0]["largest"] == pytest.approx(500.0)


def test_worst_energies(potential, data):
    predictions = predict(potential, data)
    predictions[6].energy -= 0.2 * len(data[6])
    predictions[1].energy += 0.1 * len(data[1])
    predictions[3].energy = np.nan
    table = error_table(data, predictions)
    assert [w["source"] for w in table.worst_energies[:3]] == ["a.xyz#3", "b.xyz#6", "a.xyz#1"]
    assert len(table.worst_energies) == 5
    assert table.worst_energies[1]["error"] == pytest.approx(-200.0)  # meV/atom, predicted less reference
    lines = table.text().splitlines()
    row = next(k for k, line in enumerate(lines) if line.startswith("worst energies"))
    assert lines[row + 1].split() == ["meV/atom"]
    assert lines[row + 3].split() == ["b.xyz#6", "-200"]
    assert table.to_dict()["worst_energies"][0] == {"source": "a.xyz#3", "config_type": "molecule", "error": None}
    bare = DataSet([Structure(s.atoms, None, s.forces, source=s.source) for s in data])
    table = error_table(bare, predictions)
    assert table.worst_energies == []
    assert "worst energies" not in table.text()


def test_text_and_json(potential, data):
    table = error_table(data, predict(potential, data))
    lines = table.text().splitlines()
    assert "energy MAE" in lines[0]
    assert "meV/atom" in lines[1]
    assert any(line.startswith("by config_type") for line in lines)
    content = json.loads(json.dumps(table.to_dict()))
    assert content["units"] == {"energy": "meV/atom", "forces": "meV/Å", "stress": "GPa"}
    assert content["config_types"]["crystal"]["structures"] == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.567, "1,235"), (12.345, "12.3"), (0.012345, "0.0123"), (0.0, "0.00"), (None, "–"), (1e-9, "0.00000")],
)
def test_numbers(value, text):
    assert number(value) == text


def test_errors_name_the_structure(potential, data):
    odd = DataSet([*data, Structure(Atoms("HAr", [[0, 0, 0], [0, 0, 2]]), source="argon.xyz#4")])
    with pytest.raises(EquipotError, match=r"argon\.xyz#4: .*Ar"):
        predict(potential, odd)
    on_top = DataSet([*data, Structure(Atoms("H2", [[0, 0, 0], [0, 0, 0]]), source="top.xyz#0")])
    with pytest.raises(EquipotError):
        predict(potential, on_top)
    with pytest.raises(EquipotError, match="3 predictions for 8"):
        error_table(data, predict(potential, data)[:3])


def test_predictions_that_are_not_finite_show(potential, data, tmp_path):
    predictions = predict(potential, data)
    predictions[4] = Prediction(np.nan, np.full_like(predictions[4].forces, np.nan), np.full((3, 3), np.nan))
    table = error_table(data, predictions)
    assert not np.isfinite(table.overall.mae["forces"])
    assert table.worst[0]["source"] == "b.xyz#4"
    assert "nan" in table.text()
    parity_picture(tmp_path / "p.png", {"test": (data, predictions)})


def test_parity_picture(potential, data, tmp_path, monkeypatch):
    predictions = predict(potential, data)
    half = {"train": (data[:5], predictions[:5]), "valid": (data[5:], predictions[5:])}
    parity_picture(tmp_path / "a.png", half)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr("equipot.evaluate._POINTS", 10)
    parity_picture(tmp_path / "thinned.svg", half)
    assert "points each" in (tmp_path / "thinned.svg").read_text()
    bare = DataSet([Structure(data[0].atoms, source="none")])
    parity_picture(tmp_path / "b.svg", {"test": (bare, predict(potential, bare))})
    assert "no reference forces" in (tmp_path / "b.svg").read_text()
    parity_picture(tmp_path / "c.png", {"one": (data[:1], predictions[:1])})


def test_predictions_are_written(model_file, potential, data, tmp_path):
    unlabelled = [s.atoms for s in data]
    ase.io.write(tmp_path / "bare.xyz", unlabelled, format="extxyz")
    model = model_file("default")
    refused = run("eval", model, "bare.xyz", cwd=tmp_path)
    assert refused.returncode == 1
    assert "--output" in refused.stderr
    result = run("eval", model, "bare.xyz", "--output", "said.xyz", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    said = read_data(tmp_path / "said.xyz", energy_key="equipot_energy", forces_key="equipot_forces")
    for s, atoms in zip(said, unlabelled, strict=True):
        expected = potential.compute(atoms, ("energy", "forces"))
        # eight decimals of positions and forces in the files
        assert s.energy == pytest.approx(expected["energy"], abs=1e-5)
        np.testing.assert_allclose(s.forces, expected["forces"], atol=1e-5)
    write_predictions(tmp_path / "both.xyz", data, predict(potential, data))
    again = read_data(tmp_path / "both.xyz")
    for s, t in zip(data, again, strict=True):
        assert t.energy == pytest.approx(s.energy)
        assert t.config_type == s.config_type
        np.testing.assert_allclose(t.forces, s.forces, atol=1e-7)
        if s.atoms.cell.rank == 3:
            np.testing.assert_allclose(t.virial, s.virial, atol=1e-5)
    stresses = [atoms.info["equipot_stress"] for atoms in ase.io.read(tmp_path / "both.xyz", ":")[::2]]
    for s, stress in zip(data[::2], stresses, strict=True):
        np.testing.assert_allclose(-stress * s.atoms.get_volume(), s.virial, atol=1e-5)


def test_command(model_file, data, tmp_path):
    frames = []
    for s in data:
        atoms = s.atoms.copy()
        atoms.info["config_type"] = s.config_type
        atoms.calc = SinglePointCalculator(atoms, energy=s.energy, forces=s.forces)
        frames.append(atoms)
    ase.io.write(tmp_path / "a.xyz", frames)
    assert len(read_data(tmp_path / "a.xyz")) == 8
    model = model_file("default")
    result = run("eval", model, "a.xyz", "--picture", "eval.png", "--json", "eval.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "molecule" in result.stdout
    # eight decimals of positions and forces in the file
    assert json.loads((tmp_path / "eval.json").read_text())["all"]["forces_mae"] < 1e-3
    assert (tmp_path / "eval.png").exists()
    for wrong in (
        ["eval", model, "none.xyz"],
        ["eval", model, "a.xyz", "--dtype", "half"],
        ["eval", model, "a.xyz", "--picture", "no-such-folder/a.png"],
        ["eval", model, "a.xyz", "--picture", "a.qqq"],
        ["eval", model, "a.xyz", "--json", "."],
        ["eval", model, "a.xyz", "--output", "no-such-folder/a.xyz"],
        ["data", "check", "a.xyz", "--picture", "a.qqq"],
    ):
        result = run(*wrong, cwd=tmp_path)
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1, result.stderr
        assert "Traceback" not in result.stderr
        assert not result.stdout  # it is said before any work is done
