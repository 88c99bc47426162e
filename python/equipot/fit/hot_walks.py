"""Hot walks: dynamics of the molecules of the data with the model that is being trained, and where it falls, a guard.

A molecule of N atoms in thermal motion has about the potential energy E_min + (3N/2) kT, give or take √(3N/2) kT: three
times that, and there is a hole in the model. What stands there becomes a guard, a structure whose energy is at least
that. So does a molecule one of whose bonds has come apart, with 2.5 eV more. E_min is the lowest energy of the data for
the same atoms. Dynamics finds holes of many atoms, which no list of made-up distances and angles has.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from numpy.typing import NDArray

from equipot import _equipot
from equipot.data import Structure
from equipot.fit.guards import BOND, MAY_BIND, NONMETALS, Guard
from equipot.fit.objective import graph_set

Array = NDArray[np.float64]

_KT = units.kB * 1500.0  # eV; molecules stay whole for picoseconds
_WALKERS = 24  # at most
_ROUND = 50  # steps, or more
_STEP = 0.5 * units.fs
_KEEP = np.exp(-0.01 / units.fs * _STEP)  # of velocities, after a step of friction
_LOOK_EVERY = 10  # steps
_WARM_AFTER = 200  # steps, when a walker is in thermal motion
_FOLLOW = 3  # guards of one fall
_APART = 1.6  # times the sum of covalent radii is the length of a bond that has come apart
_BOND_ENERGY = 2.5  # eV
_LEAST_ATOMS, _MOST_ATOMS = 9, 400  # smaller molecules fluctuate by all their energy; larger ones take long
_MOST = 2000  # guards


@dataclass
class _Walker:
    place: int  # of the structure where it began
    positions: Array
    velocities: Array
    age: int = 0  # steps
    falls: int = 0  # guards made


class HotWalks:
    """Walkers and the guards that they have found.

    Parameters
    ----------
    dataset : sequence of Structure
        The training data; molecules with energies are walked.
    cutoff : float
        Å.
    closest : float
        Å; walkers whose atoms come closer than this begin anew.
    seed : int
        Of choices, velocities and the thermostat.
    """

    def __init__(self, dataset: Sequence[Structure], cutoff: float, closest: float, seed: int) -> None:
        self.guards: list[Guard] = []
        self._places: list[int] = []  # of the structures that they began with
        self._dataset, self._cutoff, self._closest, self._seed = dataset, cutoff, closest, seed
        self._pool: list[int] = []
        self._lowest: dict[bytes, float] = {}
        for place, s in enumerate(dataset):
            if s.energy is not None and _LEAST_ATOMS <= len(s) <= _MOST_ATOMS and not s.atoms.pbc.any():
                self._pool.append(place)
                key = _composition(s)
                self._lowest[key] = min(self._lowest.get(key, np.inf), s.energy)
        self._walkers: list[_Walker] = []
        self._round = 0
        self._rng = np.random.default_rng()

    @property
    def possible(self) -> bool:
        """Whether there are molecules to walk, and room for more guards."""
        return bool(self._pool) and len(self.guards) < _MOST

    def run(self, trainer: _equipot.Trainer, evaluations: int) -> int:
        """Walk on with the engine's weights, for so many evaluations of a molecule; how many guards that gives."""
        self._rng = np.random.default_rng([self._seed, 2, self._round])
        self._round += 1
        count = int(np.clip(evaluations // _ROUND, 1, _WALKERS))
        self._walkers += [self._begin() for _ in range(count - len(self._walkers))]
        before = len(self.guards)
        energies, forces = self._evaluate(trainer)
        for _ in range(evaluations // count):
            for walker, force in zip(self._walkers, forces, strict=True):
                self._move(walker, force)
            energies, forces = self._evaluate(trainer)
            for walker, force in zip(self._walkers, forces, strict=True):
                walker.velocities += 0.5 * _STEP * force / self._masses(walker)
            if self._look(energies):
                energies, forces = self._evaluate(trainer)
        return len(self.guards) - before

    def state(self) -> dict[str, Any]:
        """What a run needs to go on."""
        positions = [g.structure.atoms.positions for g in self.guards]
        return {
            "round": self._round,
            "places": self._places,
            "guards": {str(i): x for i, x in enumerate(positions)},
            "walkers": {str(i): vars(w) for i, w in enumerate(self._walkers)},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self._round = int(state["round"])
        self._walkers = [_Walker(**w) for w in state["walkers"].values()]
        self._places = [int(place) for place in state["places"]]
        self.guards = [self._guard(*g)[0] for g in zip(self._places, state["guards"].values(), strict=True)]

    def _look(self, energies: Array) -> bool:
        """Make guards of walkers that have fallen; whether some began anew, as these do in the end and lost ones."""
        anew = False
        for i, (walker, energy) in enumerate(zip(self._walkers, energies, strict=True)):
            if walker.age % _LOOK_EVERY:
                continue
            guard, broken = self._guard(walker.place, walker.positions)
            assert guard.structure.energy is not None
            if (broken or walker.age >= _WARM_AFTER) and energy < guard.structure.energy - 2 * guard.tolerance:
                self.guards.append(guard)
                self._places.append(walker.place)
                walker.falls += 1
            elif broken:
                walker.falls = _FOLLOW
            flies = energy > guard.structure.energy + 10 * guard.tolerance or not np.isfinite(energy)
            if flies or walker.falls >= _FOLLOW:
                self._walkers[i] = self._begin()
                anew = True
        return anew

    def _guard(self, place: int, positions: Array) -> tuple[Guard, bool]:
        """A guard where a walker is that began at a structure, and whether a bond has come apart."""
        s = self._dataset[place]
        half = 1.5 * len(s)
        atoms = self._atoms(place, positions)
        broken = _broken(s, atoms)
        energy = self._lowest[_composition(s)] + half * _KT + (_BOND_ENERGY if broken else 0.0)
        made = Structure(atoms, energy, config_type=s.config_type, source=f"hot walk from {s.source}")
        return Guard(made, 1.5 * np.sqrt(half) * _KT), broken

    def _begin(self) -> _Walker:
        place = self._pool[int(self._rng.integers(len(self._pool)))]
        walker = _Walker(place, self._dataset[place].atoms.positions.copy(), np.zeros(0))
        masses = self._masses(walker)
        # Twice the temperature, of which the potential energy takes half.
        walker.velocities = self._rng.normal(size=walker.positions.shape) * np.sqrt(2 * _KT / masses)
        walker.velocities -= np.sum(masses * walker.velocities, axis=0) / masses.sum()
        return walker

    def _move(self, walker: _Walker, forces: Array) -> None:
        """Half a kick, half a drift, the thermostat, and half a drift (Leimkuhler and Matthews, 2013: BAOA)."""
        masses = self._masses(walker)
        walker.velocities += 0.5 * _STEP * forces / masses
        walker.positions += 0.5 * _STEP * walker.velocities
        kick = np.sqrt((1 - _KEEP**2) * _KT / masses)
        walker.velocities = _KEEP * walker.velocities + kick * self._rng.normal(size=walker.positions.shape)
        walker.positions += 0.5 * _STEP * walker.velocities
        walker.age += 1

    def _masses(self, walker: _Walker) -> Array:
        return np.asarray(self._dataset[walker.place].atoms.get_masses(), dtype=np.float64)[:, None]

    def _evaluate(self, trainer: _equipot.Trainer) -> tuple[Array, list[Array]]:
        """Energies and forces; walkers whose atoms meet, or are nowhere, begin anew."""
        self._walkers = [w if np.isfinite(w.positions).all() else self._begin() for w in self._walkers]
        graphs = self._graphs()
        close = np.flatnonzero(graphs.shortest < self._closest)
        if len(close):
            for i in close:
                self._walkers[i] = self._begin()
            graphs = self._graphs()
        found = trainer.evaluate(graphs, np.arange(len(graphs), dtype=np.int64))
        return found["energy"], np.split(found["forces"], np.cumsum(graphs.atoms)[:-1])

    def _graphs(self) -> _equipot.GraphSet:
        return graph_set([self._atoms(w.place, w.positions) for w in self._walkers], self._cutoff)

    def _atoms(self, place: int, positions: Array) -> Atoms:
        atoms: Atoms = self._dataset[place].atoms.copy()
        atoms.positions[:] = positions
        return atoms


def _broken(start: Structure, atoms: Atoms) -> bool:
    """Whether a bond of non-metals has come apart, and its atoms are not on the way to others."""
    metal = ~np.isin(atoms.numbers, NONMETALS)
    lengths, bonds = _lengths(atoms), _lengths(start.atoms) < BOND
    settled = ((lengths < MAY_BIND) & ~bonds).any(axis=1) | metal
    return bool(np.any(bonds & (lengths > _APART) & ~settled & ~settled[:, None]))


def _lengths(atoms: Atoms) -> Array:
    """Distances in units of the sums of covalent radii, shape (N, N); infinite from an atom to itself."""
    radii = covalent_radii[atoms.numbers]
    lengths: Array = atoms.get_all_distances() / (radii[:, None] + radii)
    np.fill_diagonal(lengths, np.inf)
    return lengths


def _composition(structure: Structure) -> bytes:
    return np.sort(structure.atoms.numbers).astype(np.int64).tobytes()
