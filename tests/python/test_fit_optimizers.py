"""Optimisers, schedules and averages: known steps, convergence, and states that restore to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from equipot import EquipotError
from equipot.fit.optimizers import Average, Optimizer, Schedule, Stop, lbfgs


def test_first_step_of_adam_is_the_rate() -> None:
    weights, gradient = np.array([1.0, 2.0, 3.0]), np.array([5.0, -1e-3, 0.0])
    Optimizer("amsgrad", np.zeros(3)).step(weights, gradient, 0.1)
    # m/sqrt(v) is the sign of the gradient after one step, up to epsilon/|gradient| = 1e-5
    np.testing.assert_allclose(weights, [0.9, 2.1, 3.0], rtol=2e-5)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_against_its_definition(amsgrad: bool) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=4)
    expected, m, v, largest = weights.copy(), np.zeros(4), np.zeros(4), np.zeros(4)
    optimizer = Optimizer("amsgrad" if amsgrad else "adam", np.full(4, 0.01))
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
    Optimizer("adamw", np.array([0.5, 0.0])).step(weights, np.zeros(2), 0.1)
    np.testing.assert_allclose(weights, [0.95, 1.0], rtol=1e-15)


def test_muon_against_its_definition() -> None:
    """Matrices, high and wide, are moved along their orthogonal mean gradient; what lies between them by AMSGrad."""
    rng = np.random.default_rng(0)
    shapes, begins, size = [(24, 8), (6, 20), (16, 16)], [3, 200, 320], 580
    weights, decay = rng.normal(size=size), np.zeros(size)
    matrices = [(begin, *shape) for begin, shape in zip(begins, shapes, strict=True)]
    optimizer, alone = Optimizer("muon", decay, matrices), Optimizer("amsgrad", decay)
    expected, single = weights.copy(), weights.copy()
    means = [np.zeros(shape) for shape in shapes]
    for _ in range(5):
        gradient = rng.normal(size=size)
        optimizer.step(weights, gradient, 0.05)
        alone.step(single, gradient, 0.05)
        for begin, shape, mean in zip(begins, shapes, means, strict=True):
            part = slice(begin, begin + shape[0] * shape[1])
            g = gradient[part].reshape(shape)
            mean += (1 - 0.98) * (g - mean)
            x = (1 - 0.98) * g + 0.98 * mean
            x /= np.linalg.norm(x)
            for _ in range(5):  # the polynomial of Jordan et al. (2024)
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            expected[part] -= 0.05 * 0.3 * np.sqrt(max(shape)) * x.ravel()
    inside = np.zeros(size, dtype=bool)
    for begin, rows, columns in matrices:
        inside[begin : begin + rows * columns] = True
    assert np.array_equal(weights[~inside], single[~inside])
    # single precision, its round-off made larger by the polynomial, whose slope is 3.4 for small singular values
    np.testing.assert_allclose(weights[inside], expected[inside], atol=2e-5)


def test_orthogonal_steps_move_all_directions_alike() -> None:
    """The singular values of a step are nearly equal, however different those of the gradient are."""
    rng = np.random.default_rng(1)
    left, _ = np.linalg.qr(rng.normal(size=(32, 32)))
    right, _ = np.linalg.qr(rng.normal(size=(32, 32)))
    gradient, weights = left * np.logspace(0, -2, 32) @ right, np.zeros(1024)
    for unit in (1.0, 1e-200, 1e200):  # of the loss: steps do not depend on it, and nothing over- or underflows
        weights[:] = 0
        Optimizer("muon", np.zeros(1024), [(0, 32, 32)]).step(weights, unit * gradient.ravel(), 1.0)
        values = np.linalg.svd(weights.reshape(32, 32), compute_uv=False) / (0.3 * np.sqrt(32))
        assert 0.6 < values.min() < values.max() < 1.25  # what five iterations give (Jordan et al.: 0.7 to 1.2)


@pytest.mark.parametrize("algorithm", ["adam", "amsgrad", "muon"])
def test_optimizers_go_on_to_the_bit(algorithm: str) -> None:
    def new() -> Optimizer:
        return Optimizer(algorithm, np.zeros(40), [(4, 6, 5)])

    def run(optimizer: Optimizer, average: Average, weights: np.ndarray, steps: range) -> None:
        for t in steps:
            optimizer.step(weights, np.random.default_rng(t).normal(size=40), 0.01)
            average.step(weights)

    through, start = new(), np.ones(40)
    weights, average = start.copy(), Average(start, 0.9)
    run(through, average, weights, range(10))
    halves, first = start.copy(), new()
    first_average = Average(start, 0.9)
    run(first, first_average, halves, range(4))
    second, second_average = new(), Average(np.zeros(40), 0.9)
    second.restore(first.state())
    second_average.restore(first_average.state())
    run(second, second_average, halves, range(4, 10))
    assert np.array_equal(weights, halves)
    assert np.array_equal(average.weights, second_average.weights)


_STEPS = """
import hashlib
import numpy as np
from equipot.fit.optimizers import Average, Optimizer
rng, weights, average = np.random.default_rng(3), np.zeros(60_000), Average(np.zeros(60_000), 0.9)
optimizer = Optimizer("muon", np.full(60_000, 1e-3), [(100, 64, 48), (5000, 48, 64), (9000, 128, 128)])
norms = [optimizer.step(weights, rng.normal(size=60_000), 0.1, 5.0) for _ in range(3)]
average.step(weights)
print(hashlib.sha256(weights.tobytes() + average.weights.tobytes()).hexdigest(), norms)
"""


def test_steps_do_not_depend_on_threads() -> None:
    def run(threads: int) -> str:
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        return subprocess.run(
            [sys.executable, "-c", _STEPS], env=env, check=True, capture_output=True, text=True
        ).stdout

    assert run(1) == run(2) == run(4)


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(EquipotError, match="overlap"):
        Optimizer("muon", np.zeros(10), [(0, 2, 3), (5, 2, 2)])
    with pytest.raises(EquipotError, match="reach beyond"):
        Optimizer("muon", np.zeros(10), [(0, 4, 3)])
    with pytest.raises(EquipotError, match="10 weights"):
        Optimizer("adam", np.zeros(10)).step(np.zeros(9), np.zeros(9), 0.1)


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
    def moved(gradient: np.ndarray, longest: float) -> tuple[np.ndarray, float, np.ndarray]:
        optimizer, weights = Optimizer("adam", np.zeros(2)), np.zeros(2)
        norm = optimizer.step(weights, gradient, 0.1, longest)
        return 10 * optimizer.state()["mean"], norm, weights

    gradient, norm, _ = moved(np.array([3.0, 4.0]), 1.0)
    np.testing.assert_allclose(gradient, [0.6, 0.8])
    assert norm == 5.0
    assert moved(np.array([3.0, 4.0]), 0.0)[0][1] == pytest.approx(4.0)
    huge, norm, _ = moved(np.array([3e200, 4e200]), 1.0)
    np.testing.assert_allclose(huge, [0.6, 0.8])
    assert moved(np.zeros(2), 1.0)[1] == 0.0
    assert not moved(np.array([np.nan, 1.0]), 1.0)[2].any(), "a gradient that is not finite moves nothing"


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
