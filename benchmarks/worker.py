"""One engine on one system in a process of its own, told over standard input when to run.

Started by run.py, which alternates between workers. It runs in the interpreter of the engine, so it imports nothing of
equipot unless that is the engine.

Answers are lines of JSON. First: what was loaded, results for comparison. Then for each line "go" the seconds of one
evaluation, on the clock and, where it can be told, of all cores; for "end" the peak memory.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

# Libraries print; what we answer goes to a copy of the real standard output.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(**content: object) -> None:
    print(json.dumps(content), file=answers, flush=True)


def peak_kilobytes() -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def make_calculator(engine: str, model: str, precision: str, threads: int):
    """An ASE calculator and the version of its program."""
    if engine == "equipot":
        import equipot

        equipot.set_threads(threads)
        return equipot.Calculator(model, dtype=precision), equipot.__version__
    if engine == "mace-torch":
        import torch
        from mace.calculators import MACECalculator

        torch.set_num_threads(threads)
        calculator = MACECalculator(model_paths=model, device="cpu", default_dtype=precision)
        return calculator, metadata.version("mace-torch")
    from symmetrix import Symmetrix

    if engine == "symmetrix":
        if threads > 1:
            raise RuntimeError("its calculator runs on one thread")
        # On CPUs its plain code is faster than its Kokkos code, but in double precision only.
        calculator = Symmetrix(model, dtype=precision, use_kokkos=precision != "float64")
    else:
        calculator = Symmetrix(model, dtype=precision)
    return calculator, metadata.version(engine)


class Evaluations:
    """Energy, forces and stress through ASE, atoms moving a little from one evaluation to the next, as in dynamics."""

    def __init__(self, engine: str, model: str, precision: str, threads: int, system: str) -> None:
        import numpy as np
        from systems import SYSTEMS

        self.atoms = SYSTEMS[system]()
        self.before = peak_kilobytes()
        self.atoms.calc, self.version = make_calculator(engine, model, precision, threads)
        self.rng = np.random.default_rng(3)
        self.energy = float(self.atoms.get_potential_energy())
        self.forces = self.atoms.get_forces().tolist()

    def go(self) -> tuple[float, float | None]:
        self.atoms.positions += self.rng.normal(0.0, 0.002, self.atoms.positions.shape)
        start, cpu = time.perf_counter(), time.process_time()
        self.atoms.get_potential_energy()
        self.atoms.get_forces()
        return time.perf_counter() - start, time.process_time() - cpu

    def peak(self) -> int:
        return peak_kilobytes()


class Steps:
    """Steps of dynamics in LAMMPS: its own loop time, which leaves out the start."""

    STEPS = 10

    def __init__(self, model: str, threads: int, system: str) -> None:
        from ase.data import chemical_symbols
        from ase.io.lammpsdata import write_lammps_data
        from systems import SYSTEMS

        from equipot import __version__

        self.version = __version__
        self.before = 0
        self.threads = threads
        self.folder = tempfile.TemporaryDirectory()
        atoms = SYSTEMS[system]()
        symbols = [chemical_symbols[z] for z in sorted(set(atoms.numbers))]
        write_lammps_data(Path(self.folder.name) / "data", atoms, specorder=symbols, masses=True)
        (Path(self.folder.name) / "in").write_text(
            "units metal\natom_modify map yes\nnewton on\nread_data data\n"
            f"pair_style equipot\npair_coeff * * {Path(model).resolve()} {' '.join(symbols)}\n"
            "velocity all create 300 1\nneighbor 0.5 bin\ntimestep 1e-5\nfix 1 all nve\nthermo_style custom step pe\n"
            f"run 0\nrun {self.STEPS}\n"
        )
        log = self.run()
        self.energy = float(re.findall(r"^\s*0\s+(-?\d\S*)\s*$", log, re.MULTILINE)[0])
        self.forces = None

    def run(self) -> str:
        command = [str(Path(sys.executable).parent / "lmp"), "-in", "in", "-log", "none"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        done = subprocess.run(command, cwd=self.folder.name, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout[-500:] + done.stderr[-500:])
        return done.stdout

    def go(self) -> tuple[float, float | None]:
        return float(re.findall(r"Loop time of (\S+) on", self.run())[-1]) / self.STEPS, None

    def peak(self) -> int:
        import resource

        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    engine, model, precision, threads, system = sys.argv[1:]
    try:
        if engine == "equipot in LAMMPS":
            case: Evaluations | Steps = Steps(model, int(threads), system)
        else:
            case = Evaluations(engine, model, precision, int(threads), system)
    except Exception as error:  # whatever an engine raises is the answer
        answer(error=f"{type(error).__name__}: {error}"[:500])
        return
    answer(version=case.version, energy=case.energy, forces=case.forces, before=case.before)
    for line in sys.stdin:
        if line.strip() == "end":
            answer(peak=case.peak())
            return
        seconds, cpu = case.go()
        answer(seconds=seconds, cpu=cpu)


if __name__ == "__main__":
    main()
