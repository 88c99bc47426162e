"""Linear fits with the channels of a trained model: rows of the design matrix, recovery, and models that do not do."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structures import random_atoms

from equipot import EquipotError, load
from equipot.data import DataSet, Structure
from equipot.fit import train
from equipot.fit.architecture import new_model
from equipot.fit.datasets import DataSets
from equipot.fit.linear import linear
from equipot.fit.linear_rows import Baseline, design_rows
from equipot.fit.settings import SettingsError
from equipot.fit.trained_basis import TrainedBasis
from equipot.fit.training_settings import ModelSettings
from equipot.modelfile import write_model

pytestmark = pytest.mark.usefixtures("no_pictures")

E0 = {8: -430.0, 14: -105.0}


def trained(path: Path, *, scale: float = 1.0, **change: Any) -> Path:
    """A model with random weights, as training starts from."""
    chosen: dict[str, Any] = {
        "cutoff": 3.5,
        "channels": 5,
        "layers": 1,
        "l_max": 2,
        "correlation": 3,
        "radial_functions": 4,
        "radial_widths": (),
        "readout_width": 0,
        "repulsion": False,
    }
    settings = ModelSettings(**{**chosen, **change})
    write_model(new_model((8, 14), settings, E0, average_neighbors=8.0, scale=scale, shift=0.3), path)
    return path


def other_coefficients(path: Path, basis: TrainedBasis, seed: int = 1) -> tuple[Path, np.ndarray]:
    """A potential with the same channels and other coefficients."""
    coefficients = np.random.default_rng(seed).normal(size=basis.columns)
    coefficients /= np.sqrt(np.diag(basis.precision(0.0)))
    write_model(basis.model(coefficients, E0), path)
    return path, coefficients


def labelled(path: Path, count: int, seed: int = 0) -> DataSet:
    """Structures with what a potential says about them."""
    potential, made = load(path, radial="exact"), []
    for k in range(count):
        atoms = random_atoms(seed + k, ["Si", "O"], count=5, cell=4.5 if k % 2 else None)
        r = potential.compute(atoms, ["energy", "forces", "virial"])
        made.append(Structure(atoms, r["energy"], r["forces"], r["virial"] if k % 2 else None, source=f"made.xyz#{k}"))
    return DataSet(made)


@pytest.mark.parametrize("change", [{}, {"first_skip": True, "repulsion": True}, {"l_max": 3, "correlation": 2}])
def test_rows_are_what_the_engine_computes(change: dict[str, Any], tmp_path: Path) -> None:
    basis = TrainedBasis.read(trained(tmp_path / "trained.equipot", scale=2.0, **change))
    path, coefficients = other_coefficients(tmp_path / "truth.equipot", basis)
    dataset = labelled(path, 4)
    labels = Baseline(E0, (), basis).labels(list(dataset))
    for indices, X in design_rows(basis, dataset, (), ""):
        fitted = coefficients @ X
        place = 0
        for i in indices:
            y = labels[i]
            known = np.isfinite(y)
            # Sums of some thousand terms in double, after energies of atoms of 400 eV were taken off.
            scale = max(1.0, np.abs(y[known]).max())
            assert fitted[place : place + len(y)][known] == pytest.approx(y[known], abs=1e-9 * scale)
            place += len(y)


def test_coefficients_are_recovered(tmp_path: Path) -> None:
    channels = trained(tmp_path / "trained.equipot")
    truth, _ = other_coefficients(tmp_path / "truth.equipot", TrainedBasis.read(channels))
    data, fresh = labelled(truth, 60), labelled(truth, 4, seed=100)
    sets = DataSets(data[:50], data[50:], DataSet(), dict(E0))
    basis = {"channels_from": str(channels)}
    found = load(linear(None, tmp_path / "run", sets=sets, basis=basis, quiet=True))
    for structure in fresh:
        r = found.compute(structure.atoms)
        assert structure.forces is not None
        # Of forces of 1 to 10 eV/Å; what is left are the prior and splines of the radial functions.
        assert np.abs(r["forces"] - structure.forces).max() < 2e-3 * max(1.0, np.abs(structure.forces).max())


def test_it_goes_on_from_training(tmp_path: Path) -> None:
    """What the energy is linear in is at its optimum afterwards: errors on the training set fall."""
    truth, _ = other_coefficients(tmp_path / "truth.equipot", TrainedBasis.read(trained(tmp_path / "x.equipot")))
    data = labelled(truth, 24)
    sets = DataSets(data[:20], data[20:], DataSet(), dict(E0))
    model = {"cutoff": 3.5, "channels": 4, "layers": 1, "l_max": 2, "radial_functions": 4}
    model |= {"radial_widths": [], "readout_width": 0, "repulsion": False}
    channels = train(None, tmp_path / "train", sets=sets, epochs=20, model=model, quiet=True)
    solved = linear(None, tmp_path / "solve", sets=sets, basis={"channels_from": channels.as_posix()}, quiet=True)

    def error(path: Path) -> float:
        potential = load(path)
        wrong = [potential.compute(s.atoms)["forces"] - s.forces for s in sets.train if s.forces is not None]
        return float(np.sqrt(np.mean(np.square(np.concatenate(wrong)))))

    assert error(solved) < 0.7 * error(channels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 2}, "2 layers instead of one"),
        ({"radial_widths": (8,)}, "radial networks"),
        ({"readout_width": 4}, "readout that is not linear"),
    ],
)
def test_models_that_are_not_linear(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(EquipotError, match=message):
        TrainedBasis.read(trained(tmp_path / "trained.equipot", **change))


def test_wrong_wishes(tmp_path: Path) -> None:
    channels = trained(tmp_path / "trained.equipot")
    basis = {"channels_from": str(channels)}
    data = labelled(channels, 4)
    atoms = data[0].atoms.copy()
    atoms.numbers[:] = 14
    silicon = DataSet([Structure(atoms, data[0].energy, data[0].forces, source="memory#0")])
    with pytest.raises(EquipotError, match="species of the data, Si, are not those of the model, O Si"):
        linear(None, tmp_path / "a", sets=DataSets(silicon, silicon, DataSet(), {14: 0.0}), basis=basis, quiet=True)
    with pytest.raises(SettingsError, match="nothing to scan"):
        linear(None, tmp_path / "b", sets=DataSets(data, data), scan=True, basis=basis, quiet=True)
    with pytest.raises(EquipotError, match=r"missing\.equipot"):
        linear(None, tmp_path / "c", sets=DataSets(data, data), basis={"channels_from": "missing.equipot"}, quiet=True)
