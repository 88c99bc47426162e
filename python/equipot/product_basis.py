# SPDX-License-Identifier: MIT
"""Couplings of several spherical tensors: Wigner 3j symbols and the basis of the symmetric product.

Everything is in e3nn's convention of real spherical harmonics, where component m of degree l has the index
``l*l + l + m`` and the rotation matrices are those that ``e3nn.o3.wigner_3j`` is invariant under.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import factorial, sqrt

import numpy as np

_SMALL = 1e-13  # coefficients below this are zeros of the coupling that rounding has filled


@dataclass(frozen=True)
class ProductBasis:
    """Independent symmetric couplings of `order` copies of a density to one output degree.

    Attributes
    ----------
    l_out, order, paths : int
        Degree of the result, number of factors, number of independent couplings.
    index : numpy.ndarray of int32, shape (entries, order + 2)
        Component of the result, path, and the factors ``v_1 <= ... <= v_order`` of a monomial.
    value : numpy.ndarray of float64, shape (entries,)
        Coefficients of the monomials. Paths are orthogonal in them, with norm ``sqrt(2*l_out + 1)``.
    """

    l_out: int
    order: int
    paths: int
    index: np.ndarray
    value: np.ndarray

    def evaluate(self, density: np.ndarray) -> np.ndarray:
        """Couple a density with itself.

        Parameters
        ----------
        density : numpy.ndarray, shape (..., components)

        Returns
        -------
        numpy.ndarray, shape (..., 2*l_out + 1, paths)
        """
        terms = self.value * np.prod(density[..., self.index[:, 2:]], axis=-1)
        result = np.zeros(((2 * self.l_out + 1) * self.paths, *density.shape[:-1]))
        np.add.at(result, self.index[:, 0] * self.paths + self.index[:, 1], np.moveaxis(terms, -1, 0))
        return np.moveaxis(result, 0, -1).reshape(*density.shape[:-1], 2 * self.l_out + 1, self.paths)


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> np.ndarray:
    """Real Wigner 3j symbols with unit Frobenius norm.

    Where ``l1 + l2 + l3`` is even, as for all tensors of parity (-1)^l, the sign is e3nn's. For odd sums, which occur
    only inside longer couplings, it may differ from e3nn's and never matters.

    Parameters
    ----------
    l1, l2, l3 : int
        Degrees that fulfil the triangle rule.

    Returns
    -------
    numpy.ndarray, shape (2*l1 + 1, 2*l2 + 1, 2*l3 + 1), read-only
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"The degrees {l1}, {l2}, {l3} do not couple: they break the triangle rule.")
    complex_symbols = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            if abs(m1 + m2) <= l3:
                complex_symbols[l1 + m1, l2 + m2, l3 + m1 + m2] = _clebsch_gordan(l1, m1, l2, m2, l3)
    u1, u2, u3 = (_real_to_complex(ell) for ell in (l1, l2, l3))
    coupled = np.einsum("abc,ai,bj,ck->ijk", complex_symbols, u1, u2, u3.conj(), optimize=True)
    symbols = coupled.real / np.linalg.norm(coupled.real)
    symbols[abs(symbols) < _SMALL] = 0.0
    symbols.flags.writeable = False
    return symbols


@cache
def product_basis(l_max: int, l_out: int, order: int) -> ProductBasis:
    """Find all independent symmetric couplings of a density with itself.

    The density has every degree 0..l_max once, with parity (-1)^l; so has the result.

    Parameters
    ----------
    l_max, l_out, order : int
        Largest degree of the density, degree of the result, number of factors (1 or more).

    Returns
    -------
    ProductBasis
        With ``paths = 0`` and empty arrays where nothing couples (order 1 with l_out > l_max).
    """
    if order < 1 or l_max < 0 or l_out < 0:
        raise ValueError("A product basis needs an order of at least 1 and degrees of at least 0.")
    rows: list[np.ndarray] = []
    values: list[np.ndarray] = []
    path = 0
    for degrees in itertools.combinations_with_replacement(range(l_max + 1), order):
        if (sum(degrees) + l_out) % 2:
            continue  # parity
        monomials, couplings = _symmetric_couplings(degrees, l_out)
        for coupling in _independent(couplings):
            components, terms = np.nonzero(abs(coupling) > _SMALL)
            row = np.empty((len(terms), order + 2), dtype=np.int32)
            row[:, 0], row[:, 1], row[:, 2:] = components, path, monomials[terms]
            rows.append(row)
            values.append(coupling[components, terms])
            path += 1
    if not rows:
        return ProductBasis(l_out, order, 0, np.zeros((0, order + 2), dtype=np.int32), np.zeros(0))
    return ProductBasis(l_out, order, path, np.concatenate(rows), np.concatenate(values))


