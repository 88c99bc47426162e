"""The report of a fit: one page that holds everything, and the errors as JSON."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import base64
import html
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equipot import EquipotError, __version__, evaluate
from equipot.data.plotting import COLOURS, figure, part_colour, plain_log_ticks, save, styled
from equipot.data.structures import DataSet, Finding, evenly
from equipot.evaluate import Errors, ErrorTable, number
from equipot.files import write_file
from equipot.info import with_units
from equipot.potential import Potential
from equipot.units import ERROR_UNITS, FROM_LOG

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


# A set larger than this is represented by so many of its structures in tables and pictures.
_COMPARED = 5000


def compare(
    potential: Potential, parts: Mapping[str, DataSet], folder: str | os.PathLike[str]
) -> tuple[dict[str, ErrorTable], dict[str, Path]]:
    """Errors of a finished potential on each part of its data, and the parity picture in the folder of the run.

    Parameters
    ----------
    potential
        The finished potential.
    parts
        Train, valid, test; empty ones are left out, and of others than the test set at most some thousand compared.
    folder
        Where ``parity.png`` is drawn, if matplotlib is there.

    Returns
    -------
    tuple
        Tables by part, and pictures by caption.
    """
    compared, pictures = {}, {}
    for name, part in parts.items():
        if len(part):
            most = len(part) if name == "test" else min(len(part), _COMPARED)
            shown = part.subset(evenly(len(part), most))
            label = name if most == len(part) else f"{name} ({most:,} of {len(part):,})"
            compared[label] = (shown, evaluate.predict(potential, shown))
    with suppress(ImportError, EquipotError):  # a report without a picture still is one
        evaluate.parity_picture(Path(folder) / "parity.png", compared)
        pictures["Predicted against reference"] = Path(folder) / "parity.png"
    return {name: evaluate.error_table(*both) for name, both in compared.items()}, pictures


def write_report(
    folder: str | os.PathLike[str],
    title: str,
    settings: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    tables: Mapping[str, ErrorTable],
    pictures: Mapping[str, str | os.PathLike[str]],
    card: Mapping[str, Any],
    findings: Iterable[Finding] = (),
) -> Path:
    """Write ``report.html`` and ``errors.json`` into the folder of a run.

    Parameters
    ----------
    folder
        Where to; it has to exist.
    title
        Of the page.
    settings
        Of the fit, as they were used.
    log
        One record per epoch; with two or more, ``learning_curve.png`` is drawn and shown.
    tables
        Errors by part of the data: train, valid, test.
    pictures
        Files to be shown, by caption.
    card
        The model's card.
    findings
        About the data.

    Returns
    -------
    Path
        Of the page. It needs no other file and no network.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EquipotError(f"{folder}: there is no such folder to write the report into")
    write_file(folder / "errors.json", json.dumps({n: t.to_dict() for n, t in tables.items()}, indent=1) + "\n")
    shown: dict[str, str | os.PathLike[str]] = {}
    if len(log) > 1:
        with suppress(ImportError, EquipotError):  # a report without a picture still is one
            learning_curve_picture(folder / "learning_curve.png", log)
            shown["Learning curve"] = folder / "learning_curve.png"
    shown |= pictures
    sections = [
        ("Errors", _errors(tables)),
        ("Pictures", "".join(_picture(caption, path) for caption, path in shown.items())),
        ("Errors in detail", "".join(_details(name, table) for name, table in tables.items())),
        ("Data", _findings(findings)),
        ("Model card", _table_of(_without_tables(card, tables))),
        ("Settings", _table_of(settings)),
    ]
    body = "".join(f"<section><h2>{_text(name)}</h2>{content}</section>" for name, content in sections if content)
    made = f"equipot {_text(__version__)}, {time.strftime('%Y-%m-%d %H:%M')}"
    page = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><h1>{_text(title)}</h1><p class="made">{made}</p>{body}</body></html>\n'
    )
    path = folder / "report.html"
    write_file(path, page)
    return path


_STYLE = """
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:#222;background:#fff;max-width:1080px;
margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.7rem;margin:0}h2{font-size:1.15rem;border-bottom:1px solid #ddd;padding-bottom:.2rem;margin-top:2.2rem}
.made{color:#777;margin:.2rem 0 0}
table{border-collapse:collapse;margin:.6rem 0;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.22rem .6rem;text-align:right;border-bottom:1px solid #eee;vertical-align:top}
th{font-weight:600;background:#f6f7f9;white-space:nowrap}th small{font-weight:400;color:#777}
td:first-child,th:first-child,.left td,.left th{text-align:left}td:first-child{white-space:nowrap}
.left td{overflow-wrap:anywhere}.left table{margin:0}.left td:first-child{color:#555;white-space:nowrap}
.group td{color:#777;font-style:italic}
details{margin:.5rem 0}summary{cursor:pointer;font-weight:600}
figure{margin:1rem 0}img{max-width:100%}figcaption{color:#555;font-size:.9rem}
.scroll{overflow-x:auto}
.left td.ok{color:#2b7a3d}.left td.note{color:#1f6f9f}
.left td.warning{color:#a86400;font-weight:600}.left td.error{color:#b3261e;font-weight:600}
"""


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _errors(tables: Mapping[str, ErrorTable]) -> str:
    return _error_rows([("", {name: table.overall for name, table in tables.items()})]) if tables else ""


