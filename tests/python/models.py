# SPDX-License-Identifier: MIT
"""Small random models of any architecture, for tests that need no trained potential."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from equipot import __version__
from equipot.modelfile import FORMAT_VERSION, ModelFile, check_model, write_model
from equipot.product_basis import product_basis


def random_model(
    path: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    species: Sequence[int] = (1, 8),
    cutoff: float = 4.0,
    channels: int = 4,
    l_max: int = 2,
    hidden_l: Sequence[int] = (1,),
    correlation: int | Sequence[int] = 3,
    layers: int = 2,
    density: bool | Sequence[bool] = False,
    skip: bool | Sequence[bool] = (False, True),
    mixing: str | Sequence[str] = ("species", "shared"),
    basis: str = "bessel",
    size: int = 6,
    envelope: int = 5,
    envelope_on: str = "basis",
    transform: str = "none",
    radii: Sequence[float] | None = None,
    zbl: bool = False,
    heads: Sequence[str] = ("Default",),
    readout: str = "mlp",
    activation: str = "silu",
    last_readout_only: bool = False,
    widths: Sequence[int] = (8, 8),
    readout_width: int = 5,
) -> ModelFile:
    """Make a model with random weights.

    Settings by layer may be given once or as a sequence, whose last value repeats.

    Parameters
    ----------
    path : path-like, optional
        Also write the model to this file.
    seed : int
        The same seed and settings give the same model.
    species : sequence of int
        Atomic numbers.
    cutoff : float
        Å.
    channels, l_max, layers : int
        Channels, largest degree of the density, number of layers.
    hidden_l : sequence of int
        Largest degree of the features that leave each layer but the last, which keeps scalars only.
    correlation : int or sequence of int
        Highest order of the symmetric product.
    density, skip, mixing : by layer
        Density normalisation; residual connection; "shared" or "species".
    basis, size, envelope, envelope_on, transform
        The radial basis as in FORMAT.md; `transform` is "none", "agnesi" or "soft".
    radii : sequence of float, optional
        Of the species, Å, for the transform and the repulsion; random ones if left out.
    zbl : bool
        Add the pair repulsion.
    heads : sequence of str
        Names of the heads, each with its own energies, scale, shift and readouts.
    readout : str
        Of the last layer, "linear" or "mlp"; the others are linear.
    activation : str
        Of the mlp readout.
    last_readout_only : bool
        Leave out the readouts of all layers but the last.
    widths, readout_width
        Hidden widths of the radial networks and of the mlp readout.

    Returns
    -------
    ModelFile
    """
    rng = np.random.default_rng(seed)
    nz, k = len(species), channels
    drawn = rng.uniform(0.5, 0.9, nz)
    radii = drawn if radii is None else np.array(radii)

    def at(setting: Any, t: int) -> Any:
        if isinstance(setting, (str, bool, int)):
            return setting
        return setting[min(t, len(setting) - 1)]

    def normal(*shape: int, fan: int = 1) -> np.ndarray:
        return rng.normal(size=shape) / np.sqrt(fan)

    radial: dict[str, Any] = {"basis": basis, "size": size, "envelope": envelope, "envelope_on": envelope_on}
    arrays: dict[str, np.ndarray] = {
        "embedding": normal(nz, k),
        "energy.e0": normal(len(heads), nz) * 10,
        "energy.scale": rng.uniform(0.5, 1.5, len(heads)),
        "energy.shift": normal(len(heads)),
    }
    if basis == "bessel":
        radial["prefactor"] = float(np.sqrt(2 / cutoff))
        arrays["radial.frequencies"] = np.pi / cutoff * np.arange(1, size + 1)
    elif basis == "gaussian":
        radial["coefficient"] = -0.5 / (cutoff / (size - 1)) ** 2
        arrays["radial.centers"] = np.linspace(0, cutoff, size)
    radial["transform"] = {
        "none": {"type": "none"},
        "agnesi": {"type": "agnesi", "a": 1.0805, "p": 4.5791, "q": 0.9183},
        "soft": {"type": "soft", "alpha": 4.0},
    }[transform]
    if transform != "none":
        arrays["radial.transform.radii"] = radii
    if zbl:
        arrays["zbl.radii"] = radii

    def network(prefix: str, outputs: int) -> None:
        fan_in = size
        for i, fan_out in enumerate([*widths, outputs]):
            arrays[f"{prefix}.{i}"] = 1.5 * normal(fan_in, fan_out, fan=fan_in)
            fan_in = fan_out

    description = []
    l_in = 0
    for t in range(layers):
        last = t == layers - 1
        l_out = 0 if last else at(hidden_l, t)
        order = at(correlation, t)
        paths = sorted(
            (
                (l1, l2, l3)
                for l1 in range(l_in + 1)
                for l2 in range(l_max + 1)
                for l3 in range(abs(l1 - l2), min(l1 + l2, l_max) + 1)
                if (l1 + l2 + l3) % 2 == 0
            ),
            key=lambda path: path[2],
        )
        name = f"layer.{t}"
        layer = {
            "hidden_in": l_in,
            "hidden_out": l_out,
            "correlation": order,
            "paths": [list(path) for path in paths],
            "mixing": at(mixing, t),
            "density": at(density, t),
            "skip": at(skip, t),
            "readout": readout if last else "none" if last_readout_only else "linear",
        }
        description.append(layer)
        for ell in range(l_in + 1):
            arrays[f"{name}.up.{ell}"] = normal(k, k, fan=k)
        network(f"{name}.radial", len(paths) * k)
        if layer["density"]:
            arrays[f"{name}.density.0"] = normal(size, 1, fan=size)
        for ell in range(l_max + 1):
            rows = sum(path[2] == ell for path in paths) * k
            shape = (nz, rows, k) if layer["mixing"] == "species" else (rows, k)
            arrays[f"{name}.mix.{ell}"] = normal(*shape, fan=3 * rows)
        for ell in range(l_out + 1):
            for n in range(1, order + 1):
                couplings = product_basis(l_max, ell, n)
                arrays[f"basis.{ell}.{n}.index"], arrays[f"basis.{ell}.{n}.value"] = couplings.index, couplings.value
                if couplings.paths:
                    arrays[f"{name}.product.{ell}.{n}"] = normal(nz, couplings.paths, k, fan=couplings.paths)
            arrays[f"{name}.out.{ell}"] = normal(k, k, fan=k)
            if layer["skip"] and ell <= l_in:
                arrays[f"{name}.skip.{ell}"] = normal(nz, k, k, fan=k)
        if layer["readout"] == "linear":
            arrays[f"{name}.readout.0"] = normal(len(heads), k, fan=k)
        elif layer["readout"] == "mlp":
            arrays[f"{name}.readout.0"] = normal(len(heads), k, readout_width, fan=k)
            arrays[f"{name}.readout.1"] = normal(len(heads), readout_width, fan=readout_width)
        l_in = l_out
    meta = {
        "version": FORMAT_VERSION,
        "species": [int(z) for z in species],
        "cutoff": float(cutoff),
        "channels": k,
        "l_max": l_max,
        "heads": list(heads),
        "radial": radial,
        "zbl": {"envelope": envelope, "exponent": 0.3, "prefactor": 0.4543, "c": [0.1818, 0.5099, 0.2802, 0.02817]}
        if zbl
        else None,
        "layers": description,
        "activation": activation,
        "card": {
            "title": "random",
            "description": f"Random weights, seed {seed}.",
            "created_by": f"equipot {__version__}",
        },
    }
    model = ModelFile(meta, arrays)
    check_model(model)
    if path is not None:
        write_model(model, path)
    return model
