"""Design rows of a data set: normal equations of its labels, and predictions of many sets of coefficients at once."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from equipot import EquipotError
from equipot.data import DataSet, Structure
from equipot.data.progress import progress_bar
from equipot.fit.guards import Guard
from equipot.fit.linear_basis import Basis
from equipot.fit.scores import Misses
from equipot.fit.solvers import NormalEquations
from equipot.units import GPA, VOIGT

Array = NDArray[np.float64]

_MEMORY = 2.5e8  # bytes of design rows at once
_MARGIN = 1.0  # tolerances below its energy a guard may be missed; a hole is what is twice as far below
_FALLEN = 5.0  # tolerances below that: not held at all


@dataclass
class Baseline:
    """What is taken off the labels before the fit: energies of isolated atoms, and the fixed repulsion.

    Attributes
    ----------
    energies : mapping of int to float
        Of isolated atoms, eV.
    free : tuple of int
        Species whose energy is only an estimate, which the fit corrects: one more column for each.
    basis : Basis
        Its fixed part, if it has one.
    """

    energies: Mapping[int, float]
    free: tuple[int, ...]
    basis: Basis

    def labels(self, dataset: Sequence[Structure]) -> list[Array]:
        """What is left of energy, forces and virial of every structure, in the order of the rows; NaN where none."""
        rest = []
        for structure in dataset:
            n = len(structure)
            y = np.full(7 + 3 * n, np.nan)
            if structure.energy is not None:
                y[0] = structure.energy - sum(self.energies[int(z)] for z in structure.atoms.numbers)
            if structure.forces is not None:
                y[1 : 1 + 3 * n] = structure.forces.ravel()
            if structure.virial is not None:
                y[1 + 3 * n :] = structure.virial[VOIGT]
            rest.append(y)
        if self.basis.repulsion:
            for y, fixed in zip(rest, self._repulsion(dataset), strict=True):
                y -= fixed
        return rest

    def _repulsion(self, dataset: Sequence[Structure]) -> list[Array]:
        import tempfile
        from pathlib import Path

        from equipot.evaluate import predict
        from equipot.modelfile import write_model
        from equipot.potential import load

        with tempfile.TemporaryDirectory() as folder:
            write_model(self.basis.model(), Path(folder) / "repulsion.equipot")
            fixed = predict(load(Path(folder) / "repulsion.equipot"), dataset)
        return [np.concatenate([[p.energy], p.forces.ravel(), p.virial[VOIGT]]) for p in fixed]


def design_rows(
    basis: Basis, dataset: Sequence[Structure], free: Sequence[int], text: str
) -> Iterator[tuple[list[int], Array]]:
    """Give the design rows in batches: indices of structures, and X, shape (columns + free species, rows).

    The rows of a structure are its energy, its forces and its virial (xx yy zz yz xz xy).
    """
    design = basis.design()
    sizes = np.array([7 + 3 * len(s) for s in dataset])
    with progress_bar(text, int(sizes.sum())) as show:
        begin = 0
        while begin < len(dataset):
            end, rows = begin, 0
            while end < len(dataset) and (end == begin or (rows + sizes[end]) * (design.columns + 1) * 8 <= _MEMORY):
                rows += int(sizes[end])
                end += 1
            batch = [dataset[i] for i in range(begin, end)]
            X = design.rows(
                [s.atoms.numbers.astype(np.int32) for s in batch],
                [s.atoms.positions for s in batch],
                np.array([np.asarray(s.atoms.cell) for s in batch], dtype=float),
                np.array([s.atoms.pbc for s in batch], dtype=bool),
            )
            if free:
                counts = np.zeros((len(free), X.shape[1]))
                place = 0
                for s in batch:
                    counts[:, place] = [np.count_nonzero(s.atoms.numbers == z) for z in free]
                    place += 7 + 3 * len(s)
                X = np.concatenate([X, counts])
            yield list(range(begin, end)), X
            show(int(sizes[:end].sum()))
            begin = end


def normal_equations(
    basis: Basis,
    dataset: DataSet,
    baseline: Baseline,
    config_weights: Mapping[str, float] | None = None,
    text: str = "design matrix",
) -> NormalEquations:
    """Sum up the normal equations of a data set.

    Energies and virials count per atom; every structure counts with its weight times that of its config_type.
    """
    equations = NormalEquations.empty(basis.columns + len(baseline.free))
    labels = baseline.labels(dataset)
    for indices, X in design_rows(basis, dataset, baseline.free, text):
        if not np.isfinite(X).all():
            bad = dataset[indices[0]].source or "a structure"
            raise EquipotError(f"The features of {bad} or one of the {len(indices) - 1} after it are not finite.")
        y = np.concatenate([labels[i] for i in indices])
        kinds, factors = [], []
        for i in indices:
            n = len(dataset[i])
            weight = dataset[i].weight * (config_weights or {}).get(dataset[i].config_type, 1.0)
            kinds.append(np.repeat([0, 1, 2], [1, 3 * n, 6]))
            factors.append(np.sqrt(weight) * np.repeat([1 / n, 1.0, 1 / n], [1, 3 * n, 6]))
        kind, factor = np.concatenate(kinds), np.concatenate(factors)
        usable = np.isfinite(y) & (factor > 0)
        for k in range(3):
            mine = usable & (kind == k)
            if mine.any():
                equations.add(k, np.ascontiguousarray(X[:, mine] * factor[mine]), y[mine] * factor[mine])
    return equations.finish()


def misses(
    basis: Basis, dataset: DataSet, baseline: Baseline, coefficients: Sequence[Array], text: str = "validation"
) -> Misses:
    """By how much several sets of coefficients miss the labels of a data set."""
    stacked = np.array(coefficients)
    labels = baseline.labels(dataset)
    sums, counts = np.zeros((len(stacked), len(dataset), 3)), np.zeros((len(dataset), 3))
    for indices, X in design_rows(basis, dataset, baseline.free, text):
        fitted = stacked @ X
        place = 0
        for i in indices:
            n, y = len(dataset[i]), labels[i]
            wrong = np.abs(fitted[:, place : place + len(y)] - y)
            place += len(y)
            for k, part, scale in (
                (0, slice(0, 1), 1e3 / n),
                (1, slice(1, 1 + 3 * n), 1e3),
                (
                    2,
                    slice(1 + 3 * n, None),
                    GPA / dataset[i].atoms.get_volume() if dataset[i].atoms.cell.rank == 3 else 0.0,
                ),
            ):
                if np.isfinite(y[part]).all() and scale > 0:
                    sums[:, i, k] = wrong[:, part].sum(axis=1) * scale
                    counts[i, k] = wrong[:, part].shape[1]
    return Misses(sums, counts)


@dataclass
class GuardRows:
    """Design rows of the energies of guards (see `equipot.fit.guards`), and between what these have to be.

    Attributes
    ----------
    rows : array, shape (columns, n)
        In units of the guards' tolerances, as all of these.
    bounds : array, shape (2, n)
        The lowest and the highest energies; infinite where there is none.
    units : array, shape (n,)
        What missing one by its tolerance counts as, eV per atom of an energy of the data.
    """

    rows: Array
    bounds: Array
    units: Array

    @staticmethod
    def of(basis: Basis, made: Sequence[Guard], baseline: Baseline, unit: float) -> GuardRows:
        """Those of some guards, but for such that are out of all bounds."""
        columns = [np.zeros((basis.columns + len(baseline.free), 0))]
        structures = [g.structure for g in made]
        aims = np.array([labels[0] for labels in baseline.labels(structures)])
        for indices, X in design_rows(basis, structures, baseline.free, "guards"):
            sizes = [7 + 3 * len(made[i].structure) for i in indices]
            columns.append(X[:, np.concatenate([[0], np.cumsum(sizes)[:-1]])])
        rows = np.concatenate(columns, axis=1)
        tolerances = np.array([g.tolerance for g in made])
        above = np.array([g.highest - (g.structure.energy or 0.0) for g in made])
        usable = np.isfinite(aims) & np.isfinite(rows).all(axis=0)
        bounds = np.array([aims / tolerances - _MARGIN, (aims + above) / tolerances])
        return GuardRows((rows / tolerances)[:, usable], bounds[:, usable], np.full(np.count_nonzero(usable), unit))

    def __len__(self) -> int:
        return len(self.units)

    def __add__(self, other: GuardRows) -> GuardRows:
        return GuardRows(
            np.concatenate([self.rows, other.rows], axis=1),
            np.concatenate([self.bounds, other.bounds], axis=1),
            np.concatenate([self.units, other.units]),
        )

    def fallen(self, coefficients: Array) -> int:
        """How many of them do not hold the energy up at all."""
        return int(np.count_nonzero(coefficients @ self.rows < self.bounds[0] - _FALLEN))

    def missed(self, coefficients: Array) -> NormalEquations:
        """The normal equations of those that are missed, with bounds as labels."""
        energies = coefficients @ self.rows
        aims = np.clip(energies, *self.bounds)
        out = aims != energies
        found = NormalEquations.empty(len(self.rows))
        units = self.units[out]
        found.add(0, np.ascontiguousarray(self.rows[:, out] * units), aims[out] * units)
        found.rows[:] = 0
        return found.finish()
