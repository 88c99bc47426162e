"""Training: what it recovers, what it repeats to the bit, and how it stops, resumes and refuses."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from copper import copper
from copper import dataset as copper_data
from models import random_model
from training import MODEL, SMALL, last, made_by, repeatable

import equipot
from equipot.data import DataSet, Structure
from equipot.fit import train, training_run
from equipot.fit.checkpoint import VERSION, CheckpointError, load_checkpoint, save_checkpoint
from equipot.fit.datasets import DataSets
from equipot.fit.objective import Graphs, batches
from equipot.modelfile import read_model, write_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Labels from a model of the family that is trained."""
    path = tmp_path_factory.mktemp("truth") / "truth.equipot"
    random_model(
        path,
        seed=5,
        species=(8, 14),
        cutoff=4.0,
        channels=4,
        l_max=1,
        hidden_l=(0,),
        correlation=2,
        layers=1,
        mixing="species",
        skip=False,
        size=5,
        widths=(8,),
        readout_width=4,
    )
    return made_by(path, 16)


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process make no pictures and reports, which take longer than the training, unless asked to."""
    if "report" not in request.fixturenames:
        monkeypatch.setattr("equipot.evaluate.parity_picture", lambda *arguments: None)
        monkeypatch.setattr("equipot.fit.report.write_report", lambda *arguments: None)


@pytest.fixture
def report() -> None:
    """Asks for pictures and reports."""


@pytest.fixture
def sets(data: DataSet) -> DataSets:
    return divided(data)


def divided(data: DataSet) -> DataSets:
    """The last two structures are free atoms; three others validate."""
    return DataSets(data[:-5] + data[-2:], data[-5:-2])


# -- what it learns -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("report")
def test_it_recovers_a_model_of_its_family(tmp_path: Path, sets: DataSets) -> None:
    before = np.concatenate([s.forces for s in sets.valid]).std()
    optimizer = {"algorithm": "lbfgs"}
    path = train(
        folder=tmp_path / "run", sets=sets, **{**SMALL, "epochs": 300, "optimizer": optimizer, "validate_every": 20}
    )
    first, final = repeatable(tmp_path / "run")[0], last(tmp_path / "run")
    # a dozen structures hold many more numbers than the model: what is left is how far 300 iterations get
    assert final["valid"]["forces_rmse"] < 0.1 * before
    assert final["valid"]["energy_rmse"] < 2e-3
    assert final["valid_loss"] < 0.01 * first["valid_loss"]
    assert (tmp_path / "run" / "report.html").exists()
    assert equipot.load(path).species == ["O", "Si"]


@pytest.mark.usefixtures("report")
def test_it_says_when_lbfgs_gets_no_further(
    tmp_path: Path, sets: DataSets, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "lbfgs", lambda objective, weights, iterations, callback: weights)
    train(
        folder=tmp_path, sets=sets, precision="mixed", **{**SMALL, "optimizer": {"algorithm": "lbfgs"}, "quiet": False}
    )
    words = " ".join(capsys.readouterr().err.split())
    assert 'finds no lower loss after 0 iterations; with precision = "float64"' in words
    assert "go on with --resume" not in words


@pytest.mark.parametrize("cutoff", [3.0, 5.0, 8.0])
def test_forces_start_at_those_of_the_data(tmp_path: Path, sets: DataSets, cutoff: float) -> None:
    """With few neighbours or eighty: sums that grow with them would start, and be moved, by high powers of them."""
    model = {**MODEL, "cutoff": cutoff, "layers": 2, "channels": 16, "correlation": 3}
    train(folder=tmp_path, sets=sets, **{**SMALL, "model": model, "epochs": 1})
    before = np.concatenate([s.forces for s in sets.valid]).std()
    # those of the data and of the model, at most alike, are independent
    assert repeatable(tmp_path)[0]["valid"]["forces_rmse"] < 2 * before


def test_errors_fall_with_adam(tmp_path: Path, sets: DataSets) -> None:
    train(folder=tmp_path, sets=sets, **{**SMALL, "epochs": 60}, second_phase={"share": 0.3})
    records = repeatable(tmp_path)
    # of the training data: with a dozen structures, others are predicted little better however long it trains
    assert records[-1]["train"]["forces_rmse"] < 0.5 * records[0]["valid"]["forces_rmse"]
    assert [r["phase"] for r in records[1:]] == [1] * 42 + [2] * 18


def test_the_log_tells_the_truth_about_the_model(tmp_path: Path, sets: DataSets) -> None:
    path = train(folder=tmp_path, sets=sets, **{**SMALL, "epochs": 5, "second_phase": {"share": 0}})
    best = min(repeatable(tmp_path), key=lambda record: record["valid_loss"])
    potential = equipot.load(path, radial="exact")
    results = potential.compute([s.atoms for s in sets.valid], ("forces", "energy"))
    forces = np.concatenate([r["forces"] - s.forces for r, s in zip(results, sets.valid, strict=True)])
    # fits and potentials compute radial functions on different grids: 1e-7 eV/Å
    assert np.sqrt(np.mean(forces**2)) == pytest.approx(best["valid"]["forces_rmse"], abs=1e-6)
    energies = [(r["energy"] - s.energy) / len(s) for r, s in zip(results, sets.valid, strict=True)]
    assert np.sqrt(np.mean(np.square(energies))) == pytest.approx(best["valid"]["energy_rmse"], abs=1e-8)


def test_missing_labels(tmp_path: Path, data: DataSet) -> None:
    mixed = [
        replace(s, energy=None if i % 3 == 0 else s.energy, forces=None if i % 3 == 1 else s.forces, virial=None)
        for i, s in enumerate(data)
        if len(s) > 1
    ]
    given = {8: float(data[-2].energy or 0), 14: float(data[-1].energy or 0)}
    train(folder=tmp_path, sets=DataSets(DataSet(mixed), DataSet(mixed[:3]), DataSet(), given), **SMALL)
    assert "stress_rmse" not in last(tmp_path)["valid"]


def test_forces_alone(tmp_path: Path, data: DataSet) -> None:
    bare = [replace(s, energy=None, virial=None) for s in data if len(s) > 1]
    train(folder=tmp_path, sets=DataSets(DataSet(bare[3:]), DataSet(bare[:3])), **{**SMALL, "epochs": 30})
    records = repeatable(tmp_path)
    assert records[-1]["valid"]["forces_rmse"] < 0.8 * records[0]["valid"]["forces_rmse"]
    assert "energy_rmse" not in records[-1]["valid"]


def test_estimated_energies_of_atoms_are_learned(tmp_path: Path, data: DataSet) -> None:
    # without free atoms their energies are not known, only that structures of one composition have a mean
    whole = [s for s in data if len(s) > 1]
    path = train(folder=tmp_path, sets=DataSets(DataSet(whole[3:]), DataSet(whole[:3])), **{**SMALL, "epochs": 30})
    first, best = repeatable(tmp_path)[0], min(repeatable(tmp_path)[1:], key=lambda r: r["valid"]["energy_rmse"])
    spread = np.std([(s.energy or 0) / len(s) for s in whole])
    assert first["valid"]["energy_rmse"] < 3 * spread, "a new model is right on average"
    assert best["valid"]["energy_rmse"] < spread
    start = read_model(tmp_path / "start.equipot")
    assert not np.array_equal(start.arrays["energy.e0"], read_model(path).arrays["energy.e0"])


def test_solids_count_from_free_atoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of whose energies the data know nothing, and without which a melt would boil."""
    data = copper_data([copper(seed) for seed in range(8)])
    mean = np.mean([(s.energy or 0.0) / len(s) for s in data])
    path = train(folder=tmp_path / "run", sets=DataSets(data[:6], data[6:]), **{**SMALL, "quiet": False})
    assert "Free atoms of Cu are not in the data" in " ".join(capsys.readouterr().err.split())
    for made in (tmp_path / "run" / "start.equipot", path):
        assert read_model(made).arrays["energy.e0"] == pytest.approx(mean + 3.49, abs=0.01)
    given = DataSets(data[:6], data[6:], DataSet(), {29: 1.0})
    path = train(folder=tmp_path / "given", sets=given, **{**SMALL, "quiet": False})
    assert "Free atoms" not in capsys.readouterr().err
    assert read_model(path).arrays["energy.e0"] == 1.0


