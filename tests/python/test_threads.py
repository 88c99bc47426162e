"""Several Python threads, worker processes, and forks."""
# SPDX-License-Identifier: MIT

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from structures import random_atoms

import equipot
from equipot import _equipot
from equipot.fit.settings import use_threads


def energy_and_forces(job):
    potential, atoms = job
    results = potential.compute(atoms, ("energy", "forces"))
    return results["energy"], results["forces"]


def test_threads_share_a_potential(potential):
    structures = [random_atoms(seed, potential.species, 4 + seed % 5) for seed in range(24)]
    expected = [energy_and_forces((potential, atoms)) for atoms in structures]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(energy_and_forces, [(potential, atoms) for atoms in structures]))
    for (energy, forces), (energy0, forces0) in zip(found, expected, strict=True):
        assert energy == energy0
        np.testing.assert_array_equal(forces, forces0)


def test_threads_with_calculators_and_errors(potential):
    def trajectory(seed):
        atoms = random_atoms(seed, potential.species, 5)
        atoms.calc = equipot.Calculator(potential)
        energies = []
        for step in range(5):
            atoms.rattle(0.01, seed=step)
            energies.append(atoms.get_potential_energy())
        atoms.positions[0] = np.nan
        with pytest.raises(equipot.EquipotError):
            atoms.get_forces()
        return energies

    expected = [trajectory(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(trajectory, range(8))) == expected


def test_loading_in_threads(model_file):
    with ThreadPoolExecutor(4) as pool:
        potentials = list(pool.map(lambda _: equipot.load(model_file("default")), range(8)))
    assert len({tuple(p.species) for p in potentials}) == 1


def test_pickle_needs_no_file(potential):
    twin = pickle.loads(pickle.dumps(potential))
    for name in ("species", "cutoff", "head", "heads", "layers", "dtype", "radial", "card", "path", "parameters"):
        assert getattr(twin, name) == getattr(potential, name)
    atoms = random_atoms(1, potential.species, 6)
    np.testing.assert_array_equal(twin.compute(atoms)["forces"], potential.compute(atoms)["forces"])
    assert copy.deepcopy(potential) is potential
    assert copy.copy(potential) is potential


def test_spawned_workers(potential):
    structures = [random_atoms(seed, potential.species, 6) for seed in range(4)]
    expected = [energy_and_forces((potential, atoms)) for atoms in structures]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(energy_and_forces, [(potential, atoms) for atoms in structures]))
    for (energy, forces), (energy0, forces0) in zip(found, expected, strict=True):
        assert energy == pytest.approx(energy0, rel=1e-13)
        np.testing.assert_allclose(forces, forces0, atol=1e-12 * max(1.0, np.abs(forces0).max()))


FORK = """
import os, sys
import equipot
from ase import Atoms
potential = equipot.load(sys.argv[1])
atoms = Atoms(potential.species[0], [[0, 0, 0]])
energy = potential.compute(atoms)["energy"]
child = os.fork()
if child == 0:
    try:
        assert potential.compute(atoms)["energy"] == energy
        print("computed", flush=True)
    except equipot.EquipotError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize(("threads", "says"), [("2", "spawn"), ("1", "computed")])
def test_fork_is_refused_rather_than_hanging(model_file, threads, says):
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    run = subprocess.run(
        [sys.executable, "-c", FORK, str(model_file("default"))],
        env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert says in run.stdout


def test_there_are_no_more_threads_than_can_be(model_file):
    script = "import equipot as e, sys; print(e.load(sys.argv[1]).execution); e.set_threads(513)"
    command, environment = [sys.executable, "-c", script, str(model_file("default"))], {"OMP_NUM_THREADS": "100000"}
    run = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    assert "512 threads" in run.stdout
    assert "from 1 to 512, but it is 513" in run.stderr


def test_number_of_threads(model_file):
    script = "import equipot as e, sys; e.set_threads(3); print(e.load(sys.argv[1]).execution); e.set_threads(2)"
    command = [sys.executable, "-c", script, str(model_file("default"))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "3 threads" in run.stdout
    assert "before the first potential is loaded" in run.stderr


def test_fits_use_the_threads_that_run_already(make_potential):
    make_potential("default")
    running = _equipot.threads()
    notes: list[str] = []
    use_threads(running, notes.append)
    use_threads(0, notes.append)
    assert not notes
    use_threads(running + 1, notes.append)
    assert notes == [f"warning: threads = {running + 1} is not used, as this process runs with {running} already"]
    assert _equipot.threads() == running


@pytest.mark.parametrize(("asked", "spins"), [({}, "3000"), ({"GOMP_SPINCOUNT": "77"}, "77")])
def test_idle_threads_sleep_soon(asked, spins):
    """Unless the user has said otherwise; and other programs that this one starts are told nothing."""
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    script = "import os; before = dict(os.environ); from equipot import _equipot; assert dict(os.environ) == before"
    command, environment = [sys.executable, "-c", script], clean | {"OMP_DISPLAY_ENV": "verbose"} | asked
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    if "GOMP" not in shown:
        pytest.skip("the engine's threads are not those of GNU's OpenMP")
    assert f"GOMP_SPINCOUNT = '{spins}'" in shown
