"""Guards: made-up structures in which atoms come closer than in any data, and where a repulsive wall puts their energy.

Between the data and the wall of nuclei a fit is free to fall: one such hole, and hot dynamics ends in it. Copies of
structures get energies of their own there. Scaled down in length by up to 40 %, they follow Birch and Murnaghan's
equation of state with the stiffness of the data. With one atom pushed close to another, they gain
Σ_pairs ε (exp((d - r)/ρ) - 1) over pairs closer than the shortest distance d in the data, with ε = 3 eV and ρ = 0.15 d.
Both are known to 0.5 eV (per atom where all are compressed) and a fifth of the gain.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from equipot.data import Structure

Indices = NDArray[np.int64]

_SCALES = (0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)


@dataclass(frozen=True)
class Guard:
    """A structure with an energy of its own, and what that may be wrong by, eV."""

    structure: Structure
    tolerance: float


def guards(
    dataset: Sequence[Structure],
    shortest: Mapping[tuple[int, int], float],
    cutoff: float,
    count: int,
    seed: int,
    *,
    closest: float = 0.0,
    all_pairs: bool = False,
) -> list[Guard]:
    """Make guards for a data set.

    Parameters
    ----------
    dataset : sequence of Structure
        Those with energies are copied.
    shortest : mapping
        Their `shortest_distances`.
    cutoff : float
        Å; how far to look for neighbours.
    count : int
        Copies to try; some may turn out to be useless.
    seed : int
        Of their choice.
    closest : float
        Å; copies with atoms closer than this are left out.
    all_pairs : bool
        Push atoms also to the nearest one of another species than their nearest neighbour's, as hydrogen to hydrogen
        in a molecule. That stretches bonds at a price unknown here, so these energies are lower bounds.
    """
    labelled = [s for s in dataset if s.energy is not None and len(s) > 1]
    if not labelled or not shortest:
        return []
    bulk, stiff = stiffness(labelled)
    if all_pairs:  # of molecules, bonds are pushed one by one
        bulk = [s for s in bulk if s.atoms.pbc.any()]
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        whole = number % 2 == 0 and len(bulk) > 0
        pool = bulk if whole else labelled
        structure = pool[int(rng.integers(len(pool)))]
        atoms, n = structure.atoms.copy(), len(structure)
        if whole:
            scale = _SCALES[number // 2 % len(_SCALES)]
            atoms.set_cell(np.asarray(atoms.cell) * scale)
            atoms.positions *= scale
            x = scale**-2
            gain = n * 9 / 16 * stiff * ((x - 1) ** 3 * 4.5 + (x - 1) ** 2 * (6 - 4 * x))
        else:
            if not _push(atoms, cutoff, shortest, rng, any_pair=all_pairs and number % 4 == 1):
                continue
            gain = _wall(atoms, shortest)
        if len(_neighbors("i", atoms, closest)) > 0:
            continue
        assert structure.energy is not None
        source = f"guard from {structure.source}"
        copied = Structure(atoms, structure.energy + gain, config_type=structure.config_type, source=source)
        made.append(Guard(copied, (0.5 * n if whole else 0.5) + 0.2 * gain))
    return made


def _push(
    atoms: Atoms, cutoff: float, shortest: Mapping[tuple[int, int], float], rng: np.random.Generator, *, any_pair: bool
) -> bool:
    """Push one atom close to its nearest neighbour, of any species or of one drawn by lot; False if it has none."""
    i, j, D = _neighbors("ijD", atoms, cutoff)
    pairs = _species_pairs(atoms, i, j)
    # Species that are further apart in all data than `shortest` looks have no distance to be pushed below.
    usable = np.array([pair in shortest for pair in pairs], dtype=bool)
    if any_pair and usable.any():
        there = sorted(set(pairs) & set(shortest))
        chosen = there[int(rng.integers(len(there)))]
        usable = np.array([pair == chosen for pair in pairs])
    edges = np.flatnonzero(usable)
    if not len(edges):
        return False
    mine = edges[i[edges] == i[edges[int(rng.integers(len(edges)))]]]
    edge = mine[int(np.argmin(np.linalg.norm(D[mine], axis=1)))]
    length = float(np.linalg.norm(D[edge]))
    aim = shortest[pairs[edge]] * rng.uniform(0.4, 0.95)
    atoms.positions[i[edge]] += D[edge] * (1 - aim / length)
    return True


def stiffness(dataset: Sequence[Structure]) -> tuple[list[Structure], float]:
    """Structures of about the median volume, and bulk modulus times volume per atom, eV: how pressure falls with it.

    Where the data do not tell (no stresses, or one volume), it is 10 eV, as in many metals.
    """
    volumes = np.array([s.atoms.get_volume() / len(s) if np.all(s.atoms.pbc) else np.inf for s in dataset])
    if not np.isfinite(volumes).any():
        return list(dataset), 10.0
    near = np.abs(np.log(volumes / np.median(volumes[np.isfinite(volumes)]))) < 0.2
    bulk = [s for s, take in zip(dataset, near, strict=True) if take]
    known = [
        (np.log(v), np.trace(s.virial) / len(s))
        for s, v in zip(bulk, volumes[near], strict=True)
        if s.virial is not None
    ]
    if len(known) < 5 or np.ptp([v for v, _ in known]) < 0.02:
        return bulk, 10.0
    slope = np.polyfit([v for v, _ in known], [w for _, w in known], 1)[0]
    return bulk, float(np.clip(-slope / 3, 0.5, 60.0))


def _wall(atoms: Atoms, shortest: Mapping[tuple[int, int], float]) -> float:
    """The energy of the repulsive wall, eV."""
    i, j, r = _neighbors("ijd", atoms, max(shortest.values()))
    d = np.array([shortest.get(pair, 0.0) for pair in _species_pairs(atoms, i, j)])
    near = r < d
    return float(1.5 * np.sum(np.expm1((d[near] - r[near]) / (0.15 * d[near]))))  # every pair is there twice


def shortest_distances(dataset: Sequence[Structure], cutoff: float) -> dict[tuple[int, int], float]:
    """The shortest distance between atoms of every pair of species that meet, Å."""
    found: dict[tuple[int, int], float] = {}
    for structure in dataset:
        i, j, r = _neighbors("ijd", structure.atoms, min(cutoff, 5.0))
        for pair, distance in zip(_species_pairs(structure.atoms, i, j), r.tolist(), strict=True):
            found[pair] = min(found.get(pair, np.inf), distance)
    return {pair: max(distance, 0.3) for pair, distance in found.items()}


def _species_pairs(atoms: Atoms, i: Indices, j: Indices) -> list[tuple[int, int]]:
    """Atomic numbers of pairs of atoms, the smaller one first."""
    a, b = atoms.numbers[i], atoms.numbers[j]
    return list(zip(np.minimum(a, b).tolist(), np.maximum(a, b).tolist(), strict=True))


def _neighbors(quantities: str, atoms: Atoms, cutoff: float) -> Any:
    """ASE's, without the empty cell around molecules, which it would divide into bins at a thousand times the cost."""
    return neighbor_list(quantities, atoms if atoms.pbc.any() else Atoms(atoms.numbers, atoms.positions), cutoff)
