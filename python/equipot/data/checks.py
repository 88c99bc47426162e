"""Look through a data set for what would spoil a fit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement, product
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from equipot import EquipotError
from equipot.data.consistency import check_consistency
from equipot.data.energies import atomic_energies, binding_energies
from equipot.data.progress import progress_bar
from equipot.data.structures import SEVERITIES, DataSet, Finding, counted

# Distances are counted up to here (Å), in bins of a twentieth of an ångström.
_REACH, _BIN = 5.0, 0.05
# Structures and atoms that distances are taken from; larger sets are sampled.
_MOST_STRUCTURES, _MOST_ATOMS = 10_000, 300_000
# Pairs of atoms and images up to which distances are computed one and all.
_DIRECT = 1_000_000
# Closer than any two atoms come in matter (Å); and so close that they cannot be meant.
_SHORT, _OVERLAP = 0.5, 0.05

# Total energies of free atoms in Hartree, which all-electron codes and most density functionals agree on within 1 %.
_FREE_ATOMS = {1: -0.50, 6: -37.84, 7: -54.58, 8: -75.06}
_OTHER_UNITS = {"Hartree": 1.0, "Rydberg": 2.0, "kcal/mol": 627.509, "kJ/mol": 2625.5}


@dataclass
class Distances:
    """Distances between atoms, by pair of species.

    Attributes
    ----------
    shortest
        Å, by pair of atomic numbers, the smaller first, with the structure that has it.
    counts
        Number of pairs of atoms in each bin, by pair of species.
    edges
        Bounds of the bins, Å.
    structures
        Number of structures that were looked at.
    """

    shortest: dict[tuple[int, int], tuple[float, str]] = field(default_factory=dict)
    counts: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)
    edges: NDArray[np.float64] = field(default_factory=lambda: np.arange(0, _REACH + _BIN / 2, _BIN))
    structures: int = 0


@dataclass
class Report:
    """What :func:`check` found.

    Attributes
    ----------
    dataset
        The data.
    findings
        Worst first.
    atomic_energies, atomic_energies_note
        Energies of isolated atoms, eV, and where they come from.
    distances
        Between atoms.
    """

    dataset: DataSet
    findings: list[Finding]
    atomic_energies: dict[int, float]
    atomic_energies_note: str
    distances: Distances

    @property
    def errors(self) -> list[Finding]:
        """The findings that make the data unfit."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def tested_range(self) -> dict[str, Any]:
        """What a model that is fitted to this data has seen, for its card."""
        data = self.dataset
        forces = [np.linalg.norm(s.forces, axis=1).max() for s in data if s.forces is not None]
        volumes = [s.atoms.get_volume() / len(s) for s in data if np.all(s.atoms.pbc)]
        tested: dict[str, Any] = {
            "structures": len(data),
            "atoms": data.atoms,
            "species": [chemical_symbols[z] for z in data.species],
            "config_types": data.config_types,
            "shortest_distances": {
                f"{chemical_symbols[a]}-{chemical_symbols[b]}": round(distance, 3)
                for (a, b), (distance, _) in sorted(self.distances.shortest.items())
            },
        }
        if forces:
            tested["largest_force"] = round(float(max(forces)), 3)
        if volumes:
            tested["volume_per_atom"] = [round(float(min(volumes)), 3), round(float(max(volumes)), 3)]
        return tested

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        data = self.dataset
        return {
            "structures": len(data),
            "atoms": data.atoms,
            "labels": labels(data),
            "keys_taken": data.keys_taken,
            "atomic_energies": {chemical_symbols[z]: e for z, e in self.atomic_energies.items()},
            "atomic_energies_note": self.atomic_energies_note,
            "tested_range": self.tested_range(),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check(dataset: DataSet, seed: int = 0) -> Report:
    """Look through a data set.

    Parameters
    ----------
    dataset
        What :func:`read_data` gave.
    seed
        Of the choice of structures where a set is too large to look at all of them.

    Returns
    -------
    Report
        Its findings begin with those of reading, and are sorted by severity.
    """
    if not len(dataset):
        raise EquipotError("there are no structures to check")
    findings = list(dataset.findings)
    findings += _labels(dataset)
    try:
        energies, note = atomic_energies(dataset)
        fact, _, warning = note.partition(". Warning: ")
        findings.append(Finding("warning" if warning else "note", "atomic energies", warning or fact))
        findings += _units_of_atoms(dataset)
    except EquipotError as error:
        energies, note = {}, str(error)
        if any(s.energy is not None for s in dataset):
            findings.append(Finding("warning", "atomic energies", note))
    findings += check_consistency(dataset, seed)
    findings += _size_of_forces(dataset)
    findings += _duplicates(dataset)
    distances = measure_distances(dataset, seed)
    findings += _short_distances(dataset, distances, seed)
    findings += _net_forces(dataset)
    findings += _outliers(dataset, energies)
    findings += _coverage(dataset)
    findings.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    return Report(dataset, findings, energies, note, distances)


def labels(dataset: DataSet) -> dict[str, int]:
    """Number of structures with each kind of label."""
    return {name: sum(getattr(s, name) is not None for s in dataset) for name in ("energy", "forces", "virial")}


def measure_distances(dataset: DataSet, seed: int = 0) -> Distances:
    """Distances between atoms up to 5 Å, by pair of species; of a sample where the set is very large."""
    order = np.arange(len(dataset))
    sizes = np.array([len(s) for s in dataset])
    if len(order) > _MOST_STRUCTURES or sizes.sum() > _MOST_ATOMS:
        order = np.random.default_rng(seed).permutation(len(dataset))[:_MOST_STRUCTURES]
        kept = np.cumsum(sizes[order]) <= _MOST_ATOMS
        kept[0] = True
        order = np.sort(order[kept])
    found = Distances(structures=len(order))
    bins = len(found.edges) - 1
    with progress_bar("measuring distances", len(order)) as show:
        for done, index in enumerate(order):
            structure = dataset[int(index)]
            show(done)
            if len(structure) == 1 and not np.any(structure.atoms.pbc):
                continue
            numbers = structure.atoms.numbers.astype(int)
            i, j, distance = _near(structure.atoms)
            kinds = np.minimum(numbers[i], numbers[j]) * 128 + np.maximum(numbers[i], numbers[j])
            present, which = np.unique(kinds, return_inverse=True)
            place = np.minimum((distance / _BIN).astype(int), bins - 1)
            counts = np.bincount(which * bins + place, minlength=len(present) * bins).reshape(-1, bins)
            least = np.full(len(present), np.inf)
            np.minimum.at(least, which, distance)
            for row, kind in enumerate(present.tolist()):
                pair = (kind // 128, kind % 128)
                found.counts[pair] = found.counts.get(pair, 0) + counts[row]
                if pair not in found.shortest or least[row] < found.shortest[pair][0]:
                    found.shortest[pair] = (float(least[row]), structure.source)
    return found


def _near(atoms: Atoms) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of atoms within reach, each once, and their distances."""
    count, periodic = len(atoms), np.asarray(atoms.pbc)
    cell = np.asarray(atoms.cell.complete())
    # Atoms are at most half a cell apart after wrapping, so images further away than this are out of reach.
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    most = np.where(periodic, np.floor(_REACH / heights + 0.5), 0).astype(int)
    images = np.array(list(product(*(range(-m, m + 1) for m in most))))
    if count * count * len(images) > _DIRECT:
        bare = Atoms(atoms.numbers, atoms.positions, cell=cell if periodic.any() else None, pbc=periodic)
        i, j, distance, shift = neighbor_list("ijdS", bare, _REACH)
        once = (i < j) | ((i == j) & (shift @ np.array([10**8, 10**4, 1]) > 0))
        return i[once], j[once], distance[once]
    i, j = np.triu_indices(count)
    apart = atoms.positions[j] - atoms.positions[i]
    if periodic.any():
        scaled = apart @ np.linalg.inv(cell)
        scaled -= np.round(scaled) * periodic
        apart = (scaled[:, None] + images).reshape(-1, 3) @ cell
        i, j = (np.repeat(v, len(images)) for v in (i, j))
    distance = np.linalg.norm(apart, axis=1)
    # Of an atom and its own images, the middle one is itself, and one half is the mirror image of the other.
    upper = np.tile(np.arange(len(images)) > len(images) // 2, len(distance) // len(images))
    keep = (distance < _REACH) & ((i != j) | upper)
    return i[keep], j[keep], distance[keep]


def _labels(dataset: DataSet) -> list[Finding]:
    counts = labels(dataset)
    total = len(dataset)
    findings = []
    if not any(counts.values()):
        return [
            Finding(
                "warning",
                "labels",
                "no structure has an energy, forces or a stress, so nothing can be fitted to them; if they are there "
                "under other names, name the keys",
            )
        ]
    for name, count in counts.items():
        if 0 < count < total:
            sources = tuple(s.source for s in dataset if getattr(s, name) is None)[:5]
            shown = "virial or stress" if name == "virial" else name
            have = "has" if total - count == 1 else "have"
            findings.append(
                Finding("note", "labels", f"{total - count} of {total} structures {have} no {shown}", sources)
            )
    for name in ("energy", "forces"):
        if counts[name] == 0:
            findings.append(
                Finding("note", "labels", f"no structure has {'an energy' if name == 'energy' else 'forces'}")
            )
    return findings


def _units_of_atoms(dataset: DataSet) -> list[Finding]:
    """Compare isolated atoms with what free atoms have in other units."""
    for s in dataset:
        z = int(s.atoms.numbers[0])
        if s.energy is None or not s.is_isolated_atom or z not in _FREE_ATOMS:
            continue
        for unit, factor in _OTHER_UNITS.items():
            expected = _FREE_ATOMS[z] * factor
            if abs(s.energy / expected - 1) < 0.02:
                return [
                    Finding(
                        "error",
                        "energy units",
                        f"the isolated {chemical_symbols[z]} atom has {s.energy:.2f}, its energy in {unit}; convert "
                        "all energies to eV",
                        (s.source,),
                    )
                ]
    return []


def _size_of_forces(dataset: DataSet) -> list[Finding]:
    sizes = [(float(np.sqrt((s.forces**2).mean())), s.source) for s in dataset if s.forces is not None and len(s) > 2]
    if not sizes:
        return []
    typical = float(np.median([size for size, _ in sizes]))
    if typical > 12:
        return [
            Finding(
                "warning",
                "forces",
                f"a typical force component is {typical:.0f}, far above what atoms feel at any temperature in eV/Å; "
                "they may "
                "be in kcal/mol/Å or kJ/mol/Å",
            )
        ]
    return []


def _duplicates(dataset: DataSet) -> list[Finding]:
    first: dict[tuple[bytes, ...], int] = {}
    same: list[str] = []
    different: list[str] = []
    for i, s in enumerate(dataset):
        j = first.setdefault(s.geometry, i)
        if j != i:
            other = dataset[j]
            name = f"{other.source} = {s.source}"
            (different if _labels_differ(other, s) else same).append(name)
    findings = []
    if same:
        findings.append(
            Finding(
                "note",
                "duplicates",
                f"{counted(len(same), 'structure is', 'structures are')} there twice with the same labels, and would "
                "count twice",
                tuple(same[:5]),
            )
        )
    if different:
        findings.append(
            Finding(
                "warning",
                "duplicates",
                f"{counted(len(different), 'structure is', 'structures are')} there twice with different labels; keep "
                "the right one",
                tuple(different[:5]),
            )
        )
    return findings


def _labels_differ(a: Any, b: Any) -> bool:
    # More than two converged calculations of one structure differ: 1 meV per atom, 10 meV/Å.
    if a.energy is not None and b.energy is not None and abs(a.energy - b.energy) > 1e-3 * len(a):
        return True
    return a.forces is not None and b.forces is not None and float(np.abs(a.forces - b.forces).max()) > 0.01


def _short_distances(dataset: DataSet, distances: Distances, seed: int) -> list[Finding]:
    findings = []
    if distances.structures < len(dataset):
        findings.append(
            Finding(
                "note",
                "distances",
                f"distances were measured in {distances.structures} of {counted(len(dataset), 'structure')}, drawn "
                f"with seed {seed}",
            )
        )
    for limit, below, severity in ((_OVERLAP, -1.0, "error"), (_SHORT, _OVERLAP, "warning")):
        close = {pair: found for pair, found in distances.shortest.items() if below <= found[0] < limit}
        if not close:
            continue
        shown = sorted(close.items(), key=lambda item: item[1][0])
        listed = ", ".join(f"{_pair(pair)} {distance:.2f} Å" for pair, (distance, _) in shown[:6])
        what = "atoms on top of each other" if severity == "error" else "atoms very close to each other"
        more = f" and {counted(len(shown) - 6, 'more pair')}" if len(shown) > 6 else ""
        findings.append(
            Finding(
                severity,  # type: ignore[arg-type]
                "distances",
                f"{what}: {listed}{more}; look whether these structures are meant",
                tuple(source for _, (_, source) in shown[:5]),
            )
        )
    return findings


def _net_forces(dataset: DataSet) -> list[Finding]:
    rows = [
        (float(np.linalg.norm(s.forces.sum(axis=0))) / len(s), s.source)
        for s in dataset
        if s.forces is not None and len(s) > 1
    ]
    if not rows:
        return []
    rows.sort(reverse=True)
    # Forces that are derivatives of an energy add up to zero; codes leave up to some meV/Å per atom.
    bad = [source for net, source in rows if net > 0.01]
    if not bad:
        return []
    return [
        Finding(
            "warning",
            "net force",
            f"in {counted(len(bad), 'structure')} the forces add up to more than 10 meV/Å per atom (up to "
            f"{1e3 * rows[0][0]:.0f}), which no potential can give: loose convergence, or forces left out on fixed "
            "atoms",
            tuple(bad[:5]),
        )
    ]


def _outliers(dataset: DataSet, energies: dict[int, float]) -> list[Finding]:
    findings = []
    if energies:
        findings += _far_out(
            dataset, binding_energies(dataset, energies), "an energy", "eV per atom, less isolated atoms", 1.0
        )
    largest = np.array([np.nan if s.forces is None else np.linalg.norm(s.forces, axis=1).max() for s in dataset])
    findings += _far_out(dataset, largest, "a largest force", "eV/Å", 20.0)
    return findings


def _far_out(dataset: DataSet, values: NDArray[np.float64], what: str, unit: str, least: float) -> list[Finding]:
    """Values further than 15 robust standard deviations, and `least`, from the median of their config_type."""
    types = np.array([s.config_type for s in dataset])
    many = np.array([len(s) > 1 for s in dataset])
    bad: list[int] = []
    for name in dict.fromkeys(types.tolist()):
        here = np.flatnonzero((types == name) & np.isfinite(values) & many)
        if len(here) < 8:
            continue
        off = np.abs(values[here] - np.median(values[here]))
        bad += here[off > max(15 * 1.4826 * float(np.median(off)), least)].tolist()
    if not bad:
        return []
    bad.sort(key=lambda i: -abs(values[i]))
    return [
        Finding(
            "note",
            "outliers",
            f"{counted(len(bad), 'structure has', 'structures have')} {what} far from the rest of the same "
            f"config_type (up to {values[bad[0]]:.3g} {unit}), which weighs heavily in least squares",
            tuple(dataset[i].source for i in bad[:5]),
        )
    ]


def _coverage(dataset: DataSet) -> list[Finding]:
    findings = []
    atoms = Counter(z for s in dataset if not s.is_isolated_atom for z in s.atoms.numbers.tolist())
    rare = [z for z in dataset.species if atoms[z] < 10]
    # Of crystals in primitive cells, few atoms are all there is.
    if rare and any(len(s) > 1 for s in dataset):
        names = ", ".join(f"{chemical_symbols[z]} ({atoms[z]})" for z in rare)
        findings.append(Finding("note", "species", f"hardly any atoms of {names} but isolated ones"))
    alone = sum(len(s) == 1 for s in dataset)
    if alone:
        isolated = sum(s.is_isolated_atom for s in dataset)
        kinds = f"{isolated} isolated" + (f", {alone - isolated} in small periodic cells" if alone > isolated else "")
        findings.append(
            Finding("ok", "atoms", f"{counted(alone, 'structure has', 'structures have')} one atom: {kinds}")
        )
    by_file: dict[str, set[int]] = {}
    for s in dataset:
        by_file.setdefault(s.file, set()).update(s.atoms.numbers.tolist())
    everything = set(dataset.species)
    odd = {name: everything - species for name, species in by_file.items() if species != everything}
    if odd:
        name, lacking = next(iter(odd.items()))
        listed = ", ".join(chemical_symbols[z] for z in sorted(lacking)[:8]) + (" …" if len(lacking) > 8 else "")
        text = f"files have different species: {name} lacks {listed}"
        findings.append(
            Finding("note", "species", text + (f", and {len(odd) - 1} more lack some" if len(odd) > 1 else ""))
        )
    if len(everything) <= 10:
        met = _met(dataset)
        unseen = [pair for pair in combinations_with_replacement(sorted(everything), 2) if pair not in met]
        if unseen:
            names = ", ".join(map(_pair, unseen))
            text = f"never in one structure: {names}; nothing is learnt about these pairs"
            findings.append(Finding("note", "species", text))
    return findings


def _met(dataset: DataSet) -> set[tuple[int, int]]:
    """Pairs of species that are together in some structure; an atom meets its periodic images."""
    compositions = set()
    for s in dataset:
        found, counts = np.unique(s.atoms.numbers, return_counts=True)
        compositions.add((tuple(found.tolist()), tuple((counts > 1).tolist()), bool(np.any(s.atoms.pbc))))
    met: set[tuple[int, int]] = set()
    for species, several, periodic in compositions:
        met.update(combinations(species, 2))
        met.update((z, z) for z, many in zip(species, several, strict=True) if many or periodic)
    return met


def _pair(pair: tuple[int, int]) -> str:
    return f"{chemical_symbols[pair[0]]}-{chemical_symbols[pair[1]]}"
