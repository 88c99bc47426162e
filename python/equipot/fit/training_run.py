"""One run of training: the model, the data, where it stands, and what it writes."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from equipot import EquipotError, __version__
from equipot.data import DataSet
from equipot.data.structures import counted
from equipot.files import finite
from equipot.fit.architecture import matches, parameter_scales, scales_as_drawn, trainable
from equipot.fit.bonds import bonds_of_an_atom
from equipot.fit.datasets import DataSets
from equipot.fit.display import Watcher
from equipot.fit.guards import Guard, by_species, guards, shortest_by_bonds, unbound
from equipot.fit.holes import solid_searches
from equipot.fit.hot_walks import HotWalks
from equipot.fit.losses import Errors, Labels, Weights
from equipot.fit.molecules import molecules
from equipot.fit.objective import SHORTEST, Graphs, Indices, NotFiniteError, Objective, Source, Weighted, batches
from equipot.fit.optimizers import Average, Optimizer, Schedule, Stop, lbfgs
from equipot.fit.refinement import refined
from equipot.fit.runfolder import RunFolder
from equipot.fit.searches import Search
from equipot.fit.settings import advice, to_dict
from equipot.fit.start import again, begin, cutoff_of, free_energies, replayed
from equipot.fit.teachers import read_taught
from equipot.fit.training_settings import TrainSettings
from equipot.modelfile import read_model, write_model
from equipot.units import FROM_LOG

Array = NDArray[np.float64]

_LEAST_GUARDS, _MOST_GUARDS = 160, 4000  # otherwise half as many as structures
# What a guard missed by its tolerance counts as, eV/Å: where atoms have few bonds, which leave room for all that the
# data do not have, and where they have many. Metals keep out of holes with less, and more costs their errors a fifth.
_COUNTS_OPEN, _COUNTS_DENSE, _MANY_BONDS = 0.01, 0.003, 6.0
# Guards take turns among the epochs, which have one for so many structures, or guards where these are more, but some.
_STRUCTURES_PER_GUARD, _LEAST_AT_ONCE = 8, 4
# Rounds of searches for holes, after the first epochs; their evaluations as a part of those of training, which cost ten
# times as much each; and at most so many in one round.
_WALKS, _WALK_AFTER, _WALK_SHARE, _LONGEST_WALK = 40, 0.15, 1.5, 10000


class TrainingRun:
    """One run: the model, the data, and where the training stands."""

    def __init__(
        self,
        settings: TrainSettings,
        data: DataSets,
        folder: RunFolder,
        display: Watcher,
        stopped: Callable[[], str],
    ) -> None:
        self.settings, self.data, self.folder, self.display, self.stopped = settings, data, folder, display, stopped
        self.began, self.spent = time.monotonic(), 0.0  # s; what earlier runs spent, up to their last validation
        self.checkpoint = folder.load()
        cutoff = cutoff_of(settings)
        if settings.start.model is None and settings.model.shift == "mean":
            self.data = data = copy(data)  # the caller's keeps its free atoms
            bound = _bound(data.train, display)
            data.train, data.valid = bound, bound if data.valid is data.train else data.valid
        display.note(f"Finding neighbours within {cutoff:g} Å …")
        labels = Labels.of(data.train, settings.loss.config_weights)
        _check_labels(labels, settings, display)
        source, older = Source(labels, Graphs(data.train, cutoff)), []
        if source.graphs.average_neighbors == 0:
            raise EquipotError(
                f"No two atoms of the training data are within {cutoff:g} Å of each other: there is nothing to learn. "
                "Look at [model] cutoff and at the units of the positions."
            )
        if self.checkpoint is not None and folder.start.exists():
            start = again(settings, folder.start)
        else:
            start = begin(settings, data, folder.start, source, display)
        source.head = self.head = start.head
        sources: list[Source] = [source]
        self.searches: list[Search] = []
        self.guard_counts = _COUNTS_DENSE
        if settings.model.repulsion and settings.start.model is None and settings.loss.energy > 0:
            if bonds_of_an_atom(data.train) < _MANY_BONDS:
                self.guard_counts = _COUNTS_OPEN
            nearest_atoms = shortest_by_bonds(data.train, cutoff)
            alone = molecules(data.train, settings.seed)
            known = [*data.train, *(guard.structure for guard in alone)]
            made = guards(
                known,
                by_species(nearest_atoms),
                cutoff,
                min(max(_LEAST_GUARDS, len(data.train) // 2), _MOST_GUARDS),
                settings.seed,
                closest=SHORTEST,
                contacts=unbound(nearest_atoms),
            )
            if made := made + alone:
                sources.append(_guarding(made, cutoff, start.head, len(data.train)))
            if settings.optimizer.algorithm != "lbfgs":
                self.searches = [
                    HotWalks(known, cutoff, SHORTEST, settings.seed),
                    *solid_searches(data.train, by_species(nearest_atoms), cutoff, settings.seed),
                ]
        if settings.taught:
            taught = read_taught(folder.taught)
            display.note(f"Taught: {taught!r}, a part in each epoch.")
            labels_taught = Labels.of(taught, settings.loss.config_weights)
            sources.append(Source(labels_taught, Graphs(taught, cutoff), start.head, len(data.train)))
            older.append(taught)
        if settings.start.replay:
            old, replay = replayed(settings, start, display)
            older.append(old)
            sources.append(replay)
        scales_of = scales_as_drawn if settings.start.model is None else parameter_scales
        scales = scales_of(start.model, source.graphs.average_neighbors)
        self.weighted = partial(
            Weighted,
            start.model,
            start.path,
            [source.head for source in sources],
            scales,
            trainable(list(scales), settings.start.freeze),
            {"energy.e0": free_energies(settings, data, start)},
        )
        self.model = self.weighted(settings.precision)
        self.sources = sources
        self.objective, self.turns = self._assemble()
        if data.valid is data.train:
            self.validation = Objective(self.model, sources[:1])
        else:
            valid = Labels.of(data.valid, settings.loss.config_weights)
            self.validation = Objective(self.model, [Source(valid, Graphs(data.valid, cutoff), start.head)])
        self.fingerprint = _fingerprint(data.train, data.valid, *older)

        self.weights = self.model.start
        self.average = Average(self.weights, settings.optimizer.average)
        self.epoch, self.batch, self.steps = 0, 0, 0
        self.second_from: int | None = 0 if settings.first_epochs == 0 else None
        self.skipped = 0  # epochs of the first phase that patience has saved
        self.best, self.waited, self.best_weights = math.inf, 0, self.weights
        self.refined = -1  # the epoch after which energies were refined
        self.rate, self.loss_sum, self.ended, self.halted = 0.0, 0.0, False, False
        self.errors = Errors.none(self.objective.config_types)
        self.records: list[dict[str, Any]] = []
        self._new_optimizer()
        self.last_saved = self.speed_since = time.monotonic()
        self.speed_atoms = 0
        guards_made = int(self.objective.guards.sum())
        display.note(
            f"{len(self.weights):,} weights to train; {counted(len(labels), 'structure')} with "
            f"{counted(int(labels.atoms.sum()), 'atom')} and {source.graphs.average_neighbors:.1f} neighbours each; "
            f"{counted(guards_made, 'guard') + ', by turns; ' if guards_made else ''}"
            f"validating on {counted(len(self.validation), 'structure')}."
        )
        if self.checkpoint is not None:
            self._restore(self.checkpoint)
        else:
            folder.keep_log(-1)  # of a run that was killed before its first checkpoint

    # -- training -----------------------------------------------------------------------------------------------------

    @property
    def phase(self) -> int:
        """1, or 2 when energies weigh more."""
        return 1 if self.second_from is None else 2

    @property
    def loss_weights(self) -> Weights:
        """Weights of the loss in the present phase."""
        loss, part = self.settings.loss, self.settings.second_phase
        chosen = loss if self.phase == 1 else part
        return Weights(chosen.energy, chosen.forces, chosen.stress, loss.energy_per_atom, loss.huber, self.guard_counts)

    @property
    def phase_end(self) -> int:
        """The epoch that ends the present phase."""
        if self.second_from is None:
            return self.settings.first_epochs
        return self.settings.epochs - self.skipped

    @property
    def unfinished(self) -> bool:
        """Whether a resumed run would go on."""
        return self._training_left or self._refinement_left

    @property
    def _training_left(self) -> bool:
        return self.epoch < self.settings.epochs - self.skipped and not self.ended

    @property
    def _refinement_left(self) -> bool:
        judged = self.data.valid is not self.data.train and self.loss_weights.energy > 0
        return judged and self.settings.refinement.steps > 0 and self.refined < self.epoch

    @property
    def used(self) -> Array:
        """The weights that are validated and saved."""
        o = self.settings.optimizer
        return self.average.weights if o.average > 0 and o.algorithm != "lbfgs" else self.weights

    def go(self) -> None:
        """Train until the end, or until something stops it."""
        settings = self.settings
        self.display.start(settings.epochs)
        for record in self.records:
            self.display.validated(record, self._done(0.0))
        try:
            if not self.records:
                self._validate()
            if settings.optimizer.algorithm == "lbfgs":
                self._lbfgs()
            else:
                while not self._over():
                    self._train_epoch()
            self._save()
            if self._refinement_left and not self.halted:
                self._refine()
                self._save()
        except NotFiniteError as error:
            kept = f" The best model so far is '{self.folder.model}'." if self.folder.model.exists() else ""
            raise EquipotError(
                f"Training stopped in epoch {self.epoch + 1}: {error}. Look at these structures, or lower the learning "
                f"rate ([optimizer] learning_rate) or the gradient's limit (clip).{kept}"
            ) from None
        finally:
            self.display.close()

    def _over(self) -> bool:
        """Whether training ends here; enters the second phase when the first has ended."""
        if self.ended or self.halted:
            return True
        if self.epoch < self.phase_end:
            return False
        if self.phase == 1 and self.settings.first_epochs < self.settings.epochs:
            self._enter_second_phase()
            return False
        return True

    def _halted(self) -> bool:
        why = self.stopped()
        if why and not self.halted:
            self.display.note(f"{why}: writing checkpoint and report; Ctrl-C (again) stops at once.")
        return bool(why)

    def _enter_second_phase(self) -> None:
        self.skipped = self.settings.first_epochs - self.epoch
        self.second_from = self.epoch
        # What is best until now stays so until something is better by the new weights of the loss.
        self.best = self.validation.evaluate(self.best_weights, self.loss_weights)[0]
        self.waited = 0
        # moments of the old loss's gradient would make the first steps too long
        self._new_optimizer()

    def _new_optimizer(self) -> None:
        o = self.settings.optimizer
        names = self.model.free_names
        decayed = {name for name in set(names) if matches(name, o.decay_on)}
        decay = np.array([o.weight_decay if name in decayed else 0.0 for name in names])
        # L-BFGS takes no steps of this kind
        self.optimizer = Optimizer(o.algorithm, decay, self.model.matrices) if o.algorithm != "lbfgs" else None
        self.schedule = Schedule(
            o.schedule,
            o.learning_rate if self.phase == 1 else self.settings.second_phase.learning_rate,
            final=o.final_rate,
            warmup=o.warmup_steps,
            factor=o.plateau_factor,
            patience=o.plateau_patience,
        )
        self.phase_steps = 0

    def _train_epoch(self) -> None:
        settings, o = self.settings, self.settings.optimizer
        if self.batch == 0:
            self._search()
        order = np.random.default_rng([settings.seed, self.epoch]).permutation(len(self.objective))
        order = order[self._takes_part(self.epoch)[order]]
        parts = batches(self.objective.atoms, order, o.batch_size, o.batch_atoms)
        begin = 0 if self.second_from is None else self.second_from
        while self.batch < len(parts):
            indices = parts[self.batch]
            done = (self.epoch - begin + self.batch / len(parts)) / max(self.phase_end - begin, 1)
            self.rate = self.schedule.rate(self.phase_steps, done)
            value, gradient = self.objective.gradient(self.weights, indices, self.loss_weights, self.errors)
            assert self.optimizer is not None
            self.optimizer.step(self.weights, gradient, self.rate, o.clip)
            self.average.step(self.weights)
            self.steps, self.phase_steps, self.batch = self.steps + 1, self.phase_steps + 1, self.batch + 1
            self.loss_sum += value * len(indices)
            self.speed_atoms += int(self.objective.atoms[indices].sum())
            part = self.batch / len(parts)
            self.display.step(self.epoch + 1, part, self._done(part), value, self.rate, self._speed())
            if self._halted():
                self.halted = True
                return
            if time.monotonic() - self.last_saved > 60 * settings.checkpoint_minutes:
                self._save()
        self.epoch, self.batch = self.epoch + 1, 0
        if self.epoch % settings.validate_every == 0 or self.epoch == self.phase_end:
            self._validate(self.loss_sum / max(len(order), 1))
        self._new_sums()

    def _takes_part(self, epoch: int) -> NDArray[np.bool_]:
        """Which of all structures have their turn in an epoch."""
        return epoch % self.turns[:, 1] == self.turns[:, 0]

    def _assemble(self) -> tuple[Objective, Indices]:
        """Give all that is trained on, and in which epoch of how many each structure takes part, shape (S, 2)."""
        sources = list(self.sources)
        for search in self.searches:
            if search.guards:
                cutoff = cutoff_of(self.settings)
                sources.append(_guarding(search.guards, cutoff, self.head, len(self.data.train)))
        return Objective(self.model, sources), np.concatenate([source.turns for source in sources])

    def _search(self) -> None:
        """Look for holes, now and then."""
        settings = self.settings
        every = max(settings.epochs // _WALKS, 1)
        early = self.epoch < _WALK_AFTER * settings.epochs
        searches = [search for search in self.searches if search.possible]
        if not searches or early or self.epoch % every:
            return
        self.model.set(self.used)
        engine = self.model.trainer(self.head)
        atoms = _WALK_SHARE * every * self.data.train.atoms / len(searches)
        if sum(search.run(engine, min(int(atoms / search.atoms), _LONGEST_WALK)) for search in searches):
            self.objective, self.turns = self._assemble()

    def _refine(self) -> None:
        """Refine the energies of the best weights, which themselves stay what a resumed run goes on from."""
        settings, model = self.settings, self.weighted("float64")
        objective, validation = Objective(model, self.objective.sources), Objective(model, self.validation.sources)
        self.display.note("Refining energies …")

        def chosen(step: int) -> Indices:
            return np.flatnonzero(self._takes_part(self.epoch + step))

        def show(step: int, part: float) -> bool:
            done = min((step + part) / settings.refinement.steps, 1.0)
            self.display.step(self.epoch, part, done, self.best, 0.0, 0.0)
            self.halted = self._halted()
            return self.halted

        steps = refined(objective, validation, self.best_weights, self.loss_weights, chosen, settings.seed, show)
        taken = 0
        for weights in islice(steps, settings.refinement.steps):
            taken += 1
            value, errors = self.validation.evaluate(weights, self.loss_weights)
            self._write_best(weights, errors)
            self._record(3, value, errors, True)
        if not self.halted:
            self.refined = self.epoch
            if not taken:
                self.display.note("No step lowers errors of the validation set surely: energies stay as they are.")

    def _validate(self, train_loss: float | None = None) -> None:
        """Validate the present weights, keep them if they are the best, and write the log with an epoch's loss."""
        value, errors = self.validation.evaluate(self.used, self.loss_weights)
        best = value < self.best
        if best:
            self.best, self.waited, self.best_weights = value, 0, self.used.copy()
            self._write_best(self.used, errors)
        else:
            self.waited += 1
        self.schedule.validated(value)
        self._record(self.phase, value, errors, best, train_loss)
        patience = self.settings.patience
        if patience and self.waited >= patience:
            if self.phase == 1 and self.settings.first_epochs < self.settings.epochs:
                self.display.note(f"No improvement in {patience} validations: the second phase begins.")
                self._enter_second_phase()
            else:
                self.display.note(f"No improvement in {patience} validations: training ends.")
                self.ended = True

    def _record(self, phase: int, value: float, errors: Errors, best: bool, train_loss: float | None = None) -> None:
        """Write a line of the log, and show it."""
        seen = int(self.errors.counts.sum()) > 0
        record = {
            "epoch": self.epoch,
            "phase": phase,
            "steps": self.steps,
            "train_loss": train_loss,
            "valid_loss": value,
            "learning_rate": self.rate,
            "train": self.errors.means() if seen else {},
            "valid": errors.means(),
            "by_config_type": {t: errors.means(t) for t in errors.config_types},
            "best": best,
            "atoms_per_second": round(self._speed(), 1),
            "seconds": round(self.spent + time.monotonic() - self.began, 3),
        }
        self.records.append(record)
        self.folder.log(record)
        self.display.validated(record, self._done(0.0))

    def _new_sums(self) -> None:
        self.loss_sum = 0.0
        self.errors = Errors.none(self.objective.config_types)
        self.speed_since, self.speed_atoms = time.monotonic(), 0

    def _lbfgs(self) -> None:
        """All data at once; a resumed run forgets the curvature that it had learned."""
        everything = np.arange(len(self.objective), dtype=np.int64)

        def objective(weights: Array) -> tuple[float, Array]:
            if self.halted:
                raise Stop
            self.errors = Errors.none(self.objective.config_types)
            self.speed_atoms += int(self.objective.atoms.sum())
            return self.objective.gradient(weights, everything, self.loss_weights, self.errors)

        def progress(weights: Array, value: float) -> None:
            self.weights = weights
            self.epoch, self.steps = self.epoch + 1, self.steps + 1
            self.loss_sum = value
            self.display.step(self.epoch, 1.0, self._done(0.0), value, 0.0, self._speed())
            if self.epoch % self.settings.validate_every == 0 or self.epoch == self.settings.epochs:
                self._validate(value)
            self.speed_since, self.speed_atoms = time.monotonic(), 0
            self.halted = self._halted()
            if self.ended or self.halted:
                raise Stop
            if time.monotonic() - self.last_saved > 60 * self.settings.checkpoint_minutes:
                self._save()

        remaining = self.settings.epochs - self.epoch
        if remaining > 0 and not self.ended:
            lbfgs(objective, self.weights, remaining, progress)
            if self.epoch % self.settings.validate_every:
                self._validate(self.loss_sum)
            if self.epoch < self.settings.epochs and not (self.ended or self.halted):
                self.ended = True
                finer = "" if self.settings.precision == "float64" else '; with precision = "float64" it may go further'
                self.display.note(f"L-BFGS finds no lower loss after {self.epoch} iterations{finer}.")

    def _done(self, part: float) -> float:
        """The part of the run that is done, when a part of the present epoch is."""
        return min((self.epoch + part) / max(self.settings.epochs, 1), 1.0)

    def _speed(self) -> float:
        """Atoms per second in the present epoch."""
        return self.speed_atoms / max(time.monotonic() - self.speed_since, 1e-9)

    # -- what is written ----------------------------------------------------------------------------------------------

    def _write_best(self, weights: Array, errors: Errors) -> None:
        model = self.model.model(weights)
        card = dict(model.meta.get("card") or {})
        files = sorted({Path(s.file).name for s in self.data.train if s.source})
        card |= {
            "title": card.get("title") or " ".join(chemical_symbols[z] for z in self.data.train.species),
            "created_by": f"equipot {__version__}",
            "data": {"files": files, "structures": len(self.data.train), "atoms": int(self.data.train.atoms)},
            "errors": {"valid": _of_card(errors.means())},
            "training": {"epoch": self.epoch, "seed": self.settings.seed},
        }
        model.meta["card"] = card
        write_model(model, self.folder.model)

    def _save(self) -> None:
        """Write the checkpoint."""
        self.folder.save(
            {
                "data": self.fingerprint,
                "epoch": self.epoch,
                "batch": self.batch,
                "steps": self.steps,
                "phase_steps": self.phase_steps,
                "second_from": self.second_from,
                "skipped": self.skipped,
                "best": self.best,
                "best_weights": self.best_weights,
                "refined": self.refined,
                "waited": self.waited,
                "ended": self.ended,
                "rate": self.rate,
                "loss_sum": self.loss_sum,
                "errors": self.errors.state(),
                "weights": self.weights,
                "average": self.average.state(),
                "optimizer": self.optimizer.state() if self.optimizer else {},
                "schedule": self.schedule.state(),
                "searches": {type(search).__name__: search.state() for search in self.searches},
            }
        )
        self.last_saved = time.monotonic()

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        if state["data"] != self.fingerprint:
            raise EquipotError(
                f"The data have changed since the run in '{self.folder.path}' began: go on with the same data, or "
                "start anew with --folder and [start] model."
            )
        self.second_from = state["second_from"]
        self._new_optimizer()
        self.best, self.best_weights = state["best"], state["best_weights"]
        for name in ("epoch", "batch", "steps", "phase_steps", "skipped", "waited", "refined", "rate", "loss_sum"):
            setattr(self, name, state[name])
        # patience or epochs may have been raised since
        self.ended = bool(state["ended"]) and 0 < self.settings.patience <= self.waited
        self.weights = state["weights"]
        self.average.restore(state["average"])
        if self.optimizer:
            self.optimizer.restore(state["optimizer"])
        self.schedule.restore(state["schedule"])
        self.errors = Errors(self.objective.config_types, **state["errors"])
        for search in self.searches:
            search.restore(state["searches"][type(search).__name__])
        self.objective, self.turns = self._assemble()
        self.records = self.folder.keep_log(self.epoch)
        self.spent = float(self.records[-1]["seconds"]) if self.records else 0.0
        if self._training_left:
            self.display.note(f"Going on from epoch {self.epoch + 1}.")
        elif self._refinement_left:
            self.display.note(f"Going on after epoch {self.epoch}.")
        else:
            limit = "patience" if self.ended else "epochs"
            self.display.note(f"This run was finished after epoch {self.epoch}; raise {limit} to train further.")

    def finish(self) -> None:
        """Test the best model and write tables, pictures and the report."""
        from equipot.fit.report import compare, write_report
        from equipot.potential import load

        if self.halted:
            self.display.note(f"Stopped by {self.stopped()} in epoch {self.epoch + 1}; go on with --resume.")
        if self.epoch > 0 and max((r["epoch"] for r in self.records if r["best"]), default=0) == 0:
            self.display.note(
                "No epoch was better than the model that training began with, which is therefore what it leaves: lower "
                "the learning rate ([optimizer] learning_rate), or train for more epochs."
            )
        holes = sum(len(search.guards) for search in self.searches)
        if holes:
            found = counted(holes, "structure in one, which was", "structures in some, which were")
            self.display.note(f"Looking for holes found {found} trained on as guards.")
        parts = {"train": self.data.train, "valid": self.data.valid, "test": self.data.test}
        if self.data.valid is self.data.train:
            del parts["valid"]
        tables, pictures = compare(load(self.folder.model, head=self.head), parts, self.folder.path)
        model = read_model(self.folder.model)
        model.card["errors"] = {name: finite(table.overall.to_dict()) for name, table in tables.items()}
        write_model(model, self.folder.model)
        for name, table in tables.items():
            self.display.note(f"\n{name}\n{table.text()}")
        title, log = f"Training of {model.card['title']}", self.folder.read_log()
        write_report(
            self.folder.path, title, to_dict(self.settings), log, tables, pictures, model.card, self.data.findings
        )
        self.display.note(f"Model: {self.folder.model}\nReport: {self.folder.path / 'report.html'}")


