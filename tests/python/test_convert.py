# SPDX-License-Identifier: MIT
"""Model files, product basis, and the conversion of MACE checkpoints."""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import os
import pickle
import pickletools
import zipfile
from pathlib import Path

import numpy as np
import pytest
import reference
from models import random_model

from equipot import EquipotError
from equipot.convert import CheckpointError, ConversionError, checkpoint, convert_file, convert_mace
from equipot.convert.checkpoint import Stub, parse_checkpoint
from equipot.modelfile import ModelFileError, check_model, parse_model, read_model, serialize_model, write_model
from equipot.product_basis import product_basis, wigner_3j

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "data" / "mace_tiny.model.xz"
GOLDEN = ROOT.parent / "shared" / "golden" / "mace"
TUTORIAL = ROOT.parent / "shared" / "data" / "models" / "mace_tutorial_mit"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden MACE models are not on this machine")
SUPPORTED = (
    "A_small16_HCO",
    "B_128x0e_agnesi_zbl",
    "B_128x0e_128x1o_agnesi_zbl",
    "C_1layer_32",
    "D_density32_agnesi_zbl",
    "E_residualfirst16_L1",
    "F_multihead16_density",
    "G_3layer_L2_corr2",
    "O_off23small_like_96x0e",
)


def golden_checkpoint(name: str) -> Path:
    path = GOLDEN / name / f"{name}.model.xz"
    if not path.is_file():
        pytest.skip(f"the golden MACE model {name} is not on this machine")
    return path


# -- agreement with mace-torch -----------------------------------------------------------------------------------------


@needs_golden
@pytest.mark.parametrize("name", SUPPORTED)
def test_golden_energies_per_atom(name: str) -> None:
    model = convert_mace(golden_checkpoint(name))
    check_model(model)
    values = np.load(GOLDEN / name / "reference.npz")
    structures = {key.rsplit("/", 1)[0] for key in values.files if key.endswith("/node_energy")}
    checked = 0
    for structure in sorted(structures):
        numbers = values[f"{structure}/numbers"]
        if len(numbers) > 12:
            continue
        head = model.meta["heads"].index(structure.split("/")[0]) if "/" in structure else 0
        energies, _ = reference.energies(
            model.meta,
            model.arrays,
            numbers,
            values[f"{structure}/positions"],
            values[f"{structure}/cell"],
            values[f"{structure}/pbc"],
            head,
        )
        np.testing.assert_allclose(energies, values[f"{structure}/node_energy"], rtol=0, atol=1e-9, err_msg=structure)
        checked += 1
    assert checked >= 10


@needs_golden
def test_nonlinear_blocks_are_refused_by_name() -> None:
    with pytest.raises(ConversionError, match="RealAgnosticResidualNonLinearInteractionBlock"):
        convert_mace(golden_checkpoint("H_nonlinear16_mh1like"))


@pytest.mark.skipif(not TUTORIAL.is_dir(), reason="the tutorial MACE models are not on this machine")
def test_trained_models_of_older_versions_convert() -> None:
    files = sorted(TUTORIAL.glob("*.model"))
    assert files
    for file in files:
        check_model(convert_mace(file), file.name)


def tiny_structures() -> list[tuple[str, str, dict[str, np.ndarray]]]:
    values = np.load(TINY.with_name("mace_tiny.npz"))
    return [
        (head, name, {key: values[f"{name}/{key}"] for key in ("numbers", "positions", "cell", "pbc")}
         | {"energies": values[f"{head}/{name}/energies"]})
        for name in ("water", "cell")
        for head in ("a", "b")
    ]  # fmt: skip


@pytest.mark.parametrize(("head", "name", "data"), tiny_structures())
def test_small_model_agrees_with_mace(head: str, name: str, data: dict[str, np.ndarray]) -> None:
    """Density blocks, Agnesi, ZBL and two heads, with energies from mace-torch."""
    expected = data.pop("energies")
    model = convert_mace(TINY)
    energies, _ = reference.energies(model.meta, model.arrays, **data, head=model.meta["heads"].index(head))
    np.testing.assert_allclose(energies, expected, rtol=1e-12, atol=1e-11)


