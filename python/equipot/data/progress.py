"""Progress bars for what takes longer than a moment."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def progress_bar(text: str, total: float) -> Iterator[Callable[[float], None]]:
    """Show a bar on a terminal's stderr, and none elsewhere.

    Yields a function that takes how much is done, of `total`.
    """
    console = Console(stderr=True)
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
