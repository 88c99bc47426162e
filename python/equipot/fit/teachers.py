"""Teachers: structures from dynamics with the mean of several models, labelled by that mean.

E = ⟨E_k⟩ and F = ⟨F_k⟩ over models k that differ by chance: what each of them errs by chance cancels, and a model that
learns E and F errs less than one that has the data alone (Hinton et al., arXiv:1503.02531).
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.io import write
from numpy.typing import NDArray

from equipot import EquipotError, _equipot
from equipot.data import DataSet, Structure, read_data
from equipot.data.progress import progress_bar
from equipot.files import write_file
from equipot.fit.checkpoint import WHERE_TO_GO_ON
from equipot.fit.objective import SHORTEST, graph_set
from equipot.fit.training_settings import TeacherSettings
from equipot.fit.walkers import Walkers, drawn, time_step
from equipot.modelfile import read_model

Array = NDArray[np.float64]

_PER_STRUCTURE = 4  # structures made for each to train on
_WALKERS, _ATOMS = 24, 1000  # at most so many walkers in step, and about so many atoms
_FRICTION = 0.02 / units.fs
_BEFORE, _BETWEEN, _PER_WALK = 60, 40, 8  # steps before the first structure of a walk and between them; how many
_MOST_SPREAD = 0.5  # of the teachers' forces, in units of the data's: beyond, they do not know
_TRIES = 10  # times the work that is needed if all walks end well


@dataclass
class Teachers:
    """Models that teach by their mean.

    Parameters
    ----------
    paths : sequence of path-like
        Their files, of one head each.
    precision : str
        "float64" or "mixed".
    """

    paths: Sequence[Path]
    precision: str = "mixed"

    def __post_init__(self) -> None:
        self._cutoffs: list[float] = []
        self._engines: list[_equipot.Trainer] = []
        self._species: list[set[int]] = []
        for path in self.paths:
            meta = read_model(path).meta
            if len(meta["heads"]) > 1:
                raise EquipotError(f"[teachers] models: '{path}' has several heads, and a teacher may have one.")
            self._cutoffs.append(float(meta["cutoff"]))
            self._species.append(set(meta["species"]))
            self._engines.append(_equipot.Trainer(str(path), meta["heads"][0], self.precision))

    @property
    def cutoff(self) -> float:
        """Å, of the graphs that `__call__` takes."""
        return self._cutoffs[0]

    def check_species(self, species: Sequence[int]) -> None:
        """Refuse species that one of them does not know."""
        for path, known in zip(self.paths, self._species, strict=True):
            foreign = ", ".join(chemical_symbols[z] for z in species if z not in known)
            if foreign:
                raise EquipotError(f"[teachers] models: '{path}' has no {foreign}, which the data have.")

    def __call__(self, graphs: Any, atoms: Sequence[Atoms]) -> Mapping[str, Array]:
        """Means and spread.

        Returns
        -------
        dict of numpy.ndarray
            "energy", shape (S,); "forces", shape (N, 3); "virial", shape (S, 3, 3); and "spread", shape (S,): root
            mean square over teachers and force components of what they differ by from the mean, eV/Å.
        """
        indices, found = np.arange(len(atoms), dtype=np.int64), []
        by_cutoff = {self.cutoff: graphs}
        for engine, cutoff in zip(self._engines, self._cutoffs, strict=True):
            if cutoff not in by_cutoff:
                by_cutoff[cutoff] = graph_set(atoms, cutoff)
            found.append(engine.evaluate(by_cutoff[cutoff], indices))
        mean = {name: np.mean([f[name] for f in found], axis=0) for name in ("energy", "forces", "virial")}
        squares = np.mean([(f["forces"] - mean["forces"]) ** 2 for f in found], axis=(0, 2))
        offsets = np.concatenate([[0], np.cumsum([len(a) for a in atoms])[:-1]])
        mean["spread"] = np.sqrt(np.add.reduceat(squares, offsets) / [len(a) for a in atoms])
        return mean


@dataclass(frozen=True)
class Taught:
    """A structure with the teachers' labels, and what the forces of each differ by from them, eV/Å."""

    structure: Structure
    spread: float


