"""Blocks for sampled embeddings: nearest, of the right role, balanced; and their mirror images."""

from dataclasses import replace

import numpy as np
import pytest

from matgen.mof.assemble import AssemblyInput
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import BuildingBlock
from matgen.mof.handedness import mirrored, with_best_hands
from matgen.mof.lookup import BlockLookup, LookupConfig, SampledBlocks, connection_surplus
from tests.unit.mof.conftest import star


def ring(arms: int, element: int, role: str) -> BuildingBlock:
    """One atom with connection points around it, evenly in a plane."""
    angles = np.arange(arms) * 2 * np.pi / arms
    return star(2.0 * np.stack([np.cos(angles), np.sin(angles), np.zeros(arms)], axis=1), element, role)


@pytest.fixture
def library() -> BlockLibrary:
    """Metals with 4 and 6 connections, linkers with 2 and 3, at known places along one axis of the embedding."""
    blocks = [ring(4, 30, "metal_node"), ring(6, 30, "metal_node"), ring(2, 6, "linker"), ring(3, 6, "linker")]
    made = BlockLibrary.from_blocks(blocks, ["a", "b", "c", "d"])
    place = {(True, 4): 0.0, (True, 6): 1.0, (False, 2): 10.0, (False, 3): 11.0}
    keys = zip(made.is_metal.tolist(), made.num_connections.tolist(), strict=True)
    embedding = np.array([[place[key], 0.0] for key in keys], dtype=np.float32)
    return replace(made, embedding=embedding)


SPACING = float(np.sqrt(2 * np.var([0.0, 1.0, 10.0, 11.0])))  # of the library's blocks, root mean square


def sampled(metals: list[float], linkers: list[float], connections: list[float] | None = None) -> SampledBlocks:
    count = len(metals) + len(linkers)
    return SampledBlocks(
        embedding=np.array([[x, 0.0] for x in metals + linkers]),
        is_metal=np.array([True] * len(metals) + [False] * len(linkers)),
        num_connections=np.array(connections) if connections else np.full(count, np.nan),
    )


def chosen(library: BlockLibrary, given: SampledBlocks, **settings) -> tuple[list[int], bool]:
    lookup = BlockLookup(library, LookupConfig(merge_distance=0.0, num_tries=1, num_simple=0, num_passes=1, **settings))
    (choice,) = lookup.choices(given, np.random.default_rng(0))
    return library.num_connections[choice.index].tolist(), choice.balanced


def test_the_nearest_blocks_where_they_balance(library: BlockLibrary) -> None:
    assert chosen(library, sampled([0.1], [9.9, 10.2])) == ([4, 2, 2], True)
    assert chosen(library, sampled([0.9], [11.0, 10.9])) == ([6, 3, 3], True)


def test_the_cheapest_exchange_restores_balance(library: BlockLibrary) -> None:
    # nearest would be 6 against 2 + 2: the metal at 0.55 is exchanged, not both linkers
    assert chosen(library, sampled([0.55], [10.0, 10.0])) == ([4, 2, 2], True)
    assert chosen(library, sampled([0.55], [10.0, 10.0]), balance=False) == ([6, 2, 2], False)
    # a sampled number of connections outweighs the distance
    assert chosen(library, sampled([0.4], [10.4, 10.4], [6.0, 3.0, 3.0])) == ([6, 3, 3], True)


def test_what_cannot_balance_says_so(library: BlockLibrary) -> None:
    found, balanced = chosen(library, sampled([0.0], [10.0]))
    assert found == [4, 2] and not balanced


def test_roles_are_kept_and_equal_blocks_merged(library: BlockLibrary) -> None:
    given = sampled([9.0], [10.0, 10.6])  # a metal among the linkers
    found, _ = chosen(library, given)
    assert found[0] in (4, 6)
    lookup = BlockLookup(library, LookupConfig(merge_distance=2.0 / SPACING, balance=False))
    first = next(iter(lookup.choices(given, np.random.default_rng(0))))
    assert first.index[1] == first.index[2], "0.6 apart is one block"


