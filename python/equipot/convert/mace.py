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
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from equipot import __version__
from equipot.convert.checkpoint import Stub, parse_checkpoint
from equipot.convert.e3nn import (
    ConversionError,
    activation_of,
    array_of,
    by_species,
    expect,
    exponent,
    fields_of,
    irreps_of,
    linear_of,
    name_of,
    natural_degrees,
    network_of,
)
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
        self.numbers = [int(z) for z in array_of(self.root, "atomic_numbers").ravel()]
        self.all_heads = [str(head) for head in (self.root.get("heads") or ["Default"])]
        self.keep_heads = _chosen_heads(self.all_heads, heads)
        self.keep = _chosen_species(self.numbers, species)
        self.activation: str | None = None

    # -- the whole ----------------------------------------------------------------------------------------------

    def convert(self) -> ModelFile:
        root = self.root
        self._refuse_extras()
        embedding = linear_of(root.get("node_embedding").get("linear"), "node embedding")[0]
        self.channels = embedding.shape[1]
        self.arrays["embedding"] = embedding[self.keep]
        harmonics = root.get("spherical_harmonics")
        degrees = irreps_of(harmonics.get("irreps_out"))
        self.l_max = natural_degrees(degrees, "spherical harmonics", channels=1)
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
            "cutoff": float(array_of(root, "r_max")),
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
                raise ConversionError(f"it has the part '{part}' ({name_of(root.get(part))}), which is not supported")
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
        e0 = np.atleast_2d(array_of(self.root.get("atomic_energies_fn"), "atomic_energies"))
        if e0.shape != (count, len(self.numbers)):
            raise ConversionError(f"it has atomic energies of shape {e0.shape} for {count} heads")
        scale, shift = np.ones(count), np.zeros(count)
        block = self.root.get("scale_shift")
        if name_of(self.root) == "ScaleShiftMACE":
            scale = np.broadcast_to(np.atleast_1d(array_of(block, "scale")), (count,))
            shift = np.broadcast_to(np.atleast_1d(array_of(block, "shift")), (count,))
        self.arrays["energy.e0"] = e0[self.keep_heads][:, self.keep]
        self.arrays["energy.scale"] = scale[self.keep_heads].copy()
        self.arrays["energy.shift"] = shift[self.keep_heads].copy()

    def _radial(self) -> dict[str, Any]:
        block = self.root.get("radial_embedding")
        basis, cutoff = block.get("bessel_fn"), block.get("cutoff_fn")
        if name_of(cutoff) != "PolynomialCutoff":
            raise ConversionError(f"its cutoff function is '{name_of(cutoff)}', and equipot knows the polynomial one")
        radial: dict[str, Any] = {"basis": "", "size": 0}
        if name_of(basis) == "BesselBasis":
            frequencies = array_of(basis, "bessel_weights").ravel()
            radial |= {"basis": "bessel", "size": frequencies.size, "prefactor": float(array_of(basis, "prefactor"))}
            self.arrays["radial.frequencies"] = frequencies
        elif name_of(basis) == "GaussianBasis":
            centers = array_of(basis, "gaussian_weights").ravel()
            radial |= {"basis": "gaussian", "size": centers.size, "coefficient": float(basis.get("coeff"))}
            self.arrays["radial.centers"] = centers
        elif name_of(basis) == "ChebychevBasis":
            radial |= {"basis": "chebyshev", "size": int(basis.get("num_basis"))}
        else:
            raise ConversionError(f"its radial basis '{name_of(basis)}' is not supported")
        radial["envelope"] = exponent(cutoff, "cutoff function")
        if float(array_of(cutoff, "r_max")) != float(array_of(self.root, "r_max")):
            raise ConversionError("its cutoff function ends at another distance than its neighbour lists")
        # older versions always multiply the basis by the cutoff and do not have the attribute
        radial["envelope_on"] = "basis" if block.get("apply_cutoff", True) else "weights"
        transform = block.get("distance_transform")
        radial["transform"] = {"type": "none"}
        if transform is not None:
            if name_of(transform) == "AgnesiTransform":
                names = ("a", "p", "q")
                radial["transform"] = {"type": "agnesi"} | {n: float(array_of(transform, n)) for n in names}
            elif name_of(transform) == "SoftTransform":
                radial["transform"] = {"type": "soft", "alpha": float(array_of(transform, "alpha"))}
            else:
                raise ConversionError(f"its distance transform '{name_of(transform)}' is not supported")
            self.arrays["radial.transform.radii"] = self._radii(transform)
        return radial

    def _zbl(self) -> dict[str, Any] | None:
        block = self.root.get("pair_repulsion_fn")
        if block is None:
            return None
        if name_of(block) != "ZBLBasis":
            raise ConversionError(f"its pair repulsion '{name_of(block)}' is not supported")
        coefficients = array_of(block, "c").ravel()
        if coefficients.size != 4:
            raise ConversionError("its ZBL repulsion does not have four terms")
        self.arrays["zbl.radii"] = self._radii(block)
        return {
            "envelope": exponent(block, "ZBL repulsion"),
            "exponent": float(array_of(block, "a_exp")),
            "prefactor": float(array_of(block, "a_prefactor")),
            "c": [float(c) for c in coefficients],
        }

    def _radii(self, block: Stub) -> np.ndarray:
        return array_of(block, "covalent_radii").ravel()[[self.numbers[i] for i in self.keep]]

    # -- layers -----------------------------------------------------------------------------------------------------

    def _layer(self, t: int, interaction: Stub, product: Stub, readout: Stub | None, last: bool) -> dict[str, Any]:
        where = f"layer {t + 1}"
        block = name_of(interaction)
        if block not in _INTERACTIONS:
            raise ConversionError(
                f"{where} is a '{block}', which is not supported (supported are {', '.join(_INTERACTIONS)})"
            )
        residual, density = _INTERACTIONS[block]
        k, at = self.channels, f"layer.{t}"
        feats = irreps_of(interaction.get("node_feats_irreps"))
        l_in = natural_degrees(feats, f"features that enter {where}", k)
        edge = interaction.get("edge_irreps")
        if edge is not None and [vars(b) for b in irreps_of(edge)] != [vars(b) for b in feats]:
            raise ConversionError(f"{where} passes messages with other channels than its features (edge_irreps)")
        target = irreps_of(interaction.get("irreps_out") or interaction.get("target_irreps"))
        if natural_degrees(target, f"messages of {where}", k) != self.l_max:
            raise ConversionError(f"the messages of {where} do not have all degrees up to max_ell")

        up = linear_of(interaction.get("linear_up"), f"{where}, linear_up")
        for ell in range(l_in + 1):
            self.arrays[f"{at}.up.{ell}"] = up[ell]

        paths, columns, rows = self._paths(interaction.get("conv_tp"), where)
        network = network_of(interaction.get("conv_tp_weights"), f"{where}, radial network")
        outputs = network[-1]
        if outputs.shape[1] != len(paths) * k:
            raise ConversionError(f"the radial network of {where} does not fit its tensor product")
        # mace's edges point from sender to receiver, ours the other way: Y_l2 changes by (-1)^l2
        signs = np.array([(-1.0) ** l2 for _, l2, _ in paths])
        network[-1] = (outputs.reshape(-1, len(paths), k)[:, columns] * signs[:, None]).reshape(len(outputs), -1)
        for i, weights in enumerate(network):
            self.arrays[f"{at}.radial.{i}"] = weights
        if density:
            for i, weights in enumerate(network_of(interaction.get("density_fn"), f"{where}, density network")):
                self.arrays[f"{at}.density.{i}"] = weights

        mix = linear_of(interaction.get("linear"), f"{where}, linear")
        neighbors = 1.0 if density else float(np.asarray(interaction.get("avg_num_neighbors"), dtype=np.float64))
        selector = by_species(interaction.get("skip_tp"), f"{where}, skip_tp")
        for ell in range(self.l_max + 1):
            mixed = mix[ell][rows[ell]] / neighbors
            if not residual:
                # the selector follows the linear map directly: one matrix per element
                mixed = np.einsum("pk,zkw->zpw", mixed, selector[ell][self.keep])
            self.arrays[f"{at}.mix.{ell}"] = mixed

        contractions, correlation, l_out = self._product_parts(product)
        l_out = 0 if last else l_out  # what leaves the last layer is only read out, and only its scalars
        out = linear_of(product.get("linear"), f"{where}, product linear")
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
        expect(conv, ("TensorProduct",), f"{where}, tensor product")
        in1, in2, out = (irreps_of(conv.get(n)) for n in ("irreps_in1", "irreps_in2", "irreps_out"))
        entries = []
        start: dict[int, int] = {}
        first_row = []
        for block in out:
            first_row.append(start.get(block.ell, 0))
            start[block.ell] = first_row[-1] + block.mul
        for place, instruction in enumerate(conv.get("instructions")):
            i1, i2, i3, mode, has_weight, weight, _shape = fields_of(instruction, 7)
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
        expect(product, ("EquivariantProductBasisBlock",), "product block")
        symmetric = product.get("symmetric_contractions")
        expect(symmetric, ("SymmetricContraction",), "symmetric contraction")
        blocks = irreps_of(symmetric.get("irreps_out"))
        l_out = natural_degrees(blocks, "hidden features (hidden_irreps)", self.channels)
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
        if name_of(readout) == "LinearReadoutBlock":
            weights = linear_of(readout.get("linear"), f"{where}, readout")[0]
            if weights.shape != (self.channels, count):
                raise ConversionError(f"the readout of {where} gives {weights.shape[1]} numbers for {count} heads")
            self.arrays[f"{at}.0"] = weights.T[keep]
            return "linear"
        if name_of(readout) != "NonLinearReadoutBlock":
            raise ConversionError(f"the readout of {where} is a '{name_of(readout)}', which is not supported")
        activation, moment = activation_of(readout.get("non_linearity"), where)
        if self.activation not in (None, activation):
            raise ConversionError("its readouts have different activations")
        self.activation = activation
        first = linear_of(readout.get("linear_1"), f"{where}, readout")[0]
        second = linear_of(readout.get("linear_2"), f"{where}, readout")[0] * moment
        if second.shape != (first.shape[1], count):
            raise ConversionError(f"the readout of {where} gives {second.shape[1]} numbers for {count} heads")
        width = first.shape[1]
        masked = int(readout.get("num_heads", 1)) > 1
        units = [np.arange(h * width // count, (h + 1) * width // count) if masked else np.arange(width) for h in keep]
        self.arrays[f"{at}.0"] = np.stack([first[:, unit] for unit in units])
        self.arrays[f"{at}.1"] = np.stack([second[unit, head] for unit, head in zip(units, keep, strict=True)])
        return "mlp"


# -- parts of the model -----------------------------------------------------------------------------------------------


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


def _contraction_weights(contraction: Stub, n: int, order: int) -> np.ndarray:
    """Give the weights [elements, paths, channels] of order `n`: the highest apart, the others from high to low."""
    weights = contraction.get("weights")
    if contraction.has("weights_max"):
        if n == order:
            return array_of(contraction, "weights_max")
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
        "description": f"{name_of(root)} for {elements}; {len(meta['layers'])} layers, {meta['channels']} channels, "
        f"cutoff {meta['cutoff']:g} Å.",
        "origin": {
            "program": "mace-torch",
            "version": "not recorded in the checkpoint",
            "class": name_of(root),
            "interactions": [name_of(block) for block in interactions],
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
