"""Any number of ranks on any grid gives what one rank gives, and what Python gives."""
# SPDX-License-Identifier: MIT

import numpy as np
import pytest
from runner import CENTROID, EVERYTHING, SYMMETRIC, close

import equipot

PROPERTIES = ("energy", "energies", "forces", "virial", "virials", "centroid_virials")
BOXES = ["bulk", "tilted", "small", "cluster"]
BAR = 1.6021765e6  # LAMMPS's nktv2p of `units metal`: eV/A^3 in bar

GRIDS = [
    (2, "processors * * *"),
    (4, "processors * * *"),
    (4, "processors 1 1 4"),
    (4, "processors 4 1 1"),
    (4, "comm_style tiled"),
]


@pytest.fixture(scope="module")
def serial_runs():
    return {}


@pytest.fixture
def serial(serial_runs, lammps, start):
    """One rank's result, run once for each box."""

    def run(box):
        if box not in serial_runs:
            serial_runs[box] = lammps(start(box) + EVERYTHING)
        return serial_runs[box]

    return run


@pytest.mark.parametrize("box", BOXES)
def test_agrees_with_python(serial, boxes, model, box):
    atoms = boxes[box].copy()
    if box == "cluster":
        atoms.pbc = True
    expected = equipot.load(model).compute(atoms, PROPERTIES)
    found = serial(box)
    volume = found.thermo["Volume"][-1]
    close(found.energy, expected["energy"])
    close(found.energies, expected["energies"])
    close(found.forces, expected["forces"])
    close(found.pressure * volume / BAR, np.ravel(expected["virial"])[SYMMETRIC])
    close(-found.stresses / BAR, expected["virials"].reshape(-1, 9)[:, SYMMETRIC])
    close(-found.centroid_stresses / BAR, expected["centroid_virials"].reshape(-1, 9)[:, CENTROID])


@pytest.mark.parametrize("box", BOXES)
def test_sums_of_atoms(serial, box):
    found = serial(box)
    total = -found.pressure * found.thermo["Volume"][-1]
    close(found.energies.sum(), found.energy)
    close(found.forces.sum(axis=0) + np.abs(found.forces).max(), np.full(3, np.abs(found.forces).max()))
    close(found.stresses.sum(axis=0), total)
    centroid = found.centroid_stresses.sum(axis=0)
    close(centroid[:6], total)
    close(centroid[[6, 7, 8]], centroid[[3, 4, 5]])


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid[0]}-{grid[1].replace(' ', '_').replace('*', 'x')}")
@pytest.mark.parametrize("box", BOXES)
def test_ranks_agree(serial, lammps, start, box, grid):
    ranks, before = grid
    if box == "small" and "tiled" in before:
        pytest.skip("LAMMPS wants a box longer than the cutoff for comm_style tiled")
    expected = serial(box)
    found = lammps(start(box, before=before) + EVERYTHING, ranks=ranks)
    close(found.energy, expected.energy)
    close(found.pressure, expected.pressure)
    close(found.energies, expected.energies)
    close(found.forces, expected.forces)
    close(found.stresses, expected.stresses)
    close(found.centroid_stresses, expected.centroid_stresses)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_agree(serial, lammps, start, threads):
    found = lammps(start("bulk") + EVERYTHING, threads=threads)
    expected = serial("bulk")
    close(found.energy, expected.energy)
    close(found.forces, expected.forces)
    close(found.stresses, expected.stresses)


def test_open_boundaries(lammps, start, boxes, model):
    atoms = boxes["cluster"].copy()
    atoms.pbc = False
    expected = equipot.load(model).compute(atoms, ("energy", "forces"))
    for ranks in (1, 3):
        found = lammps(start("cluster", boundary="f f f") + EVERYTHING, ranks=ranks)
        close(found.energy, expected["energy"])
        close(found.forces, expected["forces"])


@pytest.mark.parametrize("ranks", [1, 2])
def test_units_real(serial, lammps, start, ranks):
    """eV to kcal/mol by the exact factor of the SI."""
    kcal = 1.602176634e-19 * 6.02214076e23 / 4184
    found = lammps(start("bulk", units="real") + EVERYTHING, ranks=ranks)
    expected = serial("bulk")
    close(found.energy, expected.energy * kcal)
    close(found.energies, expected.energies * kcal)
    close(found.forces, expected.forces * kcal)
    atmospheres = 68568.415 / BAR  # LAMMPS's nktv2p of both units
    close(found.pressure, expected.pressure * kcal * atmospheres)
    close(found.centroid_stresses, expected.centroid_stresses * kcal * atmospheres)


def test_moving_atoms(lammps, start):
    """Atoms that change ranks: the same trajectory on 1, 2 and 4 ranks."""
    dynamics = """
velocity all create 1500 4242 loop geom
fix 1 all nve
timestep 0.0005
neighbor 0.4 bin
neigh_modify every 1 delay 0 check yes
thermo_style custom step pe etotal pxx pyy pzz pxy pxz pyz
thermo_modify format float %.17g norm no
thermo 20
dump d all custom 40 dump.txt id fx fy fz x y z
dump_modify d sort id format float %.17g
run 40
"""
    runs = [lammps(start("bulk") + dynamics, ranks=ranks) for ranks in (1, 2, 4)]
    for run in runs[1:]:
        close(run.thermo["PotEng"], runs[0].thermo["PotEng"])
        close(run.dump(), runs[0].dump(), 1e-9)


@pytest.mark.parametrize(("precision", "dtype"), [("mixed", "mixed"), ("float", "float32")])
def test_lower_precision(serial, lammps, start, boxes, model, precision, dtype):
    """Rows of floats travel between ranks; sums of floats in another order differ in their last digits."""
    expected = equipot.load(model, dtype=dtype).compute(boxes["bulk"], ("energy", "forces"))
    for ranks in (1, 2, 4):
        found = lammps(start(style=f"pair_style equipot precision {precision}") + EVERYTHING, ranks=ranks)
        assert precision in found.text
        close(found.forces, expected["forces"], 2e-5)
        close(found.forces, serial("bulk").forces, 1e-4)
        close(found.pressure, serial("bulk").pressure, 1e-4)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_code_of_gpus(serial, lammps, start, ranks):
    """On the host's threads: halo atoms' rows travel between the device's memory and LAMMPS."""
    for box in ("bulk", "cluster"):
        found = lammps(start(box, style="pair_style equipot device host") + EVERYTHING, ranks=ranks)
        assert "device code on the host" in found.text
        close(found.energy, serial(box).energy)
        close(found.energies, serial(box).energies)
        close(found.forces, serial(box).forces)
        close(found.pressure, serial(box).pressure)
        close(found.centroid_stresses, serial(box).centroid_stresses)


def test_load_balancing(lammps, start):
    """Domains that change during the run."""
    dynamics = """
velocity all create 1500 77 loop geom
fix 1 all nve
{balance}
timestep 0.0005
neigh_modify every 1 delay 0 check yes
thermo_style custom step pe pxx pxy
thermo_modify format float %.17g norm no
thermo 10
run 15
"""
    alone = lammps(start("cluster") + dynamics.format(balance=""))
    for before, balance in (
        ("comm_style tiled", "fix b all balance 5 1.0 rcb"),
        ("", "fix b all balance 5 1.0 shift xyz 10 1.05"),
    ):
        found = lammps(start("cluster", before=before) + dynamics.format(balance=balance), ranks=4)
        close(found.thermo["PotEng"], alone.thermo["PotEng"], 1e-9)
        close(found.thermo["Pxy"], alone.thermo["Pxy"], 1e-8)
