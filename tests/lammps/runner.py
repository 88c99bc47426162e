"""Runs LAMMPS as people do, with an input file under mpirun, and reads back numbers with all their digits."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ELEMENTS = ["Si", "O"]  # of the models and boxes of conftest.py, in the order of atom types
NUMBERS = [14, 8]

# Six and nine components as LAMMPS orders them, as places in a row-major 3 x 3 matrix.
SYMMETRIC = [0, 4, 8, 1, 2, 5]
CENTROID = [0, 4, 8, 1, 2, 5, 3, 6, 7]

# Switches for every run, for instance "-k on -sf kk": all these tests with another version of the pair style.
ALWAYS = os.environ.get("EQUIPOT_TEST_ARGUMENTS", "").split()

# Dynamics at constant energy, in which neighbour lists are made anew.
CONSTANT_ENERGY = """
velocity all create 300 17 loop geom
fix 1 all nve
timestep 0.0002
neigh_modify every 1 delay 0 check yes
thermo 100
run 400
"""

DUMPED = "id fx fy fz c_pe c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6] " + " ".join(f"c_cs[{k}]" for k in range(1, 10))
EVERYTHING = f"""
compute pe all pe/atom
compute s all stress/atom NULL virial
compute cs all centroid/stress/atom NULL virial
thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol
thermo_modify format float %.17g norm no
dump d all custom 1 dump.txt {DUMPED}
dump_modify d sort id format float %.17g
run 0
"""


def command(name: str) -> str | None:
    """A command of the environment that runs the tests, else one on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


@dataclass
class Outcome:
    """What a run printed and wrote."""

    folder: Path
    text: str
    code: int
    thermo: dict[str, Floats] = field(default_factory=dict)  # by column; all runs of the input one after the other

    @property
    def errors(self) -> list[str]:
        return re.findall(r"^ERROR.*$", self.text, re.MULTILINE)

    @property
    def warnings(self) -> list[str]:
        return re.findall(r"^WARNING.*$", self.text, re.MULTILINE)

    def dump(self, name: str = "dump.txt") -> Floats:
        """The last frame of a dump, one row per atom, sorted by id."""
        frame = (self.folder / name).read_text().split("ITEM: ATOMS")[-1]
        return np.array([line.split() for line in frame.splitlines()[1:]], dtype=float)

    @property
    def energy(self) -> float:
        return float(self.thermo["PotEng"][-1])

    @property
    def pressure(self) -> Floats:
        """xx yy zz xy xz yz."""
        return np.array([self.thermo[f"P{c}"][-1] for c in ("xx", "yy", "zz", "xy", "xz", "yz")])

    @property
    def forces(self) -> Floats:
        return self.dump()[:, 1:4]

    @property
    def energies(self) -> Floats:
        return self.dump()[:, 4]

    @property
    def stresses(self) -> Floats:
        return self.dump()[:, 5:11]

    @property
    def centroid_stresses(self) -> Floats:
        return self.dump()[:, 11:20]


def read_thermo(text: str) -> dict[str, Floats]:
    columns: list[str] = []
    rows: dict[str, list[float]] = {}
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            columns = words
        elif columns and len(words) == len(columns) and re.fullmatch(r"\d+", words[0]):
            for name, word in zip(columns, words, strict=True):
                rows.setdefault(name, []).append(float(word))
        elif words[:2] == ["Loop", "time"]:
            columns = []
    return {name: np.array(values) for name, values in rows.items()}


@dataclass
class Runner:
    """`lmp` and `mpirun` with the environment that the `lmp` command of the Python package sets."""

    lmp: str
    mpirun: str
    plugin: str
    folder: Path
    count: int = 0

    def __call__(
        self, script: str, ranks: int = 1, threads: int = 1, arguments: tuple[str, ...] = (), check: bool = True
    ) -> Outcome:
        """`script` is run in `self.folder`, where data files are; dumps go to a folder of their own."""
        self.count += 1
        folder = self.folder / f"run{self.count}"
        folder.mkdir()
        (folder / "in.lammps").write_text(script)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        done = subprocess.run(
            [self.mpirun, "-np", str(ranks), self.lmp, "-in", "in.lammps", "-nocite", *arguments, *ALWAYS],
            cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180,
        )  # fmt: skip
        outcome = Outcome(folder, done.stdout, done.returncode, read_thermo(done.stdout))
        if check:
            assert done.returncode == 0, done.stdout[-3000:]
        return outcome


def write_data(path: Path, atoms: Atoms, types: list[str], type_of: list[int] | None = None) -> Path:
    """A data file with all digits. `types` are elements by atom type; the cell must be lower triangular."""
    cell = np.asarray(atoms.cell)
    assert np.allclose(cell, np.tril(cell)), "LAMMPS wants a along x and b in the xy plane"
    symbols = atoms.get_chemical_symbols()
    type_of = type_of or [types.index(symbol) + 1 for symbol in symbols]
    lines = ["written by a test", "", f"{len(atoms)} atoms", f"{len(types)} atom types", ""]
    lines += [f"0 {cell[k, k]:.17g} {axis}lo {axis}hi" for k, axis in enumerate("xyz")]
    if abs(cell[1, 0]) + abs(cell[2, 0]) + abs(cell[2, 1]) > 0:
        lines.append(f"{cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g} xy xz yz")
    lines += ["", "Masses", ""]
    lines += [f"{k + 1} {atomic_masses[atomic_numbers[element]]:.6f}" for k, element in enumerate(types)]
    lines += ["", "Atoms # atomic", ""]
    positions = atoms.positions.tolist()
    lines += [f"{k + 1} {type_of[k]} {x:.17g} {y:.17g} {z:.17g}" for k, (x, y, z) in enumerate(positions)]
    path.write_text("\n".join(lines) + "\n")
    return path


def close(found, expected, tolerance: float = 1e-10) -> None:
    """Equal to `tolerance` times the largest of the expected numbers."""
    scale = float(np.max(np.abs(expected)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)
