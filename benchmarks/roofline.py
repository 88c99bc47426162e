"""Where a step's time goes: multiply-adds and bytes per atom and stage, against the machine's measured peaks.

    python benchmarks/roofline.py [--model FILE] [--system NAME] [--precision mixed] [--save PAGE.md]

One thread, so that stages add up. The multiply-adds are those the algorithm asks for, counted where the stages are
called; bytes are what has to come from beyond the first-level cache at least once: tables, weights, features.
A stage's roof is the lower of the arithmetic peak and (multiply-adds per byte) x (bytes per second of memory).
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import argparse
import statistics
import time
from datetime import date
from pathlib import Path

import numpy as np
from run import hardware, revision
from systems import SYSTEMS

import equipot

ROOT = Path(__file__).resolve().parent.parent


def memory_bandwidth() -> float:
    """Bytes per second of one core copying arrays larger than any cache, reads and writes counted."""
    source = np.ones(32_000_000)
    target = np.empty_like(source)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        best = max(best, 2 * source.nbytes / (time.perf_counter() - start))
    return best


def measure(potential: equipot.Potential, atoms, repeats: int) -> tuple[list[dict], float]:
    """Median seconds per stage, and of a whole call without the profile, neighbours known."""
    rounds = [potential.profile(atoms) for _ in range(repeats)]
    stages = [dict(stage) for stage in rounds[0]]
    for index, stage in enumerate(stages):
        stage["seconds"] = statistics.median(one[index]["seconds"] for one in rounds)
    times = []
    atoms.calc = equipot.Calculator(potential)
    atoms.get_forces()
    rng = np.random.default_rng(1)
    for _ in range(repeats):
        atoms.positions += rng.normal(0, 0.001, atoms.positions.shape)
        start = time.perf_counter()
        atoms.get_forces()
        times.append(time.perf_counter() - start)
    return stages, statistics.median(times)


def page(potential: equipot.Potential, name: str, system: str, repeats: int) -> str:
    atoms = SYSTEMS[system]()
    n = len(atoms)
    potential.compute(atoms, ("forces",))
    stages, whole = measure(potential, atoms, repeats)
    peak, bandwidth = potential.measure_peak(), memory_bandwidth()
    work = sum(stage["multiply_adds"] for stage in stages)
    lines = [
        f"## {name}, {system}",
        "",
        f"{date.today()}, {hardware()}, {potential.execution}, equipot {revision()}.",
        f"Measured peaks of one core: {peak / 1e9:.1f} thousand million multiply-adds per second, "
        f"{bandwidth / 1e9:.1f} GB/s to memory.",
        "",
        f"**Whole step: {whole / n * 1e6:.1f} µs/atom, {work / n / 1e6:.2f} million multiply-adds per atom, "
        f"{100 * work / whole / peak:.0f} % of peak.**",
        "",
        "| stage | µs/atom | 10⁶ multiply-adds/atom | kB/atom | per byte | 10⁹ multiply-adds/s | of peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage in stages:
        rate = stage["multiply_adds"] / stage["seconds"] if stage["seconds"] else 0.0
        intensity = f"{stage['multiply_adds'] / stage['bytes']:.1f}" if stage["bytes"] else "-"
        counted = stage["multiply_adds"] > 0
        lines.append(
            f"| {stage['stage']} | {stage['seconds'] / n * 1e6:.1f} | "
            + (f"{stage['multiply_adds'] / n / 1e6:.3f}" if counted else "-")
            + f" | {stage['bytes'] / n / 1e3:.0f} | {intensity} | "
            + (f"{rate / 1e9:.1f} | {100 * rate / peak:.0f} % |" if counted else "- | - |")
        )
    rest = whole - sum(stage["seconds"] for stage in stages)
    label = "rest (neighbours, sums, Python; less what reading the clock adds)"
    lines += [f"| {label} | {rest / n * 1e6:.1f} | - | - | - | - | - |", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", type=Path, help="default: potentials/Si.equipot; may be repeated")
    parser.add_argument(
        "--system", action="append", choices=list(SYSTEMS), help="default: the first that the model knows"
    )
    parser.add_argument("--precision", action="append", choices=["float64", "float32", "mixed"], help="default: mixed")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--save", type=Path, help="also write the page to this file")
    arguments = parser.parse_args()
    equipot.set_threads(1)
    pages = []
    for model in arguments.model or [ROOT / "potentials" / "Si.equipot"]:
        for precision in arguments.precision or ["mixed"]:
            potential = equipot.load(model, dtype=precision)
            known = set(potential.info["species"])
            fitting = [name for name, build in SYSTEMS.items() if set(build().numbers.tolist()) <= known]
            for system in arguments.system or fitting[:1]:
                pages.append(page(potential, f"{model.stem}, {precision}", system, arguments.repeats))
                print(pages[-1], flush=True)
    if arguments.save:
        arguments.save.write_text("# Roofline\n\n" + "\n".join(pages))


if __name__ == "__main__":
    main()
