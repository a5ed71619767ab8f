"""Centres of inversion: of blocks, of sampled sets, of annealing's starts."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from matgen.geometry.rotations import random_rotations
from matgen.mof.assembly.anneal import AnnealConfig, Annealed, packed
from matgen.mof.assembly.bodies import Motion, Placement, find_contacts, make_bodies, pull, push
from matgen.mof.assembly.finish import FinishConfig
from matgen.mof.assembly.inversion import find_inversions, is_centred, kinds
from matgen.mof.assembly.judge import order
from matgen.mof.assembly.problem import AssemblyInput, placed_atoms
from matgen.mof.assembly.starts import scattered
from matgen.mof.assembly.walk import Walk
from matgen.mof.building_block import BuildingBlock
from matgen.mof.choices import _finished
from matgen.mof.decompose import decompose
from matgen.mof.grouping import grouped
from tests.unit.mof.conftest import load


def cut(name: str) -> AssemblyInput:
    """A named framework, of each block one conformer in one frame, as a library would give them."""
    framework = decompose(load(name))
    first = {block.identity: block for block in reversed(framework.blocks)}
    return AssemblyInput(framework.lattice, framework.frac_coords, tuple(first[b.identity] for b in framework.blocks))


def star(points: np.ndarray, element: int, role: str) -> BuildingBlock:
    """An atom with connection points around it."""
    none = np.zeros((0, 2), dtype=np.int64)
    ends = np.zeros(len(points), dtype=np.int64)
    return BuildingBlock(np.array([element]), np.zeros((1, 3)), none, points.astype(float), ends, role)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "metal_node", "linker"),
    [("mof5", False, True), ("hkust1", True, False), ("uio66", False, True)],  # Td, D4h, Td (by its OH); D2h, D3h, D2h
)
def test_blocks_have_a_centre_where_their_point_groups_have_one(name: str, metal_node: bool, linker: bool) -> None:
    for block in cut(name).blocks:
        assert is_centred(block) is (metal_node if block.is_metal else linker)


def test_a_centre_needs_like_atoms_on_both_sides() -> None:
    arms = np.array([[2.0, 0, 0], [-2.0, 0, 0]])
    two = star(arms, 6, "linker")
    assert is_centred(two)
    ends = replace(two, atomic_numbers=np.array([6, 7]), cart_coords=arms / 2, connection_atoms=np.array([0, 1]))
    assert not is_centred(ends)


@pytest.mark.parametrize("name", ["mof5", "hkust1"])
def test_named_frameworks_have_the_centres_that_their_space_groups_have(name: str) -> None:
    """Both are Fm-3m; their blocks' centres need not move."""
    given = cut(name)
    found = find_inversions(given, 8, 200, np.random.default_rng(0))
    assert found and found[0].cost < 0.05
    kind = kinds(given.blocks)
    for inversion in found:
        assert (inversion.partner[inversion.partner] == np.arange(given.num_blocks)).all()
        assert (kind[inversion.partner] == kind).all()
        total = inversion.frac_coords + inversion.frac_coords[inversion.partner]
        assert np.abs((total - total[0] + 0.5) % 1.0 - 0.5).max() < 1e-9
    assert [a.cost <= b.cost for a, b in pairwise(found)].count(False) == 0


def test_an_odd_number_of_a_block_without_a_centre_allows_none() -> None:
    given = cut("mof5")
    odd = replace(given, blocks=given.blocks[1:], frac_coords=given.frac_coords[1:])
    assert not odd.blocks[0].is_metal or kinds(odd.blocks).tolist().count(kinds(odd.blocks)[0]) % 2 == 1
    assert find_inversions(odd, 8, 200, np.random.default_rng(0)) == []


def asymmetry(given: AssemblyInput, place: Placement, start: int, partner: np.ndarray) -> float:
    """Å, by how much inversion misses: largest distance of an atom from where its partner's goes."""
    centres, rotations = place.centres[start].double().numpy(), place.rotations[start].double().numpy()
    pairs = [(a, int(b)) for a, b in enumerate(partner) if b > a]
    middles = [centres[a] + centres[b] for a, b in pairs]
    lattice = place.lattice[start].double().numpy()
    gaps = []
    for (a, b), middle in zip(pairs, middles, strict=True):
        one = placed_atoms(given.blocks[a : a + 1], centres[[a]], rotations[[a]])
        other = placed_atoms(given.blocks[b : b + 1], centres[[b]], rotations[[b]])
        gaps.append(np.abs(one + other - middle).max())
        shift = (middle - middles[0]) @ np.linalg.inv(lattice)
        gaps.append(np.abs(shift - np.round(shift)).max() * np.linalg.norm(lattice, axis=1).max())
    return float(max(gaps))


