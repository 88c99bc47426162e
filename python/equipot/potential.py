"""Potential: a model file ready to run on ASE Atoms, one structure or many."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from equipot import EquipotError, _equipot
from equipot.units import VOIGT

if TYPE_CHECKING:
    from ase import Atoms

Results = dict[str, Any]
DType = Literal["float64", "float32", "mixed"]
Radial = Literal["splined", "exact"]
Device = Literal["cpu", "gpu", "cuda", "hip", "host"]

PROPERTIES = (
    "energy",
    "free_energy",
    "energies",
    "forces",
    "stress",
    "stresses",
    "virial",
    "virials",
    "centroid_virials",
    "features",
)
_NEED_FORCES = {"forces", "stress", "stresses", "virial", "virials", "centroid_virials"}
_NEED_VOLUME = {"stress", "stresses"}


# Enough atoms to keep every thread busy, few enough that the edges of a batch stay far below a gigabyte.
_BATCH_ATOMS = 20_000


def set_threads(threads: int) -> None:
    """Set how many threads equipot uses in this process; call it before the first potential is loaded.

    Without it, ``OMP_NUM_THREADS`` counts, and else all cores that the process may use.
    """
    _equipot.set_threads(int(threads))


def load(
    path: str | os.PathLike[str],
    head: str | None = None,
    dtype: DType = "float64",
    radial: Radial = "splined",
    device: Device = "cpu",
) -> Potential:
    """Load a model file.

    Parameters
    ----------
    path
        A ``*.equipot`` file.
    head
        Which of the model's heads (levels of theory) to use; needed only when it has several.
    dtype
        ``"float64"``, or ``"mixed"``: float32 with geometry and the sums of energies, forces and virials in float64.
        ``"float32"`` is the same on CPUs.
    radial
        ``"splined"`` tabulates the radial functions; ``"exact"`` evaluates their networks on every edge (slow).
    device
        ``"cpu"``; ``"cuda"`` or ``"hip"`` in an equipot that was built for such a GPU, ``"gpu"`` for whichever it is.
        ``"host"`` runs the GPU's code on the CPU, slowly, for tests. On devices, atoms closer than 0.5 Å are an error.
        Neighbours are found on the CPU in any case, and copied.

    Raises
    ------
    EquipotError
        When the file cannot be read or is damaged, when there is no such head, or when this build lacks the device.
    """
    return Potential(path, head=head, dtype=dtype, radial=radial, device=device)


class Potential:
    """An interatomic potential. See :func:`load` for the arguments.

    It never changes once loaded, can be pickled (with the model in the pickle, so that other machines can read it) and
    used from several Python threads, which take turns.

    Attributes
    ----------
    path : str
        The file that it came from.
    head, dtype, radial, device : str
        As loaded.
    heads : list of str
        All heads in the file.
    species : list of str
        Chemical symbols of the elements that it knows.
    cutoff : float
        Å.
    layers : int
        Message-passing layers; energies depend on atoms up to ``layers * cutoff`` away.
    card : dict
        What the author says about the model: title, data, errors, licence, …
    parameters : int
        Number of weights.
    info : dict
        The architecture.
    feature_width : int
        Numbers per atom in ``features``.
    execution : str
        How it runs, for people: threads, instruction set, precision.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        head: str | None = None,
        dtype: DType = "float64",
        radial: Radial = "splined",
        device: Device = "cpu",
    ) -> None:
        name = os.fspath(path)
        self._start(_equipot.Model(name), name, head, dtype, radial, device)

    def _start(
        self, model: _equipot.Model, path: str, head: str | None, dtype: Any, radial: str, device: str = "cpu"
    ) -> None:
        dtype = dtype if isinstance(dtype, str) else np.dtype(dtype).name
        self._engine = _equipot.Engine(model, head or "", dtype, str(radial), str(device))
        self.info: dict[str, Any] = self._engine.info
        self.path = path
        self.dtype = dtype
        self.radial = radial
        self.device = device
        self.cutoff: float = self.info["cutoff"]
        self.layers: int = self._engine.layers
        self.heads: list[str] = self.info["heads"]
        self.head: str = self.heads[self._engine.head]
        self.species: list[str] = [_equipot.element_symbol(z) for z in self.info["species"]]
        self.parameters: int = self.info["parameters"]
        self.card: dict[str, Any] = json.loads(self.info["card"] or "{}")
        self.feature_width: int = self._engine.feature_width
        self._known = np.zeros(256, dtype=bool)
        self._known[self.info["species"]] = True

    @property
    def execution(self) -> str:
        return self._engine.execution

    def __repr__(self) -> str:
        return (
            f"Potential({self.path!r}, head={self.head!r}, species={' '.join(self.species)}, layers={self.layers}, "
            f"cutoff={self.cutoff:g} Å, dtype={self.dtype!r}, device={self.device!r})"
        )

    if not TYPE_CHECKING:  # which would take every attribute for a known one

        def __getattr__(self, name: str) -> Any:
            asked_by_ase = name in ("get_potential_energy", "get_forces", "get_stress", "get_property", "calculate")
            hint = "; ASE takes equipot.Calculator(potential)" if asked_by_ase else ""
            raise AttributeError(f"'Potential' object has no attribute '{name}'{hint}")

    @overload
    def compute(self, atoms: Atoms, properties: Iterable[str] = ..., *, check_finite: bool = ...) -> Results: ...
    @overload
    def compute(
        self, atoms: Sequence[Atoms], properties: Iterable[str] = ..., *, check_finite: bool = ...
    ) -> list[Results]: ...

    def compute(
        self,
        atoms: Atoms | Sequence[Atoms],
        properties: Iterable[str] = ("energy", "forces"),
        *,
        check_finite: bool = True,
    ) -> Results | list[Results]:
        """Compute properties of one structure, or of many in one go.

        Parameters
        ----------
        atoms
            An ``ase.Atoms``, or a sequence of them. Threads share all atoms of a sequence: many small structures run as
            fast as one big one.
        properties
            Any of:

            - ``energy``, ``free_energy``: float, eV (the same number: there are no electrons to be hot)
            - ``energies``: (n,), eV, with the energies of isolated atoms; their sum is the energy
            - ``forces``: (n, 3), eV/Å
            - ``stress``: (6,), eV/Å³, ASE's order and sign
            - ``stresses``: (n, 6), eV/Å³; their sum is the stress
            - ``virial``: (3, 3), eV, minus volume times stress; needs no cell
            - ``virials``: (n, 3, 3), eV, symmetric, half of each edge to either atom; their sum is the virial
            - ``centroid_virials``: (n, 3, 3), eV, nine components as heat fluxes need them
            - ``features``: (n, feature_width), the learned descriptors of all layers
        check_finite
            Refuse to give energies and forces that are not finite numbers.

        Returns
        -------
        dict or list of dict
            The properties by name; a list for a sequence.

        Raises
        ------
        EquipotError
            For elements that the model lacks, positions that are not finite, overlapping atoms, cells without volume,
            stress without a cell; for energies and forces that are not finite.
        """
        wanted = _check_properties(properties)
        if hasattr(atoms, "get_positions"):
            return self._evaluate([cast("Atoms", atoms)], wanted, check_finite=check_finite)[0]
        structures = list(atoms)
        for structure in structures:
            if not hasattr(structure, "get_positions"):
                raise EquipotError(
                    f"compute takes an ase.Atoms or several of them, not {type(structure).__name__} in "
                    f"{type(atoms).__name__}; ase.io.read reads files"
                )
        results: list[Results] = []
        for batch in _batches(structures):
            results += self._evaluate(batch, wanted, first=len(results), check_finite=check_finite)
        return results

    def profile(self, atoms: Atoms) -> list[dict[str, Any]]:
        """Say where the time of energy and forces goes.

        Parameters
        ----------
        atoms
            One structure.

        Returns
        -------
        list of dict
            Per stage: ``stage`` (name), ``seconds`` (summed over threads; reading the clock adds some),
            ``multiply_adds`` and ``bytes`` (those from beyond the first-level cache).
        """
        self._check_species(atoms, "")
        raw = self._engine.compute(
            np.ascontiguousarray(atoms.numbers, dtype=np.int32),
            np.ascontiguousarray(atoms.positions, dtype=np.float64),
            np.asarray(atoms.cell, dtype=np.float64).reshape(1, 3, 3),
            np.asarray(atoms.pbc, dtype=bool).reshape(1, 3),
            np.array([0, len(atoms)], dtype=np.int64),
            _equipot.Properties(True, False, False, False, profile=True),
            None,
            0.0,
        )
        return cast("list[dict[str, Any]]", raw["profile"])

    def device_bytes_per_atom(self, edges_per_atom: float) -> float:
        """Say how many bytes of a device's memory each atom takes, once it has tables; 0 on the CPU.

        Parameters
        ----------
        edges_per_atom
            Neighbours of an atom within the cutoff, and within the skin when there is one.
        """
        return self._engine.device_bytes_per_atom(edges_per_atom)

    def measure_peak(self) -> float:
        """Measure the fused multiply-adds per second that one core reaches in the working precision."""
        return self._engine.measure_peak()

    def _evaluate(
        self,
        structures: Sequence[Atoms],
        wanted: set[str],
        neighbors: _equipot.NeighborList | None = None,
        skin: float = 0.0,
        first: int | None = None,
        check_finite: bool = True,
    ) -> list[Results]:
        """Evaluate structures as one graph; `first` is the number of the first in the caller's list, for errors."""
        for index, atoms in enumerate(structures):
            where = "" if first is None else f"structure {first + index}: "
            self._check_species(atoms, where)
            if wanted & _NEED_VOLUME and not has_volume(atoms):
                raise EquipotError(f"{where}stress needs a cell with a volume, and these atoms have none")
        several = len(structures) > 1
        what = _equipot.Properties(
            forces=bool(wanted & _NEED_FORCES),
            virials=bool(wanted & {"stresses", "virials"}) or (several and bool(wanted & {"stress", "virial"})),
            centroid_virials="centroid_virials" in wanted,
            features="features" in wanted,
        )
        offsets = np.concatenate([[0], np.cumsum([len(atoms) for atoms in structures])]).astype(np.int64)
        raw = self._engine.compute(
            _join(structures, lambda a: a.numbers, (0,), np.int32),
            _join(structures, lambda a: a.positions, (0, 3), np.float64),
            np.array([np.asarray(a.cell) for a in structures], dtype=np.float64).reshape(-1, 3, 3),
            np.array([a.pbc for a in structures], dtype=bool).reshape(-1, 3),
            offsets,
            what,
            neighbors,
            skin,
        )
        if check_finite:
            _check_finite(raw, structures, offsets, first)
        return [
            _results(raw, slice(begin, end), several, atoms, wanted)
            for atoms, begin, end in zip(structures, offsets[:-1], offsets[1:], strict=True)
        ]

    def _check_species(self, atoms: Atoms, where: str) -> None:
        numbers = atoms.numbers
        if len(numbers) == 0 or (numbers.min() >= 0 and numbers.max() < 256 and self._known[numbers].all()):
            return
        known = set(self.info["species"])
        missing = sorted({int(z) for z in numbers} - known)
        names = ", ".join(_equipot.element_symbol(z) if 1 <= z <= 118 else f"atomic number {z}" for z in missing)
        raise EquipotError(f"{where}the model has no {names}; it knows {', '.join(self.species)}")

    def __reduce__(self) -> tuple[Callable[..., Potential], tuple[Any, ...]]:
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, "model.equipot")
            self._engine.write(copy)
            with open(copy, "rb") as file:
                content = file.read()
        return _unpickle, (content, self.path, self.head, self.dtype, self.radial, self.device)

    def __copy__(self) -> Potential:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Potential:
        return self


