"""Do energies, forces and stresses belong together? Units and signs from pairs of similar structures."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from equipot.data.labels import OPPOSITE_STRESS, unit_of_stress
from equipot.data.structures import DataSet, Finding, Severity
from equipot.units import GPA

# Structures of one composition that are compared with each other, and groups of them.
_GROUP, _GROUPS = 120, 40
# A slope that differs by this factor from that of a unit is none of it; anharmonic energies are a fifth too small.
_MOST_APART = 1.3
# As many pairs tell that labels do not belong together; fewer do where the factor is that of a unit or a sign.
_CERTAIN = 10
_MAX_NUMBERS = 4_000_000

# What the energy change is, divided by what the forces predict, when one of them is in another unit.
_ENERGY_FACTORS = {
    "the energies seem to be in Hartree and the forces in eV/Å": 1 / 27.2114,
    "the energies seem to be in Rydberg and the forces in eV/Å": 1 / 13.6057,
    "the energies seem to be in kcal/mol and the forces in eV/Å": 23.0605,
    "the energies seem to be in kJ/mol and the forces in eV/Å": 96.4853,
    "the forces seem to be in kcal/mol/Å and the energies in eV": 1 / 23.0605,
    "the forces seem to be in kJ/mol/Å and the energies in eV": 1 / 96.4853,
    "the forces seem to be in Hartree/Bohr and the energies in eV": 51.4221,
    "the forces seem to be in Hartree/Å and the energies in eV": 27.2114,
    "the forces seem to be in Rydberg/Bohr and the energies in eV": 25.7110,
    "the energies seem to be in Hartree or Rydberg, and the forces in the same per Bohr": 1.889726,
}


@dataclass
class Pairs:
    """Pairs of similar structures.

    Attributes
    ----------
    first, second
        Indices into the data set.
    change
        Of the energy, eV.
    by_forces, by_virial
        What the mean of both structures' forces and virials predict of it, eV.
    atoms
        Atoms in the structures.
    size
        Root mean square of the displacements, Å.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    change: NDArray[np.float64]
    by_forces: NDArray[np.float64]
    by_virial: NDArray[np.float64]
    atoms: NDArray[np.int64]
    size: NDArray[np.float64]


