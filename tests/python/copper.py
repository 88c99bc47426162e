"""Crystals of copper with the labels of ASE's EMT, as frames and as a data set."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import voigt_6_to_full_3x3_stress

from equipot.data import DataSet, Structure

GPA = 160.21766208  # of one eV/Å³


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
