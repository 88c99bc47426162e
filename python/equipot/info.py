"""What a model file holds, for people."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from equipot import _equipot
from equipot.units import ERROR_UNITS, LOG_UNITS

_RADIAL = {"bessel": "Bessel functions", "gaussian": "Gaussians", "chebyshev": "Chebyshev polynomials"}
_TRANSFORM = {"none": "", "agnesi": " of Agnesi-transformed distances", "soft": " of softly transformed distances"}
_READOUT = {"none": "none", "linear": "linear", "mlp": "network"}


def show(path: str | os.PathLike[str]) -> RenderableType:
    """Everything about a model file, to be printed by rich.

    Raises
    ------
    EquipotError
        When the file cannot be read or is damaged.
    """
    name = os.fspath(path)
    model = _equipot.Model(name)
    info = model.info
    card = json.loads(info["card"] or "{}")
    engine = _equipot.Engine(model, info["heads"][0], "float64", "exact")

    facts = _table()
    facts.add_row("file", f"{name}, {_size(os.path.getsize(name))}")
    facts.add_row("architecture", architecture(info))
    facts.add_row("radial", radial(info))
    facts.add_row("repulsion", "ZBL at short range" if info["zbl"] else "none added")
    facts.add_row("cutoff", f"{info['cutoff']:g} Å; atoms are felt up to {info['cutoff'] * engine.layers:g} Å away")
    symbols = [_equipot.element_symbol(z) for z in info["species"]]
    facts.add_row("species", f"{len(symbols)}: {' '.join(symbols)}" if len(symbols) > 1 else symbols[0])
    facts.add_row("heads", ", ".join(info["heads"]))
    facts.add_row("parameters", f"{info['parameters']:,}")
    facts.add_row("runs here on", engine.execution)

    title = Text(str(card.pop("title", "a model without a title")), style="bold")
    parts: list[RenderableType] = [title, facts, _layers(info)]
    if isinstance(card.get("errors"), dict):
        card["errors"] = with_units(card["errors"])
    if card:
        parts += [Text("Card", style="bold"), _card(card)]
    return Group(*parts)


def architecture(info: dict[str, Any]) -> str:
    """One line: layers, channels, angular momenta, body order."""
    layers = info["layers"]
    hidden = max(layer["hidden_out"] for layer in layers)
    correlation = max(layer["correlation"] for layer in layers)
    return (
        f"{len(layers)} message-passing layer{'s' if len(layers) > 1 else ''}, {info['channels']} channels, "
        f"features l ≤ {hidden}, densities l ≤ {info['l_max']}, correlation {correlation}"
    )


def radial(info: dict[str, Any]) -> str:
    """One line about the radial basis."""
    basis = info["radial"]
    target = "the basis" if basis["envelope_on"] == "basis" else "the network's outputs"
    return (
        f"{basis['size']} {_RADIAL[basis['basis']]}{_TRANSFORM[basis['transform']]}, "
        f"polynomial cutoff p = {basis['envelope']} on {target}"
    )


def with_units(errors: Mapping[str, Any]) -> dict[str, Any]:
    """The errors of a card as people read them: with units, and without those for which there are no labels.

    Parameters
    ----------
    errors
        Tables like ``{"energy_mae": 0.2, "stress_mae": None, …}`` by the part of the data.
    """
    # Models of training runs that older versions did not finish have their errors as the log has them.
    return {
        name: _with_units(part, LOG_UNITS if name == "validation" else ERROR_UNITS) if isinstance(part, dict) else part
        for name, part in errors.items()
    }


def _with_units(errors: Mapping[str, Any], units: Mapping[str, str]) -> dict[str, Any]:
    shown = {name: value for name, value in errors.items() if value is not None}
    for name, value in shown.items():
        unit = units.get(name.split("_")[0])
        if unit and isinstance(value, (int, float)):
            shown[name] = f"{value:g} {unit}"
    return shown


def _layers(info: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("layer", "features in", "features out", "paths", "correlation", "mixing", "residual", "readout"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for number, layer in enumerate(info["layers"], start=1):
        table.add_row(
            str(number),
            f"l ≤ {layer['hidden_in']}",
            f"l ≤ {layer['hidden_out']}",
            str(layer["paths"]),
            str(layer["correlation"]),
            layer["mixing"] + (", by density" if layer["density"] else ""),
            "yes" if layer["skip"] else "no",
            _READOUT[layer["readout"]],
        )
    return table


def _card(card: dict[str, Any]) -> Table:
    table = _table()
    for key, value in card.items():
        table.add_row(key.replace("_", " "), _card(value) if isinstance(value, dict) else Text(_plain(value)))
    return table


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table() -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
