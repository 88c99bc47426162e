"""Linear least squares from normal equations: ridge, Bayesian and sparse (ARD) regression with a smoothness prior.

Everything works on the Gram matrices of the rows, so that memory is bounded by the number of coefficients. With weights
w of the kinds of rows (energies, forces, virials) and the prior's precision P, the coefficients are

    c = (A + λ P)⁻¹ b,   A = Σ_kind w² XᵀX,   b = Σ_kind w² Xᵀy,

and their posterior covariance is σ² (A + λ P)⁻¹. Columns without a prior (P = 0, energies of isolated atoms) are
eliminated first.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from equipot import EquipotError

Array = NDArray[np.float64]

KINDS = ("energy", "forces", "virial")
"""Kinds of rows, each with a weight of its own."""

_JITTER = 1e-11  # of the prior's diagonal: bounds what directions that the prior hardly sees may do
_TURNS = 50  # at most, until rows that miss their bounds are the same as before
_LEAST = 1e-13  # strengths below this part of the largest eigenvalue drown in rounding


@dataclass
class NormalEquations:
    """Gram matrices of design rows and labels, by kind of row.

    Attributes
    ----------
    gram : array, shape (3, n, n)
        XᵀX of energies per atom, forces and virials per atom.
    rhs : array, shape (3, n)
        Xᵀy.
    square : array, shape (3,)
        yᵀy.
    rows : array, shape (3,)
        Number of rows.
    """

    gram: Array
    rhs: Array
    square: Array
    rows: Array

    @staticmethod
    def empty(columns: int) -> NormalEquations:
        """No rows yet."""
        return NormalEquations(np.zeros((3, columns, columns)), np.zeros((3, columns)), np.zeros(3), np.zeros(3))

    @property
    def columns(self) -> int:
        """Number of coefficients."""
        return int(self.gram.shape[1])

    def add(self, kind: int, rows: Array, labels: Array) -> None:
        """Add rows of one kind, given as columns: `rows` is (columns, number of rows); `finish` after the last."""
        if not labels.size:
            return
        # In BLAS's column order these are the transposes, so that nothing is copied and only one triangle is touched.
        dsyrk(1.0, rows.T, trans=1, beta=1.0, c=self.gram[kind].T, overwrite_c=1, lower=1)
        self.rhs[kind] += rows @ labels
        self.square[kind] += labels @ labels
        self.rows[kind] += labels.size

    def finish(self) -> NormalEquations:
        """Fill in the other triangles, once after the last rows."""
        for gram in self.gram:
            gram[:] = np.triu(gram) + np.triu(gram, 1).T
        return self

    def take(self, columns: NDArray[np.integer]) -> NormalEquations:
        """The equations of some of the columns."""
        return NormalEquations(
            np.ascontiguousarray(self.gram[:, columns][:, :, columns]), self.rhs[:, columns], self.square, self.rows
        )

    def __add__(self, other: NormalEquations) -> NormalEquations:
        return NormalEquations(
            self.gram + other.gram, self.rhs + other.rhs, self.square + other.square, self.rows + other.rows
        )

    def residual(self, coefficients: Array) -> Array:
        """Sum of squared errors by kind."""
        fitted = self.gram @ coefficients @ coefficients
        return np.maximum(fitted - 2 * self.rhs @ coefficients + self.square, 0.0)


@dataclass
class Solution:
    """Coefficients of a linear fit and what is known about them.

    Attributes
    ----------
    coefficients : array, shape (n,)
    strength : float
        λ, of the prior.
    noise : float
        σ, standard deviation of a row of weight 1.
    weights : tuple of float
        Of the kinds of rows.
    effective : float
        How many coefficients the data determine, Σ w/(w + λ).
    notes : list of str
        What people should know.
    """

    coefficients: Array
    strength: float
    noise: float
    weights: tuple[float, float, float]
    effective: float
    notes: list[str] = field(default_factory=list)


class Spectrum:
    """The weighted normal equations in the eigenvectors of A against P: every strength of the prior at once.

    Parameters
    ----------
    equations : NormalEquations
    weights : sequence of float
        Of energies, forces and virials.
    precision : array, shape (n, n)
        Of the prior; zero rows and columns for free coefficients.
    """

    def __init__(self, equations: NormalEquations, weights: Sequence[float], precision: Array) -> None:
        squared = np.asarray(weights, dtype=float) ** 2
        gram = np.tensordot(squared, equations.gram, 1)
        rhs = squared @ equations.rhs
        if not np.isfinite(gram).all() or not np.isfinite(rhs).all():
            raise EquipotError("The design matrix or the labels of the linear fit have numbers that are not finite.")
        energy, forces, virial = map(float, weights)
        self.weights = (energy, forces, virial)
        self.rows = float(equations.rows @ (squared > 0))
        self._square = float(squared @ equations.square)
        if self.rows == 0:
            raise EquipotError("There is nothing to fit to: no labels, or weights that are all zero.")
        self._free = np.diag(precision) == 0
        bound = ~self._free
        self._eliminate(gram, rhs, bound)
        prior = precision[np.ix_(bound, bound)].copy()
        prior[np.diag_indices_from(prior)] *= 1 + _JITTER
        try:
            self._factor = scipy.linalg.cholesky(prior, lower=True)
        except scipy.linalg.LinAlgError as error:
            raise EquipotError("The prior of the linear fit is not positive definite.") from error
        reduced = scipy.linalg.solve_triangular(self._factor, self._reduced, lower=True)
        reduced = scipy.linalg.solve_triangular(self._factor, reduced.T, lower=True)
        values, self._vectors = scipy.linalg.eigh(0.5 * (reduced + reduced.T), driver="evd")
        self.values = np.maximum(values, 0.0)
        self._projected = self._vectors.T @ scipy.linalg.solve_triangular(self._factor, self._reduced_rhs, lower=True)

    def _eliminate(self, gram: Array, rhs: Array, bound: NDArray[np.bool_]) -> None:
        """Take the free columns out: their best values follow from the others."""
        free = self._free
        self._reduced, self._reduced_rhs = gram[np.ix_(bound, bound)], rhs[bound]
        self._free_inverse = scipy.linalg.pinvh(gram[np.ix_(free, free)]) if free.any() else np.zeros((0, 0))
        self._cross = gram[np.ix_(free, bound)]
        self._free_rhs = rhs[free]
        if free.any():
            self._reduced = self._reduced - self._cross.T @ self._free_inverse @ self._cross
            self._reduced_rhs = self._reduced_rhs - self._cross.T @ (self._free_inverse @ self._free_rhs)
            self._square -= float(self._free_rhs @ self._free_inverse @ self._free_rhs)

    @property
    def least_strength(self) -> float:
        """Weaker priors are lost in rounding."""
        return float(max(self.values.max(initial=0.0), 1e-300) * _LEAST)

    def solve(self, strength: float) -> Array:
        """Coefficients for one strength of the prior."""
        scaled = self._vectors @ (self._projected / (self.values + max(strength, self.least_strength)))
        bound = scipy.linalg.solve_triangular(self._factor, scaled, lower=True, trans="T")
        result = np.zeros(len(self._free))
        result[~self._free] = bound
        result[self._free] = self._free_inverse @ (self._free_rhs - self._cross @ bound)
        return result

    def residual(self, strength: float) -> float:
        """Weighted squared errors plus λ times the prior's penalty: what the solution minimises."""
        shrunk = self._projected**2 / (self.values + max(strength, self.least_strength))
        return max(self._square - float(shrunk.sum()), 1e-30 * max(self._square, 1e-300))

    def effective(self, strength: float) -> float:
        """How many coefficients the data determine."""
        return float((self.values / (self.values + max(strength, self.least_strength))).sum())

    def noise(self, strength: float) -> float:
        """The most probable σ for one strength."""
        return float(np.sqrt(self.residual(strength) / self.rows))

    def evidence(self, strength: float) -> float:
        """Logarithm of the probability of the labels for one strength, with the best σ, up to a constant."""
        shrink = np.log(strength / (self.values + strength)).sum()
        return float(0.5 * shrink - 0.5 * self.rows * np.log(self.residual(strength)))

    def best_strength(self) -> float:
        """The strength of the prior with the largest evidence."""
        top = max(self.values.max(initial=0.0), 1e-300)
        grid = top * 10.0 ** np.arange(np.log10(_LEAST), 1.01, 0.5)
        for _ in range(3):
            place = int(np.argmax([self.evidence(s) for s in grid]))
            low, high = grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)]
            grid = np.geomspace(low, high, 9)
        return float(grid[int(np.argmax([self.evidence(s) for s in grid]))])

    def solution(self, strength: float, notes: Sequence[str] = ()) -> Solution:
        """Everything about one strength."""
        return Solution(
            self.solve(strength),
            float(strength),
            self.noise(strength),
            self.weights,
            self.effective(strength),
            list(notes),
        )

    def posterior_factor(self, strength: float) -> Array:
        """F, shape (n, n), with posterior covariance Σ = Fᵀ F of the coefficients that have a prior; 0 for others."""
        strength = max(strength, self.least_strength)
        half = self._vectors / np.sqrt(self.values + strength)
        columns = scipy.linalg.solve_triangular(self._factor, half, lower=True, trans="T")
        factor = np.zeros((len(self._free), len(self._free)))
        factor[np.ix_(np.flatnonzero(~self._free), np.flatnonzero(~self._free))] = columns.T
        return factor * self.noise(strength)


