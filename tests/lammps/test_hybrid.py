"""Beside other pair styles: NULL types are invisible, energies add up, several models live side by side."""
# SPDX-License-Identifier: MIT

import numpy as np
import pytest
from runner import ELEMENTS, EVERYTHING, close, write_data

import equipot

LJ = "lj/cut 4.0"


@pytest.fixture
def guests(boxes):
    """The bulk with every fifth atom turned into argon, which the model does not know."""
    atoms = boxes["bulk"].copy()
    numbers = atoms.get_atomic_numbers()
    numbers[::5] = 18
    atoms.set_atomic_numbers(numbers)
    return atoms


def without_guests(atoms):
    return atoms[[k for k, z in enumerate(atoms.get_atomic_numbers()) if z != 18]]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_null_types_are_invisible(lammps, start, guests, model, ranks):
    """Argon interacts with nothing here, so what the others feel is the model without argon."""
    script = start(
        guests,
        types=[*ELEMENTS, "Ar"],
        style=f"pair_style hybrid equipot {LJ}",
        coeff=f"pair_coeff * * equipot {model} Si O NULL\npair_coeff 1*3 3 lj/cut 0.0 3.0",
    )
    found = lammps(script + EVERYTHING, ranks=ranks)
    seen = guests.get_atomic_numbers() != 18
    expected = equipot.load(model).compute(without_guests(guests), ("energy", "energies", "forces"))
    close(found.energy, expected["energy"])
    close(found.energies[seen], expected["energies"])
    close(found.forces[seen], expected["forces"])
    assert not found.forces[~seen].any()
    assert not found.energies[~seen].any()


@pytest.mark.parametrize("ranks", [1, 3])
def test_overlay_adds_up(lammps, start, guests, model, ranks):
    types = [*ELEMENTS, "Ar"]
    lj = "pair_coeff * * {} 0.01 2.5"
    nothing = "pair_coeff * * lj/cut 0.0 2.5"
    equipot_coeff = f"pair_coeff * * equipot {model} Si O NULL"

    def run(style, coeff):
        return lammps(start(guests, types=types, style=f"pair_style {style}", coeff=coeff) + EVERYTHING, ranks=ranks)

    model_alone = run(f"hybrid/overlay equipot {LJ}", f"{equipot_coeff}\n{nothing}")
    lj_alone = run(LJ, lj.format(""))
    both = run(f"hybrid/overlay equipot {LJ}", f"{equipot_coeff}\n{lj.format('lj/cut')}")
    for name in ("energy", "pressure", "energies", "forces", "stresses", "centroid_stresses"):
        close(getattr(both, name), getattr(model_alone, name) + getattr(lj_alone, name), 1e-11)


@pytest.mark.parametrize("ranks", [1, 2])
def test_dispersion(lammps, start, model, ranks):
    """The example of the manual: dispersion/d3 asks for ghosts far beyond the model's cutoff."""
    script = start(
        style="pair_style hybrid/overlay equipot dispersion/d3 bj pbe 12.0 8.0",
        coeff=f"pair_coeff * * equipot {model} Si O\npair_coeff * * dispersion/d3 Si O",
    )
    thermo = "thermo_style custom step pe c_alone\nthermo_modify format float %.17g norm no\n"
    found = lammps(script + "compute alone all pair equipot\n" + thermo + "run 0\n", ranks=ranks)
    alone = lammps(start() + EVERYTHING)
    close(found.thermo["c_alone"][-1], alone.energy)
    assert found.energy < alone.energy


@pytest.mark.parametrize("ranks", [1, 2])
def test_two_models(lammps, start, boxes, model_folder, ranks):
    """Silicon feels one model and oxygen another; they do not see each other."""
    found = lammps(
        start(
            style=f"pair_style hybrid equipot equipot {LJ}",
            coeff=f"""pair_coeff * * equipot 1 {model_folder}/default.equipot Si NULL
pair_coeff * * equipot 2 {model_folder}/other.equipot NULL O
pair_coeff 1 2 lj/cut 0.0 3.0""",
        )
        + EVERYTHING,
        ranks=ranks,
    )
    atoms = boxes["bulk"]
    expected = np.zeros((len(atoms), 3))
    for symbol, name in (("Si", "default"), ("O", "other")):
        mask = atoms.symbols == symbol
        expected[mask] = equipot.load(model_folder / f"{name}.equipot").compute(atoms[mask], ("forces",))["forces"]
    close(found.forces, expected)


