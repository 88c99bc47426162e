"""Bad input: one clear sentence, once, and no crash, on one rank and on two."""
# SPDX-License-Identifier: MIT

import re
import struct

import numpy as np
import pytest
from models import random_model
from runner import ELEMENTS


def stops(lammps, script, *words, ranks=(1, 2)):
    for count in ranks:
        found = lammps(script, ranks=count, check=False)
        assert found.code != 0, found.text
        assert len(found.errors) == 1, found.text
        for word in words:
            assert word in found.errors[0], found.errors[0]
        assert not any(sign in found.text for sign in ("Segmentation", "terminate called", "Traceback", "Aborted"))
        assert "Loop time" not in found.text


@pytest.mark.parametrize(
    ("coeff", "words"),
    [
        ("* * {folder}/missing.equipot Si O", ["missing.equipot"]),
        ("* * {folder} Si O", []),
        ("* * {model} Si", ["names 1 element for 2 atom types", "Si O"]),
        ("* * {model} Si O O", ["names 3 elements for 2 atom types", "Si O"]),
        ("* * {model}", ["names 0 elements", "Si O"]),
        ("* * {model} Si Xx", ["atom type 2", "'Xx'", "has only: Si O"]),
        ("* * {model} Au O", ["atom type 1", "'Au'", "has only: Si O"]),
        ("* * {model} NULL NULL", ["NULL to every atom type"]),
        ("1 2 {model} Si O", ["* *"]),
        ("* *", []),
        ("* * {folder}/two_heads.equipot Si O", ["pbe", "scan"]),
    ],
)
def test_pair_coeff(lammps, start, model_folder, model, coeff, words):
    stops(lammps, start(coeff="pair_coeff " + coeff.format(folder=model_folder, model=model)) + "run 0\n", *words)


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("head nowhere", ["nowhere", "pbe", "scan"]),
        ("head", ["head", "needs a value"]),
        ("heads pbe", ["no option 'heads'", "head, precision, radial and device"]),
        ("head pbe device abacus", ['"gpu"', '"abacus"']),
        ("head pbe precision half", ["double, float or mixed", "'half'"]),
        ("head pbe radial cubic", ["splined or exact", "'cubic'"]),
    ],
)
def test_pair_style(lammps, start, model_folder, style, words):
    coeff = f"pair_coeff * * {model_folder}/two_heads.equipot Si O"
    stops(lammps, start(style=f"pair_style equipot {style}", coeff=coeff) + "run 0\n", *words)


def test_null_needs_a_hybrid_style(lammps, start, model):
    stops(lammps, start(coeff=f"pair_coeff * * {model} Si NULL") + "run 0\n", "pair coeffs are not set")


def test_no_pair_coeff(lammps, start):
    stops(lammps, start(coeff="") + "run 0\n", "pair coeffs are not set")


def test_new_model_without_a_setup(lammps, start, model):
    script = start() + f"run 0 post no\npair_coeff * * {model} Si O\nrun 1 pre no\n"
    for ranks in (1, 2):
        found = lammps(script, ranks=ranks, check=False)
        assert found.code != 0
        assert len(found.errors) == 1
        assert "leave out 'pre no'" in found.errors[0]


def test_newton_off(lammps, start):
    stops(lammps, start().replace("newton on", "newton off") + "run 0\n", "newton on")


@pytest.mark.parametrize("units", ["lj", "si", "electron"])
def test_units(lammps, start, units):
    stops(lammps, start(units=units) + "run 0\n", "units metal", "units real", f"units {units}")


def truncated(content):
    return content[: len(content) // 2]


def header_too_long(content):
    return struct.pack("<Q", 2**62) + content[8:]


def broken_header(content):
    return content[:8] + b"[" + content[9:]


def newer_version(content):
    # In the header the architecture is a JSON text within JSON; the length stays the same.
    changed = re.sub(rb'(\\"version\\": ?)1,', rb"\g<1>9,", content)
    assert changed != content
    return changed


def not_a_number(content):
    return content[:-800] + np.full(100, np.nan).tobytes()


def emptied(_):
    return b""


@pytest.mark.parametrize("damage", [truncated, header_too_long, broken_header, newer_version, not_a_number, emptied])
def test_damaged_file(lammps, start, model, damage):
    file = lammps.folder / "damaged.equipot"
    file.write_bytes(damage(model.read_bytes()))
    stops(lammps, start(coeff=f"pair_coeff * * {file} Si O") + "run 0\n", "damaged.equipot")


def test_atoms_at_the_same_place(lammps, start, boxes):
    atoms = boxes["bulk"].copy()
    atoms.positions[7] = atoms.positions[3]
    stops(lammps, start(atoms) + "run 0\n", "atom 4 ", "atom 8 ", "same place", "step 0", ranks=(1, 2, 4))


@pytest.mark.parametrize(
    ("precision", "advice"), [("double", "precision mixed"), ("mixed", "more devices, or a smaller")]
)
def test_device_without_enough_memory(lammps, tmp_path, precision, advice):
    random_model(tmp_path / "large.equipot", species=[14], channels=64, hidden_l=(3, 3), l_max=3, layers=3)
    # On the host, what a process may have is what its device has.
    script = tmp_path / "limited"
    script.write_text(f'#!/bin/sh\nulimit -v 2000000\nexec {lammps.lmp} "$@"\n')  # kB
    script.chmod(0o755)
    lammps.lmp = str(script)
    atoms = f"""
units metal
newton on
plugin load {lammps.plugin}
lattice diamond 5.43
region box block 0 24 0 24 0 24
create_box 1 box
create_atoms 1 box
mass 1 28
pair_style equipot device host precision {precision}
pair_coeff * * {tmp_path}/large.equipot Si
run 0
"""
    stops(lammps, atoms, "110592 atoms", "bytes each", "GB are free", advice)


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_box_far_too_thin(lammps, start, boxes, thin):
    """LAMMPS would make millions of images before it said anything."""
    atoms = boxes["bulk"][:1].copy()
    cell = np.array([[9.0, 0.0, 0.0], [2.0, 9.0, 0.0], [1.0, 1.0, 9.0]])
    cell[thin] *= 0.001
    atoms.set_cell(cell)
    atoms.positions[:] = 0.001
    stops(lammps, start(atoms, types=ELEMENTS, before="box tilt large") + "run 0\n", "too thin", f"along {'xyz'[thin]}")
