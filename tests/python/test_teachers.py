"""Teachers: what they label is their mean where they agree, and runs that have some resume to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import random_model
from structures import random_atoms

import equipot
from equipot.data import DataSet, Structure
from equipot.fit import SettingsError, side_by_side, train
from equipot.fit.datasets import DataSets
from equipot.fit.display import Display
from equipot.fit.objective import graph_set
from equipot.fit.settings import build
from equipot.fit.teachers import Taught, Teachers, read_taught, teach, write_taught
from equipot.fit.training_settings import TeacherSettings, TrainSettings
from equipot.modelfile import read_model, write_model

pytestmark = pytest.mark.usefixtures("no_pictures")

E0 = {8: -430.0, 14: -100.0}


def committee(folder: Path, cutoffs: tuple[float, ...] = (4.0, 4.0), differ: float = 0.02) -> list[Path]:
    """Models that differ by a few per cent."""
    paths = []
    for k, cutoff in enumerate(cutoffs):
        path = folder / f"{k}.equipot"
        random_model(
            path, seed=5, species=(8, 14), cutoff=cutoff, channels=4, l_max=1, hidden_l=(0,), correlation=2, layers=1
        )
        model = read_model(path)
        for name, array in model.arrays.items():
            if name.startswith("layer."):
                model.arrays[name] = array * (1 + differ * k)
        write_model(model, path)
        paths.append(path)
    return paths


def labelled(path: Path, count: int = 6, virials: bool = False) -> list[Structure]:
    """Crystals and, every third, a molecule without a cell."""
    potential, made = equipot.load(path, radial="exact"), []
    for k in range(count):
        atoms = random_atoms(k, ["O", "Si"], count=8, closest=1.7)
        if k % 3 == 2:
            atoms.cell, atoms.pbc = None, False
        found = potential.compute(atoms, ("energy", "forces", "virial"))
        # of the molecules some files have one, too, which means nothing without a volume
        virial = found["virial"] if atoms.pbc.any() or virials else None
        made.append(Structure(atoms, found["energy"], found["forces"], virial, f"type{k % 2}", source=f"memory#{k}"))
    return made


def evaluated(teachers: Teachers, data: list[Structure]) -> dict[str, np.ndarray]:
    atoms = [s.atoms for s in data]
    return dict(teachers(graph_set(atoms, teachers.cutoff), atoms))


def test_teachers_give_means_and_what_they_differ_by(tmp_path: Path) -> None:
    paths = committee(tmp_path, cutoffs=(4.0, 4.4, 4.0))
    data = labelled(paths[0])
    found = evaluated(Teachers(paths, "float64"), data)
    single = [
        [equipot.load(path, radial="exact").compute(s.atoms, ("energy", "forces", "virial")) for s in data]
        for path in paths
    ]
    for i in range(len(data)):
        forces = np.array([one[i]["forces"] for one in single])
        # training has splines for radial functions, also in double precision
        assert found["energy"][i] == pytest.approx(np.mean([one[i]["energy"] for one in single]), rel=1e-11)
        np.testing.assert_allclose(found["virial"][i], np.mean([one[i]["virial"] for one in single], axis=0), atol=1e-8)
        spread = np.sqrt(np.mean((forces - forces.mean(axis=0)) ** 2))
        assert spread > 0.01
        assert found["spread"][i] == pytest.approx(spread, rel=1e-6)  # forces agree to 1e-9


def test_taught_structures_are_where_dynamics_leads_and_have_the_mean_as_labels(tmp_path: Path) -> None:
    teachers = Teachers(committee(tmp_path), "float64")
    data = labelled(teachers.paths[0], virials=True)
    settings = TeacherSettings(models=("a", "b"), temperatures=(300.0, 900.0), structures=19)
    made = teach(teachers, data, settings, seed=3)
    assert made is not None
    assert len(made) == 19
    found = evaluated(teachers, [one.structure for one in made])
    begin = 0
    for i, one in enumerate(made):
        s = one.structure
        assert one.spread == pytest.approx(found["spread"][i], rel=1e-9)
        assert s.energy == pytest.approx(found["energy"][i], rel=1e-12)
        assert s.forces is not None
        np.testing.assert_allclose(s.forces, found["forces"][begin : begin + len(s)], atol=1e-9)
        begin += len(s)
        assert (s.virial is None) == (not s.atoms.pbc.any())
        assert min(np.abs(s.atoms.positions - d.atoms.positions).max() for d in data) > 0.01
    again = teach(teachers, data, settings, seed=3)
    assert again is not None
    assert all(
        np.array_equal(a.structure.atoms.positions, b.structure.atoms.positions)
        for a, b in zip(made, again, strict=True)
    )


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    data = labelled(committee(tmp_path)[0])
    write_taught(tmp_path / "taught.xyz", [Taught(s, 0.1) for s in data])
    for a, b in zip(data, read_taught(tmp_path / "taught.xyz"), strict=True):
        assert b.config_type == a.config_type
        assert b.energy == pytest.approx(a.energy, abs=1e-7)
        # extended XYZ has eight decimals
        np.testing.assert_allclose(b.forces, a.forces, atol=1e-8)
        assert (a.virial is None) == (b.virial is None)
        if a.virial is not None:
            np.testing.assert_allclose(b.virial, a.virial, atol=1e-5)


def test_teachers_who_do_not_know_are_refused(tmp_path: Path) -> None:
    paths = committee(tmp_path)
    data = labelled(paths[0])
    opposite = read_model(paths[1])
    opposite.arrays["energy.scale"] = -opposite.arrays["energy.scale"]
    write_model(opposite, paths[1])
    with pytest.raises(equipot.EquipotError, match=r"agreed on the forces of \d+ structures instead of 8"):
        teach(Teachers(paths), data, TeacherSettings(models=("a",), structures=8), seed=1)
    carbon = [*data, Structure(random_atoms(1, ["C"], count=4), 0.0, np.zeros((4, 3)))]
    with pytest.raises(equipot.EquipotError, match="has no C, which the data have"):
        teach(Teachers(paths), carbon, TeacherSettings(models=("a",)), seed=1)
    random_model(tmp_path / "heads.equipot", species=(8, 14), heads=("one", "two"))
    with pytest.raises(equipot.EquipotError, match="several heads"):
        Teachers([tmp_path / "heads.equipot"])
    with pytest.raises(SettingsError, match=r"leave \[start\] model out"):
        train(sets=DataSets(DataSet(data)), teachers={"count": 2}, start={"model": str(paths[0])})


def with_teachers(folder: Path) -> dict[str, Any]:
    """Settings of a short run with two teachers."""
    data = DataSet(labelled(committee(folder)[0]))
    return {
        "sets": DataSets(data, data, DataSet(), dict(E0)),
        "epochs": 3,
        "teachers": {"count": 2, "structures": 10, "temperatures": [300.0]},
        "model": {"channels": 4, "layers": 1, "l_max": 1, "correlation": 2, "cutoff": 4.0, "repulsion": False},
        "optimizer": {"learning_rate": 1e-3, "batch_size": 8},
        "quiet": True,
    }


def test_a_run_with_teachers_resumes_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_teachers(tmp_path)
    through = train(folder=tmp_path / "through", **settings)
    assert len(read_taught(tmp_path / "through" / "taught.xyz")) == 10
    one, two = (read_model(tmp_path / "through" / "teachers" / k / "model.equipot") for k in ("1", "2"))
    assert not np.array_equal(one.arrays["embedding"], two.arrays["embedding"])
    folder, patience = tmp_path / "pieces", 1

    @contextmanager
    def short_of_time(_: float | None) -> Iterator[Callable[[], str]]:
        asked = iter(range(patience))
        yield lambda: "the test" if next(asked, None) is None else ""

    monkeypatch.setattr(sys.modules["equipot.fit.train"], "wish_to_stop", short_of_time)
    pieces = train(folder=folder, **settings)
    assert pieces == folder / "teachers" / "1" / "model.equipot"
    while pieces != folder / "model.equipot" or pieces.read_bytes() != through.read_bytes():
        assert patience < 1e6
        patience *= 4
        pieces = train(folder=folder, resume=True, **settings)
    assert pieces == folder / "model.equipot"
    assert pieces.read_bytes() == through.read_bytes()


def test_the_time_of_a_run_covers_its_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_teachers(tmp_path)
    now = time.monotonic
    paths = committee(tmp_path)
    settings["teachers"] = {"models": [str(path) for path in paths], "structures": 10, "temperatures": [300.0]}

    def an_hour_later(*_: object) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: now() + 4e3)

    monkeypatch.setattr(Teachers, "check_species", an_hour_later)  # as the dynamics begin
    assert train(folder=tmp_path / "run", max_hours=1.0, **settings) == paths[-1]
    assert not (tmp_path / "run" / "taught.xyz").exists()


def test_a_teacher_that_fails_leaves_what_is_there(tmp_path: Path) -> None:
    settings, run = with_teachers(tmp_path), tmp_path / "run"
    through = train(folder=tmp_path / "through", **settings)
    (run / "teachers" / "2").mkdir(parents=True)
    with open(run / "teachers" / "2" / "log.jsonl", "w") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with pytest.raises(equipot.EquipotError, match=r"Teacher 2: Another process is at work"):
            train(folder=run, resume=True, **settings)
    first = read_model(run / "teachers" / "1" / "model.equipot")
    assert np.isfinite(first.arrays["embedding"]).all()
    assert (run / "settings.toml").exists()
    assert train(folder=run, resume=True, **settings).read_bytes() == through.read_bytes()


def test_a_teacher_whose_process_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_CHILD", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(equipot.EquipotError, match=r"Teacher 1 ended before its time, by SIGKILL \(was memory short"):
        train(folder=tmp_path / "run", **with_teachers(tmp_path))
    assert not (tmp_path / "run").exists()


def test_teachers_stop_when_they_are_asked_to(tmp_path: Path) -> None:
    settings = with_teachers(tmp_path)
    sets = settings.pop("sets")
    settings |= {"epochs": 100_000, "threads": 1, "teachers": {}, "data": {"train": []}}
    del settings["quiet"]
    own = build(TrainSettings, settings, "these")
    folders = [tmp_path / "1", tmp_path / "2"]
    found = side_by_side.side_by_side(
        dict.fromkeys(folders, own), sets, 2, ["one", "two"], Display(quiet=True), lambda: "this test"
    )
    # The second starts once the first has begun, by when that has been told to stop.
    assert found == [side_by_side.Trained(folders[0] / "model.equipot", unfinished=True)]
    assert found[0].model.exists()
    assert not folders[1].exists()


def test_data_that_cannot_be_trained_on_leave_nothing_behind(tmp_path: Path) -> None:
    data = labelled(committee(tmp_path)[0])
    assert data[0].forces is not None
    data[0].forces = data[0].forces[:3]
    with pytest.raises(equipot.EquipotError, match="memory#0"):
        train(
            folder=tmp_path / "run",
            sets=DataSets(DataSet(data), DataSet(data), atomic_energies=dict(E0)),
            teachers={"count": 2},
            quiet=True,
        )
    assert not (tmp_path / "run").exists()
