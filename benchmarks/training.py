"""Times one step of training, equipot beside mace-torch: the same architecture, data, batch, threads and float64.

    python benchmarks/training.py --mace-python PYTHON [--channels 128] [--l 1] [--threads 1]

A step is what an optimiser needs: energies, forces and virials of a batch, a loss of all three, its gradient by all
weights, and an Adam update. Both start from one set of weights, and their first losses have to agree.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from systems import quartz

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "out" / "bench"
WEIGHTS = (1.0, 100.0, 1.0)  # of energy per atom, forces, virial per atom


def structures(name: str) -> list[Atoms]:
    """Give the batch: molecules, or crystals with four times as many neighbours. Labels are arbitrary."""
    rng = np.random.default_rng(0)
    frames = [molecule("CH3CH2OH") for _ in range(10)] if name == "ethanol" else [quartz(2) for _ in range(2)]
    for atoms in frames:
        atoms.rattle(0.05, seed=int(rng.integers(1 << 30)))
        atoms.info["REF_energy"] = float(rng.normal())
        atoms.arrays["REF_forces"] = rng.normal(size=(len(atoms), 3))
        atoms.info["REF_virials"] = rng.normal(size=(3, 3)).ravel()
    return frames


def mace_step(folder: Path, channels: int, ell: int, threads: int) -> Callable[[], float]:
    """Make the model with mace-torch, save it for equipot, and return one step of its training."""
    import torch
    from e3nn import o3
    from mace import data, modules, tools
    from mace.tools import torch_geometric

    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    frames = read(folder / "batch.xyz", ":")
    numbers = sorted({int(z) for atoms in frames for z in atoms.numbers})
    hidden = f"{channels}x0e" + (f" + {channels}x1o" if ell else "")
    model = modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps(hidden),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=20.0,
        atomic_numbers=numbers,
        correlation=3,
        radial_type="bessel",
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    torch.save(model, folder / "start.model")
    table = tools.AtomicNumberTable(numbers)
    keys = data.KeySpecification(
        info_keys={"energy": "REF_energy", "virials": "REF_virials"}, arrays_keys={"forces": "REF_forces"}
    )
    items = [
        data.AtomicData.from_config(data.config_from_atoms(atoms, key_specification=keys), z_table=table, cutoff=5.0)
        for atoms in frames
    ]
    batch = next(iter(torch_geometric.dataloader.DataLoader(items, batch_size=len(items))))
    counts = torch.tensor([len(atoms) for atoms in frames], dtype=torch.float64)
    energy = torch.tensor([atoms.info["REF_energy"] for atoms in frames])
    forces = torch.tensor(np.concatenate([atoms.arrays["REF_forces"] for atoms in frames]))
    virials = torch.tensor(np.stack([atoms.info["REF_virials"].reshape(3, 3) for atoms in frames]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, amsgrad=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        out = model(batch.clone().to_dict(), training=True, compute_force=True, compute_virials=True)
        loss = (
            WEIGHTS[0] * (((out["energy"] - energy) / counts) ** 2).mean()
            + WEIGHTS[1] * ((out["forces"] - forces) ** 2).mean()
            + WEIGHTS[2] * (((out["virials"] - virials) / counts[:, None, None]) ** 2).mean()
        )
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def equipot_step(folder: Path, threads: int) -> Callable[[], float]:
    """One step on the model that mace_step saved."""
    import equipot
    from equipot import _equipot

    equipot.set_threads(threads)
    frames = read(folder / "batch.xyz", ":")
    trainer = _equipot.Trainer(str(folder / "start.equipot"))
    graphs = _equipot.GraphSet(
        [atoms.numbers.astype(np.int32) for atoms in frames],
        [atoms.positions for atoms in frames],
        [atoms.cell.array for atoms in frames],
        [atoms.pbc for atoms in frames],
        5.0,
    )
    order, counts = np.arange(len(frames)), np.array([len(atoms) for atoms in frames])
    energy = np.array([atoms.info["REF_energy"] for atoms in frames])
    forces = np.concatenate([atoms.arrays["REF_forces"] for atoms in frames])
    virials = np.stack([atoms.info["REF_virials"].reshape(3, 3) for atoms in frames])
    weights = trainer.get()
    first, second, largest, steps = np.zeros_like(weights), np.zeros_like(weights), np.zeros_like(weights), 0

    def step() -> float:
        nonlocal first, second, largest, steps, weights
        out = trainer.evaluate(graphs, order)
        de = (out["energy"] - energy) / counts
        df = out["forces"] - forces
        dw = (out["virial"] - virials) / counts[:, None, None]
        loss = WEIGHTS[0] * (de**2).mean() + WEIGHTS[1] * (df**2).mean() + WEIGHTS[2] * (dw**2).mean()
        gradient = trainer.gradient(
            graphs,
            order,
            WEIGHTS[0] * 2 * de / counts / de.size,
            WEIGHTS[1] * 2 * df / df.size,
            WEIGHTS[2] * 2 * dw / counts[:, None, None] / dw.size,
        )
        steps += 1
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        largest = np.maximum(largest, second)
        rate = 1e-4 * np.sqrt(1 - 0.999**steps) / (1 - 0.9**steps)
        weights = weights - rate * first / (np.sqrt(largest) + 1e-8)
        trainer.set(weights)
        return float(loss)

    return step


def work(engine: str, folder: Path, channels: int, ell: int, threads: int) -> None:
    """Answer each line of standard input with one step: its loss, wall and CPU seconds, and the peak memory."""
    step = mace_step(folder, channels, ell, threads) if engine == "mace-torch" else equipot_step(folder, threads)
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"loss": loss, "wall": wall, "cpu": cpu, "peak": peak}), flush=True)


def launch(python: str, engine: str, name: str, arguments: argparse.Namespace) -> subprocess.Popen:
    """Start a worker and wait until it is ready."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "OMP_WAIT_POLICY": "passive"}
    environment["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # e3nn's own constants are pickled
    command = [python, __file__, "--worker", engine, name, "--channels", str(arguments.channels)]
    command += ["--l", str(arguments.l), "--threads", str(arguments.threads)]
    with open(OUT / f"training-{engine}.log", "w") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    while (line := process.stdout.readline()) and line != "ready\n":  # libraries print notes as they load
        continue
    if not line:
        raise SystemExit(f"{engine} did not start: see {OUT / f'training-{engine}.log'}")
    return process


def ask(process: subprocess.Popen) -> dict:
    """One step of a worker."""
    process.stdin.write("step\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def main() -> None:
    """Alternate steps of both engines and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mace-python", help="an interpreter with mace-torch")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--l", type=int, default=1, help="largest l of the hidden features")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        engine, name = arguments.worker
        work(engine, OUT / f"training-{name}", arguments.channels, arguments.l, arguments.threads)
        return
    if not arguments.mace_python:
        parser.error("--mace-python is needed: mace-torch makes the model that both train")
    label = f"{arguments.channels}x0e" + (f"+{arguments.channels}x1o" if arguments.l else "")
    print(f"Training step, {label}, two layers, l_max 3, correlation 3, float64, {arguments.threads} thread(s)\n")
    print("| batch | atoms | engine | ms per step (CPU) | µs per atom | ratio | peak MB | first loss |")
    print("|---|---|---|---|---|---|---|---|")
    for name in ("ethanol", "quartz"):
        folder = OUT / f"training-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        frames = structures(name)
        atoms = sum(len(frame) for frame in frames)
        write(folder / "batch.xyz", frames)
        workers = {"mace-torch": launch(arguments.mace_python, "mace-torch", name, arguments)}
        from equipot.convert import convert_file

        convert_file(folder / "start.model", folder / "start.equipot", overwrite=True)
        workers["equipot"] = launch(sys.executable, "equipot", name, arguments)
        answers: dict[str, list[dict]] = {engine: [ask(worker)] for engine, worker in workers.items()}
        losses = [answer[0]["loss"] for answer in answers.values()]
        if abs(losses[0] - losses[1]) > 1e-8 * abs(losses[0]):
            sys.exit(f"{name}: the first losses differ, {losses}: what is timed is not the same")
        for _ in range(arguments.rounds):
            for engine, worker in workers.items():
                answers[engine].append(ask(worker))
        cpu = {engine: float(np.median([a["cpu"] for a in list_[1:]])) for engine, list_ in answers.items()}
        for engine, list_ in answers.items():
            last = list_[-1]
            print(
                f"| {name} | {atoms} | {engine} | {1e3 * cpu[engine]:.0f} | {1e6 * cpu[engine] / atoms:.0f} |"
                f" {cpu['mace-torch'] / cpu[engine]:.1f} | {last['peak'] / 1024:.0f} |"
                f" {list_[0]['loss']:.10g} |",
                flush=True,
            )
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()


if __name__ == "__main__":
    main()