def ridge(equations: NormalEquations, weights: Sequence[float], precision: Array, strength: float) -> Array:
    """Coefficients for one strength of the prior, by Cholesky's decomposition: much faster than a `Spectrum`."""
    gram, rhs, scale = _system(equations, weights, precision, strength)
    try:
        factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True)
    except (scipy.linalg.LinAlgError, ValueError):
        return Spectrum(equations, weights, precision).solve(strength)
    return scipy.linalg.cho_solve(factor, rhs) * scale


def bounded(
    equations: NormalEquations,
    weights: Sequence[float],
    precision: Array,
    strength: float,
    rows: Array,
    bounds: Array,
    costs: Array,
) -> list[Array]:
    """Coefficients of a `ridge` in which some rows X cost as well, by how much they miss their bounds.

    With H the matrix of the ridge, c its coefficients and y the bounds that are missed, these are c + H⁻¹ X λ, where
    (w⁻² + Xᵀ H⁻¹ X) λ = y - Xᵀ c. Which rows miss their bounds is found by turns: what is to be smallest is convex.

    Parameters
    ----------
    equations, weights, precision, strength
        As of `ridge`.
    rows : array, shape (n, m)
    bounds : array, shape (2, m)
        Lowest and highest.
    costs : array, shape (tries, m)
        w, weights of what bounds are missed by; each try gives a set of coefficients.
    """
    gram, rhs, scale = _system(equations, weights, precision, strength)
    factor, (lowest, highest) = _factored(gram), bounds

    def forward(right: Array) -> Array:
        solved: Array = scipy.linalg.solve_triangular(factor, right, lower=True)
        return solved

    free, halves = forward(rhs), forward(rows * scale[:, None])
    kernel, without = halves.T @ halves, halves.T @ free
    found = []
    for cost in costs:
        values, missed, multipliers = without, np.zeros(len(without), dtype=np.int8), np.zeros(0)
        for _ in range(_TURNS):
            now = (values > highest).astype(np.int8) - (values < lowest).astype(np.int8)
            if np.array_equal(now, missed):
                break
            missed, out = now, now != 0
            aims = np.where(now < 0, lowest, highest)[out]
            matrix = kernel[np.ix_(out, out)]
            matrix[np.diag_indices_from(matrix)] += np.maximum(cost[out], 1e-12) ** -2
            multipliers = scipy.linalg.solve(matrix, aims - without[out], assume_a="pos")
            values = without + kernel[:, out] @ multipliers
        half = free + halves[:, missed != 0] @ multipliers
        found.append(scipy.linalg.solve_triangular(factor, half, lower=True, trans="T") * scale)
    return found


