"""Search for orientations that close a framework: pools, alternation from many starts, repair of what stays open."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from matgen.geometry.rotations import quaternion_matrix, random_quaternions
from matgen.mof.assembly.alternate import State, alternate, nearest_partners, place
from matgen.mof.assembly.layout import Layout, build_layout
from matgen.mof.assembly.pairs import PairTable
from matgen.mof.assembly.pools import orientation_pool

__all__ = ["SearchConfig", "Solution", "num_starts", "search"]

_MAX_STARTED_PAIRS = 100_000  # candidate pairs times starts of one framework


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How long to look.

    Args:
        reach: Å by which a candidate pair may miss the triangle inequality.
        direction: weight of a bond's direction against the place of its midpoint.
        orientations: random orientations of each block that become its pool.
        pool: how many of the best are drawn from.
        pool_scale: Å; an orientation this much worse than the best is drawn e times less often.
        starts: of a framework with 64 connections or more; up to `small_starts` times as many of a smaller one.
        small_starts: a power of two.
        sigma_start, sigma_end: Å, width of the soft assignment.
        iterations: of the alternation, from the first to the last width.
        repair_rounds: at most; each redraws blocks with open connections in the best starts.
        patience: rounds of repair without a better best start after which a framework is given up.
        repair_sigma: Å, width at which a repair begins.
        repair_iterations: of the alternation in a repair.
        spring: holds each centre where it was given, as strongly as so many connections; infinite where centres are
            exact.
        freedom: of centres and cell when a solution is refined, against the scales of `RefineConfig`.
        closed_at: Å; a pair of connection points nearer than this is closed.
        good_at: Å; blocks with a pair farther apart than this are redrawn as well, while repairs last.
    """

    reach: float = 0.15
    direction: float = 1.0
    orientations: int = 32
    pool: int = 16
    pool_scale: float = 0.1
    starts: int = 16
    small_starts: int = 4
    sigma_start: float = 1.5
    sigma_end: float = 0.15
    iterations: int = 14
    repair_rounds: int = 8
    patience: int = 3
    repair_sigma: float = 0.8
    repair_iterations: int = 8
    spring: float = float("inf")
    freedom: float = 0.25
    closed_at: float = 0.5
    good_at: float = 0.25


def num_starts(table: PairTable, config: SearchConfig) -> int:
    """Starts of one framework: small ones are cheap, and close in more ways than one; huge ones get few."""
    times = 1
    while times < config.small_starts and times * 2 * len(table.block) <= 64:
        times *= 2
    starts = times * config.starts
    while starts > 4 and starts * len(table.metal) > _MAX_STARTED_PAIRS:
        starts //= 2
    return starts


@dataclass(frozen=True, eq=False)
class Solution:
    """One start of one framework.

    rotations: float64 [K, 3, 3]. shifts: float64 [K, 3] in Å, of the centres. num_open: connections without a partner
    of their own; num_poor: those whose partner is not near enough for exact blocks. rms: Å, over both atoms of
    every cut bond, each connection with its nearest candidate. rows: int [P],
    the candidate pairs, where closed.
    """

    rotations: np.ndarray
    shifts: np.ndarray
    num_open: int
    num_poor: int
    rms: float
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class _Pool:
    """rotations: [B, Q, 3, 3], best first; score: [B, Q] Å."""

    rotations: Tensor
    score: Tensor


