"""What people do with a potential: dynamics, minimisation, rerun, restarts, per-atom quantities, heat fluxes."""
# SPDX-License-Identifier: MIT

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from models import random_model
from runner import CONSTANT_ENERGY, EVERYTHING, NUMBERS, close

import equipot

THERMO = "thermo_style custom step pe etotal pxx pyy pzz pxy pxz pyz vol\nthermo_modify format float %.17g norm no\n"


def test_example_of_the_manual(lammps, monkeypatch):
    """The input that the plugin's README opens with, shortened; the model is found through LAMMPS_POTENTIALS."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "potentials" / "Si.equipot").exists():
        pytest.skip("potentials/Si.equipot is not there")
    monkeypatch.setenv("LAMMPS_POTENTIALS", str(root / "potentials"))
    script = (root / "lammps_plugin" / "README.md").read_text().split("```")[1]
    script = script.replace("run           5000", "run 10")
    found = lammps(f"plugin load {lammps.plugin}\n" + script, ranks=2)
    assert "1 = Si" in found.text
    assert len(found.thermo["Temp"]) == 2


def test_prints_once_what_runs(lammps, start, model):
    found = lammps(start() + "run 0\nrun 0\n", ranks=2)
    summary = [line for line in found.text.splitlines() if line.startswith("pair equipot: ")]
    assert len(summary) == 1
    assert str(model) in summary[0]
    for words in ("1 = Si, 2 = O", "2 layers", "layers, cutoff", "double", "1 thread", "radial functions: splined"):
        assert found.text.count(words) == 1, words


@pytest.mark.parametrize("ranks", [1, 2])
def test_prints_what_a_device_needs(lammps, start, boxes, ranks):
    found = lammps(start(style="pair_style equipot device host") + "run 0\nrun 0\n", ranks=ranks)
    line = r"equipot: (\d+) atoms( of 2 ranks)? need about (\S+) GB of the device's memory, (\d+) bytes each; (\S+) GB"
    ((atoms, sharing, gigabytes, each, free),) = re.findall(line, found.text)
    assert int(atoms) == len(boxes["bulk"])
    assert bool(sharing) == (ranks == 2)
    # Features of 4 channels, padded to 32, and their adjoints, in double; neighbours and halo come on top.
    assert 2 * 4 * 32 * 8 < int(each) < 1e5
    assert float(gigabytes) == pytest.approx(int(atoms) * int(each) * 1e-9, rel=0.01)  # three digits
    assert float(gigabytes) < float(free)


def test_energy_is_conserved(lammps, start):
    found = lammps(start() + THERMO + CONSTANT_ENERGY)
    total = found.thermo["TotEng"]
    exchanged = np.ptp(found.thermo["PotEng"])
    assert np.ptp(total) < 1e-3 * exchanged


def test_neighbour_settings_do_not_matter(lammps, start):
    dynamics = "velocity all create 900 3 loop geom\nfix 1 all nve\ntimestep 0.0005\nthermo 10\n" + THERMO
    settings = [
        "neighbor 0.3 bin\nneigh_modify every 1 delay 0 check no",
        "neighbor 1.5 bin\nneigh_modify every 5 delay 10 check yes",
        "neighbor 1.0 nsq\nneigh_modify every 1 delay 0 check yes",
        "neighbor 2.0 bin\nneigh_modify once yes",
        "neighbor 0.5 bin\ncomm_modify cutoff 9.0",
        "neighbor 0.5 bin\nnewton on\natom_modify sort 0 0.0",
    ]
    scripts = [start() + setting + "\n" + dynamics + "run 20\n" for setting in settings]
    energies = [lammps(script, ranks=2).thermo["PotEng"] for script in scripts]
    for other in energies[1:]:
        close(other, energies[0], 1e-9)


@pytest.mark.parametrize("box", ["bulk", "tilted"])
def test_minimise_and_relax(lammps, start, box):
    script = start(box) + THERMO + "min_modify dmax 0.02\nminimize 0 1e-3 10 60\n"
    relax = "fix 1 all box/relax iso 0.0 vmax 0.001\n" if box == "bulk" else "fix 1 all box/relax tri 0.0 vmax 0.001\n"
    runs = [lammps(script + relax + "minimize 0 1e-3 5 60\n", ranks=ranks) for ranks in (1, 2)]
    for run in runs:
        energy = run.thermo["PotEng"]
        assert energy[1] < energy[0]
    close(runs[1].thermo["PotEng"], runs[0].thermo["PotEng"], 1e-8)
    close(runs[1].thermo["Volume"], runs[0].thermo["Volume"], 1e-8)


def test_rerun(lammps, start):
    script = start() + THERMO
    dynamics = "velocity all create 600 5 loop geom\nfix 1 all nve\ntimestep 0.0005\nthermo 5\n"
    frames = "dump d all custom 5 {} id type x y z\ndump_modify d sort id format float %.17g\n"
    file = lammps.folder / "frames.txt"
    first = lammps(script + dynamics + frames.format(file) + "run 20\n")
    again = lammps(script + f"thermo 5\nrerun {file} dump x y z\n", ranks=2)
    close(again.thermo["PotEng"], first.thermo["PotEng"], 1e-9)


def test_restart(lammps, start, model):
    file = lammps.folder / "state.restart"
    first = lammps(start("tilted") + f"run 0\nwrite_restart {file}\n" + EVERYTHING)
    read = f"plugin load {lammps.plugin}\nread_restart {file}\n"
    second = lammps(read + f"pair_style equipot\npair_coeff * * {model} Si O\n" + EVERYTHING, ranks=2)
    close(second.forces, first.forces)
    forgotten = lammps(read + "run 0\n", check=False)
    assert forgotten.code != 0
    assert "equipot stores no restart info" in forgotten.text
    assert len(forgotten.errors) == 1


def test_model_can_be_changed_between_runs(lammps, start, boxes, model_folder):
    found = lammps(start() + THERMO + f"run 0\npair_coeff * * {model_folder}/other.equipot Si O\nrun 0\n", ranks=2)
    for k, name in enumerate(["default", "other"]):
        potential = equipot.load(model_folder / f"{name}.equipot")
        close(found.thermo["PotEng"][k], potential.compute(boxes["bulk"], ("energy",))["energy"])


def test_options(lammps, start, boxes, model_folder):
    file = model_folder / "two_heads.equipot"
    for head in ("pbe", "scan"):
        style = f"pair_style equipot head {head} radial exact"
        found = lammps(start(style=style, coeff=f"pair_coeff * * {file} Si O") + EVERYTHING)
        expected = equipot.load(file, head=head, radial="exact").compute(boxes["bulk"], ("energy", "forces"))
        close(found.energy, expected["energy"])
        close(found.forces, expected["forces"])
        assert f"head {head}" in found.text
        assert "radial functions: exact" in found.text


def test_fix_pair(lammps, start, boxes, model):
    expected = equipot.load(model).compute(boxes["bulk"], ("energies", "features"))
    width = expected["features"].shape[1]
    found = lammps(
        start()
        + f"""