def _error_rows(groups: Sequence[tuple[str, Mapping[str, Errors]]]) -> str:
    named = [name for name in ERROR_UNITS if any(name in e.mae for _, rows in groups for e in rows.values())]
    head = "".join(
        f"<th>{name} {kind}<br><small>{_text(ERROR_UNITS[name])}</small></th>"
        for name in named
        for kind in ("MAE", "RMSE")
    )
    lines = []
    for heading, rows in groups:
        if heading:
            lines.append(f'<tr class="group"><td colspan="{3 + 2 * len(named)}">{_text(heading)}</td></tr>')
        for name, errors in rows.items():
            cells = "".join(f"<td>{number(v.get(key))}</td>" for key in named for v in (errors.mae, errors.rmse))
            lines.append(
                f"<tr><td>{_text(name)}</td><td>{errors.structures:,}</td><td>{errors.atoms:,}</td>{cells}</tr>"
            )
    return (
        f'<div class="scroll"><table><tr><th></th><th>structures</th><th>atoms</th>{head}</tr>'
        f"{''.join(lines)}</table></div>"
    )


def _details(name: str, table: ErrorTable) -> str:
    parts = [_error_rows(table.groups())]
    if len(table.species) > 1:
        lines = "".join(
            f"<tr><td>{_text(symbol)}</td><td>{e.atoms:,}</td><td>{number(e.mae['forces'])}</td>"
            f"<td>{number(e.rmse['forces'])}</td></tr>"
            for symbol, e in table.species.items()
        )
        unit = f"<br><small>{_text(ERROR_UNITS['forces'])}</small>"
        parts.append(
            f"<table><tr><th>forces on</th><th>atoms</th><th>MAE{unit}</th><th>RMSE{unit}</th></tr>{lines}</table>"
        )
    if table.worst_energies:
        lines = "".join(
            f"<tr><td>{_text(w['source'])}</td><td>{_text(w['config_type'])}</td><td>{number(w['error'])}</td></tr>"
            for w in table.worst_energies
        )
        unit = f"<br><small>{_text(ERROR_UNITS['energy'])}</small>"
        parts.append(f"<table><tr><th>worst energies</th><th>config_type</th><th>error{unit}</th></tr>{lines}</table>")
    if table.worst:
        lines = "".join(
            f"<tr><td>{_text(w['source'])}</td><td>{_text(w['config_type'])}</td><td>{number(w['rmse'])}</td>"
            f"<td>{number(w['largest'])}</td><td>{w['atom']} ({_text(w['species'])})</td></tr>"
            for w in table.worst
        )
        unit = f"<br><small>{_text(ERROR_UNITS['forces'])}</small>"
        parts.append(
            f"<table><tr><th>worst forces</th><th>config_type</th><th>RMSE{unit}</th><th>largest{unit}</th>"
            f"<th>on atom</th></tr>{lines}</table>"
        )
    if table.energy_offset is not None:
        parts.append(f"<p>Mean of predicted less reference energies: {table.energy_offset:+.4g} meV/atom.</p>")
    return f"<details><summary>{_text(name)}</summary>{''.join(parts)}</details>"


def _picture(caption: str, path: str | os.PathLike[str]) -> str:
    path = Path(path)
    kind = _KINDS.get(path.suffix.lower())
    try:
        content = path.read_bytes()
    except OSError:
        kind = None
    if kind is None:
        return f"<p>{_text(caption)}: {_text(path.name)} cannot be shown.</p>"
    data = base64.b64encode(content).decode()
    return (
        f'<figure><img alt="{_text(caption)}" src="data:{kind};base64,{data}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _findings(findings: Iterable[Finding]) -> str:
    lines = "".join(
        f'<tr><td class="{f.severity}">{f.severity}</td><td>{_text(f.topic)}</td><td>{_text(f.text)}'
        + (f" <small>({_text(', '.join(f.sources[:3]))})</small>" if f.sources else "")
        + "</td></tr>"
        for f in findings
    )
    return f'<table class="left">{lines}</table>' if lines else ""


def _without_tables(card: Mapping[str, Any], tables: Mapping[str, ErrorTable]) -> dict[str, Any]:
    """A card without the errors that the tables have, and with the units of others."""
    further = {name: errors for name, errors in with_units(card.get("errors") or {}).items() if name not in tables}
    return {key: value for key, value in card.items() if key != "errors"} | ({"errors": further} if further else {})


def _table_of(values: Mapping[str, Any]) -> str:
    """Nested tables of settings or of a card."""
    if not values:
        return ""
    lines = "".join(
        f"<tr><td>{_text(str(key).replace('_', ' '))}</td><td>{_value(value)}</td></tr>"
        for key, value in values.items()
    )
    return f'<table class="left">{lines}</table>'


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _table_of(value) or "none"
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, Mapping) for item in value):
            return "".join(_value(item) for item in value)
        return _text(", ".join(map(_shown, value))) or "none"
    return _text(_shown(value))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