def similar_pairs(dataset: DataSet, seed: int = 0) -> Pairs:
    """Find, for structures of the same atoms in the same order, the most similar other one.

    The change of the energy between two structures is minus the mean force times the displacements and minus the mean
    virial times the strain, up to third order in them: exact for anything harmonic.
    """
    rng = np.random.default_rng(seed)
    groups: dict[tuple[bytes, bytes], list[int]] = {}
    for i, s in enumerate(dataset):
        if s.energy is not None and s.forces is not None and len(s) > 1:
            groups.setdefault((s.atoms.numbers.tobytes(), s.atoms.pbc.tobytes()), []).append(i)
    rows: list[tuple[float, ...]] = []
    several = sorted((members for members in groups.values() if len(members) > 1), key=len, reverse=True)
    for members in several[:_GROUPS]:
        atoms = len(dataset[members[0]])
        count = min(len(members), _GROUP, max(2, int(np.sqrt(_MAX_NUMBERS / (3 * atoms)))))
        # Neighbours in a file often are neighbours in a trajectory or a scan, so runs of frames are taken.
        runs = np.array_split(np.array(members), max(1, len(members) // 10))
        chosen = np.concatenate([runs[k] for k in rng.permutation(len(runs))])[:count]
        rows += _pairs_of_group(dataset, np.sort(chosen))
    table = np.array(rows, dtype=float).reshape(-1, 7)
    first, second, change, by_forces, by_virial, sizes, moved = table.T
    return Pairs(first.astype(int), second.astype(int), change, by_forces, by_virial, sizes.astype(int), moved)


def _pairs_of_group(dataset: DataSet, members: NDArray[np.int64]) -> list[tuple[float, ...]]:
    group = [dataset[int(i)] for i in members]
    periodic = np.asarray(group[0].atoms.pbc)
    positions = np.array([s.atoms.positions for s in group])
    forces = np.array([s.forces for s in group])
    energies = np.array([s.energy for s in group])
    cells = np.array([np.asarray(s.atoms.cell) for s in group])
    if periodic.any():
        if any(s.atoms.cell.rank < 3 for s in group):
            return []
        inverse = np.linalg.inv(cells)
        scaled = np.einsum("snk,skl->snl", positions, inverse)
    else:
        positions, forces = _aligned(positions, forces)
    virials = np.array([np.full((3, 3), np.nan) if s.virial is None else s.virial for s in group])
    rows: list[tuple[float, ...]] = []
    for a in range(len(group)):
        others = np.array([b for b in range(len(group)) if b != a])
        if periodic.any():
            middle = 0.5 * (cells[others] + cells[a])
            strain = np.linalg.solve(middle, cells[others] - cells[a])
            shift = scaled[others] - scaled[a]
            shift -= np.round(shift) * periodic
            # Two atoms may wrap apart when all of them have drifted: the drift of the first is taken off before.
            drift = shift[:, :1]
            shift = shift - drift
            shift -= np.round(shift) * periodic
            shift -= shift.mean(axis=1, keepdims=True)
            moved = np.einsum("snk,skl->snl", shift, middle)
        else:
            strain = np.zeros((len(others), 3, 3))
            moved = positions[others] - positions[a]
        size = np.sqrt((moved**2).sum(axis=2).mean(axis=1))
        turned = np.abs(strain - np.swapaxes(strain, 1, 2)).max(axis=(1, 2))
        stretched = np.abs(strain).max(axis=(1, 2))
        distance = size + 5 * stretched
        # Beyond these the third order counts; below them nothing but digits is left.
        usable = (size < 0.5) & (stretched < 0.08) & (turned < 0.02) & (distance > 1e-3)
        if not usable.any():
            continue
        k = int(np.argmin(np.where(usable, distance, np.inf)))
        b = int(others[k])
        if b < a and rows and any(row[0] == members[b] and row[1] == members[a] for row in rows):
            continue
        by_forces = -0.5 * float(((forces[a] + forces[b]) * moved[k]).sum())
        symmetric = 0.5 * (strain[k] + strain[k].T)
        by_virial = -0.5 * float(((virials[a] + virials[b]) * symmetric).sum()) if stretched[k] > 0 else 0.0
        change = float(energies[b] - energies[a])
        rows.append((int(members[a]), int(members[b]), change, by_forces, by_virial, len(group[a]), float(size[k])))
    return rows


def _aligned(
    positions: NDArray[np.float64], forces: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Molecules turned and shifted onto the first one, with their forces."""
    positions = positions - positions.mean(axis=1, keepdims=True)
    left, _, right = np.linalg.svd(np.einsum("snk,nl->skl", positions, positions[0]))
    left[:, :, -1] *= np.sign(np.linalg.det(left) * np.linalg.det(right))[:, None]
    turn = left @ right
    return positions @ turn, forces @ turn


def check_consistency(dataset: DataSet, seed: int = 0) -> list[Finding]:
    """Compare energies with forces and with stresses."""
    pairs = similar_pairs(dataset, seed)
    findings = [_energies_and_forces(dataset, pairs), _energies_and_stresses(dataset, pairs)]
    return [finding for finding in findings if finding is not None]


@dataclass
class _Slope:
    """What energy changes are, divided by what is predicted of them: one where labels belong together.

    Attributes
    ----------
    value, error
        The estimate and its standard error.
    pairs
        Indices of the pairs that it comes from.
    """

    value: float
    error: float
    pairs: NDArray[np.int64]

    @property
    def within(self) -> float:
        """By which factor the true value may differ: for the scatter, and for anharmonic parts that all pairs share."""
        return min(1.1 + 2 * self.error / abs(self.value), _MOST_APART)

    def severity(self, recognised: bool) -> Severity:
        """How bad a slope other than one is, where its factor is `recognised` as that of a unit or a sign or not."""
        many, scatter, size = len(self.pairs) >= _CERTAIN, self.error / abs(self.value), abs(np.log(abs(self.value)))
        # Anharmonic energies turn no sign, hardly make a factor of three, and never one of ten.
        off = self.value < 0 or size > np.log(2.5)
        if (many and scatter < 0.1) or (recognised and off and scatter < 0.2) or size > np.log(10):
            return "error"
        return "warning" if many or recognised or off else "note"

    def sources(self, dataset: DataSet, pairs: Pairs) -> tuple[str, ...]:
        """Some of the structures."""
        return tuple(dataset[int(pairs.first[i])].source for i in self.pairs[:3])


@dataclass(frozen=True)
class _Labels:
    """Labels that energies are compared with: how they are spoken of, and which slopes are fine."""

    topic: str
    name: str
    structures: str
    fine: tuple[float, float]
    unknown: str
    advice: str


_FORCES = _Labels(
    "energy units",
    "forces",
    "similar structures",
    (0.6, 1.5),
    "they seem to be in different units or from different calculations",
    "eV, and eV/Å for minus the gradient, are expected: convert them, or name the right keys",
)
_STRESSES = _Labels(
    "stress",
    "stresses",
    "strained structures",
    (0.7, 1.4),
    "they seem to be in another unit or from another calculation",
    "convert it to eV/Å³ with tension positive (or virials in eV), or leave it out",
)


def _by_ratio(change: NDArray[np.float64], foretold: NDArray[np.float64], usable: NDArray[np.bool_]) -> _Slope | None:
    """The median of change / foretold over the larger half of the usable pairs; None where it scatters widely."""
    size = np.abs(foretold[usable])
    which = np.flatnonzero(usable)[size >= max(np.median(size), 1e-6)]
    low, middle, high = np.percentile(change[which] / foretold[which], [25, 50, 75])
    spread = 0.5 * (high - low)
    if spread >= 0.35 * abs(middle):
        return None
    # The standard error of a median is 1.25 standard deviations / √n, each of them 1.48 times half of the middle half.
    return _Slope(float(middle), float(1.86 * spread / np.sqrt(len(which))), which)


def _jointly(change: NDArray[np.float64], pairs: Pairs) -> _Slope | None:
    """The slope for the forces where cells differ: least squares for that of the stresses at the same time."""
    known = np.flatnonzero(np.isfinite(pairs.by_forces) & np.isfinite(pairs.by_virial))
    foretold = np.column_stack([pairs.by_forces, pairs.by_virial])[known]
    if len(known) < _CERTAIN or not foretold.any(axis=0).all():
        return None
    found, _, rank, _ = np.linalg.lstsq(foretold, change[known], rcond=None)
    rest = change[known] - foretold @ found
    if rank < 2 or rest @ rest > 0.2 * (change[known] @ change[known]):
        return None
    variance = rest @ rest / (len(known) - 2) * np.linalg.inv(foretold.T @ foretold)[0, 0]
    by_forces, by_virial = np.abs(foretold * found).T
    slope = _Slope(float(found[0]), float(np.sqrt(variance)), known[by_forces > by_virial])
    return slope if len(slope.pairs) > 2 and slope.error < 0.2 * abs(slope.value) else None


def _energies_and_forces(dataset: DataSet, pairs: Pairs) -> Finding | None:
    if not any(s.energy is not None and s.forces is not None and len(s) > 1 for s in dataset):
        return None
    # Where cells differ, the work of the stress has to be known, or be none.
    usable = np.isfinite(pairs.by_forces) & (np.abs(np.nan_to_num(pairs.by_virial)) < 0.1 * np.abs(pairs.by_forces))
    usable &= ~np.isnan(pairs.by_virial)

    def slope_of(change: NDArray[np.float64]) -> _Slope | None:
        slope = _jointly(change, pairs) if usable.sum() < 2 * _CERTAIN else None
        return slope or (_by_ratio(change, pairs.by_forces, usable) if usable.sum() >= 6 else None)

    slope = slope_of(pairs.change)
    if slope is not None:
        return _judge_forces(dataset, pairs, slope, slope_of(pairs.change * pairs.atoms))
    return _roughly(pairs.change[usable], pairs.by_forces[usable], pairs.size[usable]) or Finding(
        "note", "energy units", "no structures differ so that energies tell the sign and the unit of the forces"
    )


def _judge_forces(dataset: DataSet, pairs: Pairs, slope: _Slope, of_totals: _Slope | None) -> Finding:
    """Judge the slope of energies over forces; `of_totals` is the slope if the energies are per atom."""
    guesses = _units_of_energies_and_forces(slope)
    if of_totals is not None and 1 / _MOST_APART < abs(of_totals.value) < _MOST_APART and abs(slope.value) < 0.5:
        guesses.insert(0, "the energies seem to be per atom")
    guess = ", or ".join(guesses)
    if slope.value < 0:
        guess = "the forces have the opposite sign (they are gradients)" + (f", and {guess}" if guess else "")
    return _judge(dataset, pairs, slope, _FORCES, guess)


def _units_of_energies_and_forces(slope: _Slope) -> list[str]:
    """All units that explain the size of a slope, the likeliest first."""
    apart = {name: abs(np.log(abs(slope.value) / factor)) for name, factor in _ENERGY_FACTORS.items()}
    names = sorted(apart, key=apart.__getitem__)
    nearest = [name for name in names[:1] if apart[name] < np.log(_MOST_APART)]
    return [name for name in names if apart[name] < np.log(slope.within)] or nearest


def _judge(dataset: DataSet, pairs: Pairs, slope: _Slope, labels: _Labels, guess: str) -> Finding:
    """Say what a slope means, where `guess` is what explains one that is wrong, or ""."""
    count = len(slope.pairs)
    least, most = labels.fine
    if least < slope.value < most:
        text = f"energies follow the {labels.name} in {count} pairs of {labels.structures}"
        return Finding("ok", labels.topic, f"{text} ({slope.value:.2f} of what they predict)")
    severity = slope.severity(bool(guess))
    text = f"energy differences between {labels.structures} are {slope.value:.3g} times those that the {labels.name} "
    if severity == "note":
        text += f"predict in {count} pairs, which are too few to tell whether something is wrong"
    else:
        few = "" if severity == "error" or count >= _CERTAIN else ", which are few"
        text += f"predict ({count} pairs{few}): {guess or labels.unknown}; {labels.advice}"
    return Finding(severity, labels.topic, text, slope.sources(dataset, pairs))


def _roughly(change: NDArray[np.float64], foretold: NDArray[np.float64], size: NDArray[np.float64]) -> Finding | None:
    """Judge pairs that are less similar, such as molecules at high temperature."""
    scale = float(np.sqrt((change @ change) * (foretold @ foretold)))
    if len(change) < 20 or scale == 0:
        return None
    alike = abs(change @ foretold) / scale
    if alike < 0.25 and len(change) >= 30 and np.median(size) < 0.2:
        return Finding(
            "warning",
            "energy units",
            "energy differences between similar structures have nothing to do with those that the forces predict "
            f"({len(change)} "
            "pairs); look whether energies, forces and structures are in the same order and from one calculation",
        )
    if alike < 0.4:
        return None
    # What scatters does so around less than what the forces predict: by a half where the correlation is 0.6.
    slope = float(change @ foretold / (foretold @ foretold))
    if 0.15 < slope < 2.0:
        text = f"energies roughly follow the forces in {len(change)} pairs ({slope:.2f} of what they predict)"
        return Finding("ok", "energy units", text)
    if slope < 0:
        guess = "the forces seem to have the opposite sign (to be gradients)"
    elif slope < 1:
        guess = "the energies may be in Hartree or Rydberg, or the forces in kcal/mol/Å or kJ/mol/Å"
    else:
        guess = "the energies may be in kcal/mol or kJ/mol, or the forces in Hartree/Bohr"
    return Finding(
        "warning",
        "energy units",
        f"energy differences between similar structures are about {slope:.2g} times those that the forces predict "
        f"({len(change)} pairs): {guess}; eV and eV/Å are expected",
    )


def _energies_and_stresses(dataset: DataSet, pairs: Pairs) -> Finding | None:
    found = _judge_stresses(dataset, pairs)
    if found is not None and found.severity != "note":
        return found
    if not any(s.virial is not None for s in dataset):
        return None
    return (
        _stiffness(dataset)
        or found
        or Finding(
            "note",
            "stress",
            "no structures differ so that energies and pressures tell the sign and the unit of the stresses",
        )
    )


def _judge_stresses(dataset: DataSet, pairs: Pairs) -> Finding | None:
    """Judge stresses by pairs of strained structures."""
    known = np.isfinite(pairs.by_virial) & (np.abs(pairs.by_virial) > 1e-6)
    # Pairs that differ by strain much more than by displacement say it best; the unit of the virial is yet unknown.
    known &= np.abs(pairs.by_forces) < 0.2 * np.abs(pairs.change)
    slope = _by_ratio(pairs.change - pairs.by_forces, pairs.by_virial, known) if known.sum() >= 5 else None
    if slope is None:
        return None
    # These units are far apart.
    guess = unit_of_stress(1 / slope.value, 2.0) or (OPPOSITE_STRESS if slope.value < 0 else "")
    return _judge(dataset, pairs, slope, _STRESSES, guess)


def _stiffness(dataset: DataSet) -> Finding | None:
    """Judge stresses by how pressure follows volume, else by their size."""
    rows: dict[bytes, list[tuple[float, float]]] = {}
    sizes = []
    for s in dataset:
        if s.virial is None or s.atoms.cell.rank < 3:
            continue
        volume = s.atoms.get_volume()
        pressure = float(np.trace(s.virial)) / (3 * volume)
        sizes.append(abs(pressure))
        counts = np.bincount(s.atoms.numbers, minlength=119)
        composition = (counts / np.gcd.reduce(counts[counts > 0])).astype(int).tobytes()
        rows.setdefault(composition, []).append((volume / len(s), pressure))
    moduli = []
    for points in rows.values():
        volumes, pressures = np.array(sorted(points)).T
        spread = volumes.max() / volumes.min() - 1
        # The steepest part of an equation of state is its compressed side; three percent are more than noise.
        if len(points) < 4 or spread < 0.03:
            continue
        x = np.log(volumes)
        modulus = -np.polyfit(x, pressures, 1)[0]
        if np.corrcoef(x, pressures)[0, 1] ** 2 > 0.5:
            moduli.append(modulus)
    if len(moduli) >= 1:
        modulus = float(np.median(moduli)) * GPA
        if modulus < 0:
            return Finding(
                "warning",
                "stress",
                "pressure rises with volume, so the stresses seem to have the opposite sign (compression positive); "
                "eV/Å³ with tension positive are expected",
            )
        if modulus > 3000:
            return Finding(
                "warning",
                "stress",
                f"the stresses amount to a bulk modulus of {modulus:.3g} GPa, more than any material has; they seem "
                "to be in GPa or kbar, and eV/Å³ are expected",
            )
        return Finding(
            "ok", "stress", f"pressure falls as the volume grows, with a bulk modulus near {modulus:.3g} GPa"
        )
    if sizes and np.median(sizes) > 0.8:
        return Finding(
            "warning",
            "stress",
            f"half of the structures have a pressure above {np.median(sizes) * GPA:.0f} GPa; if that is not meant, "
            "the stresses are in GPa or kbar, and eV/Å³ are expected",
        )
    return None
