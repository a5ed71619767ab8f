"""Sampled frameworks: of several choices of blocks, at centres that are only roughly right, one is put together."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from matgen.mof.assemble import AssembleConfig, Assembly, AssemblyInput, assemble, rank
from matgen.mof.assembly.anneal import AnnealConfig, Annealed, anneal, nearest, packed
from matgen.mof.assembly.feasibility import balance
from matgen.mof.assembly.finish import FinishConfig, finish
from matgen.mof.assembly.pairs import candidate_pairs
from matgen.mof.assembly.problem import unassembled
from matgen.mof.assembly.search import Solution
from matgen.mof.handedness import with_best_hands

__all__ = ["Assembled", "ChoicesConfig", "Grade", "Trial", "assemble_choices"]


class Grade(IntEnum):
    """What a trial finds, the better the lower; the first two end the search."""

    NOT_RUN = -1
    SOUND = 0
    NO_PORES = 1
    FAULTY = 2
    UNSTABLE = 3


Trial = Callable[[Assembly], Grade]
"""What becomes of a closed framework."""


@dataclass(frozen=True, kw_only=True)
class ChoicesConfig:
    """How choices of blocks are put together.

    Args:
        fixed: the search with centres and cell nearly as sampled, for the first choice.
        anneal: what moves centres and cell where that does not end clean; without starts (0) all five searches of
            `fixed` are made for every choice, and nothing else.
        race_starts, race_steps: of the short annealing that ranks the choices.
        fits: Å^2 a connection; a choice that misses by less need not wait for others.
        kept: of the choices, those that fit best, are annealed at length.
        trials: closed frameworks of a sample that are put on trial at most; 0 takes the first.
        nearly: share of pairs that may be open where annealing ends, for matching and refinement to close.
    """

    fixed: AssembleConfig = field(default_factory=lambda: AssembleConfig(num_searches=2))
    anneal: AnnealConfig = field(default_factory=AnnealConfig)
    race_starts: int = 8
    race_steps: int = 150
    fits: float = 0.12
    kept: int = 3
    trials: int = 12
    nearly: float = 0.15

    def __post_init__(self) -> None:
        if min(self.race_starts, self.race_steps, self.kept) < 1:
            raise ValueError("a race needs a start, a step, and a choice that is kept")
        if self.trials < 0:
            raise ValueError(f"trials {self.trials}: need 0 or more")

    def with_centres_kept(self) -> "ChoicesConfig":
        """A copy that does not anneal or try: what closes then says how well centres and cell were drawn."""
        return replace(self, trials=0, anneal=replace(self.anneal, starts=0))


@dataclass(frozen=True, eq=False)
class Assembled:
    """assembly: the best; choice: of which blocks, numbered through all tiers; mirrored: bool [K], which of them were;
    num_tried: assemblies that were tried, with fixed centres or annealed, hopeless ones too; num_trials: frameworks
    that were put on trial; grade: of the best."""

    assembly: Assembly
    choice: int
    mirrored: np.ndarray
    num_tried: int = 0
    num_trials: int = 0
    grade: Grade = Grade.NOT_RUN


def assemble_choices(
    tiers: Iterable[Sequence[AssemblyInput]], seed: int, config: ChoicesConfig, trial: Trial | None = None
) -> Assembled:
    """Assemble choices of blocks until a framework closes, and stands its trial.

    Clean nets are put on trial as they come. When none of a tier has stood it, the others follow, the best first:
    chains and layers, and what has a clash; if such a one is unstable, then packed.

    Args:
        tiers: choices for the same centres and cell, the likeliest first. A later tier is for what the ones before it
            do not close; the first has one choice at least, and is the only one where nothing may move.
        seed: of all that is drawn.
        config: how.
        trial: what is asked of a framework; None asks for nothing.

    Returns:
        the first that stands its trial, or the one of the lowest grade, or what is nearest to closing.
    """
    moves = config.anneal.starts > 0
    judge = _Judge(trial, config.trials)
    left_open: list[Assembled] = []
    start = 0
    for tier in tiers if moves else itertools.islice(tiers, 1):
        closed: list[Assembled] = []
        for attempt in _attempts(tier, start, seed, config):
            judge.num_tried += 1
            for made in attempt:
                if not made.assembly.closed:
                    left_open.append(made)
                elif not (_is_clean_net(made.assembly) or (made.assembly.status == "ok" and not moves)):
                    closed.append(made)
                elif judge.ends_with(made):
                    return judge.verdict(left_open)
        closed.sort(key=lambda made: _rank(made.assembly))
        for made in closed[:_FOLLOWING]:
            if any(judge.ends_with(form) for form in _forms(made, judge, config)):
                return judge.verdict(left_open)
        start += len(tier)
    return judge.verdict(left_open)


def _forms(made: Assembled, judge: "_Judge", config: ChoicesConfig) -> Iterator[Assembled]:
    """As it is, and packed if it is unstable so; packed first where nothing is put on trial."""
    if judge.trial is None:
        yield _packed(made, config) or made
        return
    yield made
    if judge.last is Grade.UNSTABLE and (pressed := _packed(made, config)) is not None:
        yield pressed


def _is_clean_net(made: Assembly) -> bool:
    return made.status == "ok" and made.dimension == 3


class _Judge:
    """Puts closed frameworks on trial, as many as may be, and remembers the best."""

    def __init__(self, trial: Trial | None, limit: int) -> None:
        self.trial, self.limit = (trial if limit else None), limit
        self.num_tried = self.num_trials = 0
        self.last = Grade.NOT_RUN
        self.best: Assembled | None = None

    def ends_with(self, made: Assembled) -> bool:
        """Whether a closed one stands its trial, or was the last that may be tried."""
        if self.trial is not None:
            self.num_trials += 1
            self.last = self.trial(made.assembly)
        if self.best is None or self.last < self.best.grade:
            self.best = replace(made, grade=self.last)
        return self.last <= Grade.SOUND or self.num_trials == self.limit

    def verdict(self, left_open: Sequence[Assembled]) -> Assembled:
        """The best that was on trial, or that of those left open which is nearest to closing."""
        best = self.best or min(left_open, key=lambda made: _rank(made.assembly))
        return replace(best, num_tried=self.num_tried, num_trials=self.num_trials)


def _attempts(
    choices: Sequence[AssemblyInput], start: int, seed: int, config: ChoicesConfig
) -> Iterator[list[Assembled]]:
    """What comes of one choice after the other: of the very first with fixed centres, of those that fit best annealed.

    Choices are numbered from `start`.
    """
    if not config.anneal.starts:
        every = replace(config.fixed, num_searches=5)
        yield from ([_fixed(given, choice, seed, every)] for choice, given in enumerate(choices))
        return
    if start == 0:
        yield [_fixed(choices[0], 0, seed, config.fixed)]
    for choice, misfit in itertools.islice(_raced(choices, start, seed, config), config.kept):
        number = start + choice
        if misfit > config.anneal.hopeless:
            yield [_open(choices[choice], number, f"blocks stay {misfit:.2f} Å^2 a connection from closing")]
        else:
            yield _annealed(choices[choice], number, np.random.default_rng([seed, number, _LONG]), config)


def _fixed(given: AssemblyInput, choice: int, seed: int, config: AssembleConfig) -> Assembled:
    (handed,), (flags,) = with_best_hands([given], config.loose)
    (made,) = assemble([handed], config, [seed])
    return Assembled(made, choice, flags)


def _raced(
    choices: Sequence[AssemblyInput], start: int, seed: int, config: ChoicesConfig
) -> Iterator[tuple[int, float]]:
    """Those whose connections balance, and how near they come to closing in a short annealing, Å^2 a connection.

    One that fits comes at once, the others when all were looked at, the nearest first.
    """
    short = replace(config.anneal, starts=config.race_starts, steps=config.race_steps)
    later: list[tuple[float, int]] = []
    for choice, given in enumerate(choices):
        if balance(given) is None:
            misfit = nearest(given, np.random.default_rng([seed, start + choice, _SHORT]), short)
            if misfit < config.fits:
                yield choice, misfit
            else:
                later.append((misfit, choice))
    yield from ((choice, misfit) for misfit, choice in sorted(later))


def _annealed(given: AssemblyInput, choice: int, rng: np.random.Generator, config: ChoicesConfig) -> list[Assembled]:
    """The first clean net that annealing brings, and the best of what is clean, of what clashes and of what is open."""
    count = given.num_connections // 2
    least = count
    best: dict[str, Assembled] = {}
    for states in anneal(given, rng, config.anneal):
        least = min([least, *(state.num_open for state in states)])
        for state in states:
            if state.num_open > max(2, config.nearly * count):
                continue
            made = Assembled(_finished(state, rng, config.fixed.finish), choice, state.mirrored)
            if _is_clean_net(made.assembly):
                return [made, *best.values()]
            before = best.get(made.assembly.status)
            if before is None or _rank(made.assembly) < _rank(before.assembly):
                best[made.assembly.status] = made
    return list(best.values()) or [_open(given, choice, f"annealing leaves {least} of {count} pairs open")]


def _rank(made: Assembly) -> tuple[float, ...]:
    """As `rank`, of closed ones nets before layers and chains."""
    order, *others = rank(made)
    return order, -made.dimension if made.closed else 0, *others


def _packed(made: Assembled, config: ChoicesConfig) -> Assembled | None:
    """The same with chains or layers as near each other as they may come, where there is room between them."""
    loose = made.assembly
    if not (config.anneal.starts and config.anneal.packing) or loose.dimension == 3:
        return None
    if loose.volume <= config.anneal.packed_room * loose.num_atoms:
        return None
    given = AssemblyInput(loose.lattice, loose.frac_coords, loose.blocks)
    for room in (config.anneal.packed_room, 0.5 * (config.anneal.packed_room + config.anneal.room)):
        nearer = packed(given, loose.rotations, replace(config.anneal, packed_room=room))
        if nearer is not None:
            again = _finished(nearer, np.random.default_rng(0), config.fixed.finish)
            if again.closed and again.volume < loose.volume and _rank(again) <= _rank(loose):
                return replace(made, assembly=again)
    return None


def _open(given: AssemblyInput, choice: int, reason: str) -> Assembled:
    """What stays open, and that no block of it was mirrored."""
    return Assembled(unassembled(given, "open", reason), choice, np.zeros(given.num_blocks, dtype=bool))


def _finished(state: Annealed, rng: np.random.Generator, config: FinishConfig) -> Assembly:
    given, rotations = state.with_hands()
    table = candidate_pairs(given, _REACH)
    still = np.zeros((given.num_blocks, 3))
    none = np.zeros(0, dtype=np.int64)
    rms = (state.misfit / max(given.num_connections // 2, 1)) ** 0.5
    found = Solution(rotations, still, state.num_open, state.num_open, rms, none)
    (made,) = finish([given], [table], [[found]], [rng], config)
    return made


_FOLLOWING = 2  # of what is no clean net, on trial after those
_SHORT, _LONG = 11, 12  # streams of random numbers, other than those of searches and lookup
_REACH = 1.5  # Å, of candidate pairs where annealing ended