def test_starts_keep_their_centre_and_others_move_freely() -> None:
    given = cut("hkust1")
    rng = np.random.default_rng(3)
    place, partners = scattered(given, 6, 3, 1.0, rng)
    assert partners is not None and partners.held.tolist() == [True] * 3 + [False] * 3
    bodies = make_bodies(given.blocks, 0.8)
    walk = Walk(place, partners, (0.15, 0.12, 0.01))
    count = len(bodies.metal)
    potential = (torch.zeros(6, count), torch.zeros(6, count))
    for step in range(30):
        if step % 10 == 0:
            contacts = find_contacts(bodies, walk.place)
        slopes: Motion = pull(bodies, walk.place, 1.5, 2.0, potential)[0]
        walk.move(slopes + push(bodies, walk.place, contacts, 2.0)[0], step / 100, 0.3, rng)
    for start in range(3):
        assert asymmetry(given, walk.place, start, partners.index[start].numpy()) < 0.05
    moved = (walk.place.centres - place.centres @ torch.linalg.inv(place.lattice) @ walk.place.lattice).norm(dim=-1)
    assert float(moved[3:].amin()) > 0.05, "a block of a free start stood still"


def test_improper_rotations_are_mirror_images() -> None:
    given = cut("mof5")
    rng = np.random.default_rng(0)
    rotations = random_rotations(given.num_blocks, rng).numpy()
    rotations[0] *= -1
    state = Annealed(given, rotations, 0, 0.0, np.zeros(given.num_blocks, dtype=bool), False)
    handed, proper = state.with_hands()
    assert state.mirrored.tolist() == [True] + [False] * (given.num_blocks - 1)
    assert np.allclose(np.linalg.det(proper), 1.0)
    centres = given.frac_coords @ given.lattice
    assert np.allclose(
        placed_atoms(handed.blocks, centres, proper), placed_atoms(given.blocks, centres, rotations), atol=1e-12
    )


def test_layers_are_packed_and_stay_closed() -> None:
    """A square net of zinc and carbon, 15 Å from its own images."""
    square = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    node, rod = star(square, 30, "metal_node"), star(square[:2], 6, "linker")
    across = rod.rotated(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    lattice = np.diag([4.0, 4.0, 15.0])
    given = AssemblyInput(lattice, np.array([[0.0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]]), (node, rod, across))
    turns = np.tile(np.eye(3), (3, 1, 1))
    state = Annealed(given, turns, 0, 0.0, np.zeros(3, dtype=bool), False)
    rng = np.random.default_rng(0)
    before = _finished(state, rng, FinishConfig())
    assert (before.status, before.dimension, before.num_atoms) == ("ok", 2, 3)
    nearer = packed(state, AnnealConfig(packed_room=20.0))
    assert nearer is not None and nearer.num_open == 0
    assert not nearer.is_net and nearer.loose.all(), "a layer is taken up again"
    net = replace(nearer, is_net=True, misfit=nearer.misfit + 1.0)
    torn = replace(nearer, num_open=1, misfit=0.0)
    assert sorted([torn, nearer, net], key=order) == [net, nearer, torn]
    after = _finished(nearer, rng, FinishConfig())
    assert after.status == "ok" and after.dimension == 2
    assert after.volume < 0.6 * before.volume
    assert after.lattice[0] @ after.lattice[0] == pytest.approx(16.0, rel=0.1)


def test_a_net_is_one() -> None:
    given = cut("mof5")
    framework = decompose(load("mof5"))
    state = Annealed(
        replace(given, blocks=framework.blocks),
        np.tile(np.eye(3), (given.num_blocks, 1, 1)),
        0,
        0.0,
        np.zeros(given.num_blocks, dtype=bool),
        True,
    )
    made = _finished(state, np.random.default_rng(0), FinishConfig())
    assert made.status == "ok" and made.dimension == 3 == framework.dimension


@settings(max_examples=50, deadline=None)
@cases(st.integers(1, 12), st.integers(1, 12), st.floats(0.0, 5.0), st.booleans(), st.integers(0, 2**31 - 1))
def test_groups_hold_each_block_once_and_pairs_leave_one_odd(
    metals: int, others: int, distance: float, paired: bool, seed: int
) -> None:
    embedding = np.random.default_rng(seed).standard_normal((metals + others, 3))
    is_metal = np.arange(metals + others) < metals
    groups = grouped(embedding, is_metal, distance, paired)
    assert sorted(np.concatenate(groups).tolist()) == list(range(metals + others))
    assert all(len(set(is_metal[group].tolist())) == 1 for group in groups)
    if distance == 0:
        assert all(len(group) == 1 for group in groups)
    elif paired:
        odd = [bool(is_metal[group[0]]) for group in groups if len(group) % 2]
        assert sorted(odd) == [False] * (others % 2) + [True] * (metals % 2)
