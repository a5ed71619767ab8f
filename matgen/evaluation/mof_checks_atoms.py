"""Neighbours of each atom with their vectors, nearest first, and the angles between them."""

from collections.abc import Sequence

import numpy as np

from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds

__all__ = ["Neighbors", "close_pairs"]


class Neighbors:
    """The bonded neighbours of every atom, one entry for each periodic bond, nearest first."""

    def __init__(self, structure: Structure, bonds: Bonds) -> None:
        vectors = bonds.vectors(structure)
        center = np.concatenate([bonds.first, bonds.second])
        other = np.concatenate([bonds.second, bonds.first])
        both = np.concatenate([vectors, -vectors])
        length = np.linalg.norm(both, axis=1)
        order = np.lexsort((length, center))
        self._start = np.searchsorted(center[order], np.arange(structure.num_atoms + 1))
        self._atoms, self._vectors, self._distances = other[order], both[order], length[order]
        self._counts = np.diff(self._start).tolist()

    def count(self, i: int) -> int:
        """Number of bonds of an atom."""
        return int(self._counts[i])

    def atoms(self, i: int) -> np.ndarray:
        """Indices of the neighbours of an atom, int [c]."""
        return self._atoms[self._start[i] : self._start[i + 1]]

    def vectors(self, i: int) -> np.ndarray:
        """From an atom to its neighbours, [c, 3] in Å."""
        return self._vectors[self._start[i] : self._start[i + 1]]

    def distances(self, i: int) -> np.ndarray:
        """Bond lengths of an atom, [c] in Å."""
        return self._distances[self._start[i] : self._start[i + 1]]

    def angle(self, i: int) -> float:
        """Angle in degrees between the two nearest bonds of an atom."""
        a, b = self.vectors(i)[:2]
        return _angle(a, b)

    def angle_at_nearest(self, i: int) -> float:
        """Angle in degrees at the nearest neighbour of an atom, between the atom and its second nearest neighbour."""
        a, b = self.vectors(i)[:2]
        return _angle(-a, b - a)

    def dihedrals(self, i: int) -> list[float]:
        """Four dihedral angles in degrees about an atom with two bonds, to the nearest neighbours of its neighbours.

        With a and b its neighbours and x the nearest neighbour of either: a-i-b-x and x-a-i-b. Where x is the atom
        itself the angle is 0.
        """
        a, b = self.vectors(i)[:2]
        found = []
        for place, other in zip((a, b), self.atoms(i)[:2].tolist(), strict=True):
            end = place + self.vectors(other)[0]
            found += [_dihedral((a, np.zeros(3), b, end)), _dihedral((end, a, np.zeros(3), b))]
        return found


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _dihedral(points: Sequence[np.ndarray]) -> float:
    first, middle, last = (points[k] - points[k + 1] for k in range(3))
    across, along = np.cross(last, middle), np.cross(middle, first)
    angle = np.arctan2(last @ along * np.linalg.norm(middle), across @ along)
    return float(np.degrees(angle))


def close_pairs(structure: Structure, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of atoms, periodic images included, within a distance.

    Args:
        structure: any structure.
        cutoff: Å.

    Returns:
        first int [p], second int [p], distance [p] in Å; each pair once.
    """
    from vesin import NeighborList

    search = NeighborList(cutoff=cutoff, full_list=False)
    first, second, distance = search.compute(
        points=structure.cart_coords, box=structure.lattice, periodic=True, quantities="ijd"
    )
    return first.astype(np.int64), second.astype(np.int64), distance
