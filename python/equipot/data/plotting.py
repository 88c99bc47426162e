"""One look for all pictures."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import numpy as np

from equipot import EquipotError
from equipot.files import check_target, write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Distinct also for people who see fewer colours (after Okabe and Ito).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc4b37", "#8b5fbf", "#56b4e9", "#a0522d", "#7f7f7f")
PART_COLOURS = {"train": COLOURS[0], "valid": COLOURS[1], "test": COLOURS[2]}

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
}


def part_colour(name: str, number: int) -> str:
    """The colour of a part of the data; others than train, valid and test get theirs by number."""
    return PART_COLOURS.get(name.split(" ")[0].rstrip(","), COLOURS[(3 + number) % len(COLOURS)])


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Draw with our style, and say what to do where matplotlib is missing."""

    @functools.wraps(draw)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            import matplotlib
        except ImportError:
            raise ImportError("pictures need matplotlib: pip install matplotlib") from None
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapped


def figure(columns: int, rows: int = 1, width: float = 4.0, height: float = 3.4, **options: Any) -> tuple[Figure, Any]:
    """A figure and its axes (rows x columns), which belong to no window and no global state."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False, **options)


def save(made: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write a picture; the ending says which kind."""
    buffer = io.BytesIO()
    made.savefig(buffer, format=_kind(path), dpi=dpi)
    write_file(path, buffer.getvalue())


def check_picture(path: str | os.PathLike[str] | None) -> None:
    """Refuse a picture that could not be written, before the work that it is to show; None is none to draw."""
    check_target(path)
    if path is not None:
        _kind(path)


@styled
def _kind(path: str | os.PathLike[str]) -> str:
    from matplotlib.backend_bases import FigureCanvasBase

    ending = Path(path).suffix.lower().lstrip(".") or "png"
    if ending not in FigureCanvasBase.get_supported_filetypes():
        raise EquipotError(
            f"{os.fspath(path)}: pictures of the kind .{ending} cannot be written; choose .png, .svg or .pdf"
        )
    return ending


def plain_log_ticks(axes: Axes, which: Literal["x", "y"]) -> None:
    """Plain numbers that do not run into each other on a logarithmic axis; a linear one where that is as good."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    decades = float(np.log10(high / low))
    if decades < 0.5:
        axes.set_xscale("linear") if which == "x" else axes.set_yscale("linear")
        return
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)))
    axis.set_minor_formatter(NullFormatter())
    if decades < 5:
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def nothing(axes: Axes, text: str) -> None:
    """Say in a panel why it is empty."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#888888")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
