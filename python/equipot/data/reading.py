"""Read structures with reference energies, forces, stresses and virials from any file that ASE reads."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from equipot import EquipotError
from equipot.data.frames import FrameFile, Paths, expand, read_file, tell_apart
from equipot.data.keys import Quantity, quantity_of
from equipot.data.labels import label, refusal
from equipot.data.structures import DataSet, Finding
from equipot.data.unused import unused_keys


def read_data(
    paths: Paths,
    *,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    virial_key: str | None = None,
    config_type_key: str = "config_type",
    strict: bool = True,
) -> DataSet:
    """Read all structures of files, with their labels.

    Parameters
    ----------
    paths
        Files that ASE reads: extended XYZ, OUTCAR, vasprun.xml, databases, trajectories, …; also compressed with
        gzip, bzip2 or xz, also patterns such as ``runs/*.xyz``, also with a choice of frames as in ``run.xyz@::10``,
        which after a pattern counts for every file.
    energy_key, forces_key, stress_key, virial_key
        Names of the labels in the files. Left out, they are found by their names: energy, REF_energy, dft_forces, …
    config_type_key
        Name of the entry that sorts structures into groups; those without it are "default".
    strict
        Refuse files with structures that cannot be used, such as those whose energy is not finite. Otherwise these are
        left out, and an error among the `findings` names them.

    Returns
    -------
    DataSet
        Its `keys_taken` says where labels come from, its `findings` what to know about them.

    Raises
    ------
    EquipotError
        For files that cannot be read or hold no structure, keys that are nowhere, and, unless `strict` is off, labels
        that are not finite or have the wrong shape.

    Notes
    -----
    Units are eV, eV/Å, and eV/Å³ with tension positive (ASE's sign); virials are eV, minus volume times stress.
    Stresses and virials come as 3 x 3 or 9 numbers, or as 6 in the order xx, yy, zz, yz, xz, xy. Nothing is converted
    silently: :func:`equipot.data.check` looks for labels in other units.
    """
    named: dict[Quantity, str | None] = {
        "energy": energy_key,
        "forces": forces_key,
        "stress": stress_key,
        "virial": virial_key,
    }
    files = [read_file(path) for path in expand(paths)]
    tell_apart(files)
    _check_named(files, named, config_type_key)
    data = DataSet()
    unusable: dict[str, str] = {}
    for file in files:
        data += label(file, named, config_type_key, unusable)
    if unusable:
        if strict or not len(data):
            raise EquipotError(refusal(unusable))
        data.findings.append(Finding("error", "structures", refusal(unusable), tuple(unusable)))
    data.findings += unused_keys(files, config_type_key)
    return data


def _check_named(files: Sequence[FrameFile], named: dict[Quantity, str | None], config_type_key: str) -> None:
    wanted = {quantity: key for quantity, key in named.items() if key is not None}
    everything: Counter[str] = sum((file.keys for file in files), Counter())
    for quantity, key in wanted.items():
        if key not in everything:
            there = ", ".join(sorted(everything)) or "no keys at all"
            raise EquipotError(f"{quantity}: no structure of {_names(files)} has the key '{key}'; there are {there}")
    if config_type_key != "config_type" and config_type_key not in everything:
        there = ", ".join(sorted(key for key in everything if quantity_of(key) is None)) or "none but labels"
        raise EquipotError(
            f"config_type: no structure of {_names(files)} has the key '{config_type_key}'; there are {there}"
        )


def _names(files: Sequence[FrameFile]) -> str:
    shown = [file.name for file in files[:3]]
    return ", ".join(shown) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
