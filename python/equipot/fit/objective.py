"""Loss and gradient of a model over sets of structures: between the optimiser's weights and the compiled engine."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from equipot import EquipotError, _equipot
from equipot.data.structures import evenly
from equipot.fit.architecture import is_matrix
from equipot.fit.losses import Errors, Labels, Loss, Weights, loss
from equipot.modelfile import ModelFile

if TYPE_CHECKING:
    from equipot.data import Structure

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# Edges that are kept in memory for a set, some 60 bytes each; the graphs of larger sets are made batch by batch.
_EDGES_KEPT = 40_000_000
# The engine gets no more atoms than this at once, unless one structure has more.
_ATOMS_AT_ONCE = 4000
# Narrower arrays are not treated as matrices: they have hardly any directions that could learn at different paces.
_LEAST_WIDTH = 4
# Where the engine's radial tables start, Å.
SHORTEST = 0.5


class NotFiniteError(EquipotError):
    """Energies, forces or gradients that are not finite; says for which structures."""


class Graphs:
    """Neighbour graphs of structures, found once; or, where they would fill the memory, whenever they are used.

    Parameters
    ----------
    structures : sequence of Structure
        The set.
    cutoff : float
        Å.
    """

    def __init__(self, structures: Sequence[Structure], cutoff: float, edges_kept: int = _EDGES_KEPT) -> None:
        self._structures, self._cutoff = structures, cutoff
        graphs = self._build(evenly(len(structures), 200))
        atoms = sum(len(s.atoms) for s in structures)
        self.average_neighbors = _ratio(graphs)
        self._all: Any = None
        if self.average_neighbors * atoms <= edges_kept:
            self._all = self._build(np.arange(len(structures)))
            self.average_neighbors = _ratio(self._all)
        for i, shortest in enumerate(() if self._all is None else np.asarray(self._all.shortest)):
            if shortest < SHORTEST:
                raise EquipotError(
                    f"{structures[i].source}: two of its atoms are {shortest:.3f} Å apart, and training takes nothing "
                    f"below {SHORTEST:g} Å. Remove this structure."
                )

    def batch(self, indices: Indices) -> tuple[Any, Indices]:
        """A graph set with the structures, and their indices in it."""
        if self._all is not None:
            return self._all, indices
        return self._build(indices), np.arange(len(indices), dtype=np.int64)

    def _build(self, indices: Indices) -> Any:
        try:
            return graph_set([self._structures[int(i)].atoms for i in indices], self._cutoff)
        except EquipotError as error:
            raise _named(error, [self._structures[int(i)].source for i in indices]) from None


def graph_set(atoms: Sequence[Atoms], cutoff: float) -> Any:
    """The engine's neighbour graphs of structures within a cutoff, Å."""
    return _equipot.GraphSet(
        [np.ascontiguousarray(a.numbers, dtype=np.int32) for a in atoms],
        [np.ascontiguousarray(a.positions, dtype=np.float64) for a in atoms],
        np.array([np.asarray(a.cell) for a in atoms], dtype=np.float64).reshape(-1, 3, 3),
        np.array([a.pbc for a in atoms], dtype=bool).reshape(-1, 3),
        cutoff,
    )


def _named(error: EquipotError, sources: Sequence[str]) -> EquipotError:
    """The engine counts structures; people look for them in files."""
    found = re.match(r"structure (\d+):? (.*)", str(error), re.DOTALL)
    if found is None or int(found[1]) >= len(sources):
        return error
    return EquipotError(f"{sources[int(found[1])]}: {found[2]}")


def _ratio(graphs: Any) -> float:
    return float(np.sum(graphs.edges) / max(float(np.sum(graphs.atoms)), 1.0))


