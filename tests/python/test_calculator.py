"""The ASE calculator: what ASE's rules, its dynamics, filters and phonons expect."""
# SPDX-License-Identifier: MIT

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.vibrations import Vibrations
from structures import random_atoms

import equipot


@pytest.fixture
def calculator(potential):
    return equipot.Calculator(potential)


@pytest.fixture
def atoms(potential, calculator):
    atoms = random_atoms(1, potential.species, 8, cell=5.5)
    atoms.calc = calculator
    return atoms


@pytest.fixture
def counted(calculator, monkeypatch):
    """Numbers of evaluations."""
    calls = []
    original = type(calculator.potential)._evaluate
    monkeypatch.setattr(
        type(calculator.potential), "_evaluate", lambda *a, **k: (calls.append(1), original(*a, **k))[1]
    )
    return calls


def test_all_properties(atoms, potential):
    expected = potential.compute(atoms, ("energy", "energies", "forces", "stress", "stresses"))
    assert atoms.get_potential_energy() == expected["energy"]
    assert atoms.get_potential_energy(force_consistent=True) == expected["energy"]
    np.testing.assert_array_equal(atoms.get_forces(), expected["forces"])
    np.testing.assert_array_equal(atoms.get_potential_energies(), expected["energies"])
    np.testing.assert_array_equal(atoms.get_stress(), expected["stress"])
    np.testing.assert_array_equal(atoms.get_stresses(), expected["stresses"])
    # Sums of 8 rows.
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), atol=1e-13)
    assert atoms.get_stress(voigt=False).shape == (3, 3)


def test_agrees_with_ases_own_finite_differences(atoms):
    # Central differences with steps of 1e-4 Å: h² of third derivatives of some 10 eV/Å⁴.
    scale = max(1.0, np.abs(atoms.get_forces()).max())
    np.testing.assert_allclose(
        calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 3]), atoms.get_forces()[[0, 3]], atol=1e-5 * scale
    )
    stress = atoms.get_stress()
    np.testing.assert_allclose(
        calculate_numerical_stress(atoms, eps=1e-5), stress, atol=1e-6 * max(1.0, np.abs(stress).max())
    )


def test_evaluates_only_when_something_changed(atoms, counted):
    atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    assert len(counted) == 1
    atoms.set_initial_charges(np.ones(len(atoms)))
    atoms.set_initial_magnetic_moments(np.ones(len(atoms)))
    atoms.get_forces()
    assert len(counted) == 1
    for change in (
        lambda: atoms.rattle(0.01),
        lambda: atoms.set_cell(np.asarray(atoms.cell) * 1.01),
        lambda: atoms.set_pbc((True, False, True)),
        lambda: atoms.set_atomic_numbers(atoms.numbers[::-1]),
    ):
        before = len(counted)
        change()
        atoms.get_forces()
        assert len(counted) == before + 1
    before = len(counted)
    atoms.get_stresses()
    atoms.rattle(0.01)
    atoms.get_stresses()
    atoms.get_forces()
    assert len(counted) == before + 2


def test_every_change_is_seen(atoms, potential):
    for change in (
        lambda a: a.rattle(0.3, seed=3),
        lambda a: a.set_cell(np.asarray(a.cell) * 1.1, scale_atoms=False),
        lambda a: a.set_pbc((True, False, True)),
        lambda a: a.set_atomic_numbers(np.roll(a.numbers, 1)),
        lambda a: a.wrap(),
        lambda a: a.pop(),
        lambda a: a.append(Atoms(potential.species[0], [[0.1, 0.2, 2.9]])[0]),
    ):
        change(atoms)
        fresh = potential.compute(atoms, ("energy", "forces"))
        # Neighbours found at another wrapping come in another order: round-off of the sums.
        scale = max(1.0, np.abs(fresh["forces"]).max())
        assert atoms.get_potential_energy() == pytest.approx(fresh["energy"], abs=1e-11 * scale)
        np.testing.assert_allclose(atoms.get_forces(), fresh["forces"], atol=1e-11 * scale)


def test_stress_without_a_cell(potential):
    atoms = random_atoms(2, potential.species, 5, cell=None)
    atoms.calc = equipot.Calculator(potential)
    atoms.get_forces()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    with pytest.raises(equipot.EquipotError, match="volume"):
        potential.compute(atoms, ("stress",))


def test_skin_changes_nothing(potential):
    # The order of neighbours may differ by wrapping: round-off of sums, some 1e-14 of their terms, over the trajectory.
    rng = np.random.default_rng(3)
    atoms = random_atoms(4, potential.species, 10, cell=5.5)
    with_skin = equipot.Calculator(potential, skin=0.7)
    for _ in range(40):
        atoms.positions += rng.normal(0, 0.02, (10, 3))
        expected = potential.compute(atoms, ("energy", "forces", "stress"))
        atoms.calc = with_skin
        scale = max(1.0, np.abs(expected["forces"]).max(), abs(expected["energy"]))
        assert atoms.get_potential_energy() == pytest.approx(expected["energy"], abs=1e-12 * scale)
        np.testing.assert_allclose(atoms.get_forces(), expected["forces"], atol=1e-12 * scale)
        np.testing.assert_allclose(atoms.get_stress(), expected["stress"], atol=1e-12 * scale)
    assert 1 < with_skin._neighbors.builds < 30


