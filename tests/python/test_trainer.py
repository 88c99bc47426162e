"""Parameter gradients and batches of the compiled trainer, against finite differences and against the engine."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from models import random_model

import equipot
from equipot import EquipotError, _equipot

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "one layer": {"layers": 1},
    "two layers": {},
    "three layers": {"layers": 3, "hidden_l": (2, 1)},
    "density": {"density": True, "envelope_on": "weights"},
    "agnesi, shared mixing": {"transform": "agnesi", "mixing": "shared"},
    "agnesi, elements of one size": {"transform": "agnesi", "radii": (0.6, 0.6)},
    "zbl, skip everywhere": {"zbl": True, "skip": True},
    "two heads, linear readouts": {"mixing": "species", "layers": 3, "heads": ("a", "b"), "readout": "linear"},
    "odd number of channels": {"channels": 9, "correlation": 2},
    "linear radial": {"widths": ()},
}


def clusters() -> list[Atoms]:
    """Two crystals, one of them smaller than the cutoff, and a molecule."""
    rng = np.random.default_rng(5)
    structures = []
    for n, length, periodic in [(5, 6.0, True), (4, 3.5, False), (3, 3.5, True)]:
        while True:
            positions = rng.uniform(0, length, (n, 3))
            distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1) + 10 * np.eye(n)
            if distances.min() > 0.8:
                break
        structures.append(
            Atoms(rng.choice([1, 8], n), positions=positions, cell=np.eye(3) * length * periodic, pbc=periodic)
        )
    return structures


def graph_set(structures: list[Atoms], cutoff: float = 4.0) -> _equipot.GraphSet:
    return _equipot.GraphSet(
        [a.numbers.astype(np.int32) for a in structures],
        [a.positions for a in structures],
        [a.cell.array for a in structures],
        [a.pbc for a in structures],
        cutoff,
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradient_matches_finite_differences(name: str, tmp_path: Path) -> None:
    settings = ARCHITECTURES[name]
    path = tmp_path / "model.equipot"
    random_model(path, seed=3, **settings)
    trainer = _equipot.Trainer(str(path), "b" if "heads" in settings else "")
    graphs, order = graph_set(clusters()), np.array([2, 0, 1])
    rng = np.random.default_rng(1)
    at_start = trainer.evaluate(graphs, order)
    bars = [rng.normal(size=at_start[key].shape) for key in ("energy", "forces", "virial")]
    bars[2] = bars[2] + bars[2].transpose(0, 2, 1)  # virials are symmetric: only the symmetric part is defined
    gradient = trainer.gradient(graphs, order, *bars)
    weights = trainer.get()

    def loss(at: np.ndarray) -> float:
        trainer.set(at)
        result = trainer.evaluate(graphs, order)
        return sum(
            float(np.vdot(bar, result[key])) for bar, key in zip(bars, ("energy", "forces", "virial"), strict=True)
        )

    begin = 0
    for array, shape in trainer.parameters:
        size = int(np.prod(shape))
        direction = np.zeros_like(weights)
        direction[begin : begin + size] = rng.normal(size=size)
        begin += size
        h = 3e-5  # a five-point rule: its error is of order h^4, round-off 1e-16 · loss / h
        values = [loss(weights + s * h * direction) for s in (-2, -1, 1, 2)]
        expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        scale = abs(expected) + 1e-5 * abs(values[0])
        assert abs(gradient @ direction - expected) < 1e-6 * scale, array
    assert begin == len(weights)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_batches_agree_with_the_engine(name: str, tmp_path: Path) -> None:
    settings = ARCHITECTURES[name]
    path = tmp_path / "model.equipot"
    random_model(path, seed=3, **settings)
    head = "b" if "heads" in settings else ""
    structures = clusters()
    result = _equipot.Trainer(str(path), head).evaluate(graph_set(structures), [1, 2])
    potential = equipot.load(path, head=head or None)
    begin = 0
    for s, atoms in enumerate([structures[1], structures[2]]):
        expected = potential.compute(atoms, ["energy", "forces", "virial"])
        forces = result["forces"][begin : begin + len(atoms)]
        begin += len(atoms)
        # Training tables have a fixed step; their error is of order 1e-6 of the largest force of these rough models.
        scale = 1e-5 * (1 + abs(expected["forces"]).max())
        assert abs(result["energy"][s] - expected["energy"]) < scale
        assert abs(forces - expected["forces"]).max() < scale
        assert abs(result["virial"][s] - expected["virial"]).max() < 10 * scale


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_mixed_precision_agrees_with_double(name: str, tmp_path: Path) -> None:
    settings = ARCHITECTURES[name]
    path = tmp_path / "model.equipot"
    random_model(path, seed=3, **settings)
    head = "b" if "heads" in settings else ""
    graphs, order = graph_set(clusters()), [0, 1, 2]
    results, gradients = [], []
    for dtype in ("float64", "mixed"):
        trainer = _equipot.Trainer(str(path), head, dtype)
        results.append(trainer.evaluate(graphs, order))
        bars = [results[0][key] for key in ("energy", "forces", "virial")]
        gradients.append(trainer.gradient(graphs, order, *bars))
    # Cubic tables of 0.02 Å and float work: 1e-4 of the largest, an optimiser's noise.
    for key in ("energy", "forces", "virial"):
        assert abs(results[0][key] - results[1][key]).max() < 1e-4 * (1 + abs(results[0][key]).max())
    assert abs(gradients[0] - gradients[1]).max() < 1e-3 * abs(gradients[0]).max()


def test_weights_survive_a_file(tmp_path: Path) -> None:
    first, second = tmp_path / "first.equipot", tmp_path / "second.equipot"
    random_model(first, seed=3)
    trainer = _equipot.Trainer(str(first))
    weights = trainer.get() * 1.5
    trainer.set(weights)
    trainer.write(str(second), '{"title": "fitted"}')
    assert np.array_equal(_equipot.Trainer(str(second)).get(), weights)
    assert equipot.load(second).card["title"] == "fitted"


def test_same_threads_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "model.equipot"
    random_model(path, seed=3)
    graphs = graph_set(clusters())
    trainer = _equipot.Trainer(str(path))
    result = trainer.evaluate(graphs, [0, 1, 2])
    runs = [trainer.gradient(graphs, [0, 1, 2], result["energy"], result["forces"], result["virial"]) for _ in range(3)]
    assert all(np.array_equal(runs[0], run) for run in runs[1:])


def test_bad_input_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.equipot"
    random_model(path, seed=3)
    trainer = _equipot.Trainer(str(path))
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    close = Atoms("H2", [[0, 0, 0], [0.3, 0, 0]])
    graphs = graph_set([water, close, Atoms("He")])
    assert list(graphs.atoms) == [3, 2, 1]
    assert list(graphs.edges) == [6, 2, 0]
    assert graphs.shortest[0] == pytest.approx(0.96)
    with pytest.raises(EquipotError, match=r"structure 1 has two atoms 0\.30.* apart"):
        trainer.evaluate(graphs, [0, 1])
    with pytest.raises(EquipotError, match="no element He"):
        trainer.evaluate(graphs, [2])
    with pytest.raises(EquipotError, match="no structure 3 in a set of 3"):
        trainer.evaluate(graphs, [3])
    with pytest.raises(EquipotError, match="cutoff"):
        trainer.evaluate(graph_set([water], 5.0), [0])
    with pytest.raises(EquipotError, match="weights"):
        trainer.set([1.0])
    with pytest.raises(EquipotError, match="finite"):
        trainer.set(np.full(len(trainer.get()), np.nan))
    with pytest.raises(EquipotError, match="do not fit the batch"):
        trainer.gradient(graphs, [0], [1.0], np.zeros((2, 3)), np.zeros((1, 3, 3)))
    with pytest.raises(EquipotError, match="do not fit together"):
        _equipot.GraphSet([np.array([1], dtype=np.int32)], [np.zeros((2, 3))], [np.eye(3)], [[True] * 3], 4.0)
    with pytest.raises(EquipotError, match="float64"):
        _equipot.Trainer(str(path), "", "float16")