@dataclass
class Source:
    """Structures that belong to one head of the model.

    Attributes
    ----------
    labels : Labels
        What the model should give for them.
    graphs : Graphs
        Their neighbours.
    head : str
        The head.
    per_epoch : int, optional
        How many of them an epoch takes, by turns; all if left out.
    """

    labels: Labels
    graphs: Graphs
    head: str = ""
    per_epoch: int | None = None

    @property
    def turns(self) -> Indices:
        """In which epoch of how many each structure takes part, shape (S, 2)."""
        number = np.arange(len(self.labels))
        every = 1 if self.per_epoch is None else max(-(-len(number) // self.per_epoch), 1)
        return np.column_stack([number % every, np.full(len(number), every)])


class Weighted:
    """A model whose trainable weights are one vector, each in units of its normalisation.

    Parameters
    ----------
    model : ModelFile
        The model.
    path : path-like
        The file where it lies.
    heads : sequence of str
        Heads in use.
    scales : mapping of str to float
        Normalisation of each array.
    free : set of str
        Names of the arrays that may change.
    parts : mapping of str to numpy.ndarray of bool, optional
        Arrays of which only some entries may change.
    precision : str
        "float64" or "mixed".
    """

    def __init__(
        self,
        model: ModelFile,
        path: Path,
        heads: Sequence[str],
        scales: Mapping[str, float],
        free: set[str],
        parts: Mapping[str, NDArray[np.bool_]] | None = None,
        precision: str = "float64",
    ) -> None:
        self._model = model
        self._trainers = {head: _equipot.Trainer(str(path), head, precision) for head in dict.fromkeys(heads)}
        first = next(iter(self._trainers.values()))
        self._parameters: list[tuple[str, tuple[int, ...]]] = [(n, tuple(s)) for n, s in first.parameters]
        sizes = [int(np.prod(shape)) for _, shape in self._parameters]
        self._names = [name for name, _ in self._parameters]
        self._owner = np.repeat(np.arange(len(sizes)), sizes)
        self._all: Array = np.asarray(first.get(), dtype=np.float64).copy()
        self._engine_weights, self._engine_gradient = self._all.copy(), np.empty_like(self._all)
        flags = [(parts or {}).get(name, np.full(shape, name in free)) for name, shape in self._parameters]
        units = np.array([scales.get(name, 1.0) for name in self._names])
        self._free = np.flatnonzero(np.concatenate([flag.ravel() for flag in flags]))
        self._scale = units[self._owner][self._free]
        # Trainable weights are few runs of the model's numbers: slices of them are copied, not single entries.
        ends = np.flatnonzero(np.diff(self._free, append=-1) != 1) + 1
        self._runs = [
            (slice(begin, end), slice(int(self._free[begin]), int(self._free[end - 1]) + 1))
            for begin, end in pairwise([0, *ends.tolist()])
        ]

    @property
    def start(self) -> Array:
        """The weights that the model came with."""
        return self._all[self._free] / self._scale

    @property
    def free_names(self) -> list[str]:
        """Name of the array that each weight belongs to."""
        return [self._names[i] for i in self._owner[self._free]]

    @property
    def matrices(self) -> list[tuple[int, int, int]]:
        """Weights that are matrices, all of whose entries may change: first weight, rows, columns."""
        result, begin = [], 0
        counts = np.bincount(self._owner[self._free], minlength=len(self._parameters))
        for (name, shape), count in zip(self._parameters, counts, strict=True):
            if count == np.prod(shape) and is_matrix(name) and min(shape[-2:]) >= _LEAST_WIDTH:
                size = int(shape[-2] * shape[-1])
                result += [(begin + i, shape[-2], shape[-1]) for i in range(0, int(count), size)]
            begin += int(count)
        return result

    def trainer(self, head: str) -> Any:
        """The engine for a head."""
        return self._trainers[head]

    def set(self, weights: Array) -> None:
        """Give the engine new weights."""
        for mine, places in self._runs:
            np.multiply(weights[mine], self._scale[mine], out=self._engine_weights[places])
        for trainer in self._trainers.values():
            trainer.set(self._engine_weights)

    def add_gradient(self, head: str, graphs: Any, places: Indices, compared: Loss, total: Array) -> None:
        """Add the gradient of the loss of the structures at `places` by the weights to `total`."""
        bars = compared.energy_bar, compared.forces_bar, compared.virial_bar
        gradient = self._trainers[head].gradient(graphs, places, *bars, self._engine_gradient)
        for mine, theirs in self._runs:
            gradient[theirs] *= self._scale[mine]
            total[mine] += gradient[theirs]

    def model(self, weights: Array) -> ModelFile:
        """The model file with these weights."""
        values, arrays, begin = self._full(weights), dict(self._model.arrays), 0
        for name, shape in self._parameters:
            end = begin + int(np.prod(shape))
            arrays[name] = values[begin:end].reshape(shape)
            begin = end
        return ModelFile(dict(self._model.meta), arrays)

    def _full(self, weights: Array) -> Array:
        values = self._all.copy()
        for mine, places in self._runs:
            np.multiply(weights[mine], self._scale[mine], out=values[places])
        return values


class Objective:
    """Loss over structures of several sources, which are numbered through.

    Parameters
    ----------
    model : Weighted
        The model.
    sources : sequence of Source
        The structures.
    """

    def __init__(self, model: Weighted, sources: Sequence[Source]) -> None:
        self.model, self.sources = model, list(sources)
        self._starts = np.concatenate([[0], np.cumsum([len(s.labels) for s in sources])]).astype(np.int64)
        self.atoms = np.concatenate([s.labels.atoms for s in sources])
        self.guards = np.concatenate([s.labels.tolerance > 0 for s in sources])
        self.config_types = sorted({t for s in sources for t in s.labels.config_types})

    def __len__(self) -> int:
        return int(self._starts[-1])

    def evaluate(self, weights: Array, loss_weights: Weights) -> tuple[float, Errors]:
        """Loss and errors over everything."""
        self.model.set(weights)
        everything = np.arange(len(self), dtype=np.int64)
        errors, value = Errors.none(self.config_types), 0.0
        for source, indices in self.parts(everything):
            _, part = self._compare(source, indices, loss_weights, self._totals(everything), errors)
            value += part.value
        if not np.isfinite(value):
            self._blame(everything, loss_weights)
        return value, errors

    def gradient(
        self, weights: Array, indices: Indices, loss_weights: Weights, errors: Errors | None = None
    ) -> tuple[float, Array]:
        """Loss of some structures and its gradient by the weights; their errors are added to `errors`."""
        self.model.set(weights)
        value, total, totals = 0.0, np.zeros(len(weights)), self._totals(indices)
        for source, part in self.parts(indices):
            (graphs, places), compared = self._compare(source, part, loss_weights, totals, errors)
            value += compared.value
            self.model.add_gradient(source.head, graphs, places, compared, total)
        if not (np.isfinite(total).all() and np.isfinite(value)):
            self._blame(indices, loss_weights)
        return value, total

    def predict(self, source: int, weights: Array) -> dict[str, Array]:
        """Energies, forces and virials of all structures of a source."""
        self.model.set(weights)
        chosen, parts = self.sources[source], []
        trainer = self.model.trainer(chosen.head)
        for part in _chunks(np.arange(len(chosen.labels), dtype=np.int64), chosen.labels.atoms):
            parts.append(trainer.evaluate(*chosen.graphs.batch(part)))
        return {name: np.concatenate([p[name] for p in parts]) for name in ("energy", "forces", "virial")}

    def _compare(
        self,
        source: Source,
        indices: Indices,
        weights: Weights,
        totals: tuple[float, float],
        errors: Errors | None,
    ) -> tuple[tuple[Any, Indices], Loss]:
        batch = source.graphs.batch(indices)
        labels = source.labels.take(indices)
        try:
            predicted = self.model.trainer(source.head).evaluate(*batch)
        except EquipotError as error:
            raise _named(error, labels.sources) from None
        energy, forces, virial = (np.asarray(predicted[k]) for k in ("energy", "forces", "virial"))
        _check_finite(labels, energy, forces, virial)
        if errors is not None:
            # groups are numbered per source; the errors' are those of all sources
            shared = np.array([errors.config_types.index(t) for t in labels.config_types], dtype=np.int64)
            labels.config = shared[labels.config]
            errors.add(labels, energy, forces, virial)
        return batch, loss(labels, energy, forces, virial, weights, totals)

    def parts(self, indices: Indices) -> Iterator[tuple[Source, Indices]]:
        """The sources of some structures and their indices there, no more at once than the engine gets."""
        for i, source in enumerate(self.sources):
            mine = indices[(indices >= self._starts[i]) & (indices < self._starts[i + 1])] - self._starts[i]
            for part in _chunks(mine, source.labels.atoms):
                yield source, part

    def _totals(self, indices: Indices) -> tuple[float, float]:
        return float(len(indices)), float(self.atoms[indices].sum())

    def _blame(self, indices: Indices, weights: Weights) -> None:
        """Find the structures whose loss or gradient is not finite."""
        names = []
        for source, part in self.parts(indices):
            for i in part:
                one = np.array([i], dtype=np.int64)
                (graphs, places), compared = self._compare(source, one, weights, (1.0, 1.0), None)
                gradient = self.model.trainer(source.head).gradient(
                    graphs, places, compared.energy_bar, compared.forces_bar, compared.virial_bar
                )
                if not (np.isfinite(gradient).all() and np.isfinite(compared.value)):
                    names.append(source.labels.sources[int(i)])
        raise NotFiniteError(f"loss and gradient are not finite for {_list(names) or 'a sum of structures'}")


def batches(atoms: NDArray[np.int64], order: Indices, size: int, size_atoms: int | None) -> list[Indices]:
    """Cut an order of structures into batches of `size` structures, or of at least `size_atoms` atoms each."""
    if size_atoms is None:
        return [order[i : i + size] for i in range(0, len(order), size)]
    result, begin, count = [], 0, 0
    for end, index in enumerate(order, 1):
        count += int(atoms[index])
        if count >= size_atoms or end == len(order):
            result.append(order[begin:end])
            begin, count = end, 0
    return result


def _chunks(indices: Indices, atoms: NDArray[np.int64]) -> Iterator[Indices]:
    """Cut structures into parts with no more atoms than the engine gets at once."""
    begin, count = 0, 0
    for end, index in enumerate(indices):
        if end > begin and count + atoms[index] > _ATOMS_AT_ONCE:
            yield indices[begin:end]
            begin, count = end, 0
        count += int(atoms[index])
    if begin < len(indices):
        yield indices[begin:]


def _check_finite(labels: Labels, energy: Array, forces: Array, virial: Array) -> None:
    fine = np.isfinite(energy) & np.isfinite(virial).all(axis=(1, 2))
    atoms = np.isfinite(forces).all(axis=1)
    owner = np.repeat(np.arange(len(labels)), labels.atoms)
    fine &= np.bincount(owner[~atoms], minlength=len(labels)) == 0
    if not fine.all():
        raise NotFiniteError(
            f"the model's predictions are not finite for {_list([labels.sources[i] for i in np.flatnonzero(~fine)])}"
        )


def _list(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
