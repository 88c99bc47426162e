"""What tests of searches for holes share: a model of silicon to search in, and going on to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from equipot import _equipot
from equipot.fit.architecture import new_model
from equipot.fit.searches import Search
from equipot.fit.training_settings import ModelSettings
from equipot.modelfile import write_model

CUTOFF = 5.0
AnySearch = TypeVar("AnySearch", bound=Search)


def silicon_trainer(folder: Path, energy: float, shift: float, scale: float) -> Any:
    """A model with random weights around an energy per atom, which `shift` moves up or down."""
    settings = ModelSettings(cutoff=CUTOFF, channels=6, layers=1, l_max=2, correlation=2, repulsion=False)
    model = new_model((14,), settings, {14: energy}, average_neighbors=16.0, scale=scale)
    model.arrays["energy.shift"] += shift
    path = folder / f"{shift}.equipot"
    write_model(model, path)
    return _equipot.Trainer(str(path))


def in_one_go_and_resumed(make: Callable[[], AnySearch], engine: Any, evaluations: int) -> tuple[AnySearch, AnySearch]:
    """Four rounds of a search, and its first two, after whose state two more give the same bits."""
    whole, first, second = make(), make(), make()
    for _ in range(4):
        whole.run(engine, evaluations)
    for _ in range(2):
        first.run(engine, evaluations)
    second.restore(first.state())
    for _ in range(2):
        second.run(engine, evaluations)
    assert len(whole.guards) == len(second.guards) > 0
    for a, b in zip(whole.guards, second.guards, strict=True):
        assert np.array_equal(a.structure.atoms.positions, b.structure.atoms.positions)
        assert np.array_equal(a.structure.atoms.cell, b.structure.atoms.cell)
        assert (a.structure.energy, a.tolerance) == (b.structure.energy, b.tolerance)
    return whole, first