def test_a_mean_shift_leaves_free_atoms_out(tmp_path: Path, sets: DataSets, capsys: pytest.CaptureFixture[str]) -> None:
    count = len(sets.train)
    train(folder=tmp_path, sets=sets, **{**SMALL, "quiet": False, "model": {**MODEL, "shift": "mean"}})
    assert "2 isolated atoms" in capsys.readouterr().err
    assert len(sets.train) == count
    # they lie some eV off such a model, bound structures do not
    assert repeatable(tmp_path)[-1]["train"]["energy_rmse"] < 0.5


def test_a_mean_shift_validates_on_what_it_trains_on(tmp_path: Path, sets: DataSets) -> None:
    train(folder=tmp_path, sets=DataSets(sets.train), **{**SMALL, "model": {**MODEL, "shift": "mean"}})
    best = min(repeatable(tmp_path), key=lambda record: record["valid_loss"])
    assert "atom" not in best["by_config_type"]
    errors = json.loads((tmp_path / "errors.json").read_text()) if (tmp_path / "errors.json").exists() else {}
    assert "valid" not in errors


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps(
    tmp_path: Path, sets: DataSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr("equipot.fit.display.Display.step", lambda self, *step: seen.append(step[3]))
    model = {**MODEL, "repulsion": True, "transform": None}
    # Of many guards each epoch takes some, all in one step with the data.
    train(folder=tmp_path, sets=sets, **{**SMALL, "model": model, "optimizer": {"batch_size": 1000}})
    logged = [record["train_loss"] for record in repeatable(tmp_path)][1:]
    assert logged == pytest.approx(seen, rel=1e-12)


# -- the same again -----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(tmp_path: Path, data: DataSet) -> None:
    models = [train(folder=tmp_path / name, sets=divided(data), **SMALL).read_bytes() for name in "ab"]
    assert models[0] == models[1]
    other = train(folder=tmp_path / "c", sets=divided(data), seed=2, **SMALL)
    assert other.read_bytes() != models[0]


def test_stopping_after_every_batch_changes_nothing(tmp_path: Path, data: DataSet) -> None:
    settings = {**SMALL, "second_phase": {"share": 0.4}, "optimizer": {"batch_size": 8}}
    through = train(folder=tmp_path / "through", sets=divided(data), **settings)
    folder = tmp_path / "pieces"
    train(folder=folder, sets=divided(data), max_hours=1e-9, **settings)
    for _ in range(30):
        state = (folder / "checkpoint.npz").read_bytes()
        # a new process knows nothing but the folder; so does a new run
        pieces = train(folder=folder, sets=divided(data), max_hours=1e-9, resume=True, **settings)
        if (folder / "checkpoint.npz").read_bytes() == state:
            break
    assert pieces.read_bytes() == through.read_bytes()
    assert repeatable(folder) == repeatable(tmp_path / "through")


@pytest.fixture
def run(tmp_path: Path, data: DataSet) -> tuple[Path, Callable[..., subprocess.Popen[str]]]:
    """A settings file with data, and a function that starts `equipot fit` on it."""
    frames = []
    for s in data:
        atoms = s.atoms.copy()
        atoms.info["REF_energy"] = s.energy
        atoms.info["config_type"] = s.config_type
        if s.forces is not None:
            atoms.arrays["REF_forces"] = s.forces
        frames.append(atoms)
    ase.io.write(tmp_path / "train.xyz", frames, format="extxyz")
    model = "\n".join(f"{k} = {json.dumps(v)}" for k, v in MODEL.items())
    (tmp_path / "fit.toml").write_text(
        f'kind = "train"\nepochs = 100000\ncheckpoint_minutes = 0\n[data]\ntrain = "train.xyz"\n[model]\n{model}\n'
    )

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "equipot.cli", "fit", str(tmp_path / "fit.toml"), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return tmp_path / "fit", start


def wait_for(folder: Path, lines: int, process: subprocess.Popen[str]) -> None:
    """Until the run has written so many lines of its log."""
    log, end = folder / "log.jsonl", time.monotonic() + 600
    while not log.exists() or len(log.read_bytes().splitlines()) < lines:
        if process.poll() is not None:
            pytest.fail(f"the run ended by itself: {process.stdout.read() if process.stdout else ''}")
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.02)


