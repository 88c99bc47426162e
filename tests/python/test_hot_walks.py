"""Hot walks: they find holes of a model, say what must be there instead, and go on to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from searching import in_one_go_and_resumed
from structures import random_atoms

from equipot import _equipot
from equipot.data import DataSet, Structure
from equipot.fit import train
from equipot.fit.architecture import new_model
from equipot.fit.bonds import BOND, hydrogen_takers
from equipot.fit.checkpoint import load_checkpoint
from equipot.fit.datasets import DataSets
from equipot.fit.hot_walks import HotWalks, _broken, _lengths
from equipot.fit.objective import graph_set
from equipot.fit.training_settings import ModelSettings
from equipot.modelfile import write_model

pytestmark = pytest.mark.usefixtures("no_pictures")

CUTOFF = 3.5
E0 = {1: -13.0, 6: -1030.0}


def butanes(count: int = 6) -> list[Structure]:
    rng = np.random.default_rng(5)
    made = []
    for k in range(count):
        atoms = molecule("trans-butane")
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        forces = rng.normal(scale=0.3, size=atoms.positions.shape)
        made.append(Structure(atoms, -4240.0 + 0.3 * k, forces, source=f"memory#{k}"))
    return made


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    """A model with random weights, which is full of holes."""
    settings = ModelSettings(cutoff=CUTOFF, channels=6, layers=1, l_max=2, correlation=2, repulsion=False)
    model = new_model((1, 6), settings, E0, average_neighbors=6.0, scale=1.0)
    write_model(model, tmp_path / "random.equipot")
    return _equipot.Trainer(str(tmp_path / "random.equipot"))


def test_guards_stand_where_the_model_has_fallen(trainer: Any) -> None:
    data = butanes()
    walks = HotWalks(data, CUTOFF, 0.5, seed=1)
    found = walks.run(trainer, 24 * 300)
    assert found > 0
    assert len(walks.guards) == found
    graphs = graph_set([g.structure.atoms for g in walks.guards], CUTOFF)
    energies = trainer.evaluate(graphs, np.arange(found))["energy"]
    half, kT = 1.5 * len(data[0]), units.kB * 1500
    kinds = set()
    for guard, energy in zip(walks.guards, energies, strict=True):
        assert guard.structure.energy is not None
        bond = guard.structure.energy - (-4240.0 + half * kT)
        kinds.add(round(bond, 6))
        deviations = 1 if bond > 1 else 3
        assert guard.tolerance == pytest.approx(deviations / 2 * np.sqrt(half) * kT)
        assert energy < -4240.0 + bond + (half - deviations * np.sqrt(half)) * kT
    assert 2.5 in kinds  # bonds that this model does not know


def test_a_bond_has_come_apart_unless_its_atoms_are_bound_anew() -> None:
    def broken(symbols: str, before: list[float], after: list[float], shown: float = 2.0) -> bool:
        start, now = (Atoms(symbols, np.outer(x, [1, 0, 0])) for x in (before, after))
        data = [Structure(Atoms("CHC", np.outer([0, 1.2, 1.2 + shown], [1, 0, 0])))]
        return _broken(now, _lengths(start) < BOND, hydrogen_takers(data))

    assert not broken("OHO", [0, 1.0, 2.6], [0, 1.3, 2.6])
    assert broken("OHO", [0, 1.0, 2.6], [0, 1.7, 4.0])
    assert not broken("OHO", [0, 1.0, 2.6], [0, 1.6, 2.6])  # of the other oxygen now
    assert not broken("OHO", [0, 1.0, 2.6], [0, 1.6, 3.0])  # on the way to it
    assert broken("CHC", [0, 1.1, 3.0], [0, 1.9, 3.0])  # hydrogen does not pass between carbons
    assert not broken("CHC", [0, 1.1, 3.0], [0, 1.9, 3.0], shown=1.5)  # unless it does in the data
    assert not broken("CHO", [0, 1.1, 3.0], [0, 1.9, 3.0])
    assert not broken("LiO", [0, 1.8], [0, 5.0])  # metals part as ions


def test_walks_go_on_to_the_bit(trainer: Any) -> None:
    in_one_go_and_resumed(lambda: HotWalks(butanes(), CUTOFF, 0.5, seed=1), trainer, evaluations=24 * 100)


def test_only_whole_molecules_that_are_large_enough_walk() -> None:
    nitrogen = Structure(molecule("N2"), -2000.0, source="memory#0")
    crystal = Structure(random_atoms(1, ["C"], count=12, cell=6.0), -100.0, source="memory#1")
    without = Structure(molecule("trans-butane"), None, source="memory#2")
    assert not HotWalks([nitrogen, crystal, without], CUTOFF, 0.5, seed=1).possible
    assert HotWalks([*butanes(1), nitrogen], CUTOFF, 0.5, seed=1).possible


def test_what_the_data_break_does_not_walk() -> None:
    parted = butanes(1)[0]
    parted.energy = -4235.0
    distances = parted.atoms.get_all_distances()
    hydrogen = int(np.flatnonzero(parted.atoms.numbers == 1)[0])
    carbon = int(np.argmin(np.where(parted.atoms.numbers == 6, distances[hydrogen], np.inf)))
    away = parted.atoms.positions[hydrogen] - parted.atoms.positions[carbon]
    parted.atoms.positions[hydrogen] += 2 * away
    assert not HotWalks([*butanes(), parted], CUTOFF, 0.5, seed=1).possible
    water = Structure(molecule("H2O"), -2000.0, source="memory#6")
    assert HotWalks([*butanes(), parted, water], CUTOFF, 0.5, seed=1).possible


def test_stopping_after_every_batch_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipot.fit.hot_walks._WARM_AFTER", 20)
    data = DataSet(butanes(12))
    settings: dict[str, Any] = {
        "sets": DataSets(data, data, DataSet(), dict(E0)),
        "epochs": 8,
        "model": {"channels": 4, "layers": 1, "l_max": 1, "correlation": 2, "cutoff": CUTOFF, "radial_widths": []},
        "optimizer": {"learning_rate": 1e-4, "batch_size": 20},
        "quiet": True,
    }
    through = train(folder=tmp_path / "through", **settings)
    folder = tmp_path / "pieces"
    pieces = train(folder=folder, max_hours=1e-9, **settings)
    found = []
    for _ in range(30):
        before = (folder / "checkpoint.npz").read_bytes()
        found.append(len(load_checkpoint(folder / "checkpoint.npz")["searches"]["HotWalks"]["places"]))
        pieces = train(folder=folder, max_hours=1e-9, resume=True, **settings)
        if (folder / "checkpoint.npz").read_bytes() == before:
            break
    assert 0 < found[len(found) // 2] < found[-1]
    assert pieces.read_bytes() == through.read_bytes()
