# SPDX-License-Identifier: MIT
"""The formulas of ``src/model/FORMAT.md``, once more: slow, plain numpy, sharing no code with the package.

An oracle for tests: it takes the description and the arrays of a model file and gives the energy of every atom.
"""

from __future__ import annotations

from functools import cache
from math import factorial

import numpy as np
from numpy.polynomial import legendre


def spherical_harmonics(vectors: np.ndarray, ell: int) -> np.ndarray:
    """Real spherical harmonics of directions, component normalisation, e3nn's order (x, y, z for l = 1).

    Parameters
    ----------
    vectors : numpy.ndarray, shape (n, 3)
        Any length but zero.
    ell : int
        Degree.

    Returns
    -------
    numpy.ndarray, shape (n, 2*ell + 1)
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    polar, first, second = unit[:, 1], unit[:, 2], unit[:, 0]  # e3nn's polar axis is y
    result = np.zeros((len(unit), 2 * ell + 1))
    for m in range(ell + 1):
        # d^m P_l / dz^m times (x + iy)^m: the Legendre function without sqrt(1 - z^2) and without (-1)^m
        polynomial = legendre.legval(polar, legendre.legder(np.eye(ell + 1)[ell], m) if m else np.eye(ell + 1)[ell])
        wave = (first + 1j * second) ** m
        norm = np.sqrt((2 * ell + 1) * (2 if m else 1) * factorial(ell - m) / factorial(ell + m))
        result[:, ell + m] = norm * polynomial * wave.real
        if m:
            result[:, ell - m] = norm * polynomial * wave.imag
    return result


@cache
def coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """C of FORMAT.md, shape (2*l1 + 1, 2*l2 + 1, 2*l3 + 1), for even l1 + l2 + l3.

    The integral of three harmonics over the sphere is proportional to the 3j symbols, and e3nn gives it a plus sign.
    """
    assert (l1 + l2 + l3) % 2 == 0
    nodes, weights = legendre.leggauss(l1 + l2 + l3 + 1)
    angles = 2 * np.pi * np.arange(2 * (l1 + l2 + l3) + 2) / (2 * (l1 + l2 + l3) + 2)
    z, phi = (a.ravel() for a in np.meshgrid(nodes, angles, indexing="ij"))
    radius = np.sqrt(1 - z**2)
    points = np.stack([radius * np.sin(phi), z, radius * np.cos(phi)], axis=1)
    w = np.repeat(weights, len(angles)) / (2 * len(angles))
    y1, y2, y3 = (spherical_harmonics(points, ell) for ell in (l1, l2, l3))
    integral = np.einsum("n,na,nb,nc->abc", w, y1, y2, y3)
    return np.sqrt(2 * l3 + 1) * integral / np.linalg.norm(integral)


def neighbors(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs closer than the cutoff, in any cell however small or skewed.

    Returns
    -------
    i, j : numpy.ndarray of int, shape (edges,)
        Receiver and sender; an atom may neighbour its own images.
    vectors : numpy.ndarray, shape (edges, 3)
        From i to j, Å.
    """
    count = len(positions)
    periodic = np.asarray(pbc, dtype=bool)
    images = np.zeros((1, 3))
    difference = positions[None, :, :] - positions[:, None, :]
    if periodic.any():
        full = np.array(cell, dtype=float)
        for axis in np.flatnonzero(~periodic):  # any vector outside the plane of the others will do
            others = [full[a] for a in range(3) if a != axis]
            normal = np.cross(*others)
            if np.linalg.norm(normal) < 1e-9:
                basis = np.linalg.svd(np.stack([full[a] for a in np.flatnonzero(periodic)]))[2]
                normal = basis[len(np.flatnonzero(periodic)) + list(np.flatnonzero(~periodic)).index(axis)]
            full[axis] = normal / np.linalg.norm(normal)
        inverse = np.linalg.inv(full)
        whole = np.round(difference @ inverse) * periodic
        difference = difference - whole @ full
        heights = 1 / np.linalg.norm(inverse, axis=0)
        reach = np.where(periodic, np.ceil(cutoff / heights).astype(int) + 1, 0)
        grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
        images = grid @ full
    receivers, senders, found = [], [], []
    for i in range(count):
        for j in range(count):
            vectors = difference[i, j] + images
            distances = np.linalg.norm(vectors, axis=1)
            near = distances < cutoff
            if i == j:
                near &= distances > 1e-9
            found.append(vectors[near])
            receivers += [i] * int(near.sum())
            senders += [j] * int(near.sum())
    return np.array(receivers, dtype=int), np.array(senders, dtype=int), np.concatenate([*found, np.zeros((0, 3))])