def teach(
    teachers: Teachers,
    dataset: Sequence[Structure],
    settings: TeacherSettings,
    seed: int,
    stopped: Callable[[], str] = lambda: "",
) -> list[Taught] | None:
    """Make structures that teachers label.

    Parameters
    ----------
    teachers : Teachers
        The models.
    dataset : sequence of Structure
        The training data, where walks begin; structures whose labels weigh nothing are left out.
    settings : TeacherSettings
        How many structures, and the temperatures.
    seed : int
        Of starts, velocities and the thermostat.
    stopped : callable
        Gives what asks to stop, or "".

    Returns
    -------
    list of Taught or None
        Structures with energies and forces, and with virials where the data have them; None when it was stopped.

    Raises
    ------
    EquipotError
        When the teachers agree on the forces of hardly any structure, or lack species.
    """
    pool = [i for i, s in enumerate(dataset) if len(s) > 1 and s.weight > 0 and s.forces is not None]
    if not pool:
        raise EquipotError("[teachers] there is no structure with forces and more than one atom to begin with.")
    teachers.check_species(sorted({int(z) for i in pool for z in dataset[i].atoms.numbers}))
    forces_scale = float(
        np.sqrt(np.mean(np.concatenate([np.ravel(f) for i in pool if (f := dataset[i].forces) is not None]) ** 2))
    )
    begin = drawn(dataset, pool, settings.temperatures)
    walkers = Walkers(begin, teachers.cutoff, SHORTEST, time_step(dataset, pool), _FRICTION)
    walkers.rng = np.random.default_rng([seed, 3])
    wanted = settings.structures or _PER_STRUCTURE * len(pool)
    atoms_each = sum(len(dataset[i]) for i in pool) / len(pool)
    count = int(np.clip(min(_ATOMS // atoms_each, wanted // _PER_WALK), 1, _WALKERS))
    walkers.all = [walkers.begin() for _ in range(count)]
    made: list[Taught] = []
    most_steps = _TRIES * (wanted / count / _PER_WALK + 1) * (_BEFORE + _PER_WALK * _BETWEEN)
    _, forces = walkers.evaluate(teachers)
    with progress_bar("dynamics with the teachers", wanted) as show:
        steps = 0
        while len(made) < wanted:
            steps += 1
            if stopped():
                return None
            if steps > most_steps:
                raise EquipotError(
                    f"The teachers disagree too much to teach: in {steps - 1} steps of dynamics they agreed on the "
                    f"forces of {len(made)} structures instead of {wanted}, to half of the forces of the data. Lower "
                    "[teachers] temperatures, or train them for longer."
                )
            found, forces = walkers.step(teachers, forces)
            anew = False
            for i, walker in enumerate(walkers.all):
                lost = not found["spread"][i] < _MOST_SPREAD * max(forces_scale, 1e-3)
                if not lost and walker.age >= _BEFORE and (walker.age - _BEFORE) % _BETWEEN == 0:
                    start = dataset[walker.place]
                    labelled = Structure(
                        walker.atoms,
                        float(found["energy"][i]),
                        forces[i].copy(),
                        found["virial"][i].copy() if start.virial is not None and start.atoms.cell.rank == 3 else None,
                        start.config_type,
                    )
                    made.append(Taught(labelled, float(found["spread"][i])))
                    walker.marks += 1
                if lost or walker.marks >= _PER_WALK:
                    walkers.all[i] = walkers.begin()
                    anew = True
            if anew:
                _, forces = walkers.evaluate(teachers)
            show(len(made))
    return made[:wanted]


def write_taught(path: Path, taught: Sequence[Taught]) -> None:
    """Write what teachers have labelled as extended XYZ, with the `spread` of each structure."""
    frames = []
    for one in taught:
        s = one.structure
        atoms = s.atoms.copy()
        atoms.info |= {"config_type": s.config_type, "spread": one.spread}
        labels = {"energy": s.energy, "forces": s.forces}
        if s.virial is not None:
            labels["stress"] = -s.virial / s.atoms.cell.volume
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    text = io.StringIO()
    write(text, frames, format="extxyz")
    write_file(path, text.getvalue(), WHERE_TO_GO_ON)


def read_taught(path: Path) -> DataSet:
    """Read what `write_taught` wrote."""
    return read_data([str(path)])
