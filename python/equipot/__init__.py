"""Equivariant interatomic potentials: energies, forces and stresses from one model file.

>>> import equipot
>>> potential = equipot.load("Si.equipot")
>>> results = potential.compute(atoms, properties=("energy", "forces", "stress"))
>>> atoms.calc = equipot.Calculator("Si.equipot")
>>> equipot.fit.train(data={"train": "train.xyz"}, folder="run")

Units are Å and eV everywhere; stress is in eV/Å³ with ASE's sign (tension positive).
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from equipot._version import __version__

if TYPE_CHECKING:
    from equipot.calculator import Calculator
    from equipot.potential import Potential, load, set_threads

__all__ = ["Calculator", "EquipotError", "Potential", "__version__", "load", "set_threads"]


class EquipotError(RuntimeError):
    """Anything that equipot refuses to do, in one sentence for people."""


# Imported when first used: LAMMPS imports this package only to find its plugin, and must not wait for numpy and ASE.
_HOMES = {
    "Calculator": "equipot.calculator",
    "Potential": "equipot.potential",
    "load": "equipot.potential",
    "set_threads": "equipot.potential",
}
_PACKAGES = ("convert", "data", "fit")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return import_module(f"equipot.{name}")
    if name == "_equipot":
        return _engine()
    raise AttributeError(f"module 'equipot' has no attribute '{name}'")


def _engine() -> ModuleType:
    """Load the engine, with threads that sleep soon when they have nothing to do.

    GNU's OpenMP reads its variables when it is loaded. It has threads look out for work for a millisecond, and where
    another program keeps a core busy that costs forces of a small molecule twenty times the time. They are told to
    sleep after some microseconds instead, unless the user has said what they are to do.
    """
    name = "GOMP_SPINCOUNT"
    silent = name not in os.environ and "OMP_WAIT_POLICY" not in os.environ
    if silent:
        os.environ[name] = "3000"
    try:
        return import_module("equipot._equipot")
    finally:
        if silent:
            os.environ.pop(name, None)  # another thread may have been here


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
