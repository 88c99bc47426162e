"""Bonds, as distances and covalent radii tell them: which atoms are bound, which may come to be, and which may not."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from equipot import _equipot
from equipot.data import Structure
from equipot.data.structures import evenly

Indices = NDArray[np.int64]
Bonds = NDArray[np.int8]
Mask = NDArray[np.bool_]

NONMETALS = (1, *range(5, 10), *range(14, 18), *range(33, 36), 52, 53)
METALLOIDS = (5, 14, 33, 52)
BOND = 1.25
"""Times the sum of covalent radii is the longest bond."""
MAY_BIND = 1.5
"""Times the sum of covalent radii; atoms that are as close as this while others part may bind."""

_SAME = 1e-6  # Å
_SAMPLE = 100  # structures

# Atoms with lone pairs, which take hydrogen from others without a barrier worth the name; the others do not.
_TAKERS = (7, 8, 9, 15, 16, 17, 33, 34, 35, 52, 53)


def bonds(atoms: Atoms) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """The atoms of bonds, each from both ends, and from the first to the second, Å."""
    radii = covalent_radii[atoms.numbers]
    i, j, D = neighbors("ijD", atoms, 2 * BOND * float(radii.max(initial=0.0)))
    bound = np.linalg.norm(D, axis=1) < BOND * (radii[i] + radii[j])
    return i[bound], j[bound], D[bound]


def unwrapped(atoms: Atoms) -> tuple[Indices, NDArray[np.float64]] | None:
    """Which molecule each atom is of, and positions, Å, with which no face of the cell cuts one.

    None where something is bound to its own images, as in most crystals, and where there are metals.
    """
    if not np.isin(atoms.numbers, NONMETALS).all():
        return None
    i, j, D = bonds(atoms)
    _, owner = connected_components(matrix(len(atoms), i, j), directed=False)
    positions = np.full((len(atoms), 3), np.nan)
    first = np.unique(owner, return_index=True)[1]
    positions[first] = atoms.positions[first]
    while True:
        known = ~np.isnan(positions[:, 0])
        onward = known[i] & ~known[j]
        if not onward.any():
            break
        positions[j[onward]] = positions[i[onward]] + D[onward]
    if np.abs(positions[j] - positions[i] - D).max(initial=0.0) > _SAME:
        return None
    return owner.astype(np.int64), positions


def bonds_apart(atoms: Atoms) -> Bonds:
    """How many bonds apart atoms are, 1 or 2, shape (N, N); 0 for more.

    Images in a periodic cell count as the same atom.
    """
    i, j, _ = bonds(atoms)
    one = matrix(len(atoms), i, j)
    once, twice = one.toarray() > 0, (one @ one).toarray() > 0
    np.fill_diagonal(twice, val=False)  # there and back
    return np.where(once, 1, np.where(twice, 2, 0)).astype(np.int8)


def sample(data: Sequence[Structure]) -> list[Atoms]:
    """Up to a hundred structures, evenly."""
    return [data[k].atoms for k in evenly(len(data), _SAMPLE)]


def bonds_of_an_atom(data: Sequence[Structure]) -> float:
    """How many bonds atoms have on average, in a `sample` of the structures."""
    some = sample(data)
    return sum(len(bonds(atoms)[0]) for atoms in some) / max(sum(len(atoms) for atoms in some), 1)


def covalent(numbers: Indices, others: Indices) -> Mask:
    """Which of these pairs of atoms make bonds of about 3 to 5 eV: non-metals, but not metalloids among themselves."""
    nonmetals = np.isin(numbers, NONMETALS) & np.isin(others, NONMETALS)
    mask: Mask = nonmetals & ~(np.isin(numbers, METALLOIDS) & np.isin(others, METALLOIDS))
    return mask


def is_covalent(atoms: Atoms) -> bool:
    """Whether some of its bonds are `covalent`."""
    i, j, _ = bonds(atoms)
    return bool(covalent(atoms.numbers[i], atoms.numbers[j]).any())


def hydrogen_takers(data: Sequence[Structure]) -> Indices:
    """Atomic numbers of the elements that hydrogen may pass to: those with lone pairs, and what the data show."""
    takers = set(_TAKERS)
    for s in data:
        numbers, radii = s.atoms.numbers, covalent_radii[s.atoms.numbers]
        i, j, r = neighbors("ijd", s.atoms, 2 * MAY_BIND * float(radii.max(initial=0.0)))
        lengths = r / (radii[i] + radii[j])
        held = np.bincount(i[lengths < BOND], minlength=len(numbers)) > 0
        passing = (numbers[i] == 1) & held[i] & (lengths > BOND) & (lengths < MAY_BIND)
        takers |= set(numbers[j[passing]].tolist())
    return np.array(sorted(takers), dtype=np.int64)


def barred(numbers: Indices, others: Indices, takers: Indices) -> Mask:
    """Which of these pairs of atoms do not bind since one is hydrogen, and the other does not take it."""
    takes, other_takes = np.isin(numbers, takers), np.isin(others, takers)
    mask: Mask = ((numbers == 1) & ~other_takes) | ((others == 1) & ~takes)
    return mask


def matrix(n: int, i: Indices, j: Indices) -> csr_array:
    """How many of the pairs every two of n atoms have."""
    return csr_array((np.ones(len(i), dtype=np.int32), (i, j)), shape=(n, n))


def neighbors(quantities: str, atoms: Atoms, cutoff: float) -> Any:
    """As ``ase.neighborlist.neighbor_list`` (i, j, d, D), whose time grows with the volume of the cell."""
    if cutoff <= 0 or len(atoms) == 0:
        i, j, D = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros((0, 3))
    else:
        numbers, cell = atoms.numbers.astype(np.int32), np.asarray(atoms.cell, dtype=np.float64)
        i, j, D = _equipot.neighbors(numbers, atoms.positions, cell, np.asarray(atoms.pbc, dtype=bool), cutoff)
    found = {"i": i, "j": j, "D": D, "d": np.linalg.norm(D, axis=1)}
    chosen = tuple(found[name] for name in quantities)
    return chosen if len(chosen) > 1 else chosen[0]
