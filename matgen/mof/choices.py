"""Sampled frameworks: of several choices of blocks, at centres that are only roughly right, one is put together."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from matgen.mof.assemble import AssembleConfig, Assembly, AssemblyInput, assemble, rank
from matgen.mof.assembly.anneal import AnnealConfig, Annealed, anneal, nearest, packed
from matgen.mof.assembly.feasibility import balance
from matgen.mof.assembly.finish import FinishConfig, finish
from matgen.mof.assembly.pairs import candidate_pairs
from matgen.mof.assembly.search import Solution
from matgen.mof.handedness import with_best_hands

__all__ = ["Assembled", "ChoicesConfig", "assemble_choices"]


@dataclass(frozen=True, kw_only=True)
class ChoicesConfig:
    """How choices of blocks are put together.

    Args:
        fixed: the search with centres and cell nearly as sampled, for the first choice.
        anneal: what moves centres and cell where that does not end clean; without starts (0) all five searches of
            `fixed` are made for every choice, and nothing else.
        race_starts, race_steps: of the short annealing that ranks the choices.
        fits: Å^2 a connection; a choice that misses by less ends the race.
        kept: of the choices, those that fit best, are annealed at length.
        nearly: share of pairs that may be open where annealing ends, for matching and refinement to close.
    """

    fixed: AssembleConfig = field(default_factory=lambda: AssembleConfig(num_searches=2))
    anneal: AnnealConfig = field(default_factory=AnnealConfig)
    race_starts: int = 8
    race_steps: int = 150
    fits: float = 0.12
    kept: int = 3
    nearly: float = 0.15

    def __post_init__(self) -> None:
        if min(self.race_starts, self.race_steps, self.kept) < 1:
            raise ValueError("a race needs a start, a step, and a choice that is kept")

    def with_centres_kept(self) -> "ChoicesConfig":
        """A copy that does not anneal: what closes then says how well centres and cell were drawn."""
        return replace(self, anneal=replace(self.anneal, starts=0))


@dataclass(frozen=True, eq=False)
class Assembled:
    """assembly: the best; choice: of which blocks; mirrored: bool [K], which of them were; num_tried: assemblies that
    were tried, with fixed centres or annealed at length."""

    assembly: Assembly
    choice: int
    mirrored: np.ndarray
    num_tried: int


def assemble_choices(choices: Sequence[AssemblyInput], seed: int, config: ChoicesConfig) -> Assembled:
    """Assemble choices of blocks until one closes without a clash, as a net where centres may move.

    Args:
        choices: for the same centres and cell, the likeliest first; at least one.
        seed: of all that is drawn.
        config: how.

    Returns:
        the first that is clean as it was drawn, or the first clean net, or the best.
    """
    best: Assembled | None = None
    tried = 0
    fixed = config.fixed if config.anneal.starts else replace(config.fixed, num_searches=5)
    for choice in range(1 if config.anneal.starts else len(choices)):
        (given,), (flags,) = with_best_hands([choices[choice]], fixed.loose)
        (made,) = assemble([given], fixed, [seed])
        tried += 1
        best = _better(best, Assembled(made, choice, flags, tried))
        if _is_clean_net(made) or (made.status == "ok" and not config.anneal.starts):
            return best
    assert best is not None, "no choices"
    misfit = _raced(choices, seed, config)
    order = sorted(misfit, key=misfit.__getitem__)
    for choice in order[: config.kept]:
        if misfit[choice] > config.anneal.hopeless:
            moved, flags = _open(choices[choice], f"blocks stay {misfit[choice]:.2f} Å^2 a connection from closing")
        else:
            moved, flags = _moved(choices[choice], np.random.default_rng([seed, choice, _LONG]), config)
            tried += 1
        best = _better(best, Assembled(moved, choice, flags, tried))
        if _is_clean_net(moved):
            break
    return replace(best, num_tried=tried)


def _better(best: Assembled | None, new: Assembled) -> Assembled:
    return new if best is None or _rank(new.assembly) < _rank(best.assembly) else best


def _rank(made: Assembly) -> tuple[float, ...]:
    """As `rank`, of closed ones nets before layers and chains."""
    order, *others = rank(made)
    return order, -made.dimension if made.closed else 0, *others


def _is_clean_net(made: Assembly) -> bool:
    return made.status == "ok" and made.dimension == 3


def _raced(choices: Sequence[AssemblyInput], seed: int, config: ChoicesConfig) -> dict[int, float]:
    """How near choices whose connections balance come to closing in a short annealing, Å^2 a connection."""
    if not config.anneal.starts:
        return {}
    short = replace(config.anneal, starts=config.race_starts, steps=config.race_steps)
    misfit: dict[int, float] = {}
    for at, given in enumerate(choices):
        if balance(given) is None:
            misfit[at] = nearest(given, np.random.default_rng([seed, at, _SHORT]), short)
            if misfit[at] < config.fits:
                break
    return misfit


def _moved(given: AssemblyInput, rng: np.random.Generator, config: ChoicesConfig) -> tuple[Assembly, np.ndarray]:
    """The best that annealing brings, and which blocks it mirrored; it ends with the first net that is clean."""
    count = given.num_connections // 2
    least = count
    best: tuple[Assembly, np.ndarray] | None = None
    for states in anneal(given, rng, config.anneal):
        least = min([least, *(state.num_open for state in states)])
        for state in states:
            if state.num_open > max(2, config.nearly * count):
                continue
            made = _finished(state, rng, config.fixed.finish)
            if best is None or best[0].status != "ok" or (made.closed and made.dimension > best[0].dimension):
                made = _packed(made, state, rng, config)  # of what could be the best only: it takes as long as a round
            if best is None or _rank(made) < _rank(best[0]):
                best = made, state.mirrored
            if _is_clean_net(made):
                return best
    return best or _open(given, f"annealing leaves {least} of {count} pairs open")


def _packed(made: Assembly, state: Annealed, rng: np.random.Generator, config: ChoicesConfig) -> Assembly:
    """The same with chains or layers as near each other as they may come, where that leaves it as good."""
    roomy = made.closed and made.volume > config.anneal.packed_room * made.num_atoms
    if not roomy or not config.anneal.packing or made.dimension == 3:
        return made
    for room in (config.anneal.packed_room, 0.5 * (config.anneal.packed_room + config.anneal.room)):
        nearer = packed(state, replace(config.anneal, packed_room=room))
        again = made if nearer is None else _finished(nearer, rng, config.fixed.finish)
        if again.closed and again.volume < made.volume and _rank(again) <= _rank(made):
            return again
    return made


def _open(given: AssemblyInput, reason: str) -> tuple[Assembly, np.ndarray]:
    """What stays open, and that no block of it was mirrored."""
    rotations = np.tile(np.eye(3), (given.num_blocks, 1, 1))
    open_ = Assembly("open", reason, given.lattice, given.frac_coords, given.blocks, rotations)
    return open_, np.zeros(given.num_blocks, dtype=bool)


def _finished(state: Annealed, rng: np.random.Generator, config: FinishConfig) -> Assembly:
    given, rotations = state.with_hands()
    table = candidate_pairs(given, _REACH)
    still = np.zeros((given.num_blocks, 3))
    none = np.zeros(0, dtype=np.int64)
    rms = (state.misfit / max(given.num_connections // 2, 1)) ** 0.5
    found = Solution(rotations, still, state.num_open, state.num_open, rms, none)
    (made,) = finish([given], [table], [[found]], [rng], config)
    return made


_SHORT, _LONG = 11, 12  # streams of random numbers, other than those of searches and lookup
_REACH = 1.5  # Å, of candidate pairs where annealing ended
