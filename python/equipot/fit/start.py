"""The model that training starts from: new with random weights, or a model file to be fine-tuned."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from equipot import EquipotError, _equipot
from equipot.data import DataSet, atomic_energies, binding_energies, read_data
from equipot.data.structures import evenly
from equipot.fit.architecture import add_head, new_model, quieter
from equipot.fit.bonds import is_covalent, sample
from equipot.fit.cohesion import cohesive_energy
from equipot.fit.datasets import DataSets
from equipot.fit.display import Watcher
from equipot.fit.losses import Labels
from equipot.fit.objective import Graphs, Objective, Source, Weighted
from equipot.fit.settings import advice
from equipot.fit.training_settings import TrainSettings
from equipot.modelfile import ModelFile, read_model, write_model

_SAMPLE, _TRIES = 20, 5  # structures; sizes of the first sums over neighbours
_COARSE = 0.5  # meV/atom, and for forces ten times as much, meV/Å
_OF_THE_FIT = ("title", "description", "data", "errors", "fit", "range", "seen", "training")


@dataclass
class Start:
    """What training starts from.

    Attributes
    ----------
    model : ModelFile
        The model, which also lies in `path`.
    path : pathlib.Path
        Its file in the run's folder.
    head : str
        The head that is trained.
    """

    model: ModelFile
    path: Path
    head: str

    @property
    def row(self) -> int:
        """Where the arrays have the head."""
        return list(self.model.meta["heads"]).index(self.head)

    def column(self, z: int) -> int:
        """Where the arrays have a species."""
        return list(self.model.meta["species"]).index(z)


def cutoff_of(settings: TrainSettings) -> float:
    """Å; of the model that will be trained."""
    path = settings.start.model
    return settings.model.cutoff if path is None else float(read_model(path).meta["cutoff"])


def begin(settings: TrainSettings, data: DataSets, path: Path, train: Source, display: Watcher) -> Start:
    """Make the model that training starts from and write it to `path`.

    Parameters
    ----------
    settings : TrainSettings
        Of the run.
    data : DataSets
        Of the run.
    path : pathlib.Path
        Where the model goes.
    train : Source
        The training data; it gets the name of the head.
    display : Display
        Is told what is done.
    """
    if settings.start.model is None:
        free, scale = free_atoms(settings, data), _force_scale(train.labels)
        energies = data.atomic_energies | free
        if free:
            names = " ".join(chemical_symbols[z] for z in free)
            display.note(f"Free atoms of {names} are not in the data: they are placed above it by cohesive energies.")
        model = new_model(
            data.train.species,
            settings.model,
            energies,
            average_neighbors=train.graphs.average_neighbors,
            scale=scale,
            shift=_mean_binding(data.train, energies) if settings.model.shift == "mean" else 0.0,
            seed=settings.seed,
        )
        start = Start(_quiet(model, path, train, scale), path, "Default")
        train.head = start.head
        if data.estimated and not free:
            _refit(start, data.train, train, {z: 0.0 for z in data.train.species if z not in data.estimated})
    else:
        start = _fine_tuned(settings, data, path, train, display)
    write_model(start.model, path)
    if settings.start.model is not None and settings.precision == "mixed":
        _check_precision(start, train)
    return start


def _quiet(model: ModelFile, path: Path, train: Source, scale: float) -> ModelFile:
    """The loudest model whose forces are no larger than those of the data, eV/Å, or that whose sums are means."""
    graphs, places = train.graphs.batch(evenly(len(train.labels), _SAMPLE))
    for part in np.linspace(0, 1, _TRIES):
        quiet = quieter(model, max(train.graphs.average_neighbors, 1.0) ** (-0.5 * float(part)))
        write_model(quiet, path)
        forces = _equipot.Trainer(str(path), "Default", "float64").evaluate(graphs, places)["forces"]
        if np.sqrt(np.mean(np.square(forces))) < scale:
            break
    return quiet


def _check_precision(start: Start, train: Source) -> None:
    """Refuse models whose terms cancel so much, as those of linear fits may, that mixed precision is lost in them."""
    indices = np.arange(min(len(train.labels), 5))
    graphs, places = train.graphs.batch(indices)
    double, mixed = (
        _equipot.Trainer(str(start.path), start.head, precision).evaluate(graphs, places)
        for precision in ("float64", "mixed")
    )
    energy = 1e3 * np.abs((mixed["energy"] - double["energy"]) / train.labels.atoms[indices]).max(initial=0.0)
    force = 1e3 * np.abs(mixed["forces"] - double["forces"]).max(initial=0.0)
    if energy > _COARSE or force > 10 * _COARSE:
        raise EquipotError(
            f'precision = "mixed" is too coarse for training the model of [start]: energies differ by {energy:.3g} '
            f'meV/atom and forces by {force:.3g} meV/Å from float64. Set precision = "float64".'
        )


def again(settings: TrainSettings, path: Path) -> Start:
    """Read the model that a run has started from."""
    model = read_model(path)
    return Start(model, path, _head_of(model, settings.start.new_head or settings.start.head))


def free_atoms(settings: TrainSettings, data: DataSets) -> dict[int, float]:
    """Energies of free atoms of metals and other solids, eV, where the data have none: by cohesive energies higher.

    Counted from the mean of its data a model would be left without cohesion: melts would boil far too early.
    """
    if not data.estimated or settings.start.model is not None or settings.model.shift == "mean":
        return {}
    lifted = {z: cohesive_energy([z]) for z in sorted(data.estimated)}
    solid = all(s.atoms.pbc.all() for s in data.train) and not any(map(is_covalent, sample(data.train)))
    if not solid or not all(lifted.values()):
        return {}
    return {z: data.atomic_energies[z] + energy for z, energy in lifted.items() if energy is not None}


def free_energies(settings: TrainSettings, data: DataSets, start: Start) -> NDArray[np.bool_]:
    """Entries of `energy.e0` that training may change: those of a new model that are only estimated."""
    free = np.zeros(start.model.arrays["energy.e0"].shape, dtype=bool)
    if settings.start.model is None and settings.loss.energy > 0 and not free_atoms(settings, data):
        free[start.row, [start.column(z) for z in data.estimated]] = True
    return free


def replayed(settings: TrainSettings, start: Start, display: Watcher) -> tuple[DataSet, Source]:
    """Read the older data to be trained on as well, with the head that they belong to."""
    chosen = settings.start
    older = [h for h in start.model.meta["heads"] if h != chosen.new_head]
    head = _head_of(start.model, chosen.replay_head or chosen.head or (older[0] if len(older) == 1 else None))
    data = read_data(list(chosen.replay), **settings.data.keys)
    _check_species(start.model, data, "the replayed data have")
    labels = Labels.of(data)
    labels.weight *= chosen.replay_weight
    display.note(f"Replay: {data!r} of the head '{head}' with weight {chosen.replay_weight:g}.")
    return data, Source(labels, Graphs(data, float(start.model.meta["cutoff"])), head)


def _fine_tuned(settings: TrainSettings, data: DataSets, path: Path, train: Source, display: Watcher) -> Start:
    chosen = settings.start
    model = read_model(str(chosen.model))
    copied = head = _head_of(model, chosen.head)
    _check_species(model, data.train, "the data have")
    if chosen.new_head is not None:
        if not chosen.replay:
            others = ", ".join(f"'{h}'" for h in model.meta["heads"])
            display.note(
                f"Other heads ({others}) share the weights that are trained, and will not stay what they were: replay "
                "their data as well ([start] replay) if they are to be used."
            )
        model, head = add_head(model, chosen.new_head, copied), chosen.new_head
    start = Start(model, path, head)
    train.head = head
    shares_head = bool(chosen.replay) and (chosen.replay_head or copied) == head
    how = chosen.atomic_energies or ("keep" if shares_head else "refit")
    if how == "data":
        for z, energy in data.atomic_energies.items():
            model.arrays["energy.e0"][start.row, start.column(z)] = energy
    elif how == "refit":
        for z, energy in _refit(start, data.train, train, {}).items():
            display.note(f"Energy of {chemical_symbols[z]} corrected by {energy:+.4f} eV.")
    title = model.card.get("title", Path(str(chosen.model)).name)
    # What is known of the older model does not hold for the new one.
    kept = {name: value for name, value in model.card.items() if name not in _OF_THE_FIT}
    model.meta["card"] = {"title": f"{title}, fine-tuned", **kept, "origin": f"fine-tuned from '{title}'"}
    for name in [name for name in model.arrays if name.startswith("posterior.")]:
        del model.arrays[name]
    return start


def _refit(start: Start, data: DataSet, train: Source, fixed: Mapping[int, float]) -> dict[int, float]:
    """Correct atomic energies of a model so that it is right on average; give the corrections."""
    write_model(start.model, start.path)  # for the engine; it is written again with the new energies
    engine = Weighted(start.model, start.path, [start.head], {}, {"embedding"})
    predicted = Objective(engine, [train]).predict(0, engine.start)["energy"]
    residual = DataSet(
        [replace(s, energy=s.energy - float(e)) for s, e in zip(data, predicted, strict=True) if s.energy is not None]
    )
    if not len(residual):
        return {}
    corrections = atomic_energies(residual, fixed)[0]
    for z, energy in corrections.items():
        start.model.arrays["energy.e0"][start.row, start.column(z)] += energy
    return corrections


def _head_of(model: ModelFile, name: str | None) -> str:
    heads = [str(h) for h in model.meta["heads"]]
    if name is None:
        if len(heads) > 1:
            raise EquipotError(f"[start] head: the model has several heads, name one of {', '.join(heads)}.")
        return heads[0]
    if name not in heads:
        end = advice(name, heads, f"it has {', '.join(heads)}")
        raise EquipotError(f"[start] head: the model has no head '{name}'{end}")
    return name


def _check_species(model: ModelFile, data: DataSet, whose: str) -> None:
    foreign = [z for z in data.species if z not in model.meta["species"]]
    if foreign:
        known = ", ".join(chemical_symbols[z] for z in model.meta["species"])
        missing = ", ".join(chemical_symbols[z] for z in foreign)
        raise EquipotError(f"The model to start from knows {known}; {whose} {missing} as well, which it cannot learn.")


def _force_scale(labels: Labels) -> float:
    """Root mean square of the force components; 1 eV/Å where there are none."""
    known = labels.forces[~np.isnan(labels.forces)]
    rms = float(np.sqrt(np.mean(known**2))) if known.size else 0.0
    return rms if rms > 1e-6 else 1.0


def _mean_binding(data: DataSet, energies: Mapping[int, float]) -> float:
    binding = binding_energies(data, energies)
    binding = binding[np.isfinite(binding)]
    return float(binding.mean()) if binding.size else 0.0