def _symmetric_couplings(degrees: tuple[int, ...], l_out: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Couple one tensor of each of `degrees` to `l_out` in all orders of intermediate degrees.

    Returns
    -------
    monomials : numpy.ndarray, shape (n, order)
        Sorted factor indices.
    couplings : list of numpy.ndarray, shape (2*l_out + 1, n)
        Coefficients of the monomials, permutations summed.
    """
    factors = [np.arange(ell * ell, (ell + 1) * (ell + 1)) for ell in degrees]
    grid = np.stack(np.meshgrid(*factors, indexing="ij"), axis=-1).reshape(-1, len(degrees))
    monomials, place = np.unique(np.sort(grid, axis=1), axis=0, return_inverse=True)
    couplings = []
    for tensor in _trees(degrees, l_out):
        flat = tensor.reshape(2 * l_out + 1, -1)
        couplings.append(np.stack([np.bincount(place.ravel(), row, len(monomials)) for row in flat]))
    return monomials, couplings


def _trees(degrees: tuple[int, ...], l_out: int) -> Iterator[np.ndarray]:
    """Yield the couplings to `l_out`, shape (2*l_out + 1, 2*degrees[0] + 1, ...), one per chain of degrees."""
    stack = [(1, degrees[0], np.eye(2 * degrees[0] + 1))]
    while stack:
        used, degree, tensor = stack.pop()
        if used == len(degrees):
            if degree == l_out:
                yield tensor
            continue
        following, rest = degrees[used], sum(degrees[used + 1 :])
        for coupled in range(abs(degree - following), degree + following + 1):
            if coupled > l_out + rest:
                continue
            symbols = sqrt(2 * coupled + 1) * wigner_3j(degree, following, coupled)
            shape = (2 * coupled + 1, *tensor.shape[1:], 2 * following + 1)
            joined = np.einsum("ax,abc->cxb", tensor.reshape(2 * degree + 1, -1), symbols, optimize=True)
            stack.append((used + 1, coupled, joined.reshape(shape)))


def _independent(couplings: list[np.ndarray]) -> list[np.ndarray]:
    """Orthogonalise couplings and leave out those that the others already span."""
    chosen: list[np.ndarray] = []
    for coupling in couplings:
        rest = coupling
        norm = np.linalg.norm(rest)
        if norm < 1e-10:
            continue
        rest = rest / norm
        for _ in range(2):  # twice is enough for full precision
            for other in chosen:
                rest = rest - other * np.vdot(other, rest)
        left = np.linalg.norm(rest)
        if left > 1e-7:
            chosen.append(rest / left)
    return [coupling * sqrt(coupling.shape[0]) for coupling in chosen]


def _clebsch_gordan(l1: int, m1: int, l2: int, m2: int, l3: int) -> float:
    """Give <l1 m1 l2 m2 | l3 m1+m2> by Racah's formula, exact up to the square root."""
    m3 = m1 + m2
    f = factorial
    square = Fraction((2 * l3 + 1) * f(l3 + l1 - l2) * f(l3 - l1 + l2) * f(l1 + l2 - l3), f(l1 + l2 + l3 + 1))
    square *= f(l3 + m3) * f(l3 - m3) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    total = Fraction(0)
    for k in range(max(0, l2 - l3 - m1, l1 - l3 + m2), min(l1 + l2 - l3, l1 - m1, l2 + m2) + 1):
        below = f(k) * f(l1 + l2 - l3 - k) * f(l1 - m1 - k) * f(l2 + m2 - k) * f(l3 - l2 + m1 + k) * f(l3 - l1 - m2 + k)
        total += Fraction((-1) ** k, below)
    return float(total) * sqrt(square)


def _real_to_complex(ell: int) -> np.ndarray:
    """Change of basis, shape (complex m, real m); the phase (-i)^l makes all couplings real."""
    change = np.zeros((2 * ell + 1, 2 * ell + 1), dtype=complex)
    change[ell, ell] = 1.0
    for m in range(1, ell + 1):
        change[ell - m, ell + m] = 1 / sqrt(2)
        change[ell - m, ell - m] = -1j / sqrt(2)
        change[ell + m, ell + m] = (-1) ** m / sqrt(2)
        change[ell + m, ell - m] = 1j * (-1) ** m / sqrt(2)
    return (-1j) ** ell * change
