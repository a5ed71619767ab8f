"""Which elements count as metals in a framework."""

import numpy as np

__all__ = ["IS_METAL", "is_metal"]

# B, Si, As and Te bond like non-metals in linkers and counter-ions; Ge, Sb and Po coordinate like metals.
_NON_METALS = (0, 1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 33, 34, 35, 36, 52, 53, 54, 85, 86)

IS_METAL = np.ones(119, dtype=bool)
"""By atomic number 0..118."""
IS_METAL[list(_NON_METALS)] = False


def is_metal(atomic_numbers: np.ndarray) -> np.ndarray:
    """Whether each atom is a metal.

    Args:
        atomic_numbers: int [...], Z from 1.

    Returns:
        bool [...].
    """
    return IS_METAL[np.asarray(atomic_numbers)]
