"""Guards: what they ask for, how they count, and that a trained potential has no hole where they stand."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from structures import random_atoms

from equipot import load
from equipot.data import DataSet, Structure
from equipot.fit import train
from equipot.fit.bonds import bonds_apart, bonds_of_an_atom
from equipot.fit.cohesion import Neighborhood, cohesive_energy, stretching
from equipot.fit.datasets import DataSets
from equipot.fit.guards import (
    Guard,
    _apart,
    _squeezed,
    compression,
    guards,
    insertion_limits,
    shortest_contacts,
    shortest_distances,
    stiffness,
)
from equipot.fit.losses import Errors, Labels, Weights, loss


def molecules(count: int = 12) -> list[Structure]:
    """Water molecules in pairs, with energies that say nothing about close hydrogens of two molecules."""
    rng = np.random.default_rng(3)
    water = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    made = []
    for k in range(count):
        other = water @ np.diag([-1, 1, -1]) + [3.2 + 0.1 * k, 0.3, 0.2]
        atoms = Atoms("OH2OH2", np.concatenate([water, other]) + rng.normal(scale=0.03, size=(6, 3)))
        made.append(Structure(atoms, float(rng.normal(scale=0.1)) - 20.0, np.zeros((6, 3)), source=f"memory#{k}"))
    return made


def with_contacts(data: Sequence[Structure], count: int, cutoff: float = 5.0, closest: float = 0.0) -> list[Guard]:
    shortest, contacts = shortest_distances(data, cutoff), shortest_contacts(data, cutoff)
    return guards(data, shortest, cutoff, count, 1, closest=closest, contacts=contacts)


def test_bonds_are_counted_between_atoms() -> None:
    butane = molecule("trans-butane")
    apart = bonds_apart(butane)
    carbons = np.flatnonzero(butane.numbers == 6)
    assert np.array_equal(apart, apart.T)
    assert sorted(tuple(sorted(apart[c, carbons])) for c in carbons) == 2 * [(0, 0, 1, 2)] + 2 * [(0, 1, 1, 2)]
    assert (apart == 1).sum() == 2 * 13
    found = shortest_contacts([Structure(butane, 0.0, source="memory#0")], 5.0)
    assert set(found) == {(a, b, k) for a, b in [(1, 1), (1, 6), (6, 6)] for k in (2, 3)}
    assert 1.7 < found[1, 1, 2] < 1.8  # of a methyl or methylene group
    assert 2.6 < found[1, 6, 3] < 2.9


def squeezable(element: str, volume: float, stiff: float) -> Structure:
    """A crystal at so much of its volume at rest, with the energy and the virial of the equation of state."""
    atoms = bulk(element, cubic=True)
    atoms.set_cell(np.asarray(atoms.cell) * volume ** (1 / 3), scale_atoms=True)
    step = 1e-5
    slope = (compression(volume + step, stiff) - compression(volume - step, stiff)) / (2 * step)
    virial = -len(atoms) * volume * slope * np.eye(3)
    return Structure(atoms, len(atoms) * compression(volume, stiff), np.zeros((len(atoms), 3)), virial)


def test_atoms_have_few_bonds_or_many() -> None:
    def bonds(*atoms: Atoms) -> float:
        return bonds_of_an_atom([Structure(a) for a in atoms])

    assert bonds(bulk("Si", cubic=True)) == 4
    assert bonds(bulk("Cu", cubic=True)) == 12
    assert bonds(molecule("H2O")) == pytest.approx(4 / 3)
    assert bonds(Atoms("He"), bulk("Cu", cubic=True)) == pytest.approx(12 * 4 / 5)


def test_compressed_copies_go_on_along_the_equation_of_state() -> None:
    stiff = 9.0
    for before in (0.7, 1.0, 1.1):
        copper = squeezable("Cu", before, stiff)
        assert copper.energy is not None
        for volume in (0.8, 0.5):
            guard = _squeezed(copper, volume ** (1 / 3), stiff)
            assert guard.structure.atoms.get_volume() == pytest.approx(volume * copper.atoms.get_volume())
            assert guard.structure.energy is not None
            # Pressure is told by a table in steps of 0.001, with differences for derivatives.
            expected = 4 * compression(before * volume, stiff)
            assert guard.structure.energy == pytest.approx(expected, rel=1e-3, abs=1e-3)
            assert guard.highest == pytest.approx(guard.structure.energy + 2 * guard.tolerance)
    for derivative in (4.0, 5.0):  # of the bulk modulus by pressure; most solids are between
        copper, x = squeezable("Cu", 1.0, stiff), 0.5 ** (-2 / 3)
        guard = _squeezed(copper, 0.5 ** (1 / 3), stiff)
        energy = 4 * 9 / 16 * stiff * (derivative * (x - 1) ** 3 + (x - 1) ** 2 * (6 - 4 * x))
        assert abs(guard.structure.energy - energy) == pytest.approx(guard.tolerance - 4 * 0.05, rel=1e-3)
    copper.virial = None  # as if it were at rest
    guard, gain = _squeezed(copper, 0.5 ** (1 / 3), stiff), 4 * compression(0.5, stiff)
    assert guard.tolerance == pytest.approx(4 * 0.5 + 0.2 * gain)
    assert guard.highest == pytest.approx(copper.energy + 3 * gain + 2 * guard.tolerance)
    diamond = squeezable("C", 0.9, stiff)
    guard = _squeezed(diamond, 0.8 ** (1 / 3), stiff)  # bonds are stiffer than crystals
    assert guard.structure.energy is not None
    assert guard.tolerance == pytest.approx(8 * 0.5 + 0.2 * (guard.structure.energy - diamond.energy))
    assert stiffness([squeezable("Cu", v, stiff) for v in (0.97, 0.99, 1.0, 1.01, 1.03)]) == pytest.approx(
        9.0, rel=0.05
    )


def test_stretched_copies_follow_the_universal_binding_curve() -> None:
    stiff, cohesive = 9.0, 3.49
    assert cohesive_energy([29, 29]) == cohesive
    assert cohesive_energy([29, 2]) is None  # helium
    for strain in (-0.001, 0.001):  # E = B V₀ (dV/V)² / 2
        assert stretching(1 + strain, stiff, cohesive) == pytest.approx(4.5 * stiff * strain**2, rel=0.01)
    assert stretching(9.0, stiff, cohesive) == pytest.approx(cohesive)
    rng = np.random.default_rng(1)
    for before in (0.9, 1.0, 1.1):
        copper, scales = squeezable("Cu", before, stiff), []
        assert copper.energy is not None
        for turn in range(0, 14, 2):
            guard = _apart(copper, cohesive, stiff, turn, rng)
            scales.append(float(np.cbrt(guard.structure.atoms.get_volume() / copper.atoms.get_volume())))
            at, after = before ** (1 / 3), scales[-1] * before ** (1 / 3)
            gain = 4 * (stretching(after, stiff, cohesive) - stretching(at, stiff, cohesive))
            assert guard.structure.energy is not None
            assert guard.structure.energy - copper.energy == pytest.approx(gain, rel=1e-3)
            assert guard.tolerance == pytest.approx(4 * 0.02 + 0.1 * abs(gain), rel=1e-3)
        assert min(scales) == pytest.approx(1.06)
        assert max(scales) == pytest.approx(2.2)


@pytest.mark.parametrize(
    ("element", "vacancy", "dimer"),
    [  # measured, eV: what a vacancy costs, and half of what a dimer is bound by
        ("Cu", 1.28, 1.0),
        ("Li", 0.5, 0.5),
        ("Mo", 3.0, 2.2),
        ("Si", 3.6, 1.6),
        ("Ge", 2.5, 1.3),
    ],
)
def test_neighbors_that_are_lost_cost_what_vacancies_and_dimers_say(element: str, vacancy: float, dimer: float) -> None:
    atoms = bulk(element, cubic=True) * (3, 3, 3)
    cohesive = cohesive_energy(atoms.numbers)
    assert cohesive is not None
    whole = Neighborhood(atoms, cohesive)

    def cost(kept: Sequence[int]) -> float:
        return whole.cost(atoms[list(kept)])

    everyone = list(range(len(atoms)))
    nearest = int(np.argsort(atoms.get_distances(0, everyone, mic=True))[1])
    assert cost(everyone) == pytest.approx(0.0, abs=1e-9)
    assert cost([0]) == pytest.approx(cohesive)
    assert cost(everyone[1:]) == pytest.approx(vacancy, rel=0.25)
    assert cohesive - cost([0, nearest]) / 2 == pytest.approx(dimer, rel=0.25)
    slab = Atoms([*atoms.symbols, element], [*atoms.positions, [0, 0, 40.0]], cell=atoms.cell, pbc=True)
    slab.cell[2, 2] = 60.0
    assert np.isfinite(Neighborhood(slab, cohesive).cost(slab[:5]))


def test_metals_lose_some_of_their_atoms() -> None:
    data = [squeezable("Cu", v, 9.0) for v in (0.97, 1.0, 1.03)]
    made = [g for g in guards(data, shortest_distances(data, 5.0), 5.0, 120, 1) if len(g.structure) < 4]
    assert len(made) == 120 // 8
    assert all(0.0 < g.structure.energy / len(g.structure) < 3.6 for g in made if g.structure.energy is not None)
    assert all(g.tolerance < 0.6 * len(g.structure) for g in made)


def test_covalent_bulk_is_compressed_where_it_cannot_be_stretched() -> None:
    data = {element: [squeezable(element, v, 9.0) for v in (0.97, 1.0, 1.03)] for element in ("Cu", "C")}
    made = {element: guards(of, shortest_distances(of, 5.0), 5.0, 120, 1) for element, of in data.items()}
    scales = {
        element: np.cbrt([g.structure.atoms.get_volume() / of[1].atoms.get_volume() for g in made[element]])
        for element, of in data.items()
    }
    compressed = {element: int((of < 0.92).sum()) for element, of in scales.items()}
    assert scales["C"].max() < 1.02  # its bonds are pulled apart one by one
    assert compressed["C"] == 60
    assert compressed["Cu"] == 30


def test_compressed_copies_are_of_all_volumes() -> None:
    rng = np.random.default_rng(3)
    data = [squeezable("Cu", v, 9.0) for v in [*rng.uniform(0.98, 1.02, 60), 0.7]]
    made = guards(data, shortest_distances(data, 5.0), 5.0, 200, 1)
    densest = bulk("Cu", cubic=True).get_volume() * 0.7
    beyond = [g for g in made if g.structure.atoms.get_volume() < 0.75 * densest]
    from_densest = [g for g in beyond if np.isclose(g.structure.atoms.get_volume() / densest, 0.9**3, rtol=1e-6)]
    assert from_densest


def test_guards_are_closer_than_the_data_and_higher() -> None:
    data = molecules()
    shortest, contacts = shortest_distances(data, 5.0), shortest_contacts(data, 5.0)
    made = with_contacts(data, 40, closest=0.5)
    assert len(made) > 10
    pushed, met = set(), set()
    for guard in made:
        atoms = guard.structure.atoms
        (source,) = (s for s in data if guard.structure.source == f"guard from {s.source}")
        assert guard.structure.energy is not None
        assert source.energy is not None
        gain = guard.structure.energy - source.energy
        assert gain > 0
        assert guard.highest == pytest.approx(source.energy + 3 * gain + 2 * guard.tolerance)
        distances = atoms.get_all_distances()[np.triu_indices(6, 1)]
        assert distances.min() >= 0.5
        for (i, j), d in zip(zip(*np.triu_indices(6, 1), strict=True), distances, strict=True):
            a, b = sorted((int(atoms.numbers[i]), int(atoms.numbers[j])))
            if d < shortest[a, b]:
                pushed.add((a, b))
            if (i < 3) != (j < 3) and d < contacts[a, b, 3]:
                met.add((a, b))
    assert (1, 1) in pushed  # although every hydrogen's nearest neighbour is its oxygen
    assert met == {(1, 1), (1, 8), (8, 8)}  # of two molecules


def test_bonds_are_pulled_apart_where_they_hold_two_parts() -> None:
    """Parts keep their shape, rings stay whole, and nothing is pulled to where it binds elsewhere."""
    benzene = molecule("C6H6")
    before = bonds_apart(benzene)
    energies = []
    for guard in with_contacts([Structure(benzene, -10.0, source="memory#0")], 160):
        longer = guard.structure.atoms.get_all_distances() - benzene.get_all_distances()
        stretched = np.argwhere(np.triu((before == 1) & (longer > 0.19)))
        if np.abs(longer[:6, :6]).max() > 1e-9 or len(stretched) != 1:
            continue  # pushed
        ((c, h),) = stretched
        assert (benzene.numbers[c], benzene.numbers[h]) == (6, 1)
        energies.append((longer[c, h], guard.structure.energy))
    x, energy = np.array(energies).T
    assert len(x) > 10
    assert x.max() < 1.2
    assert energy + 10.0 == pytest.approx(3.5 * (1 - np.exp(-1.9 * x)) ** 2)

    # A hydrogen that is pulled towards another oxygen would bind there, towards a carbon it would not.
    shared = Structure(Atoms("OHO", [[0, 0, 0], [1.0, 0, 0], [2.5, 0, 0]]), -10.0, source="memory#0")
    moved = 0
    for guard in with_contacts([shared], 60):
        assert guard.structure.energy is not None
        first, hydrogen, second = guard.structure.atoms.positions[:, 0]
        morse = 3.5 * (1 - np.exp(-1.9 * (hydrogen - first - 1.0))) ** 2
        if hydrogen > first + 1.19 and guard.structure.energy + 10 == pytest.approx(morse):
            assert second == pytest.approx(2.5)
            assert first < 0
            moved += 1
    assert moved > 5
    crowded = Structure(Atoms("OHC", [[0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]]), -10.0, source="memory#0")
    pulled = [g.structure.atoms.positions[:, 0] for g in with_contacts([crowded], 60)]
    assert any(x[1] > x[0] + 1.19 and x[2] - x[1] < 1.5 and x[2] - x[0] == pytest.approx(3.0) for x in pulled)


def test_bonds_cost_by_how_much_longer_or_shorter_they_become() -> None:
    """Where one atom of a chain moves along it, one bond becomes longer by as much as the other becomes shorter."""
    chain = Structure(Atoms("CNO", [[0, 0, 0], [1.2, 0, 0], [2.4, 0, 0]]), -10.0, source="memory#0")
    crystal = Structure(Atoms("Si3", [[0, 0, 0], [2.3, 0, 0], [4.6, 0, 0]]), -10.0, source="memory#1")

    def middle(one: Structure) -> list[tuple[float, float]]:
        found = []
        for guard in with_contacts([one], 60):
            assert guard.structure.energy is not None
            at = guard.structure.atoms.positions[:, 0]
            if at[0] == 0.0 and at[2] == one.atoms.positions[2, 0]:
                found.append((at[1] - one.atoms.positions[1, 0], guard.structure.energy + 10.0))
        assert found
        return found

    for x, gain in middle(chain):
        assert gain == pytest.approx(3.5 * (np.expm1(1.9 * x) ** 2 + np.expm1(-1.9 * x) ** 2))
    for x, gain in middle(crystal):  # metalloids bind one another less, and have a wall
        assert gain == pytest.approx(3.0 * np.expm1(abs(x) / (0.15 * 2.3)))


def test_an_atom_is_put_into_the_midst_of_others() -> None:
    crystal = bulk("Si", cubic=True).repeat(2)
    rng = np.random.default_rng(4)
    data = []
    for k in range(4):
        atoms = crystal.copy()
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        data.append(Structure(atoms, -300.0, np.zeros_like(atoms.positions), source=f"memory#{k}"))
    shortest = shortest_distances(data, 5.0)
    inserted = 0
    for guard in with_contacts(data, 80, closest=0.5):
        (source,) = (s for s in data if guard.structure.source == f"guard from {s.source}")
        if len(guard.structure) < len(crystal):
            continue
        (moved,) = np.nonzero(np.any(guard.structure.atoms.positions != source.atoms.positions, axis=1))
        if len(moved) != 1:
            continue
        distances = guard.structure.atoms.get_distances(moved[0], range(len(crystal)), mic=True)
        near = distances[(distances < shortest[14, 14]) & (distances > 0)]
        wall = np.sum(3.0 * np.expm1((shortest[14, 14] - near) / (0.15 * shortest[14, 14])))
        assert guard.structure.energy is not None
        if guard.structure.energy + 300 == pytest.approx(5.0 + wall):
            assert guard.tolerance == pytest.approx(2.0 + 0.2 * (5.0 + wall))
            inserted += 1
    assert inserted > 15


def test_walls_of_inserted_atoms_leave_room_for_bonds() -> None:
    """Hydrogens of two molecules are never closer than 1.5 Å in the data, and yet may bind at 0.74."""
    limits = insertion_limits({(1, 1): 1.5, (1, 8): 0.9, (3, 3): 2.0, (14, 14): 2.1})
    assert limits[1, 1, 1] == pytest.approx(0.95 * 0.62)
    assert limits[1, 8, 1] == pytest.approx(0.9)
    assert limits[3, 3, 1] == 2.0
    assert limits[14, 14, 1] == 2.1


def test_a_bulk_is_compressed_and_the_same_seed_gives_the_same() -> None:
    atoms = random_atoms(1, ["Cu"], count=8, cell=5.0)
    data = [Structure(atoms, -1.0, source="memory#0")]
    made, again = (with_contacts(data, 20, cutoff=6.0) for _ in range(2))
    assert any(g.structure.atoms.cell.volume < 0.8 * atoms.cell.volume for g in made)
    assert all(np.isfinite(g.structure.atoms.positions).all() for g in made)
    assert all(
        np.array_equal(g.structure.atoms.positions, a.structure.atoms.positions)
        for g, a in zip(made, again, strict=True)
    )


@pytest.mark.parametrize("per_atom", [True, False])
def test_they_bound_energies(per_atom: bool) -> None:
    data = molecules()
    labels = Labels.of_guards(with_contacts(data, 12))
    weights = Weights(2.0, 3.0, 4.0, per_atom=per_atom)
    forces, virial = np.zeros_like(labels.forces), np.zeros_like(labels.virial)
    for energy in (labels.energy, labels.energy + 2 * labels.tolerance, labels.highest):
        within = loss(labels, energy, forces, virial, weights)
        assert within.value == 0
        assert not within.energy_bar.any()

    # A parabola within a tolerance and a line beyond it: central differences are exact but for round-off.
    for bound, beyond in ((labels.energy, -0.5), (labels.energy, -3.0), (labels.highest, 0.5), (labels.highest, 3.0)):
        energy = bound + beyond * labels.tolerance
        found = loss(labels, energy, forces, virial, weights)
        for k in range(len(labels)):
            step = np.zeros(len(labels))
            step[k] = 1e-3 * labels.tolerance[k]
            up, down = (loss(labels, energy + s * step, forces, virial, weights).value for s in (1, -1))
            assert found.energy_bar[k] == pytest.approx((up - down) / (2 * step[k]), rel=1e-7)
    assert found.value == pytest.approx(3.0 * 0.01**2 * 5.0)  # 2 x - 1 for x = 3, of errors of 10 meV/Å

    errors = Errors.none(labels.config_types)
    errors.add(labels, energy, forces, virial)
    assert errors.counts[:, 0].sum() == 0


def test_a_trained_potential_keeps_hydrogens_apart(tmp_path: Path) -> None:
    """Trained on pairs of molecules, which say nothing about it: only the guards make the energy rise."""
    data = DataSet(molecules())
    sets = DataSets(data, data, DataSet(), {1: -1.0, 8: -5.0})
    table = {
        "epochs": 600,  # of four guards each
        "model": {"channels": 8, "layers": 1, "l_max": 1, "correlation": 2, "repulsion": True},
    }
    potential = load(train(table, tmp_path / "run", sets=sets, quiet=True))
    made = with_contacts(data, 40, closest=0.5)
    bounds = Labels.of_guards(made)
    results = potential.compute([g.structure.atoms for g in made], properties=("energies",))
    found = np.array([r["energies"].sum() for r in results])
    assert np.mean(found > bounds.energy - bounds.tolerance) > 0.9, found - bounds.energy


def test_species_that_never_meet_are_not_pushed() -> None:
    """Beyond 5 Å no shortest distance is known, and a longer cutoff sees pairs there."""
    data = [Structure(Atoms("HeNe", [[0, 0, 0], [5.5, 0, 0]]), -1.0, source="memory#0")]
    data += [Structure(Atoms("He2", [[0, 0, 0], [3.0, 0, 0]]), -1.0, source="memory#1")]
    shortest = shortest_distances(data, 6.0)
    assert set(shortest) == {(2, 2)}
    made = with_contacts(data, 40, cutoff=6.0)
    assert made
    assert {str(guard.structure.atoms.symbols) for guard in made} == {"He2"}