@styled
def learning_curve_picture(path: str | os.PathLike[str], log: Sequence[Mapping[str, Any]]) -> None:
    """Draw losses and errors against epochs and time.

    Parameters
    ----------
    path
        Where to; the ending says which kind of picture.
    log
        One record per epoch: numbers by name, also in nested tables as in ``{"valid": {"energy_rmse": …}}``. What has
        "loss" in its name is a loss; energy, forces and stress with rmse or mae are errors in eV/atom, eV/Å, eV/Å³.
        "seconds" since the start become a second axis. Everything may be missing anywhere.
    """
    curves = _curves(log)
    seconds = _seconds_per_epoch(curves)
    losses = {name: curve for name, curve in curves.items() if "loss" in name.split("_")}
    panels: list[tuple[str, str, dict[str, tuple[np.ndarray, np.ndarray]]]] = []
    if losses:
        panels.append(("loss", "loss", losses))
    for quantity, factor in FROM_LOG.items():
        # Root mean squares are what is minimised; absolute errors are shown where there is nothing else.
        for kind in ("rmse", "mae"):
            mine = {n: (x, factor * y) for n, (x, y) in curves.items() if {quantity, kind} <= set(n.split("_"))}
            if mine:
                panels.append((quantity, f"{kind.upper()} ({ERROR_UNITS[quantity]})", mine))
                break
    if "learning_rate" in curves:
        panels.append(("learning rate", "rate", {"learning_rate": curves["learning_rate"]}))
    if not panels:
        raise EquipotError("the log has neither losses nor errors to draw")
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    made, axes = figure(columns, rows, height=3.0)
    best = [r["epoch"] for r in log if r.get("best") is True and isinstance(r.get("epoch"), (int, float))]
    for panel, (title, unit, mine) in zip(axes.flat, panels, strict=False):
        panel.set_title(title)
        for k, (name, (x, y)) in enumerate(mine.items()):
            part = next((word for word in name.split("_") if word in ("train", "valid", "test")), "")
            colour = part_colour(part, k) if part else COLOURS[0 if name in ("loss", "learning_rate") else (3 + k) % 8]
            label = _label(name, title)
            panel.plot(x, y, "-" if len(x) > 60 else "-o", ms=2.5, lw=1.3, color=colour, label=label)
        if all((y > 0).all() for _, y in mine.values()):
            panel.set_yscale("log")
            plain_log_ticks(panel, "y")
        if best and title == "loss":
            panel.axvline(best[-1], color="#999999", lw=0.8, ls="--", label="best")
        panel.set_xlabel("epoch")
        if seconds:
            _time_axis(panel, seconds)
        panel.set_ylabel(unit)
        if len(panel.get_legend_handles_labels()[1]) > 1:
            panel.legend()
    for panel in list(axes.flat)[len(panels) :]:
        panel.set_visible(False)
    save(made, path)


def _seconds_per_epoch(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean time of an epoch; 0 where the log does not say."""
    epochs, seconds = curves.get("seconds", (np.zeros(1), np.zeros(1)))
    return float(seconds[-1] / epochs[-1]) if epochs[-1] > 0 and seconds[-1] > 0 else 0.0


def _time_axis(panel: Axes, seconds: float) -> None:
    """Put the time that `panel`'s epochs took, of so many seconds each, on top of it."""
    whole = seconds * panel.get_xlim()[1]
    name, unit = next(
        (n, u) for n, u in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0)) if whole > 2 * u or u == 1
    )
    scale = seconds / unit
    axis = panel.secondary_xaxis("top", functions=(lambda x: np.multiply(x, scale), lambda t: np.divide(t, scale)))
    axis.set_xlabel(name)


def _curves(log: Sequence[Mapping[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Epochs and values of every number in the log, by its flattened name, where it is finite."""
    points: dict[str, list[tuple[float, float]]] = {}
    for place, record in enumerate(log):
        epoch = record.get("epoch", place + 1)
        for name, value in _flat(record):
            finite = isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
            if finite and name != "epoch":
                points.setdefault(name, []).append((float(epoch), float(value)))
    return {name: (np.array([x for x, _ in rows]), np.array([y for _, y in rows])) for name, rows in points.items()}


def _flat(record: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            if key != "by_config_type":
                yield from _flat(value, f"{before}{key}_")
        else:
            yield f"{before}{key}", value


def _label(name: str, title: str) -> str:
    rest = [word for word in name.split("_") if word not in (*title.split(), "rmse", "mae")]
    return " ".join(rest) or ("train" if title == "loss" else title)
