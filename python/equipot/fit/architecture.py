"""New models of MACE's kind with random weights, and what their weights are measured in."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from math import pi, sqrt
from typing import Any

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from equipot import EquipotError, __version__
from equipot.fit.settings import advice
from equipot.fit.training_settings import ModelSettings
from equipot.modelfile import FORMAT_VERSION, ModelFile, check_model
from equipot.product_basis import product_basis

# 1/sqrt of the mean of silu(x)² over the normal distribution: keeps second moments through a network.
_SILU_GAIN = 1.6765324703310913
# Agnesi's transform takes distances to (0, 1], bonds to about 0.65 and 4.5 Å to 0.2 or 0.3. Waves of these frequencies,
# in units of pi, resolve bonds as Bessel functions up to 5 Å do, and what is closer or further less. MACE's are three
# times as high, with bonds at 0.35, where what is closer is resolved most, though there are few data.
_FREQUENCY, _AT_BONDS = 1 / 3, 0.65
_SAME_SIZE = 1.25
_RADIUS = 0.71  # Å, carbon, nitrogen and oxygen
# Fixed by physics or by the data before training begins.
FIXED = ("energy.*", "radial.frequencies", "radial.centers", "radial.transform.radii", "zbl.radii", "basis.*")
# What sums over neighbours without direction go through.
_WITHOUT_DIRECTION = ("layer.*.mix.0",)
# One row per head.
_BY_HEAD = ("energy.*", "layer.*.readout.*")


def new_model(
    species: Sequence[int],
    settings: ModelSettings,
    atomic_energies: Mapping[int, float],
    *,
    average_neighbors: float,
    scale: float,
    shift: float = 0.0,
    seed: int = 1,
    head: str = "Default",
) -> ModelFile:
    """Make a model with random weights, distributed so that features are of the order of one.

    Parameters
    ----------
    species : sequence of int
        Atomic numbers.
    settings : ModelSettings
        The architecture.
    atomic_energies : mapping of int to float
        Energies of isolated atoms, eV.
    average_neighbors : float
        Mean number of neighbours within the cutoff; sums over neighbours are divided by its square root.
    scale, shift : float
        Of the atomic energies that the layers give, eV: usually the root mean square of the force components, and 0.
    seed : int
        The same seed and settings give the same model.
    head : str
        Name of its only head.
    """
    species = sorted(int(z) for z in species)
    rng = np.random.default_rng(seed)
    k, nz, l_max = settings.channels, len(species), settings.l_max
    radii = covalent_radii[species].astype(np.float64)
    transformed = (settings.transform or ("agnesi" if settings.radial_widths else "none")) == "agnesi"
    radial: dict[str, Any] = {
        "basis": "bessel",
        "size": settings.radial_functions,
        "prefactor": _AT_BONDS if transformed else sqrt(2 / settings.cutoff),
        "envelope": settings.envelope,
        "envelope_on": "basis",
        "transform": {"type": "agnesi", "a": 1.0805, "p": 4.5791, "q": 0.9183} if transformed else {"type": "none"},
    }
    shapes: dict[str, tuple[int, ...]] = {"embedding": (nz, k)}
    arrays: dict[str, np.ndarray] = {
        "energy.e0": np.array([[atomic_energies[z] for z in species]], dtype=np.float64),
        "energy.scale": np.array([scale], dtype=np.float64),
        "energy.shift": np.array([shift], dtype=np.float64),
        "radial.frequencies": pi
        * (_FREQUENCY if transformed else 1 / settings.cutoff)
        * np.arange(1, settings.radial_functions + 1),
    }
    if transformed:
        arrays["radial.transform.radii"] = _transform_radii(radii)
    if settings.repulsion:
        arrays["zbl.radii"] = radii

    layers: list[dict[str, Any]] = []
    l_in = 0
    for t in range(settings.layers):
        last, at = t == settings.layers - 1, f"layer.{t}"
        l_out = 0 if last else min(settings.hidden_l, l_max)
        skip = t > 0 or settings.first_skip
        paths = _paths(l_in, l_max)
        readout = "mlp" if last and settings.readout_width else "linear"
        layers.append(
            {
                "hidden_in": l_in,
                "hidden_out": l_out,
                "correlation": settings.correlation,
                "paths": [list(path) for path in paths],
                "mixing": "shared" if skip else "species",
                "density": False,
                "skip": skip,
                "readout": readout,
            }
        )
        for ell in range(l_in + 1):
            shapes[f"{at}.up.{ell}"] = (k, k)
        widths = [settings.radial_functions, *settings.radial_widths, len(paths) * k]
        for i, (rows, columns) in enumerate(pairwise(widths)):
            shapes[f"{at}.radial.{i}"] = (rows, columns)
        for ell in range(l_max + 1):
            rows = sum(path[2] == ell for path in paths) * k
            shapes[f"{at}.mix.{ell}"] = (rows, k) if skip else (nz, rows, k)
        for ell in range(l_out + 1):
            for n in range(1, settings.correlation + 1):
                couplings = product_basis(l_max, ell, n)
                arrays[f"basis.{ell}.{n}.index"], arrays[f"basis.{ell}.{n}.value"] = couplings.index, couplings.value
                if couplings.paths:
                    shapes[f"{at}.product.{ell}.{n}"] = (nz, couplings.paths, k)
            shapes[f"{at}.out.{ell}"] = (k, k)
            if skip and ell <= l_in:
                shapes[f"{at}.skip.{ell}"] = (nz, k, k)
        if readout == "mlp":
            shapes[f"{at}.readout.0"], shapes[f"{at}.readout.1"] = (
                (1, k, settings.readout_width),
                (1, settings.readout_width),
            )
        else:
            shapes[f"{at}.readout.0"] = (1, k)
        l_in = l_out

    zbl = None
    if settings.repulsion:
        # `scale` multiplies the repulsion as well, which is physical and must not follow it.
        coefficients = [c / scale for c in (0.1818, 0.5099, 0.2802, 0.02817)]
        zbl = {"envelope": 6, "exponent": 0.3, "prefactor": 0.4543, "c": coefficients}
    meta = {
        "version": FORMAT_VERSION,
        "species": species,
        "cutoff": float(settings.cutoff),
        "channels": k,
        "l_max": l_max,
        "heads": [head],
        "radial": radial,
        "zbl": zbl,
        "layers": layers,
        "activation": "silu",
        "card": {"created_by": f"equipot {__version__}", "units": "Å, eV"},
    }
    for name, shape in shapes.items():
        arrays[name] = _unit(name, shape, average_neighbors) * rng.normal(size=shape)
        if ".product." in name:
            arrays[name] /= shape[1]  # one number of many paths: their sum stays of the order of one
    model = ModelFile(meta, arrays)
    check_model(model)
    return model


def _transform_radii(radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths that distances are measured in, Å, from covalent radii.

    Half-way between these and one for all, so that bonds of hydrogen, say, are near enough to bonds of carbon that one
    tells something of the other's radial functions where it has data and the other has none. Elements of about the same
    size, like C, N and O, have the same length: they then share radial functions.
    """
    shared, order = radii.copy(), np.argsort(radii, kind="stable")
    while len(order):
        alike = radii[order] < _SAME_SIZE * radii[order[0]]
        shared[order[alike]] = radii[order[alike]].mean()
        order = order[~alike]
    # The transform's unit is half of the sum of two of these.
    return 2 * np.sqrt(_RADIUS * shared)


