# SPDX-License-Identifier: MIT
"""Reads PyTorch checkpoints of whole modules without PyTorch and without running anything in them.

A checkpoint is a zip archive with a pickle (the objects) and one member per tensor storage. A pickle may ask its
reader to import and call anything; here every name it asks for resolves to an inert `Stub` class, except for a
handful of functions of this module that only build numpy arrays and plain containers.
"""

from __future__ import annotations

import collections
import io
import lzma
import pickle
import zipfile
from typing import Any

import numpy as np

from equipot import EquipotError

_MAX_UNPACKED = 8 << 30  # bytes; the largest published checkpoints are far below
_MAX_EXPANDED = 1 << 20  # elements of a tensor that repeats its storage
_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")

_DTYPES = {
    "Double": "f8",
    "Float": "f4",
    "Half": "f2",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "ComplexFloat": "c8",
    "ComplexDouble": "c16",
}


class CheckpointError(EquipotError, ValueError):
    """A checkpoint that cannot be read."""


class Stub:
    """An object of a checkpoint whose class is not imported: its name and its state, nothing else.

    Attributes
    ----------
    stub_module, stub_name : str
        Where the class came from, for example ``e3nn.o3._linear`` and ``Linear``.
    stub_args : tuple
        The arguments it was made with.
    """

    stub_module = ""
    stub_name = ""
    stub_args: tuple[Any, ...]
    stub_items: list[Any]

    def __new__(cls, *args: Any, **_kwargs: Any) -> Stub:
        self = object.__new__(cls)
        self.__dict__["stub_args"] = args
        self.__dict__["stub_items"] = []
        return self

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.__dict__.update({key: value for key, value in part.items() if isinstance(key, str)})
        self.__dict__["stub_state"] = state

    # what pickles do to lists and dicts that are subclasses
    def append(self, item: Any) -> None:
        self.__dict__["stub_items"].append(item)

    def extend(self, items: Any) -> None:
        self.__dict__["stub_items"].extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__["stub_items"].append((key, value))

    def add(self, item: Any) -> None:
        self.__dict__["stub_items"].append(item)

    # a module's parameters, buffers and children, looked up as attributes
    def has(self, name: str) -> bool:
        """Say whether the object has an attribute, parameter, buffer or child of this name."""
        return self.get(name, _MISSING) is not _MISSING

    def get(self, name: str, default: Any = None) -> Any:
        """Give an attribute, parameter, buffer or child, or `default`."""
        state = self.__dict__
        for group in ("_parameters", "_buffers", "_modules"):
            members = state.get(group)
            if isinstance(members, dict) and name in members:
                return members[name]
        if name.startswith("stub_"):
            return default
        return state.get(name, default)

    def children(self) -> list[Any]:
        """Give the members of a ModuleList or ParameterList in order."""
        state = self.__dict__
        members: dict[str, Any] = {}
        for group in ("_parameters", "_buffers", "_modules"):
            entries = state.get(group)
            if isinstance(entries, dict):
                members.update({k: v for k, v in entries.items() if isinstance(k, str) and k.isdigit()})
        members.update({k: v for k, v in state.items() if k.isdigit()})
        return [members[key] for key in sorted(members, key=int)]

    def __repr__(self) -> str:
        return f"<{self.stub_module}.{self.stub_name}>"


_MISSING = object()


class _Storage:
    """A tensor storage: a flat numpy array that a tensor is a view of."""

    def __init__(self, data: np.ndarray | None, raw: bytes, swap: bool) -> None:
        self.data, self.raw, self.swap = data, raw, swap


class _Dtype:
    """A numpy dtype asked for by the pickle, kept to plain numbers."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biufc":
            raise CheckpointError("it holds a numpy array that is not of plain numbers")

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.dtype = self.dtype.newbyteorder(">")


class _NumpyArray:
    """A numpy array that the pickle fills in after making it."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise CheckpointError("it holds a numpy array that is not of plain numbers")
        array = np.frombuffer(data, dtype=dtype.dtype)
        self.array = array.reshape(shape, order="F" if fortran else "C").copy()


