"""The basis of a linear potential: one layer of the canonical form with channels that are fixed before the fit.

A channel k has a radial function R_kl for every l: a random mixture of orthonormal functions q_n(r) with n - 1 nodes,
in which smooth ones weigh more, n^-falloff. The q_n are orthonormal (uniformly in the transformed distance, from atoms
on top of each other to the cutoff), so that a mixture's coefficients say how smooth it is and no function grows wild
where there are no data. Senders of
different species have random factors of their own. Products of up to four densities of one channel, coupled to scalars,
are the features; enough channels of random mixtures span all products of all q_n.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from equipot import __version__, _equipot
from equipot.modelfile import FORMAT_VERSION, ModelFile, check_model, serialize_model
from equipot.product_basis import product_basis

Array = NDArray[np.float64]

AGNESI = (1.0, 6.0, 1.5)
"""The distance transform's a, p and q: it resolves best around the nearest neighbours, hardly closer ones at all."""

_ZBL = {"envelope": 6, "exponent": 0.3, "prefactor": 0.4543, "c": [0.1818, 0.5099, 0.2802, 0.02817]}


@dataclass(frozen=True, kw_only=True)
class Basis(ABC):
    """What a linear potential is linear in: coefficients of products of densities, species by species.

    Attributes
    ----------
    species : tuple of int
        Atomic numbers.
    cutoff : float
        Å.
    channels : int
        Number of channels, each with its own radial functions.
    l_max : int
        Largest degree of the densities.
    repulsion : bool
        Add a fixed screened nuclear (ZBL) repulsion between close atoms.
    """

    species: tuple[int, ...]
    cutoff: float
    channels: int
    l_max: int
    repulsion: bool

    @property
    @abstractmethod
    def order(self) -> int:
        """The largest number of factors."""

    @property
    @abstractmethod
    def features(self) -> NDArray[np.int32]:
        """Rows of order, coupling and channel: the columns of one species."""

    @abstractmethod
    def precision(self, smoothness: float) -> Array:
        """The prior's precision matrix P, shape (columns, columns)."""

    @property
    def columns(self) -> int:
        """Coefficients of all species, without the energies of isolated atoms."""
        return len(self.species) * len(self.features)

    def products(self, coefficients: Array | None) -> dict[str, Array]:
        """The model file's arrays with these coefficients; zero if left out."""
        weights = np.zeros(self.columns) if coefficients is None else np.asarray(coefficients, dtype=float)
        weights = weights.reshape(len(self.species), -1)
        arrays = {}
        for order in np.unique(self.features[:, 0]).tolist():
            mine = self.features[:, 0] == order
            path, channel = self.features[mine, 1], self.features[mine, 2]
            array = arrays[product_name(order)] = np.zeros((len(self.species), path.max() + 1, self.channels))
            array[:, path, channel] = weights[:, mine]
        return arrays

    def isolated(self, energies: Mapping[int, float] | None) -> Array:
        """The model file's array of energies of isolated atoms, eV; zero if left out."""
        return np.array([[float((energies or {}).get(z, 0.0)) for z in self.species]])

    @abstractmethod
    def model(
        self,
        coefficients: Array | None = None,
        energies: Mapping[int, float] | None = None,
        card: dict[str, Any] | None = None,
    ) -> ModelFile:
        """The potential with these coefficients (zero if left out) and energies of isolated atoms, eV."""

    def design(self) -> _equipot.Design:
        """The engine that makes rows of the design matrix."""
        return _equipot.Design(_equipot.Model(serialize_model(self.model()), "basis"), self.features)