def test_a_killed_run_goes_on(run: tuple[Path, Callable[..., subprocess.Popen[str]]]) -> None:
    folder, start = run
    process = start()
    wait_for(folder, 3, process)
    process.kill()
    process.communicate()
    assert read_model(folder / "model.equipot").arrays, "the best model is whole at any time"
    epoch = int(load_checkpoint(folder / "checkpoint.npz")["epoch"])
    before = repeatable(folder)[: epoch + 1]
    refused = start()
    assert "--resume" in refused.communicate()[0]
    assert refused.returncode == 1
    again = start("--resume")
    wait_for(folder, epoch + 4, again)
    other = start("--resume")
    assert "Another process" in other.communicate()[0]
    again.kill()
    again.communicate()
    after = repeatable(folder)
    assert after[: len(before)] == before
    assert [record["epoch"] for record in after] == list(range(len(after)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_cleanly(run: tuple[Path, Callable[..., subprocess.Popen[str]]], number: int) -> None:
    folder, start = run
    process = start()
    wait_for(folder, 2, process)
    process.send_signal(number)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert "--resume" in output
    assert str(folder / "model.equipot") in output.splitlines()[-1]
    assert (folder / "report.html").exists()
    assert load_checkpoint(folder / "checkpoint.npz")["epoch"] >= 1


# -- what can go wrong ----------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.npz"
    state = {"epoch": 3, "best": float("inf"), "none": None, "inner": {"weights": np.arange(4.0)}}
    save_checkpoint(path, state)

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*--resume.*untouched"):
        save_checkpoint(path, {"epoch": 4})
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.npz"]
    back = load_checkpoint(path)
    assert back["epoch"] == 3
    assert back["best"] == float("inf")
    assert back["none"] is None
    assert np.array_equal(back["inner"]["weights"], np.arange(4.0))


@pytest.mark.parametrize("keep", [0, 10, 200, 0.5, -1])
def test_damaged_checkpoints_are_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, {"weights": np.arange(100.0), "epoch": 3})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match="checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(("by", "age"), [(1, "newer"), (-1, "older")])
def test_checkpoints_of_other_versions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: int, age: str
) -> None:
    with monkeypatch.context() as other:
        other.setattr("equipot.fit.checkpoint.VERSION", VERSION + by)
        save_checkpoint(tmp_path / "checkpoint.npz", {"epoch": 3})
    with pytest.raises(CheckpointError, match=f"written by an? {age} equipot"):
        load_checkpoint(tmp_path / "checkpoint.npz")