def with_storages_of(kind: str, members: dict[str, bytes], keys: set[str]) -> bytes:
    """A checkpoint like that of `members`, with its float64 storages, named by `keys`, in another type."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in members.items():
            if name.rpartition("/data/")[2] in keys:
                single = np.frombuffer(content, dtype="<f8").astype("<f4")
                half = (single.view("<u4") >> 16).astype("<u2")
                content = (half if kind == "BFloat16" else single).tobytes()
            elif name.endswith("data.pkl"):
                # only names that the pickle itself asks for: compiled code within it has the same text
                asked = [
                    at
                    for op, text, at in pickletools.genops(content)
                    if (op.name, text) == ("GLOBAL", "torch DoubleStorage")
                ]
                for at in reversed(asked):
                    old = len("ctorch\nDoubleStorage\n")
                    content = content[:at] + f"ctorch\n{kind}Storage\n".encode() + content[at + old :]
            target.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "tolerance"), [("Float", 1e-4), ("BFloat16", 0.5)])
def test_single_precision_checkpoints_convert(tmp_path: Path, kind: str, tolerance: float) -> None:
    plain = lzma.decompress(TINY.read_bytes())
    archived = checkpoint._Archive(plain)
    checkpoint._Unpickler(archived.pickle(), archived).load()
    keys = {key for key, stored in archived._storages if stored == "DoubleStorage"}
    with zipfile.ZipFile(io.BytesIO(plain)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    file = tmp_path / "single.model"
    file.write_bytes(with_storages_of(kind, members, keys))
    model, exact = convert_mace(file), convert_mace(TINY)
    for name in exact.arrays:
        if name.startswith("basis."):
            np.testing.assert_array_equal(model.arrays[name], exact.arrays[name])
    _, _, data = tiny_structures()[0]
    expected = data.pop("energies")
    energies, _ = reference.energies(model.meta, model.arrays, **data)
    np.testing.assert_allclose(energies, expected, atol=tolerance)
    assert np.abs(energies - expected).max() > 0


def test_one_head_and_some_elements_can_be_kept() -> None:
    both = convert_mace(TINY)
    one = convert_mace(TINY, heads=["b"], species=["O"])
    assert one.meta["heads"] == ["b"]
    assert one.meta["species"] == [8]
    check_model(one)
    positions = np.array([[0.0, 0, 0], [1.2, 0.1, 0]])
    kept, _ = reference.energies(one.meta, one.arrays, np.array([8, 8]), positions)
    full, _ = reference.energies(both.meta, both.arrays, np.array([8, 8]), positions, head=1)
    np.testing.assert_allclose(kept, full, rtol=1e-14)


def test_heads_and_elements_that_are_not_there_are_named() -> None:
    with pytest.raises(ConversionError, match="no head 'c'; it has a, b"):
        convert_mace(TINY, heads=["c"])
    with pytest.raises(ConversionError, match="lacks the element Si; it has H, O"):
        convert_mace(TINY, species=[14])
    with pytest.raises(ConversionError, match="'Xx' is not an element"):
        convert_mace(TINY, species=["Xx"])


def test_card_tells_where_the_model_comes_from() -> None:
    card = convert_mace(TINY, card={"licence": "MIT"}).card
    assert card["origin"]["class"] == "ScaleShiftMACE"
    assert len(card["origin"]["sha256"]) == 64
    assert card["licence"] == "MIT"
    assert card["created_by"].startswith("equipot ")
    assert str(ROOT) not in json.dumps(card)


# -- refusals of checkpoints -------------------------------------------------------------------------------------------


def archive(pickled: bytes, **members: bytes) -> bytes:
    """A checkpoint as torch.save writes it, around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("model/data.pkl", pickled)
        for name, data in members.items():
            file.writestr("model/" + name, data)
    return buffer.getvalue()


class _Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    attacks = [
        _Calls(os.system, f"touch {mark}"),
        _Calls(exec, f"open({str(mark)!r}, 'w')"),
        _Calls(eval, f"open({str(mark)!r}, 'w')"),
        [_Calls(Path.touch, mark)],
        _Calls(getattr, _Calls(__import__, "os"), "system"),
    ]
    raw = [
        f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode(),
        f"(S'touch {mark}'\nios\nsystem\n.".encode(),
        b"c__builtin__\ngetattr\n(c__builtin__\nset\nS'__class__'\ntR.",
    ]
    for pickled in [pickle.dumps(attack, protocol=protocol) for attack in attacks for protocol in (2, 4)] + raw:
        data = archive(pickled)
        try:
            result = parse_checkpoint(data)
        except CheckpointError:
            pass
        else:
            assert isinstance(result, (Stub, list)) or issubclass(result, Stub)
        file = tmp_path / "attack.model"
        file.write_bytes(data)
        with pytest.raises(EquipotError):
            convert_mace(file)
        assert not mark.exists()


