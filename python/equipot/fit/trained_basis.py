"""The basis of a linear potential whose channels come from a trained model of one layer.

Training finds radial functions and mixtures of species that say more than random ones; what the energy is linear in,
the coefficients of the products, is then solved for at once, at the optimum that training only approaches:
E = Σ_i Σ_η,k c_{z_i,η,k} B_{i,η,k} with B as trained.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipot import EquipotError
from equipot.fit.linear_basis import Basis, feature_table, product_name
from equipot.modelfile import ModelFile, check_model, read_model

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrainedBasis(Basis):
    """Channels of a trained model.

    Attributes
    ----------
    file : ModelFile
        The trained model: one layer, a linear radial map, linear readouts and one head.
    """

    file: ModelFile

    @staticmethod
    def read(path: str | Path) -> TrainedBasis:
        """Take the channels of a model file.

        Raises
        ------
        EquipotError
            If the file cannot be read, or its model is not linear in the coefficients of its products.
        """
        file = read_model(path)
        layers = file.meta["layers"]
        reasons = [
            (len(layers) != 1, f"{len(layers)} layers instead of one ([model] layers = 1)"),
            ("layer.0.radial.1" in file.arrays, "radial networks instead of linear maps ([model] radial_widths = [])"),
            (layers[0]["readout"] != "linear", "a readout that is not linear ([model] readout_width = 0)"),
            (bool(layers[0].get("density")), "a density term"),
            (len(file.meta["heads"]) != 1, f"{len(file.meta['heads'])} heads instead of one"),
        ]
        wrong = [reason for found, reason in reasons if found]
        if wrong:
            raise EquipotError(f"[basis] channels_from: '{path}' has {' and '.join(wrong)}.")
        return TrainedBasis(
            species=tuple(int(z) for z in file.meta["species"]),
            cutoff=float(file.meta["cutoff"]),
            channels=int(file.meta["channels"]),
            l_max=int(file.meta["l_max"]),
            repulsion=file.meta.get("zbl") is not None,
            file=file,
        )

    @property
    def order(self) -> int:
        """See `Basis.order`."""
        return int(self.file.meta["layers"][0]["correlation"])

    @cached_property
    def features(self) -> NDArray[np.int32]:
        """See `Basis.features`."""
        a = self.file.arrays
        paths = [a[product_name(n)].shape[1] if product_name(n) in a else 0 for n in range(1, self.order + 1)]
        functions = int(self.file.meta["radial"]["size"]) * len(self.species)
        return feature_table(paths, self.channels, functions)

    def precision(self, smoothness: float) -> Array:
        """The prior's precision matrix P, shape (columns, columns): coefficients are as large as they were trained.

        Training has chosen functions that are smooth enough, so that `smoothness` has no part in it.
        """
        orders = self.features[:, 0]
        sizes = {n: np.sqrt(np.mean(np.square(self.file.arrays[product_name(n)]))) for n in np.unique(orders).tolist()}
        found = np.array([max(sizes[n], 1e-12) for n in orders.tolist()])
        return np.diag(np.tile(found**-2, len(self.species)))

    def model(
        self,
        coefficients: Array | None = None,
        energies: Mapping[int, float] | None = None,
        card: dict[str, Any] | None = None,
    ) -> ModelFile:
        """See `Basis.model`."""
        arrays = {n: v for n, v in self.file.arrays.items() if not n.startswith("posterior.")}
        arrays |= {"energy.e0": self.isolated(energies), "energy.shift": np.zeros(1)}
        if "layer.0.skip.0" in arrays:  # an energy by species, as the one above
            arrays["layer.0.skip.0"] = np.zeros_like(arrays["layer.0.skip.0"])
        arrays |= self.products(coefficients)
        model = ModelFile({**self.file.meta, "card": card or {}}, arrays)
        check_model(model)
        return model
