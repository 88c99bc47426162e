"""Calculator: the bridge to ASE."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes

from equipot import EquipotError, _equipot
from equipot.potential import Device, DType, Potential, Radial, has_volume

_ASE = {"label", "atoms", "directory"}
# What it is called elsewhere.
_HINTS = dict.fromkeys(("precision", "default_dtype"), ' The precision is dtype="mixed".') | dict.fromkeys(
    ("model", "model_path", "model_paths"), ' The model is the first argument: Calculator("model.equipot").'
)


class Calculator(AseCalculator):
    """ASE calculator of a potential.

    Parameters
    ----------
    potential
        A ``*.equipot`` file, or a :class:`Potential` that is already loaded (several calculators can share one).
    head, dtype, radial, device
        As in :func:`equipot.load`, for a file; a potential that is loaded must have been loaded with the same.
    skin
        Å. Pairs of atoms are searched within cutoff + skin, and again only after an atom has moved by half of the skin.
        Changes the speed, never the result.
    **kwargs
        ``label``, ``atoms`` and ``directory``, for ``ase.calculators.calculator.Calculator``.

    Notes
    -----
    Gives ``energy``, ``free_energy``, ``forces``, ``energies``, and for atoms whose cell has a volume ``stress`` and
    ``stresses``. Units eV and Å; stress in ASE's order and sign.
    """

    implemented_properties: list[str] = [  # noqa: RUF012 (as ASE declares it)
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "stresses",
    ]
    # Nothing here depends on charges or magnetic moments: setting them must not cost an evaluation.
    ignored_changes: set[str] = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self,
        potential: str | os.PathLike[str] | Potential | None = None,
        head: str | None = None,
        dtype: DType | None = None,
        skin: float = 0.5,
        radial: Radial | None = None,
        device: Device | None = None,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - _ASE)
        if unknown:
            # ASE would keep it as a parameter and nobody would look at it
            hint = _HINTS.get(unknown[0], "")
            raise EquipotError(f"Calculator has no argument '{unknown[0]}'.{hint}")
        if potential is None:
            raise EquipotError('Calculator needs a model: Calculator("model.equipot").')
        super().__init__(**kwargs)
        asked = {"head": head, "dtype": dtype, "radial": radial, "device": device}
        given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if isinstance(potential, Potential):
            for name, value in given.items():
                if value != getattr(potential, name):
                    raise EquipotError(f"this potential is loaded with {name} {getattr(potential, name)}, not {value}")
        else:
            potential = Potential(potential, **given)
        if not 0.0 <= skin < float("inf"):
            raise EquipotError(f"the skin must not be negative, but it is {skin} Å")
        self.potential = potential
        self.skin = float(skin)
        self._neighbors = _equipot.NeighborList()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute energies, forces and stress; per-atom stresses only when asked, for they cost a little more."""
        super().calculate(atoms, properties, system_changes)
        wanted = {"energy", "free_energy", "energies", "forces"}
        if has_volume(self.atoms):
            wanted.add("stress")
            # Someone who asked once will ask at every step: dynamics that write stresses should not evaluate twice.
            self._wants_stresses |= "stresses" in (properties or [])
            if self._wants_stresses:
                wanted.add("stresses")
        self.results = self.potential._evaluate([self.atoms], wanted, self._neighbors, self.skin)[0]

    _wants_stresses = False
    name = "equipot"

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Refuse: what a calculator is made of stays."""
        if kwargs:
            raise EquipotError(f"{next(iter(kwargs))} cannot be set: make a new Calculator")
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # Neighbours are found again where they are needed.
        return {name: value for name, value in self.__dict__.items() if name != "_neighbors"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._neighbors = _equipot.NeighborList()