def test_restart_of_hybrid(lammps, start, model_folder):
    style = f"pair_style hybrid/overlay equipot head scan {LJ}"
    coeff = f"pair_coeff * * equipot {model_folder}/two_heads.equipot Si O\npair_coeff * * lj/cut 0.0 2.5"
    file = lammps.folder / "state.restart"
    first = lammps(start(style=style, coeff=coeff) + EVERYTHING + f"write_restart {file}\n")
    second = lammps(f"plugin load {lammps.plugin}\nread_restart {file}\n{style}\n{coeff}\n{EVERYTHING}", ranks=2)
    close(second.forces, first.forces)


def test_excluded_neighbours(lammps, start, boxes, model):
    """neigh_modify exclude: the excluded pairs are no neighbours, as if the species lived in separate boxes."""
    found = lammps(start() + "neigh_modify exclude type 1 2\n" + EVERYTHING)
    atoms = boxes["bulk"]
    potential = equipot.load(model)
    parts = [potential.compute(atoms[atoms.symbols == symbol], ("energy",))["energy"] for symbol in ELEMENTS]
    close(found.energy, sum(parts))
    hidden = "neigh_modify exclude hides atoms"
    assert [hidden in warning for warning in found.warnings].count(True) == 1
    for harmless in ("", "run 0\nclear\n" + start()):
        assert not any(hidden in warning for warning in lammps(start() + harmless + EVERYTHING).warnings)


def test_pairs_of_another_style_are_hidden(lammps, start, model):
    """In a hybrid, a pair that goes to another style is none of the model's, though both its species are."""
    style = f"pair_style hybrid equipot {LJ}"
    coeff = f"pair_coeff * * equipot {model} Si O\npair_coeff 1 2 lj/cut 0.0 3.0"
    found = lammps(start(style=style, coeff=coeff) + EVERYTHING)
    close(found.energy, lammps(start() + "neigh_modify exclude type 1 2\n" + EVERYTHING).energy)
    assert sum("atom types 1 and 2 do not see each other" in warning for warning in found.warnings) == 1


@pytest.mark.parametrize("special", ["1.0 1.0 1.0", "0.5 0.5 0.5"])
def test_bonded_atoms(lammps, start, boxes, model, special):
    """Bonds of a force field mark neighbours in the list; the model sees all that special_bonds leaves in it."""
    script = start(style="bond_style zero\nbond_coeff *\npair_style equipot").replace(
        "atom_style atomic", "atom_style bond"
    )
    data = lammps.folder / "bulk.data"
    head, atoms = data.read_text().replace("# atomic", "# bond").split("Atoms # bond\n\n")
    lines = [line.split(maxsplit=1) for line in atoms.splitlines()]
    bonds = ["1 1 1 2", "2 1 2 3", "3 1 10 11"]
    head = head.replace("2 atom types", "2 atom types\n3 bonds\n1 bond types")
    atoms = [f"{k} 1 {rest}" for k, rest in lines]
    data.write_text("\n".join([head, "Atoms # bond", "", *atoms, "", "Bonds", "", *bonds, ""]))
    found = lammps(script.replace("read_data", f"special_bonds lj/coul {special}\nread_data") + EVERYTHING, ranks=2)
    expected = equipot.load(model).compute(boxes["bulk"], ("energy", "forces"))
    close(found.energy, expected["energy"])
    close(found.forces, expected["forces"])


def test_group_that_moves(lammps, start, boxes):
    """Only a part of the atoms is integrated; the others act on them and stay."""
    write_data(lammps.folder / "bulk.data", boxes["bulk"], ELEMENTS)
    found = lammps(
        start()
        + """
group mobile type 1
velocity mobile create 300 11
fix 1 mobile nve
dump d all custom 10 dump.txt id x y z vx vy vz
dump_modify d sort id format float %.17g
run 10
"""
    )
    silicon = boxes["bulk"].symbols == "Si"
    moved = found.dump()[:, 4:7]
    assert np.abs(moved[silicon]).max() > 0
    assert not moved[~silicon].any()
