"""Train a model of MACE's kind: from data and settings, by way of teachers if they are asked for, to a model file."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from equipot import _equipot
from equipot.data import DataSet
from equipot.data.progress import without_bars
from equipot.data.structures import counted
from equipot.fit.datasets import DataSets, read_sets
from equipot.fit.display import Display
from equipot.fit.interrupts import wish_to_stop
from equipot.fit.runfolder import RunFolder, check_folder, holds_run, set_aside
from equipot.fit.settings import SettingsError, gather, use_threads
from equipot.fit.side_by_side import side_by_side
from equipot.fit.teachers import Teachers, teach, write_taught
from equipot.fit.training_run import complete
from equipot.fit.training_settings import TeacherSettings, TrainSettings


def train(
    settings: TrainSettings | Mapping[str, Any] | str | Path | None = None,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    again: bool = False,
    sets: DataSets | None = None,
    quiet: bool = False,
    **sections: Any,
) -> Path:
    """Train a model.

    Parameters
    ----------
    settings : TrainSettings, mapping or path, optional
        The settings, or a TOML file with them (see ``equipot fit --example``).
    folder : path-like, optional
        The run's folder, instead of that in the settings. It must not hold anything unless `resume` or `again`.
    resume : bool
        Go on with the run in the folder, from its last checkpoint.
    again : bool
        Start anew where there is a run already, whose folder is kept under another name.
    sets : DataSets, optional
        Data in memory, instead of the files of [data].
    quiet : bool
        Show nothing.
    **sections
        Settings by name, on top of `settings`: values, or tables for sections, as in ``model={"channels": 16}``.

    Returns
    -------
    pathlib.Path
        The model file with the best loss on the validation set. Beside it lie tables of errors, in meV/atom, meV/Å and
        GPa (``errors.json``), the log of errors, in eV/atom, eV/Å and eV/Å³ (``log.jsonl``), pictures and
        ``report.html``.

    Raises
    ------
    EquipotError
        For wrong settings and data, folders in use, and losses that are not finite.
    """
    chosen, default = _settings(settings, sections, sets is not None)
    path = Path(folder or chosen.folder or default)
    until = None if chosen.max_hours is None else time.monotonic() + 3600 * chosen.max_hours
    display = Display(quiet=quiet)
    use_threads(chosen.threads, display.note)
    if again and resume:
        raise SettingsError("--again starts a new run and --resume goes on with the old one: choose one of them.")
    with set_aside(path, display.note) if again else nullcontext(), without_bars(quiet):
        check_folder(path, resume=resume)
        if resume and not holds_run(path):
            display.note(f"There is no run in '{path}' to resume: a new one starts.")
        # read before the folder is made: a mistake in the data leaves nothing behind
        data = sets if sets is not None else read_sets(chosen.data, chosen.seed)
        run_folder = RunFolder(path, chosen, resume)
        try:
            with wish_to_stop(until) as stopped:
                return _run(chosen, data, run_folder, display, stopped)
        finally:
            display.close()
            run_folder.close()


def _run(
    settings: TrainSettings, data: DataSets, folder: RunFolder, display: Display, stopped: Callable[[], str]
) -> Path:
    """Train the teachers, if there are any to be, and the model, or go on with them."""
    for note in data.notes:
        display.note(note)
    if settings.taught and not folder.taught.exists():
        unfinished = _teach(settings, data, folder, display, stopped)
        if unfinished is not None:
            display.note("The model itself has not been trained yet; this is one of its teachers.")
            return unfinished
    return complete(settings, data, folder, display, stopped).folder.model


def _teach(
    settings: TrainSettings,
    data: DataSets,
    folder: RunFolder,
    display: Display,
    stopped: Callable[[], str],
) -> Path | None:
    """Train the teachers and write what they teach; where training stops before, the model that it has come to."""
    untested = copy(data)
    untested.test = DataSet()
    paths = [Path(path) for path in settings.teachers.models]
    count, at_once = settings.teachers.count, max(1, min(settings.teachers.count, _equipot.threads()))
    if count:
        runs = {
            folder.teachers / str(k): replace(
                settings, seed=settings.seed + k, teachers=TeacherSettings(), threads=_equipot.threads() // at_once
            )
            for k in range(1, count + 1)
        }
        display.note(f"\nTraining {counted(count, 'teacher')}, {at_once} at a time …")
        with folder.beginning():
            trained = side_by_side(
                runs, untested, at_once, [f"Teacher {k}" for k in range(1, count + 1)], display, stopped
            )
        unfinished = [one.model for one in trained if one.unfinished]
        if unfinished or len(trained) < count:
            return (unfinished or [one.model for one in trained])[0]
        paths += [one.model for one in trained]
    mean = f"the mean of {len(paths)} teachers" if len(paths) > 1 else "one teacher"
    display.note(f"\nDynamics with {mean}, to label structures that the data lack …")
    made = teach(Teachers(paths, settings.precision), data.train, settings.teachers, settings.seed, stopped)
    if made is None:
        display.note(f"Stopped by {stopped()} before anything was taught; go on with --resume.")
        return paths[-1]
    spread = 1e3 * np.array([one.spread for one in made])
    display.note(
        f"{counted(len(made), 'structure')}, on whose forces the teachers differ from their mean by "
        f"{np.sqrt(np.mean(spread**2)):.3g} meV/Å, by {spread.max():.3g} on one ('spread' in {folder.taught.name})."
    )
    write_taught(folder.taught, made)
    return None


def _settings(given: Any, sections: Mapping[str, Any], in_memory: bool) -> tuple[TrainSettings, str]:
    """Give the settings and the folder that the run gets if they name none."""
    settings, name, base, default = gather(TrainSettings, given, sections, in_memory=in_memory)
    if not in_memory and not settings.data.train:
        raise SettingsError(f"{name}, [data]: train names no file.")
    return settings.relative_to(base), default
