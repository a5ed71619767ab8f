"""Run work over shards on Ray actors, or in this process: every row comes out exactly once, whatever dies on the way.

A shard is read, worked on and written by one actor; the driver sees counts only. A shard that kills its actor (native
crash, memory) or passes its deadline is split until the guilty row is alone, and that row becomes a row with a status.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.parts import Shard, remove_leftovers, status_counts
from cluster.pieces import Piece, PieceRunner, ShardWork, is_divisible
from cluster.progress import Tally
from cluster.session import ray_session
from matgen.errors import StageError

__all__ = ["CampaignConfig", "CampaignSummary", "ShardWork", "run_campaign"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """How a campaign runs; none of it changes what the tables hold."""

    num_workers: int = 0  # 0: in this process, without Ray, without protection against native crashes
    shard_deadline_s: float = 3600.0  # a shard that takes longer is split
    row_deadline_s: float = 60.0  # of a row where the work takes rows one by one; else the least of a piece
    start_deadline_s: float = 900.0
    max_row_deaths: int = 2  # a lone row gets a second try: its actor may have died for another reason
    num_gpus_per_worker: float = 0.0
    description: str = "rows"
    progress: bool | None = None  # None: a bar on a terminal only
    shards: tuple[int, int] | None = None  # the part of the campaign that is this driver's: first index, one past last
    tracker_id: str = ""  # of a W&B run, which a campaign longer than half a minute gets


@dataclass(frozen=True)
class CampaignSummary:
    """What a campaign did, over all parts, also those that an earlier run had finished."""

    num_rows: int
    status: dict[str, int]
    num_shards: int
    num_shards_resumed: int
    num_deaths: int
    num_timeouts: int
    seconds: float
    busy_seconds: float
    alive_seconds: float
    driver_cpu_seconds: float
    shard_range: tuple[int, int] | None = None

    @property
    def busy_share(self) -> float | None:
        """Share of the time that ready actors had work; None without actors."""
        return min(1.0, self.busy_seconds / self.alive_seconds) if self.alive_seconds else None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for run.json and the command's summary."""
        values: dict[str, Any] = {
            "n": self.num_rows,
            "status": self.status,
            "shards": self.num_shards,
            "shards_resumed": self.num_shards_resumed,
            "actor_deaths": self.num_deaths,
            "timeouts": self.num_timeouts,
            "seconds": round(self.seconds, 3),
            "busy_seconds": round(self.busy_seconds, 3),
        }
        if self.busy_share is not None:
            values["busy_share"] = round(self.busy_share, 4)
        if self.shard_range is not None:
            values["shard_range"] = list(self.shard_range)
        return values


def run_campaign(
    work: ShardWork,
    shards: Sequence[Shard],
    out_dir: Path,
    config: CampaignConfig,
    metadata: Mapping[str, str] | None = None,
) -> CampaignSummary:
    """Work through the shards that have no part yet.

    Args:
        work: what to do with a shard.
        shards: all shards of the stage, in order of their index.
        out_dir: where the parts go.
        config: actors, deadlines, progress.
        metadata: key-value pairs for the metadata of every part.

    Returns:
        Counts over all parts of the shards that this driver has to do with.

    Raises:
        StageError: the disk is full, workers cannot start, a shard's input cannot be read, or its range is empty.
        MatgenError: what `work` raised for a whole shard.
    """
    started, cpu = time.monotonic(), time.process_time()
    out_dir.mkdir(parents=True, exist_ok=True)
    shards = _own_shards(shards, config)
    remove_leftovers(out_dir, shards)
    todo = [shard for shard in shards if not (out_dir / shard.file_name).exists()]
    tally = _tally(work, shards, todo, out_dir, config)
    finished = False
    try:
        _work_through(work, todo, out_dir, dict(metadata or {}), tally, config)
        finished = True
    finally:
        tally.close(finished=finished)
        remove_leftovers(out_dir, shards)
    status = status_counts(out_dir, [out_dir / shard.file_name for shard in shards])
    return CampaignSummary(
        num_rows=sum(status.values()),
        status=status,
        num_shards=len(shards),
        num_shards_resumed=len(shards) - len(todo),
        num_deaths=tally.deaths,
        num_timeouts=tally.timeouts,
        seconds=time.monotonic() - started,
        busy_seconds=tally.busy_seconds,
        alive_seconds=tally.alive_seconds,
        driver_cpu_seconds=time.process_time() - cpu,
        shard_range=config.shards,
    )


def _own_shards(shards: Sequence[Shard], config: CampaignConfig) -> Sequence[Shard]:
    """Those in the range that is this driver's."""
    if config.shards is None:
        return shards
    own = [shard for shard in shards if config.shards[0] <= shard.index < config.shards[1]]
    if not own:
        raise StageError(f"{config.description}: no shard from {config.shards[0]} to {config.shards[1] - 1}")
    return own


def _tally(
    work: ShardWork, shards: Sequence[Shard], todo: Sequence[Shard], out_dir: Path, config: CampaignConfig
) -> Tally:
    return Tally(
        out_dir,
        config.description,
        shards,
        todo,
        config.progress,
        config.tracker_id,
        draws="structure_frac_coords" in work.schema.names,
        divisible=is_divisible(work),
    )


def _work_through(
    work: ShardWork,
    todo: Sequence[Shard],
    out_dir: Path,
    metadata: dict[str, str],
    tally: Tally,
    config: CampaignConfig,
) -> None:
    runner = PieceRunner(work, out_dir, metadata, config.row_deadline_s, guarded=config.num_workers > 0)
    if not todo:
        logger.info("%s: all shards are done already", config.description)
    elif config.num_workers == 0:
        runner.setup()
        for shard in todo:
            tally.add(runner.run(Piece(shard, 0, shard.num_rows)))
            tally.shards += 1
            tally.beat()
    else:
        with ray_session(config.num_workers):
            from cluster.actors import Driver

            Driver(runner, todo, tally, config).run()
