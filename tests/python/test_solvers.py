"""Solvers of linear fits: normal equations, ridge, bounds, evidence, sparse regression, and what has no solution."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import numpy as np
import pytest

from equipot import EquipotError
from equipot.fit.solvers import NormalEquations, Spectrum, ard, bayesian, bounded, ridge


def problem(rows: int = 60, columns: int = 12, noise: float = 0.1, seed: int = 0) -> tuple[NormalEquations, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=columns)
    equations = NormalEquations.empty(columns)
    for kind, count in enumerate((rows // 3, rows, rows // 6)):
        X = rng.normal(size=(columns, count))
        equations.add(kind, X, truth @ X + noise * (1 + kind) * rng.normal(size=count))
    return equations.finish(), truth


def test_gram_matrix_and_residual() -> None:
    rng = np.random.default_rng(0)
    X, y, c = rng.normal(size=(4, 9)), rng.normal(size=9), rng.normal(size=4)
    equations = NormalEquations.empty(4)
    equations.add(1, X[:, :5].copy(), y[:5])
    equations.add(1, X[:, 5:].copy(), y[5:])
    equations.finish()
    assert equations.gram[1] == pytest.approx(X @ X.T)
    assert equations.residual(c) == pytest.approx([0, ((c @ X - y) ** 2).sum(), 0])


def test_rows_are_kept_within_bounds_as_far_as_that_pays() -> None:
    equations, _ = problem()
    weights, prior, rng = (2.0, 1.0, 0.5), np.eye(12), np.random.default_rng(6)
    a = np.tensordot(np.square(weights), equations.gram, 1) + prior
    b = np.square(weights) @ equations.rhs
    rows = rng.normal(size=(12, 30))
    middle = np.linalg.solve(a, b) @ rows + rng.normal(size=30)
    lowest, highest = middle - 0.7, np.where(np.arange(30) % 2, middle + 0.7, np.inf)
    costs = np.outer((1e-9, 1.0, 1e4), np.linspace(1, 2, 30))  # some of the rows count twice as much as others
    found = bounded(equations, weights, prior, 1.0, rows, np.array([lowest, highest]), costs)
    assert found[0] == pytest.approx(ridge(equations, weights, prior, 1.0))
    left = []
    for c, cost in zip(found, costs, strict=True):
        miss = c @ rows - np.clip(c @ rows, lowest, highest)
        slope = a @ c - b + rows @ (cost**2 * miss)  # half of the derivative of what is to be smallest
        assert np.abs(slope).max() < 1e-9 * max(np.abs(b).max(), cost.max() ** 2 * np.abs(miss).max() * 30)
        left.append(np.abs(miss).max())
    assert left[0] > left[1] > left[2]
    anywhere = np.array([np.full(30, -np.inf), np.full(30, np.inf)])
    nothing = bounded(equations, weights, prior, 1.0, rows, anywhere, np.ones((1, 30)))
    assert nothing[0] == pytest.approx(found[0])


def test_spectrum_solves_the_normal_equations() -> None:
    equations, _ = problem()
    weights = (2.0, 1.0, 0.5)
    a = np.tensordot(np.square(weights), equations.gram, 1)
    b = np.square(weights) @ equations.rhs
    root = np.random.default_rng(1).normal(size=(12, 12))
    prior = root @ root.T + np.eye(12)
    spectrum = Spectrum(equations, weights, prior)
    for strength in (1e-3, 1.0, 50.0):
        expected = np.linalg.solve(a + strength * prior, b)
        # round-off times condition numbers of up to 1e3; the prior's jitter is 1e-11
        assert spectrum.solve(strength) == pytest.approx(expected, rel=1e-8, abs=1e-9)
        assert ridge(equations, weights, prior, strength) == pytest.approx(expected, rel=1e-8, abs=1e-9)
        factor = spectrum.posterior_factor(strength)
        covariance = spectrum.noise(strength) ** 2 * np.linalg.inv(a + strength * prior)
        assert factor.T @ factor == pytest.approx(covariance, rel=1e-6, abs=1e-9 * np.abs(covariance).max())


def test_columns_without_prior_are_free() -> None:
    equations, _ = problem()
    prior = np.diag([*np.ones(10), 0.0, 0.0])
    a = equations.gram.sum(axis=0)
    expected = np.linalg.solve(a + 3.0 * prior, equations.rhs.sum(axis=0))
    assert Spectrum(equations, (1, 1, 1), prior).solve(3.0) == pytest.approx(expected, rel=1e-9)


def test_evidence_is_the_probability_of_the_labels() -> None:
    rng = np.random.default_rng(2)
    X, prior = rng.normal(size=(5, 30)), np.diag([1.0, 2.0, 3.0, 4.0, 5.0])
    y = rng.normal(size=5) @ X + 0.3 * rng.normal(size=30)
    equations = NormalEquations.empty(5)
    equations.add(1, X, y)
    spectrum = Spectrum(equations.finish(), (0, 1, 0), prior)

    def logarithm(strength: float) -> float:
        # σ² at its most probable value: of y ~ N(0, σ² (1 + Xᵀ P⁻¹ X / λ))
        shape = np.eye(30) + X.T @ np.linalg.inv(prior) @ X / strength
        variance = y @ np.linalg.solve(shape, y) / 30
        return float(-0.5 * np.linalg.slogdet(shape)[1] - 15 * np.log(variance))

    base = logarithm(1.0) - spectrum.evidence(1.0)
    for strength in (1e-3, 0.1, 10.0):
        assert spectrum.evidence(strength) + base == pytest.approx(logarithm(strength), abs=1e-6)
    best = spectrum.best_strength()
    assert logarithm(best) >= max(logarithm(best * f) for f in (0.5, 0.9, 1.1, 2.0))


def test_noise_of_each_kind_is_found() -> None:
    equations, truth = problem(rows=3000, noise=0.1)
    _, solution = bayesian(equations, (1, 1, 1), np.eye(12), separate_noise=True)
    # noise was 0.1, 0.2 and 0.3, and 500 rows determine a standard deviation to 3 %
    assert solution.weights == pytest.approx((2.0, 1.0, 2 / 3), rel=0.15)
    assert solution.coefficients == pytest.approx(truth, abs=0.02)


def test_ard_finds_the_few_that_matter() -> None:
    rng = np.random.default_rng(4)
    truth = np.zeros(40)
    truth[[3, 17, 30]] = [1.0, -2.0, 0.5]
    X = rng.normal(size=(40, 200))
    equations = NormalEquations.empty(40)
    equations.add(1, X, truth @ X + 0.01 * rng.normal(size=200))
    solution = ard(equations.finish(), (1, 1, 1), np.eye(40))
    assert solution.coefficients[[3, 17, 30]] == pytest.approx([1.0, -2.0, 0.5], abs=0.01)
    others = np.delete(solution.coefficients, [3, 17, 30])
    assert np.count_nonzero(others) < 20
    assert np.abs(others).max() < 3e-3


def test_singular_and_empty_problems() -> None:
    equations = NormalEquations.empty(6)
    X = np.zeros((6, 4))
    X[0] = [1, 2, 3, 4]
    X[1] = X[0]  # the same column twice
    equations.add(1, X, 2 * X[0])
    equations.finish()
    for solve in (
        lambda: Spectrum(equations, (1, 1, 1), np.eye(6)).solve(0.0),
        lambda: ridge(equations, (1, 1, 1), np.eye(6), 1e-8),
        lambda: bayesian(equations, (1, 1, 1), np.eye(6))[1].coefficients,
    ):
        c = solve()
        assert np.isfinite(c).all()
        assert c[:2] == pytest.approx([1, 1], rel=1e-4)
    assert "fewer labels" in " ".join(bayesian(equations, (1, 1, 1), np.eye(6))[1].notes)
    with pytest.raises(EquipotError, match="nothing to fit"):
        Spectrum(NormalEquations.empty(3), (1, 1, 1), np.eye(3))
    with pytest.raises(EquipotError, match="nothing to fit"):
        Spectrum(equations, (1, 0, 1), np.eye(6))
