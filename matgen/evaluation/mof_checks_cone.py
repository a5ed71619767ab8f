"""The narrowest cone from a metal that holds its neighbours' van der Waals spheres."""

from functools import cache
from itertools import combinations

import numpy as np

__all__ = ["cone_half_angle", "open_angle"]

_TOLERANCE = 1e-6


@cache
def _radius(atomic_number: int) -> float:
    """Van der Waals radius in Å as pymatgen has it (CRC Handbook, 95th edition)."""
    from pymatgen.core import Element

    return float(Element.from_Z(atomic_number).van_der_waals_radius or 2.0)


def open_angle(vectors: np.ndarray, atomic_numbers: np.ndarray) -> float | None:
    """What the narrowest cone over the neighbours leaves of the full turn, in degrees.

    Args:
        vectors: [c, 3] from the metal to its neighbours, Å.
        atomic_numbers: int [c].

    Returns:
        360 less the cone's full angle. Where a sphere holds the metal itself (or there is no neighbour) there is no
        cone: 180 if all lie in one plane, else None.
    """
    radii = np.array([_radius(int(z)) for z in atomic_numbers])
    half = cone_half_angle(vectors, radii) if len(vectors) else None
    if half is not None:
        return 360.0 - 2.0 * half
    flat = len(vectors) < 3 or np.linalg.matrix_rank(vectors, tol=1e-6) <= 2
    return 180.0 if flat else None


def cone_half_angle(vectors: np.ndarray, radii: np.ndarray) -> float | None:
    """Half the apex angle in degrees of the narrowest cone from the origin that holds all spheres, 0 to 180.

    Args:
        vectors: [c, 3] centres of the spheres, Å; at least one.
        radii: [c] in Å.

    Returns:
        None where a sphere holds the origin.

    Source: Bilbrey, Kazez, Locklin, Allen, J. Comput. Chem. 34 (2013) 1189 (exact ligand cone angles).
    """
    length = np.linalg.norm(vectors, axis=1)
    if (length < radii).any():
        return None
    axes, own = vectors / length[:, None], np.arcsin(radii / length)
    candidates = [(float(angle), axis) for angle, axis in zip(own, axes, strict=True)]
    for i, j in combinations(range(len(own)), 2):
        candidates += _about_two(axes[[i, j]], own[[i, j]])
    for triple in combinations(range(len(own)), 3):
        candidates += _about_three(axes[list(triple)], own[list(triple)])
    for angle, axis in sorted(candidates, key=lambda item: item[0]):
        apart = np.arccos(np.clip(axes @ axis, -1.0, 1.0))
        if (apart + own <= angle + _TOLERANCE).all():
            return float(np.degrees(angle))
    return 180.0


def _about_two(axes: np.ndarray, own: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """The cone that touches two spheres and has its axis between them."""
    cosine = float(np.clip(axes[0] @ axes[1], -1.0, 1.0))
    across = axes[1] - cosine * axes[0]
    norm = float(np.linalg.norm(across))
    if norm < _TOLERANCE:
        return []
    angle = float((np.arccos(cosine) + own.sum()) / 2.0)
    turn = angle - own[0]
    return [(angle, np.cos(turn) * axes[0] + np.sin(turn) * across / norm)]


def _about_three(axes: np.ndarray, own: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """The cones that touch three spheres: axis . m_i = cos(angle - own_i) for each, with an axis of length 1."""
    if abs(np.linalg.det(axes)) < _TOLERANCE:
        return _about_flat(axes, own)
    inverse = np.linalg.inv(axes)
    p, q = inverse @ np.cos(own), inverse @ np.sin(own)
    mean, half, cross = (p @ p + q @ q) / 2.0, (p @ p - q @ q) / 2.0, p @ q
    size = float(np.hypot(half, cross))
    if size == 0.0 or abs(1.0 - mean) > size:
        return []
    phase, spread = np.arctan2(cross, half), np.arccos((1.0 - mean) / size)
    angles = [float((phase + sign * spread) / 2.0 % np.pi) for sign in (1.0, -1.0)]
    return [(angle, np.cos(angle) * p + np.sin(angle) * q) for angle in angles]


def _about_flat(axes: np.ndarray, own: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Three centres in a plane with the metal: the axis may lean out of that plane to either side."""
    normal = np.linalg.svd(axes)[2][2]
    plane = np.linalg.svd(axes)[2][:2]
    flat = axes @ plane.T
    weights = np.linalg.svd(flat.T)[2][2]  # sum of w_i m_i = 0, so that sum of w_i cos(angle - own_i) = 0
    angle = float(np.arctan2(-(weights @ np.cos(own)), weights @ np.sin(own)) % np.pi)
    within = np.linalg.lstsq(flat, np.cos(angle - own), rcond=None)[0]
    height = 1.0 - within @ within
    if height < 0.0:
        return []
    return [(angle, within @ plane + sign * np.sqrt(height) * normal) for sign in (1.0, -1.0)]
