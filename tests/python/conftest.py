"""Fixtures: models of many architectures with random weights, loaded once; the folder of reference data."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Waiting threads must not spin: test machines have few cores and run other things.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from ase import Atoms
from copper import copper, dataset
from models import random_model
from structures import rattled_crystal

import equipot
from equipot.data import DataSet

ROOT = Path(__file__).resolve().parents[2]

# Settings of random_model; each architecture differs from "default" in what it says.
ARCHITECTURES: dict[str, dict] = {
    "default": {},
    "one_layer": {"layers": 1, "channels": 5},
    "three_layers_l2": {"layers": 3, "hidden_l": (2, 1), "correlation": (3, 2, 2), "species": (1, 6, 8)},
    "scalar_features_l3": {"hidden_l": (0,), "l_max": 3, "correlation": (2, 3), "channels": 3},
    "density_agnesi_zbl": {"density": True, "transform": "agnesi", "zbl": True, "envelope_on": "weights"},
    "gaussian_soft": {"basis": "gaussian", "transform": "soft", "mixing": "species", "skip": True, "envelope": 6},
    "chebyshev_linear": {
        "basis": "chebyshev",
        "transform": "agnesi",
        "readout": "linear",
        "mixing": "shared",
        "skip": False,
        "correlation": 4,
    },
    "two_sizes": {"species": (1, 6, 8), "transform": "agnesi", "radii": (0.4, 0.7, 0.7)},
    "many_channels_l1": {"channels": 19, "l_max": 1, "activation": "tanh", "last_readout_only": True, "correlation": 1},
    "two_heads": {"heads": ("a", "b")},
}
# Those that can be loaded without naming a head.
SINGLE_HEAD = [name for name, settings in ARCHITECTURES.items() if "heads" not in settings]


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of the model file of an architecture."""
    folder = tmp_path_factory.mktemp("models")

    def get(name: str) -> Path:
        path = folder / f"{name}.equipot"
        if not path.exists():
            random_model(path, **ARCHITECTURES[name])
        return path

    return get


@pytest.fixture(scope="session")
def make_potential(model_file: Callable[[str], Path]) -> Callable[..., equipot.Potential]:
    """Loaded potential of an architecture; the same one for the same options."""
    loaded: dict[tuple, equipot.Potential] = {}

    def get(name: str, **options: str) -> equipot.Potential:
        key = (name, *sorted(options.items()))
        if key not in loaded:
            loaded[key] = equipot.load(model_file(name), **options)
        return loaded[key]

    return get


@pytest.fixture(scope="session")
def potential(make_potential: Callable[..., equipot.Potential]) -> equipot.Potential:
    """A small two-layer potential."""
    return make_potential("default")


@pytest.fixture(scope="session", params=SINGLE_HEAD)
def any_architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def any_potential(any_architecture: str, make_potential: Callable[..., equipot.Potential]) -> equipot.Potential:
    """Potentials of every architecture in turn."""
    return make_potential(any_architecture)


@pytest.fixture(scope="session")
def silicon() -> equipot.Potential:
    """The silicon potential that ships."""
    path = ROOT / "potentials" / "Si.equipot"
    if not path.exists():
        pytest.skip("potentials/Si.equipot is not there")
    return equipot.load(path)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time of a small fit."""

    def missing(*_: object) -> None:
        raise ImportError

    monkeypatch.setattr("equipot.evaluate.parity_picture", missing)


@pytest.fixture
def calm_atoms(silicon: equipot.Potential) -> Atoms:
    """A slightly rattled silicon crystal with a calculator, for dynamics."""
    atoms = rattled_crystal(repeat=1, amplitude=0.05)
    atoms.calc = equipot.Calculator(silicon)
    return atoms


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Reference models made with mace-torch, which are not part of the repository."""
    shared = Path(os.environ.get("EQUIPOT_SHARED", ROOT.parent / "shared"))
    folder = shared / "golden" / "mace"
    if not folder.is_dir():
        pytest.skip("no reference data: put them into ../shared or name their folder in EQUIPOT_SHARED")
    return folder


@pytest.fixture(scope="session")
def frames() -> list[Atoms]:
    """Copper, every other crystal strained."""
    return [copper(seed, strain=0.01 if seed % 2 else 0.0) for seed in range(24)]


@pytest.fixture(scope="session")
def crystal(frames: list[Atoms]) -> DataSet:
    """The same as a data set."""
    return dataset(frames)
