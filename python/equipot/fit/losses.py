"""The loss of a fit, its derivatives by what a model predicts, and sums of errors."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from equipot import EquipotError

if TYPE_CHECKING:
    from equipot.data import Structure
    from equipot.fit.guards import Guard

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """Weights of the three parts of the loss, and its shape.

    Attributes
    ----------
    energy, forces, stress : float
        Factors of the mean squared errors in eV (per atom), eV/Å and eV/Å³.
    per_atom : bool
        Energies count per atom.
    huber : float
        Errors beyond this count linearly; 0 never.
    guard : float
        The error of forces that a guard missed by its tolerance counts as, eV/Å.
    """

    energy: float = 10.0
    forces: float = 100.0
    stress: float = 1000.0
    per_atom: bool = True
    huber: float = 0.0
    guard: float = 0.01


@dataclass
class Labels:
    """What the structures of a set should give; NaN where a label is missing.

    Attributes
    ----------
    energy : numpy.ndarray, shape (S,)
        eV.
    forces : numpy.ndarray, shape (N, 3)
        eV/Å, atoms of all structures after one another.
    virial : numpy.ndarray, shape (S, 3, 3)
        eV.
    volume : numpy.ndarray, shape (S,)
        Å³, 0 for structures without a cell, whose virials are not used.
    atoms : numpy.ndarray of int, shape (S,)
        Atoms of each structure.
    weight : numpy.ndarray, shape (S,)
        Factor of each structure.
    config : numpy.ndarray of int, shape (S,)
        Index into `config_types`.
    config_types, sources : list of str
        Names of the groups; where each structure comes from.
    tolerance : numpy.ndarray, shape (S,)
        eV. Where it is above zero the energy is a guard's (see `equipot.fit.guards`): a lower bound, made up, which
        counts in no error.
    highest : numpy.ndarray, shape (S,)
        eV; the upper bounds of guards.
    """

    energy: Array
    forces: Array
    virial: Array
    volume: Array
    atoms: NDArray[np.int64]
    weight: Array
    config: NDArray[np.int64]
    config_types: list[str]
    sources: list[str]
    tolerance: Array = field(default_factory=lambda: np.zeros(0))
    highest: Array = field(default_factory=lambda: np.zeros(0))
    offsets: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.tolerance):
            self.tolerance = np.zeros(len(self.atoms))
            self.highest = np.full(len(self.atoms), np.inf)
        self.offsets = np.concatenate([[0], np.cumsum(self.atoms)]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.atoms)

    @classmethod
    def of(cls, structures: Sequence[Structure], config_weights: Mapping[str, float] | None = None) -> Labels:
        """Collect the labels of structures; `config_weights` are factors by config_type.

        Raises
        ------
        EquipotError
            For labels that are not finite or of the wrong shape, with the structure's source.
        """
        for s in structures:
            _check(s)
        types = sorted({s.config_type for s in structures})
        volumes = [s.atoms.cell.volume if s.atoms.cell.rank == 3 else 0.0 for s in structures]
        missing = np.full((3, 3), np.nan)
        forces = [np.full((len(s.atoms), 3), np.nan) if s.forces is None else s.forces for s in structures]
        return cls(
            energy=np.array([np.nan if s.energy is None else s.energy for s in structures], dtype=np.float64),
            forces=np.concatenate([np.zeros((0, 3)), *forces]).astype(np.float64),
            virial=np.array(
                [missing if s.virial is None or v == 0 else s.virial for s, v in zip(structures, volumes, strict=True)],
                dtype=np.float64,
            ).reshape(-1, 3, 3),
            volume=np.array(volumes, dtype=np.float64),
            atoms=np.array([len(s.atoms) for s in structures], dtype=np.int64),
            weight=np.array(
                [s.weight * (config_weights or {}).get(s.config_type, 1.0) for s in structures], dtype=np.float64
            ),
            config=np.array([types.index(s.config_type) for s in structures], dtype=np.int64),
            config_types=types,
            sources=[s.source for s in structures],
        )

    @classmethod
    def of_guards(cls, guards: Sequence[Guard]) -> Labels:
        """The labels of guards: nothing is asked between the lowest and the highest that their energies may be."""
        labels = cls.of([guard.structure for guard in guards])
        labels.tolerance = np.array([guard.tolerance for guard in guards], dtype=np.float64)
        labels.highest = np.array([guard.highest for guard in guards], dtype=np.float64)
        labels.energy = np.array([guard.lowest for guard in guards], dtype=np.float64)
        labels.weight = labels.weight * np.array([guard.weight for guard in guards], dtype=np.float64)
        return labels

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """The atoms of structures, in the order of `indices`."""
        parts = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in indices]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def take(self, indices: NDArray[np.int64]) -> Labels:
        """The labels of some structures, in the order of `indices`."""
        return Labels(
            self.energy[indices],
            self.forces[self.rows(indices)],
            self.virial[indices],
            self.volume[indices],
            self.atoms[indices],
            self.weight[indices],
            self.config[indices],
            self.config_types,
            [self.sources[i] for i in indices],
            self.tolerance[indices],
            self.highest[indices],
        )


@dataclass
class Errors:
    """Sums of errors, from which means come; they add up over batches.

    Attributes
    ----------
    counts, absolute, squared : numpy.ndarray, shape (groups, 3)
        Number of labels and sums of absolute and squared errors, for energies per atom (eV), force components (eV/Å)
        and stress components (eV/Å³), by config_type.
    """

    config_types: list[str]
    counts: Array
    absolute: Array
    squared: Array

    @classmethod
    def none(cls, config_types: Sequence[str]) -> Errors:
        """Sums over nothing."""
        shape = (len(config_types), 3)
        return cls(list(config_types), np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def add(self, labels: Labels, energy: Array, forces: Array, virial: Array) -> None:
        """Add a batch: its labels and what the model predicts for it."""
        atom_config = np.repeat(labels.config, labels.atoms)
        volume = np.where(labels.volume > 0, labels.volume, 1.0)
        differences = (
            (energy, labels.energy, np.maximum(labels.atoms, 1), labels.config),
            (forces, labels.forces, 1.0, np.repeat(atom_config, 3)),
            (virial, labels.virial, volume[:, None, None], np.repeat(labels.config, 9)),
        )
        groups = len(self.config_types)
        for column, (predicted, label, unit, group) in enumerate(differences):
            difference, known = ((predicted - label) / unit).ravel(), ~np.isnan(label).ravel()
            if column == 0:
                known &= labels.tolerance == 0
            self.counts[:, column] += np.bincount(group[known], minlength=groups)
            self.absolute[:, column] += np.bincount(group[known], np.abs(difference[known]), minlength=groups)
            with np.errstate(over="ignore"):  # infinite errors are found by their loss
                squares = difference[known] ** 2
            self.squared[:, column] += np.bincount(group[known], squares, minlength=groups)

    def means(self, config_type: str | None = None) -> dict[str, float]:
        """Mean absolute and root mean squared errors, `energy_mae` …, in eV/atom, eV/Å, eV/Å³; all without a type."""
        rows = slice(None) if config_type is None else [self.config_types.index(config_type)]
        counts, absolute, squared = (a[rows].sum(axis=0) for a in (self.counts, self.absolute, self.squared))
        result = {}
        for name, n, a, s in zip(("energy", "forces", "stress"), counts, absolute, squared, strict=True):
            if n:
                result[f"{name}_mae"], result[f"{name}_rmse"] = float(a / n), float(np.sqrt(s / n))
        return result

    def state(self) -> dict[str, Any]:
        """The arrays, for checkpoints."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "config_types"}