def tensor_of(kind: str, count: int, offset: int = 0) -> bytes:
    """A pickle of a transposed 2 x 2 tensor in a storage of `count` numbers."""
    storage = f"(S'storage'\nctorch\n{kind}Storage\nS'0'\nS'cuda:3'\nI{count}\ntQ"
    return f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I{offset}\n(I2\nI2\nt(I1\nI2\ntI00\nNtR.".encode()


@pytest.mark.parametrize("kind", ["Double", "Float", "Half", "BFloat16", "Long", "Int", "Bool"])
def test_tensors_of_all_types_are_read(kind: str) -> None:
    numbers = np.array([[1.5, 2.0], [-3.0, 0.0]])
    dtypes = {"Double": "f8", "Float": "f4", "Half": "f2", "Long": "i8", "Int": "i4", "Bool": "?"}
    if kind == "BFloat16":
        data = (numbers.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        numbers = numbers.astype(dtypes[kind])
        data = numbers.tobytes()
    tensor = parse_checkpoint(archive(tensor_of(kind, 4), **{"data/0": data}))
    np.testing.assert_array_equal(tensor, numbers.T)


def test_tensors_beyond_their_numbers_are_refused() -> None:
    for pickled in (tensor_of("Double", 5), tensor_of("Double", 4, 1), tensor_of("Double", 4, -1)):
        with pytest.raises(CheckpointError):
            parse_checkpoint(archive(pickled, **{"data/0": np.zeros(4).tobytes()}))
    with pytest.raises(CheckpointError, match="ComplexHalf"):
        parse_checkpoint(archive(tensor_of("ComplexHalf", 4), **{"data/0": np.zeros(4).tobytes()}))


def test_numpy_numbers_are_read() -> None:
    numbers = {"neighbors": np.float64(7.25), "energies": np.arange(6.0).reshape(2, 3), "heads": ["a"]}
    for protocol in (2, 4):
        result = parse_checkpoint(archive(pickle.dumps(numbers, protocol=protocol)))
        assert float(result["neighbors"]) == 7.25
        np.testing.assert_array_equal(result["energies"], numbers["energies"])
        assert result["heads"] == ["a"]


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (b"\x80\x02}q\x00.", "only numbers"),
        (b"\x80\x02K\x01.", "does not hold a model"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "damaged"),  # a huge memo index must not allocate
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "damaged|memory"),  # nor a huge length
        (b"\x80\x02\x82\x01.", "extensions"),
        (b"", "too early"),
        (b"\x80\x02cmace.modules.models\nAtomicDipolesMACE\n)\x81.", "AtomicDipolesMACE"),
        (b"\x80\x02cmace.modules.models\nScaleShiftMACE\n)\x81.", "lacks 'atomic_numbers'"),
    ],
)
def test_pickles_that_are_no_model(tmp_path: Path, pickled: bytes, message: str) -> None:
    file = tmp_path / "odd.model"
    file.write_bytes(archive(pickled))
    with pytest.raises(EquipotError, match=message):
        convert_mace(file)


def test_other_files_are_refused_with_advice(tmp_path: Path) -> None:
    file = tmp_path / "odd.model"
    legacy = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + b"rest"
    compiled = archive(b"\x80\x02N.", **{"code/model.py": b""})
    for data, message in ((legacy, "save it again"), (compiled, "TorchScript"), (b"hello", "not a PyTorch checkpoint"),
                          (b"", "not a PyTorch checkpoint")):  # fmt: skip
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match=message):
            convert_mace(file)
    with pytest.raises(EquipotError, match="folder"):
        convert_mace(tmp_path)
    with pytest.raises(EquipotError, match="Cannot read"):
        convert_mace(tmp_path / "missing.model")


