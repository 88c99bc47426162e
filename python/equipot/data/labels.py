"""Labels of frames: which keys hold energies, forces, stresses and virials, and their values in eV and Å."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from equipot import EquipotError
from equipot.data.frames import FrameFile
from equipot.data.keys import QUANTITIES, Quantity, origin, quantity_of, rank, resembles, words
from equipot.data.structures import DataSet, Finding, Structure, counted
from equipot.units import GPA

OPPOSITE_STRESS = "the stress seems to have the opposite sign (compression positive)"
# Structures that are named where many cannot be used.
_SHOWN = 5
_HAVE = ("structure has", "structures have")


def label(
    file: FrameFile, named: dict[Quantity, str | None], config_type_key: str, unusable: dict[str, str]
) -> DataSet:
    """Choose the keys of one file and make structures of its frames; what is wrong with others goes to `unusable`."""
    findings: list[Finding] = []
    keys = _choose(file, named, findings)
    data = DataSet(findings=findings)
    taken: dict[str, Counter[str]] = {"energy": Counter(), "forces": Counter(), "virial": Counter()}
    clashes = _Clashes(file, keys)
    skewed: list[str] = []
    no_volume: list[str] = []
    weighted: list[str] = []
    held: list[str] = []
    for number, atoms, values in file.frames:
        source = f"{file.name}#{number}"
        try:
            structure, given = _structure(atoms, values, keys, f"{file.name}, frame {number}")
        except EquipotError as error:
            unusable[source] = str(error)
            continue
        structure.source = source
        structure.config_type = _config_type(values.get(config_type_key))
        if values.get("config_weight") is not None:
            weighted.append(source)
        if structure.energy is not None:
            taken["energy"][keys["energy"]] += 1
        if structure.forces is not None:
            if _are_held(atoms, structure.forces):
                held.append(source)
            taken["forces"][keys["forces"]] += 1
        tensors: dict[str, NDArray[np.float64]] = {}
        for quantity, tensor in given.items():
            # Far above what writing with few digits does to a symmetric tensor.
            if np.abs(tensor - tensor.T).max() > 1e-3 * np.abs(tensor).max() + 1e-4:
                skewed.append(source)
            tensor = 0.5 * (tensor + tensor.T)
            if quantity == "stress":
                cell = structure.atoms.cell
                if cell.rank < 3 or not structure.atoms.pbc.any():  # programs write zeros there
                    no_volume.append(source)
                    continue
                tensor = -cell.volume * tensor
            tensors[quantity] = tensor
        if tensors:
            # A virial needs no volume and its sign is never in doubt, so it counts where a file has both.
            quantity = "virial" if "virial" in tensors and (named["stress"] is None or named["virial"]) else "stress"
            quantity = quantity if quantity in tensors else next(iter(tensors))
            structure.virial = tensors[quantity]
            taken["virial"][keys[quantity]] += 1
            clashes.add(source, tensors)
        data.structures.append(structure)
    data.keys_taken = {quantity: dict(counts) for quantity, counts in taken.items() if counts}
    findings += clashes.findings()
    if weighted:
        findings.append(
            Finding(
                "note",
                "weights",
                f"{file.name}: {counted(len(weighted), 'structure counts as its', 'structures count as their')} "
                "config_weight says",
            )
        )
    if held:
        findings.append(
            Finding(
                "warning",
                "forces",
                f"{file.name}: {counted(len(held), *_HAVE)} fixed atoms whose forces are zero: ASE writes zeros "
                "for them, and a fit takes zeros for what they are. Write the forces without constraints "
                "(get_forces(apply_constraint=False)), or leave these structures out",
                tuple(held[:5]),
            )
        )
    if skewed:
        findings.append(
            Finding(
                "warning",
                "stress",
                f"{file.name}: {counted(len(skewed), *_HAVE)} stresses or virials that are not symmetric; the mean of "
                "both sides was taken, but look whether the order of their components is xx, yy, zz, yz, xz, xy",
                tuple(skewed[:5]),
            )
        )
    if no_volume:
        findings.append(
            Finding(
                "note",
                "stress",
                f"{file.name}: {counted(len(no_volume), *_HAVE)} a stress but no periodic cell with a volume; it was "
                "left out",
                tuple(no_volume[:5]),
            )
        )
    _partly(file, keys, data, findings)
    return data


def _choose(file: FrameFile, named: dict[Quantity, str | None], findings: list[Finding]) -> dict[str, str]:
    """One key for each quantity; "" where a file has none."""
    further = {word for key in named.values() if key for word in words(key)} - {"energy", "forces", "force", "stress"}
    keys: dict[str, str] = dict.fromkeys(QUANTITIES, "")
    family: frozenset[str] | None = None
    for quantity in QUANTITIES:
        key = named[quantity]
        if key is not None:
            if key in file.keys:
                keys[quantity] = key
            else:
                findings.append(
                    Finding("warning", "keys", f"{file.name} has no key '{key}', so its structures have no {quantity}")
                )
        elif (quantity == "stress" and named["virial"]) or (quantity == "virial" and named["stress"]):
            continue
        else:
            candidates = [key for key in file.keys if quantity_of(key, further) == quantity]
            keys[quantity] = _best(file, quantity, candidates, family, further, findings)
        if keys[quantity] and family is None:
            family = origin(keys[quantity], further)
    _one_family(file, keys, further, named, findings)
    for quantity in QUANTITIES:
        passed = [key for key in file.keys if quantity_of(key, further) is None and resembles(key, quantity)]
        if passed and not keys[quantity] and named[quantity] is None:
            listed = ", ".join(f"{key} ({file.keys[key]})" for key in passed[:5])
            findings.append(
                Finding(
                    "note",
                    "keys",
                    f"{file.name} has no {quantity} under a name that is known, but {listed}; name the key if it is",
                )
            )
    return keys


def _best(
    file: FrameFile,
    quantity: Quantity,
    candidates: list[str],
    family: frozenset[str] | None,
    further: set[str],
    findings: list[Finding],
) -> str:
    if not candidates:
        return ""
    most = max(file.keys[key] for key in candidates)
    # A key that most structures lack is not what the file is about, however well it is named.
    common = [key for key in candidates if 2 * file.keys[key] >= most]
    best = min(common, key=lambda key: (*rank(key, family, further), -file.keys[key], key))
    others = [key for key in candidates if key != best and not _same(file, best, key)]
    if others:
        listed = ", ".join(f"{key} ({file.keys[key]})" for key in others)
        free = quantity == "energy" and all("free" in key.lower() for key in others)
        findings.append(
            Finding(
                "note" if free else "warning",
                "keys",
                f"{file.name}: {quantity} taken from '{best}' ({counted(file.keys[best], 'structure')}), but there are "
                f"also {listed} with other numbers; to take another, name it: --{quantity}-key {others[0]}"
                + (" (forces are derivatives of the free energy where electrons are smeared)" if free else ""),
            )
        )
    return best


def _same(file: FrameFile, first: str, second: str) -> bool:
    """Whether two keys hold the same numbers wherever both are."""
    for _, _, values in file.frames:
        if first in values and second in values:
            try:
                one, two = (np.asarray(values[key], dtype=float).ravel() for key in (first, second))
            except (TypeError, ValueError):
                return False
            if one.shape != two.shape or not np.allclose(one, two, rtol=1e-9, atol=1e-6):
                return False
    return True


def _one_family(
    file: FrameFile,
    keys: dict[str, str],
    further: set[str],
    named: dict[Quantity, str | None],
    findings: list[Finding],
) -> None:
    """Say so when labels seem to come from different calculations."""
    if keys["energy"] and keys["forces"] and not (named["energy"] and named["forces"]):
        apart = origin(keys["energy"], further) != origin(keys["forces"], further)
        if apart:
            findings.append(
                Finding(
                    "warning",
                    "keys",
                    f"{file.name}: energies are from '{keys['energy']}' but forces from '{keys['forces']}', which may "
                    "be another calculation; if so, name the keys that belong together",
                )
            )


def _partly(file: FrameFile, keys: dict[str, str], data: DataSet, findings: list[Finding]) -> None:
    """Say which labels only part of a file has, while another key has them for the rest."""
    for quantity in ("energy", "forces"):
        key = keys[quantity]
        without = [s.source for s in data if getattr(s, quantity) is None]
        if not key or not without:
            continue
        numbers = {int(source.rsplit("#", 1)[1]) for source in without}
        others = {
            other
            for number, _, values in file.frames
            if number in numbers
            for other in values
            if other != key and quantity_of(other) == quantity
        }
        if others:
            findings.append(
                Finding(
                    "warning",
                    "keys",
                    f"{file.name}: {counted(len(without), *_HAVE)} no '{key}' but {' and '.join(sorted(others))}, "
                    f"which is not taken for {quantity}; give them the same key if they belong to the same reference",
                    tuple(without[:5]),
                )
            )


class _Clashes:
    """Compares virials with stresses where a file has both."""

    def __init__(self, file: FrameFile, keys: dict[str, str]) -> None:
        self.file, self.keys = file, keys
        self.virials: list[NDArray[np.float64]] = []
        self.stresses: list[NDArray[np.float64]] = []
        self.sources: list[str] = []

    def add(self, source: str, tensors: dict[str, NDArray[np.float64]]) -> None:
        if len(tensors) == 2:
            self.virials.append(tensors["virial"])
            self.stresses.append(tensors["stress"])
            self.sources.append(source)

    def findings(self) -> list[Finding]:
        if not self.sources:
            return []
        virials, stresses = np.array(self.virials), np.array(self.stresses)
        apart = np.abs(virials - stresses).max(axis=(1, 2))
        # A few digits of a stress in GPa are enough to be called the same; 5 meV covers virials near zero.
        bad = np.flatnonzero(apart > 0.01 * np.abs(virials).max(axis=(1, 2)) + 5e-3)
        name = f"{self.file.name}: '{self.keys['virial']}' and '{self.keys['stress']}'"
        if not len(bad):
            return [Finding("ok", "stress", f"{name} agree in {counted(len(self.sources), 'structure')}")]
        ratio = float((virials * stresses).sum() / max((virials * virials).sum(), 1e-300))
        guess = unit_of_stress(ratio)
        return [
            Finding(
                "warning",
                "stress",
                f"{name} disagree in {len(bad)} of {counted(len(self.sources), 'structure')} (virial should be minus "
                f"volume times stress){': ' + guess if guess else ''}; the wrong one has to go, or name the right one "
                "with --stress-key or --virial-key",
                tuple(self.sources[i] for i in bad[:5]),
            )
        ]


def unit_of_stress(ratio: float, within: float = 1.15) -> str:
    """What a stress that is `ratio` times the right one in eV/Å³, up to a factor, seems to be; "" when not known."""
    units = {"": 1.0, "GPa": GPA, "kbar": 10 * GPA, "bar": 1e4 * GPA, "Hartree/Bohr³": 1 / 183.63}
    for unit, factor in units.items():
        if factor / within < abs(ratio) < factor * within:
            if ratio > 0:
                return f"the stress seems to be in {unit}" if unit else ""
            return f"{OPPOSITE_STRESS} and to be in {unit}" if unit else OPPOSITE_STRESS
    return ""


def refusal(unusable: dict[str, str]) -> str:
    """One sentence about all structures that cannot be used."""
    reasons = list(unusable.values())
    if len(reasons) == 1:
        return f"{reasons[0]}; mend this structure or leave it out"
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return (
        f"{counted(len(reasons), 'structure')} cannot be used; mend them or leave them out: "
        f"{'; '.join(reasons[:_SHOWN])}{more}"
    )


def _structure(
    atoms: Atoms, values: dict[str, Any], keys: dict[str, str], where: str
) -> tuple[Structure, dict[str, NDArray[np.float64]]]:
    """A structure with its weight, energy and forces; and its virial and stress as they stand in the file."""
    bare = _bare(atoms, where)
    given = {quantity: _present(values, key) for quantity, key in keys.items()}
    structure = Structure(bare)
    if values.get("config_weight") is not None:
        structure.weight = _weight(values["config_weight"], where)
    if given["energy"] is not None:
        structure.energy = _energy(given["energy"], keys["energy"], where)
    if given["forces"] is not None:
        structure.forces = _forces(given["forces"], keys["forces"], bare, where)
    return structure, {
        quantity: _tensor(given[quantity], keys[quantity], where)
        for quantity in ("virial", "stress")
        if given[quantity] is not None
    }


def _present(values: dict[str, Any], key: str) -> Any:
    value = values.get(key) if key else None
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


def _config_type(value: Any) -> str:
    return "default" if value is None or str(value).strip() == "" else str(value).strip()


def _weight(value: Any, where: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = np.nan
    if not (np.isfinite(weight) and weight >= 0):
        raise EquipotError(f"{where}: config_weight is {value!r}, not a number of zero or more")
    return weight


def _are_held(atoms: Atoms, forces: NDArray[np.float64]) -> bool:
    """Whether some atoms are fixed, and all forces on them zero."""
    fixed = [i for c in atoms.constraints if isinstance(c, FixAtoms) for i in c.index]
    return bool(fixed) and not forces[fixed].any() and bool(forces.any())


def _bare(atoms: Atoms, where: str) -> Atoms:
    if len(atoms) == 0:
        raise EquipotError(f"{where}: there are no atoms in it")
    numbers = atoms.numbers
    strange = np.flatnonzero((numbers < 1) | (numbers >= len(chemical_symbols)))
    if len(strange):
        raise EquipotError(f"{where}: atom {strange[0]} (counted from 0) is no chemical element")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        raise EquipotError(f"{where}: the position of {_atom(atoms, bad[0])} is not finite")
    cell = np.asarray(atoms.cell)
    if not np.isfinite(cell).all():
        raise EquipotError(f"{where}: the cell is not finite")
    if np.any(atoms.pbc) and (
        np.any(atoms.cell.lengths()[atoms.pbc] == 0) or (np.all(atoms.pbc) and atoms.cell.rank < 3)
    ):
        raise EquipotError(f"{where}: it is periodic along a direction for which it has no cell vector")
    if np.any(atoms.pbc):
        thick = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.complete()), axis=0)[atoms.pbc]
        # Below what any crystal has; the images within a cutoff would be more than can be counted.
        if not thick.min() > 0.5:
            raise EquipotError(f"{where}: its periodic cell is only {thick.min():.2g} Å thick")
    return Atoms(numbers=numbers, positions=atoms.positions, cell=cell, pbc=atoms.pbc)


def _numbers(value: Any, key: str, where: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iuf":
            raise TypeError
        return numbers.astype(np.float64)
    except (TypeError, ValueError):
        shown = str(value) if len(str(value)) < 40 else str(value)[:37] + "…"
        raise EquipotError(f"{where}: '{key}' is {shown!r}, which is no number") from None


def _energy(value: Any, key: str, where: str) -> float:
    numbers = _numbers(value, key, where)
    if numbers.size != 1:
        raise EquipotError(f"{where}: '{key}' holds {numbers.size} numbers, and an energy is one")
    energy = float(numbers.ravel()[0])
    if not np.isfinite(energy):
        raise EquipotError(f"{where}: the energy '{key}' is {energy}")
    return energy


def _forces(value: Any, key: str, atoms: Atoms, where: str) -> NDArray[np.float64]:
    numbers = _numbers(value, key, where)
    if numbers.size != 3 * len(atoms) or numbers.shape[0] not in (len(atoms), 3 * len(atoms)):
        raise EquipotError(
            f"{where}: '{key}' has the shape {numbers.shape}, and forces of {len(atoms)} atoms need {len(atoms)} x 3"
        )
    forces = np.ascontiguousarray(numbers.reshape(-1, 3))
    bad = np.flatnonzero(~np.isfinite(forces).all(axis=1))
    if len(bad):
        raise EquipotError(f"{where}: the force '{key}' on {_atom(atoms, bad[0])} is not finite")
    return forces


def _tensor(value: Any, key: str, where: str) -> NDArray[np.float64]:
    numbers = _numbers(value, key, where).ravel()
    if numbers.size not in (6, 9):
        raise EquipotError(f"{where}: '{key}' holds {numbers.size} numbers, and not 9, or 6 as xx, yy, zz, yz, xz, xy")
    if not np.isfinite(numbers).all():
        raise EquipotError(f"{where}: '{key}' is not finite")
    return numbers.reshape(3, 3) if numbers.size == 9 else numbers[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]


def _atom(atoms: Atoms, index: int) -> str:
    return f"atom {index} ({chemical_symbols[atoms.numbers[index]]}, counted from 0)"