@dataclass(frozen=True)
class Loss:
    """A loss and its derivatives.

    Attributes
    ----------
    value : float
        The loss.
    energy_bar, forces_bar, virial_bar : numpy.ndarray
        Its derivatives by energies (S,), forces (N, 3) and virials (S, 3, 3).
    """

    value: float
    energy_bar: Array
    forces_bar: Array
    virial_bar: Array


def loss(
    labels: Labels,
    energy: Array,
    forces: Array,
    virial: Array,
    weights: Weights,
    totals: tuple[float, float] | None = None,
) -> Loss:
    """Compare predictions with labels.

    Energies and stresses are averaged over structures and forces over atoms, whether or not they are labelled: a
    missing label counts as an error of zero, so that the loss over all data is the mean of the losses of its batches.
    Energies outside a guard's bounds cost, in units of its tolerance, what forces do in units of `guard`, linear
    beyond one.

    Parameters
    ----------
    labels : Labels
        Of a batch.
    energy, forces, virial : numpy.ndarray
        Predictions, shaped as the labels.
    weights : Weights
        Of the parts.
    totals : tuple of float, optional
        Numbers of structures and atoms to divide by, when the batch is a part of something larger.
    """
    structures, atoms = totals or (len(labels), len(labels.forces))
    structures, atoms = max(structures, 1), max(atoms, 1)
    per = np.maximum(labels.atoms, 1) if weights.per_atom else np.ones(len(labels))
    volume = np.where(labels.volume > 0, labels.volume, 1.0)
    atom_weight = np.repeat(labels.weight, labels.atoms)

    e, e_bar = _penalty(energy, labels.energy, per, weights.huber)
    e_scale = weights.energy * labels.weight / structures
    bound = labels.tolerance > 0
    if bound.any():
        unit = labels.tolerance[bound]
        within = np.clip(energy[bound], labels.energy[bound], labels.highest[bound])
        cost, slope = _penalty(energy[bound], within, unit, 1.0)
        e[bound], e_bar[bound] = cost, slope * per[bound] / unit
        e_scale[bound] = (weights.forces or weights.energy) * weights.guard**2 * labels.weight[bound] / structures
    f, f_bar = _penalty(forces, labels.forces, np.ones((1, 1)), weights.huber)
    s, s_bar = _penalty(virial, labels.virial, volume[:, None, None], weights.huber)
    f_scale = weights.forces * atom_weight / (3 * atoms)
    s_scale = weights.stress * labels.weight / (9 * structures)
    value = np.dot(e_scale, e) + np.dot(f_scale, f.sum(axis=1)) + np.dot(s_scale, s.sum(axis=(1, 2)))
    return Loss(
        float(value),
        e_scale * e_bar / per,
        f_scale[:, None] * f_bar,
        (s_scale / volume)[:, None, None] * s_bar,
    )


def _check(structure: Structure) -> None:
    shapes = {"energy": (), "forces": (len(structure.atoms), 3), "virial": (3, 3)}
    for name, shape in shapes.items():
        value = getattr(structure, name)
        if value is None:
            continue
        if np.shape(value) != shape:
            raise EquipotError(f"{structure.source}: its {name} have the shape {np.shape(value)} instead of {shape}.")
        if not np.isfinite(value).all():
            raise EquipotError(f"{structure.source}: its {name} is not a number everywhere: mend or remove it.")


def _penalty(predicted: Array, label: Array, unit: Array, huber: float) -> tuple[Array, Array]:
    """Squared or Huber penalty of errors in a unit, and its derivative by the error; zero where a label is missing."""
    x = np.where(np.isnan(label), 0.0, (predicted - label) / unit)
    if huber == 0:
        with np.errstate(over="ignore"):
            return x * x, 2 * x
    size = np.abs(x)
    return np.where(size <= huber, x * x, huber * (2 * size - huber)), 2 * np.clip(x, -huber, huber)
