"""Predict a campaign from measured rates, by a small simulation of its stages: workers, shards, starts, the driver."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.balance import num_pieces
from cluster.lineage import read_lineage
from cluster.parts import part_paths
from cluster.run import DIRECTORIES
from cluster.status import read_driver
from matgen.errors import StageError

STAGES = ("sample", "decode", "relax", "evaluate")
GPU_STAGES = {"sample"}
SHARD_OVERHEAD_S = 0.004  # from a worker's answer to its next piece, measured (tests/benchmarks/bench_campaign.py)
DRIVER_S = 0.0015  # of the driver's one CPU for a piece, measured there too
START_S = 6.0  # of a worker with the libraries of a stage
MIN_ROWS = 8  # fewer say nothing about a rate
ROW_SPREAD = 1.0  # of a row's time, as a share of its mean, where the parts do not tell


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What a stage cost in a run.

    Attributes:
        stage: name.
        seconds_per_row: of one worker.
        serial_per_row: seconds of the driver alone, for each row.
        spread: standard deviation of a row's time, as a share of its mean.
        bytes_per_row: on disk.
        rows: measured.
        divisible: whether its shards may be cut to balance the load.
    """

    stage: str
    seconds_per_row: float
    serial_per_row: float
    spread: float
    bytes_per_row: float
    rows: int
    divisible: bool = False


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Nodes to plan for; speeds are relative to the CPU that was measured on."""

    nodes: int = 1
    cpus: int = 32
    gpus: int = 0
    cpu_speed: float = 1.0
    gpu_speed: float = 20.0


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """The prediction for one stage."""

    stage: str
    seconds: float
    num_workers: int
    busy_share: float
    seconds_per_row: float
    rows_measured: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The prediction for a campaign."""

    count: int
    shard_size: int
    machine: Machine
    stages: tuple[StagePlan, ...]
    bytes: float
    bottleneck: str

    @property
    def seconds(self) -> float:
        """From the first sample to the last score."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def node_hours(self) -> float:
        """Nodes times hours."""
        return self.machine.nodes * self.seconds / 3600.0


def measured_costs(out: Path) -> list[StageCost]:
    """Read what the stages of a run cost.

    Args:
        out: directory of a run with samples.

    Raises:
        StageError: no stage of it has enough rows to tell, or a file about it cannot be read.
    """
    found = []
    for stage in STAGES:
        directory = out / DIRECTORIES[stage]
        campaigns: dict[Path, list[dict[str, Any]]] = {}  # the drivers of an array share a folder
        for path in directory.rglob(".campaign-*.json"):
            campaigns.setdefault(path.parent, []).append(read_driver(path))
        sums = [_sum(drivers) for drivers in campaigns.values()]
        rows = int(max((done for done, _, _ in sums), default=0))
        if rows < MIN_ROWS:
            continue
        busy = sum(seconds / max(1.0, done) for done, seconds, _ in sums)
        lineage = read_lineage(directory)
        spent = sum(passed for _, _, passed in sums)
        serial = max(0.0, lineage.seconds - spent) if stage == "evaluate" and lineage is not None else 0.0
        size = sum(path.stat().st_size for path in part_paths(directory))
        found.append(
            StageCost(
                stage=stage,
                seconds_per_row=busy,
                serial_per_row=serial / rows,
                spread=ROW_SPREAD,
                bytes_per_row=size / rows,
                rows=rows,
                divisible=all(driver.get("divisible", False) for drivers in campaigns.values() for driver in drivers),
            )
        )
    if not found:
        raise StageError(f"{out}: no stage with {MIN_ROWS} rows or more to measure rates from")
    return found


def _sum(drivers: Sequence[dict[str, Any]]) -> tuple[float, float, float]:
    """Return rows, busy seconds and elapsed seconds over the drivers of one campaign."""
    return (
        sum(driver["rows"] for driver in drivers),
        sum(driver["busy_seconds"] for driver in drivers),
        sum(driver["updated"] - driver["started"] for driver in drivers),
    )


def simulate(costs: Sequence[StageCost], machine: Machine, count: int, shard_size: int | None = None) -> Plan:
    """Play a campaign through, stage after stage.

    Args:
        costs: of the stages.
        machine: to run on.
        count: samples.
        shard_size: rows of a shard; None takes what gives each worker four, between 16 and 500.
    """
    most = machine.nodes * max(machine.cpus, machine.gpus)
    size = shard_size or int(np.clip(count // (4 * most), 16, 500))
    stages, reasons = [], []
    for cost in costs:
        on_gpu = machine.gpus > 0 and cost.stage in GPU_STAGES
        num_workers = machine.nodes * (machine.gpus if on_gpu else machine.cpus)
        speed = machine.gpu_speed if on_gpu else machine.cpu_speed
        piece = math.ceil(count / num_pieces(num_workers)) if cost.divisible else size
        seconds, busy = play(cost.seconds_per_row / speed, cost.spread, num_workers, count, min(piece, size))
        serial = cost.serial_per_row * count / machine.cpu_speed
        stages.append(
            StagePlan(
                stage=cost.stage,
                seconds=seconds + serial,
                num_workers=num_workers,
                busy_share=busy * seconds / max(seconds + serial, 1e-9),
                seconds_per_row=cost.seconds_per_row,
                rows_measured=cost.rows,
            )
        )
        reasons.append(_reason(cost, seconds, serial, num_workers, math.ceil(count / min(piece, size))))
    slowest = int(np.argmax([stage.seconds for stage in stages]))
    total = sum(cost.bytes_per_row for cost in costs) * count
    return Plan(
        count=count, shard_size=size, machine=machine, stages=tuple(stages), bytes=total, bottleneck=reasons[slowest]
    )


def play(
    seconds_per_row: float,
    spread: float,
    num_workers: int,
    count: int,
    shard_size: int,
    *,
    start_s: float = START_S,
    seed: int = 0,
) -> tuple[float, float]:
    """Play one stage: each worker takes the next shard, or piece of one, as it becomes free, through one driver.

    Args:
        seconds_per_row: of one worker.
        spread: of a row's time, as a share of its mean.
        num_workers: that share the shards.
        count: rows.
        shard_size: rows of a shard, or of a piece.
        start_s: until a worker is ready.
        seed: of the shards' times.

    Returns:
        Seconds to the end, and the share of them that workers were busy.
    """
    num_shards = math.ceil(count / shard_size)
    rows = np.full(num_shards, shard_size, dtype=np.float64)
    rows[-1] = count - shard_size * (num_shards - 1)
    noise = np.random.default_rng(seed).normal(size=num_shards)
    work = seconds_per_row * np.maximum(rows + spread * np.sqrt(rows) * noise, 0.1 * rows)
    free = [start_s] * min(num_workers, num_shards)
    driver = end = 0.0
    for seconds in work.tolist():
        ready = heapq.heappop(free)
        driver = max(driver + DRIVER_S, ready)
        done = driver + SHARD_OVERHEAD_S + seconds
        end = max(end, done)
        heapq.heappush(free, done)
    return end, float(work.sum() / (num_workers * end))


def _reason(cost: StageCost, seconds: float, serial: float, num_workers: int, num_shards: int) -> str:
    if serial > seconds:
        return f"{cost.stage}: the driver's own work ({cost.serial_per_row:.2g} s a row), which no node shortens"
    if num_shards * DRIVER_S > 0.5 * seconds:
        return f"{cost.stage}: the driver, with {num_shards} shards; larger shards or a job array relieve it"
    if num_shards < 3 * num_workers:
        return f"{cost.stage}: {num_shards} shards for {num_workers} workers; smaller shards balance better"
    return f"{cost.stage}: {cost.seconds_per_row:.3g} s a row"
