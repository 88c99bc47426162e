"""Check the GPU code against the CPU's, then time it on water and silica from a thousand to ten million atoms.

    python benchmarks/gpu.py                        on the GPU that this build of equipot is for
    python benchmarks/gpu.py --device host --tiny   the same code on the CPU, to see that this script runs

Prints tables and writes them to a page (out/benchmarks/gpu.md). A size that does not fit ends its column; a deviation
beyond its bound ends the run with an error.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
from ase import Atoms
from run import hardware
from systems import quartz, water

import equipot
from equipot.golden import QUANTITIES, check, references, unpack

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "python"))
from conftest import ARCHITECTURES  # noqa: E402
from models import random_model  # noqa: E402
from structures import random_atoms  # noqa: E402

ALL = ("energy", "energies", "forces", "stress", "virials", "centroid_virials", "features")
# Of the largest number of each kind, as in tests/python/test_device.py.
RELATIVE = {"float64": 1e-10, "mixed": 1e-5}

# What is timed, with random weights: times do not depend on them. Cutoffs and orders as in fitted models of this size.
SIZES: dict[str, dict] = {
    "128x0e": {"channels": 128, "hidden_l": (0,)},
    "128x0e+128x1o": {"channels": 128, "hidden_l": (1,)},
}
SYSTEMS: dict[str, tuple[tuple[int, ...], Callable[[int], Atoms], int, float]] = {
    # species, atoms of a size, atoms of the smallest cell, exponent of the size
    "water": ((1, 8), water, 3, 3.0),
    "SiO2": ((8, 14), quartz, 9, 3.0),
}


class Page:
    """What is printed, kept for the file."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)

    def row(self, *cells: object) -> None:
        self("| " + " | ".join(str(cell) for cell in cells) + " |")

    def header(self, *names: str) -> None:
        self()
        self.row(*names)
        self.row(*["---"] * len(names))


