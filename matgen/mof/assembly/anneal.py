"""Self-assembly in which everything moves: blocks wander and turn and the cell breathes until their connections meet.

Where centres are only roughly right, no choice of orientations closes a framework. So the blocks of many starts move as
rigid bodies do: connections draw softly assigned partners together while the assignment hardens, atoms of different
blocks push each other apart, and noise that dies out lets a start leave a poor valley. Rounds follow in which the best
starts are taken up again, blocks with open connections thrown about.

Five in six of QMOF's frameworks could have a centre of inversion, going by their blocks alone. So half of the first
starts begin with one and keep it until they are nearly cold, where blocks allow it; others find it by chance only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from matgen.geometry.rotations import kabsch, random_rotations
from matgen.mof.assembly.bodies import Bodies, Motion, Placement, find_contacts, make_bodies, pull, push
from matgen.mof.assembly.problem import AssemblyInput
from matgen.mof.assembly.starts import scattered, stacked
from matgen.mof.assembly.walk import Partners, Walk
from matgen.mof.handedness import mirrored

__all__ = ["AnnealConfig", "Annealed", "anneal", "nearest", "packed"]


@dataclass(frozen=True, kw_only=True)
class AnnealConfig:
    """How blocks are moved.

    Args:
        starts: that move at once; 0 switches annealing off.
        spread: Å, of the centres of the last start about the given ones; the first begins at them.
        steps: of the first round.
        sigma_start, sigma_again, sigma_end: Å, width of the soft assignment, at the start of the first round, of a
            later one, and at the end of any.
        rounds: at most, after the first.
        steps_again: of each of them.
        noise, noise_again: of the steps, against their length, at the start of the first round and of a later one.
        noise_until: share of a round by which the noise has died out.
        kick: Å, by which centres of blocks with open connections are thrown.
        redraw: share of these blocks that are thrown, and that are turned at random.
        rate: Å a step, of centres.
        turn_rate: radians a step.
        strain_rate: strain of the cell a step.
        swelling: energy per block, in units of squared misfit, that a cell e times as large lowers: frameworks are made
            around solvent, which holds them open.
        room: Å^3 an atom; a larger cell swells no more, or layers and chains would drift apart for ever.
        cap: Å; connections farther apart than this pull no harder.
        push: strength of contacts against connections.
        reach: contacts push when nearer than this share of the sum of radii.
        look_again: steps between searches for contacts.
        hopeless: Å^2 of misfit a connection; a framework whose best start misses by more after a round is given up.
        patience: rounds without fewer open connections after which it is.
        finished: best starts of each round that are handed on.
        inverted: share of the starts of the first round that have a centre of inversion.
        inverted_until: share of the round after which they may lose it.
        packing: as swelling, of chains and layers that are moved together when they have closed; 0 leaves them.
        packed_room: Å^3 an atom, where that ends.
        steps_packing: of it.
    """

    starts: int = 16
    spread: float = 1.0
    steps: int = 300
    sigma_start: float = 2.0
    sigma_again: float = 1.2
    sigma_end: float = 0.3
    rounds: int = 5
    steps_again: int = 120
    noise: float = 0.3
    noise_again: float = 0.2
    noise_until: float = 0.6
    kick: float = 1.0
    redraw: float = 0.6
    rate: float = 0.15
    turn_rate: float = 0.12
    strain_rate: float = 0.01
    swelling: float = 0.25
    room: float = 22.0
    cap: float = 2.0
    push: float = 2.0
    reach: float = 0.8
    look_again: int = 10
    hopeless: float = 0.7
    patience: int = 2
    finished: int = 3
    inverted: float = 0.5
    inverted_until: float = 0.75
    packing: float = 0.3
    packed_room: float = 16.0
    steps_packing: int = 200

    def __post_init__(self) -> None:
        if self.starts < 0 or self.finished < 1 or min(self.steps, self.steps_again, self.look_again) < 1:
            raise ValueError("annealing needs at least one step of each kind, and one start to hand on")
        if not 0 <= self.inverted <= 1:
            raise ValueError(f"inverted is a share of the starts, from 0 to 1, not {self.inverted}")


@dataclass(frozen=True, eq=False)
class Annealed:
    """One start when its round ended.

    given: blocks as given, cell and centres where they came to. rotations: float64 [K, 3, 3], of the blocks; improper
    where a block became its mirror image. num_open: pairs whose two sides are apart. misfit: Å^2, summed over the pairs
    of the best assignment (what is far costs the same anywhere), and half the squared overlaps of atoms. loose: bool
    [K], blocks with open pairs, or deep in others.
    """

    given: AssemblyInput
    rotations: np.ndarray
    num_open: int
    misfit: float
    loose: np.ndarray

    @property
    def mirrored(self) -> np.ndarray:
        """Which blocks became their mirror images, bool [K]."""
        return np.asarray(np.linalg.det(self.rotations) < 0)

    def with_hands(self) -> tuple[AssemblyInput, np.ndarray]:
        """The same with these blocks exchanged, and rotations that are proper."""
        flags = self.mirrored
        blocks = tuple(mirrored(b) if flip else b for b, flip in zip(self.given.blocks, flags, strict=True))
        return replace(self.given, blocks=blocks), np.where(flags[:, None, None], -self.rotations, self.rotations)


_OPEN = 0.7  # Å, root mean square over the two atoms of a bond
_DEEP = 0.35  # share of the closest distance by which a contact is too near


def anneal(given: AssemblyInput, rng: np.random.Generator, config: AnnealConfig) -> Iterator[list[Annealed]]:
    """Move blocks and cell until connections meet.

    Args:
        given: blocks, centres and cell; metal and linker connections are equally many.
        rng: of everything that is drawn.
        config: how.

    Yields:
        the best starts of each round, best first; ends when nothing is gained any more.
    """
    bodies, config = _prepared(given, config)
    best = _first_round(bodies, given, rng, config)
    if not best:
        return
    yield best[: config.finished]
    sigmas = np.geomspace(config.sigma_again, config.sigma_end, config.steps_again)
    stale = 0
    for _ in range(config.rounds):
        if best[0].misfit > config.hopeless * given.num_connections or stale >= config.patience:
            return
        begun = _thrown(best[: max(config.starts // 4, 1)], rng, config)
        fresh = _round(bodies, given, begun, None, sigmas, config.noise_again, rng, config)
        stale = 0 if fresh and fresh[0].num_open < best[0].num_open else stale + 1
        best = sorted([*best, *fresh], key=_key)[: config.starts]
        yield fresh[: config.finished]


def nearest(given: AssemblyInput, rng: np.random.Generator, config: AnnealConfig) -> float:
    """Misfit in Å^2 a connection of the best start after one round: says how well blocks go together."""
    bodies, config = _prepared(given, config)
    best = _first_round(bodies, given, rng, config)
    return best[0].misfit / given.num_connections if best else float("inf")


def packed(state: Annealed, config: AnnealConfig) -> Annealed | None:
    """A closed framework of chains or layers, which nothing holds apart, with these moved as near as they may come.

    Args:
        state: where a round ended.
        config: as of annealing.

    Returns:
        the same blocks in a smaller cell; None where they went astray.
    """
    given = state.given
    config = replace(config, starts=1, swelling=-config.packing, room=config.packed_room)
    place = stacked([given.frac_coords @ given.lattice], [state.rotations], [given.lattice])
    sigmas = np.full(config.steps_packing, config.sigma_end)
    bodies = make_bodies(given.blocks, config.reach)
    found = _round(bodies, given, place, None, sigmas, 0.0, np.random.default_rng(0), config)
    return found[0] if found else None


def _prepared(given: AssemblyInput, config: AnnealConfig) -> tuple[Bodies, AnnealConfig]:
    """The bodies, and settings with fewer starts for huge frameworks."""
    bodies = make_bodies(given.blocks, config.reach)
    pairs = len(bodies.metal) ** 2 + len(bodies.atoms) ** 2 // 20  # that are looked at in a step, nearly
    starts = config.starts
    while starts > 4 and starts * pairs > _MAX_STARTED_PAIRS:
        starts //= 2
    return bodies, replace(config, starts=starts)


_MAX_STARTED_PAIRS = 100_000


def _first_round(
    bodies: Bodies, given: AssemblyInput, rng: np.random.Generator, config: AnnealConfig
) -> list[Annealed]:
    sigmas = np.geomspace(config.sigma_start, config.sigma_end, config.steps)
    place, partners = scattered(given, config.starts, round(config.inverted * config.starts), config.spread, rng)
    return _round(bodies, given, place, partners, sigmas, config.noise, rng, config)


def _key(state: Annealed) -> tuple[int, float]:
    return state.num_open, state.misfit


def _thrown(best: list[Annealed], rng: np.random.Generator, config: AnnealConfig) -> Placement:
    """The best as they are, then copies of them with loose blocks turned and moved at random."""
    lattices, centres, rotations = [], [], []
    for number in range(config.starts):
        state = best[number % len(best)]
        place, turn = state.given.frac_coords @ state.given.lattice, state.rotations
        if number >= len(best):
            turned, moved = (state.loose & (rng.random(len(place)) < config.redraw) for _ in range(2))
            hand = np.where(state.mirrored, -1.0, 1.0)[:, None, None]
            turn = np.where(turned[:, None, None], hand * random_rotations(len(place), rng).numpy(), turn)
            place = place + moved[:, None] * config.kick * rng.standard_normal(place.shape)
        lattices.append(state.given.lattice)
        centres.append(place)
        rotations.append(turn)
    return stacked(centres, rotations, lattices)


def _round(
    bodies: Bodies,
    given: AssemblyInput,
    place: Placement,
    partners: Partners | None,
    sigmas: np.ndarray,
    noise: float,
    rng: np.random.Generator,
    config: AnnealConfig,
) -> list[Annealed]:
    """Move all starts through the widths, and judge where they are."""
    walk = Walk(place, partners, (config.rate, config.turn_rate, config.strain_rate))
    potential = (torch.zeros(config.starts, len(bodies.metal)), torch.zeros(config.starts, len(bodies.linker)))
    for step, sigma in enumerate(sigmas.tolist()):
        if step % config.look_again == 0:
            contacts = find_contacts(bodies, walk.place)
        slopes, squared = pull(bodies, walk.place, sigma, config.cap, potential)
        pushed, over = push(bodies, walk.place, contacts, config.push)
        done = step / len(sigmas)
        if done > config.inverted_until:
            walk.partners = None
        walk.move(
            slopes + pushed + _swelling(bodies, walk.place, config),
            done,
            noise * max(0.0, 1.0 - done / config.noise_until),
            rng,
        )
    overlap = torch.zeros(config.starts).index_add_(0, contacts.start, over.square())
    deep = torch.zeros(config.starts, bodies.num_blocks, dtype=torch.bool)
    for atoms in (contacts.first, contacts.second):
        is_deep = over > _DEEP * contacts.closest
        deep[contacts.start[is_deep], bodies.atom_block[atoms[is_deep]]] = True
    place = walk.place
    kept = torch.isfinite(place.centres).flatten(1).all(1) & torch.isfinite(place.lattice).flatten(1).all(1)
    judged = [
        _judged(bodies, given, place, s, squared[s].numpy(), float(overlap[s]), deep[s].numpy())
        for s in kept.nonzero().flatten().tolist()
    ]
    return sorted(judged, key=_key)


def _swelling(bodies: Bodies, place: Placement, config: AnnealConfig) -> Motion:
    """Slopes of -swelling K log(volume), where there is not room enough; or too much, where that is negative."""
    none = torch.zeros_like(place.centres)
    volume = torch.linalg.det(place.lattice).abs() / len(bodies.atoms)
    tight = volume < config.room if config.swelling > 0 else volume > config.room
    outward = -config.swelling * bodies.num_blocks * torch.eye(3)
    return Motion(none, none, tight[:, None, None] * outward)


def _judged(
    bodies: Bodies,
    given: AssemblyInput,
    place: Placement,
    start: int,
    squared: np.ndarray,
    overlap: float,
    deep: np.ndarray,
) -> Annealed:
    from scipy.optimize import linear_sum_assignment

    cost = 9.0 * squared / (9.0 + squared)  # as in `match`
    i, j = linear_sum_assignment(cost)
    is_open = squared[i, j] > _OPEN**2
    loose = np.zeros(bodies.num_blocks, dtype=bool) if is_open.any() else deep
    for side, at in ((bodies.metal, i), (bodies.linker, j)):
        loose[bodies.block[side[at[is_open]]]] = True
    lattice, centres, rotations = (x[start].double().numpy() for x in (place.lattice, place.centres, place.rotations))
    hand = np.sign(np.linalg.det(rotations))[:, None, None]
    rotations = hand * kabsch(hand * rotations)  # products of many steps in single precision are not quite orthogonal
    moved = replace(given, lattice=lattice, frac_coords=centres @ np.linalg.inv(lattice))
    return Annealed(moved, rotations, int(is_open.sum()), float(cost[i, j].sum()) + 0.5 * overlap, loose)
