"""Arms of blocks: least, mean and largest distance of connection points from their centroid."""

from pathlib import Path

import numpy as np

from matgen.data.mof_records import BlockRecords
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import BuildingBlock
from matgen.mof.decompose import decompose
from tests.unit.mof.conftest import load


def lengths(block: BuildingBlock) -> np.ndarray:
    return np.linalg.norm(block.connection_points - block.connection_points.mean(0), axis=1)


def test_arms_are_those_of_each_block(tmp_path: Path) -> None:
    blocks = [block for name in ("mof5", "pillared") for block in decompose(load(name)).blocks]
    library = BlockLibrary.from_blocks(blocks, ["a"] * len(blocks))
    library.save(tmp_path / "blocks.safetensors")
    arms = BlockRecords.load(tmp_path / "blocks.safetensors").arms()
    for row, block in zip(arms, (library.block(k) for k in range(library.num_blocks)), strict=True):
        own = lengths(block)
        np.testing.assert_allclose(row, [own.min(), own.mean(), own.max()], atol=1e-3)
    assert BlockRecords.empty().arms().shape == (0, 3)


def test_joined_blocks_are_at_most_as_far_apart_as_their_arms_reach() -> None:
    """Connection points are midpoints of bonds. In MOF-5 two of a carboxylate lie beside the line of the centres."""
    framework = decompose(load("mof5"))
    metal = next(k for k, block in enumerate(framework.blocks) if block.role == "metal_node")
    linker = next(k for k, block in enumerate(framework.blocks) if block.role == "linker")
    frac = framework.frac_coords[linker] - framework.frac_coords[metal]
    apart = np.linalg.norm((frac - frac.round()) @ framework.lattice)
    reach = lengths(framework.blocks[metal]).mean() + lengths(framework.blocks[linker]).mean()
    assert reach - 1.0 < apart < reach
