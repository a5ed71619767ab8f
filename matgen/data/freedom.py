"""What a space group leaves free: how operations permute the symmetry axes, polar directions, the normaliser.

A crystal given as (space group, lattice, one representative per orbit) has many equal descriptions. Their list for each
group follows from its operations alone, in exact integer arithmetic: translations are counted in 1/24 of a cell edge.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# the axes of a site-symmetry code, as directions in fractional coordinates, each meant up to its sign
AXES = np.array(
    [
        *((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1), (1, -1, 0)),
        *((1, 1, 0), (0, 1, -1), (0, 1, 1), (-1, 0, 1), (1, 0, 1), (1, 2, 0), (2, 1, 0)),
    ]
)
_UNITS = 24  # every translation of a standard setting is a multiple of 1/24
_GRID_STEP = 2  # normaliser translations are multiples of 1/12
# the group of highest symmetry on the same lattice metric, by the last number of each lattice family
_HOLOHEDRY = ((2, 2), (15, 10), (74, 47), (142, 123), (194, 191), (230, 221))


class Normalizer(NamedTuple):
    """Euclidean normaliser elements x -> R x + s that keep the lattice, up to polar and lattice shifts."""

    rotation: np.ndarray  # int8[231, K, 3, 3]
    translation: np.ndarray  # float32[231, K, 3]
    num_elements: np.ndarray  # int16[231]


def axis_permutations(rotations: np.ndarray) -> np.ndarray:
    """Return where each rotation sends each symmetry axis.

    Args:
        rotations: int[..., 3, 3] on column fractional coordinates.

    Returns:
        int8[..., 15]: axis u goes to axis result[..., u]. An axis that leaves the list can carry no symmetry element of
        a group that holds the rotation, nor can an axis of the list that is not reached: these are paired in order.
    """
    flat = rotations.reshape(-1, 3, 3).astype(np.int64)
    images = np.einsum("gij,uj->gui", flat, AXES)
    same = (images[:, :, None] == AXES).all(-1) | (images[:, :, None] == -AXES).all(-1)
    result = np.where(same.any(-1), same.argmax(-1), -1)
    for index in np.flatnonzero((result < 0).any(1)):
        unreached = np.setdiff1d(np.arange(len(AXES)), result[index])
        result[index, result[index] < 0] = unreached
    return result.astype(np.int8).reshape(*rotations.shape[:-2], len(AXES))


def polar_masks(rotations: np.ndarray, num_operations: np.ndarray) -> np.ndarray:
    """Return the cell edges along which the origin of each group is free.

    Args:
        rotations: int8[231, O, 3, 3].
        num_operations: int[231].

    Returns:
        bool[231, 3]: the edge is fixed by every operation (in the standard settings polar directions are cell edges).
    """
    masks = np.zeros((len(rotations), 3), bool)
    for group in range(1, len(rotations)):
        masks[group] = (rotations[group, : num_operations[group]] == np.eye(3, dtype=np.int8)).all(axis=(0, 1))
    return masks


def normalizers(rotations: np.ndarray, translations: np.ndarray, num_operations: np.ndarray) -> Normalizer:
    """Return the elements that map each group onto itself and keep every lattice of its family.

    Args:
        rotations: int8[231, O, 3, 3].
        translations: float[231, O, 3] in cell edges.
        num_operations: int[231].

    Returns:
        One element for each coset of the group's own rotations; element 0 is the identity.

    Source: International Tables A, chapter 15 (Euclidean normalisers), for a generic metric of the lattice family.
    """
    polar = polar_masks(rotations, num_operations)
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[(np.eye(3, dtype=np.int64), np.zeros(3, np.int64))]]
    for group in range(1, len(rotations)):
        count = int(num_operations[group])
        parent = next(number for last, number in _HOLOHEDRY if group <= last)
        holohedry = np.unique(rotations[parent, : int(num_operations[parent])].astype(np.int64), axis=0)
        units = np.rint(translations[group, :count] * _UNITS).astype(np.int64) % _UNITS
        found.append(list(_group_normalizer(rotations[group, :count].astype(np.int64), units, holohedry, polar[group])))
    width = max(map(len, found))
    rotation = np.tile(np.eye(3, dtype=np.int8), (len(found), width, 1, 1))
    translation = np.zeros((len(found), width, 3), np.float32)
    for group, elements in enumerate(found):
        for index, (linear, shift) in enumerate(elements):
            rotation[group, index], translation[group, index] = linear, shift / _UNITS
    return Normalizer(rotation, translation, np.array([len(elements) for elements in found], np.int16))


def _group_normalizer(
    rotations: np.ndarray, units: np.ndarray, holohedry: np.ndarray, polar: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    table = {tuple(rotation.ravel().tolist()): unit for rotation, unit in zip(rotations, units)}
    centring = units[(rotations == np.eye(3, dtype=np.int64)).all(axis=(1, 2))]
    covered: set[tuple[int, ...]] = set()
    identity = np.eye(3, dtype=np.int64)
    for linear in sorted(holohedry, key=lambda matrix: not (matrix == identity).all()):
        if tuple(linear.ravel().tolist()) in covered:
            continue
        shifts = _normalizer_shifts(linear, table, centring, polar)
        if len(shifts):
            covered |= {tuple((linear @ np.reshape(key, (3, 3))).ravel().tolist()) for key in table}
        yield from ((linear, shift) for shift in shifts)


def _normalizer_shifts(
    linear: np.ndarray, table: dict[tuple[int, ...], np.ndarray], centring: np.ndarray, polar: np.ndarray
) -> np.ndarray:
    axes = [np.zeros(1, np.int64) if free else np.arange(0, _UNITS, _GRID_STEP) for free in polar]
    shifts = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    inverse = np.rint(np.linalg.inv(linear)).astype(np.int64)
    if not _in_lattice(centring @ linear.T, centring).all():
        return shifts[:0]
    for key, unit in table.items():
        image = linear @ np.reshape(key, (3, 3)) @ inverse
        target = table.get(tuple(image.ravel().tolist()))
        if target is None:
            return shifts[:0]
        # (R|s)(W|w)(R|s)^-1 = (W'|R w + s - W' s) has to be an operation of the group
        residual = linear @ unit + shifts - shifts @ image.T - target
        shifts = shifts[_in_lattice(residual, centring)]
    reduced = (shifts[:, None] + centring) % _UNITS
    order = reduced @ np.array([_UNITS**2, _UNITS, 1])
    return np.unique(reduced[np.arange(len(shifts)), order.argmin(1)], axis=0)


def _in_lattice(vectors: np.ndarray, centring: np.ndarray) -> np.ndarray:
    return ((vectors[..., None, :] - centring) % _UNITS == 0).all(-1).any(-1)
