"""Bonds seen from each of their ends, and the pairs of them that meet at an atom."""

from dataclasses import dataclass

import numpy as np

from matgen.mof.bonds import Bonds

__all__ = ["HalfBonds", "excluded_pairs"]


@dataclass(frozen=True, eq=False)
class HalfBonds:
    """Half bond k < b runs from `first` to `second` of bond k; half bond b + k runs back.

    start, end: int [2b]. image: int [2b, 3] of the end. order: int [2b], half bonds sorted by their start. offset: int
    [n + 1], where each atom's begin in `order`.
    """

    start: np.ndarray
    end: np.ndarray
    image: np.ndarray
    order: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, num_atoms: int, bonds: Bonds) -> "HalfBonds":
        """The half bonds of a structure of num_atoms atoms."""
        start = np.concatenate([bonds.first, bonds.second])
        end = np.concatenate([bonds.second, bonds.first])
        image = np.concatenate([bonds.image, -bonds.image]).reshape(-1, 3)
        order = np.argsort(start, kind="stable")
        return cls(start, end, image, order, np.searchsorted(start[order], np.arange(num_atoms + 1)))

    @property
    def degree(self) -> np.ndarray:
        """Number of neighbours of each atom, int [n]."""
        return np.diff(self.offset)

    def opposite(self, half: np.ndarray) -> np.ndarray:
        """The same bonds seen from their other ends."""
        num = len(self.start) // 2
        return np.where(half < num, half + num, half - num)

    def pairs(self) -> np.ndarray:
        """Each pair of half bonds that start at one atom, once, int [a, 2]."""
        place = np.arange(len(self.order))
        stop = self.offset[self.start[self.order] + 1] if len(self.order) else place
        count = stop - place - 1
        left = np.repeat(place, count)
        right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
        return np.stack([self.order[left], self.order[right]], axis=1)

    def chains(self, middle: np.ndarray) -> np.ndarray:
        """Chains i-j-k-l over the half bonds j-k in `middle`, int [t, 3]: half bonds i-j, j-k, k-l; i is not l."""
        before, after = self.degree[self.start[middle]], self.degree[self.end[middle]]
        bond = np.repeat(np.arange(len(middle)), before * after)
        number = np.arange(len(bond)) - np.repeat(np.cumsum(before * after) - before * after, before * after)
        center = middle[bond]
        back = self.order[self.offset[self.start[center]] + number // after[bond]]
        forth = self.order[self.offset[self.end[center]] + number % after[bond]]
        image = self.image[center] + self.image[forth] - self.image[back]
        ring = (self.end[back] == self.end[forth]) & ~image.any(axis=1)
        keep = (back != center) & (forth != self.opposite(center)) & ~ring
        return np.stack([self.opposite(back), center, forth], axis=1)[keep]


def excluded_pairs(halves: HalfBonds, angles: np.ndarray) -> np.ndarray:
    """Pairs (i, j, image of j) that are bonded or share a neighbour, in both directions, int [x, 5], sorted."""
    left, right = angles[:, 0], angles[:, 1]
    i = np.concatenate([halves.start, halves.end[left], halves.end[right]])
    j = np.concatenate([halves.end, halves.end[right], halves.end[left]])
    between = halves.image[right] - halves.image[left]
    image = np.concatenate([halves.image, between, -between])
    return np.unique(np.column_stack([i, j, image]), axis=0)
