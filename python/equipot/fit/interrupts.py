"""Ctrl-C and SIGTERM as a wish to stop, which a long computation grants when it can."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def wish_to_stop() -> Iterator[Callable[[], str]]:
    """Yield a function that names the signal that asks to stop, or gives "" while there was none.

    A second Ctrl-C stops at once. Only the main thread gets signals; elsewhere nothing changes.
    """
    names: list[str] = []

    def handle(number: int, frame: object) -> None:
        if names and number == signal.SIGINT:
            raise KeyboardInterrupt
        names.append("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: ""
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: names[0] if names else ""
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