fix e all pair 1 equipot energy 0
fix h all pair 2 equipot features 1
variable e atom f_e
dump d all custom 1 dump.txt id f_e f_h[1] f_h[{width}]
dump_modify d sort id format float %.17g
run 0
""",
        ranks=2,
    )
    close(found.dump()[:, 1], expected["energies"])
    close(found.dump()[:, 2], expected["features"][:, 0])
    close(found.dump()[:, 3], expected["features"][:, -1])


def test_features_of_another_model(lammps, start, model, tmp_path):
    """A fix pair from before a pair_coeff would read as many features as the old model has."""
    random_model(tmp_path / "wide.equipot", species=NUMBERS, seed=4, channels=7)
    fix = "fix h all pair 1 equipot features 1\nrun 0\n"
    other = f"pair_coeff * * {tmp_path / 'wide.equipot'} Si O\nfix 1 all nve\nrun 1\n"
    found = lammps(start() + fix + other, check=False)
    assert found.code != 0
    assert "define it after" in found.errors[0]
    lammps(start() + fix + "unfix h\n" + other + fix)


def test_features_without_their_trigger(lammps, start):
    found = lammps(start() + "fix h all pair 1 equipot features 0\nrun 0\n", check=False)
    assert found.code != 0
    assert len(found.errors) == 1
    assert "features" in found.errors[0]


HEAT = """
velocity all create 800 29 loop geom
compute ke all ke/atom
compute pe all pe/atom
compute w all centroid/stress/atom NULL virial
compute j all heat/flux ke pe w
thermo_style custom step c_j[1] c_j[2] c_j[3]
thermo_modify format float %.17g norm no
dump d all custom 1 dump.txt id mass x y z vx vy vz
dump_modify d sort id format float %.17g
run 0
"""


def test_heat_flux_moves_energy(lammps, start, boxes, tmp_path):
    """The flux of a cluster is the rate of change of sum_i x_i e_i, for a model of one layer exactly."""
    file = tmp_path / "one_layer.equipot"
    random_model(file, species=NUMBERS, layers=1, seed=4)
    atoms = boxes["cluster"].copy()
    atoms.pbc = False
    script = start("cluster", boundary="f f f", coeff=f"pair_coeff * * {file} Si O") + HEAT
    found = lammps(script, ranks=2)
    flux = np.array([found.thermo[f"c_j[{k}]"][-1] for k in (1, 2, 3)])

    data = found.dump()
    mass, x, v = data[:, 1:2], data[:, 2:5], data[:, 5:8]
    mvv = 1.0364269e-4  # LAMMPS's mvv2e of `units metal`: amu (A/ps)^2 in eV
    potential = equipot.load(file)
    atoms.positions = x
    acceleration = potential.compute(atoms, ("forces",))["forces"] / (mass * mvv)

    def moment(time):
        atoms.positions = x + time * v
        energies = potential.compute(atoms, ("energies",))["energies"]
        energies = energies + 0.5 * mvv * mass[:, 0] * ((v + time * acceleration) ** 2).sum(axis=1)
        return energies @ (atoms.positions - x.mean(axis=0))

    step = 1e-5
    rate = (8 * (moment(step) - moment(-step)) - (moment(2 * step) - moment(-2 * step))) / (12 * step)
    close(flux, rate, 1e-6)


def test_heat_flux_on_ranks(lammps, start):
    fluxes = [
        np.array([run.thermo[f"c_j[{k}]"][-1] for k in (1, 2, 3)])
        for run in (lammps(start() + HEAT, ranks=ranks) for ranks in (1, 2, 4))
    ]
    for flux in fluxes[1:]:
        close(flux, fluxes[0])


def test_constant_pressure(lammps, start):
    """A box that changes shape during the run, on one rank and on four."""
    script = start("tilted") + THERMO
    dynamics = """
