"""How far a run is, read from its files alone: while it runs on any machine, and afterwards."""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.lineage import read_lineage
from cluster.parts import part_paths, part_rows, read_table
from cluster.run import DIRECTORIES
from matgen.errors import StageError
from matgen.training.history import read_history

STALE_S = 120.0  # a driver writes every few seconds; one that has not for so long is gone, or its machine is


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """One stage of a run.

    Attributes:
        stage: name.
        state: "done", "running", "silent" (begun, and nobody has written lately) or "not begun".
        shards_done: parts that are there.
        shards_total: as far as any driver said; 0 where unknown.
        rows: of the parts that are there.
        status: counts by status of those rows.
        reasons: commonest reasons of failure, numbers left out.
        running: shards under way.
        workers: busy, idle and starting, over all drivers.
        rate: rows (of training: steps) a second, over all live drivers.
        eta_s: until the end of the stage at this rate; None where unknown.
        busy_share: of the ready workers' time.
        deaths: of workers.
        timeouts: rows or pieces over their deadline.
        steps: of training.
        total_steps: of training; 0 where unknown.
        loss: of training, the best on validation data.
        drivers: how many campaigns (array tasks) have written here.
    """

    stage: str
    state: str
    shards_done: int = 0
    shards_total: int = 0
    rows: int = 0
    status: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    running: tuple[int, ...] = ()
    workers: dict[str, int] = field(default_factory=dict)
    rate: float = 0.0
    eta_s: float | None = None
    busy_share: float | None = None
    deaths: int = 0
    timeouts: int = 0
    steps: int = 0
    total_steps: int = 0
    loss: float | None = None
    drivers: int = 0


def read_status(out: Path) -> list[StageStatus]:
    """Read the state of all stages of a run that have begun.

    Args:
        out: directory of the run.

    Raises:
        StageError: nothing of ours is there.
    """
    found = [
        _training(stage, out / directory) if stage in ("train", "train_blocks") else _campaign(stage, out / directory)
        for stage, directory in DIRECTORIES.items()
        if (out / directory).is_dir()
    ]
    if not found:
        raise StageError(f"{out} has no stage of a run: {', '.join(DIRECTORIES.values())} are all absent")
    return found


def _campaign(stage: str, directory: Path) -> StageStatus:
    lineage = read_lineage(directory)
    now = time.time()
    drivers = [read_driver(path) for path in sorted(directory.rglob(".campaign-*.json"))]
    live = [driver for driver in drivers if not driver.get("finished") and now - driver["updated"] < STALE_S]
    paths = part_paths(directory)
    counts, reasons = _failures(directory)
    done = lineage is not None and lineage.complete
    shards_total = max([len(paths), *(int(driver["num_shards"]) for driver in drivers)])
    if len(drivers) > 1:  # ranges: the highest index that any of them has to do with
        shards_total = max([shards_total, *(_last_shard(path) + 1 for path in directory.glob(".campaign-*.json"))])
    rate = sum(driver["rate"] for driver in live)
    alive = sum(driver["alive_seconds"] for driver in drivers)
    left = sum(driver["num_rows"] - driver["rows_before"] - driver["rows"] for driver in live)
    return StageStatus(
        stage=stage,
        state="done" if done else "running" if live else "silent",
        shards_done=len(paths),
        shards_total=shards_total,
        rows=sum(part_rows(path) for path in paths),
        status=counts,
        reasons=reasons,
        running=tuple(sorted(shard for driver in live for shard in driver["running"])),
        workers=dict(sum((Counter(driver["workers"]) for driver in live), Counter())),
        rate=rate,
        eta_s=left / rate if rate > 0 else None,
        busy_share=sum(driver["busy_seconds"] for driver in drivers) / alive if alive else None,
        deaths=sum(driver["deaths"] for driver in drivers),
        timeouts=sum(driver["timeouts"] for driver in drivers),
        drivers=len(drivers),
    )


def read_driver(path: Path) -> dict[str, Any]:
    """Read what a driver says of its campaign.

    Raises:
        StageError: the file cannot be read.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StageError(f"{path} cannot be read: {error}") from error
    return values


def _last_shard(path: Path) -> int:
    return int(path.stem.rsplit("-", 1)[-1])


def _failures(directory: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Count status and reason over the parts, one in memory at a time."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for path in part_paths(directory):
        table = read_table(path, ["status", "reason"]).to_pydict()
        counts.update(table["status"])
        for word, reason in zip(table["status"], table["reason"]):
            if word != "ok":
                reasons[f"{word}: {re.sub(r'[-+]?[0-9]+([.][0-9]+)?', '#', reason or '')[:80]}"] += 1
    return dict(counts.most_common()), dict(reasons.most_common(10))


def _training(stage: str, directory: Path) -> StageStatus:
    lineage = read_lineage(directory)
    path = directory / "history.jsonl"
    rows = read_history(path) if path.is_file() else []
    steps = [row for row in rows if row["kind"] == "train"]
    losses = [row["total"] for row in rows if row["kind"] == "validation" and "total" in row]
    total = _total_steps(directory)
    quiet = time.time() - path.stat().st_mtime if rows else float("inf")
    at = int(steps[-1]["step"]) if steps else 0
    rate = _rate(steps)
    done = lineage is not None and lineage.complete and bool(lineage.summary.get("finished"))
    return StageStatus(
        stage=stage,
        state="done" if done else "running" if quiet < STALE_S else "silent",
        steps=at,
        total_steps=total,
        rate=rate,
        eta_s=(total - at) / rate if rate > 0 and total else None,
        loss=min(losses) if losses else None,
    )


def _total_steps(directory: Path) -> int:
    path = directory / "checkpoints" / "last" / "config.json"
    try:
        return int(json.loads(path.read_text()).get("total_steps", 0))
    except (OSError, ValueError):
        return 0


def _rate(steps: list[dict[str, Any]]) -> float:
    """Steps a second over the last rows that one process wrote."""
    last: list[dict[str, Any]] = []
    for row in reversed(steps[-50:]):
        if "elapsed_s" not in row or (last and row["elapsed_s"] >= last[-1]["elapsed_s"]):
            break  # a restart: its clock began anew
        last.append(row)
    if len(last) < 2:
        return 0.0
    return float(last[0]["step"] - last[-1]["step"]) / float(last[0]["elapsed_s"] - last[-1]["elapsed_s"])