def complete(
    settings: TrainSettings, data: DataSets, folder: RunFolder, display: Watcher, stopped: Callable[[], str]
) -> TrainingRun:
    """Train from where the folder stands to the end, or until something stops it, and write the report."""
    with folder.beginning():
        run = TrainingRun(settings, data, folder, display, stopped)
    run.go()
    run.finish()
    return run


def _bound(train: DataSet, display: Watcher) -> DataSet:
    """Leave free atoms out: a model that counts from the mean energy of the data is wrong for them from the start."""
    bound = [i for i, structure in enumerate(train) if not structure.is_isolated_atom]
    if 0 < len(bound) < len(train):
        one, several = "isolated atom gave its energy and is", "isolated atoms gave their energies and are"
        free = counted(len(train) - len(bound), one, several)
        display.note(f'{free} not trained on: [model] shift = "mean" is not meant for them.')
        return train.subset(bound)
    return train


def _guarding(made: Sequence[Guard], cutoff: float, head: str, structures: int) -> Source:
    """Guards as something to train on, beside so many structures."""
    among = int(np.clip(len(made), structures, 2 * structures))  # else the more there are, the less each counts
    at_once = max(_LEAST_AT_ONCE, among // _STRUCTURES_PER_GUARD)
    return Source(Labels.of_guards(made), Graphs([g.structure for g in made], cutoff), head, at_once)


def _check_labels(labels: Labels, settings: TrainSettings, display: Watcher) -> None:
    """Refuse data from which nothing can be learned; say which weights have nothing to act on."""
    counts = {
        "energy": int((~np.isnan(labels.energy)).sum()),
        "forces": int((~np.isnan(labels.forces)).sum()),
        "stress": int((~np.isnan(labels.virial)).sum()),
    }
    wanted = {name: getattr(settings.loss, name) > 0 for name in counts}
    if not any(counts[name] for name, weight in wanted.items() if weight):
        found = [name for name, count in counts.items() if count]
        raise EquipotError(
            "The training data have no label that the loss weighs: they have "
            f"{' and '.join(found) or 'no energies, forces or stresses at all'}. Name the keys in [data] "
            "(energy_key, forces_key, stress_key), or change the weights in [loss]."
        )
    if wanted["forces"] and not counts["forces"]:
        display.note("There are no forces in the training data: energies alone need many more structures.")
    if not labels.weight.any():
        raise EquipotError("All structures have the weight 0: look at [loss] config_weights.")
    unknown = [t for t in settings.loss.config_weights if t not in labels.config_types]
    if unknown:
        end = advice(unknown[0], labels.config_types, f"there are {', '.join(labels.config_types)}")
        raise EquipotError(f"[loss] config_weights: no structure has the config_type '{unknown[0]}'{end}")


def _fingerprint(*sets: DataSet) -> str:
    """A hash of all that a fit takes from data."""
    digest = hashlib.sha256()
    for data in sets:
        for s in data:
            for part in (s.atoms.numbers, s.atoms.positions, np.asarray(s.atoms.cell), s.atoms.pbc, s.forces, s.virial):
                digest.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
            digest.update(f"{s.energy!r} {s.config_type} {s.weight!r}".encode())
    return digest.hexdigest()


def _of_card(means: Mapping[str, float]) -> dict[str, float]:
    """Errors as a card has them."""
    return {name: float(f"{FROM_LOG[name.split('_')[0]] * value:.6g}") for name, value in means.items()}