def gpu_megabytes() -> float:
    """What this process holds of the memory of GPUs, where the driver's tool is there to say so."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return float("nan")
    used = [line.split(",") for line in text.splitlines()]
    return sum(float(memory) for pid, memory in used if int(pid) == os.getpid())


def deviations(device: str) -> Iterator[tuple[str, str, float, float]]:
    """Model, quantity, largest deviation and its bound."""
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in ARCHITECTURES.items():
            path = Path(folder) / f"{name}.equipot"
            random_model(path, **settings)
            head = settings["heads"][0] if "heads" in settings else None
            for dtype, bound in RELATIVE.items():
                cpu = equipot.load(path, head=head, dtype=dtype)
                gpu = equipot.load(path, head=head, dtype=dtype, device=device)
                worst = 0.0
                for seed in range(3):
                    atoms = random_atoms(seed, cpu.species, 9)
                    expected, found = cpu.compute(atoms, ALL), gpu.compute(atoms, ALL)
                    for quantity in ALL:
                        size = float(np.abs(expected[quantity]).max(initial=1e-300))
                        off = float(np.abs(found[quantity] - expected[quantity]).max(initial=0.0)) / size
                        worst = max(worst, off if off == off else float("inf"))
                yield f"random, {name}, {dtype}", "all, relative to the CPU", worst, bound
        shared = Path(os.environ.get("EQUIPOT_SHARED", ROOT.parent / "shared")) / "golden" / "mace"
        for reference in sorted(shared.glob("*/reference.npz")):
            try:
                model = unpack(reference.parent, Path(folder))
            except equipot.EquipotError:
                continue  # an architecture that equipot does not know, on any device
            apart = [structure for structure in references(reference) if structure.closest >= 0.5]
            for quantity, worst in check(model, apart, "splined", device).items():
                yield f"golden, {reference.parent.name}, float64", quantity, worst.value, QUANTITIES[quantity][2]


def edges_per_atom(atoms: Atoms, cutoff: float) -> float:
    """Neighbours within the cutoff on average; from the density for what is too large to look at."""
    from ase.neighborlist import neighbor_list

    if len(atoms) <= 3000:
        return len(neighbor_list("i", atoms, cutoff)) / len(atoms)
    return len(atoms) / atoms.get_volume() * 4 / 3 * np.pi * cutoff**3


def time_model(arguments: argparse.Namespace, page: Page, name: str, folder: Path) -> None:
    for system, (species, build, cell_atoms, power) in SYSTEMS.items():
        path = folder / f"{system}.equipot"
        settings = {"channels": 8, "hidden_l": SIZES[name]["hidden_l"]} if arguments.tiny else SIZES[name]
        random_model(path, species=species, cutoff=arguments.cutoff, l_max=3, mixing=("species", "shared"), **settings)
        for dtype in arguments.dtype or ["float64", "mixed"]:
            before = gpu_megabytes()  # memory that has grown for one size is there for the next
            potential = equipot.load(path, dtype=dtype, device=arguments.device)
            for wanted in arguments.atoms:
                atoms = build(max(1, round((wanted / cell_atoms) ** (1 / power))))
                try:
                    potential.profile(atoms)  # tables, memory, neighbours
                    samples = []
                    # The largest spend minutes on neighbours, which is no part of what is timed, each time.
                    for _ in range(arguments.steps if len(atoms) < 200_000 else 1):
                        stages = {s["stage"]: s["seconds"] for s in potential.profile(atoms)}
                        samples.append((stages["device"], sum(stages.values())))
                except (equipot.EquipotError, MemoryError) as error:
                    page.row(name, system, dtype, len(atoms), *["-"] * 5, str(error)[:80])
                    break
                device, everything = (statistics.median(s) * 1e6 / len(atoms) for s in zip(*samples, strict=True))
                edges = edges_per_atom(atoms, potential.cutoff)
                page.row(
                    name,
                    system,
                    dtype,
                    len(atoms),
                    f"{edges:.0f}",
                    f"{device:.4g}",
                    f"{everything:.4g}",
                    f"{potential.device_bytes_per_atom(edges):.0f}",
                    f"{(gpu_megabytes() - before) * 1e6 / len(atoms):.0f}".replace("nan", "-"),
                    "",
                )
            del potential


def gpu_hardware() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return f"{hardware()}, no GPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="gpu", help="gpu (default), cuda, hip; host: the CPU, slowly")
    parser.add_argument("--dtype", action="append", choices=["float64", "mixed", "float32"],
                        help="default: float64 and mixed (float32 is the same code as mixed)")  # fmt: skip
    parser.add_argument("--atoms", type=int, nargs="+", help="default: 1000, 10 000, … 10 000 000")
    parser.add_argument("--steps", type=int, default=5, help="timed evaluations for each size")
    parser.add_argument("--cutoff", type=float, default=5.0, help="Å")
    parser.add_argument("--tiny", action="store_true", help="8 channels and up to 100 atoms: does this script run?")
    parser.add_argument("--skip-check", action="store_true", help="only the times")
    parser.add_argument("--page", type=Path, default=ROOT / "out" / "benchmarks" / "gpu.md")
    arguments = parser.parse_args()
    arguments.atoms = arguments.atoms or ([30, 100] if arguments.tiny else [10**n for n in range(3, 8)])

    page = Page()
    page(f"# GPU code of equipot {equipot.__version__}, {date.today()}")
    page()
    page(f'{gpu_hardware()}; device "{arguments.device}".')
    bad = 0
    if not arguments.skip_check:
        page.header("model", "quantity", "largest deviation", "bound", "")
        for model, quantity, value, bound in deviations(arguments.device):
            bad += not value <= bound
            page.row(model, quantity, f"{value:.1e}", f"{bound:.0e}", "" if value <= bound else "TOO LARGE")
    page()
    page("Energies, forces and virial. `device`: the step with atoms on the device; `all`: with copies from and to")
    page("the host. Bytes of the device's memory for each atom, as estimated before the run and as found (with the")
    page("tables of small systems in it).")
    columns = "model,system,precision,atoms,edges/atom,device µs/atom,all µs/atom,estimated B/atom,found B/atom,"
    page.header(*columns.split(","))
    with tempfile.TemporaryDirectory() as folder:
        for name in SIZES:
            time_model(arguments, page, name, Path(folder))
    arguments.page.parent.mkdir(parents=True, exist_ok=True)
    arguments.page.write_text("\n".join(page.lines) + "\n")
    print(f"\nwritten to {arguments.page}")
    if bad:
        sys.exit(f"{bad} deviations are larger than their bounds")


if __name__ == "__main__":
    main()
