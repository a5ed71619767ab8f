"""Make of a real framework what sampling feeds to the assembly: other conformers, centres and cell slightly off."""

from dataclasses import dataclass

import numpy as np

from matgen.mof.assembly.problem import AssemblyInput
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import METAL_NODE, BuildingBlock

__all__ = ["PerturbConfig", "Replacer", "perturb"]

_MAX_COMPARED = 256


@dataclass(frozen=True, kw_only=True)
class PerturbConfig:
    """How far off.

    Args:
        centre: Å by which every centre is moved, in a random direction.
        strain: largest stretch of the cell, of a random symmetric strain.
    """

    centre: float = 0.3
    strain: float = 0.02


class Replacer:
    """Finds the nearest conformer of a block in other frameworks of a library."""

    def __init__(self, library: BlockLibrary) -> None:
        self.library = library
        self.names = np.array(library.source_names)
        self._first = library.conformer_offsets[:-1]

    def replacement(self, block: BuildingBlock, name: str) -> tuple[BuildingBlock, str]:
        """Another framework's conformer of the same identity, else the nearest by fingerprint.

        Args:
            block: to be replaced.
            name: of its own framework, whose blocks are not considered.

        Returns:
            the block and "identity" or "fingerprint"; the block itself and "own" where no other framework has one of
            its role and number of connections.
        """
        own = int(np.flatnonzero(self.names == name)[0]) if name in self.names else -1
        found = self._others(self.library.find(block.identity), own)
        if len(found):
            return self._nearest_shape(block, found), "identity"
        for identities in self._by_fingerprint(block):
            found = np.concatenate([np.arange(*self.library.conformer_offsets[k : k + 2]) for k in identities])
            found = self._others(found, own)
            if len(found):
                return self._nearest_shape(block, found), "fingerprint"
        return block, "own"

    def _others(self, found: np.ndarray, own: int) -> np.ndarray:
        return found[self.library.source_index[found] != own]

    def _by_fingerprint(self, block: BuildingBlock) -> list[np.ndarray]:
        """Identities of equal role and number of connections, those of equal similarity (Tanimoto) together."""
        library = self.library
        alike = library.num_connections[self._first] == block.num_connections
        alike &= library.is_metal[self._first] == (block.role == METAL_NODE)
        at = np.flatnonzero(alike)
        both = np.bitwise_count(library.ecfp4[at] & block.ecfp4).sum(1)
        either = np.bitwise_count(library.ecfp4[at] | block.ecfp4).sum(1)
        similarity = both / np.maximum(either, 1)
        order = np.argsort(-similarity, kind="stable")
        return np.split(at[order], np.flatnonzero(np.diff(similarity[order])) + 1)

    def _nearest_shape(self, block: BuildingBlock, found: np.ndarray) -> BuildingBlock:
        wanted = _shape(block)
        others = [self.library.block(int(i)) for i in found[:: -(-len(found) // _MAX_COMPARED)]]
        return min(others, key=lambda other: float(np.abs(_shape(other) - wanted).sum()))


def _shape(block: BuildingBlock) -> np.ndarray:
    """Sorted distances among the points on either side of the cut bonds, and a length whose sign is the hand's, Å."""
    half = block.connection_points - block.cart_coords[block.connection_atoms]
    points = np.concatenate([block.connection_points + half, block.connection_points - half])
    apart = np.sort(np.linalg.norm(points[:, None] - points, axis=-1), axis=None)
    radius = np.linalg.norm(block.cart_coords, axis=1)
    weights = np.stack([np.ones_like(radius), radius, radius**2]) * block.atomic_numbers
    moments = weights @ block.cart_coords / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return np.append(apart, len(points) * np.cbrt(np.linalg.det(moments)))


def perturb(
    given: AssemblyInput, name: str, replacer: Replacer, rng: np.random.Generator, config: PerturbConfig
) -> tuple[AssemblyInput, list[str]]:
    """Replace every block, move every centre, strain the cell.

    Args:
        given: of a real framework.
        name: of that framework in the library.
        replacer: of the library.
        rng: for the directions.
        config: how far.

    Returns:
        the input, and where each block came from ("identity", "fingerprint" or "own").
    """
    replaced = [replacer.replacement(block, name) for block in given.blocks]
    drawn = rng.standard_normal((3, 3))
    strain = drawn + drawn.T
    strain *= config.strain / np.abs(np.linalg.eigvalsh(strain)).max()
    lattice = given.lattice @ (np.eye(3) + strain)
    move = rng.standard_normal((given.num_blocks, 3))
    move *= config.centre / np.linalg.norm(move, axis=1, keepdims=True)
    frac = given.frac_coords + move @ np.linalg.inv(lattice)
    return AssemblyInput(lattice, frac - np.floor(frac), tuple(b for b, _ in replaced)), [how for _, how in replaced]
