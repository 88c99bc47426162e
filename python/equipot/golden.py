"""Agreement with mace-torch: convert reference models, evaluate them, and say how far the numbers are apart."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from equipot import EquipotError
from equipot.potential import Device, Potential, Radial

# What agreement means: quantity -> (unit, largest deviation with the exact radial, with the splined radial). Forces of
# more than 1e4 eV/Å (atoms half an Å apart) count relative to 1e4 eV/Å: doubles resolve 1e-12 of them, sums less.
# Features count relative to the largest of a structure.
QUANTITIES: dict[str, tuple[str, float, float]] = {
    "energy": ("eV/atom", 1e-9, 1e-6),
    "energies": ("eV", 1e-9, 1e-6),
    "forces": ("eV/Å", 1e-8, 1e-6),
    "stress": ("eV/Å³", 1e-10, 1e-7),
    "virials": ("eV", 1e-8, 1e-5),
    "features": ("", 1e-9, 1e-5),
}


@dataclass
class Reference:
    """One structure as mace-torch sees it, in its units (eV, Å) and with ASE's sign of stress."""

    name: str
    head: str | None
    atoms: Atoms
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def closest(self) -> float:
        """The shortest distance between two atoms, Å."""
        distances = neighbor_list("d", self.atoms, 1.0)
        return float(distances.min(initial=1.0))


@dataclass
class Deviation:
    """The largest deviation of one quantity over all structures of a model."""

    value: float = 0.0
    structure: str = ""


def references(file: Path) -> Iterator[Reference]:
    """Structures of a reference.npz, whose entries are called [HEAD/]STRUCTURE/QUANTITY."""
    arrays = np.load(file)
    for key in arrays.files:
        if not key.endswith("/numbers"):
            continue
        prefix = key.removesuffix("numbers")
        *head, name, _ = key.split("/")
        get = {k.removeprefix(prefix): arrays[k] for k in arrays.files if k.startswith(prefix)}
        atoms = Atoms(get["numbers"], get["positions"], cell=get["cell"], pbc=get["pbc"])
        values = {
            "energy": get["energy"] / len(atoms),
            "energies": get["node_energy"],
            "forces": get["forces"],
            "virials": get["atomic_virials"],
        }
        if atoms.pbc.all():
            s = get["stress"]
            values["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
        if "node_feats" in get:
            values["features"] = get["node_feats"]
        yield Reference(name, head[0] if head else None, atoms, values)


def compare(potential: Potential, structures: list[Reference]) -> dict[str, Deviation]:
    """Largest deviation of each quantity, all structures in one batch."""
    worst: dict[str, Deviation] = {}
    wanted = {"energy", "energies", "forces", "virial", "virials", "features"}
    for reference, ours in zip(structures, potential.compute([s.atoms for s in structures], wanted), strict=True):
        ours["energy"] /= len(reference.atoms)
        virial = ours["virial"]
        if "stress" in reference.values:
            tensor = -virial / reference.atoms.get_volume()
            ours["stress"] = tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        for name, expected in reference.values.items():
            deviation = float(np.abs(ours[name] - expected).max(initial=0.0))
            if name in ("forces", "virials"):
                deviation /= max(1.0, float(np.abs(reference.values["forces"]).max(initial=0.0)) / 1e4)
            if name == "features":
                deviation /= max(1.0, float(np.abs(expected).max(initial=0.0)))
            if not deviation <= worst.setdefault(name, Deviation()).value:  # also catches NaN
                worst[name] = Deviation(deviation, reference.name)
    return worst


def unpack(folder: Path, destination: Path) -> Path:
    """Convert the checkpoint in `folder` into `destination` and return the model file."""
    from equipot.convert import convert_file

    checkpoints = sorted(folder.glob("*.model.xz")) + sorted(folder.glob("*.model"))
    if not checkpoints:
        raise EquipotError(f"there is no *.model.xz in {folder}")
    model = destination / f"{folder.name}.equipot"
    convert_file(checkpoints[0], model, overwrite=True)
    return model


def check(model: Path, structures: list[Reference], radial: Radial, device: Device = "cpu") -> dict[str, Deviation]:
    """Deviations of a converted model over all its heads."""
    worst: dict[str, Deviation] = {}
    for head in dict.fromkeys(reference.head for reference in structures):
        potential = Potential(model, head=head, radial=radial, device=device)
        for name, found in compare(potential, [s for s in structures if s.head == head]).items():
            if name not in worst or not found.value <= worst[name].value:
                worst[name] = found
    return worst


def print_table(folder: Path, console: Console) -> bool:
    """Check every model in `folder`; returns whether all deviations are within bounds."""
    folders = sorted(path.parent for path in folder.glob("*/reference.npz"))
    if not folders:
        raise EquipotError(f"there are no reference models (NAME/reference.npz) in {folder}")
    table = Table(title="Largest deviations from mace-torch (float64)", caption="red: more than promised")
    table.add_column("model")
    table.add_column("radial")
    for name, (unit, *_) in QUANTITIES.items():
        table.add_column(f"{name}\n{unit}", justify="right")
    total: dict[Radial, dict[str, float]] = {"exact": {}, "splined": {}}
    good = True
    refused: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in folders:
            try:
                model = unpack(path, Path(scratch))
            except EquipotError as error:
                refused.append(f"{path.name}: {error}")
                continue
            structures = list(references(path / "reference.npz"))
            for radial in total:
                worst = check(model, structures, radial)
                cells = []
                for name, (_, exact, splined) in QUANTITIES.items():
                    value = worst[name].value if name in worst else float("nan")
                    fine = name not in worst or value <= (exact if radial == "exact" else splined)
                    good &= fine
                    total[radial][name] = max(total[radial].get(name, 0.0), value)
                    cells.append(f"{value:.1e}" if fine else f"[red]{value:.1e}[/red]")
                table.add_row(path.name, radial, *cells)
            model.unlink()
    table.add_section()
    for radial, values in total.items():
        table.add_row("all", radial, *(f"{values.get(name, float('nan')):.1e}" for name in QUANTITIES))
    console.print(table)
    for line in refused:
        console.print(f"refused: {line}", markup=False)
    return good