def quieter(model: ModelFile, factor: float) -> ModelFile:
    """Give the model with sums over neighbours that have no direction (l = 0) taken times a factor.

    All neighbours add up in these, and with their third powers in each layer the first predictions may be a hundred
    times what they should be, and every step of the weights as well.
    """
    arrays = {n: a * factor if matches(n, _WITHOUT_DIRECTION) else a for n, a in model.arrays.items()}
    return ModelFile(model.meta, arrays)


def parameter_scales(model: ModelFile, average_neighbors: float) -> dict[str, float]:
    """Give what the weights of each array are measured in.

    A model file has all normalisations multiplied into its arrays. Training moves ``array / scale`` instead, whose
    entries are of the order of one everywhere, so that one learning rate fits them all.
    """

    def neighbors(name: str) -> float:
        # a layer that divides by a density of its own has sums of the order of one already
        part = name.split(".")
        return 1.0 if part[0] == "layer" and model.meta["layers"][int(part[1])]["density"] else average_neighbors

    return {
        name: float(model.arrays["energy.scale"].max())
        if name == "energy.e0"
        else _unit(name, array.shape, neighbors(name))
        for name, array in model.arrays.items()
        if np.asarray(array).dtype.kind == "f" and not name.startswith("basis.")
    }


def scales_as_drawn(model: ModelFile, average_neighbors: float) -> dict[str, float]:
    """The `parameter_scales` of a model with random weights, `quieter` or not."""
    drawn = {
        n: float(np.sqrt(np.mean(np.square(a)))) for n, a in model.arrays.items() if matches(n, _WITHOUT_DIRECTION)
    }
    return parameter_scales(model, average_neighbors) | drawn


