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
from numpy.typing import NDArray

from equipot.data import Structure
from equipot.fit.objective import graph_set

Array = NDArray[np.float64]

# Of graphs and their structures: "energy", shape (S,), "forces", shape (N, 3), and what else it knows.
Engine = Callable[[Any, Sequence[Atoms]], Mapping[str, Array]]


@dataclass
class Walker:
    """One structure in motion.

    Attributes
    ----------
    place : int
        Index of the structure of the data where it began.
    kt : float
        eV, of the thermostat.
    positions, velocities : numpy.ndarray, shape (N, 3)
        Å and ASE's unit of velocity.
    age : int
        Steps.
    marks : int
        Counts what its owner likes.
    """

    place: int
    kt: float
    positions: Array
    velocities: Array
    age: int = 0
    marks: int = 0


class Walkers:
    """Walkers through a data set, at constant cells.

    Parameters
    ----------
    dataset : sequence of Structure
        The data.
    pool : sequence of int
        Indices of the structures where walkers may begin.
    cutoff : float
        Å, of the graphs.
    closest : float
        Å; walkers whose atoms come closer than this begin anew.
    temperatures : sequence of float
        K; each walker has one of them, and begins with velocities of twice that, of which the potential energy takes
        half.
    step, friction : float
        In ASE's unit of time, and its inverse.
    """

    def __init__(
        self,
        dataset: Sequence[Structure],
        pool: Sequence[int],
        cutoff: float,
        closest: float,
        temperatures: Sequence[float],
        step: float,
        friction: float,
    ) -> None:
        self.all: list[Walker] = []
        self.rng = np.random.default_rng()
        self._dataset, self._pool, self._cutoff, self._closest = dataset, pool, cutoff, closest
        self._kts = [units.kB * t for t in temperatures]
        self._step, self._keep = step, float(np.exp(-friction * step))

    def begin(self) -> Walker:
        """A new walker from a structure of the pool."""
        place = self._pool[int(self.rng.integers(len(self._pool)))]
        kt = self._kts[int(self.rng.integers(len(self._kts)))]
        masses, positions = self._masses(place), self._dataset[place].atoms.positions.copy()
        velocities = self.rng.normal(size=positions.shape) * np.sqrt(2 * kt / masses)
        velocities -= np.sum(masses * velocities, axis=0) / masses.sum()
        return Walker(place, kt, positions, velocities)

    def atoms(self, place: int, positions: Array) -> Atoms:
        """A structure of the data with other positions."""
        atoms: Atoms = self._dataset[place].atoms.copy()
        atoms.positions[:] = positions
        return atoms

    def evaluate(self, engine: Engine) -> tuple[Mapping[str, Array], list[Array]]:
        """What the engine says, and the forces of each walker; those whose atoms meet or are nowhere begin anew."""
        self.all = [w if np.isfinite(w.positions).all() else self.begin() for w in self.all]
        atoms = [self.atoms(w.place, w.positions) for w in self.all]
        graphs = graph_set(atoms, self._cutoff)
        close = np.flatnonzero(graphs.shortest < self._closest)
        if len(close):
            for i in close:
                self.all[i] = w = self.begin()
                atoms[i] = self.atoms(w.place, w.positions)
            graphs = graph_set(atoms, self._cutoff)
        found = engine(graphs, atoms)
        return found, np.split(found["forces"], np.cumsum([len(a) for a in atoms])[:-1])

    def step(self, engine: Engine, forces: Sequence[Array]) -> tuple[Mapping[str, Array], list[Array]]:
        """Take a step from where the forces are these; gives what `evaluate` does."""
        self._move(forces)
        found, after = self.evaluate(engine)
        for walker, force in zip(self.all, after, strict=True):
            walker.velocities += 0.5 * self._step * force / self._masses(walker.place)
        return found, after

    def _move(self, forces: Sequence[Array]) -> None:
        """Half a kick, half a drift, the thermostat, and half a drift."""
        for walker, force in zip(self.all, forces, strict=True):
            masses = self._masses(walker.place)
            walker.velocities += 0.5 * self._step * force / masses
            walker.positions += 0.5 * self._step * walker.velocities
            hit = np.sqrt((1 - self._keep**2) * walker.kt / masses)
            walker.velocities = self._keep * walker.velocities + hit * self.rng.normal(size=walker.positions.shape)
            walker.positions += 0.5 * self._step * walker.velocities
            walker.age += 1

    def _masses(self, place: int) -> Array:
        return np.asarray(self._dataset[place].atoms.get_masses(), dtype=np.float64)[:, None]
