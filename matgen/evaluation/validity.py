"""Is a structure physically possible? Distances, volume, density and cell bounds."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from matgen.crystal.elements import COVALENT_RADII
from matgen.crystal.structure import Structure, reduce_cell

_AMU_PER_CUBIC_ANGSTROM = 1.66053906892  # g/cm^3
_PAIRS_PER_CHUNK = 50_000
# In a Minkowski-reduced basis the nearest image of a wrapped difference is among these 27.
_NEIGHBOURS_3D = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], dtype=np.float64)


class Contacts(NamedTuple):
    """The closest contacts of a structure over all periodic images, an atom's own images included.

    distance: Å. ratio: the smallest of distance / (sum of the two covalent radii), which may be another pair.
    """

    distance: float
    ratio: float


@dataclass(frozen=True, kw_only=True)
class ValidityConfig:
    """Limits of the two structural checks.

    The first three are CDVAE's (Å, Å^3, Å). The others make the strict check: distances against the sum of covalent
    radii, density in g/cm^3, lengths in Å and angles in degrees of the Minkowski-reduced cell.
    """

    min_distance: float = 0.5
    min_volume: float = 0.1
    max_length: float = 40.0
    min_radii_ratio: float = 0.5
    min_density: float = 0.1
    max_density: float = 25.0
    min_reduced_length: float = 1.5
    max_reduced_length: float = 60.0
    min_reduced_angle: float = 30.0


@lru_cache(maxsize=1)
def _atomic_masses() -> np.ndarray:
    from ase.data import atomic_masses

    return np.asarray(atomic_masses, dtype=np.float64)


def closest_contacts(structure: Structure) -> Contacts:
    """Smallest interatomic distance, and smallest distance relative to the covalent radii.

    Args:
        structure: finite coordinates, a cell with volume, at least one atom.

    Returns:
        Contacts over all pairs of atoms and their periodic images.

    Source: radii of Cordero et al., Dalton Trans. 2008, 2832.
    """
    radii = COVALENT_RADII[np.asarray(structure.atomic_numbers, dtype=np.int64)]
    reduced, to_reduced = reduce_cell(np.asarray(structure.lattice, dtype=np.float64))
    smallest = float(np.linalg.norm(reduced, axis=1).min())
    ratio = smallest / (2.0 * float(radii.max()))
    frac = np.asarray(structure.frac_coords, dtype=np.float64) @ to_reduced
    first, second = np.triu_indices(len(frac), k=1)
    images = _NEIGHBOURS_3D @ reduced
    image_squares = (images**2).sum(1)
    for start in range(0, len(first), _PAIRS_PER_CHUNK):
        i, j = first[start : start + _PAIRS_PER_CHUNK], second[start : start + _PAIRS_PER_CHUNK]
        difference = frac[j] - frac[i]
        difference -= np.round(difference)
        difference = difference @ reduced
        squares = (difference**2).sum(1) + ((2.0 * difference) @ images.T + image_squares).min(1)
        distance = np.sqrt(np.maximum(squares, 0.0))
        smallest = min(smallest, float(distance.min()))
        ratio = min(ratio, float((distance / (radii[i] + radii[j])).min()))
    return Contacts(smallest, ratio)


def density(structure: Structure) -> float:
    """Mass density in g/cm^3.

    Source: masses of IUPAC 2016 as tabulated in ase.data.
    """
    masses = _atomic_masses()[np.asarray(structure.atomic_numbers, dtype=np.int64)]
    return float(masses.sum()) * _AMU_PER_CUBIC_ANGSTROM / structure.volume


def is_structurally_valid(contacts: Contacts, volume: float, max_length: float, config: ValidityConfig) -> bool:
    """The lenient check that the field reports.

    Args:
        contacts: from `closest_contacts`.
        volume: Å^3.
        max_length: the longest of a, b, c of the cell as given, Å.
        config: limits.

    Source: Xie et al. 2022 (CDVAE), appendix B: distance > 0.5 Å, volume > 0.1 Å^3.
    """
    return bool(
        contacts.distance > config.min_distance and volume > config.min_volume and max_length <= config.max_length
    )


def is_strictly_valid(contacts: Contacts, mass_density: float, lattice: np.ndarray, config: ValidityConfig) -> bool:
    """The stricter check: no pair closer than a share of its covalent radii, a plausible density and cell.

    Args:
        contacts: from `closest_contacts`.
        mass_density: g/cm^3.
        lattice: rows in Å; judged after Minkowski reduction, so that the choice of cell does not matter.
        config: limits.
    """
    reduced, _ = reduce_cell(np.asarray(lattice, dtype=np.float64))
    lengths = np.sqrt((reduced**2).sum(1))
    cosines = (reduced @ reduced.T) / np.outer(lengths, lengths)
    off_diagonal = np.abs(cosines[np.triu_indices(3, k=1)])
    return bool(
        contacts.ratio > config.min_radii_ratio
        and config.min_density <= mass_density <= config.max_density
        and lengths.min() >= config.min_reduced_length
        and lengths.max() <= config.max_reduced_length
        and off_diagonal.max() <= np.cos(np.radians(config.min_reduced_angle)) + 1e-9
    )