def test_energy_is_conserved(calm_atoms):
    """Velocity Verlet's error of the energy falls with the square of the time step if forces are its gradient."""

    def fluctuation(step, steps):
        atoms = calm_atoms.copy()
        atoms.calc = calm_atoms.calc
        spread = np.sqrt(atoms.get_masses() * units.kB * 300)  # 300 K
        atoms.set_momenta(np.random.default_rng(5).normal(size=(len(atoms), 3)) * spread[:, None])
        energies = []
        dynamics = VelocityVerlet(atoms, step * units.fs)
        dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
        dynamics.run(steps)
        return np.std(energies)

    coarse, fine = fluctuation(0.5, 60), fluctuation(0.25, 120)
    assert coarse < 0.05 * len(calm_atoms)
    # A quarter is expected; a half would be first order.
    assert fine < coarse / 3


def test_relaxing_atoms_and_cell(calm_atoms):
    atoms = calm_atoms.copy()
    atoms.calc = calm_atoms.calc
    start = atoms.get_potential_energy()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.5, steps=15)
    assert atoms.get_potential_energy() < start


def test_copies_and_pickles(atoms, calculator):
    energy = atoms.get_potential_energy()
    forces = atoms.get_forces()
    for twin in (copy.deepcopy(calculator), copy.copy(calculator), pickle.loads(pickle.dumps(calculator))):
        other = atoms.copy()
        other.calc = twin
        assert other.get_potential_energy() == energy
        np.testing.assert_array_equal(other.get_forces(), forces)
        other.rattle(0.1)
        assert other.get_potential_energy() != energy
    assert atoms.get_potential_energy() == energy
    assert copy.deepcopy(atoms).get_potential_energy() == energy


def test_wrong_arguments(potential):
    with pytest.raises(equipot.EquipotError, match="skin"):
        equipot.Calculator(potential, skin=-1.0)
    with pytest.raises(equipot.EquipotError, match="head"):
        equipot.Calculator(potential, head="no such head")
    with pytest.raises(equipot.EquipotError, match="skin cannot be set"):
        equipot.Calculator(potential).set(skin=1.0)
    assert equipot.Calculator(potential.path, dtype=np.float32).potential.dtype == "float32"
    for argument in ({"dtype": "mixed"}, {"radial": "exact"}, {"device": "gpu"}):
        with pytest.raises(equipot.EquipotError, match=f"loaded with {next(iter(argument))}"):
            equipot.Calculator(potential, **argument)
    with pytest.raises(equipot.EquipotError, match=r"no argument 'precision'.* dtype"):
        equipot.Calculator(potential, precision="mixed")
    with pytest.raises(equipot.EquipotError, match=r"no argument 'model_paths'.* first argument"):
        equipot.Calculator(model_paths=potential.path)
    with pytest.raises(equipot.EquipotError, match="needs a model"):
        equipot.Calculator()
    with pytest.raises(AttributeError, match=r"no attribute 'get_potential_energy'; ASE takes equipot\.Calculator"):
        potential.get_potential_energy()
    for wrong in ("atoms.xyz", [1, 2]):
        with pytest.raises(equipot.EquipotError, match=r"takes an ase\.Atoms"):
            potential.compute(wrong)


def test_recovers_from_an_error(atoms):
    energy = atoms.get_potential_energy()
    good = atoms.positions.copy()
    atoms.positions[2] = np.nan
    for _ in range(2):
        with pytest.raises(equipot.EquipotError, match="atom 2"):
            atoms.get_forces()
    atoms.positions = good
    assert atoms.get_potential_energy() == energy


def test_vibrations(calm_atoms, tmp_path):
    molecule = Atoms(calm_atoms.symbols[:3], [[0, 0, 0], [2.2, 0, 0], [1.0, 2.0, 0]])
    molecule.calc = calm_atoms.calc
    vibrations = Vibrations(molecule, name=str(tmp_path / "vib"))
    vibrations.run()
    hessian = vibrations.get_vibrations().get_hessian_2d()
    assert hessian.shape == (9, 9)
    # Translations do nothing: rows sum to zero up to the third derivatives at steps of 0.01 Å.
    assert np.abs(hessian.reshape(9, 3, 3).sum(axis=1)).max() < 1e-2 * np.abs(hessian).max()


def test_phonons_of_silicon(silicon, tmp_path):
    """Sound comes out linear, acoustic modes start at zero, and the optical mode is where silicon has it."""
    crystal = bulk("Si", "diamond", a=5.47)
    phonons = Phonons(
        crystal, equipot.Calculator(silicon), supercell=(4, 4, 4), delta=0.01, name=str(tmp_path / "phonon")
    )
    phonons.run()
    phonons.read(acoustic=True)
    frequencies = phonons.band_structure([[0, 0, 0], [0.5, 0.5, 0.0]])
    mev = 1e3 * np.asarray(frequencies)
    assert np.abs(mev[0, :3]).max() < 2.0
    # Experiment 64 meV; the generous window is for the training data's functional and a small model.
    assert 50 < mev[0, 3] < 75
    assert mev[1].min() > 5.0