def search(
    tables: Sequence[PairTable], rngs: Sequence[np.random.Generator], config: SearchConfig, device: torch.device
) -> list[list[Solution]]:
    """Look for closed orientations of many frameworks at once.

    Args:
        tables: candidate pairs of each framework, of one `shape_key` and one `num_starts`.
        rngs: one for each framework.
        config: how long to look.
        device: of the tensors.

    Returns:
        solutions of each framework, best first: all closed starts, or the best open ones.
    """
    config = replace(config, starts=num_starts(tables[0], config), small_starts=1)
    layout = build_layout(tables, config.direction, device)
    pool = _make_pool(layout, rngs, config)
    rotations = _draw(layout, pool, rngs, config)
    sigmas = np.geomspace(config.sigma_start, config.sigma_end, config.iterations).tolist()
    found: list[list[Solution]] = [[] for _ in tables]
    waiting = list(range(len(tables)))
    least, stale = np.full(len(tables), np.inf), np.zeros(len(tables), dtype=int)
    for repair in range(config.repair_rounds + 1):
        state = place(layout, rotations)
        alternate(layout, state, sigmas, config.spring)
        is_open = _harvest(layout, [tables[f] for f in waiting], state, [found[f] for f in waiting], config)
        left = np.array([found[f][0].num_open + 1e-3 * found[f][0].num_poor for f in waiting])
        stale[waiting] = np.where(left < least[waiting], 0, stale[waiting] + 1)
        least[waiting] = np.minimum(left, least[waiting])
        still = [at for at, f in enumerate(waiting) if found[f][0].num_poor > 0 and stale[f] < config.patience]
        if not still or repair == config.repair_rounds:
            break
        blocks = np.concatenate([np.arange(*layout.block_offsets[at : at + 2]) for at in still])
        kept = torch.as_tensor(blocks, device=device)
        pool = _Pool(pool.rotations[kept], pool.score[kept])
        order = _order(layout, is_open)[:, still]
        waiting = [waiting[at] for at in still]
        layout = build_layout([tables[f] for f in waiting], config.direction, device)
        rotations = _repaired(
            layout, pool, state.rotations[kept], is_open[kept], order, [rngs[f] for f in waiting], config
        )
        sigmas = np.geomspace(config.repair_sigma, config.sigma_end, config.repair_iterations).tolist()
    return found


def _make_pool(layout: Layout, rngs: Sequence[np.random.Generator], config: SearchConfig) -> _Pool:
    sizes = np.diff(layout.block_offsets).tolist()
    drawn = [random_quaternions(k * config.orientations, rng) for k, rng in zip(sizes, rngs, strict=True)]
    device, dtype = layout.groups[0].points.device, layout.groups[0].points.dtype
    quaternions = torch.as_tensor(np.concatenate(drawn), dtype=dtype, device=device)
    rotations = quaternion_matrix(quaternions).unflatten(0, (-1, config.orientations))
    points = torch.zeros(layout.num_slots + 1, 6, dtype=dtype, device=device)
    for group in layout.groups:
        points[group.slot.flatten()] = group.points.flatten(0, 1)
    points[-1] = 0.0
    score = torch.empty(rotations.shape[:2], dtype=dtype, device=device)
    for group in layout.groups:
        rotations[group.block], score[group.block] = orientation_pool(group, points, rotations[group.block])
    score, best = score.topk(min(config.pool, config.orientations), largest=False, sorted=True)
    return _Pool(rotations[torch.arange(len(best), device=device)[:, None], best], score)


def _draw(layout: Layout, pool: _Pool, rngs: Sequence[np.random.Generator], config: SearchConfig) -> Tensor:
    """[B, S, 3, 3]: orientations for every start, good ones more often."""
    weight = torch.exp(-(pool.score - pool.score[:, :1]) / config.pool_scale).double()
    return _pick(layout, pool, weight[:, None].expand(-1, config.starts, -1), rngs)


