"""Frames of files: all that ASE reads, with everything that a file says about each frame, and nothing lost silently."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import bz2
import glob
import gzip
import io
import lzma
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.db
import ase.io
from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict

from equipot import EquipotError
from equipot.data.keys import frame_keys
from equipot.data.progress import progress_bar

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass
class FrameFile:
    """All frames of one file, and how often each key is in it."""

    name: str
    path: str
    frames: list[tuple[int, Atoms, dict[str, Any]]] = field(default_factory=list)
    keys: Counter[str] = field(default_factory=Counter)


def expand(paths: Paths) -> list[str]:
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    names: list[str] = []
    for path in [os.fspath(one) for one in several]:
        name, frames = _divide(path)
        if os.path.exists(name) or not glob.has_magic(name):
            names.append(path)
            continue
        found = sorted(glob.glob(name))
        if not found:
            raise EquipotError(f"no file matches {name}")
        names += [file + frames for file in found]
    if not names:
        raise EquipotError("no data files are named: give at least one")
    twice = [name for name, count in Counter(map(os.path.abspath, names)).items() if count > 1]
    if twice:
        raise EquipotError(f"{twice[0]} is named twice: its structures would count twice")
    return names


def _divide(path: str) -> tuple[str, str]:
    """A file or a pattern, and the choice of frames after it with its @; "" for all of them."""
    if os.path.exists(path) or "@" not in os.path.basename(path) or glob.glob(path):
        return path, ""
    name, at, frames = path.rpartition("@")
    return name, at + frames


def tell_apart(files: list[FrameFile]) -> None:
    """Call files of the same name by their paths."""
    counts = Counter(file.name for file in files)
    for file in files:
        if counts[file.name] > 1:
            file.name = file.path


def read_file(path: str) -> FrameFile:
    name, frames = _divide(path)
    chosen = _choice(name, frames[1:]) if frames else slice(None)
    if not os.path.exists(name):
        raise EquipotError(f"{name}: there is no such file")
    if os.path.isdir(name):
        raise EquipotError(f"{name} is a folder; name the files in it, for instance {os.path.join(name, '*.xyz')}")
    file = FrameFile(os.path.basename(name), name)
    try:
        for number, atoms in enumerate(_frames(name)):
            values = dict(frame_keys(atoms))
            file.frames.append((number, atoms, values))
    except (EquipotError, MemoryError):
        raise
    except Exception as error:  # readers of foreign formats raise whatever they like
        after = f" after frame {len(file.frames) - 1}" if file.frames else ""
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, KeyError):  # of an element, mostly
            reason = f"unknown name {reason}"
        raise EquipotError(f"{name}: cannot be read as structures{after} ({reason})") from None
    if not file.frames:
        raise EquipotError(f"{name}: there is no structure in it")
    file.frames = file.frames[chosen]
    if not file.frames:
        raise EquipotError(f"{path}: this choice leaves none of its structures")
    for _, _, values in file.frames:
        file.keys.update(values.keys())
    return file


def _choice(name: str, frames: str) -> slice:
    try:
        numbers = [int(part) if part else None for part in frames.split(":")]
        one = len(numbers) == 1 and numbers[0] is not None
        return slice(numbers[0], (numbers[0] + 1) or None) if one else slice(*numbers)  # type: ignore[operator]
    except (ValueError, TypeError):
        raise EquipotError(
            f"{name}@{frames}: '{frames}' is no choice of frames; write for instance {name}@::10"
        ) from None


def _frames(name: str) -> Iterator[Atoms]:
    """All structures of a file, with a progress bar where its length is known."""
    path = Path(name)
    compressed = _COMPRESSED.get(path.suffix.lower())
    plain = path.with_suffix("") if compressed else path
    if plain.suffix.lower() in (".db", ".json"):  # with the keys that ASE's reader leaves out
        with ase.db.connect(name, serial=True) as database:
            rows = database.count()
            with progress_bar(f"reading {path.name}", rows) as show:
                for number, row in enumerate(database.select()):
                    show(number)
                    yield row.toatoms(add_additional_information=True)
        return
    if plain.suffix.lower() not in (".xyz", ".extxyz"):
        for atoms in ase.io.iread(name, index=":"):
            yield atoms
        return
    # Frames are looked up by position, which is slow in a file and hopeless in a compressed one: so all is read first.
    with (compressed or open)(name, "rt", encoding="utf-8") as stream:
        text = stream.read()
    count = _count_frames(text, name)
    if count == 0:
        return
    with progress_bar(f"reading {path.name}", count) as show:
        stream = io.StringIO(text)
        frames = ase.io.iread(stream, index=":", format="extxyz", properties_parser=_parse_header)
        for number, atoms in enumerate(frames):
            show(number)
            yield atoms


_SIX = re.compile(r"""\b(stress|virial)=(["'])\s*([^\s"']+(?:[\s,]+[^\s"']+){5})\s*\2""")


def _parse_header(line: str) -> dict[str, Any]:
    """ASE's, but for stresses and virials of six numbers, which it refuses."""

    def nine(found: re.Match[str]) -> str:
        six = re.split(r"[\s,]+", found[3].strip())
        return f'{found[1]}="{" ".join(six[k] for k in (0, 5, 4, 5, 1, 3, 4, 3, 2))}"'

    return key_val_str_to_dict(_SIX.sub(nine, line))


def _count_frames(text: str, name: str) -> int:
    """Walk through an XYZ file by its counts of atoms.

    ASE takes an empty line for the end of the file, and would leave out what comes after it without a word; and it
    believes any count of atoms, however large.
    """
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    place, frames = 0, 0
    while place < len(lines):
        if not lines[place].strip():
            if any(line.strip() for line in lines[place:]):
                raise EquipotError(
                    f"{name}: line {place + 1} is empty where a number of atoms should be, and more comes after it; "
                    "mend the file there"
                )
            break
        try:
            atoms = int(lines[place])
        except ValueError:
            raise EquipotError(
                f"{name}: cannot be read as structures (line {place + 1}, where frame {frames} begins, is no number of "
                "atoms)"
            ) from None
        if atoms < 0 or place + 1 + atoms >= len(lines):
            raise EquipotError(
                f"{name}: cannot be read as structures (frame {frames}, line {place + 1}, says that it has {atoms} "
                "atoms, and the file ends before)"
            )
        if atoms:
            _check_columns(lines[place + 1], lines[place + 2], f"{name}: frame {frames}, line {place + 2}")
        place += 2 + atoms
        while place < len(lines) and lines[place].lstrip().startswith("VEC"):  # cell vectors of ADF
            place += 1
        frames += 1
    return frames


def _check_columns(header: str, row: str, where: str) -> None:
    """Refuse a header that promises more columns than there are; ASE would make room for any number of them."""
    found = re.search(r"""\bProperties=["']?([^\s"']*)""", header, re.IGNORECASE)
    counts = found[1].split(":")[2::3] if found else []
    columns = sum(int(count) for count in counts if count.isdecimal())
    if columns > len(row.split()):
        raise EquipotError(
            f"{where}: Properties names {columns} columns, and the first atom has {len(row.split())}; mend the file "
            "there"
        )
