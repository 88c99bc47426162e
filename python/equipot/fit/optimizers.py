"""Optimisers, learning rates and weight averages, with a state that can be saved and restored to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]
State = dict[str, Any]

_BLOCK = 16384  # weights that go through a step together, so that what is between is in the cache


class Adam:
    """Adam, AMSGrad or AdamW.

    Parameters
    ----------
    size : int
        Number of weights.
    decay : numpy.ndarray, shape (size,)
        Weight decay of each: the gradient of ½·decay·weight² is added, or, if `decoupled`, the weight shrinks by
        rate·decay in each step.
    amsgrad : bool
        Divide by the largest second moment so far instead of the present one.
    decoupled : bool
        AdamW's weight decay.
    betas, epsilon : tuple of float, float
        Decay of the moments; what is added to the denominator.
    """

    def __init__(
        self,
        size: int,
        decay: Array,
        *,
        amsgrad: bool = True,
        decoupled: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.decay, self.amsgrad, self.decoupled = decay, amsgrad, decoupled
        self.betas, self.epsilon = betas, epsilon
        self.steps = 0
        self.first = np.zeros(size)
        self.second = np.zeros(size)
        self.largest = np.zeros(size if amsgrad else 0)

    def step(self, weights: Array, gradient: Array, rate: float) -> None:
        """Change `weights` in place."""
        b1, b2 = self.betas
        self.steps += 1
        length, unbias = rate / (1 - b1**self.steps), 1 / math.sqrt(1 - b2**self.steps)
        for part in _blocks(len(weights)):
            w, g, first, second = weights[part], gradient[part], self.first[part], self.second[part]
            if self.decoupled:
                w -= rate * self.decay[part] * w
            else:
                g = g + self.decay[part] * w
            first += (1 - b1) * (g - first)
            second += (1 - b2) * (g * g - second)
            if self.amsgrad:
                second = np.maximum(self.largest[part], second, out=self.largest[part])
            w -= length * first / (np.sqrt(second) * unbias + self.epsilon)

    def state(self) -> State:
        """What `restore` needs to go on."""
        return {"steps": self.steps, "first": self.first, "second": self.second, "largest": self.largest}

    def restore(self, state: State) -> None:
        """Go on from a saved state."""
        self.steps = int(state["steps"])
        for name in ("first", "second", "largest"):
            getattr(self, name)[...] = state[name]


class Average:
    """Exponential running average of weights.

    Parameters
    ----------
    weights : numpy.ndarray
        Where it starts.
    decay : float
        What an old average keeps in a step; less in the first steps, so that the start is forgotten.
    """

    def __init__(self, weights: Array, decay: float) -> None:
        self.decay, self.steps, self.weights = decay, 0, weights.copy()

    def step(self, weights: Array) -> None:
        """Take new weights in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for part in _blocks(len(weights)):
            self.weights[part] += (1 - decay) * (weights[part] - self.weights[part])

    def state(self) -> State:
        """What `restore` needs to go on."""
        return {"steps": self.steps, "weights": self.weights}

    def restore(self, state: State) -> None:
        """Go on from a saved state."""
        self.steps = int(state["steps"])
        self.weights[...] = state["weights"]


class Schedule:
    """Learning rate in the course of training.

    Parameters
    ----------
    kind : str
        "constant", "cosine", "exponential" or "plateau".
    rate : float
        At the beginning.
    final : float
        Rate at the end as a part of `rate`; also the least that "plateau" goes to.
    warmup : int
        Steps over which the rate rises from zero.
    factor, patience : float, int
        "plateau": what the rate is multiplied by after this many validations without improvement.
    """

    def __init__(
        self,
        kind: str,
        rate: float,
        *,
        final: float = 0.01,
        warmup: int = 0,
        factor: float = 0.8,
        patience: int = 20,
    ) -> None:
        self.kind, self.start, self.final, self.warmup = kind, rate, final, warmup
        self.factor, self.patience = factor, patience
        self.best, self.waited, self.reduction = math.inf, 0, 1.0

    def rate(self, step: int, done: float) -> float:
        """Learning rate of a step, counted from 0, when a part `done` (0 to 1) of the training is done."""
        part = {
            "constant": 1.0,
            "cosine": self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))),
            "exponential": self.final ** min(done, 1.0),
            "plateau": max(self.reduction, self.final),
        }[self.kind]
        return self.start * part * min(1.0, (step + 1) / (self.warmup + 1))

    def validated(self, loss: float) -> None:
        """Tell the loss of a validation."""
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        if self.waited >= self.patience:
            self.waited, self.reduction = 0, self.reduction * self.factor

    def state(self) -> State:
        """What `restore` needs to go on."""
        return {"best": self.best, "waited": self.waited, "reduction": self.reduction}

    def restore(self, state: State) -> None:
        """Go on from a saved state."""
        self.best, self.waited = float(state["best"]), int(state["waited"])
        self.reduction = float(state["reduction"])


def clipped(gradient: Array, longest: float) -> tuple[Array, float]:
    """Shorten a gradient to at most `longest` (0: never); give it with its length before."""
    # a norm of squares that neither overflows nor depends on the number of threads
    largest = float(np.max(np.abs(gradient), initial=0.0))
    if largest == 0 or not math.isfinite(largest):
        return gradient, largest
    squares = [float(np.sum(np.square(gradient[part] / largest))) for part in _blocks(len(gradient))]
    norm = largest * math.sqrt(math.fsum(squares))
    return (gradient * (longest / norm) if 0 < longest < norm else gradient), norm


def _blocks(size: int) -> Iterator[slice]:
    return (slice(begin, begin + _BLOCK) for begin in range(0, size, _BLOCK))


class Stop(Exception):
    """Raised by a callback to end `lbfgs` after the present iteration."""


def lbfgs(
    objective: Callable[[Array], tuple[float, Array]],
    weights: Array,
    iterations: int,
    callback: Callable[[Array, float], None],
) -> Array:
    """Minimise with L-BFGS.

    Parameters
    ----------
    objective : callable
        Gives value and gradient at some weights.
    weights : numpy.ndarray
        Where to start.
    iterations : int
        At most so many.
    callback : callable
        Gets weights and value after each iteration; may raise `Stop`.

    Returns
    -------
    numpy.ndarray
        The weights of the last iteration.
    """
    latest = {"weights": weights.copy(), "value": math.inf}

    def remembered(x: Array) -> tuple[float, Array]:
        value, gradient = objective(x)
        latest["value"] = value
        return value, gradient

    def progress(x: Array) -> None:
        latest["weights"] = x.copy()
        callback(latest["weights"], latest["value"])

    with suppress(Stop):
        minimize(
            remembered,
            weights,
            jac=True,
            method="L-BFGS-B",
            callback=progress,
            options={"maxiter": iterations, "maxfun": 20 * iterations, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-12},
        )
    return latest["weights"]
