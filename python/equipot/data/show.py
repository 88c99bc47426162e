"""What `equipot data check` prints."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from equipot.data.checks import Report, check, labels
from equipot.data.pictures import data_picture
from equipot.data.plotting import check_picture
from equipot.data.reading import read_data
from equipot.data.structures import counted
from equipot.files import check_target, write_file

_COLOUR = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}
# Rows of tables before the rest is summed up.
_ROWS = 12


def check_files(
    files: Sequence[str], console: Console, picture: Path | None, json_file: Path | None, **keys: Any
) -> bool:
    """Read and check files, print, draw and write what was asked for; whether they are fit for a fit."""
    check_picture(picture)
    check_target(json_file)
    report = check(read_data(files, strict=False, **keys))
    console.print(show(report))
    if json_file is not None:
        write_file(json_file, json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n")
    if picture is not None:
        data_picture(picture, report)
    return not report.errors and any(labels(report.dataset).values())


def show(report: Report) -> RenderableType:
    """A short account of a data set and what was found in it, to be printed by rich."""
    data = report.dataset
    facts = _table()
    facts.add_row("structures", f"{len(data):,} with {counted(data.atoms, 'atom')}")
    symbols = [chemical_symbols[z] for z in data.species]
    facts.add_row("species", f"{len(symbols)}: {' '.join(symbols)}" if len(symbols) > 1 else symbols[0])
    names = {"energy": "energies", "forces": "forces", "virial": "stresses"}
    counts = labels(data)
    for name, shown in names.items():
        keys = ", ".join(f"'{key}' ({count:,})" for key, count in data.keys_taken.get(name, {}).items())
        text = (
            "none"
            if not counts[name]
            else f"{counted(counts[name], 'structure')}, from {keys}"
            if keys
            else f"{counts[name]:,}"
        )
        facts.add_row(shown, Text(text))
    if 0 < len(report.atomic_energies) <= _ROWS:
        listed = ", ".join(f"{chemical_symbols[z]} {e:.4f}" for z, e in report.atomic_energies.items())
        facts.add_row("isolated atoms", f"{listed} eV")
    types = sorted(data.config_types.items(), key=lambda item: -item[1])
    if len(types) > 1:
        listed = ", ".join(f"{name} {count:,}" for name, count in types[:_ROWS])
        more = f", {len(types) - _ROWS} more" if len(types) > _ROWS else ""
        facts.add_row("config_types", Text(f"{len(types)}: {listed}{more}"))
    shortest = sorted(report.distances.shortest.items(), key=lambda item: item[1][0])
    if shortest:
        listed = ", ".join(
            f"{chemical_symbols[a]}-{chemical_symbols[b]} {d:.2f}" for (a, b), (d, _) in shortest[:_ROWS]
        )
        more = f", {counted(len(shortest) - _ROWS, 'more pair')}" if len(shortest) > _ROWS else ""
        facts.add_row("shortest", f"{listed} Å{more}")
    return Group(facts, Text(), findings_table(report))


def findings_table(report: Report) -> RenderableType:
    """The findings, worst first."""
    table = _table()
    table.columns[0].no_wrap = True
    table.add_column(overflow="fold")
    for finding in report.findings:
        text = sentence(finding.text)
        if finding.sources:
            text += f" ({', '.join(finding.sources[:3])}{', …' if len(finding.sources) > 3 else ''})"
        table.add_row(Text(finding.severity, style=_COLOUR[finding.severity]), Text(finding.topic), Text(text))
    return table


def sentence(text: str) -> str:
    """With a capital and a full stop; names of files stay as they are."""
    first = text.split(" ", 1)[0]
    return (text if "." in first or "/" in first else text[:1].upper() + text[1:]) + "."


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    return table
