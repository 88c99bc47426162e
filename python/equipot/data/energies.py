"""Energies of isolated atoms, from which a potential counts."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from equipot import EquipotError
from equipot.data.structures import DataSet


def atomic_energies(
    dataset: DataSet, given: Mapping[int, float] | Mapping[str, float] | None = None
) -> tuple[dict[int, float], str]:
    """Find the energy of an isolated atom of every species.

    Parameters
    ----------
    dataset
        Structures with energies.
    given
        Energies by atomic number or symbol, eV; those of other species are found from the data.

    Returns
    -------
    energies : dict of int to float
        eV, by atomic number, for all species of the data and all given.
    note : str
        A sentence that says where they come from, and warns when they are absurd.

    Raises
    ------
    EquipotError
        When a species cannot have one: no energies in the data, or given values that are no numbers.

    Notes
    -----
    Those given count first, then structures of one isolated atom (those whose config_type says so before others), then
    least squares over the energies of all structures. Where compositions do not determine them, those closest to their
    mean are taken: for a single composition, every atom gets the same.
    """
    energies = _given(given or {})
    parts = [_say("given", sorted(energies))] if energies else []
    alone = {z: e for z, e in _isolated(dataset).items() if z not in energies}
    if alone:
        energies |= alone
        parts.append(_say("from isolated atoms in the data", sorted(alone)))
    missing = [z for z in dataset.species if z not in energies]
    if missing:
        fitted, undetermined = _fit(dataset, energies, missing)
        energies |= fitted
        part = _say("by least squares", missing)
        if undetermined:
            part += (
                " (the compositions do not determine them one by one, so they were taken as equal as the data allow: "
                "energies of other compositions will be off; add structures of one isolated atom each)"
            )
        parts.append(part)
    note = "energies of isolated atoms: " + "; ".join(parts) if parts else "no species, no energies of isolated atoms"
    return dict(sorted(energies.items())), note + _absurd(dataset, energies)


def binding_energies(dataset: DataSet, energies: Mapping[int, float]) -> np.ndarray:
    """Energies per atom less those of isolated atoms, eV; NaN for structures without an energy."""
    table = np.zeros(len(chemical_symbols))
    for z, energy in energies.items():
        table[z] = energy
    return np.array(
        [np.nan if s.energy is None else (s.energy - table[s.atoms.numbers].sum()) / len(s) for s in dataset]
    )


def _given(given: Mapping[Any, float]) -> dict[int, float]:
    energies: dict[int, float] = {}
    for key, value in given.items():
        z = chemical_symbols.index(key) if key in chemical_symbols else key
        if isinstance(z, str) and z.isdigit():
            z = int(z)
        if not isinstance(z, (int, np.integer)) or not 0 < z < len(chemical_symbols):
            raise EquipotError(f"atomic energies: '{key}' is neither a chemical symbol nor an atomic number")
        if isinstance(value, (bool, str)) or not np.isfinite(value):
            raise EquipotError(f"atomic energies: that of {chemical_symbols[z]} is {value!r}, which is no energy in eV")
        energies[int(z)] = float(value)
    return energies


def _isolated(dataset: DataSet) -> dict[int, float]:
    found: dict[int, tuple[bool, float, str]] = {}
    for structure in dataset:
        if structure.energy is None or not structure.is_isolated_atom:
            continue
        z = int(structure.atoms.numbers[0])
        said = structure.is_called_isolated
        before = found.get(z)
        if before and before[0] == said and abs(before[1] - structure.energy) > 1e-3:
            raise EquipotError(
                f"two isolated atoms of {chemical_symbols[z]} have different energies: {before[2]} {before[1]:.4f} eV "
                f"and {structure.source} {structure.energy:.4f} eV; remove one of them or give the energy yourself"
            )
        if before is None or (said and not before[0]):
            found[z] = (said, structure.energy, structure.source)
    return {z: energy for z, (_, energy, _) in found.items()}


def _fit(dataset: DataSet, known: Mapping[int, float], missing: list[int]) -> tuple[dict[int, float], bool]:
    """Least squares on energies per atom, with those of `known` species taken off."""
    rows = [s for s in dataset if s.energy is not None and np.isin(s.atoms.numbers, missing).any()]
    covered = {int(z) for s in rows for z in np.unique(s.atoms.numbers)}
    without = [z for z in missing if z not in covered]
    if without:
        names = ", ".join(chemical_symbols[z] for z in without)
        raise EquipotError(
            f"no structure with {names} has an energy, so its energy as an isolated atom cannot be found: give it"
        )
    counts = np.array([[np.count_nonzero(s.atoms.numbers == z) for z in missing] for s in rows], dtype=float)
    sizes = np.array([len(s) for s in rows], dtype=float)
    energies = np.array([s.energy for s in rows], dtype=float)
    for z, energy in known.items():
        energies -= energy * np.array([np.count_nonzero(s.atoms.numbers == z) for s in rows])
    counts, energies = counts / sizes[:, None], energies / sizes
    share = counts.sum(axis=1)
    mean = float(share @ energies / (share @ share))
    # The smallest deviation from the mean; compositions whose singular values are below this cannot be told apart.
    deviation, _, rank, _ = np.linalg.lstsq(counts, energies - mean * share, rcond=1e-6)
    return {z: mean + float(d) for z, d in zip(missing, deviation, strict=True)}, int(rank) < len(missing)


def _absurd(dataset: DataSet, energies: Mapping[int, float]) -> str:
    # Isolated atoms are exactly zero and say nothing.
    binding = binding_energies(dataset.subset(i for i, s in enumerate(dataset) if len(s) > 1), energies)
    binding = binding[np.isfinite(binding)]
    if not len(binding):
        return ""
    mean = float(binding.mean())
    if abs(mean) <= 20 and mean <= 5:
        return ""
    return (
        f". Warning: with them the mean energy is {mean:+.1f} eV per atom, and atoms bind with 0 to −10: look whether "
        "they belong to the same level of theory and unit as the data"
    )


def _say(how: str, numbers: list[int]) -> str:
    symbols = [chemical_symbols[z] for z in numbers]
    shown = " ".join(symbols) if len(symbols) <= 12 else f"{len(symbols)} species"
    return f"{shown} {how}"