def test_damaged_checkpoints_give_one_sentence(tmp_path: Path) -> None:
    packed = TINY.read_bytes()
    plain = lzma.decompress(packed)
    rng = np.random.default_rng(7)
    file = tmp_path / "damaged.model"
    for data in (packed, plain):
        for length in (0, 3, 5, 30, 100, len(data) // 2, len(data) - 1):
            file.write_bytes(data[:length])
            with pytest.raises(EquipotError):
                convert_mace(file)
    message = ""
    for _ in range(40):
        damaged = bytearray(plain)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            convert_mace(file)  # a flip in padding or in compiled code does no harm
        except EquipotError as error:
            message = str(error)
    assert "\n" not in message


def test_damaged_pickles_give_one_sentence(tmp_path: Path) -> None:
    """Flips that no checksum catches, because the archive is made anew around the damaged pickle."""
    with zipfile.ZipFile(io.BytesIO(lzma.decompress(TINY.read_bytes()))) as source:
        members = {name: source.read(name) for name in source.namelist()}
    (name,) = (name for name in members if name.endswith("data.pkl"))
    rng = np.random.default_rng(3)
    file = tmp_path / "damaged.model"
    refused = 0
    for _ in range(40):
        pickled = bytearray(members[name])
        for place in rng.integers(len(pickled), size=20):
            pickled[place] ^= 1 << int(rng.integers(8))
        with zipfile.ZipFile(file, "w") as target:
            for member, data in members.items():
                target.writestr(member, bytes(pickled) if member == name else data)
        try:
            convert_mace(file)
        except EquipotError:
            refused += 1
    assert refused > 0


def test_existing_files_are_not_overwritten_unasked(tmp_path: Path) -> None:
    target = tmp_path / "tiny.equipot"
    convert_file(TINY, target)
    before = target.read_bytes()
    with pytest.raises(ConversionError, match="exists: choose"):
        convert_file(TINY, target)
    convert_file(TINY, target, overwrite=True)
    assert target.read_bytes() == before
    with pytest.raises(ConversionError, match="no folder"):
        convert_file(TINY, tmp_path / "nowhere" / "tiny.equipot")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.equipot"]


# -- model files -------------------------------------------------------------------------------------------------------


def test_model_files_round_trip(tmp_path: Path) -> None:
    model = random_model(seed=1, zbl=True, transform="agnesi", density=True)
    path = tmp_path / "model.equipot"
    write_model(model, path)
    again = read_model(path)
    assert again.meta == model.meta
    assert again.arrays.keys() == model.arrays.keys()
    for name, array in model.arrays.items():
        assert again.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(again.arrays[name], array)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.equipot"]


def test_model_files_are_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    model = random_model(seed=2)
    path = tmp_path / "model.equipot"
    write_model(model, path)
    for name, array in safetensors.load_file(path).items():
        np.testing.assert_array_equal(array, model.arrays[name])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.equipot"
    write_model(random_model(seed=3), path)
    before = path.read_bytes()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ModelFileError, match="No space left"):
        write_model(random_model(seed=4), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.equipot"]


def test_damaged_model_files_are_refused() -> None:
    data = serialize_model(random_model(seed=5))
    for length in (0, 7, 8, 20, 500, len(data) - 1):
        with pytest.raises(ModelFileError):
            parse_model(data[:length])
    with pytest.raises(ModelFileError, match="more data"):
        parse_model(data + b"\0" * 8)
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(data[:8], "little")
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(header)] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(ModelFileError):
            parse_model(bytes(damaged))


def test_newer_versions_are_named() -> None:
    model = random_model(seed=6)
    model.meta |= {"version": 2, "card": {"created_by": "equipot 9.0"}}
    with pytest.raises(ModelFileError, match=r"version 2, written by equipot 9\.0"):
        parse_model(serialize_model(model))


def test_missing_misshapen_and_infinite_arrays_are_named() -> None:
    model = random_model(seed=7)
    for change, message in (
        (lambda arrays: arrays.pop("layer.1.out.0"), "no array 'layer.1.out.0'"),
        (lambda arrays: arrays.update({"embedding": np.zeros((2, 3))}), "'embedding' is"),
        (lambda arrays: arrays["energy.e0"].__setitem__((0, 0), np.nan), "not finite"),
    ):
        broken = parse_model(serialize_model(model))
        change(broken.arrays)
        with pytest.raises(ModelFileError, match=message):
            check_model(broken)


# -- couplings ---------------------------------------------------------------------------------------------------------


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def rotation_of_degree(matrix: np.ndarray, ell: int) -> np.ndarray:
    """The matrix D with Y(R v) = D Y(v), solved from many directions."""
    vectors = np.random.default_rng(0).normal(size=(4 * ell + 4, 3))
    before = reference.spherical_harmonics(vectors, ell)
    after = reference.spherical_harmonics(vectors @ matrix.T, ell)
    return np.linalg.lstsq(before, after, rcond=None)[0].T


def test_wigner_3j_agrees_with_integrals_of_harmonics() -> None:
    for l1 in range(4):
        for l2 in range(5):
            for l3 in range(abs(l1 - l2), min(l1 + l2, 6) + 1, 2):
                expected = reference.coupling(l1, l2, l3) / np.sqrt(2 * l3 + 1)
                np.testing.assert_allclose(wigner_3j(l1, l2, l3), expected, atol=1e-13)
    with pytest.raises(ValueError, match="triangle"):
        wigner_3j(1, 1, 3)


