"""Optimisers, schedules and averages: known steps, convergence, and states that restore to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import numpy as np
import pytest

from equipot.fit.optimizers import Adam, Average, Schedule, Stop, clipped, lbfgs


def test_first_step_of_adam_is_the_rate() -> None:
    weights, gradient = np.array([1.0, 2.0, 3.0]), np.array([5.0, -1e-3, 0.0])
    Adam(3, np.zeros(3)).step(weights, gradient, 0.1)
    # m/sqrt(v) is the sign of the gradient after one step, up to epsilon/|gradient| = 1e-5
    np.testing.assert_allclose(weights, [0.9, 2.1, 3.0], rtol=2e-5)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_against_its_definition(amsgrad: bool) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=4)
    expected, m, v, largest = weights.copy(), np.zeros(4), np.zeros(4), np.zeros(4)
    optimizer = Adam(4, np.full(4, 0.01), amsgrad=amsgrad)
    for t in range(1, 20):
        gradient = rng.normal(size=4)
        optimizer.step(weights, gradient, 0.05)
        g = gradient + 0.01 * expected
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        largest = np.maximum(largest, v)
        top = largest if amsgrad else v
        expected = expected - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(top / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(weights, expected, rtol=1e-12)  # round-off of 20 steps


def test_decoupled_decay_shrinks_weights_alone() -> None:
    weights = np.array([1.0, 1.0])
    Adam(2, np.array([0.5, 0.0]), decoupled=True).step(weights, np.zeros(2), 0.1)
    np.testing.assert_allclose(weights, [0.95, 1.0], rtol=1e-15)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_goes_on_to_the_bit(amsgrad: bool) -> None:
    def run(optimizer: Adam, average: Average, weights: np.ndarray, steps: range) -> None:
        for t in steps:
            optimizer.step(weights, np.random.default_rng(t).normal(size=6), 0.01)
            average.step(weights)

    through, start = Adam(6, np.zeros(6), amsgrad=amsgrad), np.ones(6)
    weights, average = start.copy(), Average(start, 0.9)
    run(through, average, weights, range(10))
    halves, first = start.copy(), Adam(6, np.zeros(6), amsgrad=amsgrad)
    first_average = Average(start, 0.9)
    run(first, first_average, halves, range(4))
    second, second_average = Adam(6, np.zeros(6), amsgrad=amsgrad), Average(np.zeros(6), 0.9)
    second.restore(first.state())
    second_average.restore(first_average.state())
    run(second, second_average, halves, range(4, 10))
    assert np.array_equal(weights, halves)
    assert np.array_equal(average.weights, second_average.weights)


def test_schedules() -> None:
    cosine = Schedule("cosine", 0.1, final=0.01)
    assert cosine.rate(0, 0.0) == pytest.approx(0.1)
    assert cosine.rate(9, 0.5) == pytest.approx(0.0505)
    assert cosine.rate(9, 1.0) == pytest.approx(0.001)
    assert Schedule("exponential", 0.1, final=0.01).rate(9, 0.5) == pytest.approx(0.01)
    warm = Schedule("constant", 0.1, warmup=4)
    assert [round(warm.rate(i, 0.0), 12) for i in range(6)] == [0.02, 0.04, 0.06, 0.08, 0.1, 0.1]
    plateau = Schedule("plateau", 0.1, factor=0.5, patience=2, final=0.2)
    for value in (1.0, 0.9, 0.95, 0.96):
        plateau.validated(value)
    assert plateau.rate(0, 0.0) == pytest.approx(0.05)
    for _ in range(20):
        plateau.validated(2.0)
    assert plateau.rate(0, 0.0) == pytest.approx(0.02), "never below its final rate"


def test_average_forgets_its_start() -> None:
    average = Average(np.array([100.0]), 0.99)
    for _ in range(100):
        average.step(np.array([1.0]))
    assert average.weights[0] == pytest.approx(1.0, abs=1e-3)


def test_long_gradients_are_shortened() -> None:
    gradient, norm = clipped(np.array([3.0, 4.0]), 1.0)
    np.testing.assert_allclose(gradient, [0.6, 0.8])
    assert norm == 5.0
    assert clipped(np.array([3.0, 4.0]), 0.0)[0][1] == 4.0
    huge, norm = clipped(np.array([3e200, 4e200]), 1.0)
    np.testing.assert_allclose(huge, [0.6, 0.8])
    assert clipped(np.zeros(2), 1.0)[1] == 0.0


def test_lbfgs_finds_the_minimum_and_can_be_stopped() -> None:
    scales = np.logspace(0, 3, 20)
    target = np.random.default_rng(0).normal(size=20)

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        return float(0.5 * np.sum(scales * (x - target) ** 2)), scales * (x - target)

    seen: list[float] = []
    found = lbfgs(objective, np.zeros(20), 200, lambda x, value: seen.append(value))
    np.testing.assert_allclose(found, target, atol=1e-6)  # a quadratic of condition 1000, to gradients of 1e-7 or less
    assert seen[-1] < 1e-9 * seen[0]

    def third(x: np.ndarray, value: float) -> None:
        calls.append(x)
        if len(calls) == 3:
            raise Stop

    calls: list[np.ndarray] = []
    stopped = lbfgs(objective, np.zeros(20), 200, third)
    assert len(calls) == 3
    assert np.array_equal(stopped, calls[-1])
