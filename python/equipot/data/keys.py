"""Which keys of a file hold the reference energies, forces, stresses and virials."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, Literal

from ase import Atoms

Quantity = Literal["energy", "forces", "stress", "virial"]
QUANTITIES: tuple[Quantity, ...] = ("energy", "forces", "stress", "virial")

# A key is read as words. Words that say whose numbers these are, and in which unit (ours), may be there or not …
_ORIGIN = {
    *("ref", "reference", "dft", "qm", "target", "label", "labels", "true", "scf", "gs"),
    *("vasp", "cp2k", "qe", "castep", "aims", "orca", "xtb", "dftb", "pbe", "pbe0", "r2scan", "scan", "lda"),
    *("blyp", "b3lyp", "rpbe", "revpbe", "pbesol", "wb97x", "wb97m", "ccsd", "mp2"),
}  # fmt: skip
_OWN_UNITS = {"ev", "eva", "ang", "angstrom"}
# … and what is left has to be one of these: formation_energy, energy_per_atom or kinetic_energy never are taken.
_CORES: dict[Quantity, set[str]] = {
    "energy": {"energy", "totenergy", "totalenergy", "toten", "etot", "potentialenergy", "freeenergy"},
    "forces": {"forces", "force"},
    "stress": {"stress"},
    "virial": {"virial", "virials"},
}
# What energies depend on besides the atoms, under names in which their words are run together: no fit takes note of it.
CONDITIONS = {
    "head",
    *("charge", "totalcharge", "netcharge", "spin", "totalspin", "multiplicity", "spinmultiplicity"),
    *("magmom", "magmoms", "totalmagmom", "initialmagmoms"),
}


def frame_keys(atoms: Atoms) -> Iterator[tuple[str, Any]]:
    """All that a file says about one structure, by key; the results of a calculator last, as the standard ones."""
    for key, value in atoms.info.items():
        if key in ("key_value_pairs", "data") and isinstance(value, dict):  # from an ASE database
            yield from value.items()
        else:
            yield key, value
    for key, value in atoms.arrays.items():
        if key not in ("numbers", "positions"):
            yield key, value
    if atoms.calc is not None:
        yield from atoms.calc.results.items()


def words(key: str) -> list[str]:
    """The words of a key in lower case: REF_energy and dftEnergy are ref energy and dft energy."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", key.replace("eV", "ev"))
    parts = re.split(r"[^A-Za-z0-9]+", spaced)
    return [part.lower() for part in parts if part]


def origin(key: str, further: Collection[str] = ()) -> frozenset[str]:
    """The words of a key that say whose numbers these are."""
    return frozenset(word for word in words(key) if word in _ORIGIN or word in further)


def quantity_of(key: str, further: Collection[str] = ()) -> Quantity | None:
    """What a key holds by its name; `further` are more words that may say whose numbers these are."""
    core = core_of(key, further)
    return next((quantity for quantity, cores in _CORES.items() if core in cores), None)


def core_of(key: str, further: Collection[str] = ()) -> str:
    """The words of a key, run together, without those that say whose numbers these are and in which unit."""
    return "".join(w for w in words(key) if w not in _ORIGIN and w not in _OWN_UNITS and w not in further)


def resembles(key: str, quantity: Quantity) -> bool:
    """Whether a key may hold a quantity by a part of its name, as mace_energy may: people should look."""
    return ("force" if quantity == "forces" else quantity) in key.lower()


def rank(key: str, family: frozenset[str] | None, further: Collection[str] = ()) -> tuple[int, ...]:
    """Order candidates for one quantity, best first.

    Labels that belong to the same calculation (`family`) as those already chosen come first. Then those that say
    that they are the reference, because plain names are also what programs leave behind that evaluated a model.
    Extrapolated energies come before free energies, as nearly every published set has them.
    """
    own = origin(key, further)
    order = 0 if own & {"ref", "reference"} else 1 if own else 2
    free = "freeenergy" in "".join(words(key))
    return (int(family is not None and own != family), order, int(free))
