"""UFF4MOF types of metals: element, number of neighbours, and square planar against tetrahedral."""

import numpy as np

from matgen.relaxation.uff_environment import Environment
from matgen.relaxation.uff_parameters import UffType, types_of_element

__all__ = ["metal_type"]

_SHAPE_OF_COUNT = {1: "1", 2: "1", 3: "2", 5: "4", 6: "6", 7: "8", 8: "8"}
_ANGLE = {"1": 180.0, "2": 120.0, "3": 109.47, "4": 90.0, "6": 90.0, "8": 109.47}
_NEAREST = {
    "1": ("1", "2", "3", "4", "6", "8"),
    "2": ("2", "3", "1", "4", "6", "8"),
    "3": ("3", "4", "6", "2", "8", "1"),
    "4": ("4", "6", "3", "8", "2", "1"),
    "6": ("6", "4", "8", "3", "2", "1"),
    "8": ("8", "6", "4", "3", "2", "1"),
}
_STRAIGHT = -0.85  # cosine of 148 degrees
_NAMES = {"1": "linear", "2": "trigonal", "3": "tetrahedral", "4": "square planar", "6": "octahedral", "8": "eightfold"}


def metal_type(env: Environment, index: int) -> tuple[str, str, str, float]:
    """Type of a metal atom.

    Args:
        env: neighbours.
        index: the atom.

    Returns:
        name of the published type; why it is a guess, or ""; the geometry ("1" linear ... "8") and the natural angle in
        degrees that its angles take. A guessed type keeps its radius and charge, but the angle of the real geometry.
    """
    choices = types_of_element(env.numbers[index])
    if not env.near[index]:
        return choices[0].name, "without neighbours", choices[0].coordination, choices[0].angle
    wanted, covered = _shape(env, index)
    best = min(choices, key=lambda t: _rank(t, wanted))
    if best.coordination == "":  # an alkali metal of UFF: one type for every coordination
        return best.name, "", "", best.angle
    if best.coordination == wanted and covered:
        return best.name, "", best.coordination, best.angle
    count = len(env.near[index])
    why = f"with {count} neighbours" if best.coordination != wanted or not covered else ""
    if count == 4:
        why += f", {_NAMES[wanted]}"
    return best.name, why, wanted, best.angle if best.coordination == wanted else _ANGLE[wanted]


def _rank(choice: UffType, wanted: str) -> int:
    order = _NEAREST[wanted]
    return order.index(choice.coordination) if choice.coordination in order else len(order)


def _shape(env: Environment, index: int) -> tuple[str, bool]:
    """The geometry of a metal, and whether its number of neighbours is one that types are made for."""
    donors, metals = len(env.light[index]), len(env.heavy[index])
    if metals and donors in (4, 5):  # a paddlewheel: four bridges, another metal, perhaps an axial ligand
        return "4", True
    count = donors + metals
    if count == 4:
        return ("4" if _is_square(env.cosines(index)) else "3"), True
    if count == 2:
        straight = bool(env.cosines(index).max() < _STRAIGHT)
        return ("1" if straight else "2"), straight
    if count > 8:
        return "8", False
    return _SHAPE_OF_COUNT[count], count in (3, 6, 8)


def _is_square(cosines: np.ndarray) -> bool:
    """Two of the six angles are nearly straight."""
    return int((cosines < _STRAIGHT).sum()) >= 2