def has_volume(atoms: Atoms) -> bool:
    """Whether the three cell vectors span a volume, which is when ASE speaks of stress."""
    return atoms.cell.rank == 3


def _unpickle(content: bytes, path: str, head: str, dtype: str, radial: str, device: str = "cpu") -> Potential:
    potential = Potential.__new__(Potential)
    potential._start(_equipot.Model(content, path), path, head, dtype, radial, device)
    return potential


def _check_properties(properties: Iterable[str]) -> set[str]:
    wanted = {properties} if isinstance(properties, str) else set(properties)
    unknown = sorted(str(name) for name in wanted - set(PROPERTIES))
    if unknown:
        raise EquipotError(f"there is no property {', '.join(unknown)}; choose from {', '.join(PROPERTIES)}")
    return wanted


def _batches(structures: Sequence[Atoms]) -> Iterator[Sequence[Atoms]]:
    """Cut a list so that no part has many more than `_BATCH_ATOMS` atoms."""
    begin, atoms = 0, 0
    for end, structure in enumerate(structures):
        if end > begin and atoms + len(structure) > _BATCH_ATOMS:
            yield structures[begin:end]
            begin, atoms = end, 0
        atoms += len(structure)
    if begin < len(structures):
        yield structures[begin:]


def _join(
    structures: Sequence[Atoms], get: Callable[[Atoms], NDArray[Any]], shape: tuple[int, ...], dtype: type
) -> NDArray[Any]:
    if len(structures) == 1:
        return np.ascontiguousarray(get(structures[0]), dtype=dtype)
    return np.concatenate([np.zeros(shape, dtype), *(get(atoms) for atoms in structures)]).astype(dtype, copy=False)


