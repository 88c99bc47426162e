"""Progress bars for what takes longer than a moment."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


class _Lasting:
    """Standard error for long work, which goes on when nobody reads it any more."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def lasting_console(piped_width: int | None = None, **options: Any) -> Console:
    """A console on standard error; a pipe whose reader has gone, or a full disk, does not end the work.

    Into a file or a pipe, tables keep `piped_width` instead of folding at 80 columns.
    """
    console = Console(file=cast("IO[str]", _Lasting()), highlight=False, **options)
    if piped_width is not None and not console.is_terminal:
        console.width = piped_width
    return console


@contextmanager
def progress_bar(text: str, total: float) -> Iterator[Callable[[float], None]]:
    """Show a bar on a terminal's stderr, and none elsewhere.

    Yields a function that takes how much is done, of `total`.
    """
    console = lasting_console()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    hidden = _quiet.get() or not console.is_terminal
    # It vanishes when done, so that what comes after it looks the same with and without a terminal.
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(text, total=max(total, 1))
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def without_bars(quiet: bool) -> Iterator[None]:
    """Show no bars within, if `quiet`."""
    token = _quiet.set(quiet or _quiet.get())
    try:
        yield
    finally:
        _quiet.reset(token)
