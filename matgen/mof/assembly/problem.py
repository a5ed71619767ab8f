"""What self-assembly is given and what it returns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from matgen.crystal.structure import Structure
from matgen.geometry.rotations import random_rotations
from matgen.mof.periodic_graph import find_components

if TYPE_CHECKING:
    from matgen.mof.bonds import Bonds
    from matgen.mof.building_block import BuildingBlock

__all__ = [
    "CLOSED_AT",
    "Assembly",
    "AssemblyInput",
    "connection_blocks",
    "connection_offsets",
    "placed_atoms",
    "reorient",
    "unassembled",
]

CLOSED_AT = 0.5
"""Å; two connection points nearer than this meet."""


@dataclass(frozen=True, eq=False)
class AssemblyInput:
    """Blocks in any orientation, the cell and the centres; nothing says which block is bound to which.

    lattice: float64 [3, 3], rows in Å. frac_coords: float64 [K, 3], where the origin of each block (the centroid of its
    connection points) goes.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    blocks: "tuple[BuildingBlock, ...]"

    @property
    def num_blocks(self) -> int:
        return len(self.blocks)

    @property
    def num_connections(self) -> int:
        """Connection points of all blocks."""
        return sum(len(block.connection_points) for block in self.blocks)


@dataclass(frozen=True, eq=False)
class Assembly:
    """A framework put together, or how far it came.

    status: "ok" (closed and without clash), "clash" (closed), "open" or "infeasible"; reason: in words.
    rotations: float64 [K, 3, 3], of each block as given. pairs: int [P, 2], indices into the connection points of all
    blocks, metal side first; pair_image: int [P, 3], cell of the second block relative to the first. residuals: float64
    [P] in Å, distance of the two points of each pair. lattice and frac_coords as refined. shortest_contact: Å, between
    atoms of different blocks that no bond or common neighbour joins. score: lower is better, among closed ones of one
    input.
    """

    status: str
    reason: str
    lattice: np.ndarray
    frac_coords: np.ndarray
    blocks: "tuple[BuildingBlock, ...]"
    rotations: np.ndarray
    pairs: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    pair_image: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int64))
    residuals: np.ndarray = field(default_factory=lambda: np.zeros(0))
    shortest_contact: float = float("nan")
    score: float = float("nan")

    @property
    def closed(self) -> bool:
        """Whether every connection found its partner."""
        return self.status in ("ok", "clash")

    @property
    def num_open(self) -> int:
        """Pairs that do not meet."""
        return int((self.residuals > CLOSED_AT).sum()) if len(self.residuals) else 1_000_000

    @property
    def num_doubled(self) -> int:
        """Pairs whose two atoms another pair joins already."""
        return len(self.pairs) - len(self._bonded_atoms()[1])

    @property
    def dimension(self) -> int:
        """Of a closed one: 3 for nets, 2 where there is a layer, 1 where there is a chain, 0 where a molecule."""
        first, second = connection_blocks(self.blocks)[self.pairs].T
        return int(find_components(len(self.blocks), first, second, self.pair_image).dimension.min())

    @property
    def volume(self) -> float:
        """Å^3, of the cell."""
        return abs(float(np.linalg.det(self.lattice)))

    @property
    def num_atoms(self) -> int:
        """Of the cell."""
        return sum(block.num_atoms for block in self.blocks)

    def _bonded_atoms(self) -> tuple[np.ndarray, np.ndarray]:
        """Atoms [P, 2] that each pair joins, metal side first, and the first pair of each different bond."""
        starts = np.cumsum([0, *(block.num_atoms for block in self.blocks)])
        ends = np.concatenate([np.asarray(b.connection_atoms) + s for b, s in zip(self.blocks, starts, strict=False)])
        atoms = ends[self.pairs]
        first = np.unique(np.hstack([atoms, self.pair_image]), axis=0, return_index=True)[1]
        return atoms, np.sort(first)

    def to_structure(self) -> "tuple[Structure, Bonds]":
        """All atoms, block after block, and all bonds, those between blocks last; each bond once."""
        from matgen.mof.bonds import Bonds

        inverse = np.linalg.inv(self.lattice)
        frac = [
            origin + block.cart_coords @ rotation.T @ inverse
            for origin, block, rotation in zip(self.frac_coords, self.blocks, self.rotations, strict=True)
        ]
        starts = np.cumsum([0, *(block.num_atoms for block in self.blocks)])
        inside = [np.asarray(b.bonds).reshape(-1, 2) + start for b, start in zip(self.blocks, starts, strict=False)]
        atoms, kept = self._bonded_atoms()
        first, second = np.concatenate([*inside, atoms[kept]]).astype(np.int64).T
        image = np.concatenate([np.zeros((sum(map(len, inside)), 3), dtype=np.int64), self.pair_image[kept]])
        unwrapped = np.concatenate(frac)
        cell = np.floor(unwrapped).astype(np.int64)
        numbers = np.concatenate([block.atomic_numbers for block in self.blocks])
        structure = Structure(self.lattice, unwrapped - cell, numbers)
        return structure, Bonds(first, second, image + cell[second] - cell[first])


def connection_offsets(blocks: "Sequence[BuildingBlock]") -> np.ndarray:
    """[K + 1] where the connection points of each block begin in the list of all."""
    return np.cumsum([0, *(len(block.connection_points) for block in blocks)])


def connection_blocks(blocks: "Sequence[BuildingBlock]") -> np.ndarray:
    """[C] the block of each connection point in the list of all."""
    return np.repeat(np.arange(len(blocks)), [len(block.connection_points) for block in blocks])


def unassembled(given: AssemblyInput, status: str, reason: str) -> Assembly:
    """What never came together: everything as it was given."""
    rotations = np.tile(np.eye(3), (given.num_blocks, 1, 1))
    return Assembly(status, reason, given.lattice, given.frac_coords, given.blocks, rotations)


def placed_atoms(blocks: "Sequence[BuildingBlock]", centres: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """[n, 3] Å: all atoms, of blocks turned by rotations [K, 3, 3] and put at centres [K, 3]."""
    return np.concatenate([b.cart_coords @ r.T + o for b, r, o in zip(blocks, rotations, centres, strict=True)])


def reorient(given: AssemblyInput, rng: np.random.Generator) -> tuple[AssemblyInput, np.ndarray]:
    """Turn every block at random.

    Returns:
        the input with turned blocks, and the rotations [K, 3, 3] that were applied.
    """
    rotations = random_rotations(given.num_blocks, rng).numpy()
    blocks = tuple(block.rotated(rotation) for block, rotation in zip(given.blocks, rotations, strict=True))
    return replace(given, blocks=blocks), rotations
