# SPDX-License-Identifier: MIT
"""The ``.equipot`` model file: a safetensors container whose metadata describes the potential.

Only numpy is needed. The format is described in ``src/model/FORMAT.md``.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from equipot import EquipotError, __version__
from equipot.files import write_whole

FORMAT_VERSION = 1
"""Newest version of the model file that this package reads and writes."""

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_MAX_HEADER = 100_000_000  # the limit of the safetensors format itself


class ModelFileError(EquipotError, ValueError):
    """A model file, or a model to be written, that is not what it should be."""


@dataclass
class ModelFile:
    """A potential as it lies in a file.

    Attributes
    ----------
    meta : dict
        The description: species, cutoff, radial basis, layers, card (see FORMAT.md).
    arrays : dict of str to numpy.ndarray
        The numbers by name, float64 or int32.
    """

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def card(self) -> dict[str, Any]:
        """The model card: what the potential is, where it comes from, how far it holds."""
        return self.meta.setdefault("card", {})

    @property
    def parameters(self) -> int:
        """Number of float64 values, coupling coefficients left out."""
        return sum(a.size for n, a in self.arrays.items() if not n.startswith("basis."))


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read a model file.

    Parameters
    ----------
    path : path-like
        A file written by equipot.

    Returns
    -------
    ModelFile

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, not a model, or newer than this package.
    """
    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f"'{path}' is a folder, not a model file.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"Cannot read the model file '{path}': {error.strerror}.") from error
    return parse_model(data, str(path))


def parse_model(data: bytes, name: str = "model") -> ModelFile:
    """Read a model from bytes already in memory; `name` is used in errors."""

    def fail(what: str) -> ModelFileError:
        return ModelFileError(f"The model file '{name}' {what}.")

    if data.startswith((b"PK\x03\x04", b"\xfd7zXZ")):
        raise fail(f"is not an equipot model; if it is a MACE model, convert it: equipot convert {name}")
    if len(data) < 8:
        raise fail("is too short to be a model file: it is damaged or was not copied to its end")
    size = int.from_bytes(data[:8], "little")
    if size > _MAX_HEADER:
        raise fail("is not an equipot model: it does not begin as a safetensors file does")
    if size > len(data) - 8:
        raise fail("ends inside its header: it is damaged or was not copied to its end")
    try:
        header = json.loads(data[8 : 8 + size].decode("utf-8"), object_pairs_hook=_unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, _DuplicateKey) as error:
        raise fail(f"has a header that cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise fail("has a header that is not a JSON object")
    metadata = header.pop("__metadata__", {})
    text = metadata.get("equipot") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise fail("is a safetensors file but not an equipot model: it has no 'equipot' description")

    body = memoryview(data)[8 + size :]
    arrays: dict[str, np.ndarray] = {}
    end = 0
    for key, entry in sorted(header.items(), key=lambda item: _start(item[1])):
        dtype, shape, start, stop = _checked_entry(entry, key, fail)
        if start != end or stop > len(body):
            raise fail(f"places the array '{key}' outside its data: it is damaged or was not copied to its end")
        end = stop
        # int product in Python numbers: hostile shapes must not wrap around
        count = 1
        for extent in shape:
            count *= extent
        if count * dtype.itemsize != stop - start:
            raise fail(f"gives the array '{key}' a shape that does not fit its length")
        arrays[key] = np.frombuffer(body[start:stop], dtype=dtype).reshape(shape).copy()
    if end != len(body):
        raise fail("has more data than its header names: it is damaged")
    if metadata.get("crc32", (known := _checksum(text, body))) != known:
        raise fail("does not hold what its checksum says: it is damaged")

    try:
        meta = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise fail(f"has a description that is not JSON ({error})") from error
    if not isinstance(meta, dict):
        raise fail("has a description that is not a JSON object")
    version = meta.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise fail("does not say its format version")
    if version > FORMAT_VERSION:
        card = meta.get("card")
        writer = card.get("created_by", "a newer equipot") if isinstance(card, dict) else "a newer equipot"
        raise fail(
            f"has format version {version}, written by {writer}; this equipot {__version__} reads versions up to "
            f"{FORMAT_VERSION}: update equipot"
        )
    return ModelFile(meta, arrays)


def write_model(model: ModelFile, path: str | os.PathLike[str]) -> None:
    """Write a model file, whole or not at all.

    The bytes go to a temporary file in the same folder, which then takes the name `path`.

    Raises
    ------
    ModelFileError
        If the model cannot be written as JSON and arrays, or the folder cannot be written to.
    """
    path = Path(path)
    data = serialize_model(model)
    try:
        write_whole(path, lambda file: file.write(data))
    except OSError as error:
        raise ModelFileError(
            f"Cannot write the model file '{path}': {error.strerror}; check the folder and the free space."
        ) from error


def serialize_model(model: ModelFile) -> bytes:
    """Give the bytes of a model file (the same model always gives the same bytes)."""
    try:
        text = json.dumps(model.meta, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"The model's description cannot be written as JSON ({error}).") from error
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = 0
    # widest types first, so that every array starts at a multiple of its item size
    for key in sorted(model.arrays, key=lambda k: (-np.asarray(model.arrays[k]).itemsize, k)):
        array = np.ascontiguousarray(model.arrays[key])
        name = _NAMES.get(array.dtype.newbyteorder("<"))
        if name is None:
            raise ModelFileError(f"The array '{key}' has the type {array.dtype}, which a model file cannot hold.")
        part = array.astype(_DTYPES[name], copy=False).tobytes()
        shape = list(np.shape(model.arrays[key]))
        header[key] = {"dtype": name, "shape": shape, "data_offsets": [offset, offset + len(part)]}
        offset += len(part)
        parts.append(part)
    header["__metadata__"] = {"equipot": text, "crc32": _checksum(text, *parts)}
    head = json.dumps(header).encode("utf-8")
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *parts])


