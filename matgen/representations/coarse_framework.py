"""What a model sees of a framework: places of the blocks, which blocks they are, and the cell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import BuildingBlock
from matgen.mof.framework import Framework

__all__ = ["CoarseUnit", "decode", "encode"]


@dataclass(frozen=True, eq=False)
class CoarseUnit:
    """A framework of K blocks and E coarse edges, without atoms and orientations.

    lattice: float64 [3, 3], rows in Å. frac_coords: float64 [K, 3] in [0, 1), centroids of connection points.
    block_index: int64 [K], rows of a block library. is_metal: bool [K]. num_connections: int64 [K]. edge_index: int64
    [E, 2], the metal node first; edge_image: int64 [E, 3], cell of the second block relative to the first;
    edge_multiplicity: int64 [E], bonds between the two.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    block_index: np.ndarray
    is_metal: np.ndarray
    num_connections: np.ndarray
    edge_index: np.ndarray
    edge_image: np.ndarray
    edge_multiplicity: np.ndarray

    @property
    def num_blocks(self) -> int:
        return len(self.block_index)


def encode(framework: Framework, block_index: Sequence[int] | np.ndarray | None = None) -> CoarseUnit:
    """Reduce a framework to what a model sees.

    Args:
        framework: any decomposed framework.
        block_index: row of each block in a library; None numbers the framework's own blocks.

    Returns:
        its coarse unit.
    """
    edge_index, edge_image, multiplicity = framework.edges()
    index = np.arange(framework.num_blocks) if block_index is None else np.asarray(block_index, dtype=np.int64)
    if index.shape != (framework.num_blocks,):
        raise ValueError(f"{len(index)} block indices for {framework.num_blocks} blocks")
    return CoarseUnit(
        lattice=framework.lattice,
        frac_coords=framework.frac_coords,
        block_index=index,
        is_metal=np.array([block.is_metal for block in framework.blocks]),
        num_connections=np.array([block.num_connections for block in framework.blocks]),
        edge_index=edge_index,
        edge_image=edge_image,
        edge_multiplicity=multiplicity,
    )


def decode(
    unit: CoarseUnit, library: BlockLibrary | Sequence[BuildingBlock]
) -> tuple[np.ndarray, np.ndarray, list[BuildingBlock]]:
    """What an assembly starts from: the edges and orientations are not used.

    Args:
        unit: any coarse unit.
        library: where block_index points.

    Returns:
        lattice [3, 3] in Å, frac_coords [K, 3], and the K blocks in the library's orientations.
    """
    indices = unit.block_index.tolist()
    blocks = [library.block(i) if isinstance(library, BlockLibrary) else library[i] for i in indices]
    return unit.lattice, unit.frac_coords, blocks