# The pure-Python unpickler: its memo is a dict, so that a hostile index cannot make it allocate without bound.
class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    def __init__(self, data: bytes, archive: _Archive) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._archive = archive
        self._classes: dict[tuple[str, str], type] = {}
        # bound methods: a pickle cannot set attributes on them
        self._functions: dict[tuple[str, str], Any] = {
            ("torch._utils", "_rebuild_tensor"): self._tensor_v1,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v3"): self._tensor_v3,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): self._parameter,
            ("torch._tensor", "_rebuild_from_type_v2"): self._from_type,
            ("torch", "Size"): self._size,
            ("_codecs", "encode"): self._encode,
            ("builtins", "getattr"): self._attribute,
            ("builtins", "bytearray"): self._bytes,
            ("numpy.core.multiarray", "scalar"): self._numpy_scalar,
            ("numpy.core.multiarray", "_reconstruct"): self._numpy_array,
            ("numpy", "dtype"): self._numpy_dtype,
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("builtins", "set"): set,
            ("builtins", "frozenset"): frozenset,
            ("builtins", "list"): list,
            ("builtins", "tuple"): tuple,
            ("builtins", "dict"): dict,
            ("builtins", "complex"): complex,
        }

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module).replace("numpy._core", "numpy.core")
        known = self._functions.get((module, name))
        if known is not None:
            return known
        if (module, name) not in self._classes:
            text = "".join(c if c.isidentifier() or c.isdigit() else "_" for c in name) or "_"
            self._classes[module, name] = type(text, (Stub,), {"stub_module": module, "stub_name": name})
        return self._classes[module, name]

    def get_extension(self, code: int) -> None:
        raise CheckpointError("it uses pickle extensions, which model checkpoints never do")

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise CheckpointError("it refers to data outside itself")
        kind, key, _location, count = pid[1:5]
        name = getattr(kind, "stub_name", "")
        if not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise CheckpointError("it has a tensor storage that cannot be read")
        return self._archive.storage(key, name, count)

    # -- builders of arrays -------------------------------------------------------------------------------------

    def _tensor(self, storage: Any, offset: int, size: Any, stride: Any, *_rest: Any) -> np.ndarray:
        if not isinstance(storage, _Storage) or storage.data is None:
            raise CheckpointError("it has a tensor of a kind that is not supported")
        return _view(storage.data, offset, size, stride)

    def _tensor_v1(self, storage: Any, offset: int, size: Any, stride: Any) -> np.ndarray:
        return self._tensor(storage, offset, size, stride)

    def _tensor_v3(
        self, storage: Any, offset: int, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_rest: Any
    ) -> np.ndarray:
        name = {
            "float64": "Double",
            "float32": "Float",
            "float16": "Half",
            "bfloat16": "BFloat16",
            "int64": "Long",
            "int32": "Int",
            "int16": "Short",
            "int8": "Char",
            "uint8": "Byte",
            "bool": "Bool",
        }.get(getattr(dtype, "stub_name", ""))
        if not isinstance(storage, _Storage) or name is None:
            raise CheckpointError("it has a tensor of a kind that is not supported")
        return _view(_decode(storage.raw, name, storage.swap), offset, size, stride)

    def _parameter(self, data: Any, *_rest: Any) -> Any:
        return data

    def _from_type(self, function: Any, _kind: Any, arguments: Any, _state: Any) -> Any:
        if function not in (self._tensor, self._tensor_v1, self._tensor_v3, self._parameter):
            raise CheckpointError("it has a tensor of a kind that is not supported")
        return function(*arguments)

    def _size(self, size: Any = ()) -> tuple[int, ...]:
        return tuple(size)

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise CheckpointError("it has bytes in an encoding that is not supported")
        return text.encode("latin1")

    def _bytes(self, data: Any = b"", *_rest: Any) -> bytes:
        return data if isinstance(data, bytes) else b""

    def _attribute(self, owner: Any, name: Any) -> Any:
        # torch.tanh and its like are pickled as an attribute of a hidden class: only the name is of use
        module, outer = getattr(owner, "stub_module", ""), getattr(owner, "stub_name", "")
        if not isinstance(name, str) or not module:
            raise CheckpointError("it asks for an attribute of something that is not part of a model")
        return self.find_class(f"{module}.{outer}", name)

    def _numpy_dtype(self, code: Any, *_rest: Any) -> _Dtype:
        return _Dtype(str(code))

    def _numpy_scalar(self, dtype: Any, data: Any = b"") -> Any:
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise CheckpointError("it holds a numpy number that cannot be read")
        return np.frombuffer(data, dtype=dtype.dtype, count=1)[0]

    def _numpy_array(self, *_arguments: Any) -> _NumpyArray:
        return _NumpyArray()


