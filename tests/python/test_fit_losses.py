"""Losses: derivatives against finite differences, missing labels, batches that add up, sums of errors."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from structures import random_atoms

from equipot import EquipotError
from equipot.data import DataSet, Structure
from equipot.fit.losses import Errors, Labels, Weights, loss


def labelled(seed: int = 0, missing: bool = True) -> DataSet:
    """Structures with random labels, some of which are missing."""
    rng = np.random.default_rng(seed)
    structures = []
    for i in range(5):
        atoms = random_atoms(i, ["H", "O"], count=3 + i, cell=None if i == 4 else 6.0)
        n = len(atoms)
        structures.append(
            Structure(
                atoms,
                None if missing and i == 1 else float(rng.normal()),
                None if missing and i == 2 else rng.normal(size=(n, 3)),
                None if missing and i == 3 else rng.normal(size=(3, 3)),
                "bulk" if i % 2 else "gas",
                weight=1.0 + i,
                source=f"memory#{i}",
            )
        )
    return DataSet(structures)


def predictions(labels: Labels, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=len(labels)), rng.normal(size=labels.forces.shape), rng.normal(size=labels.virial.shape)


@pytest.mark.parametrize(
    "weights",
    [Weights(1.5, 0.7, 40.0), Weights(1.5, 0.7, 40.0, per_atom=False), Weights(1.5, 0.7, 40.0, huber=0.05)],
    ids=["per_atom", "total", "huber"],
)
def test_derivatives(weights: Weights) -> None:
    labels = Labels.of(labelled(), {"bulk": 2.0})
    values = predictions(labels)
    exact = loss(labels, *values, weights)
    rng = np.random.default_rng(2)
    for place, bar in enumerate((exact.energy_bar, exact.forces_bar, exact.virial_bar)):
        direction, step = rng.normal(size=bar.shape), 1e-5
        ends = []
        for sign in (1, -1):
            moved = list(values)
            moved[place] = values[place] + sign * step * direction
            ends.append(loss(labels, *moved, weights).value)
        # central differences of a piecewise quadratic: exact up to round-off, 1e-16/step, and kinks of Huber's penalty
        assert np.vdot(bar, direction) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    "change",
    [{"energy": np.nan}, {"forces": np.full((3, 3), np.inf)}, {"forces": np.zeros((2, 3))}, {"virial": np.zeros(6)}],
)
def test_broken_labels_are_named(change: dict[str, Any]) -> None:
    structures = list(labelled(missing=False))
    structures[0] = replace(structures[0], **change)
    with pytest.raises(EquipotError, match=r"memory#0: its (energy|forces|virial)"):
        Labels.of(structures)


def test_missing_labels_do_not_count() -> None:
    labels = Labels.of(labelled())
    result = loss(labels, *predictions(labels), Weights())
    assert np.isfinite(result.value)
    assert result.energy_bar[1] == 0
    assert not result.forces_bar[labels.rows(np.array([2]))].any()
    assert not result.virial_bar[3].any()
    assert not result.virial_bar[4].any(), "without a cell there is no stress"


def test_broken_predictions_are_not_taken_for_missing_labels() -> None:
    labels = Labels.of(labelled(missing=False))
    energy, forces, virial = predictions(labels)
    energy[0] = np.nan
    assert np.isnan(loss(labels, energy, forces, virial, Weights()).value)


def test_loss_is_the_sum_over_its_parts() -> None:
    labels = Labels.of(labelled())
    values = predictions(labels)
    whole = loss(labels, *values, Weights()).value
    parts = 0.0
    for chosen in (np.array([3, 0]), np.array([1, 2, 4])):
        rows = labels.rows(chosen)
        energy, forces, virial = values
        totals = (float(len(labels)), float(len(labels.forces)))
        parts += loss(labels.take(chosen), energy[chosen], forces[rows], virial[chosen], Weights(), totals).value
    assert parts == pytest.approx(whole, rel=1e-13)  # only the order of sums differs


def test_perfect_predictions_have_no_loss() -> None:
    data = labelled(missing=False)
    labels = Labels.of(data)
    energy, forces, virial = (np.nan_to_num(a) for a in (labels.energy, labels.forces, labels.virial))
    result = loss(labels, energy, forces, virial, Weights())
    assert result.value == 0
    assert not result.forces_bar.any()


def test_errors_are_means_over_labels() -> None:
    data = labelled()
    labels = Labels.of(data)
    energy, forces, virial = predictions(labels)
    errors = Errors.none(labels.config_types)
    for chosen in (np.array([0, 1]), np.array([4, 3, 2])):
        errors.add(labels.take(chosen), energy[chosen], forces[labels.rows(chosen)], virial[chosen])
    known = [i for i in range(5) if data[i].energy is not None]
    per_atom = np.array([(energy[i] - data[i].energy) / len(data[i]) for i in known])
    means = errors.means()
    assert means["energy_mae"] == pytest.approx(np.abs(per_atom).mean(), rel=1e-12)
    assert means["energy_rmse"] == pytest.approx(np.sqrt((per_atom**2).mean()), rel=1e-12)
    # of the group "gas" (0, 2, 4) the last has no cell
    stress = [(virial[i] - data[i].virial) / data[i].atoms.get_volume() for i in (0, 2)]
    assert errors.means("gas")["stress_mae"] == pytest.approx(np.abs(stress).mean(), rel=1e-12)


def test_no_labels_no_means() -> None:
    atoms = random_atoms(0, ["H"], count=2)
    labels = Labels.of([Structure(atoms)])
    errors = Errors.none(labels.config_types)
    errors.add(labels, np.zeros(1), np.zeros((2, 3)), np.zeros((1, 3, 3)))
    assert errors.means() == {}