def test_later_choices_differ_and_none_comes_twice(library: BlockLibrary) -> None:
    lookup = BlockLookup(
        library, LookupConfig(merge_distance=0.0, num_tries=8, num_simple=0, num_passes=1, spread=2.0, inversion=False)
    )
    choices = list(lookup.choices(sampled([0.45], [10.5, 10.5]), np.random.default_rng(1)))
    assert len({choice.index.tobytes() for choice in choices}) == len(choices) > 1
    assert all(choice.balanced for choice in choices)


def test_later_tiers_of_choices_have_one_block_of_each_role(library: BlockLibrary) -> None:
    """Metals and linkers far apart: different at first, and then all the same, where that balances."""
    given = sampled([0.0, 1.0], [10.0, 10.0, 11.0, 11.0], [6.0, 4.0, 2.0, 2.0, 3.0, 3.0])
    lookup = BlockLookup(
        library, LookupConfig(merge_distance=0.0, inversion=False, num_tries=1, num_simple=4, num_passes=1)
    )
    choices = list(lookup.choices(given, np.random.default_rng(0)))
    assert [choice.tier for choice in choices] == sorted(choice.tier for choice in choices)
    simple = [choice for choice in choices if choice.tier == 1]
    assert simple and choices[0].tier == 0
    assert len(set(choices[0].index[:2].tolist())) == 2
    for choice in simple:
        assert choice.balanced and len(set(choice.index[:2].tolist())) == len(set(choice.index[2:].tolist())) == 1
    none = BlockLookup(
        library, LookupConfig(merge_distance=0.0, inversion=False, num_tries=1, num_simple=0, num_passes=1)
    )
    assert not any(choice.tier for choice in none.choices(given, np.random.default_rng(0)))


def test_later_passes_look_farther(library: BlockLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    given = sampled([0.45, 0.5], [10.4, 10.5, 10.6])
    spreads: list[float] = []

    def factors(rng: np.random.Generator, spread: float, count: int) -> np.ndarray:
        spreads.append(spread)
        return np.exp(spread * rng.standard_normal(count))

    monkeypatch.setattr("matgen.mof.lookup._factors", factors)
    lookup = BlockLookup(
        library, LookupConfig(merge_distance=0.0, inversion=False, num_tries=9, num_simple=2, num_passes=3, spread=0.5)
    )
    choices = list(lookup.choices(given, np.random.default_rng(0)))
    assert len({choice.index.tobytes() for choice in choices}) == len(choices)
    assert sorted(set(spreads)) == [0.0, 0.5, 1.5, 2.5]
    assert [choice.tier for choice in choices] == sorted(choice.tier for choice in choices)


def test_simple_choices_that_cannot_balance_are_not_made(library: BlockLibrary) -> None:
    """Three metals of one kind have 12 or 18 connections, seven linkers of one kind 14 or 21."""
    given = sampled([0.0, 0.1, 0.9], [10.0] * 7)
    lookup = BlockLookup(library, LookupConfig(merge_distance=0.1, num_tries=2, num_simple=4, num_passes=2))
    choices = list(lookup.choices(given, np.random.default_rng(0)))
    assert choices and not any(choice.tier % 2 for choice in choices)


def test_surplus_counts_metal_less_linker_connections(library: BlockLibrary) -> None:
    expected = np.where(library.is_metal, 1, -1) * library.num_connections
    assert connection_surplus(library).tolist() == expected.tolist()


def test_a_library_without_embeddings_is_refused(library: BlockLibrary) -> None:
    with pytest.raises(ValueError, match="embeddings"):
        BlockLookup(replace(library, embedding=None))


def test_the_mirror_image_that_fits_is_taken() -> None:
    # a chiral linker with four unequal arms; metals with one arm each stand where the arms point
    arms = np.array([[3.0, 0, 0], [0, 4.0, 0], [0, 0, 5.0], [-3.0, -4.0, -5.0]])
    ends = arms * (1 - 1.0 / np.linalg.norm(arms, axis=1, keepdims=True))
    linker = BuildingBlock(np.full(4, 6), ends, np.zeros((0, 2), int), arms, np.arange(4), "linker")
    arm = np.array([[2.0, 0, 0]])
    metal = BuildingBlock(np.array([30]), arm * 0.5, np.zeros((0, 2), int), arm, np.zeros(1, int), "metal_node")
    length = np.linalg.norm(arms, axis=1, keepdims=True)
    centres = np.concatenate([np.zeros((1, 3)), arms * (1 + 2.0 / length)])
    lattice = np.eye(3) * 40
    right = AssemblyInput(lattice, (centres / 40) % 1, (linker, metal, metal, metal, metal))
    wrong = replace(right, blocks=(mirrored(linker), *right.blocks[1:]))
    for given, flipped in ((right, False), (wrong, True)):
        (made,), (flags,) = with_best_hands([given])
        assert bool(flags[0]) == flipped and not flags[1:].any()
        assert np.allclose(made.blocks[0].connection_points, arms)


@pytest.mark.parametrize("distance", [1.2, 2.4, 9.9])  # with each another share of it parts the metals
def test_groups_that_cannot_balance_are_taken_apart(library: BlockLibrary, distance: float) -> None:
    # two metals 1 apart: as one block 2 x 4 or 2 x 6 connections, against 5 x 2; apart 4 + 6
    given = sampled([0.0, 1.0], [10.0] * 5)
    lookup = BlockLookup(
        library, LookupConfig(merge_distance=distance / SPACING, num_tries=1, num_simple=0, num_passes=1)
    )
    (choice,) = lookup.choices(given, np.random.default_rng(0))
    assert choice.balanced and sorted(library.num_connections[choice.index[:2]].tolist()) == [4, 6]


@pytest.mark.parametrize(
    "wrong",
    [{"num_tries": 0}, {"num_passes": 0}, {"num_simple": -1}, {"merge_distance": float("nan")}, {"spread": -0.1}],
)
def test_settings_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="num_passes >= 1"):
        LookupConfig(**wrong)  # type: ignore[arg-type]


