"""A crystal structure as three arrays, and the checks that any structure passes before we use it."""

from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Any

import moyopy
import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.errors import ClashError, NonFiniteStructureError, TooManyAtomsError, UnsupportedElementError
from matgen.geometry.coordinates import nearest_image, shortest_translation, wrap
from matgen.geometry.lattice import lattice_from_parameters, lattice_parameters

__all__ = ["Structure", "check", "min_distance", "reduce_cell"]


@dataclass(frozen=True, eq=False)
class Structure:
    """A periodic structure.

    lattice: float64 [3, 3], rows a, b, c in Å. frac_coords: float64 [n, 3]. atomic_numbers: int [n], Z from 1.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    atomic_numbers: np.ndarray

    @classmethod
    def from_parameters(cls, lengths: Any, angles: Any, frac_coords: Any, atomic_numbers: Any) -> "Structure":
        """A structure from cell lengths (Å) and angles (degrees): a along x, b in the xy plane."""
        coords = np.asarray(frac_coords, dtype=float).reshape(-1, 3)
        return cls(lattice_from_parameters(lengths, angles), coords, np.asarray(atomic_numbers, dtype=np.int64))

    @property
    def num_atoms(self) -> int:
        return len(self.atomic_numbers)

    @property
    def volume(self) -> float:
        """Cell volume in Å^3."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def lengths(self) -> np.ndarray:
        """[3] in Å."""
        return lattice_parameters(self.lattice)[0]

    @property
    def angles(self) -> np.ndarray:
        """[3] alpha, beta, gamma in degrees."""
        return lattice_parameters(self.lattice)[1]

    @property
    def cart_coords(self) -> np.ndarray:
        """[n, 3] in Å."""
        return self.frac_coords @ self.lattice

    @property
    def formula(self) -> str:
        """Reduced formula in Hill order: carbon and hydrogen first where there is carbon, else alphabetical."""
        numbers, counts = np.unique(self.atomic_numbers, return_counts=True)
        amounts = {SYMBOLS[int(z)]: int(n) for z, n in zip(numbers, counts, strict=True)}
        divisor = reduce(gcd, amounts.values(), 0) or 1
        first = ["C", "H"] if "C" in amounts else []
        ordered = [s for s in first if s in amounts] + sorted(s for s in amounts if s not in first)
        return "".join(f"{s}{amounts[s] // divisor if amounts[s] > divisor else ''}" for s in ordered)

    def to_pymatgen(self) -> Any:
        """The same structure as a pymatgen Structure."""
        from pymatgen.core import Lattice
        from pymatgen.core import Structure as PymatgenStructure

        species = [SYMBOLS[int(z)] for z in self.atomic_numbers]
        return PymatgenStructure(Lattice(self.lattice), species, self.frac_coords)

    @classmethod
    def from_pymatgen(cls, structure: Any) -> "Structure":
        """A structure from an ordered pymatgen Structure."""
        numbers = np.array(structure.atomic_numbers, dtype=np.int64)
        return cls(np.array(structure.lattice.matrix), np.array(structure.frac_coords).reshape(-1, 3), numbers)


def reduce_cell(lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minkowski-reduced basis of a lattice, and the matrix that turns fractional coordinates (rows) into its own."""
    reduced = np.array(moyopy.minkowski_reduce(lattice.tolist())[0])
    return reduced, np.rint(lattice @ np.linalg.inv(reduced))


def min_distance(structure: Structure) -> float:
    """Shortest distance in Å between any two atoms, periodic images included (so one atom has its own images)."""
    reduced, transform = reduce_cell(structure.lattice)
    frac_coords = wrap(structure.frac_coords @ transform)
    metric = reduced @ reduced.T
    translation = float(np.sqrt(shortest_translation(metric[None])[0]))
    if structure.num_atoms < 2:
        return translation
    if structure.num_atoms > 128:
        return min(translation, _min_distance_by_tree(reduced, frac_coords))
    i, j = np.triu_indices(structure.num_atoms, 1)
    difference = frac_coords[i] - frac_coords[j]
    _, squared = nearest_image(difference, np.broadcast_to(metric, (len(i), 3, 3)))
    return min(translation, float(np.sqrt(squared.min())))


def _min_distance_by_tree(lattice: np.ndarray, frac_coords: np.ndarray) -> float:
    """Nearest-neighbour search over the atoms and those of their images that lie in a shell around the cell."""
    from scipy.spatial import cKDTree

    shifts = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], dtype=float)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    # the closest pair of n atoms is at most 1.12 (V/n)^(1/3) apart (dense packing of spheres)
    shell = 2.0 * (abs(np.linalg.det(lattice)) / len(frac_coords)) ** (1 / 3) / heights
    images = (frac_coords[None] + shifts[:, None]).reshape(-1, 3)
    near = ((images > -shell) & (images < 1 + shell)).all(axis=1)
    distance, _ = cKDTree(images[near] @ lattice).query(frac_coords @ lattice, k=2)
    return float(distance[:, 1].min())


def check(
    structure: Structure,
    *,
    min_distance_allowed: float = 0.5,
    max_atoms: int | None = None,
    max_atomic_number: int = 94,
) -> None:
    """Refuse a structure that no model or metric could use.

    Args:
        structure: any structure.
        min_distance_allowed: Å; 0 skips the test.
        max_atoms: largest number of atoms in the given cell; None is no limit.
        max_atomic_number: heaviest element that the models know.

    Raises:
        NonFiniteStructureError: a NaN or infinite entry, no atoms, or a cell without volume.
        TooManyAtomsError: more than max_atoms atoms.
        UnsupportedElementError: an atomic number outside 1..max_atomic_number.
        ClashError: two atoms closer than min_distance_allowed.
    """
    numbers = np.asarray(structure.atomic_numbers)
    if len(numbers) == 0:
        raise NonFiniteStructureError("the structure has no atoms", status="empty")
    if max_atoms is not None and len(numbers) > max_atoms:
        raise TooManyAtomsError(f"{len(numbers)} atoms, more than the limit of {max_atoms}")
    if not (np.isfinite(structure.lattice).all() and np.isfinite(structure.frac_coords).all()):
        raise NonFiniteStructureError("a lattice entry or a coordinate is not a finite number")
    lengths = np.linalg.norm(structure.lattice, axis=1)
    if not structure.volume > 1e-3 * float(np.prod(lengths)) or structure.volume < 0.1:
        size = f"{structure.volume:.3g} Å^3; lengths {lengths.round(3).tolist()} Å"
        raise NonFiniteStructureError(f"the cell has no volume ({size})")
    outside = numbers[(numbers < 1) | (numbers > max_atomic_number)]
    if len(outside):
        raise UnsupportedElementError(f"atomic number {int(outside[0])} is outside 1..{max_atomic_number}")
    if min_distance_allowed > 0 and (shortest := min_distance(structure)) < min_distance_allowed:
        raise ClashError(f"two atoms are {shortest:.3f} Å apart, closer than {min_distance_allowed} Å")
