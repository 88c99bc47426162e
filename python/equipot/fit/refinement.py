"""The last step of training: energies are refined, forces and stresses stay as they are.

Gradients of a batch are mostly those of its many forces, and steps that are small enough for these hardly move what the
few energies ask for. Here the change d of the weights solves

    min_d |r - J d|² + |H d|² + λ |d|²,   d = Aᵀ (A Aᵀ + λ)⁻¹ (r, 0),   A = (J, H),

with the errors r of energies and their Jacobian J, and with the Jacobian H of one random combination of forces and
stresses for each structure, all in units of their mean errors: steps of Levenberg (Quart. Appl. Math. 2, 164, 1944) and
Marquardt, with a random sketch of what is held (Pilanci and Wainwright, SIAM J. Optim. 27, 205, 2017).
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from equipot.fit.losses import Errors, Loss, Weights
from equipot.fit.objective import Indices, NotFiniteError, Objective, Source
from equipot.fit.scores import Misses, sure_scores
from equipot.units import FROM_LOG

Array = NDArray[np.float64]

_MEMORY = 1e9  # bytes of Jacobians at once
_COLUMNS = 16384  # weights at once in products of them
# λ as a part of the mean square of the rows of J. What is less leaves the range where the model is linear.
_DAMPING = 10.0 ** np.arange(-2, -6.5, -0.5)
# The shortest change is taken that gains so much of what the best would: others follow, with other combinations held.
_ENOUGH = 0.5
_HELD = 5.0  # how much errors of forces and stresses that change count, as a multiple of those of energies
_LEAST_GAIN = 0.003  # of the score, else it is the last step
# A structure that is off by more than this many mean errors is not what small steps are for.
_FURTHEST = 3.0
# What all guards may cost more than before, as a part of the loss on the validation set.
_GUARDS_COST = 0.01
_UNITS = np.array(list(FROM_LOG.values()))  # of `Misses`, in eV and Å


def refined(
    objective: Objective,
    validation: Objective,
    weights: Array,
    loss: Weights,
    chosen: Callable[[int], Indices],
    seed: int,
    show: Callable[[int, float], bool],
) -> Iterator[Array]:
    """Refine energies; give the weights after each step, as long as steps surely lower errors of validation.

    Parameters
    ----------
    objective, validation : Objective
        The structures to learn from, and those that judge.
    weights : numpy.ndarray
        What to start from.
    loss : Weights
        Of the loss; only labels with a weight above zero count.
    chosen : callable
        Gives the structures of a step, of which as many take part as the memory allows; guards never do.
    seed : int
        Of random combinations.
    show : callable
        Is told the step and the part of it that is done; stops everything when it gives True.
    """
    unit = _misses(validation, [weights], loss).mean[0] / _UNITS
    if not unit[0] > 0:
        return
    before, most = _guards_cost(objective, weights, loss), _GUARDS_COST * validation.evaluate(weights, loss)[0]
    step = 0
    while True:
        rng = np.random.default_rng([seed, step])
        indices = chosen(step)
        indices = indices[~objective.guards[indices]]
        room = max(int(_MEMORY / (8 * len(weights))), 2)
        indices = np.sort(rng.permutation(indices)[:room])
        rows = _rows(objective, weights, indices, loss, unit, rng, partial(show, step))
        if rows is None:
            return
        tries = [weights, *(weights + change for change in _changes(*rows))]
        gains = -sure_scores(_misses(validation, tries, loss), 0)
        enough = np.flatnonzero((gains > 0) & (gains >= _ENOUGH * gains.max()))
        best = next((k for k in enough.tolist() if _guards_cost(objective, tries[k], loss) <= before + most), 0)
        if best == 0:
            return
        weights = tries[best]
        yield weights
        if gains[best] < _LEAST_GAIN:
            return
        step += 1


def _rows(
    objective: Objective,
    weights: Array,
    indices: Indices,
    loss: Weights,
    unit: Array,
    rng: np.random.Generator,
    show: Callable[[float], bool],
) -> tuple[NDArray[np.float32], Array] | None:
    """The rows of A, in single precision, and their aims, those of energies first; None if there is nothing to do."""
    model, count = objective.model, len(indices)
    model.set(weights)
    rows, aims, done = np.zeros((2 * count, len(weights)), dtype=np.float32), np.zeros(2 * count), 0
    for source, part in objective.parts(indices):
        for i in part:
            graphs, places = source.graphs.batch(np.array([i], dtype=np.int64))
            predicted = model.trainer(source.head).evaluate(graphs, places)
            energy, held, aim = _bars(source, int(i), float(predicted["energy"][0]), loss, unit, rng)
            for row, bars in ((done, energy), (count + done, held)):
                gradient = np.zeros(len(weights))
                model.add_gradient(source.head, graphs, places, bars, gradient)
                rows[row] = gradient
            aims[done] = aim
            done += 1
            if show(done / count):
                return None
    return (rows, aims) if aims.any() and np.isfinite(rows).all() else None


def _bars(
    source: Source, i: int, energy: float, loss: Weights, unit: Array, rng: np.random.Generator
) -> tuple[Loss, Loss, float]:
    """What is differentiated for a structure: its energy, what is held of it, and the aim of the energy."""
    labels = source.labels.take(np.array([i], dtype=np.int64))
    n = int(labels.atoms[0])
    factor = float(np.sqrt(labels.weight[0]))
    per_energy = factor / (unit[0] * (n if loss.per_atom else 1))
    aim = 0.0 if np.isnan(labels.energy[0]) else (float(labels.energy[0]) - energy) * per_energy
    signs, virial = rng.choice([-1.0, 1.0], size=(n, 3)), rng.choice([-1.0, 1.0], size=(1, 3, 3))
    known = loss.forces > 0 and unit[1] > 0 and not np.isnan(labels.forces).any()
    stressed = loss.stress > 0 and unit[2] > 0 and not np.isnan(labels.virial).any()
    forces = signs * (_HELD * factor / (unit[1] * np.sqrt(3 * n))) if known else np.zeros((n, 3))
    virial = virial * (_HELD * factor / (3 * unit[2] * labels.volume[0])) if stressed else np.zeros((1, 3, 3))
    nothing = np.zeros((n, 3)), np.zeros((1, 3, 3))
    return (
        Loss(0.0, np.array([per_energy if aim else 0.0]), *nothing),
        Loss(0.0, np.zeros(1), forces, virial),
        float(np.clip(aim, -_FURTHEST * factor, _FURTHEST * factor)),
    )


def _changes(rows: NDArray[np.float32], aims: Array) -> Array:
    """The changes d of the weights for all λ, shape (λ, weights)."""
    products = np.zeros((len(rows), len(rows)))
    parts = [slice(begin, begin + _COLUMNS) for begin in range(0, rows.shape[1], _COLUMNS)]
    for part in parts:  # single precision would not resolve what λ does
        block = rows[:, part].astype(np.float64)
        products += block @ block.T
    level = float(np.mean(np.diag(products)[: len(rows) // 2]))
    values, vectors = np.linalg.eigh(products)
    turned = vectors.T @ aims
    duals = np.array([vectors @ (turned / (np.maximum(values, 0.0) + level * damping)) for damping in _DAMPING])
    return np.concatenate([duals @ rows[:, part].astype(np.float64) for part in parts], axis=1)


def _misses(objective: Objective, tries: Sequence[Array], loss: Weights) -> Misses:
    """By how much models with several weights miss the labels that count."""
    counting = np.array([loss.energy, loss.forces, loss.stress]) > 0
    sums, counts = [], []
    for k, source in enumerate(objective.sources):
        labels = replace(source.labels, config=np.arange(len(source.labels), dtype=np.int64))
        judged = (labels.weight > 0)[:, None] & counting
        units = np.tile(_UNITS, (len(labels), 1))
        units[:, 0] *= 1 if loss.per_atom else labels.atoms
        found = []
        for weights in tries:
            errors = Errors.none(labels.sources)  # each structure is a group
            errors.add(labels, **objective.predict(k, weights))
            # what is not finite is no better than what is very wrong
            finite = np.nan_to_num(errors.absolute, nan=1e9, posinf=1e9)
            found.append(np.where(judged, finite * units, 0.0))
        sums.append(np.array(found))
        counts.append(np.where(judged, errors.counts, 0.0))
    return Misses(np.concatenate(sums, axis=1), np.concatenate(counts))


def _guards_cost(objective: Objective, weights: Array, loss: Weights) -> float:
    """What all guards cost together."""
    sources = [source for source in objective.sources if (source.labels.tolerance > 0).any()]
    try:
        return Objective(objective.model, sources).evaluate(weights, loss)[0] if sources else 0.0
    except NotFiniteError:
        return float("inf")
