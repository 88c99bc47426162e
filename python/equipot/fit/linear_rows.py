"""Design rows of a data set: normal equations of its labels, and predictions of many sets of coefficients at once."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from equipot import EquipotError
from equipot.data import DataSet, Structure
from equipot.data.progress import progress_bar
from equipot.fit.linear_basis import LinearBasis
from equipot.fit.solvers import NormalEquations

Array = NDArray[np.float64]

_MEMORY = 2.5e8  # bytes of design rows at once
_GUARDS, _SCALES = 60, (0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
_GPA = 160.21766208  # of one eV/Å³
_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


@dataclass
class Baseline:
    """What is taken off the labels before the fit: energies of isolated atoms, and the fixed repulsion.

    Attributes
    ----------
    energies : mapping of int to float
        Of isolated atoms, eV.
    free : tuple of int
        Species whose energy is only an estimate, which the fit corrects: one more column for each.
    basis : LinearBasis
        Its fixed part, if it has one.
    """

    energies: Mapping[int, float]
    free: tuple[int, ...]
    basis: LinearBasis

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
                y[1 + 3 * n :] = structure.virial[_VOIGT]
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
        return [np.concatenate([[p.energy], p.forces.ravel(), p.virial[_VOIGT]]) for p in fixed]


def design_rows(
    basis: LinearBasis, dataset: Sequence[Structure], free: Sequence[int], text: str
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
    basis: LinearBasis,
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


def errors_of(
    basis: LinearBasis, dataset: DataSet, baseline: Baseline, coefficients: Sequence[Array], text: str = "validation"
) -> Array:
    """Mean absolute errors of several sets of coefficients: energy (meV/atom), forces (meV/Å), stress (GPa).

    Returns
    -------
    array, shape (sets, 3)
        NaN where there are no labels.
    """
    stacked = np.array(coefficients)
    labels = baseline.labels(dataset)
    sums, counts = np.zeros((len(stacked), 3)), np.zeros(3)
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
                    _GPA / dataset[i].atoms.get_volume() if dataset[i].atoms.cell.rank == 3 else 0.0,
                ),
            ):
                if np.isfinite(y[part]).all() and scale > 0:
                    sums[:, k] += wrong[:, part].sum(axis=1) * scale
                    counts[k] += wrong[:, part].shape[1]
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def add_guards(equations: NormalEquations, basis: LinearBasis, dataset: DataSet, baseline: Baseline, seed: int) -> None:
    """Guide the energy towards a repulsive wall where there are no data.

    Copies of some structures get energies of their own. Scaled down in length by up to 40 %, they follow Birch and
    Murnaghan's equation of state with the stiffness of the data. With one atom pushed close to its nearest neighbour,
    they gain Σ_pairs ε (exp((d - r)/ρ) - 1) over pairs closer than the shortest distance d in the data, with ε = 3 eV
    and ρ = 0.15 d. They count with a tolerance of 0.5 eV and a fifth of the gain (per atom where all are compressed),
    against 1 meV per atom for data, and not as rows.
    """
    shortest = shortest_distances(dataset, basis.cutoff)
    labelled = [s for s in dataset if s.energy is not None and len(s) > 1]
    if not labelled or not shortest:
        return
    bulk, stiff = stiffness(labelled)
    rng = np.random.default_rng(seed)
    copies, tolerances = [], []
    for number in range(_GUARDS):
        whole = number % 2 == 0
        pool = bulk if whole else labelled
        structure = pool[int(rng.integers(len(pool)))]
        atoms, n = structure.atoms.copy(), len(structure)
        if whole:
            scale = _SCALES[number // 2 % len(_SCALES)]
            atoms.set_cell(np.asarray(atoms.cell) * scale)
            atoms.positions *= scale
            x = scale**-2
            gain = n * 9 / 16 * stiff * ((x - 1) ** 3 * 4.5 + (x - 1) ** 2 * (6 - 4 * x))
        else:
            i, j, D = neighbor_list("ijD", atoms, basis.cutoff)
            if not len(i):
                continue
            mine = np.flatnonzero(i == i[int(rng.integers(len(i)))])
            edge = mine[int(np.argmin(np.linalg.norm(D[mine], axis=1)))]
            length = float(np.linalg.norm(D[edge]))
            pair = tuple(sorted((int(atoms.numbers[i[edge]]), int(atoms.numbers[j[edge]]))))
            aim = shortest[pair] * rng.uniform(0.4, 0.95)
            atoms.positions[i[edge]] += D[edge] * (1 - aim / length)
            gain = _wall(atoms, shortest)
        copies.append(Structure(atoms, structure.energy + gain, None, None, structure.config_type))
        tolerances.append((0.5 * n if whole else 0.5) + 0.2 * gain)
    labels = baseline.labels(copies)
    for indices, X in design_rows(basis, copies, baseline.free, "guards"):
        places = np.concatenate([[0], np.cumsum([7 + 3 * len(copies[i]) for i in indices])[:-1]])
        factor = 1e-3 / np.array([tolerances[i] for i in indices])
        aims = np.array([labels[i][0] for i in indices])
        usable = np.isfinite(aims) & np.isfinite(X[:, places]).all(axis=0)
        equations.add(0, np.ascontiguousarray((X[:, places] * factor)[:, usable]), (aims * factor)[usable])
        equations.rows[0] -= usable.sum()
    equations.finish()


def stiffness(dataset: Sequence[Structure]) -> tuple[list[Structure], float]:
    """Structures of about the median volume, and bulk modulus times volume per atom, eV: how pressure falls with it.

    Where the data do not tell (no stresses, or one volume), it is 10 eV, as in many metals.
    """
    volumes = np.array([s.atoms.get_volume() / len(s) if np.all(s.atoms.pbc) else np.inf for s in dataset])
    if not np.isfinite(volumes).any():
        return list(dataset), 10.0
    near = np.abs(np.log(volumes / np.median(volumes[np.isfinite(volumes)]))) < 0.2
    bulk = [s for s, take in zip(dataset, near, strict=True) if take]
    known = [
        (np.log(v), np.trace(s.virial) / len(s))
        for s, v in zip(bulk, volumes[near], strict=True)
        if s.virial is not None
    ]
    if len(known) < 5 or np.ptp([v for v, _ in known]) < 0.02:
        return bulk, 10.0
    slope = np.polyfit([v for v, _ in known], [w for _, w in known], 1)[0]
    return bulk, float(np.clip(-slope / 3, 0.5, 60.0))


def _wall(atoms: Atoms, shortest: Mapping[tuple[int, int], float]) -> float:
    """The energy of the repulsive wall, eV."""
    i, j, r = neighbor_list("ijd", atoms, max(shortest.values()))
    low, high = np.minimum(atoms.numbers[i], atoms.numbers[j]), np.maximum(atoms.numbers[i], atoms.numbers[j])
    d = np.array([shortest.get((int(a), int(b)), 0.0) for a, b in zip(low, high, strict=True)])
    near = r < d
    return float(1.5 * np.sum(np.expm1((d[near] - r[near]) / (0.15 * d[near]))))  # every pair is there twice


def shortest_distances(dataset: Sequence[Structure], cutoff: float) -> dict[tuple[int, int], float]:
    """The shortest distance between atoms of every pair of species that meet, Å."""
    found: dict[tuple[int, int], float] = {}
    for structure in dataset:
        i, j, r = neighbor_list("ijd", structure.atoms, min(cutoff, 5.0))
        numbers = structure.atoms.numbers
        for pair in {tuple(sorted(p)) for p in zip(numbers[i].tolist(), numbers[j].tolist(), strict=True)}:
            low, high = np.minimum(numbers[i], numbers[j]), np.maximum(numbers[i], numbers[j])
            mine = r[(low == pair[0]) & (high == pair[1])]
            found[pair] = min(found.get(pair, np.inf), float(mine.min()))
    return {pair: max(distance, 0.3) for pair, distance in found.items()}
