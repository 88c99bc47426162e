"""What people see while a model trains: a live table in a terminal, one line per validation elsewhere."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from equipot.data.progress import lasting_console
from equipot.units import ERROR_UNITS, FROM_LOG

_SHOWN = tuple((name, FROM_LOG[name], unit) for name, unit in ERROR_UNITS.items())
_ROWS = 12


class Watcher(Protocol):
    """Who is told how a training run goes."""

    def note(self, text: str) -> None:
        """Something that stays, for people."""

    def start(self, epochs: int) -> None:
        """Training begins."""

    def step(self, epoch: int, part: float, done: float, loss: float, rate: float, speed: float) -> None:
        """Progress: the epoch and the part of it that is done, the part of the run, the latest loss, atoms/s."""

    def validated(self, record: Mapping[str, Any], done: float) -> None:
        """A line of the log, and the part of the run that is done."""

    def close(self) -> None:
        """Training ends."""


class Display:
    """Shows the course of a training run.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to; the standard error by default. A terminal gets the live table.
    quiet : bool
        Show nothing.
    """

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self._console = console or lasting_console(piped_width=200)
        self._quiet = quiet
        self._live: Live | None = None
        self._progress = Progress(
            TextColumn("{task.description:>10}"), BarColumn(bar_width=40), TextColumn("{task.fields[text]}")
        )
        self._run: TaskID | None = None
        self._epoch: TaskID | None = None
        self._clock = _Clock()
        self._records: list[Mapping[str, Any]] = []
        self._best: Mapping[str, Any] | None = None

    def note(self, text: str) -> None:
        """Say something that stays."""
        if not self._quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def start(self, epochs: int) -> None:
        """Begin to show progress."""
        if self._quiet or not self._console.is_terminal:
            return
        self._run = self._progress.add_task("run", total=1.0, text="")
        self._epoch = self._progress.add_task(f"of {epochs}", total=1.0, text="")
        self._live = Live(self._view(), console=self._console, refresh_per_second=4, transient=False)
        self._live.start()

    def step(self, epoch: int, part: float, done: float, loss: float, rate: float, speed: float) -> None:
        """See `Watcher.step`."""
        if self._live is None or self._run is None or self._epoch is None:
            return
        self._progress.update(self._run, completed=done, text=f"{done:4.0%}  {self._clock.left(done)}")
        self._progress.update(
            self._epoch,
            description=f"epoch {epoch}",
            completed=part,
            text=f"loss {loss:.4g}   rate {rate:.2g}   {speed:,.0f} atoms/s",
        )

    def validated(self, record: Mapping[str, Any], done: float) -> None:
        """Show a line of the log."""
        self._records.append(record)
        if record.get("best"):
            self._best = record
        if self._quiet:
            return
        if self._live is not None:
            self._live.update(self._view())
            return
        self._console.print(_line(record, self._clock.left(done)), markup=False, soft_wrap=True)

    def close(self) -> None:
        """Stop the live table; it stays as it is."""
        if self._live is not None:
            self._live.update(self._view(), refresh=True)
            self._live.stop()
            self._live = None

    def _view(self) -> Group:
        table = Table(title="Errors on the validation set (RMSE)", title_justify="left")
        for name in ("epoch", "train loss", "valid loss", *(f"{n}\n{unit}" for n, _, unit in _SHOWN), "rate", ""):
            table.add_column(name, justify="right")
        shown = self._records[-_ROWS:]
        if self._best is not None and self._best not in shown:
            shown = [self._best, *shown[1:]]
        for record in shown:
            table.add_row(*_cells(record, record["valid"]), "best" if record is self._best else "")
        parts: list[Any] = [table]
        by_type = self._records[-1].get("by_config_type", {}) if self._records else {}
        if len(by_type) > 1:
            groups = Table(title="Last validation by config_type (RMSE)", title_justify="left")
            groups.add_column("config_type")
            for n, _, unit in _SHOWN:
                groups.add_column(f"{n}\n{unit}", justify="right")
            for name, means in list(by_type.items())[:20]:
                groups.add_row(name, *_errors(means))
            parts.append(groups)
        return Group(*parts, self._progress)


class Several:
    """Shows the course of several runs at once: a bar of each in a terminal, lines with their names elsewhere.

    Parameters
    ----------
    display : Display
        Of the whole, where notes go.
    names : sequence of str
        Of the runs.
    """

    def __init__(self, display: Display, names: Sequence[str]) -> None:
        self._display, self._names = display, names
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=40),
            TextColumn("{task.fields[text]}"),
            console=display._console,
        )
        self._live = display._console.is_terminal and not display._quiet

    def __enter__(self) -> Several:
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def watcher(self, run: int) -> Watcher:
        """Who is told how one of the runs goes."""
        return _OneOfSeveral(self._names[run], self._display, self._progress if self._live else None)


class _OneOfSeveral:
    def __init__(self, name: str, display: Display, progress: Progress | None) -> None:
        self._name, self._display, self._progress = name, display, progress
        self._task = progress.add_task(name, start=False, total=1.0, text="") if progress is not None else None
        self._clock, self._errors = _Clock(), ""

    def note(self, text: str) -> None:
        self._display.note(f"{self._name}: {text.strip()}")

    def start(self, epochs: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.start_task(self._task)

    def step(self, epoch: int, part: float, done: float, loss: float, rate: float, speed: float) -> None:
        if self._progress is not None and self._task is not None:
            text = f"{done:4.0%}  {self._clock.left(done)}  epoch {epoch}  {self._errors}"
            self._progress.update(self._task, completed=done, text=text)

    def validated(self, record: Mapping[str, Any], done: float) -> None:
        self._errors = _all_errors(record["valid"])
        if self._progress is None:
            self._display.note(f"{self._name}  {_line(record, self._clock.left(done))}")

    def close(self) -> None:
        pass


class _Clock:
    """Foretells the time that is left from the part of the work that is done; what a resumed run had done is free."""

    def __init__(self) -> None:
        self._begin, self._first_done = time.monotonic(), -1.0

    def left(self, done: float) -> str:
        now = time.monotonic()
        if self._first_done < 0:
            self._first_done, self._begin = done, now
        if done >= 1:
            return "done"
        if done - self._first_done < 1e-6 or now - self._begin < 1:
            return ""
        return f"{_duration((now - self._begin) * (1 - done) / (done - self._first_done))} left"


def _line(record: Mapping[str, Any], left: str) -> str:
    train = "" if record.get("train_loss") is None else f"train loss {record['train_loss']:.5g}  "
    return (
        f"{_when(record):>10}  {train}valid loss {record['valid_loss']:.5g}  "
        f"RMSE {_all_errors(record['valid'])}  rate {record['learning_rate']:.2g}  "
        f"{record['atoms_per_second']:,.0f} atoms/s  {left}{'  best' if record.get('best') else ''}"
    )


def _when(record: Mapping[str, Any]) -> str:
    return "refined" if record.get("phase") == 3 else f"epoch {record['epoch']:4d}"


def _all_errors(means: Mapping[str, float]) -> str:
    return "  ".join(f"{n} {means[f'{n}_rmse'] * u:.4g} {unit}" for n, u, unit in _SHOWN if f"{n}_rmse" in means)


def _cells(record: Mapping[str, Any], means: Mapping[str, float]) -> list[str]:
    train = record.get("train_loss")
    return [
        _when(record).removeprefix("epoch"),
        "" if train is None else f"{train:.4g}",
        f"{record['valid_loss']:.4g}",
        *_errors(means),
        f"{record['learning_rate']:.2g}",
    ]


def _errors(means: Mapping[str, float]) -> list[str]:
    return [f"{means[f'{n}_rmse'] * unit:.4g}" if f"{n}_rmse" in means else "" for n, unit, _ in _SHOWN]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
