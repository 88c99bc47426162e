"""Settings of `kind = "train"`: a model of MACE's kind, trained end to end."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from equipot.fit.datasets import DataSettings, joined
from equipot.fit.settings import Settings, SettingsError, setting


@dataclass(frozen=True)
class ModelSettings(Settings):
    """The architecture of a model that starts from random weights.

    Attributes
    ----------
    cutoff : float
        Å. Every layer sees this far; two layers feel atoms up to twice as far.
    layers : int
        Message-passing layers.
    channels : int
        Features per atom and component. 16 is quick, 32 to 64 accurate for most data, 128 what large models use.
    l_max : int
        Largest degree of the spherical harmonics that describe neighbours.
    hidden_l : int
        Largest degree of the features between layers: 0 (fast), 1 or 2.
    correlation : int
        Correlation order ν: products of up to so many densities; 3 describes four bodies per layer.
    radial_functions : int
        Number of radial basis functions (Bessel), which the radial networks start from.
    envelope : int
        Exponent of the polynomial that takes them to zero at the cutoff.
    radial_widths : list of int
        Hidden widths of the radial networks; [] makes them linear maps.
    readout_width : int
        Hidden width of the last layer's readout; 0 makes it linear. The other layers' readouts are linear.
    transform : str
        "agnesi" is Agnesi's transform of distances, with radii half-way between one for all elements and their covalent
        radii: bonds are resolved finely, what lies beyond less so. Errors of molecules are lower, above all where they
        are hotter than the data; training takes a quarter longer where elements of several sizes meet. "none" uses
        distances as they are. Left out, it is "agnesi" with radial networks and "none" with linear maps.
    repulsion : bool
        Add the ZBL repulsion of nuclei for distances within the covalent radii, and keep the energy within some eV of
        what it should be in copies of structures that are compressed, have two atoms closer than in the data or a bond
        pulled apart: hot dynamics that leaves the data is pushed back instead of falling into a hole. Molecules, also
        those cut out of liquids, walk at 1500 K with the model as it becomes, and of crystals and melts one atom is put
        into the midst of others and let down: where its energy falls, it is kept up, too. Not used in fine-tuning.
    first_skip : bool
        Give the first layer a residual connection from the elements.
    shift : str
        "zero" leaves free atoms at their energies; "mean" starts from the mean energy of the data, which can train
        faster and lets contacts open more easily, but is wrong for free atoms and for bonds that part.
    """

    cutoff: float = setting(5.0, above=0.5, most=20.0)
    layers: int = setting(2, least=1, most=8)
    channels: int = setting(32, least=1, most=512)
    l_max: int = setting(3, least=0, most=4)
    hidden_l: int = setting(1, least=0, most=2)
    correlation: int = setting(3, least=1, most=4)
    radial_functions: int = setting(8, least=1, most=64)
    envelope: int = setting(5, least=2, most=20)
    radial_widths: tuple[int, ...] = setting((64, 64, 64), least=1, most=1024)
    readout_width: int = setting(16, least=0, most=1024)
    transform: Literal["none", "agnesi"] | None = setting(None, example='"none"')
    repulsion: bool = True
    first_skip: bool = False
    shift: Literal["zero", "mean"] = "zero"


@dataclass(frozen=True)
class StartSettings(Settings):
    """Where training starts, if not from random weights: fine-tuning.

    Attributes
    ----------
    model : str
        A `.equipot` file to start from; the section [model] is then not used.
    head : str
        The head of that model to train, needed if it has several; with `new_head`, the head to copy.
    new_head : str
        Add a head of this name for the new data, as a copy of `head`.
    atomic_energies : str
        "keep" takes the model's; "refit" corrects them by least squares to the new data (for another level of theory);
        "data" takes those of [data]. Left out, they are refitted, unless replayed data share the head.
    freeze : list of str
        Arrays that stay as they are, by the names of src/model/FORMAT.md; `layer.0.*` freezes the first layer.
    replay : list of str
        Files of older data to train on as well, so that what the model knew is not forgotten.
    replay_weight : float
        Weight of each of their structures in the loss.
    replay_head : str
        The head that they belong to; `head` if left out.
    """

    model: str | None = setting(None, example='"foundation.equipot"')
    head: str | None = setting(None, example='"Default"')
    new_head: str | None = setting(None, example='"mine"')
    atomic_energies: Literal["keep", "refit", "data"] | None = setting(None, example='"refit"')
    freeze: tuple[str, ...] = setting((), example='["layer.0.*"]')
    replay: tuple[str, ...] = ()
    replay_weight: float = setting(1.0, least=0.0)
    replay_head: str | None = setting(None, example='"Default"')


@dataclass(frozen=True)
class TeacherSettings(Settings):
    """Teachers: several models whose mean labels structures that the data lack, for the model to learn as well.

    Models that differ by chance err by chance: the mean of four errs less than any of them, and what learns from the
    mean costs as little to use as one. A run with four teachers takes six times the work of one without; they train
    side by side, as many at a time as there are threads.

    Attributes
    ----------
    count : int
        Teachers to train first, like the model but with other seeds; they stay in the run's folder. 0 trains none.
    models : list of str
        Model files that teach instead or as well. They must have the energies and forces of the data.
    temperatures : list of float
        K, of the dynamics with the teachers' mean that gives the structures, at the cells of the data: up to what the
        model will be used for.
    structures : int
        How many of them; four for each structure to train on if left out. Every epoch has as many of them as of the
        data, by turns.
    """

    count: int = setting(0, least=0, most=64)
    models: tuple[str, ...] = ()
    temperatures: tuple[float, ...] = setting((300.0, 600.0, 1000.0), above=0.0, most=1e5)
    structures: int | None = setting(None, least=1, example="2000")


@dataclass(frozen=True)
class LossSettings(Settings):
    """What is minimised: the sum of mean squared errors times these weights.

    Attributes
    ----------
    energy : float
        Weight of energies, eV per atom.
    forces : float
        Weight of force components, eV/Å.
    stress : float
        Weight of stress components, eV/Å³.
    energy_per_atom : bool
        False takes energies of whole structures instead.
    huber : float
        Errors beyond this (in the units above) count linearly instead of squared, so that outliers weigh less; 0 never.
    config_weights : table of float
        Factors for structures by config_type.
    """

    energy: float = setting(10.0, least=0.0)
    forces: float = setting(100.0, least=0.0)
    stress: float = setting(1000.0, least=0.0)
    energy_per_atom: bool = True
    huber: float = setting(0.0, least=0.0)
    config_weights: dict[str, float] = setting({}, least=0.0, example="{ default = 1.0, surface = 2.0 }")


@dataclass(frozen=True)
class OptimizerSettings(Settings):
    """How it is minimised.

    Attributes
    ----------
    algorithm : str
        "muon": orthogonal steps for weights that are matrices, and AMSGrad for the others; "amsgrad", "adam", "adamw"
        (weight decay apart from the gradient) for all; or "lbfgs": all data at once, for small models and data sets.
    learning_rate : float
        Step of the weights, each in units of its normalisation.
    batch_size : int
        Structures per step. Few of them mean many steps for the same work: molecules of 27 atoms were fitted better by
        two at a time than by five.
    batch_atoms : int
        Atoms per step instead: structures are added to a batch until it has this many.
    schedule : str
        Of the learning rate: "cosine" (falls smoothly to `final_rate`), "exponential" (falls to it by a constant factor
        per step), "plateau" (is multiplied by `plateau_factor` after `plateau_patience` validations without
        improvement), "constant".
    final_rate : float
        Learning rate at the end as a part of that at the beginning.
    plateau_factor, plateau_patience : float, int
        Of the schedule "plateau".
    warmup_steps : int
        Steps over which the learning rate rises from zero.
    weight_decay : float
        Pull of weights to zero.
    decay_on : list of str
        Arrays that it acts on, by name.
    clip : float
        Longest gradient; longer ones are shortened. 0 never.
    average : float
        Decay of the running average of the weights, which is what is validated and saved; 0 takes the weights as they
        are.
    """

    algorithm: Literal["muon", "amsgrad", "adam", "adamw", "lbfgs"] = "muon"
    learning_rate: float = setting(0.02, above=0.0, most=10.0)
    batch_size: int = setting(2, least=1)
    batch_atoms: int | None = setting(None, least=1, example="200")
    schedule: Literal["cosine", "exponential", "plateau", "constant"] = "cosine"
    final_rate: float = setting(0.01, above=0.0, most=1.0)
    plateau_factor: float = setting(0.8, above=0.0, below=1.0)
    plateau_patience: int = setting(20, least=1)
    warmup_steps: int = setting(0, least=0)
    weight_decay: float = setting(5e-7, least=0.0)
    decay_on: tuple[str, ...] = ("layer.*.mix.*", "layer.*.product.*", "layer.*.skip.*")
    clip: float = setting(10.0, least=0.0)
    average: float = setting(0.995, least=0.0, below=1.0)


@dataclass(frozen=True)
class SecondPhaseSettings(Settings):
    """The last part of training, with energies weighing more and smaller steps.

    Attributes
    ----------
    share : float
        Part of the epochs that belong to it; 0 leaves it out. It is not used by "lbfgs".
    learning_rate : float
        At its beginning.
    energy, forces, stress : float
        Weights of the loss.
    """

    share: float = setting(0.25, least=0.0, most=1.0)
    learning_rate: float = setting(2e-3, above=0.0, most=10.0)
    energy: float = setting(1000.0, least=0.0)
    forces: float = setting(100.0, least=0.0)
    stress: float = setting(1000.0, least=0.0)


@dataclass(frozen=True)
class RefinementSettings(Settings):
    """The last step of training: energies are refined, forces and stresses stay as they are.

    Attributes
    ----------
    steps : int
        At most so many, each of which takes about as long as two or three epochs; they end as soon as errors of the
        validation set, without which there are none, are not surely lower. 0 leaves them out.
    """

    steps: int = setting(10, least=0)


@dataclass(frozen=True)
class TrainSettings(Settings):
    """Everything that decides a training run.

    Attributes
    ----------
    kind : str
        "train" fits a model of MACE's kind by gradient descent.
    folder : str
        The run's folder, made new; the settings file's name without its ending if left out.
    seed : int
        Of initial weights, splitting and shuffling. The same seed, settings and threads give the same bits.
    epochs : int
        Passes through the training data; 0 only refines the energies of the model in [start].
    patience : int
        Stop after this many validations in a row without improvement; 0 never.
    max_hours : float
        Stop after this time, teachers and all, as Ctrl-C would, with checkpoint and report; a resumed run continues.
    validate_every : int
        Epochs between validations.
    checkpoint_minutes : float
        Time between checkpoints, from which a run that was killed resumes.
    threads : int
        Threads; 0 takes OMP_NUM_THREADS, else all cores.
    precision : str
        "float64", or "mixed": single precision per edge and atom, double for weights, sums and results.
    data : section
        Where the data lie and how they are read. Paths are relative to this file.
    model : section
        The architecture of a model that starts from random weights.
    start : section
        Fine-tuning: start from a model file.
    teachers : section
        Teachers: several models whose mean labels structures that the data lack.
    loss : section
        What is minimised: mean squared errors times these weights.
    optimizer : section
        How it is minimised.
    second_phase : section
        The last part of training, with energies weighing more.
    refinement : section
        The last step of training: energies are refined.
    """

    data: DataSettings
    kind: Literal["train"] = setting("train", shown=True)
    folder: str | None = setting(None, example='"run"')
    seed: int = setting(1, least=0)
    epochs: int = setting(300, least=0)
    patience: int = setting(0, least=0)
    max_hours: float | None = setting(None, above=0.0, example="8.0")
    validate_every: int = setting(1, least=1)
    checkpoint_minutes: float = setting(5.0, least=0.0)
    threads: int = setting(0, least=0, most=512)
    precision: Literal["float64", "mixed"] = "float64"
    model: ModelSettings = setting(ModelSettings)
    start: StartSettings = setting(StartSettings)
    teachers: TeacherSettings = setting(TeacherSettings)
    loss: LossSettings = setting(LossSettings)
    optimizer: OptimizerSettings = setting(OptimizerSettings)
    second_phase: SecondPhaseSettings = setting(SecondPhaseSettings)
    refinement: RefinementSettings = setting(RefinementSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        start, loss = self.start, self.loss
        if start.model is None:
            for name in ("head", "new_head", "freeze", "replay", "replay_head"):
                if getattr(start, name):
                    raise SettingsError(f"[start] {name} needs a model to start from: set [start] model.")
        if self.taught and start.model is not None:
            raise SettingsError("[teachers] are for models that start from random weights: leave [start] model out.")
        if self.taught and not self.teachers.temperatures:
            raise SettingsError("[teachers] temperatures names none.")
        if self.epochs == 0 and start.model is None:
            raise SettingsError("epochs = 0 trains nothing: it is for refining the model of [start].")
        if loss.energy == loss.forces == loss.stress == 0:
            raise SettingsError("[loss] has no weight above zero: nothing would be learned.")
        second = self.second_phase
        if second.share > 0 and second.energy == second.forces == second.stress == 0:
            raise SettingsError("[second_phase] has no weight above zero: nothing would be learned.")

    def relative_to(self, folder: Path) -> TrainSettings:
        """The same settings with all paths taken as relative to `folder`."""
        start = replace(
            self.start,
            model=os.path.abspath(folder / self.start.model) if self.start.model else None,
            replay=joined(folder, self.start.replay),
        )
        return replace(
            self,
            data=self.data.relative_to(folder),
            start=start,
            teachers=replace(self.teachers, models=joined(folder, self.teachers.models)),
            folder=str(folder / self.folder) if self.folder else None,
        )

    @property
    def taught(self) -> bool:
        """Whether there are teachers."""
        return self.teachers.count > 0 or len(self.teachers.models) > 0

    @property
    def first_epochs(self) -> int:
        """Epochs before the second phase."""
        if self.optimizer.algorithm == "lbfgs":
            return self.epochs
        return self.epochs - round(self.epochs * self.second_phase.share)
