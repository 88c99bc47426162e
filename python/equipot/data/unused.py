"""Keys that matter to other programs, or to energies, and that no fit takes note of."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from equipot.data.frames import FrameFile
from equipot.data.keys import CONDITIONS, core_of
from equipot.data.structures import Finding, counted

# Values that are named before the rest is summed up.
_SHOWN = 5
# MACE's weights of one kind of label.
_WEIGHTS = [f"config_{name}_weight" for name in ("energy", "forces", "stress", "virials", "dipole", "charges")]


def unused_keys(files: Sequence[FrameFile], config_type_key: str) -> list[Finding]:
    """Warn of keys whose values differ, where a fit takes all structures as alike."""
    keys = dict.fromkeys(key for file in files for key in file.keys)
    findings = [_condition(files, key) for key in keys if core_of(key) in CONDITIONS and key != config_type_key]
    findings += [_weight(files, key) for key in _WEIGHTS if key in keys]
    return [finding for finding in findings if finding is not None]


def _condition(files: Sequence[FrameFile], key: str) -> Finding | None:
    # Free atoms have spins of their own in any data.
    counts = Counter(
        _shown(values[key]) for f in files for _, atoms, values in f.frames if key in values and len(atoms) > 1
    )
    if len(counts) < 2:
        return None
    listed = ", ".join(f"{value} {count:,}" for value, count in counts.most_common(_SHOWN))
    more = f", {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    what = (
        "count as one level of theory" if core_of(key) == "head" else "count as alike, by elements and positions alone"
    )
    return Finding(
        "warning",
        "keys",
        f"the key '{key}' has {len(counts)} values ({listed}{more}) and is not used: all structures {what}; where "
        "their energies do not belong together, fit to those with one value",
    )


def _weight(files: Sequence[FrameFile], key: str) -> Finding | None:
    other = [
        f"{file.name}#{number}"
        for file in files
        for number, _, values in file.frames
        if key in values and _shown(values[key]) != "1"
    ]
    if not other:
        return None
    return Finding(
        "warning",
        "weights",
        f"the key '{key}' is not 1 in {counted(len(other), 'structure')} and is not used, as only config_weight is; "
        "remove labels that are to count nothing, and weigh others by config_weight or by their config_type",
        tuple(other[:5]),
    )


def _shown(value: Any) -> str:
    """A value in few digits; the sum of what is given by atom."""
    try:
        # Moments that come out of calculations differ in later digits.
        return f"{np.asarray(value, dtype=float).sum().round(1) + 0.0:g}"
    except (TypeError, ValueError):
        return str(value)
