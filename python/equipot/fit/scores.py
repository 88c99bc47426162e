"""How fits are compared: errors of several fits, one number for each, and what one surely gains over another."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Misses:
    """Absolute errors of several sets of coefficients: energy (meV/atom), forces (meV/Å), stress (GPa).

    Attributes
    ----------
    sums : array, shape (sets, structures, 3)
    counts : array, shape (structures, 3)
        Of labels; 0 where there are none.
    """

    sums: Array
    counts: Array

    @property
    def mean(self) -> Array:
        """Mean absolute errors, shape (sets, 3); NaN where there are no labels."""
        return _ratio(self.sums.sum(axis=1), self.counts.sum(axis=0))

    @property
    def without_one(self) -> Array:
        """The same without each of the structures by turns, shape (structures, sets, 3)."""
        sums, counts = self.sums.sum(axis=1)[None] - self.sums.swapaxes(0, 1), self.counts.sum(axis=0) - self.counts
        return _ratio(sums, counts[:, None])


def _ratio(sums: Array, counts: Array) -> Array:
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan)


def score(errors: Array) -> Array:
    """One number for errors of energy, forces and stress, the last axis: their mean logarithm, stress a quarter."""
    parts = np.log(np.maximum(errors, 1e-12))
    weights = np.where(np.isfinite(errors), [1.0, 1.0, 0.25], 0.0)
    return np.sum(np.where(np.isnan(parts), 0.0, parts) * weights, axis=-1) / np.maximum(weights.sum(axis=-1), 1e-12)


def sure_scores(missed: Misses, usual: int) -> Array:
    """Scores of sets of coefficients less that of the usual one, and one standard error higher: what they surely gain.

    The error is the jackknife's over structures (Efron, Ann. Statist. 7, 1, 1979); a single one tells nothing.
    """
    structures, scores = len(missed.counts), score(missed.mean)
    if structures == 1:
        return np.where(np.arange(len(scores)) == usual, 0.0, np.inf)
    without = score(missed.without_one)
    error = np.sqrt((structures - 1) * np.var(without - without[:, usual, None], axis=0))
    return scores - scores[usual] + error
