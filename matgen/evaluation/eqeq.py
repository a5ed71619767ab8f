"""Partial charges by extended charge equilibration (EQeq): one linear system, no iteration."""

from dataclasses import dataclass

import numpy as np
from scipy.special import erfc

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.errors import UnsupportedElementError

__all__ = ["EqeqConfig", "equilibrated_charges", "has_parameters"]

_FAR = 1e6  # Å
_COULOMB = 14.4  # e^2 / (4 pi epsilon_0) in eV Å, as the method rounds it

# fmt: off
_PARAMETERS: dict[int, tuple[int, float, float]] = {
    1: (0, 0.7542, 13.598), 2: (0, 0, 24.587), 3: (1, 5.392, 75.638), 4: (2, 18.211, 153.893), 5: (0, 0.27972, 8.298),
    6: (0, 1.26212, 11.26), 7: (0, -0.07, 14.534), 8: (0, 1.46111, 13.618), 9: (0, 3.40119, 17.422),
    10: (0, 0, 21.564), 11: (1, 5.139, 47.286), 12: (2, 15.035, 80.143), 13: (3, 28.447, 119.99),
    14: (0, 1.38952, 8.151), 15: (0, 0.7465, 10.458), 16: (0, 2.0771, 10.36), 17: (0, 3.61272, 12.967),
    18: (0, 0, 15.759), 19: (1, 4.341, 31.625), 20: (2, 11.871, 50.908), 21: (3, 24.76, 73.47),
    22: (4, 43.266, 99.22), 23: (4, 46.707, 65.23), 24: (3, 30.96, 49.1), 25: (2, 15.64, 33.667),
    26: (2, 16.18, 30.651), 27: (2, 17.06, 33.5), 28: (2, 18.168, 35.17), 29: (2, 20.292, 36.83),
    30: (2, 17.964, 39.722), 31: (3, 30.71, 64), 32: (0, 1.23271, 7.899), 33: (0, 0.814, 9.81),
    34: (0, 2.0207, 9.752), 35: (0, 3.36359, 11.814), 36: (0, 0, 13.999), 37: (1, 4.177, 27.28), 38: (2, 11.03, 43.6),
    39: (3, 20.52, 61.8), 40: (4, 34.34, 81.5), 41: (4, 38.3, 50.55), 42: (4, 46.4, 61.2), 43: (2, 15.26, 29.54),
    44: (2, 16.76, 28.47), 45: (2, 18.08, 31.06), 46: (2, 19.43, 32.93), 47: (1, 7.576, 21.49),
    48: (2, 16.908, 37.48), 49: (3, 28.03, 54), 50: (2, 14.632, 30.502), 51: (0, 1.0474, 8.641),
    52: (0, 1.97088, 9.009), 53: (0, 3.05904, 10.451), 54: (0, 0, 12.13), 55: (1, 3.894, 25.1),
    56: (1, 5.212, 10.004), 57: (2, 11.06, 19.175), 58: (3, 20.2, 36.72), 59: (3, 21.62, 38.95), 60: (1, 5.49, 10.72),
    61: (1, 5.55, 10.9), 62: (1, 5.63, 11.07), 63: (1, 5.67, 11.25), 64: (1, 6.14, 12.1), 65: (1, 5.85, 11.52),
    66: (1, 5.93, 11.67), 67: (1, 6.02, 11.8), 68: (1, 6.1, 11.93), 69: (2, 12.05, 23.71), 70: (2, 12.17, 25.2),
    71: (1, 5.426, 13.9), 72: (3, 23.3, 33.3), 73: (0, 0.322, 7.89), 74: (0, 0.815, 7.98), 75: (0, 0.015, 7.88),
    76: (0, 1.0778, 8.7), 77: (0, 1.56436, 9.1), 78: (1, 9, 18.563), 79: (1, 9.225, 20.5), 80: (1, 10.437, 18.756),
    81: (1, 6.108, 20.428), 82: (2, 15.032, 31.937), 83: (3, 25.56, 45.3), 84: (0, 1.9, 8.42),
}
# fmt: on
"""Z: charge about which the energy is expanded, and the energies in eV to reach it from the next lower charge and to
leave it for the next higher one (electron affinity and ionization energies). Source: Wilmer, Kim, Snurr 2012."""