@dataclass(frozen=True, kw_only=True)
class LinearBasis(Basis):
    """Channels that are random mixtures of radial functions and species; the first ones are the same for any number.

    Attributes
    ----------
    radial_functions : int
        Number of functions q_n that they mix.
    l_sums : tuple of int
        By order ν = 1, 2, …: the largest sum of the degrees of the factors of a product.
    falloff : float
        How fast the share of q_n in a mixture falls with n.
    envelope : int
        Exponent of the cutoff function.
    seed : int
        Of the mixtures.
    """

    radial_functions: int
    l_sums: tuple[int, ...]
    falloff: float
    envelope: int
    seed: int

    @property
    def order(self) -> int:
        """See `Basis.order`."""
        return len(self.l_sums)

    @cached_property
    def radii(self) -> Array:
        """Twice the covalent radii, Å: half the sum of two is where neighbours are."""
        return 2 * covalent_radii[list(self.species)].astype(float)

    @cached_property
    def mixtures(self) -> Array:
        """Shares of the functions q_n in the channels, [n, l, k], of norm 1; drawn channel by channel."""
        n, degrees = self.radial_functions, 7
        drawn = np.random.default_rng(self.seed).normal(size=(self.channels, n, degrees))
        drawn *= (np.arange(1, n + 1) ** -self.falloff)[:, None]
        drawn /= np.sqrt((drawn**2).sum(axis=1, keepdims=True))
        return np.ascontiguousarray(drawn.transpose(1, 2, 0)[:, : self.l_max + 1])

    @cached_property
    def senders(self) -> Array:
        """Factors of the sending species, [z, k], of mean square 1; one species needs none."""
        if len(self.species) == 1:
            return np.ones((1, self.channels))
        drawn = np.random.default_rng(self.seed + 1).normal(size=(self.channels, len(self.species)))
        drawn /= np.sqrt((drawn**2).mean(axis=1, keepdims=True))
        return np.ascontiguousarray(drawn.T)

    @cached_property
    def orthonormal(self) -> Array:
        """q_n = Σ_m T_m(x) envelope · orthonormal[m, n]: Gram-Schmidt on polynomials of rising degree."""
        samples = []
        for zi in range(len(self.species)):
            for zj in range(zi + 1):
                scale = 0.5 * (self.radii[zi] + self.radii[zj])
                r = np.linspace(0, self.cutoff, 4001)[1:-1]
                x = agnesi(r / scale)
                m = np.arange(1, self.radial_functions + 1)
                values = np.cos(m * np.arccos(x)[:, None]) * envelope(r / self.cutoff, self.envelope)[:, None]
                weight = np.abs(np.gradient(x, r))
                samples.append(values * np.sqrt(weight / weight.sum())[:, None])
        _, triangle = np.linalg.qr(np.concatenate(samples) / np.sqrt(len(samples)))
        triangle *= np.sign(np.diag(triangle))[:, None]
        return np.linalg.solve(triangle, np.eye(self.radial_functions))

    @cached_property
    def couplings(self) -> list[tuple[NDArray[np.int32], Array, list[tuple[int, ...]]]]:
        """By order: indices and values of the couplings in use, as the model file has them, and the degrees of each."""
        found = []
        for order, l_sum in enumerate(self.l_sums, 1):
            basis = product_basis(self.l_max, 0, order)
            firsts = [int(np.argmax(basis.index[:, 1] == path)) for path in range(basis.paths)]
            degrees = [tuple(int(d) for d in np.sqrt(basis.index[first, 2:])) for first in firsts]
            kept = [path for path in range(basis.paths) if sum(degrees[path]) <= l_sum]
            place = np.full(basis.paths, -1, dtype=np.int32)
            place[kept] = np.arange(len(kept), dtype=np.int32)
            entries = place[basis.index[:, 1]] >= 0
            index = basis.index[entries].copy()
            index[:, 1] = place[index[:, 1]]
            found.append((index, basis.value[entries], [degrees[path] for path in kept]))
        return found

    @cached_property
    def features(self) -> NDArray[np.int32]:
        """See `Basis.features`."""
        paths = [len(degrees) for _, _, degrees in self.couplings]
        return feature_table(paths, self.channels, self.radial_functions * len(self.species))

    def precision(self, smoothness: float) -> Array:
        """The smoothness prior's precision matrix P, shape (columns, columns).

        A feature is a combination of products of the functions q_n; cᵀPc is the sum of the squared coefficients of
        these products, each times ``exp(2 smoothness Σ_factors (n - 1 + l))``: it grows with n, l and ν, and
        does not depend on the choice of mixtures. It factorises, so that it is the elementwise product over the
        factors of one K × K matrix per l.
        """
        steps = np.arange(self.radial_functions)
        by_sender = self.senders.T @ self.senders / len(self.species)
        mixed = [
            np.einsum("nk,n,nj->kj", w, np.exp(2 * smoothness * (steps + ell)), w) * by_sender
            for ell, w in enumerate(self.mixtures.transpose(1, 0, 2))
        ]
        size = len(self.features)
        block = np.zeros((size, size))
        start = 0
        while start < size:
            order, path = self.features[start, :2]
            count = int(np.count_nonzero((self.features[:, 0] == order) & (self.features[:, 1] == path)))
            place = slice(start, start + count)
            block[place, place] = np.prod(
                [mixed[ell][:count, :count] for ell in self.couplings[order - 1][2][path]], axis=0
            )
            start += count
        return np.asarray(np.kron(np.eye(len(self.species)), block), dtype=np.float64)

    def part(
        self, channels: int | None = None, l_max: int | None = None, l_sums: Sequence[int] | None = None
    ) -> LinearBasis:
        """A smaller basis within this one."""
        l_max = self.l_max if l_max is None else min(l_max, self.l_max)
        sums = self.l_sums if l_sums is None else tuple(min(a, b) for a, b in zip(l_sums, self.l_sums, strict=False))
        return replace(self, channels=min(channels or self.channels, self.channels), l_max=l_max, l_sums=sums)

    def places(self, part: LinearBasis) -> NDArray[np.int64]:
        """Columns of this basis that a smaller one within it has, in its order."""
        mine = {
            (order, *self._signature(int(order), int(path)), k): f
            for f, (order, path, k) in enumerate(self.features.tolist())
        }
        one = [mine[(order, *part._signature(int(order), int(path)), k)] for order, path, k in part.features.tolist()]
        return np.concatenate([np.array(one) + z * len(self.features) for z in range(len(self.species))])

    def _signature(self, order: int, path: int) -> tuple[Any, ...]:
        """Names a coupling whatever else is in the basis: its degrees, and which of those with the same degrees."""
        degrees = self.couplings[order - 1][2]
        return degrees[path], degrees[:path].count(degrees[path])

    def model(
        self,
        coefficients: Array | None = None,
        energies: Mapping[int, float] | None = None,
        card: dict[str, Any] | None = None,
    ) -> ModelFile:
        """See `Basis.model`."""
        k, n = self.channels, self.radial_functions
        degrees = range(self.l_max + 1)
        arrays: dict[str, np.ndarray] = {
            "embedding": self.senders,
            "energy.e0": self.isolated(energies),
            "energy.scale": np.ones(1),
            "energy.shift": np.zeros(1),
            "radial.transform.radii": self.radii,
            "layer.0.up.0": np.eye(k),
            "layer.0.radial.0": np.einsum("mn,nlk->mlk", self.orthonormal, self.mixtures).reshape(n, -1),
            "layer.0.out.0": np.eye(k),
            "layer.0.readout.0": np.ones((1, k)),
            **{f"layer.0.mix.{ell}": np.eye(k) for ell in degrees},
        }
        if self.repulsion:
            arrays["zbl.radii"] = covalent_radii[list(self.species)].astype(float)
        for order, (index, value, _) in enumerate(self.couplings, 1):
            arrays[f"basis.0.{order}.index"], arrays[f"basis.0.{order}.value"] = index, value
        arrays |= self.products(coefficients)
        a, p, q = AGNESI
        meta = {
            "version": FORMAT_VERSION,
            "species": [int(z) for z in self.species],
            "cutoff": float(self.cutoff),
            "channels": k,
            "l_max": self.l_max,
            "heads": ["Default"],
            "radial": {
                "basis": "chebyshev",
                "size": n,
                "envelope": self.envelope,
                "envelope_on": "basis",
                "transform": {"type": "agnesi", "a": a, "p": p, "q": q},
            },
            "zbl": _ZBL if self.repulsion else None,
            "layers": [
                {
                    "hidden_in": 0,
                    "hidden_out": 0,
                    "correlation": self.order,
                    "paths": [[0, ell, ell] for ell in degrees],
                    "mixing": "shared",
                    "density": False,
                    "skip": False,
                    "readout": "linear",
                }
            ],
            "activation": "silu",
            "card": {"created_by": f"equipot {__version__}", "units": "Å, eV", **(card or {})},
        }
        model = ModelFile(meta, arrays)
        check_model(model)
        return model


def product_name(order: int) -> str:
    """What the model file calls the coefficients of an order."""
    return f"layer.0.product.0.{order}"


def feature_table(paths: Sequence[int], channels: int, functions: int) -> NDArray[np.int32]:
    """Rows of order, coupling and channel for so many couplings by order.

    There are no more sums over single neighbours than functions that they mix.
    """
    return np.array(
        [
            (order, path, k)
            for order, count in enumerate(paths, 1)
            for path in range(count)
            for k in range(min(channels, functions) if order == 1 else channels)
        ],
        dtype=np.int32,
    )


def agnesi(ratio: Array) -> Array:
    """The distance transform of the ratio of a distance to that of neighbours: from 1 at 0 towards 0."""
    a, p, q = AGNESI
    return 1 / (1 + a * ratio**q / (1 + ratio ** (q - p)))


def envelope(x: Array, p: int) -> Array:
    """The cutoff function of the model file, for x = r/cutoff < 1."""
    return 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
