"""Ctrl-C, SIGTERM and the end of the time as a wish to stop, which a long computation grants when it can."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def wish_to_stop(until: float | None = None) -> Iterator[Callable[[], str]]:
    """Yield a function that names the signal that asks to stop, or gives "" while there was none.

    From `until` on, a time of ``time.monotonic``, it names max_hours, the setting behind it. A second Ctrl-C stops at
    once. Only the main thread gets signals.
    """
    names: list[str] = []

    def handle(number: int, frame: object) -> None:
        if names and number == signal.SIGINT:
            raise KeyboardInterrupt
        names.append("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    def asked() -> str:
        if names:
            return names[0]
        return "max_hours" if until is not None and time.monotonic() > until else ""

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
