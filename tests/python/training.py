"""What tests of training share: a small model and short runs, data that a model labels, and the logs of runs."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ase import Atoms
from structures import random_atoms

import equipot
from equipot.data import DataSet, Structure

MODEL = {
    "cutoff": 4.0,
    "channels": 4,
    "l_max": 1,
    "hidden_l": 0,
    "correlation": 2,
    "layers": 1,
    "radial_widths": [8],
    "readout_width": 4,
    "radial_functions": 5,
    "transform": "none",  # as the model has that labels the data
    "repulsion": False,
}
SMALL = {"model": MODEL, "epochs": 3, "optimizer": {"batch_size": 3}, "refinement": {"steps": 0}, "quiet": True}


def made_by(path: Path, count: int = 12, atoms: int = 8) -> DataSet:
    """Structures labelled by a model file, and two free atoms."""
    potential = equipot.load(path, radial="exact")
    structures = [random_atoms(seed, ["O", "Si"], count=atoms, closest=1.6) for seed in range(count)]
    results = potential.compute(structures, ("energy", "forces", "virial"))
    labelled = [
        Structure(a, r["energy"], r["forces"], r["virial"], "liquid", source=f"memory#{i}")
        for i, (a, r) in enumerate(zip(structures, results, strict=True))
    ]
    free = [Atoms("O"), Atoms("Si")]
    energies = [r["energy"] for r in potential.compute(free, ("energy",))]
    return DataSet(labelled + [Structure(a, e, config_type="atom") for a, e in zip(free, energies, strict=True)])


def last(folder: Path) -> dict[str, Any]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()][-1]


def repeatable(folder: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in ("seconds", "atoms_per_second")} for r in records]
