"""Melts and quenches silicon in LAMMPS: prints the table and the speed, draws energy and temperature against time.

python run.py [--atoms 216] [--minutes 1.5] [--steps N] [--ranks 1] [--potential FILE] [--out FOLDER]
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COMMANDS = Path(sys.executable).parent  # lmp and mpirun of this environment
LOOP = re.compile(r"Loop time of (\S+) on (\d+) procs for (\d+) steps with (\d+) atoms")
COLUMNS = ("step", "time", "temperature", "potential", "kinetic", "total", "pressure")


@dataclass
class Run:
    """What one call of LAMMPS did."""

    table: list[list[float]]  # one row per line of the thermo table, COLUMNS
    seconds: float
    steps: int
    atoms: int

    @property
    def speed(self) -> float:
        """µs per atom and step."""
        return self.seconds * 1e6 / (self.steps * self.atoms)


def run_lammps(arguments: argparse.Namespace, steps: int, every: int, quiet: bool = False) -> Run:
    """Runs in.melt and reads its output while it appears."""
    threads = max(1, (os.cpu_count() or 1) // arguments.ranks)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_PROC_BIND": "false",
        "OMP_WAIT_POLICY": "passive",
    }
    command = [str(COMMANDS / "mpirun"), "-np", str(arguments.ranks)] if arguments.ranks > 1 else []
    command += [str(COMMANDS / "lmp"), "-in", str(HERE / "in.melt"), "-log", "none"]
    cells = max(1, round((arguments.atoms / 8) ** (1 / 3)))
    for name, value in {"model": arguments.potential, "cells": cells, "steps": steps, "every": every}.items():
        command += ["-var", name, str(value)]

    run = Run([], 0.0, 0, 0)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if not quiet:
            print(line, end="", flush=True)
        fields = line.split()
        if len(fields) == len(COLUMNS) and re.fullmatch(r"\d+", fields[0]):
            run.table.append([float(field) for field in fields])
        if loop := LOOP.match(line):
            run.seconds += float(loop[1])
            run.steps += int(loop[3])
            run.atoms = int(loop[4])
    if process.wait() != 0 or not run.steps:
        sys.exit(("" if not quiet else "".join(lines)) + f"LAMMPS stopped with exit status {process.returncode}")
    return run


def draw(run: Run, file: Path) -> None:
    """Energy and temperature against time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    time = [row[1] for row in run.table]
    figure, (above, below) = plt.subplots(2, sharex=True, figsize=(7, 5.5), layout="constrained")
    above.plot(time, [row[COLUMNS.index("potential")] / run.atoms for row in run.table], color="tab:blue")
    above.set_ylabel("potential energy (eV/atom)")
    above.set_title(f"{run.atoms} atoms of silicon, melted and quenched ({run.speed:.0f} µs/atom/step)")
    below.plot(time, [row[COLUMNS.index("temperature")] for row in run.table], color="tab:red")
    below.set_ylabel("temperature (K)")
    below.set_xlabel("time (ps)")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--potential", type=Path, default=ROOT / "potentials" / "Si-linear.equipot")
    parser.add_argument("--atoms", type=int, default=216, help="about so many (8 n³)")
    parser.add_argument("--minutes", type=float, default=1.5, help="choose the number of steps to fit this time")
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument(
        "--ranks", type=int, default=1, help="MPI ranks; the cores are shared out among them as threads"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "out")
    arguments = parser.parse_args()
    if not arguments.potential.is_file():
        sys.exit(f"no such potential: {arguments.potential}")

    steps = arguments.steps
    if not steps:
        trial = run_lammps(arguments, steps=20, every=10, quiet=True)
        steps = int(arguments.minutes * 60 / trial.seconds * trial.steps)
        steps = min(max(steps, 200), 20000) // 100 * 100
    run = run_lammps(arguments, steps, every=max(1, steps // 100))

    picture = arguments.out / "melt_silicon.png"
    draw(run, picture)
    step = 0.002  # ps, as in in.melt
    print()
    print(f"{run.atoms} atoms, {run.steps} steps, {run.steps * step:g} ps in {run.seconds:.1f} s")
    print(f"speed: {run.speed:.1f} µs/atom/step, {run.steps * step * 1e-3 / run.seconds * 86400:.3f} ns/day")
    print(f"picture: {os.path.relpath(picture)}")


if __name__ == "__main__":
    main()
