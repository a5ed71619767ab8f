"""Frameworks as models see them."""

import numpy as np
import pytest

from matgen.mof.block_library import BlockLibrary
from matgen.mof.decompose import decompose
from matgen.representations.coarse_framework import decode, encode
from tests.unit.mof.conftest import load


def test_encode_then_decode_gives_what_an_assembly_starts_from() -> None:
    framework = decompose(load("mil53"))
    library = BlockLibrary.from_blocks(framework.blocks, ["mil53"] * framework.num_blocks)
    index = [int(library.find(block.identity)[0]) for block in framework.blocks]
    unit = encode(framework, index)
    lattice, frac_coords, blocks = decode(unit, library)
    assert np.array_equal(lattice, framework.lattice) and np.array_equal(frac_coords, framework.frac_coords)
    assert [b.identity for b in blocks] == [b.identity for b in framework.blocks]
    assert unit.num_connections.sum() == framework.num_connections == 2 * unit.edge_multiplicity.sum()
    assert unit.is_metal[unit.edge_index[:, 0]].all() and not unit.is_metal[unit.edge_index[:, 1]].any()


def test_edges_are_as_long_as_their_blocks_reach() -> None:
    framework = decompose(load("uio66"))
    unit = encode(framework)
    ends = unit.frac_coords[unit.edge_index[:, 1]] + unit.edge_image - unit.frac_coords[unit.edge_index[:, 0]]
    lengths = np.linalg.norm(ends @ unit.lattice, axis=1)
    assert len(lengths) == 12 and set(unit.edge_multiplicity.tolist()) == {2}
    assert np.ptp(lengths) < 0.1 and 6 < lengths.mean() < 9


def test_a_wrong_number_of_indices_is_refused() -> None:
    with pytest.raises(ValueError, match="2 block indices for 7 blocks"):
        encode(decompose(load("uio66")), [0, 1])
