"""Guards: made-up structures with atoms closer than in any data or bonds pulled apart, and the energy they have there.

Between the data and the wall of nuclei a fit is free to fall: one such hole, and hot dynamics ends in it. It is free to
rise as well, by thousands of eV an Ångström beyond the data, which spoils what lies just outside them. Copies of
structures get energies of their own there. Scaled down in length by up to 40 %, they follow Birch and Murnaghan's
equation of state with the stiffness of the data, from where their pressure says that they are on it: that is known to
0.05 eV per atom and what another derivative by pressure, 4.5 ± 0.5, makes of it; to 0.5 and a fifth of the gain where
no pressure is known or covalent bonds are squeezed as well.
Scaled up by as much as twice and more, those without covalent bonds follow the universal binding curve, known to
0.02 eV per atom and a tenth; with some of their atoms taken away, the rest has what its neighbours held it by, known to
a fifth. So melts and surfaces hold together, and free atoms lie as far above as cohesive energies say (`cohesion`).
With one atom pushed close to another, they gain Σ_pairs ε (exp((d - r)/ρ) - 1) over pairs closer than the shortest
distance d in the data, with ε = 3 eV and ρ = 0.15 d, known to 0.5 eV and a fifth.

Atoms that are not bound to each other have shortest distances of their own, by how many bonds lie between them, where
these are asked for: a hydrogen and the carbon of another molecule meet at 2.3 Å, though 1 Å is a bond. For these pairs
ε = 0.15 eV and ρ = 0.12 d, about the exponentials of Williams (J. Chem. Phys. 47, 4680, 1967) for hydrocarbons, and
what lies around the pushed atom goes along with it. Covalent bonds that become longer or shorter by x gain Morse's
(Phys. Rev. 34, 57, 1929) D (1 - exp(-α x))² instead, with D = 3.5 eV and α = 1.9 / Å, which most bonds of organic
molecules exceed; all of it is known to 0.2 eV and a fifth. There, too, covalent bonds that hold two parts together are
pulled apart, by up to 1.2 Å; the parts stay as they are.

In crystals and other bulk one atom is also put into the midst of others, near one of them and as it comes to the rest.
That costs 5 eV, known to 2, beside the walls of all whom it meets: a model that knows pairs need not know what two or
more of them at once do. Non-metals may bind there, though none of their kind is bound in the data: their walls begin at
0.95 of the sum of covalent radii at most.

Energies may be below a guard's by twice what that is known to where a model is trained, by once in linear fits, and
above what the copied structure has by three times the gain and as much: bends cost, too, and double bonds are stiffer.
Where the equation of state is known, they may be above by no more than below.
"""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from equipot.data import Structure
from equipot.data.structures import formula_unit
from equipot.fit.bonds import (
    MAY_BIND,
    Bonds,
    Indices,
    barred,
    bonds,
    bonds_apart,
    covalent,
    hydrogen_takers,
    is_covalent,
    matrix,
    neighbors,
)
from equipot.fit.cohesion import Neighborhood, cohesive_energy, stretching

_COMPRESSIONS, _STRETCHES = (0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6), (1.1, 1.2, 1.35, 1.6, 2.2, 1.06, 1.15)  # of length
_VOLUMES = np.linspace(0.1, 1.2, 1101)  # by that at rest; further apart, pressure falls no more
_STIFFENING, _STIFFENING_KNOWN = 4.5, 0.5  # the bulk modulus's derivative by pressure, and what it is known to
_SQUEEZE_KNOWN, _SQUEEZE_UNKNOWN = 0.05, 0.5  # eV per atom
_APART_KNOWN, _STRETCHING_SHARE, _THINNING_SHARE = 0.02, 0.1, 0.2  # eV per atom, and of the gain
_APART_WEIGHT = 30.0  # these are few, of all the ways in which a melt may come apart
_FURTHEST = 3  # as many bonds apart as this, or more, or not connected
_BOND_ENERGY, _BOND_STEEPNESS = 3.5, 1.9  # eV, 1/Å
_ALONG = 1.5  # Å; how far around a pushed atom others go along with it
_INSERTION, _INSERTION_KNOWN = 5.0, 2.0  # eV, what putting an atom elsewhere costs
_COMPRESSED = 0.95  # of the sum of covalent radii; bonds this short cost little

