"""How far a potential is from reference data: predictions, tables of errors, parity pictures."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from ase.data import chemical_symbols
from ase.io import write
from numpy.typing import NDArray

from equipot import EquipotError
from equipot.data.energies import atomic_energies, binding_energies
from equipot.data.plotting import check_picture, figure, nothing, part_colour, save, styled
from equipot.data.progress import progress_bar
from equipot.data.structures import DataSet, Structure
from equipot.files import check_target, finite, write_file
from equipot.units import ERROR_UNITS, GPA, VOIGT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

    from equipot.potential import DType, Potential

# Atoms that are evaluated between two moves of the progress bar.
_STEP = 20_000
# Points drawn for one part of the data; more only make the picture darker.
_POINTS = 30_000
# Structures named for their errors.
_WORST = 5


@dataclass
class Prediction:
    """What a potential says about one structure: energy (eV), forces ((n, 3), eV/Å) and virial ((3, 3), eV)."""

    energy: float
    forces: NDArray[np.float64]
    virial: NDArray[np.float64]


def predict(potential: Potential, dataset: Sequence[Structure]) -> list[Prediction]:
    """Evaluate a potential on all structures of a data set.

    Raises
    ------
    EquipotError
        For species that the potential lacks, and for structures that it cannot compute, named by their source.
    """
    predictions: list[Prediction] = []
    total = sum(len(structure) for structure in dataset)
    done = 0
    with progress_bar("evaluating", total) as show:
        for batch in _batches(dataset):
            try:
                results = potential.compute(
                    [s.atoms for s in batch], properties=("energy", "forces", "virial"), check_finite=False
                )
            except EquipotError as error:
                raise EquipotError(_name_source(str(error), batch)) from None
            predictions += [Prediction(r["energy"], r["forces"], r["virial"]) for r in results]
            done += sum(len(s) for s in batch)
            show(done)
    return predictions


def _batches(dataset: Sequence[Structure]) -> Iterator[list[Structure]]:
    batch: list[Structure] = []
    atoms = 0
    for structure in dataset:
        batch.append(structure)
        atoms += len(structure)
        if atoms >= _STEP:
            yield batch
            batch, atoms = [], 0
    if batch:
        yield batch


def _name_source(message: str, batch: list[Structure]) -> str:
    found = re.match(r"structure (\d+): (.*)", message, re.DOTALL)
    if not found or int(found[1]) >= len(batch) or not batch[int(found[1])].source:
        return message
    return f"{batch[int(found[1])].source}: {found[2]}"


@dataclass
class Errors:
    """Errors of one group of structures.

    Attributes
    ----------
    structures, atoms
        How many there are.
    mae, rmse
        By "energy" (meV/atom, each structure counts once), "forces" (meV/Å, over components) and "stress" (GPa, over
        the six components); only those for which there are labels.
    """

    structures: int
    atoms: int
    mae: dict[str, float] = field(default_factory=dict)
    rmse: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, with None where there are no labels."""
        numbers = {
            f"{name}_{kind}": values.get(name)
            for name in ERROR_UNITS
            for kind, values in (("mae", self.mae), ("rmse", self.rmse))
        }
        return {"structures": self.structures, "atoms": self.atoms, **numbers}


