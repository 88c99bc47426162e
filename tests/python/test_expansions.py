"""Melts and solids with more room: how hot they are, what counts as a hole, and that a search goes on to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from searching import CUTOFF, in_one_go_and_resumed, silicon_trainer

import equipot
from equipot import _equipot
from equipot.data import Structure
from equipot.fit.cohesion import Neighborhood, cohesive_energy
from equipot.fit.expansions import Expansions, temperature
from equipot.fit.walkers import Walker, Walkers, time_step

ENERGY = -4.5  # eV per atom


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """All structures have kT = 0.1 eV."""
    monkeypatch.setattr("equipot.fit.expansions.temperature", lambda *args: 0.1)


def data() -> list[Structure]:
    """Shaken crystals."""
    rng = np.random.default_rng(5)
    made = []
    for k in range(1, 5):
        atoms = bulk("Si", cubic=True).repeat((2, 1, 1))
        shifts = rng.normal(scale=0.05 * k, size=atoms.positions.shape)
        atoms.positions += shifts
        energy = len(atoms) * (ENERGY + 0.02 * k**2)
        made.append(Structure(atoms, energy, -8.0 * shifts, config_type="bulk", source=f"memory#{k}"))
    return made


def expansions(structures: list[Structure]) -> Expansions:
    return Expansions(structures, CUTOFF, 0.5, seed=1)


def test_temperature_of_dynamics(silicon: equipot.Potential) -> None:
    trainer = _equipot.Trainer(silicon.path)
    crystal, kt = bulk("Si", cubic=True).repeat((2, 2, 2)), 800 * units.kB

    def engine(graphs: Any, atoms: Any) -> Mapping[str, np.ndarray]:
        found: Mapping[str, np.ndarray] = trainer.evaluate(graphs, np.arange(len(atoms), dtype=np.int64))
        return found

    step = time_step([Structure(crystal)], [0])
    walkers = Walkers(lambda rng: Walker.of(0, crystal, kt, 2.0, rng), CUTOFF, 0.5, step, 0.05 / units.fs)
    walkers.all = [walkers.begin() for _ in range(8)]
    _, forces = walkers.evaluate(engine)
    for _ in range(150):
        found, forces = walkers.step(engine, forces)
    rng = np.random.default_rng(2)
    kts = [
        temperature(Structure(w.atoms, e, f), trainer, CUTOFF, 0.5, rng)
        for w, e, f in zip(walkers.all, found["energy"], forces, strict=True)
    ]
    # 8 x 64 atoms: squares of 1500 independent forces have a mean that is known to 4 %; coupled ones less well
    assert np.mean(kts) == pytest.approx(kt, rel=0.15)


@pytest.mark.usefixtures("warm")
def test_guards_stand_where_walkers_are_too_low(tmp_path: Path) -> None:
    structures = data()
    made = expansions(structures)
    assert made.run(silicon_trainer(tmp_path, ENERGY, -2.0, scale=0.1), 2000) == len(made.guards) > 0
    cohesive = cohesive_energy([14])
    assert cohesive is not None
    sizes, volumes = set(), []
    for guard in made.guards:
        atoms = guard.structure.atoms
        (source,) = (s for s in structures if guard.structure.source == f"expansion from {s.source}")
        cost = max(Neighborhood(source.atoms, cohesive).cost(atoms), 0.0)
        assert source.energy is not None
        lowest = guard.structure.energy - 2 * guard.tolerance
        assert lowest == pytest.approx(len(atoms) * (source.energy / 16 - 0.06) + 0.6 * cost)
        assert guard.highest == np.inf
        sizes.add(len(atoms))
        volumes.append(atoms.get_volume() / source.atoms.get_volume())
    assert min(sizes) < 16 == max(sizes)
    assert max(volumes) > 2.0


@pytest.mark.usefixtures("warm")
def test_what_is_high_enough_has_no_holes(tmp_path: Path) -> None:
    assert expansions(data()).run(silicon_trainer(tmp_path, ENERGY, 1e3, scale=0.1), 2000) == 0


def test_what_is_at_rest_does_not_walk(tmp_path: Path) -> None:
    calm = bulk("Si", cubic=True)
    made = expansions([Structure(calm, 8 * ENERGY, np.zeros((8, 3)))])
    assert made.run(silicon_trainer(tmp_path, ENERGY, -2.0, scale=0.1), 2000) == 0


def test_only_solids_whose_cohesive_energy_is_known() -> None:
    assert expansions(data()).possible
    for other in (
        bulk("He", "fcc", a=4.2, cubic=True).repeat(2),
        molecule("CH4", vacuum=4.0, pbc=True),
        bulk("C", cubic=True),
        bulk("Si"),
    ):
        assert not expansions([Structure(other, -1.0, np.ones((len(other), 3)))]).possible
    assert not expansions([]).possible


@pytest.mark.usefixtures("warm")
def test_what_is_strained_does_not_walk(tmp_path: Path) -> None:
    made = expansions([*data()[:2], *(Structure(s.atoms, s.energy + 16.0, s.forces) for s in data()[2:])])
    made.run(silicon_trainer(tmp_path, ENERGY, -2.0, scale=0.1), 2000)
    assert {guard.structure.source for guard in made.guards} == {"expansion from memory#1", "expansion from memory#2"}


@pytest.mark.usefixtures("warm")
def test_it_goes_on_to_the_bit(tmp_path: Path) -> None:
    whole, first = in_one_go_and_resumed(
        lambda: expansions(data()), silicon_trainer(tmp_path, ENERGY, -2.0, scale=0.1), evaluations=500
    )
    assert len(whole.guards) > len(first.guards) > 0
