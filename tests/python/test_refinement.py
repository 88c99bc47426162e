"""Refinement: energies become better and forces stay, it stops and goes on, and who is not refined."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import random_model
from training import SMALL, made_by, repeatable

from equipot.data import DataSet
from equipot.fit import train
from equipot.fit.datasets import DataSets
from equipot.modelfile import write_model

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def nearly(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataSets]:
    """A model whose weights are a little off, as those that gradients of forces leave, and data by the right ones."""
    folder = tmp_path_factory.mktemp("nearly")
    truth = random_model(
        folder / "truth.equipot", species=(8, 14), cutoff=4.0, channels=4, l_max=1, hidden_l=(0,), layers=1, size=5
    )
    data = [s for s in made_by(folder / "truth.equipot", 60) if len(s) > 1]
    rng = np.random.default_rng(3)
    for name, array in truth.arrays.items():
        if name.startswith("layer."):
            truth.arrays[name] = array * (1 + 0.01 * rng.normal(size=array.shape))
    write_model(truth, folder / "off.equipot")
    return folder / "off.equipot", DataSets(DataSet(data[15:]), DataSet(data[:15]))


def refining(model: Path) -> dict[str, Any]:
    start = {"model": str(model), "atomic_energies": "keep"}
    return {**SMALL, "epochs": 0, "refinement": {"steps": 3}, "start": start}


def test_refinement_lowers_energies_and_leaves_forces(tmp_path: Path, nearly: tuple[Path, DataSets]) -> None:
    train(folder=tmp_path / "run", sets=nearly[1], **refining(nearly[0]))
    records = repeatable(tmp_path / "run")
    first, final = records[0]["valid"], records[-1]["valid"]
    assert [r["phase"] for r in records[1:]] == [3] * (len(records) - 1)
    assert final["energy_rmse"] < 0.5 * first["energy_rmse"]
    assert final["forces_rmse"] < 1.1 * first["forces_rmse"]


def test_a_refinement_that_was_stopped_is_begun_again(tmp_path: Path, nearly: tuple[Path, DataSets]) -> None:
    settings = refining(nearly[0])
    through = train(folder=tmp_path / "through", sets=nearly[1], **settings)
    stopped = train(folder=tmp_path / "pieces", sets=nearly[1], max_hours=1e-9, **settings)
    assert stopped.read_bytes() != through.read_bytes()
    for _ in range(2):  # the second time there is nothing left
        pieces = train(folder=tmp_path / "pieces", sets=nearly[1], resume=True, **settings)
        assert pieces.read_bytes() == through.read_bytes()
        assert repeatable(tmp_path / "pieces") == repeatable(tmp_path / "through")


def test_refined_runs_can_be_trained_further(tmp_path: Path, nearly: tuple[Path, DataSets]) -> None:
    settings = {**refining(nearly[0]), "optimizer": {"learning_rate": 1e-6}, "second_phase": {"share": 0.0}}
    train(folder=tmp_path, sets=nearly[1], **{**settings, "epochs": 1})
    train(folder=tmp_path, sets=nearly[1], resume=True, **{**settings, "epochs": 2})
    phases = [(r["epoch"], r["phase"]) for r in repeatable(tmp_path)]
    assert phases[:2] == [(0, 1), (1, 1)]
    assert sorted(set(phases)) == [(0, 1), (1, 1), (1, 3), (2, 1), (2, 3)]


def test_data_without_energies_are_not_refined(tmp_path: Path, nearly: tuple[Path, DataSets]) -> None:
    bare = [replace(s, energy=None, virial=None) for s in nearly[1].train]
    settings = {**SMALL, "refinement": {"steps": 3}}
    train(folder=tmp_path, sets=DataSets(DataSet(bare[3:]), DataSet(bare[:3])), **settings)
    assert {r["phase"] for r in repeatable(tmp_path)} <= {1, 2}
