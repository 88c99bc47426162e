"""Structures with their labels, sets of them, and findings about them."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

Severity = Literal["ok", "note", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warning", "error")

# Names that data sets give to the group of their isolated atoms.
_ISOLATED = {"isolatedatom", "isolatedatoms", "isolated", "atom", "atoms", "e0", "e0s", "freeatom"}


def counted(count: int, one: str, several: str = "") -> str:
    """A number with what is counted, in the singular or the plural, which is one with an s unless it is given."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def evenly(length: int, most: int) -> NDArray[np.int64]:
    """Up to so many of the indices of something that long, from its first to its last."""
    return np.unique(np.linspace(0, length - 1, min(length, most)).astype(np.int64))


def formula_unit(numbers: ArrayLike) -> tuple[int, ...]:
    """Atomic numbers of the smallest number of atoms with the composition of these, in their order."""
    species, counts = np.unique(np.asarray(numbers), return_counts=True)
    return tuple(np.repeat(species, counts // max(np.gcd.reduce(counts), 1)).tolist())


@dataclass(eq=False)
class Structure:
    """Atoms and what is known about them.

    Attributes
    ----------
    atoms
        Numbers, positions, cell and periodicity only; nothing else of what the file said.
    energy
        Of the whole structure, eV.
    forces
        (n, 3), eV/Å.
    virial
        (3, 3), eV, −dE/dε; minus volume times stress.
    config_type
        The group that it belongs to.
    weight
        Relative to other structures, for losses.
    source
        File and frame, counted from 0, as in ``train.xyz#12``.
    """

    atoms: Atoms
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    virial: NDArray[np.float64] | None = None
    config_type: str = "default"
    weight: float = 1.0
    source: str = ""

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def file(self) -> str:
        """The file that it came from."""
        return self.source.rsplit("#", 1)[0]

    @property
    def geometry(self) -> tuple[bytes, ...]:
        """Equal for structures that are the same but for labels, to the digits of files with few of them.

        Structures may have been shifted as a whole, and atoms by vectors of the cell, but not turned or put in another
        order.
        """
        periodic, vectors = self.atoms.pbc, self.atoms.cell.complete()
        turns = np.linalg.solve(vectors.T, (self.atoms.positions - self.atoms.positions[0]).T).T
        turns -= np.where(periodic, np.floor(turns + 1e-6), 0.0)
        place = np.round(turns @ vectors, 4) + 0.0
        cell = np.round(np.asarray(self.atoms.cell), 4) + 0.0 if np.any(periodic) else np.zeros(3)
        return self.atoms.numbers.tobytes(), place.tobytes(), cell.tobytes(), periodic.tobytes()

    @property
    def is_isolated_atom(self) -> bool:
        """One atom that feels no other, not even its own images: these are far away, or its config_type says so."""
        if len(self.atoms) != 1:
            return False
        periodic = np.asarray(self.atoms.pbc)
        heights = 1 / np.linalg.norm(np.linalg.inv(self.atoms.cell.complete()), axis=0)
        return not periodic.any() or bool(heights[periodic].min() >= (5.0 if self.is_called_isolated else 8.0))

    @property
    def is_called_isolated(self) -> bool:
        """Whether the config_type is that of isolated atoms, under one of the names that data sets give to it."""
        return "".join(c for c in self.config_type.lower() if c.isalnum()) in _ISOLATED


@dataclass(frozen=True)
class Finding:
    """One thing to know about a data set, and what to do about it.

    Attributes
    ----------
    severity
        "ok", "note", "warning" or "error".
    topic
        A word or two: keys, stress, duplicates, …
    text
        A plain sentence.
    sources
        Some of the structures that it is about.
    """

    severity: Severity
    topic: str
    text: str
    sources: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"severity": self.severity, "topic": self.topic, "text": self.text, "sources": list(self.sources)}


@dataclass(eq=False)
class DataSet(Sequence[Structure]):
    """A sequence of structures.

    Attributes
    ----------
    structures
        The structures.
    keys_taken
        For "energy", "forces" and "virial", which key the labels came from, and in how many structures.
    findings
        What reading them brought to light.
    """

    structures: list[Structure] = field(default_factory=list)
    keys_taken: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.structures)

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> DataSet: ...

    def __getitem__(self, index: int | slice) -> Structure | DataSet:
        if isinstance(index, slice):
            return self.subset(range(*index.indices(len(self))))
        return self.structures[index]

    def __iter__(self) -> Iterator[Structure]:
        return iter(self.structures)

    def __add__(self, other: DataSet) -> DataSet:
        if not isinstance(other, DataSet):
            return NotImplemented
        keys = {
            quantity: dict(Counter(self.keys_taken.get(quantity, {})) + Counter(other.keys_taken.get(quantity, {})))
            for quantity in {**self.keys_taken, **other.keys_taken}
        }
        findings = self.findings + [finding for finding in other.findings if finding not in self.findings]
        return DataSet(self.structures + other.structures, keys, findings)

    def __repr__(self) -> str:
        symbols = " ".join(chemical_symbols[z] for z in self.species)
        return f"DataSet({counted(len(self), 'structure')}, {counted(self.atoms, 'atom')}, {symbols})"

    @property
    def species(self) -> list[int]:
        """Atomic numbers of all elements in it, ascending."""
        if not self.structures:
            return []
        return [int(z) for z in np.unique(np.concatenate([structure.atoms.numbers for structure in self.structures]))]

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return sum(len(structure) for structure in self.structures)

    @property
    def config_types(self) -> dict[str, int]:
        """Structures per config_type, in order of appearance."""
        return dict(Counter(structure.config_type for structure in self.structures))

    def subset(self, indices: Iterable[int]) -> DataSet:
        """The structures with these indices, in this order; the structures themselves are shared."""
        return DataSet([self.structures[i] for i in indices], self.keys_taken, self.findings)