@pytest.mark.parametrize(("l_max", "orders"), [(1, 4), (2, 4), (3, 3), (4, 2)])
def test_product_basis_is_equivariant_and_independent(l_max: int, orders: int) -> None:
    rng = np.random.default_rng(l_max)
    matrix = rotation(rng)
    turn = [rotation_of_degree(matrix, ell) for ell in range(l_max + 1)]
    density = rng.normal(size=(400, (l_max + 1) ** 2))
    turned = np.concatenate([density[:, ell * ell : (ell + 1) ** 2] @ turn[ell].T for ell in range(l_max + 1)], axis=1)
    parity = np.concatenate([[(-1.0) ** ell] * (2 * ell + 1) for ell in range(l_max + 1)])
    for l_out in range(min(l_max, 2) + 1):
        for order in range(1, orders + 1):
            basis = product_basis(l_max, l_out, order)
            value = basis.evaluate(density)
            expected = np.einsum("ab,nbp->nap", turn[l_out], value)
            np.testing.assert_allclose(basis.evaluate(turned), expected, atol=1e-10)
            np.testing.assert_allclose(basis.evaluate(density * parity), (-1) ** l_out * value, atol=1e-12)
            assert np.linalg.matrix_rank(value.reshape(-1, basis.paths)) == basis.paths
            assert (np.diff(basis.index[:, 2:], axis=1) >= 0).all()


def test_numbers_of_couplings_are_the_known_ones() -> None:
    # counted by hand: multisets of degrees with even sum that fulfil the triangle rule
    assert [product_basis(3, 0, n).paths for n in (1, 2, 3)] == [1, 4, 8]
    assert product_basis(3, 1, 2).paths == 3
    assert product_basis(1, 2, 1).paths == 0


# -- the oracle itself -------------------------------------------------------------------------------------------------

OPTIONS = {
    "one layer": {"layers": 1},
    "three layers, l = 2": {"layers": 3, "hidden_l": (2, 1), "l_max": 3, "correlation": (2, 3, 1)},
    "density": {"density": True, "mixing": "shared", "skip": True},
    "gaussian, soft, zbl": {"basis": "gaussian", "transform": "soft", "zbl": True},
    "chebyshev, agnesi": {"basis": "chebyshev", "transform": "agnesi", "envelope_on": "weights", "density": True},
    "heads": {"heads": ("a", "b"), "last_readout_only": True, "activation": "tanh"},
    "linear readout, order 4": {"readout": "linear", "correlation": 4, "l_max": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_random_models_are_symmetric(name: str) -> None:
    model = random_model(seed=11, **OPTIONS[name])
    rng = np.random.default_rng(2)
    numbers = np.array([8, 1, 1, 8, 1])
    positions = rng.uniform(0, 3, (5, 3))
    cell = np.array([[4.0, 0, 0], [1.0, 3.5, 0], [-0.5, 0.7, 4.2]])
    head = len(model.meta["heads"]) - 1
    energies, _ = reference.energies(model.meta, model.arrays, numbers, positions, cell, True, head)
    assert np.isfinite(energies).all()
    without, _ = reference.energies(
        model.meta, model.arrays, numbers, positions + 100 * np.arange(5)[:, None], head=head
    )
    assert np.abs(energies - without).min() > 1e-6  # the neighbours matter
    turn = -rotation(rng)  # with inversion
    turned, _ = reference.energies(
        model.meta, model.arrays, numbers, positions @ turn.T + 0.3, cell @ turn.T, True, head
    )
    np.testing.assert_allclose(turned, energies, rtol=1e-10, atol=1e-10)
    order = rng.permutation(5)
    swapped, _ = reference.energies(model.meta, model.arrays, numbers[order], positions[order], cell, True, head)
    np.testing.assert_allclose(swapped, energies[order], rtol=1e-10, atol=1e-10)


def test_forces_of_the_oracle_sum_to_nothing() -> None:
    model = random_model(seed=12, layers=1, correlation=2)
    positions = np.array([[0.0, 0, 0], [1.0, 0.2, 0], [0.1, 1.1, 0.4]])
    forces = reference.forces(model.meta, model.arrays, np.array([8, 1, 1]), positions)
    assert np.abs(forces).max() > 1e-3
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-7)
