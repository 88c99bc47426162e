"""The folder of a training run: made once, locked while in use, with its settings, log, checkpoint and model."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from equipot import EquipotError
from equipot.files import write_file
from equipot.fit.checkpoint import WHERE_TO_GO_ON, load_checkpoint, save_checkpoint
from equipot.fit.settings import Settings, build, read_toml, to_dict, to_toml

# What may differ when a run is resumed: how long it goes on, not what it computes.
_FREE_TO_CHANGE = {
    *("folder", "epochs", "patience", "max_hours", "validate_every", "checkpoint_minutes", "threads"),
    "data.test",
}

_FILES = {"data.train", "data.valid", "data.test", "start.model", "start.replay", "teachers.models"}


class RunFolder:
    """The folder of a run, opened for one process.

    Parameters
    ----------
    path : path-like
        The folder; must not hold anything unless `resume`.
    settings : Settings
        Of the run; when it is resumed they must be those that it began with, except for how long it runs.
    resume : bool
        Go on with what the folder holds; start if there is nothing.

    Raises
    ------
    EquipotError
        When there is a run already, or another process at work in it, or the settings differ.
    """

    def __init__(self, path: Path, settings: Settings, resume: bool) -> None:
        self.path = path
        check_folder(path, resume=resume)
        self._new = not path.exists() or not any(path.iterdir())
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._log: TextIO = open(path / "log.jsonl", "a+", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise EquipotError(f"Cannot write to the run's folder '{path}': {error.strerror}.") from error
        _lock(self._log, path)
        for left in path.glob(".*.tmp"):  # by a process that was killed while writing
            left.unlink(missing_ok=True)
        saved = path / "settings.toml"
        try:
            if saved.exists():
                _check_same(build(type(settings), read_toml(saved), str(saved)), settings, path)
            self.write_text("settings.toml", to_toml(to_dict(settings)))
        except EquipotError:
            self.close()
            raise

    @property
    def model(self) -> Path:
        """The best model so far."""
        return self.path / "model.equipot"

    @property
    def start(self) -> Path:
        """The model that training began with."""
        return self.path / "start.equipot"

    @property
    def teachers(self) -> Path:
        """The folder with the runs of its teachers."""
        return self.path / "teachers"

    @property
    def taught(self) -> Path:
        """What the teachers have labelled."""
        return self.path / "taught.xyz"

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.path / "checkpoint.npz", state)

    def load(self) -> dict[str, Any] | None:
        """Read the checkpoint, if there is one."""
        path = self.path / "checkpoint.npz"
        return load_checkpoint(path) if path.exists() else None

    def log(self, record: Mapping[str, Any]) -> None:
        """Add a line to the log: errors are in eV/atom, eV/Å and eV/Å³, by which they are weighed in the loss."""
        try:
            self._log.write(json.dumps(record, ensure_ascii=False) + "\n")
            self._log.flush()
        except OSError as error:
            raise EquipotError(f"Cannot write the log in '{self.path}': {error.strerror}.") from error

    def keep_log(self, before: int) -> list[dict[str, Any]]:
        """Give the log up to an epoch and drop what was written after it, which will be computed again."""
        records = [r for r in self.read_log() if r["epoch"] <= before]
        self._log.truncate(0)
        for record in records:
            self.log(record)
        return records

    def read_log(self) -> list[dict[str, Any]]:
        """Give the log, one record per validation; a line that a killed process left unfinished is left out."""
        self._log.seek(0)
        records = []
        for line in self._log:
            with suppress(json.JSONDecodeError):
                records.append(json.loads(line))
        self._log.seek(0, 2)
        return records

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file, whole or not at all."""
        write_file(self.path / name, text, WHERE_TO_GO_ON)
        return self.path / name

    def close(self) -> None:
        """Let other processes in."""
        with suppress(OSError):
            self._log.close()

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """A run that fails within leaves nothing behind, unless there was a run before."""
        try:
            yield
        except EquipotError:
            self._discard()
            raise

    def _discard(self) -> None:
        if not self._new or self.model.exists():
            return
        with suppress(OSError):
            self.teachers.rmdir()
        if self.teachers.exists():  # they had begun
            return
        for name in ("settings.toml", "log.jsonl", "start.equipot"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()


def _lock(log: TextIO, path: Path) -> None:
    """Keep other processes out of a run's folder, by its log."""
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        log.close()
        raise EquipotError(f"Another process is at work in the folder '{path}'.") from None


def holds_run(path: Path) -> bool:
    """Whether a folder is that of a run."""
    return (path / "settings.toml").exists()


@contextmanager
def set_aside(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Make room for a new run: the folder of an old one gets another name, so that nothing in it is ever lost.

    It gets its own back when the new run leaves nothing.

    Raises
    ------
    EquipotError
        When it is not the folder of a run, another process is at work in it, or it cannot be renamed.
    """
    if not path.is_dir() or not any(path.iterdir()):
        yield
        return
    kept = _rename(path)
    tell(f"The run that was in '{path}' is kept in '{kept}'.")
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.rmdir()  # which it is not if there is anything in it
        if not path.exists():
            kept.rename(path)
            tell(f"It is in '{path}' again, as the new one has left nothing.")
        raise


def _rename(path: Path) -> Path:
    """Give the folder of a run the first name that is free: NAME.1, NAME.2, …"""
    if not holds_run(path):
        raise EquipotError(f"The folder '{path}' is not that of a run: name another with --folder.")
    if Path.cwd().is_relative_to(path.resolve()):
        raise EquipotError(f"The run's folder '{path}' is the one that you are in: call equipot from outside of it.")
    kept = next(p for k in count(1) if not os.path.lexists(p := path.with_name(f"{path.name}.{k}")))
    try:
        if (path / "log.jsonl").exists():  # of a linear fit there is none
            with open(path / "log.jsonl", "a", encoding="utf-8") as log:
                _lock(log, path)
        return path.rename(kept)
    except OSError as error:
        raise EquipotError(f"The folder '{path}' cannot be renamed to '{kept}': {error.strerror}.") from error


def check_folder(path: Path, *, resume: bool | None = None) -> None:
    """Refuse a folder that a run cannot have: a file, or, unless `resume`, one that holds something.

    None is for runs that cannot be resumed.
    """
    if path.exists() and not path.is_dir():
        raise EquipotError(f"The run's folder '{path}' is a file: name another with 'folder' or --folder.")
    if path.exists() and any(path.iterdir()) and not resume:
        first = "" if resume is None else "go on with the run in it with --resume, "
        raise EquipotError(
            f"The folder '{path}' is not empty: {first}name another with --folder, or start anew with --again, which "
            "keeps the old run under another name."
        )
    if resume and holds_run(path) and read_toml(path / "settings.toml").get("kind") == "linear":
        raise EquipotError(
            f"'{path}' is the folder of a linear fit, which takes seconds and is not resumed: start anew in it with "
            "--again, or name another with --folder."
        )


def _check_same(saved: Settings, now: Settings, path: Path) -> None:
    before, after = _flat(to_dict(saved)), _flat(to_dict(now))
    for key in sorted(before.keys() | after.keys()):
        if key not in _FREE_TO_CHANGE and _moved(key, before.get(key)) != _moved(key, after.get(key)):
            raise EquipotError(
                f"The run in '{path}' began with other settings: {key} was {json.dumps(before.get(key))} and is now "
                f"{json.dumps(after.get(key))}. Set it back, or start anew with --again or --folder."
            )


def _moved(key: str, value: Any) -> Any:
    """Of files only the names: a project may be moved, and the data themselves are compared elsewhere."""
    if key not in _FILES or value is None:
        return value
    return Path(value).name if isinstance(value, str) else [Path(path).name for path in value]


def _flat(table: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{section}.{key}" if section else key
        result |= _flat(value, name) if isinstance(value, Mapping) else {name: value}
    return result
