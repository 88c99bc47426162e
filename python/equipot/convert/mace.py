# SPDX-License-Identifier: MIT
"""Turns a MACE model, as mace-torch saves it, into the canonical form of a model file.

Every constant that MACE and e3nn keep in code (path normalisations, second moments of activations, average numbers of
neighbours, the direction of an edge) is multiplied into the arrays, in float64 from the numbers of the checkpoint.
The couplings of the symmetric product, which MACE stores many times over and as precisely as its weights, are expressed
in the shared independent basis: the function is the same, and rotations leave it unchanged to full precision even where
the checkpoint has couplings rounded to float32. What cannot be carried over exactly is refused by name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from equipot import EquipotError, __version__
from equipot.convert.checkpoint import Stub, parse_checkpoint
from equipot.modelfile import FORMAT_VERSION, ModelFile, check_model
from equipot.product_basis import ProductBasis, product_basis

_MODELS = ("MACE", "ScaleShiftMACE")
# block name -> (self-connection from the entering features, density normalisation)
_INTERACTIONS = {
    "RealAgnosticInteractionBlock": (False, False),
    "RealAgnosticResidualInteractionBlock": (True, False),
    "RealAgnosticDensityInteractionBlock": (False, True),
    "RealAgnosticDensityResidualInteractionBlock": (True, True),
}
_PARTS = {
    "node_embedding",
    "radial_embedding",
    "spherical_harmonics",
    "atomic_energies_fn",
    "interactions",
    "products",
    "readouts",
    "scale_shift",
    "pair_repulsion_fn",
}
_L_MAX = 4
_SILU_MOMENT = 1.6791767923989418  # e3nn's sampled second-moment constant of silu, used where a checkpoint lacks it


class ConversionError(EquipotError, ValueError):
    """A model that cannot be carried over exactly."""


@dataclass
class _Block:
    """One irrep of several: multiplicity, degree and parity."""

    mul: int
    ell: int
    parity: int


def convert_mace(
    path: str | os.PathLike[str],
    heads: Sequence[str] | None = None,
    species: Sequence[int | str] | None = None,
    card: dict[str, Any] | None = None,
) -> ModelFile:
    """Convert a MACE checkpoint, without torch or mace-torch.

    Parameters
    ----------
    path : path-like
        A ``.model`` file saved by mace-torch (``torch.save`` of the whole module), or the same compressed with xz.
    heads : sequence of str, optional
        Heads to keep, all if left out.
    species : sequence of int or str, optional
        Elements to keep, as atomic numbers or symbols, all if left out.
    card : dict, optional
        Entries for the model card, on top of what is known from the checkpoint.

    Returns
    -------
    ModelFile

    Raises
    ------
    ConversionError
        If the model has a part that a model file cannot describe; the message names it.
    CheckpointError
        If the file cannot be read.
    """
    path = Path(path)
    name = str(path)
    if path.is_dir():
        raise ConversionError(f"'{name}' is a folder, not a checkpoint.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConversionError(f"Cannot read the checkpoint '{name}': {error.strerror}.") from error
    root = parse_checkpoint(data, name)
    try:
        model = _Converter(root, heads, species).convert()
        model.meta["card"] = _card(model, root, path.name, hashlib.sha256(data).hexdigest()) | (card or {})
        check_model(model, name)
    except ConversionError as error:
        raise ConversionError(f"Cannot convert '{name}': {error}.") from None
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise ConversionError(
            f"Cannot convert '{name}': it is not built like any MACE model that equipot knows "
            f"({type(error).__name__}: {error})."
        ) from error
    return model


class _Converter:
    """Walks through one checkpoint and collects its arrays."""

    def __init__(self, root: Any, heads: Sequence[str] | None, species: Sequence[int | str] | None) -> None:
        self.root = _model_of(root)
        self.arrays: dict[str, np.ndarray] = {}
        self.numbers = [int(z) for z in _array(self.root, "atomic_numbers").ravel()]
        self.all_heads = [str(head) for head in (self.root.get("heads") or ["Default"])]
        self.keep_heads = _chosen_heads(self.all_heads, heads)
        self.keep = _chosen_species(self.numbers, species)
        self.activation: str | None = None

    # -- the whole ----------------------------------------------------------------------------------------------

    def convert(self) -> ModelFile:
        root = self.root
        self._refuse_extras()
        embedding = _linear(root.get("node_embedding").get("linear"), "node embedding")[0]
        self.channels = embedding.shape[1]
        self.arrays["embedding"] = embedding[self.keep]
        harmonics = root.get("spherical_harmonics")
        degrees = _irreps(harmonics.get("irreps_out"))
        self.l_max = _natural_degrees(degrees, "spherical harmonics", channels=1)
        if self.l_max > _L_MAX:
            raise ConversionError(f"max_ell is {self.l_max}, and equipot goes up to {_L_MAX}")
        if harmonics.get("normalization") != "component" or not harmonics.get("normalize", True):
            raise ConversionError("its spherical harmonics are not in component normalisation of unit vectors")

        self._energies()
        radial = self._radial()
        interactions, products = root.get("interactions").children(), root.get("products").children()
        if not interactions or len(interactions) != len(products):
            raise ConversionError("it has no interaction layers")
        readouts = self._readouts(len(interactions))
        self.orders = [self._product_parts(product)[1] for product in products]
        layers = [
            self._layer(t, interactions[t], products[t], readouts[t], last=t == len(interactions) - 1)
            for t in range(len(interactions))
        ]
        self._write_basis(layers)
        meta = {
            "version": FORMAT_VERSION,
            "species": [self.numbers[i] for i in self.keep],
            "cutoff": float(_array(root, "r_max")),
            "channels": self.channels,
            "l_max": self.l_max,
            "heads": [self.all_heads[i] for i in self.keep_heads],
            "radial": radial,
            "zbl": self._zbl(),
            "layers": layers,
            "activation": self.activation or "silu",
            "card": {},
        }
        return ModelFile(meta, self.arrays)

    def _refuse_extras(self) -> None:
        root = self.root
        for part in root.get("_modules", {}):
            if part not in _PARTS:
                raise ConversionError(f"it has the part '{part}' ({_name(root.get(part))}), which is not supported")
        if root.get("embedding_specs"):
            raise ConversionError("it embeds more than the elements (embedding_specs), which is not supported")
        if root.get("use_so3"):
            raise ConversionError("it was made with use_so3 (features without parity), which is not supported")
        for class_name, module in _classes_below(root):
            if "cuequivariance" in module or "openequivariance" in module:
                raise ConversionError(
                    f"it was converted for {module.split('.')[0]}, which stores its weights in another order: convert "
                    "it back with mace_cueq_to_e3nn, or use the original checkpoint"
                )
            if "LoRA" in class_name or "lora" in module:
                raise ConversionError("it has LoRA adapters, which is not supported: merge them into the model first")

    # -- what belongs to no layer ---------------------------------------------------------------------------------

    def _energies(self) -> None:
        count = len(self.all_heads)
        e0 = np.atleast_2d(_array(self.root.get("atomic_energies_fn"), "atomic_energies"))
        if e0.shape != (count, len(self.numbers)):
            raise ConversionError(f"it has atomic energies of shape {e0.shape} for {count} heads")
        scale, shift = np.ones(count), np.zeros(count)
        block = self.root.get("scale_shift")
        if _name(self.root) == "ScaleShiftMACE":
            scale = np.broadcast_to(np.atleast_1d(_array(block, "scale")), (count,))
            shift = np.broadcast_to(np.atleast_1d(_array(block, "shift")), (count,))
        self.arrays["energy.e0"] = e0[self.keep_heads][:, self.keep]
        self.arrays["energy.scale"] = scale[self.keep_heads].copy()
        self.arrays["energy.shift"] = shift[self.keep_heads].copy()

    def _radial(self) -> dict[str, Any]:
        block = self.root.get("radial_embedding")
        basis, cutoff = block.get("bessel_fn"), block.get("cutoff_fn")
        if _name(cutoff) != "PolynomialCutoff":
            raise ConversionError(f"its cutoff function is '{_name(cutoff)}', and equipot knows the polynomial one")
        radial: dict[str, Any] = {"basis": "", "size": 0}
        if _name(basis) == "BesselBasis":
            frequencies = _array(basis, "bessel_weights").ravel()
            radial |= {"basis": "bessel", "size": frequencies.size, "prefactor": float(_array(basis, "prefactor"))}
            self.arrays["radial.frequencies"] = frequencies
        elif _name(basis) == "GaussianBasis":
            centers = _array(basis, "gaussian_weights").ravel()
            radial |= {"basis": "gaussian", "size": centers.size, "coefficient": float(basis.get("coeff"))}
            self.arrays["radial.centers"] = centers
        elif _name(basis) == "ChebychevBasis":
            radial |= {"basis": "chebyshev", "size": int(basis.get("num_basis"))}
        else:
            raise ConversionError(f"its radial basis '{_name(basis)}' is not supported")
        radial["envelope"] = _exponent(cutoff, "cutoff function")
        if float(_array(cutoff, "r_max")) != float(_array(self.root, "r_max")):
            raise ConversionError("its cutoff function ends at another distance than its neighbour lists")
        # older versions always multiply the basis by the cutoff and do not have the attribute
        radial["envelope_on"] = "basis" if block.get("apply_cutoff", True) else "weights"
        transform = block.get("distance_transform")
        radial["transform"] = {"type": "none"}
        if transform is not None:
            if _name(transform) == "AgnesiTransform":
                names = ("a", "p", "q")
                radial["transform"] = {"type": "agnesi"} | {n: float(_array(transform, n)) for n in names}
            elif _name(transform) == "SoftTransform":
                radial["transform"] = {"type": "soft", "alpha": float(_array(transform, "alpha"))}
            else:
                raise ConversionError(f"its distance transform '{_name(transform)}' is not supported")
            self.arrays["radial.transform.radii"] = self._radii(transform)
        return radial

    def _zbl(self) -> dict[str, Any] | None:
        block = self.root.get("pair_repulsion_fn")
        if block is None:
            return None
        if _name(block) != "ZBLBasis":
            raise ConversionError(f"its pair repulsion '{_name(block)}' is not supported")
        coefficients = _array(block, "c").ravel()
        if coefficients.size != 4:
            raise ConversionError("its ZBL repulsion does not have four terms")
        self.arrays["zbl.radii"] = self._radii(block)
        return {
            "envelope": _exponent(block, "ZBL repulsion"),
            "exponent": float(_array(block, "a_exp")),
            "prefactor": float(_array(block, "a_prefactor")),
            "c": [float(c) for c in coefficients],
        }

    def _radii(self, block: Stub) -> np.ndarray:
        return _array(block, "covalent_radii").ravel()[[self.numbers[i] for i in self.keep]]

    # -- layers -----------------------------------------------------------------------------------------------------

    def _layer(self, t: int, interaction: Stub, product: Stub, readout: Stub | None, last: bool) -> dict[str, Any]:
        where = f"layer {t + 1}"
        block = _name(interaction)
        if block not in _INTERACTIONS:
            raise ConversionError(
                f"{where} is a '{block}', which is not supported (supported are {', '.join(_INTERACTIONS)})"
            )
        residual, density = _INTERACTIONS[block]
        k, at = self.channels, f"layer.{t}"
        feats = _irreps(interaction.get("node_feats_irreps"))
        l_in = _natural_degrees(feats, f"features that enter {where}", k)
        edge = interaction.get("edge_irreps")
        if edge is not None and [vars(b) for b in _irreps(edge)] != [vars(b) for b in feats]:
            raise ConversionError(f"{where} passes messages with other channels than its features (edge_irreps)")
        target = _irreps(interaction.get("irreps_out") or interaction.get("target_irreps"))
        if _natural_degrees(target, f"messages of {where}", k) != self.l_max:
            raise ConversionError(f"the messages of {where} do not have all degrees up to max_ell")

        up = _linear(interaction.get("linear_up"), f"{where}, linear_up")
        for ell in range(l_in + 1):
            self.arrays[f"{at}.up.{ell}"] = up[ell]

        paths, columns, rows = self._paths(interaction.get("conv_tp"), where)
        network = _network(interaction.get("conv_tp_weights"), f"{where}, radial network")
        outputs = network[-1]
        if outputs.shape[1] != len(paths) * k:
            raise ConversionError(f"the radial network of {where} does not fit its tensor product")
        # mace's edges point from sender to receiver, ours the other way: Y_l2 changes by (-1)^l2
        signs = np.array([(-1.0) ** l2 for _, l2, _ in paths])
        network[-1] = (outputs.reshape(-1, len(paths), k)[:, columns] * signs[:, None]).reshape(len(outputs), -1)
        for i, weights in enumerate(network):
            self.arrays[f"{at}.radial.{i}"] = weights
        if density:
            for i, weights in enumerate(_network(interaction.get("density_fn"), f"{where}, density network")):
                self.arrays[f"{at}.density.{i}"] = weights

        mix = _linear(interaction.get("linear"), f"{where}, linear")
        neighbors = 1.0 if density else float(np.asarray(interaction.get("avg_num_neighbors"), dtype=np.float64))
        selector = _by_species(interaction.get("skip_tp"), f"{where}, skip_tp")
        for ell in range(self.l_max + 1):
            mixed = mix[ell][rows[ell]] / neighbors
            if not residual:
                # the selector follows the linear map directly: one matrix per element
                mixed = np.einsum("pk,zkw->zpw", mixed, selector[ell][self.keep])
            self.arrays[f"{at}.mix.{ell}"] = mixed

        contractions, correlation, l_out = self._product_parts(product)
        l_out = 0 if last else l_out  # what leaves the last layer is only read out, and only its scalars
        out = _linear(product.get("linear"), f"{where}, product linear")
        skip = residual and bool(product.get("use_sc", True))
        for ell in range(l_out + 1):
            self._contraction(t, ell, contractions[ell], where)
            self.arrays[f"{at}.out.{ell}"] = out[ell]
            if skip and ell <= l_in:
                self.arrays[f"{at}.skip.{ell}"] = selector[ell][self.keep]
        return {
            "hidden_in": l_in,
            "hidden_out": l_out,
            "correlation": correlation,
            "paths": [list(path) for path in paths],
            "mixing": "shared" if residual else "species",
            "density": density,
            "skip": skip,
            "readout": self._readout(f"{at}.readout", readout, where),
        }

    def _paths(self, conv: Stub, where: str) -> tuple[list[tuple[int, int, int]], list[int], dict[int, np.ndarray]]:
        """Give the paths sorted by l3, their place in the radial network, and their rows in the linear map by l3."""
        _expect(conv, ("TensorProduct",), f"{where}, tensor product")
        in1, in2, out = (_irreps(conv.get(n)) for n in ("irreps_in1", "irreps_in2", "irreps_out"))
        entries = []
        start: dict[int, int] = {}
        first_row = []
        for block in out:
            first_row.append(start.get(block.ell, 0))
            start[block.ell] = first_row[-1] + block.mul
        for place, instruction in enumerate(conv.get("instructions")):
            i1, i2, i3, mode, has_weight, weight, _shape = _fields(instruction, 7)
            l1, l2, l3 = in1[i1].ell, in2[i2].ell, out[i3].ell
            if mode != "uvu" or not has_weight or not np.isclose(weight, np.sqrt(2 * l3 + 1), rtol=1e-6):
                raise ConversionError(f"the tensor product of {where} is not the channel-wise one of MACE")
            if (l1 + l2 + l3) % 2:
                raise ConversionError(f"the tensor product of {where} has features without natural parity")
            entries.append(((l1, l2, l3), place, first_row[i3]))
        entries.sort(key=lambda entry: entry[0][2])  # stable: the order within one l3 stays
        rows = {
            ell: np.concatenate([np.arange(row, row + self.channels) for path, _, row in entries if path[2] == ell])
            for ell in range(self.l_max + 1)
        }
        return [entry[0] for entry in entries], [entry[1] for entry in entries], rows

    def _product_parts(self, product: Stub) -> tuple[dict[int, Stub], int, int]:
        """Give the contractions by degree, the correlation order and the largest degree of a product block."""
        _expect(product, ("EquivariantProductBasisBlock",), "product block")
        symmetric = product.get("symmetric_contractions")
        _expect(symmetric, ("SymmetricContraction",), "symmetric contraction")
        blocks = _irreps(symmetric.get("irreps_out"))
        l_out = _natural_degrees(blocks, "hidden features (hidden_irreps)", self.channels)
        if l_out > 2:
            raise ConversionError(f"its hidden features have l = {l_out}, and equipot goes up to 2")
        members = symmetric.get("contractions").get("_modules").values()
        contractions = {block.ell: member for block, member in zip(blocks, members, strict=True)}
        orders = {int(contraction.get("correlation")) for contraction in contractions.values()}
        order = max(orders)
        if len(orders) != 1 or not 1 <= order <= 4:
            raise ConversionError(f"its correlation is {sorted(orders)}, and equipot goes from 1 to 4")
        return contractions, order, l_out

    def _contraction(self, t: int, ell: int, contraction: Stub, where: str) -> None:
        """Express one symmetric contraction in the shared product basis."""
        order = int(contraction.get("correlation"))
        components = (self.l_max + 1) ** 2
        for n in range(1, order + 1):
            stored = np.asarray(contraction.get(f"U_matrix_{n}"))
            coupling = stored.astype(np.float64).reshape(2 * ell + 1, *(components,) * n, -1)
            basis = product_basis(self.l_max, ell, n)
            noise = _rounding(stored)
            size = np.abs(coupling).max(initial=0.0)
            if basis.paths == 0:
                if size > noise:
                    raise ConversionError(f"the couplings of {where} (degree {ell}, order {n}) are not symmetric ones")
                continue
            weights = _contraction_weights(contraction, n, order)
            change = _in_basis(coupling, basis, max(size, 1.0) * noise, f"{where} (degree {ell}, order {n})")
            product = np.einsum("qp,zpk->zqk", change, weights)
            if product.shape[0] == 1 and len(self.numbers) > 1:
                product = np.repeat(product, len(self.numbers), axis=0)  # element-agnostic product
            if product.shape[0] != len(self.numbers) or product.shape[2] != self.channels:
                raise ConversionError(f"the product weights of {where} have the shape {weights.shape}")
            self.arrays[f"layer.{t}.product.{ell}.{n}"] = product[self.keep]

    def _write_basis(self, layers: list[dict[str, Any]]) -> None:
        for ell in range(max(layer["hidden_out"] for layer in layers) + 1):
            highest = max(layer["correlation"] for layer in layers if layer["hidden_out"] >= ell)
            for n in range(1, highest + 1):
                basis = product_basis(self.l_max, ell, n)
                self.arrays[f"basis.{ell}.{n}.index"] = basis.index
                self.arrays[f"basis.{ell}.{n}.value"] = basis.value

    # -- readouts ---------------------------------------------------------------------------------------------------

    def _readouts(self, layers: int) -> list[Stub | None]:
        """Assign the readouts to layers; a lone readout belongs to the last layer."""
        readouts: list[Stub | None] = list(self.root.get("readouts").children())
        if len(readouts) == 1:
            return [None] * (layers - 1) + readouts
        if len(readouts) != layers:
            raise ConversionError(f"it has {len(readouts)} readouts for {layers} layers")
        return readouts

    def _readout(self, at: str, readout: Stub | None, where: str) -> str:
        if readout is None:
            return "none"
        count, keep = len(self.all_heads), self.keep_heads
        if _name(readout) == "LinearReadoutBlock":
            weights = _linear(readout.get("linear"), f"{where}, readout")[0]
            if weights.shape != (self.channels, count):
                raise ConversionError(f"the readout of {where} gives {weights.shape[1]} numbers for {count} heads")
            self.arrays[f"{at}.0"] = weights.T[keep]
            return "linear"
        if _name(readout) != "NonLinearReadoutBlock":
            raise ConversionError(f"the readout of {where} is a '{_name(readout)}', which is not supported")
        activation, moment = _activation(readout.get("non_linearity"), where)
        if self.activation not in (None, activation):
            raise ConversionError("its readouts have different activations")
        self.activation = activation
        first = _linear(readout.get("linear_1"), f"{where}, readout")[0]
        second = _linear(readout.get("linear_2"), f"{where}, readout")[0] * moment
        if second.shape != (first.shape[1], count):
            raise ConversionError(f"the readout of {where} gives {second.shape[1]} numbers for {count} heads")
        width = first.shape[1]
        masked = int(readout.get("num_heads", 1)) > 1
        units = [np.arange(h * width // count, (h + 1) * width // count) if masked else np.arange(width) for h in keep]
        self.arrays[f"{at}.0"] = np.stack([first[:, unit] for unit in units])
        self.arrays[f"{at}.1"] = np.stack([second[unit, head] for unit, head in zip(units, keep, strict=True)])
        return "mlp"


# -- pieces of e3nn and torch -----------------------------------------------------------------------------------------


def _model_of(root: Any) -> Stub:
    if isinstance(root, dict):
        raise ConversionError(
            "it holds only numbers (a training checkpoint or a state_dict), not the model: convert the '.model' file "
            "that MACE saved"
        )
    if not isinstance(root, Stub):
        raise ConversionError("it does not hold a model")
    if root.stub_name not in _MODELS or not root.stub_module.startswith("mace."):
        raise ConversionError(
            f"it holds a '{root.stub_module}.{root.stub_name}', which is not supported (supported are "
            f"{' and '.join(_MODELS)})"
        )
    return root


def _name(stub: Any) -> str:
    if isinstance(stub, Stub):
        return stub.stub_name
    if isinstance(stub, type) and issubclass(stub, Stub):
        return stub.stub_name
    return type(stub).__name__


def _expect(stub: Any, names: tuple[str, ...], where: str) -> None:
    if _name(stub) not in names:
        raise ConversionError(f"its {where} is a '{_name(stub)}' instead of a '{names[0]}'")


def _array(stub: Stub, name: str) -> np.ndarray:
    value = stub.get(name)
    if value is None:
        raise ConversionError(f"its {_name(stub)} lacks '{name}'")
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _exponent(stub: Stub, where: str) -> int:
    value = float(_array(stub, "p"))
    if value != int(value) or value < 1:
        raise ConversionError(f"the exponent of its {where} is {value}, not a whole number")
    return int(value)


def _fields(stub: Any, count: int) -> tuple[Any, ...]:
    """Give the fields of a named tuple of e3nn."""
    fields = tuple(stub.stub_args) if isinstance(stub, Stub) else tuple(stub)
    if len(fields) == 1 and isinstance(fields[0], tuple):
        fields = fields[0]
    if len(fields) != count:
        raise ConversionError(f"an instruction of e3nn has {len(fields)} fields instead of {count}")
    return fields


def _irreps(stub: Any) -> list[_Block]:
    """Read e3nn Irreps, pickled as tuples within tuples or written as text."""
    if isinstance(stub, Stub):
        (items,) = stub.stub_args or ((),)
    else:
        items = stub
    if isinstance(items, str):
        return [_block_from_text(part) for part in items.replace(" ", "").split("+") if part]
    blocks = []
    for item in items:
        mul, irrep = _fields(item, 2)
        ell, parity = _fields(irrep, 2)
        blocks.append(_Block(int(mul), int(ell), int(parity)))
    return blocks


def _block_from_text(text: str) -> _Block:
    mul, _, irrep = text.rpartition("x")
    return _Block(int(mul or 1), int(irrep[:-1]), {"e": 1, "o": -1}[irrep[-1]])


def _natural_degrees(blocks: list[_Block], what: str, channels: int) -> int:
    """Give the largest degree, if all degrees up to it are there once, with parity (-1)^l and `channels` channels."""
    for ell, block in enumerate(blocks):
        if block.ell != ell or block.parity != (-1) ** ell or block.mul != channels:
            text = "+".join(f"{b.mul}x{b.ell}{'e' if b.parity == 1 else 'o'}" for b in blocks)
            raise ConversionError(
                f"the {what} are {text}, and equipot needs {channels} channels of every degree 0..l with parity (-1)^l"
            )
    return len(blocks) - 1


def _linear(stub: Any, where: str) -> dict[int, np.ndarray]:
    """Give the matrices [in, out] of an e3nn Linear by degree, normalisation included."""
    _expect(stub, ("Linear",), where)
    if not stub.stub_module.startswith("e3nn."):
        raise ConversionError(f"its {where} is a '{stub.stub_module}.Linear' instead of e3nn's")
    if np.size(stub.get("bias", ())):
        raise ConversionError(f"its {where} has a bias, which is not supported")
    weights = _array(stub, "weight").ravel()
    blocks_in, blocks_out = _irreps(stub.get("irreps_in")), _irreps(stub.get("irreps_out"))
    matrices = {}
    for ell in {b.ell for b in blocks_out}:
        shape = (sum(b.mul for b in blocks_in if b.ell == ell), sum(b.mul for b in blocks_out if b.ell == ell))
        if shape[0] * shape[1] > weights.size:
            raise ConversionError(f"its {where} has fewer weights than its irreps need")
        matrices[ell] = np.zeros(shape)
    starts_in, starts_out = _starts(blocks_in), _starts(blocks_out)
    used = 0
    for instruction in stub.get("instructions"):
        i_in, i_out, shape, weight = _fields(instruction, 4)
        rows, columns = (int(n) for n in shape)
        part = weights[used : used + rows * columns].reshape(rows, columns)
        used += part.size
        r, c = starts_in[i_in], starts_out[i_out]
        matrices[blocks_out[i_out].ell][r : r + rows, c : c + columns] = part * float(weight)
    if used != weights.size:
        raise ConversionError(f"its {where} has {weights.size} weights for {used} places")
    return matrices


def _by_species(stub: Any, where: str) -> dict[int, np.ndarray]:
    """Give the matrices [element, in, out] of a fully connected product with one-hot elements, by degree."""
    _expect(stub, ("FullyConnectedTensorProduct",), where)
    weights = _array(stub, "weight").ravel()
    in1, in2, out = (_irreps(stub.get(n)) for n in ("irreps_in1", "irreps_in2", "irreps_out"))
    matrices: dict[int, np.ndarray] = {}
    used = 0
    for instruction in stub.get("instructions"):
        i1, i2, i3, mode, has_weight, weight, _shape = _fields(instruction, 7)
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


def _starts(blocks: list[_Block]) -> list[int]:
    """Give the first channel of each block among the blocks of its degree."""
    total: dict[int, int] = {}
    starts = []
    for block in blocks:
        starts.append(total.get(block.ell, 0))
        total[block.ell] = starts[-1] + block.mul
    return starts


def _network(stub: Any, where: str) -> list[np.ndarray]:
    """Give the matrices [in, out] of an e3nn FullyConnectedNet with silu between them, normalisations included."""
    _expect(stub, ("FullyConnectedNet",), where)
    members = stub.get("_modules")
    layers = [members[f"layer{i}"] for i in range(len(members))]
    result, gain = [], 1.0
    for i, layer in enumerate(layers):
        weight, act = _array(layer, "weight"), layer.get("act")
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
    if _name(stub) != "normalize2mom":
        return _name(stub), 1.0
    function = _name(stub.get("f"))
    constant = stub.get("cst")
    if stub.get("_is_id", False):
        return function, 1.0
    if constant is None:
        if function != "silu":
            raise ConversionError(f"it does not say how the activation '{function}' is normalised")
        constant = _SILU_MOMENT
    return function, float(np.asarray(constant))


def _activation(stub: Any, where: str) -> tuple[str, float]:
    """Give name and factor of the activation of a readout."""
    _expect(stub, ("Activation",), f"activation of {where}")
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


def _contraction_weights(contraction: Stub, n: int, order: int) -> np.ndarray:
    """Give the weights [elements, paths, channels] of order `n`: the highest apart, the others from high to low."""
    weights = contraction.get("weights")
    if contraction.has("weights_max"):
        if n == order:
            return _array(contraction, "weights_max")
        return np.asarray(weights.children()[order - n - 1], dtype=np.float64)
    # the oldest versions keep them all in a dictionary by order
    return np.asarray(weights.get(str(n)), dtype=np.float64)


def _rounding(array: np.ndarray) -> float:
    """Give a generous bound on the relative rounding of coupling coefficients stored in the type of `array`."""
    if array.dtype.itemsize == 8:
        return 1e-10
    # bfloat16 arrives as float32 whose lower half is empty
    if array.dtype.itemsize == 2 or not (np.ascontiguousarray(array, dtype=np.float32).view(np.uint32) & 0xFFFF).any():
        return 2e-2
    return 1e-5


def _in_basis(coupling: np.ndarray, basis: ProductBasis, tolerance: float, where: str) -> np.ndarray:
    """Express couplings in a product basis.

    Parameters
    ----------
    coupling : numpy.ndarray, shape (2*l_out + 1, components, ..., components, paths)
        As the checkpoint has them, not symmetric in the factors.
    basis : ProductBasis
    tolerance : float
        Largest error that is only rounding.
    where : str
        For errors.

    Returns
    -------
    numpy.ndarray, shape (basis.paths, paths)
    """
    n, width = basis.order, coupling.shape[-1]
    factors = np.argwhere(np.abs(coupling).max(axis=(0, -1)) > 0)
    everywhere = (slice(None), *factors.T)
    entries = coupling[everywhere]  # [M, entry, path]
    monomials, place = np.unique(
        np.concatenate([np.sort(factors, axis=1), basis.index[:, 2:]]), axis=0, return_inverse=True
    )
    place = place.ravel()
    symmetric = np.zeros((coupling.shape[0], len(monomials), width))
    for component, values in zip(symmetric, entries, strict=True):
        np.add.at(component, place[: len(factors)], values)
    dense = np.zeros((coupling.shape[0], len(monomials), basis.paths))
    dense[basis.index[:, 0], place[len(factors) :], basis.index[:, 1]] = basis.value
    # the paths of the basis are orthogonal with squared norm 2l+1
    change = np.einsum("mvq,mvp->qp", dense, symmetric) / (2 * basis.l_out + 1)
    error = np.abs(np.einsum("mvq,qp->mvp", dense, change) - symmetric).max(initial=0.0)
    if error > tolerance * max(1, n):
        raise ConversionError(f"the couplings of {where} are not the symmetric ones of MACE (error {error:.1e})")
    return change


def _classes_below(root: Stub) -> set[tuple[str, str]]:
    """Give the names and modules of the classes of all parts of a module."""
    found, todo, seen = set(), [root], set()
    while todo:
        stub = todo.pop()
        if id(stub) in seen:  # a damaged checkpoint may contain itself
            continue
        seen.add(id(stub))
        found.add((stub.stub_name, stub.stub_module))
        members = stub.get("_modules")
        if isinstance(members, dict):
            todo.extend(child for child in members.values() if isinstance(child, Stub))
    return found


# -- choices and the card ---------------------------------------------------------------------------------------------


def _chosen_heads(available: list[str], wanted: Sequence[str] | None) -> list[int]:
    if wanted is None:
        return list(range(len(available)))
    if isinstance(wanted, str):
        wanted = [wanted]
    for head in wanted:
        if head not in available:
            raise ConversionError(f"it has no head '{head}'; it has {', '.join(available)}")
    if not wanted:
        raise ConversionError("no head is left to convert")
    return [i for i, head in enumerate(available) if head in wanted]


def _chosen_species(available: list[int], wanted: Sequence[int | str] | None) -> list[int]:
    if wanted is None:
        return list(range(len(available)))
    numbers = set()
    for element in wanted:
        if isinstance(element, str) and element in atomic_numbers:
            number = atomic_numbers[element]
        elif isinstance(element, (int, np.integer)):
            number = int(element)
        else:
            raise ConversionError(f"'{element}' is not an element")
        if number not in available:
            raise ConversionError(
                f"it lacks the element {_symbol(number)}; it has {', '.join(_symbol(z) for z in available)}"
            )
        numbers.add(number)
    if not numbers:
        raise ConversionError("no element is left to convert")
    return [i for i, number in enumerate(available) if number in numbers]


def _symbol(number: int) -> str:
    return chemical_symbols[number] if 0 < number < len(chemical_symbols) else str(number)


def _card(model: ModelFile, root: Stub, file: str, sha256: str) -> dict[str, Any]:
    meta = model.meta
    interactions = root.get("interactions").children()
    dtype = np.asarray(root.get("node_embedding").get("linear").get("weight")).dtype
    title = file
    for ending in (".xz", ".model", ".pt", ".pth"):
        title = title.removesuffix(ending)
    elements = ", ".join(_symbol(z) for z in meta["species"])
    return {
        "title": title,
        "description": f"{_name(root)} for {elements}; {len(meta['layers'])} layers, {meta['channels']} channels, "
        f"cutoff {meta['cutoff']:g} Å.",
        "origin": {
            "program": "mace-torch",
            "version": "not recorded in the checkpoint",
            "class": _name(root),
            "interactions": [_name(block) for block in interactions],
            "average_neighbors": [
                float(np.asarray(block.get("avg_num_neighbors"), dtype=np.float64)) for block in interactions
            ],
            "weights": str(dtype),
            "file": file,
            "sha256": sha256,
        },
        "units": "eV, Å",
        "created_by": f"equipot {__version__}",
    }
