# SPDX-License-Identifier: MIT
"""Conversion of potentials that other programs made into ``.equipot`` files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from equipot.convert.checkpoint import CheckpointError
from equipot.convert.e3nn import ConversionError
from equipot.convert.mace import convert_mace
from equipot.modelfile import write_model

__all__ = ["CheckpointError", "ConversionError", "convert_file", "convert_mace"]


def convert_file(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    heads: Sequence[str] | None = None,
    species: Sequence[int | str] | None = None,
    overwrite: bool = False,
) -> None:
    """Convert a potential file into an ``.equipot`` file.

    Parameters
    ----------
    source : path-like
        A MACE model as mace-torch saves it (``.model``, or ``.model.xz``).
    destination : path-like
        The file to write.
    heads : sequence of str, optional
        Heads to keep, all if left out.
    species : sequence of int or str, optional
        Elements to keep, as atomic numbers or symbols, all if left out.
    overwrite : bool
        Replace `destination` if it exists.

    Raises
    ------
    EquipotError
        If the source cannot be read or carried over exactly, or the destination exists or cannot be written.
    """
    destination = Path(destination)
    if destination.exists() and not overwrite:
        raise ConversionError(
            f"'{destination}' exists: choose another name or replace it (--overwrite, in Python overwrite=True)."
        )
    if not destination.parent.is_dir():
        raise ConversionError(f"Cannot write '{destination}': there is no folder '{destination.parent}'.")
    write_model(convert_mace(source, heads=heads, species=species), destination)