Volume = TypeVar("Volume", float, NDArray[np.float64])

# Atomic numbers of a pair, the smaller one first, and how many bonds apart they are.
Contact = tuple[int, int, int]


@dataclass(frozen=True)
class Guard:
    """A structure with an energy of its own, what that is known to, and the highest that it may be, eV.

    Where a model is trained, its misses count `weight` times.
    """

    structure: Structure
    tolerance: float
    highest: float = np.inf
    weight: float = 1.0

    @property
    def lowest(self) -> float:
        """The lowest that the energy may be where a model is trained, eV; what is below is a hole."""
        assert self.structure.energy is not None
        return self.structure.energy - 2 * self.tolerance


def guards(
    dataset: Sequence[Structure],
    shortest: Mapping[tuple[int, int], float],
    cutoff: float,
    count: int,
    seed: int,
    *,
    closest: float = 0.0,
    contacts: Mapping[Contact, float] | None = None,
) -> list[Guard]:
    """Make guards for a data set.

    Parameters
    ----------
    dataset : sequence of Structure
        Those with energies are copied.
    shortest : mapping
        Their `shortest_distances`.
    cutoff : float
        Å; how far to look for neighbours.
    count : int
        Copies to try; some may turn out to be useless.
    seed : int
        Of their choice.
    closest : float
        Å; copies with atoms closer than this are left out.
    contacts : mapping, optional
        Their `shortest_contacts`, to push also atoms together that are not bound to each other, and to pull bonds
        apart.
    """
    labelled = [s for s in dataset if s.energy is not None and len(s) > 1]
    if not labelled or not shortest:
        return []
    bulk, stiff = _bulk(labelled), stiffness(labelled)
    if contacts is not None:  # of molecules, bonds are pushed one by one
        bulk = [s for s in bulk if s.atoms.pbc.any()]
    volumes = np.where(np.isfinite(volumes := _volumes(bulk)), volumes, 0.0)
    takers = hydrogen_takers(labelled if contacts is not None else [])
    limits: dict[Contact, float] = {(*pair, 1): d for pair, d in shortest.items()} | dict(contacts or {})
    anywhere = insertion_limits(shortest)
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        whole, turn = number % 2 == 0 and len(bulk) > 0, number // 4
        if whole and number // 2 % 2:
            structure = bulk[int(rng.integers(len(bulk)))]
            if (cohesive := held_together_by(structure)) is not None:
                made.append(_apart(structure, cohesive, stiff, turn, rng))
                continue
        structure = _evenly(bulk, volumes, rng) if whole else labelled[int(rng.integers(len(labelled)))]
        atoms = structure.atoms.copy()
        if whole:
            guard = _squeezed(structure, _COMPRESSIONS[turn % len(_COMPRESSIONS)], stiff)
        elif atoms.pbc.any() and number // 2 % 2:
            if insert(atoms, anywhere, rng) is None:
                continue
            guard = raised(structure, atoms, *insertion(atoms, anywhere))
        else:
            turn = (number // 4 if atoms.pbc.any() else number // 2 if len(bulk) > 0 else number) % 4
            apart = bonds_apart(atoms) if contacts is not None else None
            known = 0.5 if apart is None else 0.2
            moved = apart is not None and turn == 1 and _pull(atoms, takers, rng)
            if not moved and contacts and turn != 3:
                moved = _push_contact(atoms, apart, cutoff, limits, rng)
            elif not moved:
                moved = _push(atoms, cutoff, limits, rng)
            if not moved:
                continue
            gain = _wall(atoms, apart, limits) + (0.0 if apart is None else _strain(structure.atoms, atoms))
            guard = raised(structure, atoms, gain, known)
        if len(neighbors("i", guard.structure.atoms, closest)) == 0:
            made.append(guard)
    return made


def raised(structure: Structure, atoms: Atoms, gain: float, known: float, made: str = "guard") -> Guard:
    """A guard that stands higher than a structure by a gain that is known to so much and a fifth, eV."""
    tolerance = known + 0.2 * gain
    copied, before = _copied(structure, atoms, gain, made)
    return Guard(copied, tolerance, before + 3 * gain + 2 * tolerance)


def _copied(structure: Structure, atoms: Atoms, gain: float, made: str) -> tuple[Structure, float]:
    """Atoms of a structure that stand higher than in it by a gain, eV, and the energy that they have there."""
    assert structure.energy is not None
    before = structure.energy * len(atoms) / len(structure)
    source = f"{made} from {structure.source}"
    return Structure(atoms, before + gain, config_type=structure.config_type, source=source), before


def insertion_limits(shortest: Mapping[tuple[int, int], float]) -> dict[Contact, float]:
    """Below which distance, Å, an atom that was put elsewhere meets a wall, by species."""
    limits: dict[Contact, float] = {}
    for (a, b), distance in shortest.items():
        may_bind = bool(covalent(np.array([a]), np.array([b]))[0])
        bond = _COMPRESSED * float(covalent_radii[a] + covalent_radii[b])
        limits[a, b, 1] = min(distance, bond) if may_bind else distance
    return limits


def insert(atoms: Atoms, limits: Mapping[Contact, float], rng: np.random.Generator) -> int | None:
    """Put one atom close to another, from any side, and say which; None if their shortest distance is not known."""
    i, j = rng.choice(len(atoms), 2, replace=False)
    (d,) = _known(_contacts(atoms, np.array([i]), np.array([j]), None), limits)
    direction = rng.normal(size=3)
    atoms.positions[i] = atoms.positions[j] + direction * (d * rng.uniform(0.3, 1.0) / np.linalg.norm(direction))
    return int(i) if d > 0 else None


def insertion(atoms: Atoms, limits: Mapping[Contact, float]) -> tuple[float, float]:
    """What it costs that one atom lies elsewhere, and what that is known to besides a fifth, eV."""
    return _INSERTION + _wall(atoms, None, limits), _INSERTION_KNOWN


def _push(atoms: Atoms, cutoff: float, limits: Mapping[Contact, float], rng: np.random.Generator) -> bool:
    """Push one atom close to its nearest neighbour; False if it has none."""
    i, j, D = neighbors("ijD", atoms, cutoff)
    d = _known(_contacts(atoms, i, j, None), limits)
    # Species that are further apart in all data than was looked have no distance to be pushed below.
    edges = np.flatnonzero(d)
    if not len(edges):
        return False
    edge, length = _nearest(i, D, edges, rng)
    aim = d[edge] * rng.uniform(0.4, 0.95)
    atoms.positions[i[edge]] += D[edge] * (1 - aim / length)
    return True


def _push_contact(
    atoms: Atoms, apart: Bonds | None, cutoff: float, limits: Mapping[Contact, float], rng: np.random.Generator
) -> bool:
    """Push an atom close to one it is not bound to, of a kind of contact drawn by lot; False if there is none."""
    i, j, D = neighbors("ijD", atoms, cutoff)
    kinds = _contacts(atoms, i, j, apart)
    known = (kinds[:, 2] > 1) & (_known(kinds, limits) > 0) & (i != j)
    edges = _of_one_kind(kinds, known, rng)
    if not len(edges):
        return False
    edge, length = _nearest(i, D, edges, rng)
    aim = limits[tuple(kinds[edge].tolist())] * rng.uniform(0.5, 0.95)
    follow = np.zeros(len(atoms))
    first = i == i[edge]
    np.maximum.at(follow, j[first], np.exp(-np.sum(np.square(D[first]), axis=1) / _ALONG**2))
    follow[i[edge]] = 1.0
    # The other atom moves too, so the first has to go further.
    atoms.positions += np.outer(follow, D[edge] * (1 - aim / length) / (1 - follow[j[edge]]))
    return True


def _pull(atoms: Atoms, takers: Indices, rng: np.random.Generator) -> bool:
    """Pull a bond apart, of a kind drawn by lot; False if there is none to pull."""
    radii = covalent_radii[atoms.numbers]
    i, j, D = bonds(atoms)
    edges = _of_one_kind(_contacts(atoms, i, j, None), covalent(atoms.numbers[i], atoms.numbers[j]), rng)
    if not len(edges):
        return False
    edge = edges[int(rng.integers(len(edges)))]
    bond = {int(i[edge]), int(j[edge])}
    others = ~(np.isin(i, list(bond)) & np.isin(j, list(bond)))
    _, parts = connected_components(matrix(len(atoms), i[others], j[others]), directed=False)
    moved = parts == parts[i[edge]]
    if moved[j[edge]]:  # the bond is of a ring
        return False
    x, after = rng.uniform(0.2, 1.2), atoms.copy()
    after.positions[moved] -= D[edge] * (x / np.linalg.norm(D[edge]))
    i, j, r = neighbors("ijd", after, 2 * MAY_BIND * float(radii.max()))
    others = ~(np.isin(i, list(bond)) & np.isin(j, list(bond)))
    near = (r < MAY_BIND * (radii[i] + radii[j])) & (moved[i] != moved[j]) & others
    if np.any(near & ~barred(atoms.numbers[i], atoms.numbers[j], takers)):
        return False  # it may bind elsewhere
    atoms.positions = after.positions
    return True


def _of_one_kind(kinds: Indices, usable: NDArray[np.bool_], rng: np.random.Generator) -> Indices:
    """Draw a kind among the usable pairs of atoms, and give all of these that are of it; none where none is usable."""
    there = np.unique(kinds[usable], axis=0)
    if not len(there):
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero((kinds == there[int(rng.integers(len(there)))]).all(axis=1) & usable)


def _nearest(i: Indices, D: NDArray[np.float64], edges: Indices, rng: np.random.Generator) -> tuple[int, float]:
    """Draw an atom that has some of the `edges`; the shortest of them, and its length, Å."""
    mine = edges[i[edges] == i[edges[int(rng.integers(len(edges)))]]]
    lengths = np.linalg.norm(D[mine], axis=1)
    return int(mine[int(np.argmin(lengths))]), float(lengths.min())


def _bulk(dataset: Sequence[Structure]) -> list[Structure]:
    """Structures of about the median volume or less, which have no vacuum; all where none has a volume."""
    volumes = _volumes(dataset)
    if not np.isfinite(volumes).any():
        return list(dataset)
    most = 1.2 * np.median(volumes[np.isfinite(volumes)])
    return [s for s, volume in zip(dataset, volumes, strict=True) if volume < most]


def _evenly(bulk: Sequence[Structure], volumes: NDArray[np.float64], rng: np.random.Generator) -> Structure:
    """Draw a structure, all volumes being as likely: what the data have least of is where they end."""
    near = np.abs(volumes - rng.uniform(volumes.min(), volumes.max()))
    nearest = np.flatnonzero(near <= near.min() + 0.02 * volumes.max())
    return bulk[int(nearest[int(rng.integers(len(nearest)))])]


def _squeezed(structure: Structure, scale: float, stiff: float) -> Guard:
    """The guard of a structure whose lengths were scaled down."""
    atoms, n, before = structure.atoms.copy(), len(structure), _volume_now(structure, stiff)
    _scale(atoms, scale)
    gain = n * (compression(before * scale**3, stiff) - compression(before, stiff))
    if structure.virial is None or is_covalent(structure.atoms):
        return raised(structure, atoms, gain, n * _SQUEEZE_UNKNOWN)
    stiffer = stiff * (_stiffening(before * scale**3) - _stiffening(before))
    tolerance = n * (_SQUEEZE_KNOWN + _STIFFENING_KNOWN * stiffer)
    copied, energy = _copied(structure, atoms, gain, "guard")
    return Guard(copied, tolerance, energy + gain + 2 * tolerance)


def held_together_by(structure: Structure) -> float | None:
    """The cohesive energy, eV per atom, that decides what stretching costs; None where it is not known."""
    cohesive = cohesive_energy(structure.atoms.numbers) if structure.atoms.pbc.all() else None
    return None if cohesive is None or is_covalent(structure.atoms) else cohesive


def _apart(structure: Structure, cohesive: float, stiff: float, turn: int, rng: np.random.Generator) -> Guard:
    """The guard of a solid or a melt that lost some of its atoms, or was stretched, by turns."""
    if turn % 2 and thinnable(structure.atoms):
        atoms = thinned(structure.atoms, rng)
        gain, share = Neighborhood(structure.atoms, cohesive).cost(atoms), _THINNING_SHARE
    else:
        atoms, scale = structure.atoms.copy(), _STRETCHES[turn // 2 % len(_STRETCHES)]
        _scale(atoms, scale)
        now = _volume_now(structure, stiff) ** (1 / 3)
        gain = len(atoms) * (stretching(now * scale, stiff, cohesive) - stretching(now, stiff, cohesive))
        share = _STRETCHING_SHARE
    tolerance = len(atoms) * _APART_KNOWN + share * abs(gain)
    copied, before = _copied(structure, atoms, gain, "guard")
    return Guard(copied, tolerance, before + gain + 4 * tolerance, _APART_WEIGHT)


def _scale(atoms: Atoms, scale: float) -> None:
    """Scale all lengths, those of vacuum around molecules as well."""
    atoms.set_cell(np.asarray(atoms.cell) * scale)
    atoms.positions *= scale


def thinnable(atoms: Atoms) -> bool:
    """Whether some of the atoms can be taken away without a change of composition."""
    return len(formula_unit(atoms.numbers)) < len(atoms)


def thinned(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Some of the atoms, whichever they are, sorted by species: any number of formula units of the same composition."""
    unit = formula_unit(atoms.numbers)
    units = int(rng.integers(1, len(atoms) // len(unit)))
    kept = [
        rng.choice(np.flatnonzero(atoms.numbers == z), units * unit.count(z), replace=False) for z in sorted(set(unit))
    ]
    return atoms[np.concatenate(kept)]


def _volume_now(structure: Structure, stiff: float) -> float:
    """The volume as a part of that at rest, by what the pressure is; 1 where it is not known."""
    if structure.virial is None:
        return 1.0
    return float(np.interp(-np.trace(structure.virial) / (3 * len(structure) * stiff), -_PRESSURES, _VOLUMES))


def stiffness(dataset: Sequence[Structure]) -> float:
    """Bulk modulus times volume per atom, eV, of structures near the median volume: how pressure falls with it.

    Where the data do not tell (no stresses, or one volume), it is 10 eV, as in many metals.
    """
    volumes = _volumes(dataset)
    if not np.isfinite(volumes).any():
        return 10.0
    near = np.abs(np.log(volumes / np.median(volumes[np.isfinite(volumes)]))) < 0.2
    known = [
        (np.log(v), np.trace(s.virial) / len(s))
        for s, v, take in zip(dataset, volumes, near, strict=True)
        if take and s.virial is not None
    ]
    if len(known) < 5 or np.ptp([v for v, _ in known]) < 0.02:
        return 10.0
    slope = np.polyfit([v for v, _ in known], [w for _, w in known], 1)[0]
    return float(np.clip(-slope / 3, 0.5, 60.0))


def _volumes(dataset: Sequence[Structure]) -> NDArray[np.float64]:
    """Å³ per atom; infinite where a structure has no end or no such thing."""
    return np.array([s.atoms.get_volume() / len(s) if np.all(s.atoms.pbc) else np.inf for s in dataset])


def compression(volume: Volume, stiff: float) -> Volume:
    """What compression to so much of the volume at rest costs, eV per atom (Birch, Phys. Rev. 71, 809, 1947).

    `stiff` is the bulk modulus times the volume per atom, eV; its derivative by pressure is 4.5.
    """
    x = volume ** (-2 / 3)
    return stiff * (_STIFFENING * _stiffening(volume) + 9 / 16 * (x - 1) ** 2 * (6 - 4 * x))


def _stiffening(volume: Volume) -> Volume:
    """By how much more the same costs for every one in that derivative, in units of `stiff`."""
    return 9 / 16 * (volume ** (-2 / 3) - 1) ** 3


# Times volume, for a stiffness of one.
_PRESSURES = -_VOLUMES * np.gradient(compression(_VOLUMES, 1.0), _VOLUMES)


def _wall(atoms: Atoms, apart: Bonds | None, limits: Mapping[Contact, float]) -> float:
    """The energy of the repulsive wall, eV."""
    i, j, r = neighbors("ijd", atoms, max(limits.values()))
    kinds = _contacts(atoms, i, j, apart)
    d, bound = _known(kinds, limits), kinds[:, 2] == 1
    near = r < d
    if apart is not None:
        near &= ~(bound & covalent(kinds[:, 0], kinds[:, 1]))
    d, r, bound = d[near], r[near], bound[near]
    gain = np.where(bound, 3.0, 0.15) * np.expm1((d - r) / (np.where(bound, 0.15, 0.12) * d))
    return float(0.5 * np.sum(gain))  # every pair is there twice


def _strain(before: Atoms, after: Atoms) -> float:
    """The energy of covalent bonds that are longer or shorter than they were, eV."""
    i, j, D = bonds(before)
    moved = after.positions - before.positions
    x = np.linalg.norm(D + moved[j] - moved[i], axis=1) - np.linalg.norm(D, axis=1)
    energies = _BOND_ENERGY * np.square(np.expm1(-_BOND_STEEPNESS * x))
    # every bond is there twice
    return float(0.5 * np.sum(energies[covalent(before.numbers[i], before.numbers[j])]))


def shortest_distances(dataset: Sequence[Structure], cutoff: float) -> dict[tuple[int, int], float]:
    """The shortest distance between atoms of every pair of species that meet, Å."""
    return by_species(_shortest(dataset, cutoff, lambda _: None))


def shortest_contacts(dataset: Sequence[Structure], cutoff: float) -> dict[Contact, float]:
    """The shortest distance between atoms that are not bound to each other, Å, by species and bonds between them."""
    return unbound(shortest_by_bonds(dataset, cutoff))


def shortest_by_bonds(dataset: Sequence[Structure], cutoff: float) -> dict[Contact, float]:
    """The shortest distance between atoms, bound or not, Å, by species and bonds between them."""
    return _shortest(dataset, cutoff, bonds_apart)


def by_species(nearest: Mapping[Contact, float]) -> dict[tuple[int, int], float]:
    """The `shortest_distances` of data whose `shortest_by_bonds` are known."""
    found: dict[tuple[int, int], float] = {}
    for (a, b, _), distance in nearest.items():
        found[a, b] = min(found.get((a, b), np.inf), distance)
    return {pair: max(distance, 0.3) for pair, distance in found.items()}


def unbound(nearest: Mapping[Contact, float]) -> dict[Contact, float]:
    """The `shortest_contacts` of data whose `shortest_by_bonds` are known."""
    return {kind: distance for kind, distance in nearest.items() if kind[2] > 1}


def _shortest(
    dataset: Sequence[Structure], cutoff: float, apart: Callable[[Atoms], Bonds | None]
) -> dict[Contact, float]:
    found: dict[Contact, float] = {}
    for structure in dataset:
        i, j, r = neighbors("ijd", structure.atoms, min(cutoff, 5.0))
        for kind, distance in _least(_contacts(structure.atoms, i, j, apart(structure.atoms)), r):
            found[kind] = min(found.get(kind, np.inf), distance)
    return found


def _least(kinds: Indices, distances: NDArray[np.float64]) -> list[tuple[Contact, float]]:
    """The rows of `kinds` that differ, each with the shortest of its distances."""
    order = np.argsort(distances, kind="stable")
    rows, first = np.unique(kinds[order], axis=0, return_index=True)
    return [((a, b, k), d) for (a, b, k), d in zip(rows.tolist(), distances[order[first]].tolist(), strict=True)]


def _contacts(atoms: Atoms, i: Indices, j: Indices, apart: Bonds | None) -> Indices:
    """Atomic numbers of pairs of atoms, the smaller one first, and how many bonds apart they are, shape (P, 3).

    Without `apart` all count as bound.
    """
    pairs = np.sort(np.column_stack([atoms.numbers[i], atoms.numbers[j]]).astype(np.int64), axis=1)
    bonds = np.ones(len(pairs), dtype=np.int64) if apart is None else apart[i, j].astype(np.int64)
    return np.column_stack([pairs, np.where(bonds == 0, _FURTHEST, bonds)])


def _known(kinds: Indices, limits: Mapping[Contact, float]) -> NDArray[np.float64]:
    """The shortest distance of every row of `kinds`, Å; 0 where there is none."""
    return np.array([limits.get((a, b, k), 0.0) for a, b, k in kinds.tolist()], dtype=np.float64)
