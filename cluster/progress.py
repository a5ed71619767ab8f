"""How far a campaign is: a bar, a small file beside the parts for `matgen status`, and a W&B run of long ones."""

import contextlib
import json
import math
import os
import platform
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cluster.parts import Shard
from cluster.pieces import Report
from cluster.session import Mapper
from cluster.tracking import Tracker, open_tracker

WRITE_EVERY_S = 2.0
TRACK_EVERY_S = 10.0
TRACK_AFTER_S = 30.0  # a campaign that is shorter is not worth a W&B run
DRAW_EVERY_S = 600.0
RATE_WINDOW_S = 120.0
MAX_REASONS = 200


def _bar(description: str, total: int, initial: int, shows_bar: bool | None, unit: str = "row") -> tqdm:
    """A bar that begins where earlier runs ended; None shows it on a terminal only."""
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        disable=None if shows_bar is None else not shows_bar,
        mininterval=0.5,
        smoothing=0.1,
    )


def shown(mapper: Mapper, description: str, shows_bar: bool | None) -> Mapper:
    """Return the mapper with a bar of its pieces; None shows it on a terminal only."""

    def mapped(function: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
        listed = list(pieces)
        with _bar(description, len(listed), 0, shows_bar, "piece") as bar:
            for result in mapper(function, listed):
                bar.update()
                yield result

    return mapped


class Tally:
    """Counts of one campaign in one driver.

    Args:
        out_dir: of the parts; the file goes there.
        description: one word, for the bar.
        shards: all of this driver's.
        todo: those without a part.
        shows_bar: None shows it on a terminal only.
        tracker_id: of the W&B run; empty for none.
        draws: the parts hold structures: the W&B run gets a picture of good ones, now and then and at the end.
        divisible: its shards may be cut; written down for who plans from this campaign.
    """

    def __init__(
        self,
        out_dir: Path,
        description: str,
        shards: Sequence[Shard],
        todo: Sequence[Shard],
        shows_bar: bool | None = None,
        tracker_id: str = "",
        *,
        draws: bool = False,
        divisible: bool = False,
    ) -> None:
        total = sum(shard.num_rows for shard in shards)
        initial = total - sum(shard.num_rows for shard in todo)
        self.bar = _bar(description, total, initial, shows_bar)
        first, last = (shards[0].index, shards[-1].index) if shards else (0, 0)
        self.path = out_dir / f".campaign-{first:06d}-{last:06d}.json"
        self.status: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.deaths = self.timeouts = self.rows = self.shards = 0
        self.busy_seconds = self.alive_seconds = 0.0
        self.workers: dict[str, int] = {}
        self.running: list[int] = []
        self.queued = len(todo)
        self._fixed = {
            "description": description,
            "num_rows": total,
            "num_shards": len(shards),
            "divisible": divisible,
            "rows_before": initial,
            "shards_before": len(shards) - len(todo),
            "started": time.time(),
            "host": platform.node(),
            "pid": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID", ""),
        }
        self._cpu_before = time.process_time()
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._written = self._tracked = self._began = time.monotonic()
        self._tracker_id = tracker_id
        self._draws, self._drawn = draws, -math.inf
        self._stack = contextlib.ExitStack()
        self._tracker: Tracker | None = None

    def add(self, report: Report) -> None:
        """Count what a worker did."""
        self.busy_seconds += report.seconds
        self.rows += report.num_rows
        self.status.update(report.status)
        self.reasons.update(report.reasons)
        if len(self.reasons) > 2 * MAX_REASONS:
            self.reasons = Counter(dict(self.reasons.most_common(MAX_REASONS)))
        if report.num_rows:
            self._recent.append((time.monotonic(), self.rows))
            failures = {word: count for word, count in self.status.most_common(4) if word != "ok"}
            if failures:
                self.bar.set_postfix(failures, refresh=False)
        self.bar.update(report.num_rows)

    def beat(self) -> None:
        """Write the file and the W&B run, where it is time to."""
        now = time.monotonic()
        if now - self._written >= WRITE_EVERY_S:
            self._written = now
            self._write(finished=False)
        if self._tracker_id and now - self._began >= TRACK_AFTER_S and now - self._tracked >= TRACK_EVERY_S:
            self._tracked = now
            self._track()

    def close(self, *, finished: bool) -> None:
        """End the bar, the file and the W&B run."""
        self.bar.close()
        self.running = []
        if self.rows:
            self._write(finished=finished)
            if self._tracker is not None:
                self._drawn = -math.inf
                self._track()
                self._tracker.summary(self.values(finished=finished))
        self._stack.close()

    @property
    def rate(self) -> float:
        """Rows a second over the last two minutes."""
        now = time.monotonic()
        while len(self._recent) > 2 and now - self._recent[0][0] > RATE_WINDOW_S:
            self._recent.popleft()
        then, rows = self._recent[0]
        return (self.rows - rows) / max(now - then, 1e-9)

    def values(self, *, finished: bool) -> dict[str, Any]:
        """Return everything as plain values."""
        left = self._fixed["num_rows"] - self._fixed["rows_before"] - self.rows  # type: ignore[operator]
        rate = self.rate
        return {
            **self._fixed,
            "updated": time.time(),
            "finished": finished,
            "rows": self.rows,
            "shards": self.shards,
            "running": sorted(self.running)[:1000],
            "queued": self.queued,
            "workers": self.workers,
            "deaths": self.deaths,
            "timeouts": self.timeouts,
            "status": dict(self.status.most_common()),
            "reasons": dict(self.reasons.most_common(20)),
            "busy_seconds": round(self.busy_seconds, 3),
            "alive_seconds": round(self.alive_seconds, 3),
            "busy_share": round(min(1.0, self.busy_seconds / self.alive_seconds), 4) if self.alive_seconds else None,
            "rate": round(rate, 4),
            "eta_s": round(left / rate, 1) if rate > 0 and left else 0.0,
            "driver_cpu_seconds": round(time.process_time() - self._cpu_before, 3),
        }

    def _write(self, *, finished: bool) -> None:
        aside = self.path.with_suffix(".tmp")
        with contextlib.suppress(OSError):  # a full disk stops the parts, with its own message
            aside.write_text(json.dumps(self.values(finished=finished)) + "\n")
            aside.replace(self.path)

    def _track(self) -> None:
        if self._tracker is None:
            config = {key: self._fixed[key] for key in ("description", "num_rows", "num_shards", "job")}
            opened = open_tracker(self._tracker_id, self.path.parent.parent, config, group="campaigns")
            self._tracker = self._stack.enter_context(opened)
        values = self.values(finished=False)
        metrics = {key: float(values[key] or 0) for key in ("rate", "busy_share", "queued", "deaths", "timeouts")}
        metrics["workers"] = float(sum(self.workers.values()))
        metrics |= {f"status/{word}": count / max(1, self.rows) for word, count in self.status.items()}
        metrics |= {f"reason/{text}": float(count) for text, count in self.reasons.most_common(10)}
        step = int(values["rows_before"]) + self.rows
        self._tracker.log(metrics, step)
        if self._draws and self._tracker.active and time.monotonic() - self._drawn >= DRAW_EVERY_S:
            self._drawn = time.monotonic()
            self._draw(self._tracker, step)

    def _draw(self, tracker: Tracker, step: int) -> None:
        from cluster.pictures import picture_of_parts

        path = self.path.parent.parent / "pictures" / f"{self._fixed['description']}.png"
        with contextlib.suppress(OSError):  # as in _write
            if picture_of_parts(self.path.parent, path):
                tracker.image("good samples", path, step)