def test_sets_that_could_have_a_centre_of_inversion_take_turns(library: BlockLibrary) -> None:
    """Three linkers near the one with three connections, which is not centred: one of them has to become another."""
    given = sampled([0.9] * 2, [11.0, 11.0, 10.8], [6.0, 6.0, 3.0, 3.0, 3.0])
    lookup = BlockLookup(
        library, LookupConfig(merge_distance=9.9 / SPACING, balance=False, num_tries=3, num_simple=0, num_passes=1)
    )
    plain, *invertible = lookup.choices(given, np.random.default_rng(0))
    assert library.num_connections[plain.index[2:]].tolist() == [3, 3, 3]
    assert [library.num_connections[c.index[2:]].tolist() for c in invertible] == [[2, 2, 2]]
    pairs = sampled([0.9] * 2, [11.0, 11.0, 10.0])
    lookup = BlockLookup(
        library, LookupConfig(merge_distance=0.5 / SPACING, balance=False, num_tries=3, num_simple=0, num_passes=1)
    )
    found = [library.num_connections[c.index[2:]].tolist() for c in lookup.choices(pairs, np.random.default_rng(0))]
    assert found == [[3, 3, 2]], "all ways agree: the pair is of one kind, the odd one is centred"
    only = BlockLookup(
        library,
        LookupConfig(
            merge_distance=9.9 / SPACING, balance=False, inversion=False, num_tries=1, num_simple=0, num_passes=1
        ),
    )
    (choice,) = only.choices(given, np.random.default_rng(0))
    assert library.num_connections[choice.index[2:]].tolist() == [3, 3, 3]
    # four linkers, three and one by nearness, both odd; in pairs all four are one kind
    four = sampled([0.9] * 2, [11.0, 11.0, 11.0, 10.2], [6.0, 6.0, 3.0, 3.0, 3.0, 3.0])
    lookup = BlockLookup(
        library, LookupConfig(merge_distance=0.5 / SPACING, balance=False, num_tries=3, num_simple=0, num_passes=1)
    )
    kinds = [library.num_connections[c.index[2:]].tolist() for c in lookup.choices(four, np.random.default_rng(0))]
    assert [3, 3, 3, 3] in kinds and [2, 2, 2, 2] in kinds