class _Archive:
    """The zip archive of a checkpoint."""

    def __init__(self, data: bytes) -> None:
        self.zip = zipfile.ZipFile(io.BytesIO(data))
        members = self.zip.infolist()
        if sum(member.file_size for member in members) > _MAX_UNPACKED:
            raise CheckpointError("it would unpack to more than 8 GiB")
        self.sizes = {member.filename: member.file_size for member in members}
        pickles = [name for name in self.sizes if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError("it is a zip archive but not a PyTorch checkpoint: it has no 'data.pkl'")
        self.prefix = pickles[0][: -len("data.pkl")]
        if any(name.startswith(self.prefix + "code/") for name in self.sizes):
            raise CheckpointError(
                "it is a compiled TorchScript model, which no longer says what it computes: convert the '.model' file "
                "that MACE saved beside it"
            )
        order = self.prefix + "byteorder"
        self.swap = order in self.sizes and self.zip.read(order).strip() == b"big"
        self._storages: dict[tuple[str, str], _Storage] = {}

    def pickle(self) -> bytes:
        return self.zip.read(self.prefix + "data.pkl")

    def storage(self, key: str, kind: str, count: int) -> _Storage:
        if (key, kind) not in self._storages:
            member = f"{self.prefix}data/{key}"
            if member not in self.sizes:
                raise CheckpointError("it lacks the numbers of one of its tensors")
            raw = self.zip.read(member)
            name = kind.removesuffix("Storage")
            data = None
            if name != "Untyped":
                data = _decode(raw, name, self.swap)
                if data.size < count:
                    raise CheckpointError("it has fewer numbers than one of its tensors needs")
            self._storages[key, kind] = _Storage(data, raw, self.swap)
        return self._storages[key, kind]


def parse_checkpoint(data: bytes, name: str = "checkpoint") -> Any:
    """Read a checkpoint that ``torch.save`` wrote of a whole module.

    Parameters
    ----------
    data : bytes
        What the file holds, which may be compressed with xz.
    name : str
        What errors call it.

    Returns
    -------
    object
        The pickled object, usually a `Stub` for a module; tensors are numpy arrays in the type they were saved in
        (bfloat16 becomes float32).

    Raises
    ------
    CheckpointError
        One sentence saying why it cannot be read. Nothing in it is ever executed.
    """
    try:
        if data[:6] == b"\xfd7zXZ\x00":
            data = _unpack_xz(data)
        if data[: len(_LEGACY_MAGIC)] == _LEGACY_MAGIC or data[257:262] == b"ustar":
            raise CheckpointError(
                "it is in PyTorch's old format without a zip archive: load it with torch.load and save it again with "
                "torch.save (PyTorch 1.6 or newer), then convert that"
            )
        if data[8:9] == b"{":
            raise CheckpointError("it seems to be an equipot model already")
        if data[:4] != b"PK\x03\x04":
            raise CheckpointError("it is not a PyTorch checkpoint, or its beginning is damaged")
        archive = _Archive(data)
        return _finish(_Unpickler(archive.pickle(), archive).load())
    except CheckpointError as error:
        raise CheckpointError(f"Cannot read the checkpoint '{name}': {error}.") from None
    except (zipfile.BadZipFile, lzma.LZMAError, EOFError) as error:
        reason = str(error).rstrip(".") or "it ends too early"
        raise CheckpointError(
            f"Cannot read the checkpoint '{name}': it is damaged or was not copied to its end ({reason})."
        ) from error
    except (MemoryError, RecursionError) as error:
        raise CheckpointError(f"Cannot read the checkpoint '{name}': it asks for more memory than there is.") from error
    except Exception as error:  # a hostile pickle can make the unpickler stumble in any way
        raise CheckpointError(
            f"Cannot read the checkpoint '{name}': its objects are damaged or not those of a model "
            f"({type(error).__name__}: {error})."
        ) from error


def _unpack_xz(data: bytes) -> bytes:
    unpacker = lzma.LZMADecompressor(memlimit=1 << 30)
    parts, total = [], 0
    while not unpacker.eof:
        part = unpacker.decompress(data, max_length=1 << 26)
        data = b""
        if not part and unpacker.needs_input:
            raise EOFError("the compressed data end too early")
        parts.append(part)
        total += len(part)
        if total > _MAX_UNPACKED:
            raise CheckpointError("it would unpack to more than 8 GiB")
    return b"".join(parts)


def _decode(raw: bytes, name: str, swap: bool) -> np.ndarray:
    if name == "BFloat16":
        half = np.frombuffer(raw, dtype=">u2" if swap else "<u2", count=len(raw) // 2)
        return (half.astype(np.uint32) << 16).view(np.float32)
    if name not in _DTYPES:
        raise CheckpointError(f"it has tensors of the type '{name}', which is not supported")
    dtype = np.dtype(_DTYPES[name]).newbyteorder(">" if swap else "<")
    return np.frombuffer(raw, dtype=dtype, count=len(raw) // dtype.itemsize).astype(dtype.newbyteorder("="))


def _view(data: np.ndarray, offset: Any, size: Any, stride: Any) -> np.ndarray:
    """Copy a strided view out of a storage, with every bound checked in unbounded integers."""
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or not all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)):
        raise CheckpointError("it has a tensor with a shape that cannot be read")
    count, last = 1, offset
    for extent, step in zip(size, stride, strict=True):
        count *= extent
        last += (extent - 1) * step
    if count == 0:
        return np.zeros(size, dtype=data.dtype)
    if last >= data.size or count > max(data.size, _MAX_EXPANDED):
        raise CheckpointError("it has a tensor that reaches beyond its numbers")
    strides = tuple(step * data.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(data[offset:], shape=size, strides=strides).copy()


def _finish(root: Any) -> Any:
    """Replace the numpy arrays that were filled late by the arrays themselves, everywhere below `root`."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        members: Any
        if isinstance(item, Stub):
            members = item.__dict__
        elif isinstance(item, (dict, list)):
            members = item
        else:
            if isinstance(item, (tuple, set, frozenset)):
                todo.extend(item)
            continue
        for key, value in list(members.items() if isinstance(members, dict) else enumerate(members)):
            if isinstance(value, _NumpyArray):
                members[key] = value.array
            else:
                todo.append(value)
    return root.array if isinstance(root, _NumpyArray) else root