def _system(
    equations: NormalEquations, weights: Sequence[float], precision: Array, strength: float
) -> tuple[Array, Array, Array]:
    """Matrix and right side of a ridge in columns of norm 1, and what the columns were multiplied by."""
    squared = np.asarray(weights, dtype=float) ** 2
    gram = np.tensordot(squared, equations.gram, 1)
    gram += strength * precision
    scale = 1 / np.sqrt(np.maximum(np.diag(gram), 1e-300))
    gram *= scale
    gram *= scale[:, None]
    # Rounding is of the order of 1e-16 times the number of rows.
    gram[np.diag_indices_from(gram)] += 1e-13
    return gram, (squared @ equations.rhs) * scale, scale


def _factored(gram: Array) -> Array:
    """Cholesky's factor of a matrix of columns of norm 1, which rounding may have taken a little below zero."""
    diagonal = gram.diagonal().copy()
    for more in (0.0, 1e-11, 1e-9, 1e-7):
        np.fill_diagonal(gram, diagonal + more)
        try:
            factor: Array = scipy.linalg.cholesky(gram, lower=True)
        except scipy.linalg.LinAlgError:
            continue
        return factor
    raise EquipotError("The matrix of the linear fit is not positive definite: take fewer coefficients or more data.")


def bayesian(
    equations: NormalEquations,
    weights: Sequence[float],
    precision: Array,
    *,
    separate_noise: bool = False,
    iterations: int = 8,
) -> tuple[Spectrum, Solution]:
    """Bayesian ridge regression: the prior's strength by the largest evidence.

    Parameters
    ----------
    equations, weights, precision
        As for `Spectrum`.
    separate_noise : bool
        Also find the noise of energies, forces and virials, each by itself: the weights only say where to start.
    iterations : int
        Of finding the noise.
    """
    spectrum = Spectrum(equations, weights, precision)
    solution = spectrum.solution(spectrum.best_strength())
    for _ in range(iterations if separate_noise else 0):
        squared = equations.residual(solution.coefficients)
        used = equations.rows > 0
        # What the fit has swallowed is shared out by rows.
        left = equations.rows * max(1 - solution.effective / spectrum.rows, 1e-3)
        sigma = np.sqrt(np.maximum(squared, 1e-24) / np.maximum(left, 1e-300))
        fitted = np.where(used & (np.asarray(weights) > 0), sigma[1] / sigma if used[1] else 1 / sigma, 0.0)
        # More than a hundredfold would hang the fit on a handful of rows.
        bounded = np.clip(fitted, 1e-2 * np.asarray(weights), 1e2 * np.asarray(weights))
        change = np.abs(np.log(np.maximum(bounded, 1e-300) / np.maximum(spectrum.weights, 1e-300)))[fitted > 0]
        spectrum = Spectrum(equations, bounded.tolist(), precision)
        solution = spectrum.solution(spectrum.best_strength())
        if not change.size or change.max() < 0.02:
            break
    if spectrum.rows < equations.columns:
        solution.notes.append(
            f"There are fewer labels ({spectrum.rows:.0f}) than coefficients ({equations.columns}): the prior decides "
            "the rest. A smaller basis or more data would be safer."
        )
    return spectrum, solution


