"""Optimisers, learning rates and weight averages, with a state that can be saved and restored to the bit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from equipot import _equipot

Array = NDArray[np.float64]
State = dict[str, Any]


class Optimizer:
    """Adam, AMSGrad, AdamW, or Muon with AMSGrad.

    Muon (Jordan et al. 2024) is for weights that are matrices: their mean gradient is made orthogonal, so that all
    directions of a matrix learn at one pace, and scaled to the size of Adam's steps. Fits of molecules and crystals
    come to lower errors with it, on new structures above all.

    Parameters
    ----------
    algorithm : str
        "adam", "amsgrad", "adamw" or "muon".
    decay : numpy.ndarray, shape (size,)
        Weight decay of each weight: the gradient of ½·decay·weight² is added, or, with "adamw", the weight shrinks by
        rate·decay in each step.
    matrices : sequence of (int, int, int)
        Weights that are matrices, for "muon": first weight, rows, columns.
    """

    def __init__(self, algorithm: str, decay: Array, matrices: Sequence[tuple[int, int, int]] = ()) -> None:
        muon = algorithm == "muon"
        self._engine = _equipot.Optimizer(decay, list(matrices) if muon else [], "amsgrad" if muon else algorithm)

    def step(self, weights: Array, gradient: Array, rate: float, longest: float = 0.0) -> float:
        """Change `weights` in place. Gradients longer than `longest` (0: none) are shortened to it; give the length."""
        return self._engine.step(weights, gradient, rate, longest)

    def state(self) -> State:
        """What `restore` needs to go on."""
        return self._engine.state()

    def restore(self, state: State) -> None:
        """Go on from a saved state."""
        self._engine.restore(state)


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
        _equipot.update_average(self.weights, weights, decay)

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
    latest, value = weights.copy(), math.inf

    def remembered(x: Array) -> tuple[float, Array]:
        nonlocal value
        value, gradient = objective(x)
        return value, gradient

    def progress(x: Array) -> None:
        nonlocal latest
        latest = x.copy()
        callback(latest, value)

    with suppress(Stop):
        minimize(
            remembered,
            weights,
            jac=True,
            method="L-BFGS-B",
            callback=progress,
            options={"maxiter": iterations, "maxfun": 20 * iterations, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-12},
        )
    return latest
