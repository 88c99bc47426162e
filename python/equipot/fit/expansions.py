"""Expansions: melts and hot solids that have more room or fewer atoms than in the data, in dynamics with the model.

What comes apart may gain disorder, but no energy: at one temperature it has to exceed what the data have by three
fifths of what lost neighbours held its atoms by (see `equipot.fit.cohesion`), but for 0.06 eV each. Data do not say how
hot they are; their forces and the curvature of the model do, kT = ⟨|∇U|²⟩ / ⟨∇²U⟩ (Rugh, Phys. Rev. Lett. 78,
772, 1997).
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from equipot import _equipot
from equipot.data import Structure
from equipot.data.structures import formula_unit
from equipot.fit.cohesion import Neighborhood
from equipot.fit.guards import Guard, held_together_by, raised, thinnable, thinned
from equipot.fit.objective import graph_set
from equipot.fit.searches import average_atoms
from equipot.fit.walkers import Walker, Walkers, time_step
from equipot.fit.walks import Walks

Array = NDArray[np.float64]

_LEAST_ATOMS, _MOST_ATOMS = 8, 200  # of a structure
_STARTS = 8  # structures of a round that walkers may begin from, at most
_STRETCHES = (1.1, 1.5)  # of lengths
_SCALES = (0.75, 1.05)  # of lengths, where atoms are taken away
_LONGEST = 2000  # steps
_FOLLOW = 3  # guards of one fall
_FRICTION = 0.01 / units.fs
_PROBES, _PROBE = 4, 0.01  # random displacements to measure curvature, Å
# What lies higher than so many times 3/2 kT is not hot but strained, or has surfaces, which it may lose; germanium's
# melts lie twice as high.
_MOTION = 3.0
_HOTTEST = 0.1  # of the cohesive energy is three times the melting point of most elements
_HOTTER = 1.1  # than measured: where it is colder than its source, too much would be asked for
_KNOWN = 0.03  # eV per atom
_WEIGHT = 30.0  # in training: ways of coming apart are many, and what they cost is known well


class Expansions(Walks):
    """Walkers with more room or fewer atoms, and the guards that they have found.

    Parameters
    ----------
    dataset : sequence of Structure
        The training data; periodic structures with energies and forces and without covalent bonds are used.
    cutoff, closest : float
        As of `Walkers`, Å.
    seed : int
        Of what is drawn, velocities and the thermostat.
    """

    def __init__(self, dataset: Sequence[Structure], cutoff: float, closest: float, seed: int) -> None:
        self._dataset, self._within = dataset, (cutoff, closest)
        self._whole: dict[int, Neighborhood] = {}
        self._kts: dict[int, float] = {}
        self._cohesive: dict[int, float] = {}
        self._lowest: dict[tuple[int, ...], float] = {}  # eV per atom
        for place, s in enumerate(dataset):
            if s.energy is None or not len(s):
                continue
            unit = formula_unit(s.atoms.numbers)
            self._lowest[unit] = min(self._lowest.get(unit, np.inf), s.energy / len(s))
            fits = s.forces is not None and _LEAST_ATOMS <= len(s) <= _MOST_ATOMS
            if fits and (cohesive := held_together_by(s)) is not None:
                self._cohesive[place] = cohesive
        pool = list(self._cohesive)
        walkers = Walkers(self._begin, cutoff, closest, time_step(dataset, pool), _FRICTION)
        super().__init__(pool, average_atoms(dataset, pool), walkers, (seed, 6))

    def run(self, trainer: _equipot.Trainer, evaluations: int) -> int:
        """Walk on with the engine's weights, for about so many evaluations; how many guards that gives."""
        rng = np.random.default_rng([*self._seed, self._round, 1])
        starts = int(np.clip(evaluations // (8 * _PROBES), 1, _STARTS))  # so that probes are a quarter of them at most
        places = rng.permutation(self._pool)[:starts].tolist()
        kts = {place: temperature(self._dataset[place], trainer, *self._within, rng) for place in places}
        self._kts = {place: kt for place, kt in kts.items() if self._hot(place, kt)}
        if not self._kts:
            self._round += 1
            return 0
        return super().run(trainer, evaluations)

    def _hot(self, place: int, kt: float) -> bool:
        """Whether it can be heat that a structure lies higher by, and has forces of, at this temperature."""
        source = self._dataset[place]
        assert source.energy is not None
        above = source.energy / len(source) - self._lowest[formula_unit(source.atoms.numbers)]
        return 0 < kt < _HOTTEST * self._cohesive[place] and above < _MOTION * 1.5 * kt

    def _begin(self, rng: np.random.Generator) -> Walker:
        kts = np.array(list(self._kts.values()))
        place = int(rng.choice(list(self._kts), p=kts / kts.sum()))  # the hotter, the less holds it together
        atoms = self._dataset[place].atoms.copy()
        if rng.random() < 0.5 and thinnable(atoms):
            atoms, scale = thinned(atoms, rng), rng.uniform(*_SCALES)
        else:
            scale = rng.uniform(*_STRETCHES)
        atoms.set_cell(np.asarray(atoms.cell) * scale, scale_atoms=True)
        return Walker.of(place, atoms, _HOTTER * self._kts[place], 1.0, rng)

    def _over(self, walker: Walker, energy: float) -> bool:
        guard = self._guard(walker.place, walker.positions, walker.cell)
        if energy < guard.lowest:
            self._keep(walker.place, guard)
            walker.marks += 1
        return walker.marks >= _FOLLOW or walker.age >= _LONGEST or not np.isfinite(energy)

    def _guard(self, place: int, positions: Array, cell: Array) -> Guard:
        source, n = self._dataset[place], len(positions)
        if place not in self._whole:
            self._whole[place] = Neighborhood(source.atoms, self._cohesive[place])
        unit = formula_unit(source.atoms.numbers)
        numbers = source.atoms.numbers if n == len(source) else np.repeat(unit, n // len(unit))
        atoms = Atoms(numbers, positions, cell=cell, pbc=True)
        cost = max(self._whole[place].cost(atoms), 0.0)
        guard = raised(source, atoms, cost, n * _KNOWN, "expansion")
        return replace(guard, highest=np.inf, weight=_WEIGHT)  # walkers are hotter than what they began as, or may be


def temperature(
    structure: Structure, trainer: _equipot.Trainer, cutoff: float, closest: float, rng: np.random.Generator
) -> float:
    """How hot a structure is, kT in eV, by its forces and the curvature of the model; 0 where that is not known."""
    assert structure.forces is not None
    probes = rng.choice([-_PROBE, _PROBE], size=(_PROBES, len(structure), 3))
    displaced = []
    for probe in [*probes, *-probes]:
        displaced.append(structure.atoms.copy())
        displaced[-1].positions += probe
    graphs = graph_set(displaced, cutoff)
    if np.min(graphs.shortest) < closest:
        return 0.0
    forces = trainer.evaluate(graphs, np.arange(len(displaced), dtype=np.int64))["forces"]
    ahead, behind = forces.reshape(2, _PROBES, -1, 3)
    curvature = float(np.mean(np.sum(probes * (behind - ahead), axis=(1, 2)))) / (2 * _PROBE**2)
    return float(np.sum(np.square(structure.forces))) / curvature if curvature > 0 else 0.0
