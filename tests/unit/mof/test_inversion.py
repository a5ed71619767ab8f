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
from matgen.mof.assembly.anneal import AnnealConfig, Annealed, anneal, packed
from matgen.mof.assembly.bodies import Motion, Placement, find_contacts, make_bodies, pull, push
from matgen.mof.assembly.finish import FinishConfig
from matgen.mof.assembly.inversion import find_inversions, is_centred, kinds
from matgen.mof.assembly.judge import judged, order
from matgen.mof.assembly.problem import Assembly, AssemblyInput, placed_atoms
from matgen.mof.assembly.starts import scattered, stacked
from matgen.mof.assembly.walk import Walk
from matgen.mof.choices import ChoicesConfig, Grade, _finished, assemble_choices
from matgen.mof.decompose import decompose
from matgen.mof.grouping import grouped
from matgen.mof.handedness import mirrored
from tests.unit.mof.conftest import cut, load, star


def in_one_frame(name: str) -> AssemblyInput:
    """A named framework, of each block one conformer in one frame, as a library would give them."""
    given = cut(name)
    first = {block.identity: block for block in reversed(given.blocks)}
    return replace(given, blocks=tuple(first[block.identity] for block in given.blocks))


@pytest.mark.parametrize(
    ("name", "metal_node", "linker"),
    [("mof5", False, True), ("hkust1", True, False), ("uio66", False, True)],  # Td, D4h, Td (by its OH); D2h, D3h, D2h
)
def test_blocks_have_a_centre_where_their_point_groups_have_one(name: str, metal_node: bool, linker: bool) -> None:
    for block in in_one_frame(name).blocks:
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
    given = in_one_frame(name)
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
    given = in_one_frame("mof5")
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
    given = in_one_frame("hkust1")
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
    given = in_one_frame("mof5")
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
    given = layer(15.0)
    turns = np.tile(np.eye(3), (3, 1, 1))
    state = Annealed(given, turns, 0, 0.0, np.zeros(3, dtype=bool), False)
    rng = np.random.default_rng(0)
    before = _finished(state, rng, FinishConfig())
    assert (before.status, before.dimension, before.num_atoms) == ("ok", 2, 3)
    nearer = packed(given, turns, AnnealConfig(packed_room=20.0))
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
    turns = np.tile(np.eye(3), (given.num_blocks, 1, 1))
    state = Annealed(given, turns, 0, 0.0, np.zeros(given.num_blocks, dtype=bool), True)
    made = _finished(state, np.random.default_rng(0), FinishConfig())
    assert made.status == "ok" and made.dimension == 3 == decompose(load("mof5")).dimension


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


def test_what_became_of_starts_is_read_off_them() -> None:
    """A net as it is and in mirror images of its blocks, and one that is torn."""
    given = cut("mof5")
    given = replace(given, blocks=tuple(mirrored(b) for b in given.blocks))
    turns = -np.tile(np.eye(3), (given.num_blocks, 1, 1))  # of mirror images: as they were
    centres = given.frac_coords @ given.lattice
    torn = centres + np.array([[4.0, 0, 0]]) * (np.arange(given.num_blocks) == 0)[:, None]
    place = stacked([torn, centres], [turns, turns + 1e-4], [given.lattice] * 2)
    bodies = make_bodies(given.blocks, 0.8)
    count = len(bodies.metal)
    squared = pull(bodies, place, 0.3, 2.0, (torch.zeros(2, count), torch.zeros(2, count)))[1]
    contacts = find_contacts(bodies, place)
    closed, apart = judged(bodies, given, place, squared, contacts, push(bodies, place, contacts, 2.0)[1])
    assert (closed.num_open, closed.is_net, closed.mirrored.all()) == (0, True, True)
    assert np.allclose(np.linalg.det(closed.rotations), -1.0, atol=1e-12)
    assert np.abs(closed.rotations - turns).max() < 1e-3
    assert apart.num_open > 0 and not apart.is_net and apart.loose[0] and not apart.loose.all()


