"""Pieces of e3nn and torch in a checkpoint: irreps, linear maps, networks and activations as plain arrays."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from equipot import EquipotError
from equipot.convert.checkpoint import Stub

_SILU_MOMENT = 1.6791767923989418  # e3nn's sampled second-moment constant of silu, used where a checkpoint lacks it


class ConversionError(EquipotError, ValueError):
    """A model that cannot be carried over exactly."""


@dataclass
class Block:
    """One irrep of several: multiplicity, degree and parity."""

    mul: int
    ell: int
    parity: int


def name_of(stub: Any) -> str:
    """Give the name of the class of a part, as the checkpoint has it."""
    if isinstance(stub, Stub):
        return stub.stub_name
    if isinstance(stub, type) and issubclass(stub, Stub):
        return stub.stub_name
    return type(stub).__name__


def expect(stub: Any, names: tuple[str, ...], where: str) -> None:
    """Refuse a part that is of none of these classes."""
    if name_of(stub) not in names:
        raise ConversionError(f"its {where} is a '{name_of(stub)}' instead of a '{names[0]}'")


def array_of(stub: Stub, name: str) -> np.ndarray:
    """Give an array of a part, in float64 if it has real numbers."""
    value = stub.get(name)
    if value is None:
        raise ConversionError(f"its {name_of(stub)} lacks '{name}'")
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def exponent(stub: Stub, where: str) -> int:
    """Give the exponent of a polynomial cutoff."""
    value = float(array_of(stub, "p"))
    if value != int(value) or value < 1:
        raise ConversionError(f"the exponent of its {where} is {value}, not a whole number")
    return int(value)


def fields_of(stub: Any, count: int) -> tuple[Any, ...]:
    """Give the fields of a named tuple of e3nn."""
    fields = tuple(stub.stub_args) if isinstance(stub, Stub) else tuple(stub)
    if len(fields) == 1 and isinstance(fields[0], tuple):
        fields = fields[0]
    if len(fields) != count:
        raise ConversionError(f"an instruction of e3nn has {len(fields)} fields instead of {count}")
    return fields


def irreps_of(stub: Any) -> list[Block]:
    """Read e3nn Irreps, pickled as tuples within tuples or written as text."""
    if isinstance(stub, Stub):
        (items,) = stub.stub_args or ((),)
    else:
        items = stub
    if isinstance(items, str):
        return [_block_from_text(part) for part in items.replace(" ", "").split("+") if part]
    blocks = []
    for item in items:
        mul, irrep = fields_of(item, 2)
        ell, parity = fields_of(irrep, 2)
        blocks.append(Block(int(mul), int(ell), int(parity)))
    return blocks


def _block_from_text(text: str) -> Block:
    mul, _, irrep = text.rpartition("x")
    return Block(int(mul or 1), int(irrep[:-1]), {"e": 1, "o": -1}[irrep[-1]])


def natural_degrees(blocks: list[Block], what: str, channels: int) -> int:
    """Give the largest degree, if all degrees up to it are there once, with parity (-1)^l and `channels` channels."""
    for ell, block in enumerate(blocks):
        if block.ell != ell or block.parity != (-1) ** ell or block.mul != channels:
            text = "+".join(f"{b.mul}x{b.ell}{'e' if b.parity == 1 else 'o'}" for b in blocks)
            raise ConversionError(
                f"the {what} are {text}, and equipot needs {channels} channels of every degree 0..l with parity (-1)^l"
            )
    return len(blocks) - 1


def linear_of(stub: Any, where: str) -> dict[int, np.ndarray]:
    """Give the matrices [in, out] of an e3nn Linear by degree, normalisation included."""
    expect(stub, ("Linear",), where)
    if not stub.stub_module.startswith("e3nn."):
        raise ConversionError(f"its {where} is a '{stub.stub_module}.Linear' instead of e3nn's")
    if np.size(stub.get("bias", ())):
        raise ConversionError(f"its {where} has a bias, which is not supported")
    weights = array_of(stub, "weight").ravel()
    blocks_in, blocks_out = irreps_of(stub.get("irreps_in")), irreps_of(stub.get("irreps_out"))
    matrices = {}
    for ell in {b.ell for b in blocks_out}:
        shape = (sum(b.mul for b in blocks_in if b.ell == ell), sum(b.mul for b in blocks_out if b.ell == ell))
        if shape[0] * shape[1] > weights.size:
            raise ConversionError(f"its {where} has fewer weights than its irreps need")
        matrices[ell] = np.zeros(shape)
    starts_in, starts_out = _starts(blocks_in), _starts(blocks_out)
    used = 0
    for instruction in stub.get("instructions"):
        i_in, i_out, shape, weight = fields_of(instruction, 4)
        rows, columns = (int(n) for n in shape)
        part = weights[used : used + rows * columns].reshape(rows, columns)
        used += part.size
        r, c = starts_in[i_in], starts_out[i_out]
        matrices[blocks_out[i_out].ell][r : r + rows, c : c + columns] = part * float(weight)
    if used != weights.size:
        raise ConversionError(f"its {where} has {weights.size} weights for {used} places")
    return matrices


def by_species(stub: Any, where: str) -> dict[int, np.ndarray]:
    """Give the matrices [element, in, out] of a fully connected product with one-hot elements, by degree."""
    expect(stub, ("FullyConnectedTensorProduct",), where)
    weights = array_of(stub, "weight").ravel()
    in1, in2, out = (irreps_of(stub.get(n)) for n in ("irreps_in1", "irreps_in2", "irreps_out"))
    matrices: dict[int, np.ndarray] = {}
    used = 0
    for instruction in stub.get("instructions"):
        i1, i2, i3, mode, has_weight, weight, _shape = fields_of(instruction, 7)
        ell = out[i3].ell
        if mode != "uvw" or not has_weight or in2[i2].ell != 0 or in1[i1].ell != ell or ell in matrices:
            raise ConversionError(f"its {where} is not a map by element")
        shape = (in1[i1].mul, in2[i2].mul, out[i3].mul)
        part = weights[used : used + int(np.prod(shape))].reshape(shape)
        used += part.size
        # the coupling (l, 0, l) is 1/sqrt(2l+1) times the identity
        matrices[ell] = part.transpose(1, 0, 2) * (float(weight) / np.sqrt(2 * ell + 1))
    if used != weights.size:
        raise ConversionError(f"its {where} has {weights.size} weights for {used} places")
    return matrices


def _starts(blocks: list[Block]) -> list[int]:
    """Give the first channel of each block among the blocks of its degree."""
    total: dict[int, int] = {}
    starts = []
    for block in blocks:
        starts.append(total.get(block.ell, 0))
        total[block.ell] = starts[-1] + block.mul
    return starts


def network_of(stub: Any, where: str) -> list[np.ndarray]:
    """Give the matrices [in, out] of an e3nn FullyConnectedNet with silu between them, normalisations included."""
    expect(stub, ("FullyConnectedNet",), where)
    members = stub.get("_modules")
    layers = [members[f"layer{i}"] for i in range(len(members))]
    result, gain = [], 1.0
    for i, layer in enumerate(layers):
        weight, act = array_of(layer, "weight"), layer.get("act")
        variance_in, variance_out = float(layer.get("var_in", 1.0)), float(layer.get("var_out", 1.0))
        scale = gain / np.sqrt(float(layer.get("h_in", weight.shape[0])) * variance_in)
        last = i == len(layers) - 1
        if last != (act is None):
            raise ConversionError(f"its {where} does not have activations exactly between its layers")
        gain = np.sqrt(variance_out)
        if last:
            scale *= gain
        else:
            function, moment = _normalized(act)
            if function != "silu":
                raise ConversionError(f"its {where} has the activation '{function}', and equipot knows silu")
            gain *= moment
        result.append(weight * scale)
    return result


def _normalized(stub: Any) -> tuple[str, float]:
    """Give name and factor of an activation that e3nn normalised to unit second moment."""
    if name_of(stub) != "normalize2mom":
        return name_of(stub), 1.0
    function = name_of(stub.get("f"))
    constant = stub.get("cst")
    if stub.get("_is_id", False):
        return function, 1.0
    if constant is None:
        if function != "silu":
            raise ConversionError(f"it does not say how the activation '{function}' is normalised")
        constant = _SILU_MOMENT
    return function, float(np.asarray(constant))


def activation_of(stub: Any, where: str) -> tuple[str, float]:
    """Give name and factor of the activation of a readout."""
    expect(stub, ("Activation",), f"activation of {where}")
    acts = stub.get("acts")
    acts = acts.children() if isinstance(acts, Stub) else list(acts or [])
    if not acts or all(act is None for act in acts):
        return "identity", 1.0
    if len(acts) != 1:
        raise ConversionError(f"the readout of {where} has several activations")
    function, moment = _normalized(acts[0])
    if function not in ("silu", "tanh", "abs"):
        raise ConversionError(f"the readout of {where} has the activation '{function}', which is not supported")
    return function, moment