@dataclass(frozen=True, kw_only=True)
class EqeqConfig:
    """Settings of the method, by default those of its paper and of pyeqeq.

    Args:
        screening: factor on all Coulomb terms (lambda).
        hydrogen_affinity: eV, fitted; the true one of 0.754 gives wrong charges.
        num_cells: cells summed over on either side along each axis, in real and in reciprocal space.
        splitting: Å, width of the Ewald splitting.
    """

    screening: float = 1.2
    hydrogen_affinity: float = -2.0
    num_cells: int = 2
    splitting: float = 50.0


def equilibrated_charges(structure: Structure, config: EqeqConfig | None = None) -> np.ndarray:
    """Partial charges of a neutral periodic structure.

    The sums are cut off after `num_cells` cells, as the method defines them, so that the charges depend a little on the
    choice of cell.

    Args:
        structure: finite coordinates, no two atoms at one place.
        config: settings.

    Returns:
        float64 [n], elementary charges; their sum is 0.

    Raises:
        UnsupportedElementError: an element without parameters.

    Source: Wilmer, Kim, Snurr, J. Phys. Chem. Lett. 3 (2012) 2506, equations 2 to 12.
    """
    config = config or EqeqConfig()
    electronegativity, hardness = _expansion(structure.atomic_numbers, config)
    matrix = _interactions(structure, hardness, config)
    system = np.vstack([np.ones(len(matrix)), matrix[:-1] - matrix[1:]])
    right = np.concatenate([[0.0], electronegativity[1:] - electronegativity[:-1]])
    return np.asarray(np.linalg.solve(system, right))


def has_parameters(atomic_numbers: np.ndarray) -> bool:
    """Whether there are charges for all of these elements: up to polonium."""
    return not _unknown(atomic_numbers)


def _unknown(atomic_numbers: np.ndarray) -> list[int]:
    """Elements without parameters."""
    return [int(z) for z in np.unique(atomic_numbers) if int(z) not in _PARAMETERS]


def _expansion(atomic_numbers: np.ndarray, config: EqeqConfig) -> tuple[np.ndarray, np.ndarray]:
    """First and second derivative of an atom's energy by its charge, eV."""
    unknown = _unknown(atomic_numbers)
    if unknown:
        raise UnsupportedElementError(f"no charge equilibration parameters for {SYMBOLS[unknown[0]]}")
    rows = np.array([_PARAMETERS[int(z)] for z in atomic_numbers])
    center, low, high = rows.T
    low = np.where(atomic_numbers == 1, config.hydrogen_affinity, low)
    hardness = high - low
    return (high + low) / 2.0 - center * hardness, hardness


def _interactions(structure: Structure, hardness: np.ndarray, config: EqeqConfig) -> np.ndarray:
    lattice, num, eta = structure.lattice, structure.num_atoms, config.splitting
    steps = np.arange(-config.num_cells, config.num_cells + 1)
    cells = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    delta = structure.frac_coords[:, None] - structure.frac_coords[None]
    decay = np.sqrt(hardness[:, None] * hardness[None]) / _COULOMB
    total = np.zeros((num, num))
    for cell in cells:
        distance = np.linalg.norm((delta + cell) @ lattice, axis=-1)
        if not cell.any():
            np.fill_diagonal(distance, _FAR)  # an atom does not act on itself: both terms vanish there
        overlap = np.exp(-((decay * distance) ** 2)) * (2 * decay - decay**2 * distance - 1 / distance)
        total += erfc(distance / eta) / distance + overlap
    total += _reciprocal(structure, cells, eta)
    total[np.diag_indices(num)] -= 2.0 / (eta * np.sqrt(np.pi))
    total *= config.screening * _COULOMB / 2.0
    total[np.diag_indices(num)] += hardness
    return total


def _reciprocal(structure: Structure, cells: np.ndarray, eta: float) -> np.ndarray:
    waves = cells[cells.any(axis=1)]
    squares = ((2.0 * np.pi * waves @ np.linalg.inv(structure.lattice).T) ** 2).sum(axis=1)
    weights = 4.0 * np.pi / structure.volume * np.exp(-squares * eta**2 / 4.0) / squares
    phases = 2.0 * np.pi * structure.frac_coords @ waves.T
    cosines, sines = np.cos(phases), np.sin(phases)
    return np.asarray((cosines * weights) @ cosines.T + (sines * weights) @ sines.T)