def test_half_of_the_first_starts_have_a_centre_until_they_are_nearly_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, int]] = []

    class Watched(Walk):
        def move(self, slopes: Motion, done: float, noise: float, rng: np.random.Generator) -> None:
            seen.append((done, 0 if self.partners is None else int(self.partners.held.sum())))
            super().move(slopes, done, noise, rng)

    monkeypatch.setattr("matgen.mof.assembly.anneal.Walk", Watched)
    config = AnnealConfig(starts=8, steps=40, rounds=0)
    list(anneal(in_one_frame("hkust1"), np.random.default_rng(0), config))
    assert [held for _, held in seen] == [4 if done <= 0.75 else 0 for done, _ in seen]


def test_blocks_on_centres_share_none() -> None:
    """Two rods, each its own image: only one can lie on a centre of inversion, the other goes to the next one."""
    rod = star(np.array([[2.0, 0, 0], [-2.0, 0, 0]]), 6, "linker")
    given = AssemblyInput(np.eye(3) * 10.0, np.array([[0.0, 0, 0], [0.1, 0, 0]]), (rod, rod))
    for inversion in find_inversions(given, 8, 200, np.random.default_rng(0)):
        if (inversion.partner == [0, 1]).all():
            gap = inversion.frac_coords[0] - inversion.frac_coords[1]
            assert np.abs(gap - np.round(gap)).max() > 0.4
    assert any((x.partner == [1, 0]).all() for x in find_inversions(given, 8, 200, np.random.default_rng(0)))


def layer(height: float) -> AssemblyInput:
    """A square net of zinc and carbon, so far from its own images."""
    square = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    node, rod = star(square, 30, "metal_node"), star(square[:2], 6, "linker")
    across = rod.rotated(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    return AssemblyInput(
        np.diag([4.0, 4.0, height]), np.array([[0.0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]]), (node, rod, across)
    )


def test_a_layer_that_fails_its_trial_is_packed_and_says_which_blocks_are_mirrored() -> None:
    given = layer(20.0)
    config = ChoicesConfig(anneal=AnnealConfig(packed_room=20.0))
    seen: list[float] = []

    def trial(made: Assembly) -> Grade:
        assert (made.status, made.dimension) == ("ok", 2)
        seen.append(made.volume)
        return Grade.UNSTABLE if made.volume > 0.8 * seen[0] else Grade.SOUND

    found = assemble_choices([[given]], 1, config, trial)
    assert (found.grade, found.num_trials) == (0, 2)
    assert found.assembly.status == "ok" and found.assembly.volume < 0.8 * seen[0]
    for block, own, flag in zip(found.assembly.blocks, given.blocks, found.mirrored, strict=True):
        assert np.allclose(block.connection_points, (mirrored(own) if flag else own).connection_points)
    as_is = replace(config, anneal=replace(config.anneal, packing=0.0))
    for how, grade in ((as_is, Grade.UNSTABLE), (config, Grade.NO_PORES)):
        volumes: list[float] = []
        found = assemble_choices(
            [[given]], 1, how, lambda made, at=volumes, grade=grade: at.append(made.volume) or grade
        )
        assert found.grade is grade and found.num_trials == len(volumes)
        assert min(volumes) > 0.8 * seen[0], "nothing was packed"
    untried = assemble_choices([[given]], 1, config)
    assert (untried.grade, untried.num_trials) == (Grade.NOT_RUN, 0)
    assert untried.assembly.volume < 0.8 * seen[0], "what is not put on trial is packed at once"


@pytest.mark.parametrize(
    "wrong", [{"packing": -1.0}, {"packed_room": 0.0}, {"inverted": 1.5}, {"inverted_until": float("nan")}]
)
def test_settings_of_centres_and_packing_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"need packing|shares"):
        AnnealConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one step"):
        AnnealConfig(steps_packing=0)