def ard(
    equations: NormalEquations,
    weights: Sequence[float],
    precision: Array,
    *,
    iterations: int = 60,
    prune: float = 1e5,
) -> Solution:
    """Sparse Bayesian regression (automatic relevance determination), starting from the smoothness prior.

    Every coefficient gets a prior strength of its own, found by evidence maximisation (MacKay's updates); those whose
    strength grows by more than `prune` above the prior's are dropped.

    Parameters
    ----------
    equations, weights, precision
        As for `Spectrum`; of the precision only the diagonal counts.
    iterations : int
        At most.
    prune : float
        Where a coefficient is given up.
    """
    start, first = bayesian(equations, weights, np.diag(np.diag(precision)))
    squared = np.asarray(weights, dtype=float) ** 2
    gram = np.tensordot(squared, equations.gram, 1)
    rhs, square = squared @ equations.rhs, float(squared @ equations.square)
    smooth = np.diag(precision) * first.strength
    alpha = smooth.copy()  # in units of 1/σ²
    active = np.arange(len(alpha))
    coefficients = first.coefficients
    noise = first.noise
    effective = first.effective
    for _ in range(iterations):
        a = alpha[active]
        scale = 1 / np.sqrt(np.diag(gram)[active] + a + 1e-300)
        matrix = gram[np.ix_(active, active)] * scale * scale[:, None]
        matrix[np.diag_indices_from(matrix)] += a * scale**2 + 1e-12
        factor = scipy.linalg.cho_factor(matrix, lower=True)
        mean = scipy.linalg.cho_solve(factor, rhs[active] * scale) * scale
        inverse = scipy.linalg.cho_solve(factor, np.eye(len(active)))
        variance = np.diag(inverse) * scale**2
        determined = np.clip(1 - a * variance, 1e-12, 1.0)
        bound = a > 0
        effective = float(determined[bound].sum())
        error = max(square - 2 * rhs[active] @ mean + mean @ gram[np.ix_(active, active)] @ mean, 1e-30 * square)
        noise = float(np.sqrt(error / max(start.rows - effective, 1.0)))
        new = np.where(bound, determined * noise**2 / np.maximum(mean**2, 1e-300), 0.0)
        change = np.abs(np.log(np.maximum(new[bound], 1e-300) / a[bound]))
        alpha[active] = np.where(bound, np.maximum(new, 1e-3 * smooth[active]), 0.0)
        coefficients = np.zeros(len(alpha))
        coefficients[active] = mean
        keep = ~bound | (alpha[active] < prune * np.maximum(smooth[active], 1e-300))
        if keep.sum() == (~bound).sum():
            break
        active = active[keep]
        if keep.all() and change.size and np.median(change) < 0.01:
            break
    pruned = np.zeros(len(alpha))
    pruned[active] = coefficients[active]
    note = f"ARD kept {len(active)} of {len(alpha)} coefficients."
    return Solution(pruned, first.strength, noise, first.weights, effective, [note])
