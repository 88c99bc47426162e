"""Molecules of periodic data by themselves: cut out of liquids and molecular crystals, alone or a few together.

Data of a liquid say nothing of a molecule in vacuum or at a surface, and a fit may let it fall apart there. What is cut
out becomes a guard (see `equipot.fit.guards`) at E = Σ_molecules (e + c), where e is the molecule's energy in the data,
from the numbers of molecules of each kind by least squares, and c = 0.2 eV + 0.03 eV for each of its atoms, about what
the others there hold it with: 0.3 eV for water, 0.6 for benzene. That c may be nothing or twice as much.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray

from equipot.data import Structure
from equipot.fit.bonds import Indices, bonds, unwrapped
from equipot.fit.guards import Guard

Array = NDArray[np.float64]

_MOST_TOGETHER = 6
_MOST = 500  # cut out
_HELD, _HELD_ATOM = 0.2, 0.03  # eV, by the others


@dataclass(frozen=True)
class _Parts:
    """Molecules of a structure: which one each atom is of, positions that no face of the cell cuts, Å, and kinds."""

    structure: Structure
    owner: Indices
    positions: Array
    kinds: list[bytes]


def molecules(dataset: Sequence[Structure], seed: int) -> list[Guard]:
    """Cut molecules out of periodic structures with energies: one from each, half of the time with its next ones.

    Structures in which something is bound to its own images, as in most crystals, or that have metals give none; nor do
    molecules whose share of the energy the data do not tell, such as two kinds that come in one proportion.

    Parameters
    ----------
    dataset : sequence of Structure
        The training data.
    seed : int
        Of what is cut out.
    """
    rng = np.random.default_rng([seed, 6])
    usable = [s for s in dataset if s.energy is not None and s.atoms.pbc.any()]
    if len(usable) > _MOST:
        usable = [usable[i] for i in np.sort(rng.choice(len(usable), _MOST, replace=False))]
    wholes = [parts for parts in map(_parts, usable) if parts is not None]
    if not wholes:
        return []
    kinds = sorted({kind for parts in wholes for kind in parts.kinds})
    counts = np.array([[parts.kinds.count(kind) for kind in kinds] for parts in wholes], dtype=np.float64)
    inverse = np.linalg.pinv(counts)
    shares = inverse @ np.array([parts.structure.energy for parts in wholes])
    told = np.isclose(np.diag(inverse @ counts), 1.0)
    energies = {kind: share for kind, share, known in zip(kinds, shares, told, strict=True) if known}
    cut = [_cut(parts, energies, rng) for parts in wholes]
    return [guard for guard in cut if guard is not None]


def _parts(structure: Structure) -> _Parts | None:
    """The molecules of a structure, if it consists of molecules."""
    atoms = structure.atoms
    found = unwrapped(atoms)
    if found is None:
        return None
    owner, positions = found
    i, j, _ = bonds(atoms)
    kinds = []
    for molecule in range(owner.max(initial=-1) + 1):
        mine = owner[i] == molecule
        pairs = np.sort(np.column_stack([atoms.numbers[i[mine]], atoms.numbers[j[mine]]]), axis=1)
        kind = [np.sort(atoms.numbers[owner == molecule]), np.sort(pairs[:, 0] * 128 + pairs[:, 1])]
        kinds.append(np.concatenate(kind).astype(np.int64).tobytes())
    return _Parts(structure, owner, positions, kinds)


def _cut(parts: _Parts, energies: dict[bytes, float], rng: np.random.Generator) -> Guard | None:
    """A molecule and the next ones, in vacuum; None if one of them has no known energy or is an atom."""
    sizes = np.bincount(parts.owner)
    atoms = parts.structure.atoms
    centers = np.array([parts.positions[parts.owner == m].mean(axis=0) for m in range(len(sizes))])
    middle = int(rng.integers(len(sizes)))
    vectors, distances = find_mic(centers - centers[middle], atoms.cell, atoms.pbc)
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, _MOST_TOGETHER + 1))
    chosen = np.argsort(distances)[:count]
    if any(sizes[m] < 2 or parts.kinds[m] not in energies for m in chosen):
        return None
    shift = vectors - (centers - centers[middle])
    take = np.isin(parts.owner, chosen)
    cut = Atoms(atoms.numbers[take], positions=(parts.positions + shift[parts.owner])[take])
    held = _HELD * len(chosen) + _HELD_ATOM * len(cut)
    lowest = float(sum(energies[parts.kinds[m]] for m in chosen))
    name = "a molecule" if len(chosen) == 1 else f"{len(chosen)} molecules"
    source = f"{name} of {parts.structure.source}"
    structure = Structure(cut, lowest + held, config_type=parts.structure.config_type, source=source)
    return Guard(structure, 0.5 * held, lowest + 2 * held)
