"""Checkpoints of a training run: one file, written whole or not at all, from which a run goes on to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equipot import EquipotError
from equipot.files import write_whole

VERSION = 9
"""Version of the checkpoint file that this package reads and writes."""

WHERE_TO_GO_ON = "free some space on the disk, then go on with --resume. What was there before is untouched"
"""For errors in writing the files of a run."""


class CheckpointError(EquipotError):
    """A checkpoint that cannot be written or read."""


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one before it stays until the new one is complete.

    Parameters
    ----------
    path : path-like
        The file (an ``.npz`` archive).
    state : mapping
        Nested tables of arrays, numbers, texts and lists.

    Raises
    ------
    CheckpointError
        When the disk is full or the folder cannot be written to; the previous checkpoint is then untouched.
    """
    arrays: dict[str, Any] = {}
    text = json.dumps({"version": VERSION, "state": _split(state, "", arrays)})
    arrays["_"] = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    try:
        write_whole(path, lambda file: np.savez(file, **arrays))
    except OSError as error:
        raise CheckpointError(
            f"Cannot write the checkpoint '{path}': {error.strerror or error}; {WHERE_TO_GO_ON}."
        ) from error


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote.

    Raises
    ------
    CheckpointError
        When the file is missing, damaged, or from another version.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        content = json.loads(bytes(arrays.pop("_")).decode("utf-8"))
        version = int(content["version"])
        if version == VERSION:
            return _join(content["state"], arrays)
    except OSError as error:
        raise CheckpointError(f"Cannot read the checkpoint '{path}': {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(
            f"The checkpoint '{path}' is damaged ({error}): delete it to start the run over, or use another folder."
        ) from error
    if version > VERSION:
        raise CheckpointError(f"The checkpoint '{path}' was written by a newer equipot: update equipot.")
    raise CheckpointError(
        f"The checkpoint '{path}' was written by an older equipot, and this one cannot go on with it: go on with that "
        "version, or start anew with --folder, from the model beside it if you like ([start] model)."
    )


def _split(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Move arrays out of nested tables into `arrays`, leaving their names."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    if isinstance(value, Mapping):
        return {"table": {str(k): _split(v, f"{name}/{k}", arrays) for k, v in value.items()}}
    return {"value": value.item() if isinstance(value, np.generic) else value}


def _join(node: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    if "array" in node:
        return arrays[node["array"]]
    if "table" in node:
        return {k: _join(v, arrays) for k, v in node["table"].items()}
    return node["value"]