def test_a_structure_that_cannot_be_fitted_is_named(tmp_path: Path, data: DataSet) -> None:
    structures = list(data)
    structures[4] = replace(structures[4], energy=1e300)
    given = {8: float(data[-2].energy or 0), 14: float(data[-1].energy or 0)}
    broken = DataSets(DataSet(structures[:-5]), DataSet(structures[-5:-2]), DataSet(), given)
    with pytest.raises(equipot.EquipotError, match=r"epoch 1.*memory#4.*learning\s*rate.*model.equipot"):
        train(folder=tmp_path, sets=broken, **SMALL)
    assert equipot.load(tmp_path / "model.equipot").species == ["O", "Si"]


def test_data_without_use(tmp_path: Path, data: DataSet) -> None:
    bare = DataSet([replace(s, energy=None, forces=None, virial=None) for s in data[:4]])
    with pytest.raises(equipot.EquipotError, match="no label"):
        train(folder=tmp_path / "a", sets=DataSets(bare, bare, DataSet(), {8: 0.0, 14: 0.0}), **SMALL)
    with pytest.raises(equipot.EquipotError, match="no structures"):
        DataSets(DataSet())
    foreign = DataSet([Structure(Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.8]]), energy=1.0, source="h.xyz#0")])
    with pytest.raises(equipot.EquipotError, match=r"valid has H \(h.xyz#0\)"):
        DataSets(data, foreign)
    with pytest.raises(equipot.EquipotError, match=r"'liqid'; did you mean 'liquid'\?$"):
        train(folder=tmp_path / "b", sets=divided(data), loss={"config_weights": {"liqid": 2.0}}, **SMALL)
    assert not list(tmp_path.iterdir()), "what never began leaves no folder behind"


