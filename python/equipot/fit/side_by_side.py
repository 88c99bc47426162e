"""Training runs side by side, each in a process of its own.

The steps of one run on small molecules are too short to keep many threads busy; runs do not wait for each other.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any, TextIO

from equipot import EquipotError
from equipot.fit.datasets import DataSets
from equipot.fit.display import Display, Several
from equipot.fit.interrupts import wish_to_stop
from equipot.fit.runfolder import RunFolder
from equipot.fit.training_run import complete
from equipot.fit.training_settings import TrainSettings
from equipot.potential import set_threads

_CHILD = "from equipot.fit.side_by_side import train_what_comes_in; train_what_comes_in()"
_TELL_EVERY = 0.25  # s; progress within an epoch


@dataclass(frozen=True)
class Trained:
    """What a run has come to: its model, and whether it would go on if it were resumed."""

    model: Path
    unfinished: bool


def side_by_side(
    runs: Mapping[Path, TrainSettings],
    data: DataSets,
    at_once: int,
    names: Sequence[str],
    display: Display,
    stopped: Callable[[], str],
) -> list[Trained]:
    """Train several models.

    The second starts once the first has begun, so that data which cannot be trained on leave one trace at most.

    Parameters
    ----------
    runs : mapping
        Settings by the folder of the run, which is resumed if there is one; `threads` says how many each takes.
    data : DataSets
        What all of them learn from.
    at_once : int
        How many at a time.
    names : sequence of str
        What people call them.
    display : Display
        Where to show how they go.
    stopped : callable
        Names what asks them to stop, or gives "". They then stop as a run of its own does.

    Returns
    -------
    list of Trained
        In the order of `runs`; those that had not started when they were asked to stop are left out.

    Raises
    ------
    EquipotError
        What the first that failed has to say; the others have stopped, and can be resumed.
    """
    processes = _Processes(list(runs.items()), data, names)
    with Several(display, names) as shown:
        watchers = [shown.watcher(k) for k in range(len(runs))]
        try:
            while processes.go_on(at_once, stopped()):
                for k, kind, arguments in processes.news():
                    getattr(watchers[k], kind)(*arguments)
        finally:
            processes.kill()
    if processes.failures:
        raise EquipotError(processes.failures[0])
    return [trained for _, trained in sorted(processes.trained.items())]


class _Processes:
    """The processes of several runs, by the number of the run, and what has come of them."""

    def __init__(self, runs: list[tuple[Path, TrainSettings]], data: DataSets, names: Sequence[str]) -> None:
        self._runs, self._data, self._names = runs, data, names
        self._waiting = list(range(len(runs)))
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._told: set[int] = set()  # to stop
        self._messages: Queue[tuple[int, Any]] = Queue()  # None is the last of a process
        self._begun = False
        self.trained: dict[int, Trained] = {}
        self.failures: list[str] = []

    def go_on(self, at_once: int, stop: str) -> bool:
        """Start what may start, or tell all to stop; whether there is anything to wait for."""
        stop = stop or ("the failure of another" if self.failures else "")
        while self._waiting and len(self._children) < (at_once if self._begun else 1):
            k = self._waiting.pop(0)
            self._children[k] = self._start(k)
        if stop:
            self._waiting.clear()
            for k in self._children.keys() - self._told:
                self._told.add(k)
                _say(self._children[k], stop.encode())
        return bool(self._children)

    def news(self) -> Iterator[tuple[int, str, list[Any]]]:
        """What the runs tell a `Watcher`, after some waiting: the run, the method, and its arguments."""
        with suppress(Empty):
            k, message = self._messages.get(timeout=0.2)
            if message is None:
                status = _end(self._children.pop(k))
                if status:
                    cause = f"by {_cause(status)}; go on with --resume"
                    self.failures.append(f"{self._names[k]} ended before its time, {cause}.")
                return
            kind, *arguments = message
            if kind == "trained":
                self.trained[k] = Trained(Path(arguments[0]), arguments[1])
                if self.trained[k].unfinished:  # it was asked to stop
                    self._waiting.clear()
            elif kind == "failed":
                self.failures.append(f"{self._names[k]}: {arguments[0]}")
            else:
                self._begun = self._begun or kind == "start"
                yield k, kind, arguments

    def kill(self) -> None:
        """End what still runs."""
        for child in self._children.values():
            child.kill()
            _end(child)

    def _start(self, k: int) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_PROC_BIND": "false"}
        # In a session of its own Ctrl-C does not reach it, which is for this process to answer.
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )

        def pass_on() -> None:
            assert child.stdout is not None
            with child.stdout:
                for line in child.stdout:
                    self._messages.put((k, json.loads(line)))
            self._messages.put((k, None))

        threading.Thread(target=pass_on, daemon=True).start()
        folder, settings = self._runs[k]
        task = pickle.dumps((settings, folder, self._data))
        _say(child, len(task).to_bytes(8, "little") + task)
        return child


def _say(child: subprocess.Popen[bytes], what: bytes) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # its end comes as a message
        child.stdin.write(what)
        child.stdin.flush()


def _end(child: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process; its exit status."""
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.close()
    return child.wait()


def _cause(status: int) -> str:
    if status > 0:
        return f"exit status {status}"
    return f"{signal.Signals(-status).name}{' (was memory short?)' if status == -signal.SIGKILL else ''}"


# -- in the processes -------------------------------------------------------------------------------------------------


def train_what_comes_in() -> None:
    """Train what comes by standard input, and tell by standard output how it goes, a line of JSON at a time."""
    settings, path, data = pickle.loads(_read(int.from_bytes(_read(8), "little")))
    teller = _Teller(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what others print is not for the reader
    try:
        set_threads(settings.threads)
        with wish_to_stop() as wish:
            told = ""

            def stopped() -> str:
                nonlocal told
                if not told and select.select([0], [], [], 0)[0]:
                    told = os.read(0, 4096).decode() or "the end of the process that started it"
                return wish() or told

            folder = RunFolder(path, settings, resume=True)
            try:
                run = complete(settings, data, folder, teller, stopped)
                teller.tell("trained", str(folder.model), run.unfinished)
            finally:
                folder.close()
    except EquipotError as error:
        teller.tell("failed", str(error))


def _read(count: int) -> bytes:
    """So many bytes of standard input, and none beyond."""
    got = b""
    while len(got) < count:
        more = os.read(0, count - len(got))
        if not more:
            raise EOFError("the process that started this one has ended")
        got += more
    return got


class _Teller:
    """Tells the process that started this one how the run goes."""

    def __init__(self, to: TextIO) -> None:
        self._to, self._latest = to, 0.0

    def tell(self, kind: str, *arguments: Any) -> None:
        with suppress(BrokenPipeError):  # nobody is left to listen: the run is asked to stop, too
            self._to.write(json.dumps([kind, *arguments]) + "\n")
            self._to.flush()

    def note(self, text: str) -> None:
        self.tell("note", text)

    def start(self, epochs: int) -> None:
        self.tell("start", epochs)

    def step(self, epoch: int, part: float, done: float, loss: float, rate: float, speed: float) -> None:
        now = time.monotonic()
        if now - self._latest > _TELL_EVERY:
            self._latest = now
            self.tell("step", epoch, part, done, loss, rate, speed)

    def validated(self, record: Mapping[str, Any], done: float) -> None:
        self.tell("validated", record, done)

    def close(self) -> None:
        self.tell("close")
