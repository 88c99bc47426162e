"""The data of a fit: the section [data] of its settings, and the sets for training, validation and test."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from equipot import EquipotError
from equipot.data import DataSet, Finding, atomic_energies, check, read_data, split
from equipot.data.structures import counted
from equipot.fit.settings import Settings, advice, setting


@dataclass(frozen=True)
class DataSettings(Settings):
    """Where the data lie and how they are read. Paths are relative to the settings file.

    Attributes
    ----------
    train : list of str
        Files to train on: extended XYZ (also .gz, .xz) and everything else that ASE reads.
    valid : list of str
        Files to validate on; without any, a part of `train` is taken away for it.
    test : list of str
        Files that the finished model is tested on, and nothing else.
    valid_fraction : float
        Share of the structures of `train` taken for validation when there are no files for it; 0 validates on the
        training data itself.
    energy_key, forces_key, stress_key, virial_key : str
        Names of the labels in the files; recognised automatically if left out.
    config_type_key : str
        Name of the entry that sorts structures into groups with errors and weights of their own.
    atomic_energies : table of float
        Energies of isolated atoms by element, eV. Left out, they come from structures of one atom, else from least
        squares.
    """

    train: tuple[str, ...] = setting(example='"train.xyz"')
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    valid_fraction: float = setting(0.1, least=0.0, below=1.0)
    energy_key: str | None = setting(None, example='"REF_energy"')
    forces_key: str | None = setting(None, example='"REF_forces"')
    stress_key: str | None = setting(None, example='"REF_stress"')
    virial_key: str | None = setting(None, example='"REF_virial"')
    config_type_key: str = "config_type"
    atomic_energies: dict[str, float] | None = setting(None, example="{ H = -13.6, O = -432.1 }")

    @property
    def keys(self) -> dict[str, Any]:
        """The keyword arguments of `equipot.data.read_data`."""
        names = ("energy_key", "forces_key", "stress_key", "virial_key", "config_type_key")
        return {name: getattr(self, name) for name in names}

    def relative_to(self, folder: Path) -> DataSettings:
        """The same settings with paths taken as relative to `folder`."""
        return replace(
            self,
            train=joined(folder, self.train),
            valid=joined(folder, self.valid),
            test=joined(folder, self.test),
        )


def joined(folder: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """Absolute paths of files that are named relative to a folder."""
    return tuple(os.path.abspath(folder / path) for path in paths)


@dataclass
class DataSets:
    """What a fit learns from.

    Attributes
    ----------
    train, valid, test : DataSet
        `valid` may be the same as `train`; `test` may be empty.
    atomic_energies : dict of int to float
        Energies of isolated atoms, eV; those left out are found in `train`.
    notes : list of str
        What people should know: which labels were found, where the atomic energies come from.
    findings : list of Finding
        What the checks of the data found, for the report.
    estimated : set of int
        Species whose atomic energy is only estimated, by least squares.
    """

    train: DataSet
    valid: DataSet = field(default_factory=DataSet)
    test: DataSet = field(default_factory=DataSet)
    atomic_energies: dict[int, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    estimated: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        if not len(self.train):
            raise EquipotError("There are no structures to train on.")
        known = set(self.train.species)
        for name, part in (("valid", self.valid), ("test", self.test)):
            foreign = [z for z in part.species if z not in known]
            if foreign:
                where = next(s.source for s in part if foreign[0] in s.atoms.numbers)
                raise EquipotError(
                    f"[data] {name} has {', '.join(chemical_symbols[z] for z in foreign)} ({where}), which the "
                    "training data lack: a model cannot know it. Move such structures into the training data."
                )
        if not len(self.valid):
            self.valid = self.train
            self.notes.append("Validating on the training data: overfitting will not be seen.")
        given = {int(z): float(energy) for z, energy in self.atomic_energies.items()}
        isolated = {int(s.atoms.numbers[0]) for s in self.train if s.is_isolated_atom and s.energy is not None}
        self.estimated = known - isolated - set(given)
        if any(s.energy is not None for s in self.train):
            self.atomic_energies, note = atomic_energies(self.train, given)
        else:
            self.atomic_energies = {z: given.get(z, 0.0) for z in sorted(known | set(given))}
            note = "there are no energies in the training data: those of isolated atoms are taken as 0 unless given"
        self.notes.append(f"{note[:1].upper()}{note[1:]}.")


def read_sets(data: DataSettings, seed: int) -> DataSets:
    """Read the files of [data] and divide them; `seed` decides what is taken for validation."""
    train = read_data(list(data.train), **data.keys)
    valid = read_data(list(data.valid), **data.keys) if data.valid else DataSet()
    test = read_data(list(data.test), **data.keys) if data.test else DataSet()
    notes = [_found("train", train)]
    findings = check(train, seed).findings if len(train) else train.findings
    # Those of isolated atoms may be given here, which the check does not know; DataSets speaks of them.
    findings = [finding for finding in findings if finding.topic != "atomic energies"]
    if not data.valid and data.valid_fraction > 0 and len(train) > 1:
        train, valid = split(train, valid=data.valid_fraction, seed=seed)
        notes.append(f"{counted(len(valid), 'of them is', 'of them are')} set aside for validation.")
    notes += [_found(name, part) for name, part in (("valid", valid), ("test", test)) if data.valid or part is test]
    given = {_number(symbol): energy for symbol, energy in (data.atomic_energies or {}).items()}
    findings += _overlaps({"train": train, "valid": valid, "test": test})
    notes += [f"{f.severity}: {f.text}" for f in findings if f.severity in ("warning", "error")]
    return DataSets(train, valid, test, given, [note for note in notes if note], findings)


def _overlaps(sets: dict[str, DataSet]) -> list[Finding]:
    """Structures that two sets have in common, whose errors would be those of a fit that knows them."""
    found: list[Finding] = []
    known: dict[tuple[bytes, ...], str] = {}
    for name, data in sets.items():
        common: dict[str, list[str]] = {}
        for s in data:
            other = known.setdefault(s.geometry, name)
            if other != name:
                common.setdefault(other, []).append(s.source)
        for other, sources in common.items():
            are, whole = "is" if len(sources) == 1 else "are", counted(len(data), "structure")
            text = f"{len(sources):,} of {whole} of '{name}' {are} in '{other}', too: its errors are too small"
            found.append(Finding("warning", "duplicates", text, tuple(sources[:5])))
    return found


def _number(symbol: str) -> int:
    if symbol in chemical_symbols[1:]:
        return chemical_symbols.index(symbol)
    if symbol.isdigit() and 0 < int(symbol) < len(chemical_symbols):
        return int(symbol)
    end = advice(symbol, chemical_symbols[1:])
    raise EquipotError(f"[data] atomic_energies: there is no element '{symbol}'{end}")


def _found(name: str, data: DataSet) -> str:
    if not len(data):
        return ""
    keys = "; ".join(f"{quantity} from {', '.join(keys)}" for quantity, keys in data.keys_taken.items() if keys)
    return f"{name}: {data!r}, {keys or 'no labels'}."