def trainable(names: Sequence[str], freeze: Sequence[str]) -> set[str]:
    """Give the arrays that training may change: all but those fixed by nature and those that match `freeze`."""
    for pattern in freeze:
        if not any(fnmatchcase(name, pattern) for name in names):
            end = advice(pattern, [*names, *_groups(names)], f"its arrays are {', '.join(names)}")
            raise EquipotError(f"[start] freeze: the model has no array '{pattern}'{end}")
    kept = {name for name in names if not matches(name, (*FIXED, *freeze))}
    if not kept:
        raise EquipotError("[start] freeze: every array of the model is frozen: nothing is left to train.")
    return kept


def _groups(names: Sequence[str]) -> list[str]:
    """Patterns for the arrays whose names begin alike: ``layer.0.*``."""
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join([*part[:k], "*"]) for part in parts for k in range(1, len(part))))


def is_matrix(name: str) -> bool:
    """Whether an array maps features to features, as one matrix or one for each species.

    Those of `skip` do, too, but there are many of them, one for each species, and they learn no better as matrices.
    """
    return matches(name, ("layer.*.up.*", "layer.*.out.*", "layer.*.mix.*", "layer.*.radial.*"))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of several patterns with `*` and `?`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def add_head(model: ModelFile, name: str, copy_of: str) -> ModelFile:
    """Give the model with one more head, whose energies and readouts are those of another."""
    heads = list(model.meta["heads"])
    if name in heads:
        raise EquipotError(f"[start] new_head: the model has the head '{name}' already, of {', '.join(heads)}.")
    row = heads.index(copy_of)
    arrays = {
        key: np.concatenate([array, array[row : row + 1]]) if matches(key, _BY_HEAD) else array
        for key, array in model.arrays.items()
    }
    return ModelFile({**model.meta, "heads": [*heads, name]}, arrays)


def _paths(l_in: int, l_max: int) -> list[tuple[int, int, int]]:
    """All couplings of features and spherical harmonics to the density that keep the parity (-1)^l, sorted by l3."""
    return sorted(
        (
            (l1, l2, l3)
            for l1 in range(l_in + 1)
            for l2 in range(l_max + 1)
            for l3 in range(abs(l1 - l2), min(l1 + l2, l_max) + 1)
            if (l1 + l2 + l3) % 2 == 0
        ),
        key=lambda path: path[2],
    )


def _unit(name: str, shape: tuple[int, ...], average_neighbors: float) -> float:
    """Normalisation of an array by its name: 1/sqrt(fan-in), with the gain of silu where one comes before it."""
    part = name.split(".")
    kind = part[2] if part[0] == "layer" else part[0]
    if kind in ("up", "out", "skip"):
        return 1 / sqrt(shape[-1])
    if kind in ("radial", "density") and part[0] == "layer":
        return (_SILU_GAIN if part[3] != "0" else 1.0) / sqrt(shape[0])
    if kind == "mix":
        # neighbours add up like random numbers; where there is no direction they may add up more (`quieter`)
        return 1 / sqrt(shape[-2] * max(average_neighbors, 1.0))
    if kind == "readout":
        return 1 / sqrt(shape[1]) if part[3] == "0" else _SILU_GAIN / sqrt(shape[1])
    return 1.0