velocity all create 300 31 loop geom
fix 1 all npt temp 300 300 0.05 tri 0 0 0.5
timestep 0.0005
neigh_modify every 1 delay 0 check yes
thermo 10
run 30
"""
    runs = [lammps(script + dynamics, ranks=ranks) for ranks in (1, 4)]
    close(runs[1].thermo["PotEng"], runs[0].thermo["PotEng"], 1e-8)
    close(runs[1].thermo["Volume"], runs[0].thermo["Volume"], 1e-8)


def test_no_atoms(lammps, start, boxes, model):
    for ranks in (1, 2):
        found = lammps(start() + "delete_atoms group all\n" + THERMO + "run 2\n", ranks=ranks)
        assert found.energy == 0.0


def test_one_atom(lammps, start, boxes, model):
    atoms = boxes["cluster"][:1]
    found = lammps(start(atoms) + EVERYTHING, ranks=2)
    close(found.energy, equipot.load(model).compute(atoms, ("energy",))["energy"])
    assert not found.forces.any()


@pytest.mark.parametrize("ranks", [1, 3])
def test_atoms_that_change_type(lammps, start, ranks):
    """Swapping elements in the middle of a run, between two builds of the neighbour list."""
    found = lammps(
        start()
        + THERMO
        + """
fix s all atom/swap 1 4 99 20000.0 types 1 2 ke no
thermo 1
run 5
run 0
""",
        ranks=ranks,
    )
    energies = found.thermo["PotEng"]
    assert len(set(energies[:6])) > 1
    close(energies[-1], energies[-2])


def test_a_flat_box_of_a_run_in_two_dimensions(lammps, start, model):
    """It has no images along z, so that it may be as thin as LAMMPS likes."""
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2) * 3.0
    positions = np.column_stack([grid + np.random.default_rng(4).uniform(0.1, 0.6, grid.shape), np.zeros(16)])
    flat = Atoms("Si8O8", positions=positions, cell=[12.0, 12.0, 0.2], pbc=True)
    script = start(flat, before="dimension 2")
    data = lammps.folder / "atoms.data"
    data.write_text(re.sub(r"\S+ \S+ zlo zhi", "-0.1 0.1 zlo zhi", data.read_text()))
    found = lammps(script + EVERYTHING)
    flat.pbc = [True, True, False]
    close(found.forces, equipot.load(model).compute(flat, ["forces"])["forces"])


def test_a_file_found_elsewhere_is_named(lammps, start, model, monkeypatch):
    """LAMMPS looks for a missing file in LAMMPS_POTENTIALS, without its folder."""
    monkeypatch.setenv("LAMMPS_POTENTIALS", str(model.parent))
    found = lammps(start(coeff=f"pair_coeff * * elsewhere/{model.name} Si O") + "run 0\n")
    assert f"there is no file elsewhere/{model.name}" in found.text
    assert f"pair equipot: {model}" in found.text


def test_memory_of_what_is_between_layers_is_told(lammps, start, boxes):
    """It is most of what a run takes, and grows with the atoms."""
    found = [lammps(start() + f"replicate {n} 1 1\nrun 1\n").text for n in (1, 8)]
    ((small,), (large,)) = [re.findall(r"Per MPI rank memory allocation .* = ([\d.]+)", text) for text in found]
    # Scalars and vectors of 4 channels in double, padded to 2 to 16: features, their adjoints and A at least.
    assert float(large) - float(small) > 7 * len(boxes["bulk"]) * 2 * 4 * 4 * 8 / 2**20
