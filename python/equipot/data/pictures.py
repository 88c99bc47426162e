"""A picture of a data set."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from equipot.data.checks import Report
from equipot.data.energies import binding_energies
from equipot.data.plotting import COLOURS, figure, nothing, plain_log_ticks, save, styled
from equipot.units import GPA

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Kinds (config_types, pairs of species) shown one by one; the rest is summed.
_SHOWN = 7


@styled
def data_picture(path: str | os.PathLike[str], report: Report) -> None:
    """Draw energies, forces, distances, volumes, pressures and the number of structures of a data set.

    Parameters
    ----------
    path
        Where to; the ending says which kind of picture.
    report
        What :func:`equipot.data.check` gave.
    """
    made, axes = figure(3, 2)
    kinds = _kinds(report)
    _energies(axes[0, 0], report, kinds)
    _forces(axes[0, 1], report, kinds)
    _distances(axes[0, 2], report)
    _volumes(axes[1, 0], report, kinds)
    _species(axes[1, 1], report)
    _counts(axes[1, 2], report, kinds)
    data = report.dataset
    symbols = [chemical_symbols[z] for z in data.species]
    shown = " ".join(symbols[:12]) + (f" … ({len(symbols)} species)" if len(symbols) > 12 else "")
    made.suptitle(f"{len(data):,} structures, {data.atoms:,} atoms: {shown}", fontsize=11)
    save(made, path)


def _kinds(report: Report) -> dict[str, tuple[np.ndarray, str]]:
    """Indices and colour of the most frequent config_types; the others together."""
    types = np.array([s.config_type for s in report.dataset])
    names = sorted(report.dataset.config_types.items(), key=lambda item: -item[1])
    kinds = {name: (np.flatnonzero(types == name), COLOURS[k]) for k, (name, _) in enumerate(names[:_SHOWN])}
    if len(names) > _SHOWN:
        rest = [name for name, _ in names[_SHOWN:]]
        kinds[f"{len(rest)} more"] = (np.flatnonzero(np.isin(types, rest)), COLOURS[_SHOWN])
    return kinds


def _energies(axes: Axes, report: Report, kinds: dict[str, tuple[np.ndarray, str]]) -> None:
    axes.set_title("energy")
    data = report.dataset
    values = binding_energies(data, report.atomic_energies)
    alone = np.array([s.is_isolated_atom for s in data])
    values[alone] = np.nan
    known = values[np.isfinite(values)]
    if not len(known):
        return nothing(axes, "no energies")
    scale, unit = (1.0, "eV/atom") if np.ptp(known) > 0.1 else (1e3, "meV/atom")
    low, high = np.percentile(known, [0.5, 99.5])
    middle = float(np.median(known)) if scale > 1 else 0.0
    margin = 0.05 * (high - low) + 1e-9
    edges = np.linspace(low - margin, high + margin, 50)
    for members, colour in kinds.values():
        here = values[members]
        here = np.clip(here[np.isfinite(here)], edges[0], edges[-1])
        bins = (scale * (edges - middle)).tolist()
        axes.hist(scale * (here - middle), bins=bins, histtype="stepfilled", color=colour, alpha=0.6)
    axes.set_yscale("log")
    plain_log_ticks(axes, "y")
    atoms = "fitted atoms" if "least squares" in report.atomic_energies_note else "isolated atoms"
    axes.set_xlabel(f"energy less {atoms} ({unit})" if scale == 1 else f"energy from the median ({unit})")
    axes.set_ylabel("structures")
    return None


def _forces(axes: Axes, report: Report, kinds: dict[str, tuple[np.ndarray, str]]) -> None:
    axes.set_title("forces")
    data = report.dataset
    rows = []
    for members, colour in kinds.values():
        known = [forces for i in members if (forces := data[int(i)].forces) is not None]
        lengths = [np.linalg.norm(forces, axis=1) for forces in known]
        rows.append((np.concatenate(lengths) if lengths else np.zeros(0), colour))
    everything = np.concatenate([lengths for lengths, _ in rows])
    positive = everything[everything > 1e-6]
    if not len(positive):
        return nothing(axes, "no forces" if not len(everything) else "all forces are zero")
    # Decades that hold next to nothing are forces that are zero by symmetry.
    low = max(np.percentile(positive, 1), 1e-4)
    edges = np.geomspace(low, positive.max() * 1.05, 60).tolist()
    axes.hist(
        [np.clip(lengths, edges[0], None) for lengths, _ in rows], bins=edges, stacked=True, color=[c for _, c in rows]
    )
    axes.set_xscale("log")
    plain_log_ticks(axes, "x")
    axes.set_xlabel("length of the force on an atom (eV/Å; first bar: or less)")
    axes.set_ylabel("atoms")
    return None


def _distances(axes: Axes, report: Report) -> None:
    axes.set_title("distances: how often, and the shortest")
    found = report.distances
    if not found.counts:
        return nothing(axes, "no two atoms within 5 Å")
    middle = 0.5 * (found.edges[1:] + found.edges[:-1])
    order = sorted(found.counts, key=lambda pair: -int(found.counts[pair].sum()))
    rows = [(f"{_name(pair)}\n{found.shortest[pair][0]:.2f} Å", found.counts[pair]) for pair in order[:_SHOWN]]
    if len(order) > _SHOWN:
        rest = order[_SHOWN:]
        least = min(found.shortest[pair][0] for pair in rest)
        rows.append((f"{len(rest)} more\n{least:.2f} Å", np.sum([found.counts[pair] for pair in rest], axis=0)))
    # One above the other, each to its own scale: pairs that are rare are as interesting as the frequent ones.
    for row, (_, counts) in enumerate(rows):
        density = counts / middle**2
        axes.fill_between(
            middle, -row, -row + 0.85 * density / density.max(), color=COLOURS[row], alpha=0.55, lw=0.8, step="mid"
        )
    axes.set_yticks([-row + 0.35 for row in range(len(rows))], [name for name, _ in rows], fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_xlim(0, found.edges[-1])
    axes.set_ylim(-len(rows) + 0.95, 1.0)
    axes.set_xlabel("distance (Å)")
    return None


def _name(pair: tuple[int, int]) -> str:
    return f"{chemical_symbols[pair[0]]}–{chemical_symbols[pair[1]]}"


def _volumes(axes: Axes, report: Report, kinds: dict[str, tuple[np.ndarray, str]]) -> None:
    axes.set_title("volume and pressure")
    data = report.dataset
    shown = False
    pressures = []
    for members, colour in kinds.values():
        chosen = [data[int(i)] for i in members]
        chosen = [s for s in chosen if s.virial is not None and s.atoms.cell.rank == 3]
        if not chosen:
            continue
        shown = True
        volumes = np.array([s.atoms.get_volume() for s in chosen])
        pressure = GPA * np.array([np.trace(s.virial) for s in chosen if s.virial is not None]) / (3 * volumes)
        pressures.append(pressure)
        volumes /= np.array([len(s) for s in chosen])
        axes.plot(volumes, pressure, ".", ms=5, alpha=0.6, color=colour, mew=0, rasterized=True)
    if shown:
        if np.percentile(np.abs(np.concatenate(pressures)), 99) > 200:
            axes.set_yscale("symlog", linthresh=10)
        axes.axhline(0, color="#999999", lw=0.8)
        axes.set_ylabel("pressure (GPa)")
        axes.set_xlabel("volume per atom (Å³)")
        return None
    per_atom = [s.atoms.get_volume() / len(s) for s in data if np.all(s.atoms.pbc)]
    if not per_atom:
        return nothing(axes, "no periodic structures")
    axes.set_title("volume (no stresses)")
    if np.ptp(per_atom) < 1e-3 * max(per_atom):
        return nothing(axes, f"all have {np.mean(per_atom):.2f} Å³ per atom")
    axes.hist(per_atom, bins=40, color=COLOURS[0])
    axes.set_xlabel("volume per atom (Å³)")
    axes.set_ylabel("structures")
    return None


def _species(axes: Axes, report: Report) -> None:
    axes.set_title("species")
    numbers = np.concatenate([s.atoms.numbers for s in report.dataset])
    species, counts = np.unique(numbers, return_counts=True)
    if len(species) > 24:
        axes.bar(species, counts, color=COLOURS[0])
        axes.set_xlabel("atomic number")
    else:
        axes.bar([chemical_symbols[z] for z in species], counts, color=COLOURS[0], width=0.6)
        axes.set_xlim(-0.8 - 0.3 * max(0, 4 - len(species)), len(species) - 0.2 + 0.3 * max(0, 4 - len(species)))
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    axes.set_ylabel("atoms")
    axes.grid(False, axis="x")


def _counts(axes: Axes, report: Report, kinds: dict[str, tuple[np.ndarray, str]]) -> None:
    axes.set_title("structures by config_type")
    data = report.dataset
    names = list(kinds)
    counts = [len(kinds[name][0]) for name in names]
    axes.barh(range(len(names)), counts, color=[kinds[name][1] for name in names], height=0.7)
    axes.set_yticks(range(len(names)), [name if len(name) <= 22 else name[:21] + "…" for name in names])
    axes.set_ylim(max(len(names), 4) - 0.5, -0.5)
    for row, (name, count) in enumerate(zip(names, counts, strict=True)):
        chosen = [data[int(i)] for i in kinds[name][0]]
        has = [
            letter
            for letter, label in (("E", "energy"), ("F", "forces"), ("S", "virial"))
            if any(getattr(s, label) is not None for s in chosen)
        ]
        axes.text(count, row, f" {count:,}  {' '.join(has)}", va="center", fontsize=8)
    axes.set_xlim(0, 1.35 * max(counts))
    axes.set_xlabel("structures (E energy, F forces, S stress)")
    axes.grid(False, axis="y")
