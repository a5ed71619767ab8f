"""Angle terms of UFF: which half bonds, which form, which constants."""

import numpy as np

from matgen.relaxation.uff_half_bonds import HalfBonds
from matgen.relaxation.uff_typing import UffTyping

__all__ = ["COULOMB", "angle_terms"]

COULOMB = 664.12  # kcal/mol Å, Rappe et al. 1992, eq. 6
_FOLD = {"1": 1, "2": 3, "R": 3, "4": 4, "6": 4}
_NATURAL = {1: 180.0, 3: 120.0, 4: 90.0}


def angle_terms(
    halves: HalfBonds, typing: UffTyping, charge: np.ndarray, half_length: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Angles at every atom.

    The cosine forms hold for linear (fold 1), trigonal (3) and square planar or octahedral (4) centres whose natural
    angle is exactly 180, 120 or 90 degrees; other centres take the general three-term form (fold 0).

    Args:
        halves: half bonds.
        typing: geometry and natural angle of each atom.
        charge: effective charges, [n].
        half_length: natural length of each half bond, Å.

    Returns:
        half bonds [a, 2], stiffness [a] in kcal/mol, fold [a], natural angle [a] in radians.

    Source: Rappe et al. 1992, eq. 10-13.
    """
    pairs = halves.pairs()
    left, right = pairs[:, 0], pairs[:, 1]
    center = halves.start[left]
    natural = np.radians(typing.angle)[center]
    cosine = np.cos(natural)
    a, b = half_length[left], half_length[right]
    across = np.sqrt(a * a + b * b - 2 * a * b * cosine)
    charges = charge[halves.end[left]] * charge[halves.end[right]]
    stiffness = COULOMB * charges / across**5 * (3 * a * b * (1 - cosine**2) - across**2 * cosine)
    fold = np.array([_fold(shape, angle) for shape, angle in zip(typing.coordination, typing.angle, strict=True)])
    return pairs, stiffness, fold.astype(np.int64)[center], natural


def _fold(shape: str, angle: float) -> int:
    if angle == _NATURAL[1]:  # the general form divides by the sine
        return 1
    fold = _FOLD.get(shape, 0)
    return fold if _NATURAL.get(fold) == angle else 0
