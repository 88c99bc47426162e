"""Drift of the total energy in NVE dynamics in LAMMPS, from the same start in each precision: a table and a picture.

python nve_drift.py [--potential FILE] [--structure FILE] [--steps 100000] [--timestep 1.0] [--seeds 1 2 3]

A thermostat first brings the start to its temperature, in double precision; positions and velocities then go to all
runs with all their bits. The runs of a seed take one thread each and run side by side. Trajectories part after a few
ps, as they do in any arithmetic, so drifts are compared within their statistical errors, not step by step.
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

import ase.io
import numpy as np
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data
from numpy.typing import NDArray
from systems import silicon

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = 10
EVERY = 20  # steps between samples of the energy
HEADINGS = ("precision", "steps", "time (ps)", "T (K)", "drift (meV/atom/ns)", "from double", "fluctuation (meV/atom)")

MODEL = """
neighbor 0.5 bin
neigh_modify every 1 delay 0 check yes
pair_style equipot precision {precision}
pair_coeff * * {potential} {elements}
timestep {timestep}
thermo_style custom step temp etotal
thermo_modify format float %.17g norm no flush yes
"""
START = """
units metal
newton on
atom_style atomic
read_data start.data
velocity all create {temperature} {seed} mom yes rot no
fix 1 all langevin {temperature} {temperature} 0.1 {seed} zero yes
fix 2 all nve
thermo 500
run {steps}
write_restart start.restart
"""
RUN = """
fix 1 all nve
reset_timestep 0
thermo {every}
{limit}
run {steps}
"""


@dataclass
class Drift:
    """The line through the total energy per atom against time."""

    slope: float  # meV/atom/ns
    error: float  # one standard deviation of the slope
    fluctuation: float  # meV/atom, root mean square about the line


def fit(time: NDArray[np.float64], energy: NDArray[np.float64]) -> Drift:
    """Linear fit with the error that averages over blocks give.

    Parameters
    ----------
    time, energy
        ns and meV/atom, at equal intervals.

    Notes
    -----
    Samples that follow one another are correlated, so their own scatter about the line would promise too small an
    error. Means of `BLOCKS` blocks, each much longer than a vibration, are less so: the error of the slope is that of
    an ordinary least-squares fit through them, with BLOCKS - 2 degrees of freedom. The total energy also wanders over
    many ps. Runs of water and silicon cut into parts had slopes that scatter up to 2.5 times as much as these errors
    say, in double precision as in mixed. They are lower bounds; the scatter between several seeds is the better error.
    """
    slope, offset = np.polyfit(time, energy, 1)
    residual = energy - (slope * time + offset)
    used = len(time) // BLOCKS * BLOCKS
    t, r = (x[:used].reshape(BLOCKS, -1).mean(axis=1) for x in (time, residual))
    r = r - np.polyval(np.polyfit(t, r, 1), t)
    error = np.sqrt(r @ r / (BLOCKS - 2) / np.sum((t - t.mean()) ** 2))
    return Drift(float(slope), float(error), float(np.sqrt(np.mean(residual**2))))


def combine(drifts: list[Drift]) -> Drift:
    """Mean over seeds; with more than one, the error is that of the mean from their scatter."""
    slopes = np.array([drift.slope for drift in drifts])
    error = slopes.std(ddof=1) / np.sqrt(len(slopes)) if len(slopes) > 1 else drifts[0].error
    return Drift(float(slopes.mean()), float(error), float(np.mean([drift.fluctuation for drift in drifts])))


def lammps(script: str, folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Start LAMMPS on one thread, its output in `folder`."""
    (folder / f"in.{name}").write_text(script)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command = [str(Path(sys.executable).parent / "lmp"), "-in", f"in.{name}", "-log", "none", "-nocite"]
    with open(folder / f"{name}.out", "wb") as out:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes], folder: Path, name: str) -> str:
    """Wait for LAMMPS and return what it printed."""
    code = process.wait()
    text = (folder / f"{name}.out").read_text()
    if code != 0:
        sys.exit(f"{text[-2000:]}\nLAMMPS ({name}) stopped with exit status {code}")
    return text


def rows(text: str) -> NDArray[np.float64]:
    """Step, temperature and total energy from the output of a run."""
    lines = (line.split() for line in text.splitlines())
    return np.array([w for w in lines if len(w) == 3 and re.fullmatch(r"\d+", w[0])], dtype=float)