def envelope(r: np.ndarray, cutoff: float | np.ndarray, p: int) -> np.ndarray:
    """Polynomial cutoff function."""
    x = r / cutoff
    value = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    return np.where(x < 1, value, 0.0)


def _silu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(0.5 * x))


_ACTIVATIONS = {"silu": _silu, "tanh": np.tanh, "identity": lambda x: x, "abs": np.abs}


def _network(arrays: dict[str, np.ndarray], prefix: str, x: np.ndarray) -> np.ndarray:
    depth = 0
    while f"{prefix}.{depth}" in arrays:
        if depth:
            x = _silu(x)
        x = x @ arrays[f"{prefix}.{depth}"]
        depth += 1
    return x


def _radial_basis(
    meta: dict, arrays: dict[str, np.ndarray], r: np.ndarray, zi: np.ndarray, zj: np.ndarray
) -> np.ndarray:
    radial = meta["radial"]
    transform = radial["transform"]
    x = r
    if transform["type"] == "agnesi":
        radii = arrays["radial.transform.radii"]
        rho = r / (0.5 * (radii[zi] + radii[zj]))
        q, p = transform["q"], transform["p"]
        x = 1 / (1 + transform["a"] * rho**q / (1 + rho ** (q - p)))
    elif transform["type"] == "soft":
        radii = arrays["radial.transform.radii"]
        s = radii[zi] + radii[zj]
        p0, p1 = 0.75 * s, 4 / 3 * s
        x = p0 + (r - p0) * 0.5 * (1 + np.tanh(transform["alpha"] / (p1 - p0) * (r - 0.5 * (p0 + p1))))
    x = x[:, None]
    if radial["basis"] == "bessel":
        return radial["prefactor"] * np.sin(arrays["radial.frequencies"] * x) / x
    if radial["basis"] == "gaussian":
        return np.exp(radial["coefficient"] * (x - arrays["radial.centers"]) ** 2)
    return np.polynomial.chebyshev.chebvander(x[:, 0], radial["size"])[:, 1:]


def _zbl(meta: dict, arrays: dict[str, np.ndarray], r: np.ndarray, zi: np.ndarray, zj: np.ndarray) -> np.ndarray:
    zbl, radii = meta["zbl"], arrays["zbl.radii"]
    numbers = np.array(meta["species"], dtype=float)
    a = zbl["prefactor"] * 0.529 / (numbers[zi] ** zbl["exponent"] + numbers[zj] ** zbl["exponent"])
    phi = sum(c * np.exp(-d * r / a) for c, d in zip(zbl["c"], (3.2, 0.9423, 0.4028, 0.2016), strict=True))
    return 14.3996 * numbers[zi] * numbers[zj] / r * phi * envelope(r, radii[zi] + radii[zj], zbl["envelope"])