def test_atoms_on_top_of_each_other_are_named(tmp_path: Path, data: DataSet) -> None:
    for name, distance in (("same", 0.0), ("close", 0.3)):
        pair = Atoms("O2", positions=[[1, 1, 1], [1, 1, 1 + distance]])
        both = data + DataSet([Structure(pair, energy=1.0, source="bad.xyz#7")])
        with pytest.raises(equipot.EquipotError, match=r"bad.xyz#7"):
            train(folder=tmp_path / name, sets=DataSets(both), **SMALL)


def test_mixed_precision_learns_the_same(tmp_path: Path, data: DataSet) -> None:
    for precision in ("float64", "mixed"):
        train(folder=tmp_path / precision, sets=divided(data), precision=precision, **SMALL)
    double, mixed = (repeatable(tmp_path / name)[-1] for name in ("float64", "mixed"))
    # round-off of 1e-7 per step, a dozen steps
    assert mixed["valid_loss"] == pytest.approx(double["valid_loss"], rel=1e-3)


def test_one_structure_is_enough(tmp_path: Path, data: DataSet) -> None:
    path = train(folder=tmp_path, sets=DataSets(data[:1]), **SMALL)
    assert np.isfinite(last(tmp_path)["valid_loss"])
    assert equipot.load(path).layers == 1


def test_settings_and_data_may_not_change_under_a_run(tmp_path: Path, data: DataSet) -> None:
    train(folder=tmp_path / "run", sets=divided(data), **SMALL)
    with pytest.raises(equipot.EquipotError, match=r"model.channels was 4 and is now 5"):
        train(folder=tmp_path / "run", sets=divided(data), resume=True, **{**SMALL, "model": {**MODEL, "channels": 5}})
    moved = DataSet([replace(s, energy=(s.energy or 0) + 1) for s in data])
    with pytest.raises(equipot.EquipotError, match="data have changed"):
        train(folder=tmp_path / "run", sets=divided(moved), resume=True, **SMALL)
    with pytest.raises(equipot.EquipotError, match="not empty"):
        train(folder=tmp_path / "run", sets=divided(data), **SMALL)
    with pytest.raises(equipot.EquipotError, match=r"data.train was .*other.xyz"):
        train(folder=tmp_path / "run", sets=divided(data), resume=True, data={"train": ["other.xyz"]}, **SMALL)
    train(folder=tmp_path / "run", sets=divided(data), resume=True, **{**SMALL, "epochs": 4})
    assert last(tmp_path / "run")["epoch"] == 4


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_new_run_keeps_the_old_one(tmp_path: Path, data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    path, settings = tmp_path / "run", {**SMALL, "epochs": 1}
    first = train(folder=path, sets=divided(data), again=True, **settings).read_bytes()
    (path / "notes.txt").write_text("mine")
    capsys.readouterr()
    second = train(folder=path, sets=divided(data), again=True, **{**settings, "seed": 2, "quiet": False}).read_bytes()
    assert f"The run that was in '{path}' is kept in '{path}.1'." in said(capsys)
    assert (tmp_path / "run.1" / "model.equipot").read_bytes() == first != second
    assert (tmp_path / "run.1" / "notes.txt").read_text() == "mine"
    assert not (path / "notes.txt").exists()
    # what fails before there is anything of it leaves the old one where it was
    with pytest.raises(equipot.EquipotError, match="config_weights"):
        train(folder=path, sets=divided(data), again=True, loss={"config_weights": {"ice": 2.0}}, **settings)
    assert (path / "model.equipot").read_bytes() == second
    train(folder=path, sets=divided(data), again=True, **settings)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "run.1", "run.2"]
    with pytest.raises(equipot.EquipotError, match="choose one of them"):
        train(folder=path, sets=divided(data), again=True, resume=True, **settings)


