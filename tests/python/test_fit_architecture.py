"""New models: what they hold, the size of their features, and which of their arrays train."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structures import random_atoms

import equipot
from equipot.fit.architecture import add_head, new_model, parameter_scales, quieter, scales_as_drawn, trainable
from equipot.fit.training_settings import ModelSettings
from equipot.modelfile import ModelFile, write_model

E0 = {1: -13.0, 8: -430.0}


def small(seed: int = 1, **settings: Any) -> ModelFile:
    chosen = ModelSettings(**{"cutoff": 4.0, "channels": 6, "l_max": 2, "radial_widths": (8,), **settings})
    return new_model([8, 1], chosen, E0, average_neighbors=12.0, scale=2.0, seed=seed)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layers": 1, "radial_widths": (), "readout_width": 0},
        {"layers": 3, "hidden_l": 2, "correlation": 2, "first_skip": True},
        {"transform": "agnesi", "repulsion": True, "hidden_l": 0, "l_max": 0},
    ],
)
def test_models_load_and_are_smooth(tmp_path: Path, settings: dict[str, Any]) -> None:
    path = tmp_path / "new.equipot"
    write_model(small(**settings), path)
    potential = equipot.load(path, radial="exact")
    atoms = random_atoms(3, ["H", "O"], count=6)
    result = potential.compute(atoms, ("energy", "energies", "forces"))
    assert np.isfinite(result["forces"]).all()
    step, direction = 1e-4, np.random.default_rng(0).normal(size=(6, 3))
    moved = [atoms.copy(), atoms.copy()]
    moved[0].positions += step * direction
    moved[1].positions -= step * direction
    up, down = (r["energy"] for r in potential.compute(moved, ("energy",)))
    # central differences: step² times third derivatives, which are some eV/Å³
    assert np.vdot(result["forces"], direction) == pytest.approx(-(up - down) / (2 * step), rel=1e-4, abs=1e-5)


def test_free_atoms_have_the_given_energies(tmp_path: Path) -> None:
    write_model(small(), tmp_path / "new.equipot")
    potential = equipot.load(tmp_path / "new.equipot")
    from ase import Atoms

    assert potential.compute(Atoms("O"), ("energy",))["energy"] == pytest.approx(E0[8], abs=1e-12)


def test_elements_of_about_one_size_share_radial_functions() -> None:
    settings = ModelSettings(channels=4, radial_widths=(8,), transform="agnesi")
    model = new_model(
        [1, 6, 7, 8, 16, 29], settings, dict.fromkeys((1, 6, 7, 8, 16, 29), 0.0), average_neighbors=12.0, scale=1.0
    )
    hydrogen, carbon, nitrogen, oxygen, sulphur, copper = model.arrays["radial.transform.radii"]
    assert carbon == nitrogen == oxygen == pytest.approx(2 * 0.71, abs=0.01)
    assert (hydrogen, sulphur, copper) == pytest.approx(2 * np.sqrt(0.71 * np.array([0.31, 1.05, 1.32])))


@pytest.mark.parametrize(("radial_widths", "expected"), [((8,), "agnesi"), ((), "none")])
def test_radial_networks_have_distances_transformed(radial_widths: tuple[int, ...], expected: str) -> None:
    """Linear maps have no more than the basis to resolve with, which is too coarse where it is transformed."""
    settings = ModelSettings(channels=4, radial_widths=radial_widths)
    model = new_model([8], settings, E0, average_neighbors=5.0, scale=1.0)
    assert model.meta["radial"]["transform"]["type"] == expected


def test_the_seed_decides() -> None:
    first, same, other = small(1), small(1), small(2)
    assert all(np.array_equal(first.arrays[name], same.arrays[name]) for name in first.arrays)
    assert not np.array_equal(first.arrays["embedding"], other.arrays["embedding"])


def test_weights_are_of_the_order_of_one_in_their_units() -> None:
    model = small(channels=16)
    for name, scale in parameter_scales(model, 12.0).items():
        if name.startswith(("layer", "embedding")) and ".product." not in name:
            rms = np.sqrt(np.mean((model.arrays[name] / scale) ** 2))
            assert 0.5 < rms < 2, name  # a hundred or more normal numbers each; readouts have at least 16


def test_quieter_models_are_measured_in_smaller_units() -> None:
    model = small(channels=16)
    usual, scales = parameter_scales(model, 12.0), scales_as_drawn(quieter(model, 0.5), 12.0)
    for name, scale in scales.items():
        if ".mix.0" in name:
            assert scale == pytest.approx(0.5 * usual[name], rel=0.2), name  # a hundred or more normal numbers
        else:
            assert scale == usual[name], name


def test_repulsion_does_not_follow_the_scale(tmp_path: Path) -> None:
    from ase import Atoms

    energies = []
    for scale in (1.0, 5.0):
        model = new_model([8], ModelSettings(repulsion=True), E0, average_neighbors=5.0, scale=scale)
        for name in model.arrays:
            if "readout" in name:
                model.arrays[name][:] = 0
        path = tmp_path / f"{scale}.equipot"
        write_model(model, path)
        pair = Atoms("O2", positions=[[0, 0, 0], [0, 0, 0.7]])
        energies.append(equipot.load(path).compute(pair, ("energy",))["energy"])
    assert energies[0] == pytest.approx(energies[1], rel=1e-9)  # splines of the same function
    assert energies[0] > 2 * E0[8] + 1


def test_what_trains() -> None:
    names = list(parameter_scales(small(), 1.0))
    free = trainable(names, ())
    assert "energy.e0" not in free
    assert "radial.frequencies" not in free
    assert {"embedding", "layer.0.radial.0", "layer.1.readout.1"} <= free
    assert not any(name.startswith("layer.0.") for name in trainable(names, ("layer.0.*",)))
    with pytest.raises(equipot.EquipotError, match=r"'embeding'; did you mean 'embedding'\?$"):
        trainable(names, ("embeding",))
    with pytest.raises(equipot.EquipotError, match=r"did you mean 'layer\.0\.\*'\?$"):
        trainable(names, ("layers.0",))
    with pytest.raises(equipot.EquipotError, match="nothing is left"):
        trainable(names, ("*",))


def test_a_new_head_begins_as_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "two.equipot"
    write_model(add_head(small(), "mine", "Default"), path)
    atoms = random_atoms(3, ["H", "O"], count=6)
    old, new = (equipot.load(path, head=head).compute(atoms, ("energy",))["energy"] for head in ("Default", "mine"))
    assert old == new
    with pytest.raises(equipot.EquipotError, match="already"):
        add_head(small(), "Default", "Default")
