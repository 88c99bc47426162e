"""Time of a step of dynamics on many devices, predicted from a few constants; table and picture.

    python benchmarks/scaling_model.py [--machine NAME] [--time-per-atom µs] [--save PAGE.md] [--picture FILE.png]

With N atoms on P devices each has n = N / P of them in a cube of edge a = (n / ρ)^(1/3), and around it
g(s) = ρ ((a + 2 s)³ - a³) images of others' atoms within s. Message passing asks for features only as far as the
cutoff, whatever the number of layers, since every layer sends its own. A step takes

    T = t_atom (n + n_half) + launches t_launch                    arithmetic
      + [48 g(rc + skin) + 2 (layers - 1) w g(rc)] / bandwidth     positions, forces; features and back
      + 6 (2 + 2 (layers - 1)) latency                             six neighbours, each way

n_half is the number of atoms with which a device is half busy, w the bytes of one atom's features. Constants that were
not measured are marked so on the page.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Machine:
    """What the model knows of a device and its network."""

    name: str
    time_per_atom: float  # s
    half_busy: float  # atoms
    launches: float  # kernels per step
    launch: float  # s
    bandwidth: float  # bytes/s in and out of one device
    latency: float  # s per message
    memory: float  # bytes
    note: str


@dataclass(frozen=True)
class Matter:
    """What is run: number density, reach, and the model's features."""

    density: float = 0.1  # atoms/Å³: water
    cutoff: float = 5.2  # Å: 60 neighbours in water
    skin: float = 1.0  # Å
    layers: int = 2
    feature_bytes: float = 4 * 128 * 4  # 128x0e+128x1o in single precision
    atom_bytes: float = 9000.0  # features and their adjoints, neighbours, positions, what LAMMPS keeps


MACHINES = {
    "h200": Machine(
        name="H200, one 200 Gb/s port each, GPU-aware MPI",
        time_per_atom=3e-6,
        half_busy=3000,
        launches=12,
        launch=5e-6,
        bandwidth=25e9,
        latency=5e-6,
        memory=139 * 2**30,
        note="none of these constants was measured here: 3 µs per atom is what the device code is to reach, the "
        "others are usual values of such machines",
    ),
    "core": Machine(
        name="one core of a Xeon with AVX-512 per rank, within one node",
        time_per_atom=292e-6,
        half_busy=1,
        launches=0,
        launch=0,
        bandwidth=5e9,
        latency=1e-6,
        memory=4 * 2**30,
        note="time per atom measured with benchmarks/run.py (mixed, water, 85 neighbours); bandwidth and latency are "
        "usual values of MPI in shared memory",
    ),
}


def ghosts(atoms: Array, matter: Matter, reach: float) -> Array:
    """Images around a cube of so many atoms, within `reach` (Å)."""
    edge = np.cbrt(atoms / matter.density)
    return matter.density * ((edge + 2 * reach) ** 3 - edge**3)


def step(total: Array, devices: Array, machine: Machine, matter: Matter) -> tuple[Array, Array, Array]:
    """Seconds per step, the part of them that goes to communication, and ghosts per atom."""
    atoms = total / devices
    several = devices > 1
    compute = machine.time_per_atom * (atoms + machine.half_busy) + machine.launches * machine.launch
    exchanges = 2 * (matter.layers - 1)
    near = ghosts(atoms, matter, matter.cutoff)
    far = ghosts(atoms, matter, matter.cutoff + matter.skin)
    moved = 48 * far + exchanges * matter.feature_bytes * near
    talk = several * (moved / machine.bandwidth + 6 * (2 + exchanges) * machine.latency)
    return compute + talk, talk / (compute + talk), far / atoms


def page(machine: Machine, matter: Matter, sizes: list[float], devices: list[int]) -> str:
    """The table of one machine."""
    lines = [
        f"## {machine.name}",
        "",
        f"{machine.time_per_atom * 1e6:g} µs per atom, half busy with {machine.half_busy:g} atoms, "
        f"{machine.launches:g} launches of {machine.launch * 1e6:g} µs, {machine.bandwidth / 1e9:g} GB/s, "
        f"{machine.latency * 1e6:g} µs per message; {matter.layers} layers, {matter.feature_bytes:g} B of features per "
        f"atom, cutoff {matter.cutoff:g} Å at {matter.density:g} atoms/Å³. Note: {machine.note}.",
        "",
        "| atoms | devices | atoms each | ghosts per atom | ms per step | communication | efficiency | ns/day (1 fs) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        least = int(np.ceil(size * matter.atom_bytes / machine.memory))
        for count in devices:
            if count < least or size / count < 100:
                continue
            seconds, share, ratio = step(np.float64(size), np.float64(count), machine, matter)
            ideal = machine.time_per_atom * size / count
            lines.append(
                f"| {size:.0e} | {count} | {size / count:,.0f} | {ratio:.2f} | {seconds * 1e3:,.2f} | "
                f"{100 * share:.0f} % | {100 * ideal / seconds:.0f} % | {86400 / seconds * 1e-6:.3g} |"
            )
    return "\n".join(lines) + "\n"


def picture(path: Path, machine: Machine, matter: Matter, sizes: list[float], devices: list[int]) -> None:
    """Time per step against the number of devices."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.0), layout="constrained")
    axes = figure.subplots()
    counts = np.geomspace(devices[0], devices[-1], 100)
    for size in sizes:
        fits = counts[(size * matter.atom_bytes / counts <= machine.memory) & (size / counts >= 100)]
        if fits.size:
            axes.loglog(fits, 1e3 * step(np.full_like(fits, size), fits, machine, matter)[0], label=f"{size:.0e} atoms")
    axes.set(xlabel="devices", ylabel="ms per step", title=machine.name)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machine", choices=list(MACHINES), default="h200")
    parser.add_argument("--time-per-atom", type=float, help="µs, measured")
    parser.add_argument("--save", type=Path, help="also write the page to this file")
    parser.add_argument("--picture", type=Path, help="also draw time against devices")
    arguments = parser.parse_args()
    machine, matter = MACHINES[arguments.machine], Matter()
    if arguments.time_per_atom is not None:
        if arguments.time_per_atom <= 0:
            parser.error("--time-per-atom is a positive number of µs")
        machine = replace(machine, time_per_atom=arguments.time_per_atom * 1e-6)
    sizes = [1e6, 1e7, 1e8, 1e9] if arguments.machine == "h200" else [1e4, 1e5, 1e6]
    devices = [1, 2, 4, 8, 16, 64, 256, 1024] if arguments.machine == "h200" else [1, 2, 4, 16, 64, 256]
    text = page(machine, matter, sizes, devices)
    print(text)
    if arguments.save:
        arguments.save.write_text("# Predicted scaling\n\n" + text)
    if arguments.picture:
        picture(arguments.picture, machine, matter, sizes, devices)


if __name__ == "__main__":
    main()