def test_what_no_new_run_may_replace(
    tmp_path: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch, run: tuple[Path, Callable[..., Any]]
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(equipot.EquipotError, match="not that of a run"):
        train(folder=tmp_path / "other", sets=divided(data), again=True, **SMALL)
    train(folder=tmp_path / "here", sets=divided(data), **SMALL)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(equipot.EquipotError, match="the one that you are in"):
        train(folder=".", sets=divided(data), again=True, **SMALL)
    folder, start = run
    process = start()
    wait_for(folder, 2, process)
    other = start("--again")
    assert "Another process" in other.communicate()[0]
    process.kill()
    process.communicate()
    assert (folder / "log.jsonl").exists()


def test_what_there_is_to_resume_is_told(tmp_path: Path, data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**SMALL, "quiet": False, "epochs": 2}
    train(folder=tmp_path / "run", sets=divided(data), resume=True, **settings)
    assert f"There is no run in '{tmp_path / 'run'}' to resume: a new one starts." in said(capsys)
    train(folder=tmp_path / "run", sets=divided(data), resume=True, **settings)
    words = said(capsys)
    assert "This run was finished after epoch 2; raise epochs to train further." in words
    assert "Going on" not in words
    assert "no run in" not in words
    train(folder=tmp_path / "run", sets=divided(data), resume=True, **{**settings, "epochs": 3})
    assert "Going on from epoch 3." in said(capsys)


def test_a_linear_fit_is_not_resumed(tmp_path: Path, data: DataSet) -> None:
    (tmp_path / "settings.toml").write_text('kind = "linear"\n[basis]\nchannels = 4\n')
    with pytest.raises(equipot.EquipotError, match="folder of a linear fit, which takes seconds and is not resumed"):
        train(folder=tmp_path, sets=divided(data), resume=True, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["settings.toml"]


def test_one_is_not_counted_as_many(tmp_path: Path, data: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    train(folder=tmp_path, sets=DataSets(data[:-5] + data[-2:], data[-3:-2]), **{**SMALL, "quiet": False, "epochs": 1})
    assert "validating on 1 structure." in said(capsys)


def test_models_of_unfinished_runs_have_errors_like_others(
    tmp_path: Path, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run.TrainingRun, "finish", lambda run: None)
    path = train(folder=tmp_path, sets=divided(data), **{**SMALL, "epochs": 1})
    record = min(repeatable(tmp_path), key=lambda record: record["valid_loss"])["valid"]
    errors = read_model(path).card["errors"]["valid"]
    assert errors["forces_rmse"] == pytest.approx(1e3 * record["forces_rmse"], rel=1e-5)
    assert errors["stress_rmse"] == pytest.approx(160.21766 * record["stress_rmse"], rel=1e-5)


def test_a_refused_run_lets_others_in(tmp_path: Path, data: DataSet) -> None:
    train(folder=tmp_path, sets=divided(data), **SMALL)
    with pytest.raises(equipot.EquipotError) as kept:  # as a notebook keeps the last one
        train(folder=tmp_path, sets=divided(data), resume=True, **{**SMALL, "seed": 9})
    train(folder=tmp_path, sets=divided(data), resume=True, **SMALL)
    assert "seed" in str(kept.value)


def test_a_project_may_move(run: tuple[Path, Callable[..., subprocess.Popen[str]]], tmp_path: Path) -> None:
    folder, start = run
    process = start()
    wait_for(folder, 2, process)
    process.kill()
    process.communicate()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("fit", "fit.toml", "train.xyz"):
        (tmp_path / name).rename(moved / name)
    settings = {"resume": True, "epochs": load_checkpoint(moved / "fit" / "checkpoint.npz")["epoch"] + 1}
    train(moved / "fit.toml", quiet=True, **settings)
    assert last(moved / "fit")["epoch"] == settings["epochs"]


def test_patience(tmp_path: Path, sets: DataSets) -> None:
    settings = {**SMALL, "epochs": 200, "optimizer": {"learning_rate": 1e-300, "average": 0.0}, "patience": 2}
    train(folder=tmp_path, sets=sets, second_phase={"share": 0.5, "learning_rate": 1e-300}, **settings)
    phases = [r["phase"] for r in repeatable(tmp_path)]
    assert 1 in phases
    assert 2 in phases
    assert len(phases) < 30, "weights that do not move do not improve"


def test_a_second_phase_that_only_harms_changes_nothing(tmp_path: Path, sets: DataSets) -> None:
    settings = {**SMALL, "epochs": 6, "optimizer": {"batch_size": 3, "average": 0.0}}
    path = train(folder=tmp_path, sets=sets, second_phase={"share": 0.5, "learning_rate": 10.0}, **settings)
    records = repeatable(tmp_path)
    assert not any(record["best"] for record in records if record["phase"] == 2)
    best = max(record["epoch"] for record in records if record["best"])
    assert read_model(path).card["training"]["epoch"] == best <= 3


def test_atoms_out_of_reach_are_refused(tmp_path: Path, sets: DataSets) -> None:
    with pytest.raises(equipot.EquipotError, match=r"No two atoms .* within 0.7 Å"):
        train(folder=tmp_path / "run", sets=sets, **{**SMALL, "model": {**MODEL, "cutoff": 0.7}})
    assert not (tmp_path / "run").exists()


# -- starting from a model ------------------------------------------------------------------------------------------


def test_fine_tuning(tmp_path: Path, data: DataSet) -> None:
    first = train(folder=tmp_path / "first", sets=divided(data), **{**SMALL, "epochs": 20})
    older = read_model(first)  # with what a linear fit says of itself
    older.card.update({"title": "mine", "range": "everything"})
    older.arrays["posterior.factor"] = np.eye(2)
    write_model(older, first)
    # another level of theory: other energies of free atoms, and forces a little larger
    other = DataSet(
        [
            replace(
                s,
                energy=1.1 * (s.energy or 0) + 3.0 * int((s.atoms.numbers == 8).sum()),
                forces=None if s.forces is None else 1.1 * s.forces,
                virial=None if s.virial is None else 1.1 * s.virial,
            )
            for s in data
        ]
    )
    path = train(
        folder=tmp_path / "second",
        sets=divided(other),
        start={"model": str(first), "new_head": "mine", "freeze": ["layer.0.radial.*"]},
        **{**SMALL, "epochs": 30},
    )
    old, new = read_model(first), read_model(path)
    assert new.card["title"] == "mine, fine-tuned"
    assert "seen" not in new.card
    assert "range" not in new.card
    assert "posterior.factor" not in new.arrays
    assert new.meta["heads"] == ["Default", "mine"]
    assert np.array_equal(old.arrays["layer.0.radial.0"], new.arrays["layer.0.radial.0"])
    assert not np.array_equal(old.arrays["embedding"], new.arrays["embedding"])
    start = equipot.load(tmp_path / "second" / "start.equipot", head="mine")
    assert start.compute(Atoms("O"), ("energy",))["energy"] == pytest.approx(other[-2].energy, abs=1e-6)
    shutil.rmtree(tmp_path / "second")
    with pytest.raises(equipot.EquipotError, match=r"no head 'Defalt'; did you mean 'Default'\?$"):
        train(folder=tmp_path / "second", sets=divided(other), start={"model": str(first), "head": "Defalt"}, **SMALL)


def test_models_that_are_lost_in_single_precision_are_refused(tmp_path: Path, data: DataSet) -> None:
    """As linear fits may be: large terms that cancel."""
    first = train(folder=tmp_path / "first", sets=divided(data), **SMALL)
    model = read_model(first)
    model.arrays["energy.scale"] *= 1e7
    write_model(model, first)
    table = {**SMALL, "precision": "mixed", "start": {"model": str(first)}}
    with pytest.raises(equipot.EquipotError, match=r'"mixed" is too coarse .* meV/atom .* precision = "float64"'):
        train(folder=tmp_path / "second", sets=divided(data), **table)


def test_training_that_only_makes_it_worse_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = tmp_path / "truth.equipot"
    random_model(
        truth, seed=5, species=(8, 14), cutoff=4.0, channels=4, l_max=1, hidden_l=(0,), correlation=2, layers=1
    )
    table = {"epochs": 2, "start": {"model": str(truth)}, "optimizer": {"learning_rate": 0.01}}
    path = train(folder=tmp_path / "run", sets=divided(made_by(truth)), **table)
    assert "No epoch was better than the model that training began with" in capsys.readouterr().err.replace("\n", " ")
    assert read_model(path).card["training"]["epoch"] == 0


def test_replay_keeps_the_old_head(tmp_path: Path, data: DataSet, run: tuple[Path, Any]) -> None:
    first = train(folder=tmp_path / "first", sets=divided(data), **{**SMALL, "epochs": 5})
    start = {"model": str(first), "new_head": "mine", "replay": [str(tmp_path / "train.xyz")], "replay_weight": 0.5}
    path = train(folder=tmp_path / "second", sets=divided(data), start=start, **SMALL)
    model = read_model(path)
    assert not np.array_equal(model.arrays["layer.0.readout.0"][0], model.arrays["layer.0.readout.0"][1])
    assert not np.array_equal(model.arrays["layer.0.readout.0"][0], read_model(first).arrays["layer.0.readout.0"][0])


# -- batches --------------------------------------------------------------------------------------------------------


def test_batches_hold_every_structure_once() -> None:
    atoms = np.array([3, 50, 2, 8, 8, 8, 100, 1])
    order = np.random.default_rng(0).permutation(8)
    for parts in (batches(atoms, order, 3, None), batches(atoms, order, 3, 20), batches(atoms, order, 3, 1000)):
        assert np.array_equal(np.concatenate(parts), order)
    assert [len(p) for p in batches(atoms, order, 3, None)] == [3, 3, 2]
    assert all(atoms[p].sum() >= 20 for p in batches(atoms, order, 3, 20)[:-1])


def test_graphs_that_do_not_fit_into_memory_are_made_when_needed(data: DataSet) -> None:
    kept, made = Graphs(data, 4.0), Graphs(data, 4.0, edges_kept=10)
    assert made.average_neighbors == pytest.approx(kept.average_neighbors)
    indices = np.array([3, 1])
    graphs, places = made.batch(indices)
    everything, same = kept.batch(indices)
    assert len(graphs) == 2
    assert list(np.asarray(graphs.edges)[places]) == list(np.asarray(everything.edges)[same])
