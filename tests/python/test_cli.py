"""The command `equipot`: what it prints, and how it fails."""
# SPDX-License-Identifier: MIT

import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import equipot
from equipot.modelfile import read_model, write_model


def run(*arguments, cwd=None):
    command = [sys.executable, "-m", "equipot.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


def fails(*arguments, code=1, cwd=None):
    result = run(*arguments, cwd=cwd)
    assert result.returncode == code, result
    assert "Traceback" not in result.stderr
    assert result.stderr.strip()
    if code == 1:
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_version():
    result = run("--version")
    assert result.returncode == 0
    assert result.stdout == f"equipot {equipot.__version__}\n"


def test_info(model_file, make_potential):
    potential = make_potential("default")
    result = run("info", model_file("default"))
    assert result.returncode == 0, result.stderr
    for text in ("architecture", "cutoff", "parameters", f"{potential.cutoff:g} Å", f"{potential.parameters:,}"):
        assert text in result.stdout
    for symbol in potential.species:
        assert symbol in result.stdout


def test_info_needs_no_head(model_file):
    result = run("info", model_file("two_heads"))
    assert result.returncode == 0, result.stderr
    assert "a, b" in result.stdout


def test_info_shows_the_units_of_errors(model_file, tmp_path):
    model = read_model(model_file("default"))
    tested = {"structures": 3, "energy_rmse": 0.5, "forces_rmse": 20.25, "stress_rmse": 1.5, "stress_mae": None}
    # the last is how training left the models of runs that it did not finish
    errors = {"test": tested, "before the refit": {"energy": 0.125}, "validation": {"forces_rmse": 0.75}}
    model.card["errors"] = {**errors, "a user's": "small"}
    write_model(model, tmp_path / "m.equipot")
    said = run("info", tmp_path / "m.equipot").stdout
    for text in ("0.5 meV/atom", "20.25 meV/Å", "1.5 GPa", "0.125 meV/atom", "0.75 eV/Å", "small"):
        assert text in said
    assert "None" not in said


def test_wrong_use():
    fails("no-such-command", code=2)
    fails("info", code=2)
    fails("info", "--no-such-option", "file", code=2)


def test_errors_are_one_sentence(tmp_path):
    assert "missing.equipot" in fails("info", tmp_path / "missing.equipot")
    (tmp_path / "bad.equipot").write_bytes(b"nonsense, but long enough to be a header")
    assert "bad.equipot" in fails("info", tmp_path / "bad.equipot")
    for start in (b"PK\x03\x04 and so on", b"\xfd7zXZ\x00 and so on"):
        (tmp_path / "mace.model").write_bytes(start)
        assert f"equipot convert {tmp_path / 'mace.model'}" in fails("info", tmp_path / "mace.model")
    assert "reference" in fails("golden", tmp_path)


def test_convert_errors(tmp_path, model_file):
    assert "missing.model" in fails("convert", tmp_path / "missing.model")
    (tmp_path / "bad.model").write_bytes(b"nonsense")
    assert "bad.model" in fails("convert", tmp_path / "bad.model")
    assert not (tmp_path / "bad.equipot").exists()
    assert "an equipot model already" in fails("convert", model_file("default"), "--output", tmp_path / "new.equipot")


def test_the_package_is_light_to_import():
    """LAMMPS imports equipot.lammps at every start, to find the plugin."""
    heavy = {"numpy", "ase", "equipot._equipot"}
    script = f"import sys, equipot.lammps as l; l.plugin_folder(); print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_lammps_plugin():
    result = run("lammps-plugin")
    if result.returncode != 0:
        pytest.skip("installed without the LAMMPS plugin")
    assert result.stdout.strip().endswith("plugin.so")
    folder = run("lammps-plugin", "--folder")
    assert result.stdout.startswith(folder.stdout.strip())


def copper(path, count):
    rng = np.random.default_rng(1)
    frames = []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    ase.io.write(path, frames)


def test_a_linear_fit_again(tmp_path):
    copper(tmp_path / "cu.xyz", 6)
    settings = 'kind = "linear"\n[data]\ntrain = ["cu.xyz"]\n[basis]\nchannels = 2\ncutoff = 3.0\nrepulsion = false\n'
    (tmp_path / "lin.toml").write_text(settings)
    first = run("fit", "lin.toml", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "1 of them is set aside" in first.stderr
    assert "--again" in fails("fit", "lin.toml", cwd=tmp_path)
    assert "--again" in fails("fit", "lin.toml", "--resume", cwd=tmp_path)
    again = run("fit", "lin.toml", "--again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "The run that was in 'lin' is kept in 'lin.1'." in again.stderr
    for name in ("lin", "lin.1"):
        assert (tmp_path / name / "report.html").exists()
    (tmp_path / "cu.xyz").unlink()
    failed = run("fit", "lin.toml", "--again", cwd=tmp_path)
    assert failed.returncode == 1
    assert "It is in 'lin' again" in failed.stderr
    assert (tmp_path / "lin" / "report.html").exists()
    assert not (tmp_path / "lin.2").exists()


def test_a_fit_goes_on_when_nobody_reads_what_it_says(tmp_path):
    copper(tmp_path / "cu.xyz", 12)
    (tmp_path / "fit.toml").write_text(
        'kind = "train"\nepochs = 3\n[data]\ntrain = ["cu.xyz"]\n'
        "[model]\nchannels = 2\ncutoff = 3.0\nl_max = 1\nrepulsion = false\n"
    )
    command = [sys.executable, "-m", "equipot.cli", "fit", "fit.toml", "--folder", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr.readline()
        process.stderr.close()  # as `| head -1` does
        process.stdout.read()
        process.wait(timeout=120)
    assert (tmp_path / "run" / "model.equipot").exists()
    assert (tmp_path / "run" / "report.html").exists()
