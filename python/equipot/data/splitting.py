"""Divide a data set into parts for training, validation and test."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np

from equipot import EquipotError
from equipot.data.structures import DataSet, counted


def split(
    dataset: DataSet,
    valid: float | str | Collection[str] = 0.1,
    test: float | str | Collection[str] = 0.0,
    by: Literal["fraction", "config_type", "file"] = "fraction",
    seed: int = 0,
) -> tuple[DataSet, ...]:
    """Divide a data set.

    Parameters
    ----------
    dataset
        All structures.
    valid, test
        Shares between 0 and 1 for `by` "fraction"; else the names of the config_types or files that go there.
    by
        What decides. Fractions are drawn from each config_type by itself, so that all parts look alike.
    seed
        The same seed gives the same parts.

    Returns
    -------
    train, valid : DataSet
        And `test`, when it was asked for. Isolated atoms always are in `train`.

    Raises
    ------
    EquipotError
        When a part that was asked for, or `train`, would be empty, and for names that are not in the data.
    """
    if by == "fraction":
        labels = _by_fraction(dataset, valid, test, seed)
    elif by in ("config_type", "file"):
        labels = _by_name(dataset, valid, test, by)
    else:
        raise EquipotError(f"cannot split by '{by}': choose fraction, config_type or file")
    wanted = {"train": True, "valid": bool(valid), "test": bool(test)}
    parts = [dataset.subset(np.flatnonzero(labels == number)) for number in range(3)]
    for (name, needed), part in zip(wanted.items(), parts, strict=True):
        if needed and not len(part):
            raise EquipotError(
                f"nothing is left for {name} after dividing {counted(len(dataset), 'structure')} by {by}"
            )
    return tuple(parts) if test else tuple(parts[:2])


def _by_fraction(dataset: DataSet, valid: object, test: object, seed: int) -> np.ndarray:
    shares = []
    for name, share in (("valid", valid), ("test", test)):
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
            raise EquipotError(f"{name} = {share!r} is no share between 0 and 1")
        shares.append(float(share))
    if sum(shares) >= 1:
        raise EquipotError("valid and test together leave nothing to train on")
    rng = np.random.default_rng(seed)
    groups: dict[str, list[int]] = {}
    for i, structure in enumerate(dataset):
        if not structure.is_isolated_atom:
            groups.setdefault(structure.config_type, []).append(i)
    labels = np.zeros(len(dataset), dtype=int)
    # What a group is owed of a part but cannot give, as structures are whole, passes to the next group.
    owed = np.zeros(2)
    for name in sorted(groups):
        members = rng.permutation(groups[name])
        owed += np.array(shares) * len(members)
        start = 0
        for part in range(2):
            # All of a group never goes: train keeps one at least.
            count = min(int(np.floor(owed[part] + 1e-9)), len(members) - 1 - start)
            count = max(count, 0)
            labels[members[start : start + count]] = part + 1
            owed[part] -= count
            start += count
    for part, name in enumerate(("valid", "test")):
        # A small share of few structures still is a part that was asked for.
        if shares[part] > 0 and not (labels == part + 1).any():
            free = [i for members in groups.values() if (labels[members] == 0).sum() > 1 for i in members]
            free = [i for i in free if labels[i] == 0] or [
                i for i in np.flatnonzero(labels == 0).tolist() if not dataset[i].is_isolated_atom
            ]
            if len(free) < 2:
                raise EquipotError(
                    f"{counted(len(dataset), 'structure is', 'structures are')} too few to take {name} = "
                    f"{shares[part]:g} of them"
                )
            labels[rng.choice(free)] = part + 1
    return labels


def _by_name(dataset: DataSet, valid: object, test: object, by: str) -> np.ndarray:
    names = np.array([s.config_type if by == "config_type" else s.file for s in dataset])
    labels = np.zeros(len(dataset), dtype=int)
    for part, chosen in ((1, valid), (2, test)):
        if isinstance(chosen, (int, float)):
            if chosen:
                raise EquipotError(f"to split by {by}, name what goes where; {chosen!r} is a number")
            continue
        for name in [chosen] if isinstance(chosen, str) else list(chosen):  # type: ignore[call-overload]
            where = names == name
            if not where.any():
                there = ", ".join(dict.fromkeys(names.tolist()))
                raise EquipotError(f"no structure has the {by} '{name}'; there are {there}")
            labels[where & (labels == 0)] = part
    for i, structure in enumerate(dataset):
        if structure.is_isolated_atom:
            labels[i] = 0
    return labels
