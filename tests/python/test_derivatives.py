"""Forces and stresses against finite differences of the energy, with a sweep over the step h.

A central difference errs by O(h²) for large h and by round-off/h for small ones; a wrong derivative shows neither, its
error stays. So the error must fall a lot with h, and what Richardson's extrapolation makes of two steps, which errs by
O(h⁴), must be very close for some step.
"""
# SPDX-License-Identifier: MIT

import numpy as np
import pytest
from ase import Atom
from structures import random_atoms

STEPS = 1e-2 / 2.0 ** np.arange(9)  # Å, or strain

# Round-off of the energy, 1e-13 eV for sums of this size, over h = 1e-4 gives 1e-9 eV/Å. Where an atom is within h of
# the cutoff, third derivatives jump and h⁴ is not reached before h is small. Relative to the size of the derivative.
BEST = 2e-8


def sweep(energy, derivative):
    """Compare dE/dh at 0 with central differences of energy(h)."""
    differences = np.array([(energy(h) - energy(-h)) / (2 * h) for h in STEPS])
    scale = max(1.0, abs(derivative))
    extrapolated = np.abs((4 * differences[1:] - differences[:-1]) / 3 - derivative) / scale
    assert extrapolated.min() < BEST, extrapolated
    errors = np.abs(differences - derivative) / scale
    # Seen where the error is far above round-off.
    if errors[0] > 1e-5:
        assert errors.min() < errors[0] / 100, errors


@pytest.mark.parametrize("radial", ["exact", "splined"])
@pytest.mark.parametrize("periodic", [True, False])
def test_forces(any_architecture, make_potential, radial, periodic):
    potential = make_potential(any_architecture, radial=radial)
    rng = np.random.default_rng(1)
    atoms = random_atoms(2, potential.species, 7, cell=5.0 if periodic else None)
    forces = potential.compute(atoms, ("forces",))["forces"]
    for direction in [*rng.normal(size=(2, 7, 3)), *(np.eye(21)[k].reshape(7, 3) for k in (0, 10, 20))]:

        def energy(h, direction=direction):
            moved = atoms.copy()
            moved.positions += h * direction
            return potential.compute(moved, ("energy",))["energy"]

        sweep(energy, -np.vdot(forces, direction))


@pytest.mark.parametrize("radial", ["exact", "splined"])
def test_stress(any_architecture, make_potential, radial):
    potential = make_potential(any_architecture, radial=radial)
    atoms = random_atoms(3, potential.species, 6, cell=np.array([[4.8, 0.2, 0], [0.5, 5.1, -0.3], [0.1, -0.4, 5.0]]))
    results = potential.compute(atoms, ("stress", "virial"))
    for component, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5

        def energy(h, strain=strain):
            strained = atoms.copy()
            strained.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + h * strain), scale_atoms=True)
            return potential.compute(strained, ("energy",))["energy"]

        sweep(energy, results["stress"][component] * atoms.get_volume())
        np.testing.assert_allclose(
            results["virial"][a, b], -results["stress"][component] * atoms.get_volume(), atol=1e-10
        )


def test_centroid_virials_of_one_layer(make_potential):
    """With one layer, W_j = -Σ_i (x_j - x_i) ⊗ ∂E_i/∂x_j can be measured: energies depend on own neighbours only."""
    potential = make_potential("one_layer", radial="exact")
    atoms = random_atoms(4, potential.species, 5, cell=None)
    virials = potential.compute(atoms, ("centroid_virials",))["centroid_virials"]
    step = 1e-4
    for j in range(5):
        gradient = np.zeros((5, 3))
        for c in range(3):
            energies = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[j, c] += sign * step
                energies.append(potential.compute(moved, ("energies",))["energies"])
            gradient[:, c] = (energies[0] - energies[1]) / (2 * step)
        expected = -np.einsum("ia,ib->ab", atoms.positions[j] - atoms.positions, gradient)
        # h² of the central difference, h = 1e-4, times distances of some Å.
        np.testing.assert_allclose(virials[j], expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(("radial", "noise"), [("exact", 1e-13), ("splined", 1e-11)])
def test_smooth_where_an_atom_crosses_the_cutoff(any_architecture, make_potential, radial, noise):
    """Energy and forces have no jump there, and an atom that has just left is not felt at all."""
    potential = make_potential(any_architecture, radial=radial)
    base = random_atoms(5, potential.species, 4, cell=None)
    base.positions = base.positions[np.argsort(base.positions[:, 0])]

    def results(distance):
        atoms = base.copy()
        atoms.append(Atom(potential.species[0], base.positions[-1] + [distance, 0.0, 0.0]))
        return potential.compute(atoms, ("energy", "forces"))

    cutoff = potential.cutoff
    outside = results(cutoff + 1e-9)
    np.testing.assert_array_equal(outside["forces"][-1], 0.0)
    np.testing.assert_array_equal(outside["forces"], results(cutoff + 0.1)["forces"])
    distances = np.array([1e-2, 1e-3, 1e-4])
    inside = [results(cutoff - distance) for distance in distances]
    energies = np.array([abs(r["energy"] - outside["energy"]) for r in inside])
    forces = np.array([np.abs(r["forces"] - outside["forces"]).max() for r in inside])
    # The envelope (1 - r/cutoff)³ makes forces of the distance squared and energies of its cube, down to
    # round-off, or to how well splines meet zero at the cutoff.
    scale = max(1.0, np.abs(outside["forces"]).max(), abs(outside["energy"]))
    assert (forces < 2 * forces[0] * (distances / distances[0]) ** 2 + noise * scale).all(), forces
    assert (energies < 2 * energies[0] * (distances / distances[0]) ** 3 + noise * scale).all(), energies


def test_same_bits_twice(any_potential):
    properties = ("energy", "energies", "forces", "virial", "virials", "centroid_virials", "features")
    atoms = random_atoms(6, any_potential.species, 20, cell=7.5)
    first = any_potential.compute(atoms, properties)
    for _ in range(3):
        again = any_potential.compute(atoms, properties)
        for name in properties:
            np.testing.assert_array_equal(again[name], first[name])


def test_batches_agree_with_single_structures(any_potential):
    properties = (
        "energy",
        "energies",
        "forces",
        "stress",
        "stresses",
        "virial",
        "virials",
        "centroid_virials",
        "features",
    )
    structures = [random_atoms(seed, any_potential.species, 4 + seed, cell=5.0 + 0.1 * seed) for seed in range(4)]
    for atoms, together in zip(structures, any_potential.compute(structures, properties), strict=True):
        alone = any_potential.compute(atoms, properties)
        for name in properties:
            # Tiles of atoms differ, and with them the order of sums.
            scale = max(1.0, np.abs(alone[name]).max())
            np.testing.assert_allclose(together[name], alone[name], rtol=0, atol=1e-12 * scale)
