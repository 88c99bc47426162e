"""Files that are there whole or not at all, and what JSON takes."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from equipot import EquipotError


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name in the same folder, then give it its own.

    Parameters
    ----------
    path : path-like
        The file.
    write : callable
        Gets an open binary file.

    Raises
    ------
    OSError
        When the disk is full or the folder cannot be written to; what was there before is then untouched.
    """
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes files private
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_file(
    path: str | os.PathLike[str], content: bytes | str, advice: str = "check the folder and the free space"
) -> None:
    """Write a file, whole or not at all.

    Raises
    ------
    EquipotError
        When it cannot be written, with the advice.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        write_whole(path, lambda file: file.write(data))
    except OSError as error:
        raise EquipotError(f"{os.fspath(path)} cannot be written ({error.strerror}); {advice}") from error


def check_target(path: str | os.PathLike[str] | None) -> None:
    """Refuse a file that could not be written, before the work whose result it is to hold; None is none to write.

    Raises
    ------
    EquipotError
        When its folder is missing or cannot be written to, or it is a folder itself.
    """
    if path is None:
        return
    target = Path(path)
    if target.is_dir():
        raise EquipotError(f"{target} is a folder; name a file in it")
    if not target.parent.is_dir():
        raise EquipotError(f"{target} cannot be written: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise EquipotError(f"{target} cannot be written: you may not write into {target.parent.resolve()}")


def finite(value: Any) -> Any:
    """The same for JSON, which has no word for numbers that are not finite, and none of numpy's."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
