"""One linear fit: sum up the design matrix, solve, test, and write a model file with a report."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from rich.console import Console

from equipot import EquipotError, __version__, _equipot
from equipot.data import DataSet
from equipot.data.progress import progress_bar
from equipot.data.structures import counted
from equipot.files import finite
from equipot.fit.datasets import DataSets
from equipot.fit.guards import Guard, guards, shortest_distances
from equipot.fit.holes import solid_searches
from equipot.fit.linear_basis import Basis, LinearBasis
from equipot.fit.linear_rows import Baseline, GuardRows, misses, normal_equations
from equipot.fit.linear_settings import LinearSettings
from equipot.fit.report import compare, write_report
from equipot.fit.scores import score, sure_scores
from equipot.fit.searches import Search
from equipot.fit.settings import SettingsError, to_dict
from equipot.fit.solvers import NormalEquations, Solution, Spectrum, ard, bayesian, bounded, ridge
from equipot.fit.trained_basis import TrainedBasis
from equipot.modelfile import ModelFile, write_model
from equipot.potential import load
from equipot.units import ERROR_UNITS

Array = NDArray[np.float64]

# Posterior factors of more coefficients would make the file larger than 36 MB.
_LARGEST_POSTERIOR = 3000
# Strengths of the prior that are compared around the most probable one.
_STRENGTHS = 10.0 ** np.arange(-3, 6.5, 0.5)
# Among these the strongest whose score is within this of the best is taken: what validates alike extrapolates better
# with a stronger prior.
_TOLERANCE = 0.005
# Factors of the weight of energies that are tried; the given one first.
_ENERGY_FACTORS = (1.0, 0.03, 0.1, 0.3, 3.0)
_GUARDS = 300  # before any hole is found
# What a guard that is missed by its tolerance counts as, eV per atom of an energy of the data: the first of these with
# which errors of validation are not too many times larger. A small basis has not room for everything.
_WORSE = 1.05
_UNITS = {5e-3: 1.0} | dict.fromkeys((1e-3, 3e-4, 1e-4, 3e-5, 1e-5), _WORSE)
_UNVALIDATED = 1e-3
_ROUNDS, _EVALUATIONS = 8, 150_000  # of searches, and how many atoms are evaluated in each for every kind


class LinearFit:
    """One fit: its data, its basis, and what has been found.

    Parameters
    ----------
    settings : LinearSettings
    data : DataSets
    console : rich.console.Console
        Where notes go.
    """

    def __init__(self, settings: LinearSettings, data: DataSets, console: Console) -> None:
        self.settings, self.data, self.console = settings, data, console
        self.began = time.monotonic()
        for note in data.notes:
            console.print(note, markup=False)
        if not any(s.energy is not None or s.forces is not None for s in data.train):
            raise EquipotError("The training data have no energies and no forces: there is nothing to fit to.")
        self.basis: Basis = _basis(settings, data)
        self.shortest = shortest_distances(data.train, self.basis.cutoff)
        if not self.shortest and self.basis.cutoff <= 5.0:
            raise EquipotError(
                f"No two atoms of the training data are within {self.basis.cutoff:g} Å of each other: there is nothing "
                "to fit. Look at [basis] cutoff and at the units of the positions."
            )
        self.free = tuple(sorted(z for z in data.estimated if any(s.energy is not None for s in data.train)))
        self.train: NormalEquations | None = None
        self.valid: NormalEquations | None = None
        self.guards: GuardRows | None = None
        self.solution: Solution | None = None
        self.validation: dict[str, float] = {}
        self.notes: list[str] = []
        self._check_memory()

    @property
    def baseline(self) -> Baseline:
        """What is taken off the labels."""
        return Baseline(self.data.atomic_energies, self.free, self.basis)

    @property
    def validating(self) -> bool:
        """Whether there is a validation set of its own."""
        return self.data.valid is not self.data.train

    @property
    def refitted(self) -> bool:
        """Whether the final coefficients are those of training and validation data together."""
        return self.valid is not None and self.settings.solver.refit

    @property
    def everything(self) -> NormalEquations:
        """The equations of the final fit."""
        assert self.train is not None
        return self.train + self.valid if self.valid is not None and self.refitted else self.train

    def _check_memory(self) -> None:
        columns = self.basis.columns
        need = 8.0 * 12 * columns**2
        with suppress(ValueError, OSError, AttributeError):
            here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            if need > 0.8 * here:
                raise EquipotError(
                    f"[basis]: a fit of {columns:,} coefficients needs {need / 1e9:.0f} GB of memory and there are "
                    f"{here / 1e9:.0f} GB: take fewer channels, a smaller l_max or smaller l_sums."
                )
        self.console.print(
            f"{columns:,} coefficients for {' '.join(chemical_symbols[z] for z in self.basis.species)}: "
            f"{self.basis.channels} channels, l up to {self.basis.l_max}, order {self.basis.order}, "
            f"cutoff {self.basis.cutoff:g} Å."
        )

    def accumulate(self) -> None:
        """Make the design matrices of training and validation data and sum up their normal equations."""
        weights = self.settings.weights.config_weights
        known = set(self.data.train.config_types) | set(self.data.valid.config_types)
        for name in weights:
            if name not in known:
                raise SettingsError(
                    f"[weights] config_weights: no structure has the config_type '{name}'; there are "
                    f"{', '.join(sorted(known))}."
                )
        self.train = normal_equations(self.basis, self.data.train, self.baseline, weights, "design matrix")
        if self.validating:
            self.valid = normal_equations(
                self.basis, self.data.valid, self.baseline, weights, "design matrix, validation"
            )
        rows = self.train.rows
        self.console.print(
            f"Design matrix of {counted(int(rows[0]), 'energy', 'energies')}, {rows[1]:.0f} force and {rows[2]:.0f} "
            f"virial components after {time.monotonic() - self.began:.0f} s."
        )

    def reduced(self, part: LinearBasis) -> LinearFit:
        """The fit of a smaller basis within this one, from the same matrices."""
        other = object.__new__(LinearFit)
        other.__dict__.update(self.__dict__)
        assert isinstance(self.basis, LinearBasis)
        places = self.basis.places(part)
        free = self.basis.columns + np.arange(len(self.free))
        columns = np.concatenate([places, free])
        other.basis = part
        sizes = replace(self.settings.basis, channels=part.channels, l_max=part.l_max, l_sums=part.l_sums)
        other.settings = replace(self.settings, basis=sizes)
        other.train = None if self.train is None else self.train.take(columns)
        other.valid = None if self.valid is None else self.valid.take(columns)
        other.notes = list(self.notes)
        return other

    def precision(self) -> Array:
        """The prior's precision, with zeros for the energies of isolated atoms."""
        size = self.basis.columns
        full = np.zeros((size + len(self.free), size + len(self.free)))
        full[:size, :size] = self.basis.precision(self.settings.solver.smoothness)
        return full

    def search(self) -> Solution:
        """Find the coefficients from the training data alone."""
        assert self.train is not None
        chosen, solver = self.settings.weights, self.settings.solver
        weights = (chosen.energy, chosen.forces, chosen.virial)
        precision = self.precision()
        if solver.method == "ard":
            return ard(self.train, weights, precision)
        if solver.method == "ridge":
            return Spectrum(self.train, weights, precision).solution(solver.strength)
        if solver.method == "validation" and self.validating:
            return self._validated(weights, precision)
        if solver.method == "validation":
            self.notes.append("Without validation data the prior's strength is the most probable one.")
        return bayesian(self.train, weights, precision, separate_noise=solver.method == "bayes-noise")[1]

    def solve(self) -> Solution:
        """Find the coefficients, in the end from all data unless `refit` is off."""
        self.solution = self.search()
        if self.valid is not None:
            self._validate(self.solution.coefficients)
        if self.basis.repulsion:
            self._guard()
        elif self.refitted:
            self.solution = self._again(self.solution)
        self.notes += self.solution.notes
        s = self.solution
        w = ", ".join(
            f"{kind} {weight:.3g}" for kind, weight in zip(("energy", "forces", "virial"), s.weights, strict=True)
        )
        self.console.print(
            f"Solved after {time.monotonic() - self.began:.0f} s: regularisation {s.strength:.2g}, weights {w}; "
            f"{s.effective:.0f} effective parameters of {len(s.coefficients)}."
        )
        for note in self.notes:
            self.console.print(note, markup=False)
        return self.solution

    def _again(self, solution: Solution) -> Solution:
        """The same solved again, with what equations and guards there are now."""
        if self.settings.solver.method == "ard":
            return ard(self._with_missed(self.everything, solution), solution.weights, self.precision())
        weights, precision, strength = solution.weights, self.precision(), solution.strength
        if self.guards is None:
            coefficients = ridge(self.everything, weights, precision, strength)
        else:
            (coefficients,) = self._held(self.everything, solution, self.guards, [self.guards.units])
        return replace(solution, coefficients=coefficients)

    def _held(
        self, equations: NormalEquations, solution: Solution, held: GuardRows, units: Sequence[Array]
    ) -> list[Array]:
        """Coefficients with guards, for several choices of what missing each of them counts as."""
        weights, precision, strength = solution.weights, self.precision(), solution.strength
        costs = weights[0] * np.array(units)
        return bounded(equations, weights, precision, strength, held.rows, held.bounds, costs)

    def _with_missed(self, equations: NormalEquations, solution: Solution) -> NormalEquations:
        """With what guards a solution misses as equations."""
        if self.guards is None:
            return equations
        return equations + self.guards.missed(solution.coefficients)

    def _guard(self) -> None:
        """Solve again with guards, look for holes (see `equipot.fit.holes`), put guards there, and so on.

        It ends where no hole is found, or where the basis has no room for more guards.
        """
        data, cutoff, seed = self.data.train, self.basis.cutoff, self.settings.seed
        searches = solid_searches(data, self.shortest, cutoff, seed)
        made = guards(data, self.shortest, cutoff, _GUARDS, seed)
        without, filled, left = self.validation, 0, 0
        worse = self._keep_guards(made, without)
        assert self.solution is not None
        for k in range(_ROUNDS):
            self.solution = self._again(self.solution)
            found = self._find_holes(searches)
            self.console.print(f"Search {k + 1} of at most {_ROUNDS}: {counted(len(found), 'structure')} in holes.")
            if not found:
                break
            before = self.guards, self.validation, worse
            worse = self._keep_guards(found, without)
            if worse > _WORSE:
                left = len(found)
                self.guards, self.validation, worse = before
                break
            filled += len(found)
        else:
            self.solution = self._again(self.solution)
        if self.validation:
            self._show_validation(", with guards")
        if filled:
            self.console.print(f"Guards stand in {counted(filled, 'hole')} now.")
        assert self.guards is not None
        if left := left + self.guards.fallen(self.solution.coefficients):
            self.notes.append(
                f"Some holes are left: {counted(left, 'structure')} whose energy this basis cannot hold up without "
                "larger errors. Far from its data this potential may fall: take a larger basis or more data."
            )
        if worse > _WORSE:
            self.notes.append(
                f"Guards make errors {worse:.1f} times larger: the basis is too small for both, or the data too few. "
                "Take a larger basis or more data, or leave guards out ([basis] repulsion = false) where the potential "
                "will stay close to its data."
            )

    def _find_holes(self, searches: Sequence[Search]) -> list[Guard]:
        """Guards where the present solution falls."""
        known = [len(search.guards) for search in searches]
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.equipot"
            write_model(self.model(), path)
            engine = _equipot.Trainer(str(path))
        possible = [search for search in searches if search.possible]
        with progress_bar("searching for holes", len(possible)) as show:
            for k, search in enumerate(possible):
                search.run(engine, int(_EVALUATIONS / search.atoms))
                show(k + 1)
        return [guard for search, n in zip(searches, known, strict=True) for guard in search.guards[n:]]

    def _keep_guards(self, made: Sequence[Guard], without: Mapping[str, float]) -> float:
        """Add guards that count as much as validation allows; how many times larger its errors are than without any.

        Those that were there before count as they did.
        """
        added = GuardRows.of(self.basis, made, self.baseline, _UNVALIDATED)
        held = added if self.guards is None else self.guards + added
        if self.valid is None or self.settings.solver.method == "ard":
            self.guards = held
            return 1.0
        assert self.train is not None
        assert self.solution is not None
        before = held.units[: len(held) - len(added)]
        units = [unit for unit in _UNITS if unit <= min(before, default=np.inf)]
        choices = [np.concatenate([before, np.full(len(added), unit)]) for unit in units]
        tries = self._held(self.train, self.solution, held, choices)
        errors = misses(self.basis, self.data.valid, self.baseline, tries, "validation with guards").mean
        worse = np.exp(score(errors) - score(np.array([without[name] for name in ERROR_UNITS])))
        chosen = next((k for k, unit in enumerate(units) if worse[k] <= _UNITS[unit]), len(units) - 1)
        self.guards = replace(held, units=choices[chosen])
        self._keep_validation(errors[chosen])
        return float(worse[chosen])

    def _validate(self, coefficients: Array) -> None:
        self._keep_validation(misses(self.basis, self.data.valid, self.baseline, [coefficients]).mean[0])
        self._show_validation()

    def _keep_validation(self, errors: Array) -> None:
        self.validation = dict(zip(ERROR_UNITS, map(float, errors), strict=True))

    def _show_validation(self, when: str = "") -> None:
        shown = ", ".join(
            f"{name} {value:.3g} {ERROR_UNITS[name]}" for name, value in self.validation.items() if np.isfinite(value)
        )
        self.console.print(f"Mean absolute errors of the validation data{when}: {shown}.")

    def _validated(self, weights: tuple[float, float, float], precision: Array) -> Solution:
        """The weights and the strength of the prior that validate best."""
        assert self.train is not None
        spectrum = Spectrum(self.train, weights, precision)
        strength = spectrum.best_strength()
        if self.settings.weights.search:
            tries = [
                (weights[0] * e, weights[1], weights[2] * v)
                for e, v in product(_ENERGY_FACTORS if weights[0] else (1.0,), (1.0, 0.2) if weights[2] else (1.0,))
            ]
            found = [spectrum.solve(strength)] + [ridge(self.train, one, precision, strength) for one in tries[1:]]
            missed = misses(self.basis, self.data.valid, self.baseline, found, "validation of weights")
            best = tries[int(np.argmin(sure_scores(missed, 0)))]
            if best != weights:
                spectrum = Spectrum(self.train, best, precision)
                strength = spectrum.best_strength()
        candidates = [spectrum.solution(strength * factor) for factor in _STRENGTHS]
        missed = misses(self.basis, self.data.valid, self.baseline, [c.coefficients for c in candidates])
        scores = sure_scores(missed, int(np.argmin(np.abs(np.log(_STRENGTHS)))))
        return candidates[int(np.flatnonzero(scores <= scores.min() + _TOLERANCE)[-1])]

    # -- what is written ----------------------------------------------------------------------------------------------

    def model(self, card: Mapping[str, Any] | None = None) -> ModelFile:
        """The potential."""
        assert self.solution is not None
        coefficients = self.solution.coefficients
        energies = dict(self.data.atomic_energies)
        for z, change in zip(self.free, coefficients[self.basis.columns :], strict=True):
            energies[z] += float(change)
        return self.basis.model(coefficients[: self.basis.columns], energies, dict(card or {}))

    def card(self) -> dict[str, Any]:
        """What the model file says about itself."""
        assert self.solution is not None
        s, b, source = self.solution, self.basis, self.settings.basis.channels_from
        train = self.data.train + self.data.valid if self.refitted else self.data.train
        files = sorted({Path(structure.file).name for structure in train if structure.source})
        return {
            "title": self.settings.title or " ".join(chemical_symbols[z] for z in b.species),
            "description": f"Linear: {b.columns} coefficients, {b.channels} {'trained ' if source else ''}channels, "
            f"l up to {b.l_max}, order {b.order}.",
            "created_by": f"equipot {__version__}",
            "data": {"files": files, "structures": len(train), "atoms": int(train.atoms)},
            "fit": {
                "method": self.settings.solver.method,
                "seed": self.settings.seed,
                "strength": float(s.strength),
                "noise": float(s.noise),
                "weights": dict(zip(("energy", "forces", "virial"), s.weights, strict=True)),
                "settings": {"channels_from": Path(source).name} if source else to_dict(self.settings.basis),
            },
            "range": {
                "shortest_distances": {
                    "-".join(chemical_symbols[z] for z in pair): round(d, 3)
                    for pair, d in sorted(self.shortest.items())
                },
                "config_types": train.config_types,
            },
        }

    def finish(self, folder: Path, pictures: Mapping[str, Path] | None = None) -> Path:
        """Write the model, test it, and write tables, pictures and the report."""
        path = folder / "model.equipot"
        model = self.model(self.card())
        self._add_posterior(model)
        write_model(model, path)
        valid = "valid, used in the fit too" if self.refitted else "valid"
        parts = {
            "train": self.data.train,
            valid: self.data.valid if self.validating else DataSet(),
            "test": self.data.test,
        }
        tables, drawn = compare(load(path), parts, folder)
        card = {**model.card, "errors": {name: finite(table.overall.to_dict()) for name, table in tables.items()}}
        if self.refitted:
            card["errors"]["validation, before these data were used too"] = {
                f"{name}_mae": value for name, value in self.validation.items() if np.isfinite(value)
            }
        model.meta["card"] = card
        write_model(model, path)
        for name, table in tables.items():
            self.console.print(f"\n{name}\n{table.text()}", markup=False)
        title, shown = f"Linear fit of {card['title']}", {**(pictures or {}), **drawn}
        write_report(folder, title, to_dict(self.settings), [], tables, shown, card, self.data.findings)
        self.console.print(f"Model: {path}\nReport: {folder / 'report.html'}", markup=False)
        self.console.print(f"{time.monotonic() - self.began:.0f} s in all.")
        return path

    def _add_posterior(self, model: ModelFile) -> None:
        if not self.settings.solver.posterior:
            return
        if self.settings.solver.method == "ard":
            self.console.print('No posterior is kept with [solver] method = "ard".')
            return
        assert self.solution is not None
        if self.basis.columns > _LARGEST_POSTERIOR:
            self.console.print(
                f"The posterior of {self.basis.columns} coefficients is left out of the file: "
                f"{_LARGEST_POSTERIOR} is the limit."
            )
            return
        everything = self._with_missed(self.everything, self.solution)
        size, nz = self.basis.columns, len(self.basis.species)
        precision, strength = self.precision(), self.solution.strength
        # Given the energies of isolated atoms, which are not among the coefficients: what both are unsure of together
        # would show as an uncertainty of every energy.
        noise = Spectrum(everything, self.solution.weights, precision).noise(strength)
        alone = Spectrum(everything.take(np.arange(size)), self.solution.weights, precision[:size, :size])
        factor = alone.posterior_factor(strength) * (noise / alone.noise(strength))
        columns = np.concatenate([np.insert(self.basis.features, 0, z, axis=1) for z in range(nz)]).astype(np.int32)
        model.arrays["posterior.factor"], model.arrays["posterior.columns"] = factor.astype(np.float32), columns


def _basis(settings: LinearSettings, data: DataSets) -> Basis:
    """What the potential is linear in."""
    chosen, species = settings.basis, tuple(sorted(data.train.species))
    if chosen.channels_from is not None:
        trained = TrainedBasis.read(chosen.channels_from)
        if trained.species != species:
            here, there = (" ".join(chemical_symbols[z] for z in zs) for zs in (species, trained.species))
            raise EquipotError(
                f"[basis] channels_from: the species of the data, {here}, are not those of the model, {there}."
            )
        return trained
    return LinearBasis(
        species=species,
        cutoff=chosen.cutoff,
        channels=chosen.channels,
        radial_functions=chosen.radial_functions,
        l_max=chosen.l_max,
        l_sums=chosen.l_sums,
        falloff=chosen.falloff,
        envelope=chosen.envelope,
        repulsion=chosen.repulsion,
        seed=settings.seed,
    )
