"""A framework as building blocks, their places in a cell, and the pairs of connection points that meet."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from matgen.crystal.structure import Structure
from matgen.geometry.coordinates import wrap
from matgen.mof.bonds import Bonds
from matgen.mof.building_block import BuildingBlock

__all__ = ["Framework", "RemovedSpecies"]


@dataclass(frozen=True)
class RemovedSpecies:
    """What was taken out of the pores or off the metals.

    formula: in Hill order, one molecule. count: in the primitive cell. kind: "free", or "bound" to one metal node.
    """

    formula: str
    count: int
    kind: str


@dataclass(frozen=True, eq=False)
class Framework:
    """A decomposed framework of K blocks with C connection points in all, P = C / 2 cut bonds.

    lattice: float64 [3, 3], rows in Å, a reduced primitive cell. frac_coords: float64 [K, 3] in [0, 1), the blocks'
    origins, which are the centroids of their connection points. pairs: int [P, 2], indices into the list of the
    connection points of all blocks, block 0's first; the metal node's side comes first. pair_image: int [P, 3], the
    cell of the second block of a pair relative to the first. dimension: 1 chain, 2 layer, 3 net.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    blocks: tuple[BuildingBlock, ...]
    pairs: np.ndarray
    pair_image: np.ndarray
    dimension: int = 3
    removed_solvent: tuple[RemovedSpecies, ...] = ()

    @property
    def num_blocks(self) -> int:
        return len(self.blocks)

    @property
    def num_atoms(self) -> int:
        return sum(block.num_atoms for block in self.blocks)

    @property
    def num_connections(self) -> int:
        """Connection points of all blocks."""
        return sum(block.num_connections for block in self.blocks)

    @cached_property
    def block_of_connection(self) -> np.ndarray:
        """Block of each connection point, int [C]."""
        return np.repeat(np.arange(self.num_blocks), [block.num_connections for block in self.blocks])

    def edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coarse edges: which blocks meet, in which cells, by how many bonds.

        Returns:
            blocks int [E, 2], the metal node first; image int [E, 3] of the second; multiplicity int [E].
        """
        rows = np.concatenate([self.block_of_connection[self.pairs], self.pair_image], axis=1)
        unique, count = np.unique(rows, axis=0, return_counts=True)
        return unique[:, :2], unique[:, 2:], count

    def to_structure(self) -> tuple[Structure, Bonds]:
        """All atoms, block after block, and all bonds, those within blocks first."""
        origins = self.frac_coords @ self.lattice
        cart = np.concatenate([block.cart_coords + place for block, place in zip(self.blocks, origins, strict=True)])
        frac = cart @ np.linalg.inv(self.lattice)
        coords = wrap(frac)
        cell = np.rint(frac - coords).astype(np.int64)
        starts = np.cumsum([0, *(block.num_atoms for block in self.blocks)])
        inner = np.concatenate([block.bonds + start for block, start in zip(self.blocks, starts, strict=False)])
        ends = np.concatenate(
            [block.connection_atoms + start for block, start in zip(self.blocks, starts, strict=False)]
        )[self.pairs]
        pairs = np.concatenate([inner, ends])
        image = np.concatenate([np.zeros((len(inner), 3), np.int64), self.pair_image])
        first, second = pairs[:, 0], pairs[:, 1]
        numbers = np.concatenate([block.atomic_numbers for block in self.blocks])
        structure = Structure(self.lattice, coords, numbers)
        return structure, Bonds(first, second, image + cell[second] - cell[first])
