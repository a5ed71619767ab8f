"""Site-symmetry codes: for each of 15 axes, the class of the stabiliser's operations about it."""

import numpy as np

from matgen.crystal.tables import SITE_SYMMETRY_AXES, SITE_SYMMETRY_CLASSES, load_tables

__all__ = ["code_of_operations", "codes_of_group", "nearest_codes"]

_AXES = np.array(SITE_SYMMETRY_AXES)
_ORDER_OF_TRACE = {3: 1, 2: 6, 1: 4, 0: 3, -1: 2}
_CLASS_WITH_INVERSION = ((6, "6/m"), (4, "4/m"), (3, "-3"), (2, "2/m"))
_CLASS_WITHOUT_INVERSION = ((6, "6"), (-6, "-6"), (4, "4"), (-4, "-4"), (3, "3"), (-2, "m"), (2, "2"))


def code_of_operations(rotations: np.ndarray) -> np.ndarray:
    """Code of a point group given by its rotation matrices on the lattice basis.

    Args:
        rotations: int [n, 3, 3], a group in the standard setting, identity included.

    Returns:
        int8 [15], classes 0..12 in the order of SITE_SYMMETRY_CLASSES.

    Raises:
        ValueError: an operation turns about none of the 15 axes.
    """
    kinds: list[set[int]] = [set() for _ in _AXES]
    inversion = False
    for rotation in np.rint(rotations).astype(int):
        sign = round(float(np.linalg.det(rotation)))
        order = _ORDER_OF_TRACE[sign * int(np.trace(rotation))]
        if order == 1:
            inversion |= sign < 0
            continue
        axis = np.flatnonzero((_AXES @ (sign * rotation).T == _AXES).all(axis=1))
        if len(axis) != 1:
            raise ValueError(f"rotation {rotation.tolist()} turns about none of the 15 axes")
        kinds[axis[0]].add(sign * order)
    classes = _CLASS_WITH_INVERSION if inversion else _CLASS_WITHOUT_INVERSION
    default = "-1" if inversion else "1"
    names = [next((name for kind, name in classes if kind in found), default) for found in kinds]
    return np.array([SITE_SYMMETRY_CLASSES.index(name) for name in names], dtype=np.int8)


def codes_of_group(space_group_number: int) -> np.ndarray:
    """int8 [C, 15]: the distinct codes of all positions of a group, in all orientations."""
    tables = load_tables()
    start, stop = tables.by_code.group_start[space_group_number : space_group_number + 2]
    return tables.code[tables.by_code.key[start:stop]]


def nearest_codes(space_group_number: int, site_symmetry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which codes of a group differ least from each given code.

    Args:
        space_group_number: 1..230.
        site_symmetry: int8 [Q, 15], any classes.

    Returns:
        bool [Q, C], true for every code at the smallest distance, and that distance int [Q]: the number of axes whose
        class differs (half the squared Frobenius distance of the one-hot codes).
    """
    distance = (site_symmetry[:, None, :] != codes_of_group(space_group_number)[None]).sum(axis=2)
    smallest = distance.min(axis=1)
    return distance == smallest[:, None], smallest
