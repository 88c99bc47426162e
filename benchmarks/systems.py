"""The systems that are timed, built the same everywhere: no files, fixed seeds."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.spacegroup import crystal


def water(molecules_per_edge: int = 6) -> Atoms:
    """Molecules on a simple cubic lattice, turned and shifted at random, at 1 g/cm³."""
    rng = np.random.default_rng(1)
    one = molecule("H2O")
    one.positions -= one.get_center_of_mass()
    spacing = (one.get_masses().sum() / 0.602214076) ** (1 / 3)  # Å
    box = Atoms(cell=[molecules_per_edge * spacing] * 3, pbc=True)
    for site in np.ndindex(*[molecules_per_edge] * 3):
        turned = one.copy()
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turned.positions = turned.positions @ rotation + (np.array(site) + 0.5) * spacing + rng.normal(0.0, 0.1, 3)
        box += turned
    return box


def quartz(repeat: int) -> Atoms:
    """Alpha quartz, 9 atoms in the hexagonal cell, every atom shifted by 0.05 Å at random."""
    cell = crystal(
        ["Si", "O"],
        basis=[(0.4697, 0.0, 2 / 3), (0.4135, 0.2669, 0.7858)],
        spacegroup=154,
        cellpar=[4.9134, 4.9134, 5.4052, 90, 90, 120],
    )
    return _rattled(cell.repeat(repeat))


def silicon(repeat: int) -> Atoms:
    """Diamond structure, every atom shifted by 0.05 Å at random."""
    return _rattled(bulk("Si", "diamond", a=5.43, cubic=True).repeat(repeat))


def _rattled(atoms: Atoms) -> Atoms:
    atoms.positions += np.random.default_rng(2).normal(0.0, 0.05, atoms.positions.shape)
    return atoms


SYSTEMS = {
    "water 648": lambda: water(6),
    "quartz 576": lambda: quartz(4),
    "quartz 1944": lambda: quartz(6),
    "silicon 512": lambda: silicon(4),
}
