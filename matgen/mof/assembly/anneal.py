"""Self-assembly in which everything moves: blocks wander and turn and the cell breathes until their connections meet.

Where centres are only roughly right, no choice of orientations closes a framework. So the blocks of many starts move as
rigid bodies do: connections draw softly assigned partners together while the assignment hardens, atoms of different
blocks push each other apart, and noise that dies out lets a start leave a poor valley. Rounds follow in which the best
starts are taken up again, blocks with open connections thrown about. What closes as chains or layers is taken up, too,
for they have no pores but by chance: nets come first.

Five in six of QMOF's frameworks could have a centre of inversion, going by their blocks alone. So half of the first
starts begin with one and keep it until they are nearly cold, where blocks allow it; others find it by chance only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from matgen.mof.assembly.bodies import Bodies, Motion, Placement, find_contacts, make_bodies, pull, push
from matgen.mof.assembly.judge import Annealed, judged, order
from matgen.mof.assembly.problem import AssemblyInput
from matgen.mof.assembly.starts import scattered, stacked, thrown
from matgen.mof.assembly.walk import Partners, Walk

__all__ = ["AnnealConfig", "Annealed", "anneal", "nearest", "packed"]

_MAX_STARTED_PAIRS = 100_000


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
        patience: rounds without fewer open connections, or a net at last, after which it is.
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
    packed_room: float = 18.0
    steps_packing: int = 200

    def __post_init__(self) -> None:
        if (
            self.starts < 0
            or self.finished < 1
            or min(self.steps, self.steps_again, self.steps_packing, self.look_again) < 1
        ):
            raise ValueError("annealing needs at least one step of each kind, and one start to hand on")
        if not (0 <= self.inverted <= 1 and 0 <= self.inverted_until <= 1):
            raise ValueError(f"inverted, inverted_until are shares, 0 to 1, not {self.inverted}, {self.inverted_until}")
        if not (self.packing >= 0 and self.packed_room > 0):
            raise ValueError(f"need packing >= 0, packed_room > 0, not {self.packing}, {self.packed_room}")


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
        begun = thrown(best[: max(config.starts // 4, 1)], config.starts, config.redraw, config.kick, rng)
        fresh = _round(bodies, given, begun, None, sigmas, config.noise_again, rng, config)
        stale = 0 if fresh and order(fresh[0])[:2] < order(best[0])[:2] else stale + 1
        best = sorted([*best, *fresh], key=order)[: config.starts]
        yield fresh[: config.finished]


def nearest(given: AssemblyInput, rng: np.random.Generator, config: AnnealConfig) -> float:
    """Misfit in Å^2 a connection of the best start after one round: says how well blocks go together."""
    bodies, config = _prepared(given, config)
    best = _first_round(bodies, given, rng, config)
    return best[0].misfit / given.num_connections if best else float("inf")


def packed(given: AssemblyInput, rotations: np.ndarray, config: AnnealConfig) -> Annealed | None:
    """A framework of chains or layers, which nothing holds apart, with these moved as near as they may come.

    Args:
        given: blocks, centres and cell that are closed.
        rotations: [K, 3, 3], of the blocks.
        config: as of annealing.

    Returns:
        the same blocks in a smaller cell; None where they went astray.
    """
    config = replace(config, starts=1, swelling=-config.packing, room=config.packed_room)
    place = stacked([given.frac_coords @ given.lattice], [rotations], [given.lattice])
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


def _first_round(
    bodies: Bodies, given: AssemblyInput, rng: np.random.Generator, config: AnnealConfig
) -> list[Annealed]:
    sigmas = np.geomspace(config.sigma_start, config.sigma_end, config.steps)
    place, partners = scattered(given, config.starts, round(config.inverted * config.starts), config.spread, rng)
    return _round(bodies, given, place, partners, sigmas, config.noise, rng, config)


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
    return judged(bodies, given, walk.place, squared, contacts, over)


def _swelling(bodies: Bodies, place: Placement, config: AnnealConfig) -> Motion:
    """Slopes of -swelling K log(volume), where there is not room enough; or too much, where that is negative."""
    none = torch.zeros_like(place.centres)
    volume = torch.linalg.det(place.lattice).abs() / len(bodies.atoms)
    tight = volume < config.room if config.swelling > 0 else volume > config.room
    outward = -config.swelling * bodies.num_blocks * torch.eye(3)
    return Motion(none, none, tight[:, None, None] * outward)