def _pick(layout: Layout, pool: _Pool, weight: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Draw from the pool by weights [B, S, Q]."""
    sizes = np.diff(layout.block_offsets).tolist()
    uniform = np.concatenate([rng.random((k, weight.shape[1])) for k, rng in zip(sizes, rngs, strict=True)])
    total = weight.cumsum(-1)
    below = total < torch.as_tensor(uniform, device=weight.device)[..., None] * total[..., -1:]
    chosen = below.sum(-1).clamp(max=weight.shape[-1] - 1)
    return pool.rotations[torch.arange(len(chosen), device=chosen.device)[:, None], chosen]


def _harvest(
    layout: Layout, tables: Sequence[PairTable], state: State, found: Sequence[list[Solution]], config: SearchConfig
) -> Tensor:
    """Judge every start and keep the best.

    Returns:
        [B, S], how many connections of each block are poor.
    """
    pair, middle, both = nearest_partners(layout, state)
    device = pair.device
    mutual = _mutual(layout, tables, pair)
    is_open, is_poor = ~(mutual & (middle < config.closed_at)), ~(mutual & (middle < config.good_at))
    block_of_slot = np.concatenate([t.block + o for t, o in zip(tables, layout.block_offsets, strict=False)])
    per_block = torch.zeros(layout.num_blocks, pair.shape[1], dtype=torch.long, device=device)
    per_block.index_add_(0, torch.as_tensor(block_of_slot, device=device), is_poor.long())
    shape = (len(tables), pair.shape[1])
    count, poor = (
        torch.zeros(shape, dtype=torch.long, device=device).index_add_(0, layout.framework_of_slot, flag.long())
        for flag in (is_open, is_poor)
    )
    total = torch.zeros(shape, dtype=both.dtype, device=device).index_add_(0, layout.framework_of_slot, both)
    counts, poors, totals, rows = (value.cpu().numpy() for value in (count, poor, total, pair))
    rotations, shifts = state.rotations.double().cpu().numpy(), state.shifts.double().cpu().numpy()
    pair_offset = 0
    for f, table in enumerate(tables):
        b0, b1 = layout.block_offsets[f : f + 2]
        slots = np.flatnonzero(table.is_metal) + layout.slot_offsets[f]
        for start in np.lexsort((totals[f], poors[f], counts[f]))[: max(4, int((counts[f] == 0).sum()))]:
            mine = np.sort(rows[slots, start] - pair_offset)
            rms = float(np.sqrt(max(totals[f, start], 0.0) / len(table.block)))
            found[f].append(
                Solution(
                    rotations[b0:b1, start],
                    shifts[b0:b1, start],
                    int(counts[f, start]),
                    int(poors[f, start]),
                    rms,
                    mine,
                )
            )
        found[f].sort(key=lambda s: (s.num_open, s.num_poor, s.rms))
        del found[f][64:]
        pair_offset += len(table.metal)
    return per_block


def _mutual(layout: Layout, tables: Sequence[PairTable], pair: Tensor) -> Tensor:
    """Whether each connection's nearest partner has it for its own nearest; `pair` is that of `nearest_partners`."""
    metal, linker = (
        torch.as_tensor(
            np.concatenate([getattr(t, s) + o for t, o in zip(tables, layout.slot_offsets, strict=False)]),
            device=pair.device,
        )
        for s in ("metal", "linker")
    )
    row = pair.clamp(min=0)
    return (pair.gather(0, metal[row]) == pair) & (pair.gather(0, linker[row]) == pair) & (pair >= 0)


def _order(layout: Layout, is_open: Tensor) -> Tensor:
    """[S, F]: starts of each framework, fewest open connections first."""
    num = len(layout.block_offsets) - 1
    count = torch.zeros(num, is_open.shape[1], dtype=torch.long, device=is_open.device)
    count.index_add_(0, layout.framework_of_block, is_open)
    return count.argsort(dim=1, stable=True).T


def _repaired(
    layout: Layout,
    pool: _Pool,
    rotations: Tensor,
    is_open: Tensor,
    order: Tensor,
    rngs: Sequence[np.random.Generator],
    config: SearchConfig,
) -> Tensor:
    """The best quarter of the starts, four times; their open blocks redrawn, each with probability 3/4."""
    kept = order[: max(config.starts // 4, 1)].repeat(4, 1)[: config.starts]
    mine = kept[:, layout.framework_of_block].T  # [B, S]
    at = torch.arange(len(mine), device=mine.device)[:, None]
    rotations, is_open = rotations[at, mine], is_open[at, mine]
    fresh = _draw(layout, pool, rngs, config)
    sizes = np.diff(layout.block_offsets).tolist()
    uniform = np.concatenate([rng.random((k, mine.shape[1])) for k, rng in zip(sizes, rngs, strict=True)])
    redraw = (is_open > 0) & torch.as_tensor(uniform < 0.75, device=mine.device)
    return torch.where(redraw[..., None, None], fresh, rotations)
