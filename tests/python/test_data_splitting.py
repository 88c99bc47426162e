"""Dividing data into sets for training, validation and test."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import pytest
from ase import Atoms

from equipot import EquipotError
from equipot.data import DataSet, Structure, split


@pytest.fixture
def mixed(crystal) -> DataSet:
    groups = ["a"] * 12 + ["b"] * 8 + ["c"] * 4
    structures = [
        Structure(s.atoms, s.energy, config_type=g, source=s.source) for s, g in zip(crystal, groups, strict=True)
    ]
    return DataSet([*structures, Structure(Atoms("Cu"), 0.0, config_type="IsolatedAtom", source="e0.xyz#0")])


def test_split_by_fraction(mixed):
    train, valid, test = split(mixed, valid=0.25, test=0.25, seed=3)
    assert {s.source for part in (train, valid, test) for s in part} == {s.source for s in mixed}
    assert len(train) + len(valid) + len(test) == len(mixed)
    assert valid.config_types == test.config_types == {"a": 3, "b": 2, "c": 1}
    assert train.config_types["IsolatedAtom"] == 1
    again = split(mixed, valid=0.25, test=0.25, seed=3)
    assert [s.source for s in valid] == [s.source for s in again[1]]
    assert [s.source for s in valid] != [s.source for s in split(mixed, valid=0.25, test=0.25, seed=4)[1]]


def test_small_shares_still_give_a_part(mixed):
    train, valid = split(mixed, valid=0.01)
    assert (len(train), len(valid)) == (24, 1)
    assert split(mixed, valid=0.0)[0].structures == mixed.structures


def test_split_by_name(mixed):
    train, valid, test = split(mixed, valid="a", test=["b"], by="config_type")
    assert (train.config_types, valid.config_types, test.config_types) == (
        {"c": 4, "IsolatedAtom": 1},
        {"a": 12},
        {"b": 8},
    )
    with pytest.raises(EquipotError, match="'d'; there are a, b, c"):
        split(mixed, valid="d", by="config_type")
    with pytest.raises(EquipotError, match="left for valid"):
        split(mixed, valid="e0.xyz", by="file")  # isolated atoms stay in train


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.6, 0.4), (-0.1, 0.0), ("a", 0.0), (True, 0.0)])
def test_impossible_shares(mixed, shares):
    with pytest.raises(EquipotError):
        split(mixed, valid=shares[0], test=shares[1])