def _check_finite(
    raw: dict[str, NDArray[np.float64]], structures: Sequence[Atoms], offsets: NDArray[np.int64], first: int | None
) -> None:
    fine = np.isfinite(raw["energies"])
    if "forces" in raw:
        fine = fine & np.isfinite(raw["forces"]).all(axis=1)
    if fine.all():
        return
    row = int(np.argmin(fine))
    index = int(np.searchsorted(offsets, row, side="right")) - 1
    where = "" if first is None else f"structure {first + index}: "
    atom = row - int(offsets[index])
    raise EquipotError(
        f"{where}the energy or the force of atom {atom} ({structures[index].symbols[atom]}) is not a finite number: "
        "atoms are too close for this model, or its file is damaged"
    )


def _results(
    raw: dict[str, NDArray[np.float64]], rows: slice, several: bool, atoms: Atoms, wanted: set[str]
) -> Results:
    """Pick the rows of one structure and derive what the engine does not give by itself."""
    results: Results = {}
    energies = raw["energies"][rows]
    if wanted & {"energy", "free_energy"}:
        energy = float(energies.sum())
        results |= {name: energy for name in ("energy", "free_energy") if name in wanted}
    for name in ("energies", "forces", "virials", "centroid_virials", "features"):
        if name in wanted:
            # A copy, so that keeping one structure's forces does not keep the whole batch in memory.
            results[name] = raw[name][rows].copy() if several else raw[name]
    if wanted & {"virial", "stress"}:
        virial = raw["virials"][rows].sum(axis=0) if several else raw["virial"]
        if "virial" in wanted:
            results["virial"] = virial
        if "stress" in wanted:
            results["stress"] = -_voigt(virial) / atoms.get_volume()
    if "stresses" in wanted:
        results["stresses"] = -_voigt(raw["virials"][rows]) / atoms.get_volume()
    return results


def _voigt(tensor: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3, 3) -> (..., 6); the mean of both off-diagonal elements, which differ by round-off only."""
    symmetric = 0.5 * (tensor + np.swapaxes(tensor, -1, -2))
    return symmetric[..., VOIGT[0], VOIGT[1]]
