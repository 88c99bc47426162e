"""Walkers: structures of the data in Langevin dynamics, many in step, with forces from an engine.

One step is half a kick, half a drift, the thermostat and half a drift, v → c v + √((1 − c²) kT/m) ξ with c = e^(−γ dt),
then new forces and half a kick (BAOAB: Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34).
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses
from numpy.typing import NDArray

from equipot.data import Structure
from equipot.fit.objective import graph_set

Array = NDArray[np.float64]

_STEP, _LONGEST_STEP = 1.0 * units.fs, 3.0 * units.fs

# Of graphs and their structures: "energy", shape (S,), "forces", shape (N, 3), and what else it knows.
Engine = Callable[[Any, Sequence[Atoms]], Mapping[str, Array]]


@dataclass
class Walker:
    """One structure in motion.

    Attributes
    ----------
    place : int
        What it began as, an index of its owner's.
    kt : float
        eV, of the thermostat.
    numbers, cell, pbc : numpy.ndarray
        Of its atoms, as ASE has them.
    masses : numpy.ndarray, shape (N, 1)
        amu.
    positions, velocities : numpy.ndarray, shape (N, 3)
        Å and ASE's unit of velocity.
    age : int
        Steps.
    marks : int
        Counts what its owner likes.
    """

    place: int
    kt: float
    numbers: NDArray[np.int64]
    cell: Array
    pbc: NDArray[np.bool_]
    masses: Array
    positions: Array
    velocities: Array
    age: int = 0
    marks: int = 0

    @staticmethod
    def of(place: int, atoms: Atoms, kt: float, heat: float, rng: np.random.Generator) -> Walker:
        """A walker with velocities of `heat` times the temperature of its thermostat."""
        masses, positions = np.asarray(atoms.get_masses(), dtype=np.float64)[:, None], atoms.positions.copy()
        velocities = rng.normal(size=positions.shape) * np.sqrt(heat * kt / masses)
        velocities -= np.sum(masses * velocities, axis=0) / masses.sum()
        numbers, cell = atoms.numbers.astype(np.int64), np.array(atoms.cell)
        return Walker(place, kt, numbers, cell, atoms.pbc.copy(), masses, positions, velocities)

    @property
    def atoms(self) -> Atoms:
        """The structure where it is now."""
        return Atoms(self.numbers, self.positions, cell=self.cell, pbc=self.pbc, masses=self.masses[:, 0])


class Walkers:
    """Walkers in step, at constant cells.

    Parameters
    ----------
    begin : callable
        Gives a new walker, drawn with a random generator.
    cutoff : float
        Å, of the graphs.
    closest : float
        Å; walkers whose atoms come closer than this begin anew.
    step, friction : float
        In ASE's unit of time, and its inverse.
    """

    def __init__(
        self,
        begin: Callable[[np.random.Generator], Walker],
        cutoff: float,
        closest: float,
        step: float,
        friction: float,
    ) -> None:
        self.all: list[Walker] = []
        self.rng = np.random.default_rng()
        self._begin, self._cutoff, self._closest = begin, cutoff, closest
        self._step, self._keep = step, float(np.exp(-friction * step))

    def begin(self) -> Walker:
        """A new walker."""
        return self._begin(self.rng)

    def evaluate(self, engine: Engine) -> tuple[Mapping[str, Array], list[Array]]:
        """What the engine says, and the forces of each walker; those whose atoms meet or are nowhere begin anew."""
        self.all = [w if np.isfinite(w.positions).all() else self.begin() for w in self.all]
        atoms = [w.atoms for w in self.all]
        graphs = graph_set(atoms, self._cutoff)
        close = np.flatnonzero(graphs.shortest < self._closest)
        if len(close):
            for i in close:
                self.all[i] = self.begin()
                atoms[i] = self.all[i].atoms
            graphs = graph_set(atoms, self._cutoff)
        found = engine(graphs, atoms)
        return found, np.split(found["forces"], np.cumsum([len(a) for a in atoms])[:-1])

    def step(self, engine: Engine, forces: Sequence[Array]) -> tuple[Mapping[str, Array], list[Array]]:
        """Take a step from where the forces are these; gives what `evaluate` does."""
        self._move(forces)
        found, after = self.evaluate(engine)
        for walker, force in zip(self.all, after, strict=True):
            walker.velocities += 0.5 * self._step * force / walker.masses
        return found, after

    def _move(self, forces: Sequence[Array]) -> None:
        """Half a kick, half a drift, the thermostat, and half a drift."""
        for walker, force in zip(self.all, forces, strict=True):
            walker.velocities += 0.5 * self._step * force / walker.masses
            walker.positions += 0.5 * self._step * walker.velocities
            hit = np.sqrt((1 - self._keep**2) * walker.kt / walker.masses)
            walker.velocities = self._keep * walker.velocities + hit * self.rng.normal(size=walker.positions.shape)
            walker.positions += 0.5 * self._step * walker.velocities
            walker.age += 1


def drawn(
    dataset: Sequence[Structure], pool: Sequence[int], temperatures: Sequence[float]
) -> Callable[[np.random.Generator], Walker]:
    """Draws walkers from structures of a data set, and temperatures (K).

    They begin with velocities of twice that, of which the potential energy takes half.
    """

    def begin(rng: np.random.Generator) -> Walker:
        place = pool[int(rng.integers(len(pool)))]
        kt = units.kB * temperatures[int(rng.integers(len(temperatures)))]
        return Walker.of(place, dataset[place].atoms, kt, 2.0, rng)

    return begin


def time_step(dataset: Sequence[Structure], pool: Sequence[int]) -> float:
    """A step for those structures of a data set: 1 fs with hydrogen, as the root of the lightest mass else."""
    lightest = min((float(atomic_masses[dataset[place].atoms.numbers].min()) for place in pool), default=1.0)
    return float(min(_STEP * np.sqrt(lightest), _LONGEST_STEP))