def _checksum(text: str, *parts: bytes | memoryview) -> str:
    crc = zlib.crc32(text.encode("utf-8"))
    for part in parts:
        crc = zlib.crc32(part, crc)
    return f"{crc:08x}"


def check_model(model: ModelFile, name: str = "model") -> None:
    """Check that a model has every array that its description asks for, in the right shape and finite.

    Raises
    ------
    ModelFileError
        Naming the first array that is missing, misshapen or not finite.
    """
    expected = expected_shapes(model)
    for key, shape in expected.items():
        array = model.arrays.get(key)
        if array is None:
            raise ModelFileError(f"The model '{name}' has no array '{key}'.")
        if tuple(array.shape) != shape:
            raise ModelFileError(f"In the model '{name}' the array '{key}' is {array.shape} instead of {shape}.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelFileError(f"In the model '{name}' the array '{key}' has numbers that are not finite.")


def expected_shapes(model: ModelFile) -> dict[str, tuple[int, ...]]:
    """Give the name and shape of every array that the description of `model` asks for.

    Sizes that the description leaves open (widths of networks, number of couplings) are taken from the arrays.
    """
    meta, arrays = model.meta, model.arrays

    def extent(key: str, axis: int) -> int:
        array = arrays.get(key)
        return int(array.shape[axis]) if array is not None and array.ndim > axis else 0

    k, nz, heads = meta["channels"], len(meta["species"]), len(meta["heads"])
    l_max, layers, radial = meta["l_max"], meta["layers"], meta["radial"]
    shapes: dict[str, tuple[int, ...]] = {
        "embedding": (nz, k),
        "energy.e0": (heads, nz),
        "energy.scale": (heads,),
        "energy.shift": (heads,),
    }
    if radial["basis"] == "bessel":
        shapes["radial.frequencies"] = (radial["size"],)
    if radial["basis"] == "gaussian":
        shapes["radial.centers"] = (radial["size"],)
    if radial["transform"]["type"] != "none":
        shapes["radial.transform.radii"] = (nz,)
    if meta.get("zbl"):
        shapes["zbl.radii"] = (nz,)

    def network(prefix: str, outputs: int) -> None:
        width, depth = radial["size"], 0
        while f"{prefix}.{depth}" in arrays:
            following = f"{prefix}.{depth + 1}" in arrays
            out = extent(f"{prefix}.{depth}", 1) if following else outputs
            shapes[f"{prefix}.{depth}"] = (width, out)
            width, depth = out, depth + 1
        if depth == 0:
            shapes[f"{prefix}.0"] = (width, outputs)

    for t, layer in enumerate(layers):
        l_in, l_out, paths = layer["hidden_in"], layer["hidden_out"], layer["paths"]
        at = f"layer.{t}"
        for ell in range(l_in + 1):
            shapes[f"{at}.up.{ell}"] = (k, k)
        network(f"{at}.radial", len(paths) * k)
        if layer["density"]:
            network(f"{at}.density", 1)
        for ell in range(l_max + 1):
            rows = sum(p[2] == ell for p in paths) * k
            shapes[f"{at}.mix.{ell}"] = (nz, rows, k) if layer["mixing"] == "species" else (rows, k)
        for ell in range(l_out + 1):
            for n in range(1, layer["correlation"] + 1):
                if extent(f"basis.{ell}.{n}.value", 0) > 0:
                    paths_eta = int(arrays[f"basis.{ell}.{n}.index"][:, 1].max()) + 1
                    shapes[f"{at}.product.{ell}.{n}"] = (nz, paths_eta, k)
                    entries = extent(f"basis.{ell}.{n}.value", 0)
                    shapes[f"basis.{ell}.{n}.index"] = (entries, n + 2)
                    shapes[f"basis.{ell}.{n}.value"] = (entries,)
            shapes[f"{at}.out.{ell}"] = (k, k)
            if layer["skip"] and ell <= l_in:
                shapes[f"{at}.skip.{ell}"] = (nz, k, k)
        if layer["readout"] == "linear":
            shapes[f"{at}.readout.0"] = (heads, k)
        if layer["readout"] == "mlp":
            width = extent(f"{at}.readout.0", 2)
            shapes[f"{at}.readout.0"] = (heads, k, width)
            shapes[f"{at}.readout.1"] = (heads, width)
    return shapes


class _DuplicateKey(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _DuplicateKey("a name appears twice")
    return result


def _start(entry: Any) -> int:
    try:
        start = entry["data_offsets"][0]
    except (TypeError, KeyError, IndexError):
        return -1
    return start if isinstance(start, int) else -1


def _checked_entry(entry: Any, key: str, fail: Any) -> tuple[np.dtype, list[int], int, int]:
    def natural(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    if not isinstance(entry, dict) or entry.get("dtype") not in _DTYPES:
        raise fail(f"gives the array '{key}' a type that is not known")
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or len(shape) > 32 or not all(natural(extent) for extent in shape):
        raise fail(f"gives the array '{key}' a shape that cannot be read")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(natural(o) for o in offsets)
        or offsets[0] > offsets[1]
    ):
        raise fail(f"gives the array '{key}' a place that cannot be read")
    return np.dtype(_DTYPES[entry["dtype"]]), shape, offsets[0], offsets[1]
