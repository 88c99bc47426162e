"""What decides a linear fit."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from equipot.fit.datasets import DataSettings
from equipot.fit.settings import Settings, SettingsError, setting


@dataclass(frozen=True)
class BasisSettings(Settings):
    """What the potential is linear in: one layer with random or trained channels.

    Attributes
    ----------
    channels_from : str
        A model file to take trained channels from: one layer with linear radial maps and a linear readout, as
        `kind = "train"` gives with [model] layers = 1, radial_widths = [] and readout_width = 0. The settings below
        are then not used.
    cutoff : float
        Å. Metals want 2 to 2.5 times the distance of neighbours.
    channels : int
        Random mixtures of radial functions; the number of coefficients and the cost grow with them.
    radial_functions : int
        How many functions they mix; more resolve shorter lengths.
    l_max : int
        Largest degree of the spherical harmonics, up to 6.
    l_sums : list of int
        By number of factors in a product (order 1, 2, …, 4 at most): the largest sum of their degrees. Its length is
        the largest order, and the body order is one more.
    falloff : float
        How fast the share of less smooth functions falls in a channel: n^-falloff.
    envelope : int
        Exponent of the cutoff function.
    repulsion : bool
        Add a fixed screened nuclear repulsion (ZBL) between atoms closer than the sum of their covalent radii, and
        guide the fit, within some eV, towards a repulsive wall in copies of structures that are compressed or in which
        two atoms nearly meet, and wherever it falls when atoms are put into the midst of others or on other lattices,
        as far as errors of validation stay within 1.05 times what they are without.
    """

    channels_from: str | None = setting(None, example='"trained.equipot"')
    cutoff: float = setting(5.5, above=0.5, most=20.0, shown=True)
    channels: int = setting(64, least=1, most=512, shown=True)
    radial_functions: int = setting(10, least=2, most=30)
    l_max: int = setting(4, least=0, most=6)
    l_sums: tuple[int, ...] = setting((0, 8, 12, 6), least=0, most=24)
    falloff: float = setting(2.0, least=0.0, most=6.0)
    envelope: int = setting(2, least=1, most=12)
    repulsion: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.l_sums) <= 4:
            raise SettingsError(f"[basis] l_sums has one number per order, 1 to 4 of them, not {len(self.l_sums)}.")


@dataclass(frozen=True)
class WeightSettings(Settings):
    """How much errors count, relative to each other.

    Attributes
    ----------
    energy : float
        Of energies, per eV/atom.
    forces : float
        Of force components, per eV/Å.
    virial : float
        Of virials (stress times volume), per eV/atom.
    search : bool
        With [solver] method = "validation", also try 0.03 to 3 times `energy` and a fifth of `virial`, and keep what
        surely validates better. Stresses that do not belong to the energies (too small a plane-wave basis) then lose
        their weight.
    config_weights : table of float
        Factors for structures by config_type.
    """

    energy: float = setting(200.0, least=0.0)
    forces: float = setting(1.0, least=0.0)
    virial: float = setting(2.0, least=0.0)
    search: bool = True
    config_weights: dict[str, float] = setting({}, least=0.0, example="{ default = 1.0, surface = 2.0 }")


@dataclass(frozen=True)
class SolverSettings(Settings):
    """How the coefficients are found.

    Attributes
    ----------
    method : str
        "validation": ridge regression, the prior's strength by the errors on the validation set. "bayes": the strength
        of largest evidence. "bayes-noise": also the noise of energies, forces and virials by evidence. "ard": sparse,
        with a strength for every coefficient. "ridge": the strength given below.
    strength : float
        Of the prior, for "ridge".
    smoothness : float
        How fast the prior of a coefficient narrows with radial degree, angular degree and order:
        exp(-smoothness Σ (n - 1 + l)), summed over the factors of its product.
    refit : bool
        In the end fit again to training and validation data together.
    posterior : bool
        Keep a factor of the posterior covariance in the model file (4 bytes per pair of coefficients; left out above
        3000 of them and for "ard"): posterior.factor F with Σ = FᵀF, and posterior.columns (species, order, coupling,
        channel).
    """

    method: Literal["validation", "bayes", "bayes-noise", "ard", "ridge"] = "validation"
    strength: float = setting(1.0, least=0.0)
    smoothness: float = setting(0.3, least=0.0, most=3.0)
    refit: bool = True
    posterior: bool = False


@dataclass(frozen=True)
class LinearSettings(Settings):
    """Everything that decides a linear fit.

    Attributes
    ----------
    kind : str
        "linear" fits a potential of one layer by linear algebra.
    folder : str
        The run's folder, made new; the settings file's name without its ending if left out.
    title : str
        Of the model; its elements if left out.
    seed : int
        Of random channels and of splitting. The same seed, settings and threads give the same bits.
    threads : int
        Threads; 0 takes OMP_NUM_THREADS, else all cores.
    data : section
        Where the data lie and how they are read. Paths are relative to this file.
    basis : section
        What the potential is linear in: one layer with random channels.
    weights : section
        How much errors count, relative to each other.
    solver : section
        How the coefficients are found.
    """

    kind: Literal["linear"] = setting("linear", shown=True)
    folder: str | None = setting(None, example='"run"')
    title: str | None = setting(None, example='"Copper"')
    seed: int = setting(1, least=0)
    threads: int = setting(0, least=0, most=512)
    data: DataSettings = setting(DataSettings)
    basis: BasisSettings = setting(BasisSettings)
    weights: WeightSettings = setting(WeightSettings)
    solver: SolverSettings = setting(SolverSettings)

    def relative_to(self, folder: Path) -> LinearSettings:
        """The same settings with all paths taken as relative to `folder`."""
        source = self.basis.channels_from
        return replace(
            self,
            data=self.data.relative_to(folder),
            basis=replace(self.basis, channels_from=os.path.abspath(folder / source) if source else None),
            folder=str(folder / self.folder) if self.folder else None,
        )
