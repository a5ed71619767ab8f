"""Torsion and inversion terms of UFF."""

import numpy as np

from matgen.mof.metals import IS_METAL
from matgen.relaxation.uff_half_bonds import HalfBonds
from matgen.relaxation.uff_parameters import uff_types
from matgen.relaxation.uff_typing import UffTyping

__all__ = ["improper_terms", "torsion_terms"]

_O = 8
_CHALCOGENS = (8, 16, 34, 52, 84)
_TORSION_ELEMENTS = (6, 14, 32, 50, 82, 7, 15, 33, 51, 83, *_CHALCOGENS)
_CHALCOGEN_BARRIER = {8: 2.0}  # kcal/mol; 6.8 for the heavier ones
_INVERSION = {15: 84.4339, 33: 86.9735, 51: 87.7047, 83: 90.0}  # degrees
_Torsion = tuple[float, int, float]  # barrier kcal/mol for the whole bond, fold, sign of the cosine


def torsion_terms(
    halves: HalfBonds, numbers: np.ndarray, typing: UffTyping
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Torsions about bonds between main-group atoms that are sp2 or sp3; the barrier is shared by a bond's torsions.

    Returns:
        half bonds [t, 3], barrier [t] in kcal/mol, fold [t], sign [t].

    Source: Rappe et al. 1992, eq. 15-17 and the rules below them.
    """
    shape = _shapes(numbers, typing)
    num = len(halves.start) // 2
    neighbor_sp2 = _num_sp2_neighbors(halves, shape)
    degree = halves.degree
    constants: dict[int, _Torsion] = {}
    for bond in np.flatnonzero((shape[halves.start[:num]] > 0) & (shape[halves.end[:num]] > 0)).tolist():
        j, k = int(halves.start[bond]), int(halves.end[bond])
        barrier, fold, sign = _torsion(j, k, numbers, typing, shape, neighbor_sp2, float(typing.orders[bond]))
        share = (degree[j] - 1) * (degree[k] - 1)
        if barrier and share > 0:
            constants[bond] = barrier / share, fold, sign
    middle = np.array(list(constants), dtype=np.int64)
    chains = halves.chains(middle).reshape(-1, 3)
    rows = np.zeros((num, 3))
    rows[middle] = np.array(list(constants.values())).reshape(-1, 3)
    chosen = rows[chains[:, 1]]
    return chains, chosen[:, 0], chosen[:, 1].astype(np.int64), chosen[:, 2]


def _shapes(numbers: np.ndarray, typing: UffTyping) -> np.ndarray:
    """2 for sp2, 3 for sp3, 0 for atoms about whose bonds nothing turns."""
    word = {"R": 2, "2": 2, "3": 3}
    main = np.isin(numbers, _TORSION_ELEMENTS) & ~IS_METAL[numbers]
    return np.where(main, np.array([word.get(shape, 0) for shape in typing.coordination], dtype=np.int64), 0)


def _num_sp2_neighbors(halves: HalfBonds, shape: np.ndarray) -> np.ndarray:
    sp2 = (shape[halves.end] == 2).astype(np.int64)
    return np.bincount(halves.start, weights=sp2, minlength=len(shape)).astype(np.int64)


def _torsion(
    j: int, k: int, numbers: np.ndarray, typing: UffTyping, shape: np.ndarray, sp2_near: np.ndarray, order: float
) -> _Torsion:
    """Barrier, fold and sign = -cos(fold phi0) of a bond."""
    first, second = uff_types()[typing.names[j]], uff_types()[typing.names[k]]
    conjugated = 5.0 * np.sqrt(first.torsion_sp2 * second.torsion_sp2) * (1.0 + 4.18 * np.log(order))
    chalcogen = numbers[j] in _CHALCOGENS, numbers[k] in _CHALCOGENS
    if shape[j] == shape[k] == 3:
        if all(chalcogen):
            barriers = [_CHALCOGEN_BARRIER.get(int(numbers[atom]), 6.8) for atom in (j, k)]
            return float(np.sqrt(barriers[0] * barriers[1])), 2, 1.0
        return float(np.sqrt(first.torsion_sp3 * second.torsion_sp3)), 3, 1.0
    if shape[j] == shape[k] == 2:
        return max(0.0, float(conjugated)), 2, -1.0
    sp3_chalcogen = chalcogen[0] if shape[j] == 3 else chalcogen[1]
    sp2_chalcogen = chalcogen[1] if shape[j] == 3 else chalcogen[0]
    if sp3_chalcogen and not sp2_chalcogen:
        return max(0.0, float(conjugated)), 2, 1.0
    if sp2_near[j if shape[j] == 2 else k] > 0:
        return 2.0, 3, -1.0
    return 1.0, 6, -1.0


def improper_terms(halves: HalfBonds, numbers: np.ndarray, typing: UffTyping) -> tuple[np.ndarray, np.ndarray]:
    """Inversions at planar C, N and O and at pyramidal P, As, Sb and Bi with exactly three neighbours.

    Not where metals bridge (oxygen of a bridging carboxylate): the plane of such an atom is its carbon's, and its
    angles are far from 120 degrees, where the term is not continuous (see `improper_energy`).

    Returns:
        half bonds [m, 3] from the centre; K (kcal/mol), C0, C1, C2 [m, 4].

    Source: Rappe et al. 1992, eq. 18-19: 6 kcal/mol, 50 at a carbon with a terminal O_2, 22 for the pyramidal ones.
    """
    rows, constants = [], []
    for center in np.flatnonzero(halves.degree == 3).tolist():
        number = int(numbers[center])
        spokes = halves.order[halves.offset[center] : halves.offset[center] + 3]
        if IS_METAL[numbers[halves.end[spokes]]].sum() > 1:
            continue
        if number in (6, 7, 8) and typing.coordination[center] in ("2", "R"):
            ends = halves.end[spokes].tolist()
            carbonyl = number == 6 and any(typing.names[e] == "O_2" and halves.degree[e] == 1 for e in ends)
            constants.append((50.0 if carbonyl else 6.0, 1.0, -1.0, 0.0))
        elif number in _INVERSION and not IS_METAL[numbers[halves.end[spokes]]].any():
            constants.append(_pyramid(_INVERSION[number]))
        else:
            continue
        rows.append(spokes)
    return np.array(rows, dtype=np.int64).reshape(-1, 3), np.array(constants).reshape(-1, 4)


def _pyramid(degrees: float) -> tuple[float, float, float, float]:
    """K so that the barrier at the plane (omega = 0) is 22 kcal/mol."""
    angle = np.radians(degrees)
    c1 = -4.0 * np.cos(angle)
    c0 = -(c1 * np.cos(angle) + np.cos(2.0 * angle))
    return 22.0 / (c0 + c1 + 1.0), float(c0), float(c1), 1.0
