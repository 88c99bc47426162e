"""How dynamics in LAMMPS scale over threads, MPI ranks and both, and what LAMMPS itself takes of a step.

    python benchmarks/scaling.py [--model FILE] [--system NAME] [--cores N] [--steps N] [--save PAGE.md]

Runs every pair (ranks, threads) whose product is a power of two up to the cores of this machine (or N), each three
times in turns with the others, and prints a table from the fastest of each. Efficiency is against one rank of one
thread. "pair" is the potential with its own exchange of features between ranks; "neighbours", "communication" and
"rest" are LAMMPS's, from its own timing table. Lists are rebuilt every ten steps, as in a liquid.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from ase.data import chemical_symbols
from ase.io.lammpsdata import write_lammps_data
from run import hardware, revision
from systems import SYSTEMS

import equipot

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = {"Pair": "pair", "Neigh": "neighbours", "Comm": "communication"}


def prepare(folder: Path, model: Path, system: str, steps: int) -> int:
    """Writes the input; returns the number of atoms."""
    atoms = SYSTEMS[system]()
    symbols = [chemical_symbols[z] for z in sorted(set(atoms.numbers.tolist()))]
    write_lammps_data(folder / "data", atoms, specorder=symbols, masses=True)
    (folder / "in").write_text(
        "units metal\natom_modify map yes\nnewton on\nread_data data\n"
        f"pair_style equipot\npair_coeff * * {model.resolve()} {' '.join(symbols)}\n"
        "velocity all create 300 1\nneighbor 0.5 bin\nneigh_modify every 10 delay 0 check no\ntimestep 1e-5\n"
        f"fix 1 all nve\nrun 5\nrun {steps}\n"
    )
    return len(atoms)


def run(folder: Path, ranks: int, threads: int, steps: int) -> dict[str, float]:
    """Seconds per step, all in all and by section."""
    beside = Path(sys.executable).parent
    command = [str(beside / "lmp"), "-in", "in", "-log", "none"]
    if ranks > 1:
        command = [str(beside / "mpirun"), "-n", str(ranks), *command]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_PROC_BIND": "false",
        "OMP_WAIT_POLICY": "passive" if ranks * threads >= (os.cpu_count() or 1) else "active",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout[-1000:] + done.stderr[-1000:])
    text = done.stdout[done.stdout.rindex("Loop time of") :]
    times = {"whole": float(re.findall(r"Loop time of (\S+) on", text)[0]) / steps}
    for name, key in SECTIONS.items():
        # LAMMPS prints the average over ranks second, or alone with one rank's columns empty.
        row = re.search(rf"^{name}\s*\|([^|]*)\|([^|]*)\|", text, re.MULTILINE)
        times[key] = float(row.group(2)) / steps if row else 0.0
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "potentials" / "Si.equipot")
    parser.add_argument("--system", choices=list(SYSTEMS), help="default: the first that the model knows")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--save", type=Path, help="also write the page to this file")
    arguments = parser.parse_args()
    known = set(equipot.load(arguments.model).info["species"])
    fitting = [name for name, build in SYSTEMS.items() if set(build().numbers.tolist()) <= known]
    system = arguments.system or fitting[0]
    totals = [2**k for k in range(arguments.cores.bit_length()) if 2**k <= arguments.cores]
    if totals[-1] != arguments.cores:
        totals.append(arguments.cores)
    cases = [(r, total // r) for total in totals for r in range(1, total + 1) if total % r == 0]
    best: dict[tuple[int, int], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n = prepare(folder, arguments.model, system, arguments.steps)
        for _ in range(3):
            for case in cases:
                times = run(folder, *case, arguments.steps)
                if case not in best or times["whole"] < best[case]["whole"]:
                    best[case] = times
    lines = [
        f"## {arguments.model.stem}, {system}",
        "",
        f"{date.today()}, {hardware()}, equipot {revision()}, double precision, {arguments.steps} steps.",
        "",
        "| ranks | threads | µs/atom/step | faster | efficiency | pair | neighbours | communication | rest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    one = best[(1, 1)]["whole"]
    for (ranks, threads), times in best.items():
        whole = times["whole"]
        shares = [times[key] / whole for key in SECTIONS.values()]
        cells = " | ".join(f"{100 * share:.1f} %" for share in [*shares, 1 - sum(shares)])
        lines.append(
            f"| {ranks} | {threads} | {whole / n * 1e6:.1f} | {one / whole:.2f} | "
            f"{100 * one / whole / (ranks * threads):.0f} % | {cells} |"
        )
    page = "\n".join(lines) + "\n"
    print(page)
    if arguments.save:
        arguments.save.write_text("# Scaling\n\n" + page)


if __name__ == "__main__":
    main()