def energies(
    meta: dict,
    arrays: dict[str, np.ndarray],
    numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray | None = None,
    pbc: np.ndarray | bool = False,
    head: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Energy of every atom.

    Parameters
    ----------
    meta, arrays
        Description and arrays of a model file.
    numbers : numpy.ndarray of int, shape (atoms,)
        Atomic numbers.
    positions : numpy.ndarray, shape (atoms, 3)
        Å.
    cell, pbc
        As in ASE.
    head : int

    Returns
    -------
    energies : numpy.ndarray, shape (atoms,)
        eV, isolated-atom energies included.
    features : numpy.ndarray, shape (atoms, features)
        The features that leave each layer, as channel-major blocks by l, in a row.
    """
    species = [int(z) for z in meta["species"]]
    z = np.array([species.index(int(n)) for n in numbers])
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    cell = np.zeros((3, 3)) if cell is None else np.asarray(cell, dtype=float)
    i, j, vectors = neighbors(positions, cell, np.broadcast_to(pbc, 3), meta["cutoff"])
    r = np.linalg.norm(vectors, axis=1)
    count, k, l_max = len(z), meta["channels"], meta["l_max"]
    radial = meta["radial"]
    cut = envelope(r, meta["cutoff"], radial["envelope"])[:, None]
    basis = _radial_basis(meta, arrays, r, z[i], z[j])
    on_basis = radial["envelope_on"] == "basis"
    if on_basis:
        basis = basis * cut
    y = [spherical_harmonics(vectors, ell) for ell in range(l_max + 1)]

    h = [arrays["embedding"][z][:, :, None]]  # by l: [atom, channel, m]
    epsilon = np.zeros(count)
    features = []
    for t, layer in enumerate(meta["layers"]):
        at = f"layer.{t}"
        weights = _network(arrays, f"{at}.radial", basis).reshape(len(r), len(layer["paths"]), k)
        density = np.zeros(count)
        if layer["density"]:
            each = np.tanh(_network(arrays, f"{at}.density", basis) ** 2)
            np.add.at(density, i, (each if on_basis else each * cut)[:, 0])
        if not on_basis:
            weights = weights * cut[:, :, None]
        u = [np.einsum("nkm,kq->nqm", h[ell], arrays[f"{at}.up.{ell}"]) for ell in range(layer["hidden_in"] + 1)]
        a = np.zeros((count, k, (l_max + 1) ** 2))
        for ell in range(l_max + 1):
            gathered = []
            for p, (l1, l2, l3) in enumerate(layer["paths"]):
                if l3 == ell:
                    c = coupling(l1, l2, l3)
                    d = np.zeros((count, k, 2 * ell + 1))
                    np.add.at(d, i, np.einsum("ek,eka,eb,abm->ekm", weights[:, p], u[l1][j], y[l2], c, optimize=True))
                    gathered.append(d)
            joined = np.concatenate(gathered, axis=1) if gathered else np.zeros((count, 0, 2 * ell + 1))
            mix = arrays[f"{at}.mix.{ell}"]
            mixed = np.einsum(
                "npm,npk->nkm" if mix.ndim == 3 else "npm,pk->nkm", joined, mix[z] if mix.ndim == 3 else mix
            )
            a[:, :, ell * ell : (ell + 1) ** 2] = mixed / (1 + density)[:, None, None]
        following = []
        for big_l in range(layer["hidden_out"] + 1):
            b = np.zeros((count, k, 2 * big_l + 1))
            for n in range(1, layer["correlation"] + 1):
                if f"{at}.product.{big_l}.{n}" not in arrays:
                    continue
                product = arrays[f"{at}.product.{big_l}.{n}"][z]  # [atom, path, channel]
                index, values = arrays[f"basis.{big_l}.{n}.index"], arrays[f"basis.{big_l}.{n}.value"]
                for row, value in zip(index, values, strict=True):
                    term = value * product[:, row[1], :]
                    for v in row[2:]:
                        term = term * a[:, :, v]
                    b[:, :, row[0]] += term
            new = np.einsum("nkm,kq->nqm", b, arrays[f"{at}.out.{big_l}"])
            if layer["skip"] and big_l <= layer["hidden_in"]:
                new = new + np.einsum("nkm,nkq->nqm", h[big_l], arrays[f"{at}.skip.{big_l}"][z])
            following.append(new)
        h = following
        features += [block.reshape(count, -1) for block in h]
        scalars = h[0][:, :, 0]
        if layer["readout"] == "linear":
            epsilon += scalars @ arrays[f"{at}.readout.0"][head]
        elif layer["readout"] == "mlp":
            hidden = _ACTIVATIONS[meta["activation"]](scalars @ arrays[f"{at}.readout.0"][head])
            epsilon += hidden @ arrays[f"{at}.readout.1"][head]
    if meta["zbl"]:
        np.add.at(epsilon, i, 0.5 * _zbl(meta, arrays, r, z[i], z[j]))
    scale, shift = arrays["energy.scale"][head], arrays["energy.shift"][head]
    return arrays["energy.e0"][head][z] + scale * epsilon + shift, np.concatenate(features, axis=1)


def forces(
    meta: dict, arrays: dict[str, np.ndarray], numbers: np.ndarray, positions: np.ndarray, **kwargs
) -> np.ndarray:
    """Forces by central differences, eV/Å, shape (atoms, 3)."""
    step = 1e-4
    result = np.zeros((len(numbers), 3))
    for index in np.ndindex(result.shape):
        moved = []
        for sign in (1, -1):
            x = np.array(positions, dtype=float)
            x[index] += sign * step
            moved.append(energies(meta, arrays, numbers, x, **kwargs)[0].sum())
        result[index] = -(moved[0] - moved[1]) / (2 * step)
    return result
