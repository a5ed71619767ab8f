"""Identity by canonical bond graph, and the library."""

from dataclasses import replace
from pathlib import Path

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matgen.mof.block_library import BlockLibrary, BlockLibraryError
from matgen.mof.building_block import LINKER, METAL_NODE, BuildingBlock, Role
from matgen.mof.conformers import first_of_its_shape
from matgen.mof.decompose import decompose
from tests.unit.mof.conftest import load


def random_block(rng: np.random.Generator, role: Role = LINKER) -> BuildingBlock:
    """A random connected graph of few kinds of atoms: many of them are nearly alike."""
    n = int(rng.integers(2, 9))
    tree = [(i, int(rng.integers(0, i))) for i in range(1, n)]
    extra = [tuple(sorted(rng.choice(n, 2, replace=False).tolist())) for _ in range(rng.integers(0, 3))]
    bonds = np.array(sorted({tuple(sorted(pair)) for pair in [*tree, *extra]}), dtype=np.int64)
    atoms = rng.choice([1, 6, 6, 7, 30], n)
    ends = rng.integers(0, n, 2)
    return BuildingBlock(atoms, rng.normal(size=(n, 3)), bonds, rng.normal(size=(2, 3)), ends, role)


def graph(block: BuildingBlock) -> networkx.Graph:
    made = networkx.Graph()
    counts = np.bincount(block.connection_atoms, minlength=block.num_atoms)
    for i, number in enumerate(block.atomic_numbers.tolist()):
        made.add_node(i, label=(number, int(counts[i])))
    made.add_edges_from(block.bonds.tolist())
    return made


def shuffled(block: BuildingBlock, rng: np.random.Generator) -> BuildingBlock:
    order = rng.permutation(block.num_atoms)
    inverse = np.argsort(order)
    points = rng.permutation(block.num_connections)
    bonds = inverse[block.bonds][rng.permutation(len(block.bonds))]
    return BuildingBlock(
        block.atomic_numbers[order],
        block.cart_coords[order],
        bonds[:, ::-1],
        block.connection_points[points],
        inverse[block.connection_atoms[points]],
        block.role,
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_identity_is_graph_isomorphism(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = [random_block(rng) for _ in range(6)]
    blocks += [shuffled(block, rng) for block in blocks[:2]]
    for one in blocks:
        for other in blocks:
            same = networkx.is_isomorphic(graph(one), graph(other), node_match=lambda a, b: a["label"] == b["label"])
            assert (one.identity == other.identity) == same, (one.smiles, other.smiles)


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(["mof5", "uio66", "hkust1", "pillared"]), seed=st.integers(0, 2**31))
def test_real_blocks_keep_identity_and_fingerprint(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for block in {b.identity: b for b in decompose(load(name)).blocks}.values():
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        other = shuffled(block.rotated(rotation), rng)
        assert other.identity == block.identity and (other.ecfp4 == block.ecfp4).all()
        assert abs(other.diameter - block.diameter) < 1e-9


def test_a_hydrogen_more_or_less_is_another_identity() -> None:
    linker = next(b for b in decompose(load("mof5")).blocks if b.role == LINKER)
    hydrogen = int(np.flatnonzero(linker.atomic_numbers == 1)[0])
    keep = np.delete(np.arange(linker.num_atoms), hydrogen)
    inverse = np.full(linker.num_atoms, -1)
    inverse[keep] = np.arange(len(keep))
    radical = replace(
        linker,
        atomic_numbers=linker.atomic_numbers[keep],
        cart_coords=linker.cart_coords[keep],
        bonds=inverse[linker.bonds[(linker.bonds != hydrogen).all(axis=1)]],
        connection_atoms=inverse[linker.connection_atoms],
    )
    assert radical.identity != linker.identity


def test_one_identity_across_frameworks_and_frozen_names() -> None:
    bdc = {
        block.identity
        for name in ("mof5", "uio66", "mil53", "pillared")
        for block in decompose(load(name)).blocks
        if block.role == LINKER and sorted(block.atomic_numbers.tolist()) == [1] * 4 + [6] * 8 + [8] * 4
    }
    assert bdc == {"8b99" + next(iter(bdc))[4:]}
    node = decompose(load("uio66")).blocks[0]
    assert node.role == METAL_NODE and node.identity.startswith("67dd")


def test_shapes_of_symmetry_copies_are_one() -> None:
    blocks = decompose(load("hkust1")).blocks
    first = first_of_its_shape(blocks)
    assert len(set(first.tolist())) == 2
    bent = replace(blocks[-1], cart_coords=blocks[-1].cart_coords * [1.0, 1.0, 1.1])
    assert len(set(first_of_its_shape([*blocks, bent]).tolist())) == 3


@pytest.fixture(scope="module")
def library() -> BlockLibrary:
    pairs = [(block, name) for name in ("mof5", "uio66", "mil53", "hkust1") for block in decompose(load(name)).blocks]
    return BlockLibrary.from_blocks([block for block, _ in pairs], [name for _, name in pairs])


def test_a_library_gives_back_its_blocks(library: BlockLibrary, tmp_path: Path) -> None:
    library.save(tmp_path / "blocks.safetensors")
    loaded = BlockLibrary.load(tmp_path / "blocks.safetensors")
    assert (loaded.num_blocks, loaded.num_identities) == (8 + 7 + 6 + 14, 7)
    assert not isinstance(loaded.cart_coords.base, type(None))  # a view of the mapped file
    for index in range(loaded.num_blocks):
        block = loaded.block(index)
        assert block.identity == loaded.identity(index)
        assert (block.ecfp4 == loaded.ecfp4[loaded.identity_index[index]]).all()
        assert block.is_metal == loaded.is_metal[index] and block.num_connections == loaded.num_connections[index]
        assert index in loaded.find(block.identity)
    uio = loaded.find(decompose(load("uio66")).blocks[1].identity)
    assert {loaded.source(int(i)) for i in uio} == {"mof5", "uio66", "mil53"}
    assert len(loaded.find("00" * 16)) == 0


def test_a_selection_is_a_library(library: BlockLibrary) -> None:
    chosen = library.select(library.conformer_offsets[:-1])
    assert chosen.num_blocks == chosen.num_identities == library.num_identities
    for index, first in enumerate(library.conformer_offsets[:-1].tolist()):
        assert chosen.identity(index) == library.identity(first)
        assert np.array_equal(chosen.block(index).cart_coords, library.block(first).cart_coords)


@pytest.mark.parametrize("damage", ["missing", "short", "other"])
def test_a_bad_library_is_named(library: BlockLibrary, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "blocks.safetensors"
    if damage != "missing":
        library.save(path)
        data = path.read_bytes()
        path.write_bytes(
            data[: len(data) // 2] if damage == "short" else data.replace(b"matgen-blocks-1", b"matgen-blocks-X")
        )
    with pytest.raises(BlockLibraryError, match=r"blocks\.safetensors"):
        BlockLibrary.load(path)
