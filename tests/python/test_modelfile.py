"""Damaged, truncated and hostile model files: one clear sentence, no crash, no great allocation."""
# SPDX-License-Identifier: MIT

import json
import resource
import struct

import numpy as np
import pytest
from structures import random_atoms

import equipot
from equipot.modelfile import parse_model


@pytest.fixture(scope="module")
def content(model_file):
    return model_file("default").read_bytes()


def parts(content):
    """Header as an object, and the bytes of the arrays."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def assemble(header, arrays, length=None):
    """A file without a checksum, so that what is wrong with it is met by what reads it."""
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict):
        header = header | {"__metadata__": {k: v for k, v in metadata.items() if k != "crc32"}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + arrays


def load(content, tmp_path):
    path = tmp_path / "damaged.equipot"
    path.write_bytes(content)
    return equipot.load(path)


def refused(content, tmp_path, *words):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(equipot.EquipotError) as caught:
        load(content, tmp_path)
    message = str(caught.value)
    assert "damaged.equipot" in message
    assert "\n" not in message
    for word in words:
        assert word in message, message
    # Peak memory, in kB: reading this small file must not take more than some tens of MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000


def test_the_undamaged_file_loads(content, tmp_path):
    assert load(content, tmp_path).species
    assert load(assemble(*parts(content)), tmp_path).species


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "missing.equipot", tmp_path):
        with pytest.raises(equipot.EquipotError, match=path.name):
            equipot.load(path)


def test_truncated(content, tmp_path):
    for keep in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 8, len(content) - 1):
        refused(content[:keep], tmp_path)


def test_too_long(content, tmp_path):
    refused(content + b"\0" * 8, tmp_path)


def test_something_else(tmp_path):
    refused(b"PK\x03\x04" + bytes(1000), tmp_path)
    refused(b"hello, this is a text file and not a model at all", tmp_path)
    refused(b"\xff" * 1000, tmp_path)


@pytest.mark.parametrize("length", [0, 1, 7, 2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_header_length_that_lies(content, tmp_path, length):
    header, arrays = parts(content)
    refused(assemble(header, arrays, length), tmp_path)


def test_deep_nesting(content, tmp_path):
    _, arrays = parts(content)
    text = b'{"a":' * 200_000
    refused(struct.pack("<Q", len(text)) + text + arrays, tmp_path)
    header, _ = parts(content)
    description = header["__metadata__"]["equipot"]
    nested = description[:-1] + ', "more": ' + 300_000 * "[" + 300_000 * "]" + "}"
    refused(assemble(header | {"__metadata__": {"equipot": nested}}, arrays), tmp_path, "nested")


def test_a_sparse_file_is_not_read_whole(tmp_path):
    with open(tmp_path / "damaged.equipot", "wb") as file:
        file.truncate(1 << 40)  # a terabyte, of which nothing is on the disk
    with pytest.raises(equipot.EquipotError, match="not begin"):
        equipot.load(tmp_path / "damaged.equipot")


def test_arrays_that_share_their_place(content, tmp_path):
    header, arrays = parts(content)
    header |= {f"more.{k}": header["embedding"] for k in range(1000)}
    refused(assemble(header, arrays), tmp_path, "place")


def test_arrays_of_a_layer_that_nobody_asked_for(content, tmp_path):
    header, arrays = parts(content)
    place = {"dtype": "F64", "shape": [1], "data_offsets": [len(arrays), len(arrays) + 8]}
    assert load(assemble(header | {"more": place}, arrays + bytes(8)), tmp_path).species
    refused(assemble(header | {"layer.0.more": place}, arrays + bytes(8)), tmp_path, "layer.0.more")


def test_a_network_without_hidden_units(content, tmp_path):
    header, arrays = parts(content)
    (name,) = (name for name in header if name.endswith("readout.1"))
    last = name.replace("readout.1", "readout.0")
    for key in (name, last):
        smaller = without(header, arrays, key)
        shape = [*header[key]["shape"][:-1], 0]
        header, arrays = parts(smaller)
        header[key] = {"dtype": "F64", "shape": shape, "data_offsets": [len(arrays), len(arrays)]}
    refused(assemble(header, arrays), tmp_path, last)


def without(header, arrays, name):
    """The file without one array, in good order otherwise."""
    begin, end = header[name]["data_offsets"]
    kept = {}
    for key, entry in header.items():
        if key != name and key != "__metadata__" and entry["data_offsets"][0] >= end:
            entry = entry | {"data_offsets": [offset - (end - begin) for offset in entry["data_offsets"]]}
        if key != name:
            kept[key] = entry
    return assemble(kept, arrays[:begin] + arrays[end:])


def some_array(header):
    return next(name for name in header if name.startswith("layer.0.mix"))


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [2**40, 2**40]},
        {"shape": [2**62, 4]},
        {"shape": [-1, 8]},
        {"shape": [1]},
        {"shape": []},
        {"shape": "many"},
        {"data_offsets": [0, 2**60]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [-8, 8]},
        {"data_offsets": [0]},
        {"data_offsets": None},
        {"dtype": "F16"},
        {"dtype": 64},
    ],
)
def test_declared_sizes_that_lie(content, tmp_path, entry):
    header, arrays = parts(content)
    header[some_array(header)] |= entry
    refused(assemble(header, arrays), tmp_path)


def test_missing_arrays(content, tmp_path):
    header, arrays = parts(content)
    for name in header:
        if name != "__metadata__":
            refused(without(header, arrays, name), tmp_path, name.rpartition(".")[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite(content, tmp_path, bad):
    header, arrays = parts(content)
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F64":
            continue
        end = entry["data_offsets"][1]
        values = bytearray(arrays)
        values[end - 8 : end] = struct.pack("<d", bad)
        refused(assemble(header, bytes(values)), tmp_path, name)


def change(content, **settings):
    header, arrays = parts(content)
    text = json.loads(header["__metadata__"]["equipot"])
    text.update(settings)
    header["__metadata__"]["equipot"] = json.dumps(text)
    return assemble(header, arrays)


def test_a_newer_version(content, tmp_path):
    refused(change(content, version=99), tmp_path, "99")


@pytest.mark.parametrize(
    "settings",
    [
        {"version": "one"},
        {"version": 0},
        {"species": []},
        {"species": [1, 1]},
        {"species": [0, 1]},
        {"species": [1, 400]},
        {"species": "H"},
        {"species": [1.9, 8]},
        {"species": [2**32 + 1, 8]},
        {"cutoff": -5.0},
        {"cutoff": 0.0},
        {"cutoff": 1e300},
        {"cutoff": "far"},
        {"channels": 0},
        {"channels": -3},
        {"channels": 2**40},
        {"channels": 1.5},
        {"l_max": 17},
        {"l_max": -1},
        {"heads": []},
        {"heads": [1]},
        {"layers": []},
        {"layers": {}},
        {"layers": [{}]},
        {"radial": None},
        {"radial": {"basis": "bessel", "size": 2**40}},
        {"activation": "tanhh"},
        {"activation": 3},
        {"zbl": []},
    ],
)
def test_settings_that_make_no_sense(content, tmp_path, settings):
    refused(change(content, **settings), tmp_path)


def test_metadata_that_is_not_ours(content, tmp_path):
    header, arrays = parts(content)
    for metadata in ({}, {"equipot": "{"}, {"equipot": "[]"}, {"equipot": 3}, None):
        refused(assemble(header | {"__metadata__": metadata}, arrays), tmp_path)


def test_a_changed_number_is_noticed(content, tmp_path):
    (length,) = struct.unpack("<Q", content[:8])
    rng = np.random.default_rng(2)
    for place in rng.integers(8 + length, len(content), 20):
        damaged = bytearray(content)
        damaged[place] ^= 1
        refused(bytes(damaged), tmp_path, "checksum")
        with pytest.raises(equipot.EquipotError, match="checksum"):
            parse_model(bytes(damaged))
    header, arrays = parts(content)
    description = header["__metadata__"]["equipot"]
    header["__metadata__"]["equipot"] = description.replace('"cutoff": ', '"cutoff":  1')
    assert description != header["__metadata__"]["equipot"]
    text = json.dumps(header).encode()
    refused(struct.pack("<Q", len(text)) + text + arrays, tmp_path, "checksum")


def test_flipped_bits(content, tmp_path):
    """Without a checksum, a flipped bit gives an error or a model that still runs (a weight changed), never a crash."""
    rng = np.random.default_rng(1)
    content = assemble(*parts(content))
    (length,) = struct.unpack("<Q", content[:8])
    places = np.concatenate([rng.integers(0, 8 + length, 300), rng.integers(8 + length, len(content), 60)])
    loaded = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        try:
            potential = load(bytes(damaged), tmp_path)
            potential.compute(random_atoms(1, potential.species, 3, cell=None))
            loaded += 1
        except equipot.EquipotError:
            continue
    assert 0 < loaded < len(places)
