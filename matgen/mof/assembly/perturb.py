"""Make of a real framework what sampling feeds to the assembly: other conformers, centres and cell slightly off."""

from dataclasses import dataclass

import numpy as np

from matgen.mof.assembly.problem import AssemblyInput
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import METAL_NODE, BuildingBlock

__all__ = ["PerturbConfig", "Replacer", "perturb"]

_MAX_COMPARED = 256
_MAX_CONFORMERS = 8  # of one identity, where several identities are compared


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
        """Another framework's conformer of the same identity, else the nearest by shape among the most similar ones.

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
        found, similarity = self._by_fingerprint(block, own)
        if len(found):
            return self._nearest_shape(block, found, similarity), "fingerprint"
        return block, "own"

    def _others(self, found: np.ndarray, own: int) -> np.ndarray:
        return found[self.library.source_index[found] != own]

    def _by_fingerprint(self, block: BuildingBlock, own: int) -> tuple[np.ndarray, np.ndarray]:
        """Conformers of the identities that are most similar (Tanimoto), of equal role and number of connections."""
        library = self.library
        alike = library.num_connections[self._first] == block.num_connections
        alike &= library.is_metal[self._first] == (block.role == METAL_NODE)
        at = np.flatnonzero(alike)
        both = np.bitwise_count(library.ecfp4[at] & block.ecfp4).sum(1)
        either = np.bitwise_count(library.ecfp4[at] | block.ecfp4).sum(1)
        similarity = both / np.maximum(either, 1)
        found, alikeness = [], []
        for k in np.argsort(-similarity, kind="stable"):
            others = self._others(np.arange(*library.conformer_offsets[at[k] : at[k] + 2]), own)
            found.append(others[:: -(-len(others) // _MAX_CONFORMERS) or 1])
            alikeness.append(np.full(len(found[-1]), similarity[k]))
            if sum(map(len, found)) >= _MAX_COMPARED:
                break
        if not found:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        return np.concatenate(found)[:_MAX_COMPARED], np.concatenate(alikeness)[:_MAX_COMPARED]

    def _nearest_shape(
        self, block: BuildingBlock, found: np.ndarray, similarity: np.ndarray | None = None
    ) -> BuildingBlock:
        """Least mean difference of distances among connections in Å, plus one less the similarity of fingerprints."""
        if similarity is None:
            found = found[:: -(-len(found) // _MAX_COMPARED)]
            similarity = np.ones(len(found))
        wanted = _shape(block)
        others = [self.library.block(int(i)) for i in found]
        apart = [float(np.abs(_shape(other) - wanted).mean()) for other in others]
        return others[int(np.argmin(np.array(apart) + 1.0 - similarity))]


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
