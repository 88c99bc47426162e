"""Sizes of a linear potential: error against cost, all from the design matrix of the largest one."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from rich.table import Table

from equipot import EquipotError
from equipot.data import DataSet
from equipot.data.plotting import COLOURS, figure, plain_log_ticks, save, styled
from equipot.files import write_file
from equipot.fit.linear_basis import LinearBasis
from equipot.fit.linear_fit import LinearFit
from equipot.fit.linear_rows import misses
from equipot.fit.scores import score
from equipot.modelfile import write_model
from equipot.potential import load

# Of the best score, what a cheaper basis may lose and still be recommended.
_TOLERANCE = 0.05
_TIMED_ATOMS = 500


@dataclass
class Size:
    """One size of the basis: its errors on the validation set and its cost."""

    channels: int
    l_max: int
    order: int
    coefficients: int
    energy: float
    forces: float
    stress: float
    score: float
    double: float
    mixed: float
    recommended: bool = False


def scan_sizes(fit: LinearFit, folder: Path) -> tuple[LinearBasis, Path | None]:
    """Fit bases of several sizes, write ``scan.json`` and ``scan.png``, and recommend one.

    Parameters
    ----------
    fit : LinearFit
        With its normal equations.
    folder : Path
        Of the run.

    Returns
    -------
    basis : LinearBasis
        The cheapest whose score is within 5 % of the best.
    picture : Path or None
        None where matplotlib is missing.
    """
    if not fit.validating:
        raise EquipotError("--scan compares errors on validation data: give [data] valid or a valid_fraction above 0.")
    whole = fit.basis
    assert isinstance(whole, LinearBasis)
    parts = _parts(whole)
    fits = [fit.reduced(part) for part in parts]
    stacked = []
    for one, b in zip(fits, parts, strict=True):
        solution = one.search()
        full = np.zeros(whole.columns + len(fit.free))
        full[whole.places(b)] = solution.coefficients[: b.columns]
        full[whole.columns :] = solution.coefficients[b.columns :]
        one.solution = solution
        stacked.append(full)
        fit.console.print(
            f"{b.channels} channels, l up to {b.l_max}, order {b.order}: {b.columns} coefficients solved."
        )
    errors = misses(whole, fit.data.valid, fit.baseline, stacked, "validation of sizes").mean
    scores = score(errors)
    sizes = []
    for one, b, error, value in zip(fits, parts, errors, scores.tolist(), strict=True):
        double, mixed = (_cost(one, fit.data.train, dtype) for dtype in ("float64", "mixed"))
        energy, forces, stress = error.tolist()
        sizes.append(Size(b.channels, b.l_max, b.order, b.columns, energy, forces, stress, value, double, mixed))
    good = [k for k, size in enumerate(sizes) if size.score <= scores.min() + np.log1p(_TOLERANCE)]
    best = min(good, key=lambda k: sizes[k].mixed)
    sizes[best].recommended = True
    write_file(folder / "scan.json", json.dumps([asdict(size) for size in sizes], indent=1) + "\n")
    fit.console.print(_table(sizes))
    picture: Path | None = None
    with suppress(ImportError):
        picture = folder / "scan.png"
        _draw(sizes, picture)
    return parts[best], picture


def _parts(basis: LinearBasis) -> list[LinearBasis]:
    """Nested sizes, the smallest first and the whole last."""
    channels = [k for k in (8, 16, 32, 64, 128, 256) if k < basis.channels] + [basis.channels]
    found: dict[Any, LinearBasis] = {}
    for order in range(2, basis.order + 1):
        for l_max in sorted({max(basis.l_max - 2, 0), basis.l_max}):
            for k in channels[-3:]:
                part = basis.part(k, l_max, basis.l_sums[:order])
                found.setdefault((part.channels, part.l_max, part.order), part)
    found.setdefault((basis.channels, basis.l_max, basis.order), basis)
    return sorted(found.values(), key=lambda part: part.columns)


def _cost(fit: LinearFit, dataset: DataSet, dtype: Any) -> float:
    """µs per atom of a call with forces, with all threads, on a structure of the training data made larger."""
    atoms = _large(dataset)
    with tempfile.TemporaryDirectory() as folder:
        write_model(fit.model(), Path(folder) / "size.equipot")
        potential = load(Path(folder) / "size.equipot", dtype=dtype)
        potential.compute(atoms, ["energy", "forces"])
        best = np.inf
        for _ in range(5):
            begin = time.perf_counter()
            potential.compute(atoms, ["energy", "forces"])
            best = min(best, time.perf_counter() - begin)
    return float(best / len(atoms) * 1e6)


def _large(dataset: DataSet) -> Atoms:
    periodic = [s.atoms for s in dataset if s.atoms.pbc.all()] or [s.atoms for s in dataset]
    atoms = max(periodic, key=len)
    if not atoms.pbc.all():
        return atoms
    repeat = max(1, round((_TIMED_ATOMS / len(atoms)) ** (1 / 3)))
    return atoms.repeat(repeat)


def _table(sizes: list[Size]) -> Table:
    table = Table("channels", "l max", "order", "coefficients", "energy", "forces", "stress", "double", "mixed", "")
    table.add_row("", "", "", "", "meV/atom", "meV/Å", "GPa", "µs/atom", "µs/atom", "", style="dim")
    for s in sizes:
        table.add_row(
            *map(str, (s.channels, s.l_max, s.order, s.coefficients)),
            *(f"{v:.3g}" for v in (s.energy, s.forces, s.stress)),
            *(f"{v:.2f}" for v in (s.double, s.mixed)),
            "recommended" if s.recommended else "",
        )
    return table


@styled
def _draw(sizes: list[Size], path: Path) -> None:
    made, axes = figure(2, width=4.6)
    orders = sorted({s.order for s in sizes})
    for axis, (name, unit) in zip(axes[0], (("forces", "meV/Å"), ("energy", "meV/atom")), strict=True):
        for number, order in enumerate(orders):
            mine = sorted((s for s in sizes if s.order == order), key=lambda s: s.mixed)
            axis.loglog(
                [s.mixed for s in mine],
                [getattr(s, name) for s in mine],
                "o",
                color=COLOURS[number],
                label=f"order {order}",
            )
        for s in sizes:
            axis.annotate(
                f"{s.channels}, {s.l_max}",
                (s.mixed, getattr(s, name)),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=6,
                color="0.35",
            )
            if s.recommended:
                axis.loglog(s.mixed, getattr(s, name), "o", ms=13, mfc="none", mec=COLOURS[3], label="recommended")
        axis.set(xlabel="cost, µs/atom (mixed)", ylabel=f"{name} MAE, {unit}", title=f"{name.capitalize()}, validation")
        plain_log_ticks(axis, "x")
        plain_log_ticks(axis, "y")
    axes[0][0].legend(title="beside points: channels, l max", title_fontsize=7)
    save(made, path)
