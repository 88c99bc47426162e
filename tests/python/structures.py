"""Atoms for tests: random but with sensible distances, and the same in every run."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray


def random_atoms(
    seed: int,
    species: list[str],
    count: int = 8,
    cell: NDArray[np.float64] | float | None = 6.0,
    pbc: bool | tuple[bool, bool, bool] = True,
    closest: float = 1.3,
) -> Atoms:
    """`count` atoms at least `closest` Å apart, all `species` among them; without a cell in a ball."""
    rng = np.random.default_rng(seed)
    numbers = [species[k % len(species)] for k in range(count)]
    box = np.eye(3) * 5.0 if cell is None else np.eye(3) * cell if np.isscalar(cell) else np.asarray(cell)
    periodic = pbc if cell is not None else False
    for _ in range(20_000):
        atoms = Atoms(numbers, positions=rng.random((count, 3)) @ box, cell=box, pbc=periodic)
        for _ in range(200):
            distances = atoms.get_all_distances(mic=bool(np.any(atoms.pbc))) + 10 * np.eye(count)
            if distances.min() > closest:
                if cell is None:
                    atoms.set_cell(None)
                return atoms
            i = int(np.argmin(distances.min(axis=1)))
            atoms.positions[i] = rng.random(3) @ box
    raise RuntimeError("these atoms do not fit into the cell")


def rattled_crystal(symbol: str = "Si", repeat: int = 2, amplitude: float = 0.1, seed: int = 0) -> Atoms:
    """A diamond crystal with its atoms off their places."""
    atoms = bulk(symbol, "diamond", a=5.43, cubic=True).repeat(repeat)
    atoms.positions += np.random.default_rng(seed).normal(0.0, amplitude, atoms.positions.shape)
    return atoms


def random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A proper rotation, uniformly distributed."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