def draw(series: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]], title: str, file: Path) -> None:
    """Total energy against time, with means of the blocks that the errors come from."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for k, (precision, (time, energy)) in enumerate(series.items()):
        used = len(time) // BLOCKS * BLOCKS
        t, e = (x[:used].reshape(BLOCKS, -1).mean(axis=1) for x in (time * 1e3, energy - energy[0]))
        axes.plot(time * 1e3, energy - energy[0], color=f"C{k}", alpha=0.25, linewidth=0.5)
        axes.plot(t, e, "o-", color=f"C{k}", label=precision)
    axes.set(xlabel="time (ps)", ylabel="total energy − start (meV/atom)", title=title)
    axes.legend()
    figure.savefig(file, dpi=150)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--potential", type=Path, default=ROOT / "potentials" / "Si.equipot")
    parser.add_argument(
        "--structure", type=Path, help="anything ASE reads, its last frame; without it 64 atoms of silicon"
    )
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--timestep", type=float, default=1.0, help="fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--equilibration", type=int, default=2000, help="steps with the thermostat")
    parser.add_argument("--precisions", nargs="+", default=["double", "mixed"], choices=["double", "mixed", "float"])
    parser.add_argument("--minutes", type=float, help="stop a run after so many, however many steps it has done")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[4711],
        help="of velocities and thermostat; errors from the scatter of several",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "out" / "nve_drift", help="folder of table, picture and output"
    )
    return parser.parse_args()


def main() -> None:
    arguments = options()
    potential, folder = arguments.potential.resolve(), arguments.out.resolve()
    if not potential.is_file():
        sys.exit(f"no such potential: {arguments.potential}")
    atoms = ase.io.read(arguments.structure) if arguments.structure else silicon(2)
    assert isinstance(atoms, Atoms)
    folder.mkdir(parents=True, exist_ok=True)
    elements = sorted(set(atoms.get_chemical_symbols()))
    write_lammps_data(folder / "start.data", atoms, specorder=elements, masses=True, atom_style="atomic", units="metal")

    def model(precision: str) -> str:
        return MODEL.format(
            precision=precision,
            potential=potential,
            elements=" ".join(elements),
            timestep=arguments.timestep * 1e-3,
        )

    head, tail = START.split("velocity", 1)
    limit = f"timer timeout 0:0:{arguments.minutes * 60:.0f}" if arguments.minutes else ""
    run = RUN.format(every=EVERY, limit=limit, steps=arguments.steps)
    drifts: dict[str, list[Drift]] = {p: [] for p in arguments.precisions}
    samples: dict[str, list[NDArray[np.float64]]] = {p: [] for p in arguments.precisions}
    series = {}
    for seed in arguments.seeds:
        start = (head + model("double") + "velocity" + tail).format(
            temperature=arguments.temperature, seed=seed, steps=arguments.equilibration
        )
        finish(lammps(start, folder, "start"), folder, "start")
        scripts = {p: "read_restart start.restart\n" + model(p) + run for p in arguments.precisions}
        processes = {p: lammps(script, folder, f"{p}.{seed}") for p, script in scripts.items()}
        for precision, process in processes.items():
            values = rows(finish(process, folder, f"{precision}.{seed}"))
            if len(values) < 2 * BLOCKS:
                sys.exit(f"{len(values)} samples every {EVERY} steps are too few: {2 * BLOCKS} are needed")
            time, energy = values[:, 0] * arguments.timestep * 1e-6, values[:, 2] / len(atoms) * 1e3
            name = precision if len(arguments.seeds) == 1 else f"{precision}, seed {seed}"
            series[name] = time, energy
            drifts[precision].append(fit(time, energy))
            samples[precision].append(values)

    table = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    total = {p: combine(found) for p, found in drifts.items()}
    for precision, drift in total.items():
        apart = ""
        if precision != "double" and "double" in total:
            reference = total["double"]
            apart = f"{drift.slope - reference.slope:+.3g} ± {np.hypot(drift.error, reference.error):.2g}"
        steps = sum(values[-1, 0] for values in samples[precision])
        cells = [
            precision,
            f"{steps:.0f}",
            f"{steps * arguments.timestep * 1e-3:.1f}",
            f"{np.mean([values[:, 1].mean() for values in samples[precision]]):.0f}",
            f"{drift.slope:+.3g} ± {drift.error:.2g}",
            apart,
            f"{drift.fluctuation:.3g}",
        ]
        table.append("| " + " | ".join(cells) + " |")
    source = (
        f"{len(arguments.seeds)} seeds" if len(arguments.seeds) > 1 else f"{BLOCKS} blocks of one run, a lower bound"
    )
    title = f"{potential.name}, {len(atoms)} atoms, {arguments.timestep:g} fs, NVE"
    text = f"{title}; errors are one standard deviation, from {source}\n\n" + "\n".join(table)
    print(text)
    (folder / "table.md").write_text(text + "\n")
    draw(series, title, folder / "drift.png")
    print(f"\npicture: {os.path.relpath(folder / 'drift.png')}")


if __name__ == "__main__":
    main()
