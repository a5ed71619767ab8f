"""Self-assembly: from rigid blocks in any orientation, their centres and a cell, to a framework whose bonds meet.

Cartesian and on rigid blocks: candidate pairs from the triangle inequality, a pool of orientations of every block, a
soft assignment that hardens alternating with the best rotations, repair of what stays open, an exact matching, and a
least-squares fit of rotations, centres and cell. Frameworks and starts run together as one padded tensor. A cell that
repeats a smaller one is assembled there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from matgen.mof.assembly.feasibility import balance, feasibility, unreachable
from matgen.mof.assembly.finish import FinishConfig, finish
from matgen.mof.assembly.layout import shape_key
from matgen.mof.assembly.pairs import PairTable, candidate_pairs
from matgen.mof.assembly.problem import Assembly, AssemblyInput, reorient, unassembled
from matgen.mof.assembly.search import SearchConfig, num_starts, search
from matgen.mof.assembly.translations import expand, reduce_by_translations

__all__ = ["AssembleConfig", "Assembly", "AssemblyInput", "assemble", "feasibility", "rank", "reorient"]


@dataclass(frozen=True, kw_only=True)
class AssembleConfig:
    """Settings of self-assembly.

    Args:
        exact: the search that is tried first, for blocks that fit their places.
        loose: the search for what it left open.
        wide: the search for what is still open or out of reach; what it brings nearer, `loose` tries to close.
        num_searches: how many of the five are made, 2 at least: exact, loose, wide, and loose twice more.
        finish: matching, free turns, refinement of rotations, centres and cell, clashes.
        batch_pairs: candidate pairs of a batch at most, a bound on memory.
        device: of the search.
    """

    exact: SearchConfig = field(default_factory=SearchConfig)
    loose: SearchConfig = field(
        default_factory=lambda: SearchConfig(
            reach=1.2, patience=2, direction=0.5, pool_scale=0.3, sigma_end=0.4, spring=1.0, freedom=1.0, good_at=0.5
        )
    )
    wide: SearchConfig = field(
        default_factory=lambda: SearchConfig(
            reach=2.5,
            starts=8,
            patience=2,
            direction=0.25,
            pool_scale=0.5,
            sigma_start=2.5,
            sigma_end=0.6,
            repair_rounds=4,
            spring=0.3,
            freedom=1.0,
            good_at=0.5,
        )
    )
    num_searches: int = 5
    finish: FinishConfig = field(default_factory=FinishConfig)
    batch_pairs: int = 100_000
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 2 <= self.num_searches <= 5:
            raise ValueError(f"num_searches {self.num_searches}: 2 to 5 searches can be made")


def assemble(
    inputs: Sequence[AssemblyInput], config: AssembleConfig | None = None, seeds: Sequence[int] | None = None
) -> list[Assembly]:
    """Join the blocks of many frameworks.

    Args:
        inputs: blocks, centres and cells.
        config: settings; the defaults serve exact blocks and library conformers alike.
        seeds: one for each input (default: all 0); a result depends on its input and its seed alone.

    Returns:
        one assembly an input, in order; none is left out.
    """
    config = config or AssembleConfig()
    seeds = [0] * len(inputs) if seeds is None else list(seeds)
    if len(seeds) != len(inputs):
        raise ValueError(f"{len(seeds)} seeds for {len(inputs)} inputs")
    reductions = {at: small for at, given in enumerate(inputs) if (small := reduce_by_translations(given)) is not None}
    smalls = _assemble_all([one.small for one in reductions.values()], [seeds[at] for at in reductions], config)
    results = {
        at: expand(reductions[at], inputs[at], made) for at, made in zip(reductions, smalls, strict=True) if made.closed
    }
    rest = [at for at in range(len(inputs)) if at not in results or results[at].status != "ok"]
    wholes = _assemble_all([inputs[at] for at in rest], [seeds[at] for at in rest], config)
    for at, made in zip(rest, wholes, strict=True):
        if at not in results or rank(made) < rank(results[at]):
            results[at] = made
    return [results[at] for at in range(len(inputs))]


def _assemble_all(inputs: Sequence[AssemblyInput], seeds: Sequence[int], config: AssembleConfig) -> list[Assembly]:
    """Stage after stage, each for what the ones before have left."""
    results = {at: unassembled(given, "infeasible", why) for at, given in enumerate(inputs) if (why := balance(given))}
    sound = [at for at in range(len(inputs)) if at not in results]
    searches = (config.exact, config.loose, config.wide, config.loose, config.loose)
    for stage, settings in enumerate(searches[: config.num_searches]):
        again = stage > 2  # after the wide search
        waiting = [at for at in sound if _is_waiting(results.get(at), _TRIED_AGAIN[stage], again)]
        given = {at: _moved(inputs[at], results.get(at)) if again else inputs[at] for at in waiting}
        _run_stage(given, settings, {at: [seeds[at], stage] for at in waiting}, results, config)
    return [results[at] for at in range(len(inputs))]


_TRIED_AGAIN = ((), ("open", "clash"), ("open", "infeasible"), ("open", "clash"), ("open", "clash"))
"""By stage, what an earlier stage may have left."""


def _is_waiting(before: Assembly | None, kinds: Sequence[str], again: bool) -> bool:
    """Whether a stage is tried; the loose search is not repeated for what is mostly open."""
    if before is None:
        return True
    hopeless = again and before.status == "open" and before.num_open > _HOPELESS * len(before.pairs)
    return before.status in kinds and not hopeless


_HOPELESS = 1 / 3  # of the pairs


def _moved(given: AssemblyInput, before: Assembly | None) -> AssemblyInput:
    """Where the last stage begins: with the centres and the cell that brought the open pairs nearest.

    Not after the exact search: where blocks do not fit, its pairs are wrong, and so is the cell.
    """
    if before is None or before.status != "open" or len(before.pairs) == 0:
        return given
    return AssemblyInput(before.lattice, before.frac_coords, given.blocks)


def _run_stage(
    given: Mapping[int, AssemblyInput],
    settings: SearchConfig,
    seeds: Mapping[int, list[int]],
    results: dict[int, Assembly],
    config: AssembleConfig,
) -> None:
    """Try to assemble, and keep in `results` what is better than before."""
    tables = {at: candidate_pairs(one, settings.reach) for at, one in given.items()}
    reasons = {at: unreachable(one, tables[at]) for at, one in given.items()}
    for at, reason in reasons.items():
        if reason and at not in results and settings is not config.exact:
            results[at] = unassembled(given[at], "infeasible", reason)
    scales = config.finish.refine
    held = replace(
        scales,
        centre_scale=scales.centre_scale * settings.freedom,
        strain_scale=scales.strain_scale * settings.freedom,
    )
    for batch in _batches([at for at in given if not reasons[at]], tables, settings, config.batch_pairs):
        rngs = [np.random.default_rng(seeds[at]) for at in batch]
        found = search([tables[at] for at in batch], rngs, settings, torch.device(config.device))
        made = finish(
            [given[at] for at in batch], [tables[at] for at in batch], found, rngs, replace(config.finish, refine=held)
        )
        for at, assembly in zip(batch, made, strict=True):
            if at not in results or rank(assembly) < rank(results[at]):
                results[at] = assembly


def rank(assembly: Assembly) -> tuple[float, ...]:
    """Lower is better: clean, closed, fewest open pairs."""
    order = ("ok", "clash", "open", "infeasible").index(assembly.status)
    if assembly.status == "open":
        return order, float(assembly.num_open), float(np.square(assembly.residuals).sum())
    return order, -assembly.shortest_contact if assembly.status == "clash" else 0.0


def _batches(
    chosen: Sequence[int], tables: Mapping[int, PairTable], settings: SearchConfig, limit: int
) -> Iterator[list[int]]:
    """Frameworks of one padded shape together, as many as `limit` pairs allow."""
    keys = {at: (*shape_key(tables[at]), num_starts(tables[at], settings)) for at in chosen}
    for key in sorted(set(keys.values())):
        batch: list[int] = []
        size = 0
        for at in (at for at in chosen if keys[at] == key):
            if batch and size + len(tables[at].metal) > limit:
                yield batch
                batch, size = [], 0
            batch.append(at)
            size += len(tables[at].metal)
        yield batch