@dataclass
class ErrorTable:
    """Errors of a potential on a data set.

    Attributes
    ----------
    overall
        Of all structures.
    config_types, files
        By config_type and by file.
    species
        Errors of forces on the atoms of one species, by symbol.
    energy_offset
        Mean of predicted less reference energies, meV/atom; None without energies.
    worst
        The five structures with the largest error of forces: source, config_type, rmse and largest error (meV/Å) with
        the atom that has it.
    worst_energies
        The five structures with the largest error of the energy: source, config_type and error, predicted less
        reference (meV/atom).
    """

    overall: Errors
    config_types: dict[str, Errors]
    files: dict[str, Errors]
    species: dict[str, Errors]
    energy_offset: float | None
    worst: list[dict[str, Any]]
    worst_energies: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, with None for what is not finite."""
        table = {
            "units": ERROR_UNITS,
            "all": self.overall.to_dict(),
            "config_types": {name: errors.to_dict() for name, errors in self.config_types.items()},
            "files": {name: errors.to_dict() for name, errors in self.files.items()},
            "species": {
                name: {"atoms": e.atoms, "forces_mae": e.mae["forces"], "forces_rmse": e.rmse["forces"]}
                for name, e in self.species.items()
            },
            "energy_offset": self.energy_offset,
            "worst": self.worst,
            "worst_energies": self.worst_energies,
        }
        return cast("dict[str, Any]", finite(table))

    def groups(self) -> list[tuple[str, dict[str, Errors]]]:
        """The rows of the table under their headings; files and config_types where there are several."""
        groups = [("", {"all": self.overall})]
        for heading, rows in (("by file", self.files), ("by config_type", self.config_types)):
            if len(rows) > 1:
                groups.append((heading, rows))
        return groups

    def text(self) -> str:
        """As a table of plain text."""
        named = [name for name in ERROR_UNITS if name in self.overall.mae]
        heads = ["", "structures", *(f"{name} {kind}" for name in named for kind in ("MAE", "RMSE"))]
        units = ["", "", *(ERROR_UNITS[name] for name in named for _ in range(2))]
        lines = [heads, units]
        for heading, rows in self.groups():
            if heading:
                lines.append([heading] + [""] * (len(heads) - 1))
            for name, errors in rows.items():
                numbers = [number(v.get(key)) for key in named for v in (errors.mae, errors.rmse)]
                name = ("  " if heading else "") + shorten(name, 32)
                lines.append([name, f"{errors.structures:,}", *numbers])
        text = _columns(lines)
        if len(self.species) > 1:
            lines = [["forces on", "atoms", "MAE", "RMSE"], ["", "", ERROR_UNITS["forces"], ERROR_UNITS["forces"]]]
            lines += [
                [name, f"{e.atoms:,}", number(e.mae["forces"]), number(e.rmse["forces"])]
                for name, e in self.species.items()
            ]
            text += "\n\n" + _columns(lines)
        if self.worst_energies:
            lines = [["worst energies", "error"], ["", ERROR_UNITS["energy"]]]
            lines += [[shorten(w["source"], 48), number(w["error"])] for w in self.worst_energies]
            text += "\n\n" + _columns(lines)
        if self.worst:
            lines = [
                ["worst forces", "RMSE", "largest", "on atom"],
                ["", ERROR_UNITS["forces"], ERROR_UNITS["forces"], ""],
            ]
            lines += [
                [shorten(w["source"], 48), number(w["rmse"]), number(w["largest"]), f"{w['atom']} ({w['species']})"]
                for w in self.worst
            ]
            text += "\n\n" + _columns(lines)
        if self.energy_offset is not None:
            text += f"\n\nmean of predicted less reference energies: {self.energy_offset:+.4g} meV/atom"
        return text


def number(value: float | None) -> str:
    """Four digits, and no more than that of which is known."""
    if value is None:
        return "–"
    if not np.isfinite(value):
        return str(value)
    digits = max(0, 2 - int(np.floor(np.log10(abs(value))))) if value else 2
    return f"{value:,.{min(digits, 5)}f}"


def shorten(text: str, width: int) -> str:
    """The end of a text that is too long for a column: of paths it says most."""
    return text if len(text) <= width else "…" + text[-width + 1 :]


def _columns(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def error_table(dataset: Sequence[Structure], predictions: Sequence[Prediction]) -> ErrorTable:
    """Compare predictions with labels; structures count where they have them.

    Parameters
    ----------
    dataset
        Structures.
    predictions
        What :func:`predict` gave for them.

    Returns
    -------
    ErrorTable
    """
    if len(dataset) != len(predictions):
        raise EquipotError(f"there are {len(predictions)} predictions for {len(dataset)} structures")
    gaps = [_Gaps(structure, prediction) for structure, prediction in zip(dataset, predictions, strict=True)]
    species: dict[str, Errors] = {}
    labelled = [gap for gap in gaps if gap.forces is not None]
    if labelled:
        numbers = np.concatenate([gap.structure.atoms.numbers for gap in labelled])
        forces = np.concatenate([gap.forces for gap in labelled])  # type: ignore[misc]
        for z in np.unique(numbers):
            mine = forces[numbers == z]
            mae, rmse = _mean(mine)
            species[chemical_symbols[z]] = Errors(len(labelled), len(mine), {"forces": mae}, {"forces": rmse})
    worst = sorted(labelled, key=lambda gap: -gap.rmse)[:_WORST]
    energies = [gap for gap in gaps if gap.energy is not None]
    worst_energies = sorted(energies, key=lambda gap: -gap.distance)[:_WORST]
    return ErrorTable(
        overall=_errors(gaps),
        config_types=_grouped(gaps, lambda s: s.config_type),
        files=_grouped(gaps, lambda s: s.file),
        species=species,
        energy_offset=float(np.mean([gap.energy for gap in energies])) if energies else None,
        worst=[gap.of_forces() for gap in worst],
        worst_energies=[gap.of_energy() for gap in worst_energies],
    )


class _Gaps:
    """Predicted less reference values of one structure, in the units of the tables."""

    def __init__(self, structure: Structure, prediction: Prediction) -> None:
        self.structure = structure
        self.energy: float | None = None
        self.forces: NDArray[np.float64] | None = None
        self.stress: NDArray[np.float64] | None = None
        self.rmse = 0.0
        if structure.energy is not None:
            self.energy = 1e3 * (prediction.energy - structure.energy) / len(structure)
        if structure.forces is not None:
            self.forces = 1e3 * (prediction.forces - structure.forces)
            self.rmse = float(np.sqrt((self.forces**2).mean()))
            if not np.isfinite(self.rmse):
                self.rmse = np.inf
        if has_stress(structure):
            self.stress = stress_of(structure, prediction.virial) - stress_of(structure, structure.virial)

    @property
    def distance(self) -> float:
        """How far the energy is off; infinitely where it is not a number."""
        return abs(self.energy) if self.energy is not None and np.isfinite(self.energy) else np.inf

    def of_energy(self) -> dict[str, Any]:
        return {"source": self.structure.source, "config_type": self.structure.config_type, "error": self.energy}

    def of_forces(self) -> dict[str, Any]:
        lengths = np.linalg.norm(self.forces, axis=1)  # type: ignore[arg-type]
        atom = int(np.argmax(lengths))
        return {
            "source": self.structure.source,
            "config_type": self.structure.config_type,
            "rmse": self.rmse,
            "largest": float(lengths[atom]),
            "atom": atom,
            "species": chemical_symbols[self.structure.atoms.numbers[atom]],
        }


def has_stress(structure: Structure) -> bool:
    """Whether a structure has a reference stress: a virial, and a periodic cell to divide it by."""
    return structure.virial is not None and structure.atoms.cell.rank == 3 and bool(np.any(structure.atoms.pbc))


def stress_of(structure: Structure, virial: Any) -> NDArray[np.float64]:
    """Stress in GPa, six components, tension positive."""
    return -GPA * np.asarray(virial)[VOIGT[0], VOIGT[1]] / structure.atoms.get_volume()


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.abs(values).mean()), float(np.sqrt((values**2).mean()))


def _errors(gaps: Sequence[_Gaps]) -> Errors:
    errors = Errors(len(gaps), sum(len(gap.structure) for gap in gaps))
    parts = {
        "energy": [np.array([gap.energy]) for gap in gaps if gap.energy is not None],
        "forces": [gap.forces.ravel() for gap in gaps if gap.forces is not None],
        "stress": [gap.stress for gap in gaps if gap.stress is not None],
    }
    for name, values in parts.items():
        if values:
            errors.mae[name], errors.rmse[name] = _mean(np.concatenate(values))
    return errors


def _grouped(gaps: Sequence[_Gaps], name: Callable[[Structure], str]) -> dict[str, Errors]:
    groups: dict[str, list[_Gaps]] = {}
    for gap in gaps:
        groups.setdefault(name(gap.structure), []).append(gap)
    return {key: _errors(members) for key, members in groups.items()}


def evaluate_files(
    model: Path,
    files: Sequence[str],
    console: Console,
    head: str | None,
    dtype: str,
    picture: Path | None,
    json_file: Path | None,
    output: Path | None = None,
    **keys: Any,
) -> ErrorTable:
    """Read a model and data, print the errors, draw and write what was asked for."""
    from equipot.data.reading import read_data
    from equipot.potential import load

    if dtype not in ("float64", "float32", "mixed"):
        raise EquipotError(f"there is no dtype '{dtype}'; choose float64, float32 or mixed")
    check_picture(picture)
    check_target(json_file)
    check_target(output)
    potential = load(model, head=head, dtype=cast("DType", dtype))
    dataset = read_data(files, **keys)
    labelled = any(s.energy is not None or s.forces is not None or s.virial is not None for s in dataset)
    if not labelled and (output is None or json_file is not None or picture is not None):
        raise EquipotError(
            "no structure has an energy, forces or a stress to compare with; if they are there, name the keys; "
            "--output alone writes predictions without them"
        )
    predictions = predict(potential, dataset)
    if output is not None:
        write_predictions(output, dataset, predictions)
    table = error_table(dataset, predictions)
    if labelled:
        console.print(table.text(), markup=False, soft_wrap=True)
    for finding in dataset.findings:
        if finding.severity in ("warning", "error"):
            console.print(f"\n{finding.severity}: {finding.text}", markup=False, soft_wrap=True)
    if json_file is not None:
        write_file(json_file, json.dumps(table.to_dict(), indent=1, ensure_ascii=False) + "\n")
    if picture is not None:
        parts: dict[str, tuple[list[Structure], list[Prediction]]] = {}
        several = 1 < len(table.files) <= 5
        for structure, prediction in zip(dataset, predictions, strict=True):
            structures, predicted = parts.setdefault(structure.file if several else "data", ([], []))
            structures.append(structure)
            predicted.append(prediction)
        parity_picture(picture, parts)
    return table


def write_predictions(
    path: str | os.PathLike[str], dataset: Sequence[Structure], predictions: Sequence[Prediction]
) -> None:
    """Write structures with what a potential says about them as extended XYZ.

    ``equipot_energy`` (eV), ``equipot_forces`` (eV/Å) and, of cells with a volume, ``equipot_stress`` (eV/Å³, tension
    positive) are the predictions; ``REF_energy``, ``REF_forces`` and ``REF_stress`` what the data say, where they do.
    """
    from equipot.potential import has_volume

    frames = []
    for structure, prediction in zip(dataset, predictions, strict=True):
        atoms = structure.atoms.copy()
        atoms.info["config_type"] = structure.config_type
        values = {
            "REF": (structure.energy, structure.forces, structure.virial),
            "equipot": (prediction.energy, prediction.forces, prediction.virial),
        }
        for name, (energy, forces, virial) in values.items():
            if energy is not None:
                atoms.info[f"{name}_energy"] = energy
            if forces is not None:
                atoms.arrays[f"{name}_forces"] = forces
            if virial is not None and has_volume(atoms):
                atoms.info[f"{name}_stress"] = -virial / atoms.get_volume()
        frames.append(atoms)
    text = io.StringIO()
    write(text, frames, format="extxyz")
    write_file(path, text.getvalue())


@styled
def parity_picture(
    path: str | os.PathLike[str], parts: Mapping[str, tuple[Sequence[Structure], Sequence[Prediction]]]
) -> None:
    """Draw predicted against reference energies, forces and stresses, and below them their differences.

    Parameters
    ----------
    path
        Where to; the ending says which kind of picture.
    parts
        Structures and predictions by name, drawn in this order: ``{"train": (dataset, predictions), …}``.
    """
    made, axes = figure(3, 2, width=4.2, height=3.0, height_ratios=(2.6, 1.0), sharex="col")
    tables = {name: error_table(*part) for name, part in parts.items()}
    origin = _energy_origin(parts)
    panels: dict[str, tuple[str, str, float, Callable[..., list[NDArray[np.float64]]]]] = {
        "energy": (f"energy {origin[1]}", "eV/atom", 1e3, lambda s, p: _both_energies(s, p, origin[0])),
        "forces": ("force component", "eV/Å", 1e3, _both_forces),
        "stress": ("stress component", "GPa", 1.0, _both_stresses),
    }
    rng = np.random.default_rng(0)
    for column, (name, (what, unit, factor, both)) in enumerate(panels.items()):
        upper, lower = axes[:, column]
        upper.set_title({"energy": "energy", "forces": "forces", "stress": "stress"}[name])
        values = {part: both(*content) for part, content in parts.items()}
        values = {part: pair for part, pair in values.items() if len(pair[0])}
        if not values:
            nothing(
                upper, f"no reference {'energies' if name == 'energy' else 'stresses' if name == 'stress' else name}"
            )
            nothing(lower, "")
            continue
        low, high = _range(values.values())
        upper.plot([low, high], [low, high], color="#999999", lw=0.8, zorder=1)
        lower.axhline(0, color="#999999", lw=0.8, zorder=1)
        thinned, most = 0, max(len(pair[0]) for pair in values.values())
        for number_, (part, (reference, predicted)) in enumerate(values.items()):
            mae, rmse = tables[part].overall.mae[name], tables[part].overall.rmse[name]
            label = f"{part}: {number(mae)} / {number(rmse)}"
            if len(reference) > _POINTS:
                thinned = max(thinned, len(reference))
                chosen = rng.permutation(len(reference))[:_POINTS]
                reference, predicted = reference[chosen], predicted[chosen]
            _points(upper, reference, predicted, part_colour(part, number_), most, label)
            _points(lower, reference, factor * (predicted - reference), part_colour(part, number_), most)
        upper.set_xlim(low, high)
        upper.set_ylim(low, high)
        upper.set_ylabel(f"predicted ({unit})")
        lower.set_ylabel(f"error ({ERROR_UNITS[name]})")
        lower.set_xlabel(f"reference {what} ({unit})")
        legend = upper.legend(
            title=f"MAE / RMSE ({ERROR_UNITS[name]})",
            loc="upper left",
            handletextpad=0.2,
            title_fontsize=8,
            alignment="left",
        )
        legend.set_zorder(10)
        for handle in legend.legend_handles:
            handle.set_alpha(1)
            handle.set_markersize(6)
        remarks = []
        if name == "energy":
            offsets = [f"{part} {tables[part].energy_offset:+.3g}" for part in values]
            remarks.append("mean offset (meV/atom)\n" + "\n".join(offsets))
        if thinned:
            remarks.append(f"{_POINTS:,} of up to\n{thinned:,} points each")
        if remarks:
            upper.text(0.98, 0.02, "\n".join(remarks), transform=upper.transAxes, ha="right", va="bottom", fontsize=8)
    save(made, path)


def _points(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], colour: str, count: int, label: str | None = None
) -> None:
    """Points that get fainter and smaller the more (`count`) there are, so that density shows."""
    axes.plot(
        x,
        y,
        "o",
        ms=float(np.interp(np.log10(count), [2, 4.5], [3.5, 1.6])),
        alpha=float(np.interp(np.log10(count), [2, 4.5], [0.8, 0.15])),
        mew=0,
        color=colour,
        label=label,
        rasterized=True,
        zorder=2,
    )


def _range(values: Any) -> tuple[float, float]:
    everything = np.concatenate([np.concatenate(pair) for pair in values])
    everything = everything[np.isfinite(everything)]
    low, high = (float(everything.min()), float(everything.max())) if len(everything) else (0.0, 0.0)
    margin = 0.04 * (high - low) or 1e-3 * max(abs(high), 1.0)
    return low - margin, high + margin


def _energy_origin(
    parts: Mapping[str, tuple[Sequence[Structure], Sequence[Prediction]]],
) -> tuple[dict[int, float], str]:
    """Energies of isolated atoms to be taken off, so that structures of all compositions fit into one picture."""
    together = DataSet([s for dataset, _ in parts.values() for s in dataset])
    known = together.subset(i for i, s in enumerate(together) if s.energy is not None)
    if not len(known):
        return {}, "per atom"
    try:
        return atomic_energies(known)[0], "less isolated atoms"
    except EquipotError:
        return {}, "per atom"


def _both_energies(
    dataset: Sequence[Structure], predictions: Sequence[Prediction], origin: dict[int, float]
) -> list[NDArray[np.float64]]:
    rows = [(s, p) for s, p in zip(dataset, predictions, strict=True) if s.energy is not None]
    reference = binding_energies(DataSet([s for s, _ in rows]), origin)
    gaps = np.array([(p.energy - s.energy) / len(s) for s, p in rows if s.energy is not None])
    return [reference, reference + gaps]


def _both_forces(dataset: Sequence[Structure], predictions: Sequence[Prediction]) -> list[NDArray[np.float64]]:
    rows = [(s.forces, p.forces) for s, p in zip(dataset, predictions, strict=True) if s.forces is not None]
    return _stacked(rows)


def _both_stresses(dataset: Sequence[Structure], predictions: Sequence[Prediction]) -> list[NDArray[np.float64]]:
    rows = [
        (stress_of(s, s.virial), stress_of(s, p.virial))
        for s, p in zip(dataset, predictions, strict=True)
        if has_stress(s)
    ]
    return _stacked(rows)


def _stacked(rows: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> list[NDArray[np.float64]]:
    if not rows:
        return [np.zeros(0), np.zeros(0)]
    return [np.concatenate([np.ravel(row[side]) for row in rows]) for side in (0, 1)]
