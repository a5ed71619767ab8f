"""Watching a sweep: a live table in the terminal, and a W&B run for each trial in the sweep's group."""

import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from cluster.tracking import Tracker, open_tracker
from sweeps.journal import Journal, TrialRecord

_ROWS = 12


class Watch:
    """Shows trials as they go."""

    def __init__(
        self, journal: Journal, group: str, stream: TextIO | None = None, *, track: bool = True, total: int = 0
    ) -> None:
        """Begin to watch.

        Args:
            journal: of the sweep.
            group: of the W&B runs.
            stream: where the table goes; standard error where not given. A terminal is redrawn, a file gets lines.
            track: open W&B runs (offline unless WANDB_MODE says otherwise).
            total: trials of the sweep.
        """
        self.journal, self.group, self.total = journal, group, total
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty()
        self._track, self._drawn, self._began = track, 0, time.monotonic()
        self._trackers: dict[int, Tracker] = {}
        self._stack = contextlib.ExitStack()
        self._open: dict[int, contextlib.ExitStack] = {}

    def started(self, trial: TrialRecord) -> None:
        """A trial runs."""
        if self._track and trial.number not in self._trackers:
            stack = contextlib.ExitStack()
            out = self.journal.directory / "trials" / f"{trial.number:05d}"
            config = {"values": trial.values, "origin": trial.origin, "number": trial.number}
            tracker = open_tracker(f"{self.group}-{trial.number:05d}", Path(out), config, group=self.group, beside=True)
            self._trackers[trial.number] = stack.enter_context(tracker)
            self._open[trial.number] = stack
        self._show(f"trial {trial.number} began: {describe(trial)}")

    def reported(self, trial: TrialRecord) -> None:
        """A trial reached a rung."""
        last = trial.last
        tracker = self._trackers.get(trial.number)
        if tracker is not None:
            tracker.log(flat(last), int(last.get("step", last["rung"])))
        self._show(f"trial {trial.number} rung {last['rung']}: quality {words(last)}")

    def died(self, number: int, error: str) -> None:
        """A trial died and is tried again."""
        self._show(f"trial {number} died and is tried again: {error}")

    def ended(self, trial: TrialRecord) -> None:
        """A trial ended."""
        tracker = self._trackers.pop(trial.number, None)
        if tracker is not None:
            tracker.summary({"status": trial.status, "reason": trial.reason, "objective": trial.objective})
            self._open.pop(trial.number).close()
        self._show(f"trial {trial.number} {trial.status}{f' ({trial.reason})' if trial.reason else ''}")

    def confirmed(self, row: Mapping[str, Any]) -> None:
        """A second look at a trial."""
        self._show(f"second look at trial {row['number']}: quality {words(row)}")

    def close(self) -> None:
        """End what is still open."""
        for stack in self._open.values():
            stack.close()
        self._open.clear()
        self._trackers.clear()

    def _show(self, event: str) -> None:
        if not self._live:
            self._stream.write(f"{time.monotonic() - self._began:7.0f} s  {event}\n")
            self._stream.flush()
            return
        lines = table(self.journal, self.total, time.monotonic() - self._began)
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}F\x1b[J")
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()
        self._drawn = len(lines)


def table(journal: Journal, total: int, seconds: float) -> list[str]:
    """Return the lines of the live table: the state of the sweep, what runs, and the best so far."""
    trials = list(journal.trials.values())
    running = [trial for trial in trials if not trial.ended]
    ended = sorted((t for t in trials if t.ended), key=lambda t: -(t.objective or 0.0))
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [f"{len(ended)} of {total or len(trials)} trials, {seconds / 60:.1f} min: {said}"]
    lines.append(f"{'trial':>5}  {'status':<9} {'rung':>4}  {'quality':<24} values")
    for trial in [*running, *ended][:_ROWS]:
        last = trial.last
        lines.append(
            f"{trial.number:>5}  {trial.status:<9} {last.get('rung', '-'):>4}  "
            f"{words(last) if last else '-':<24} {describe(trial)[:70]}"
        )
    return lines


def words(report: Mapping[str, Any]) -> str:
    """Return a quality with its interval."""
    return f"{report['objective']:.3f} [{report['low']:.3f}, {report['high']:.3f}]"


def describe(trial: TrialRecord) -> str:
    """Return the point of a trial in one line."""
    if not trial.values:
        return trial.origin
    return ", ".join(f"{name.rsplit('.', 1)[-1]} {_short(value)}" for name, value in trial.values.items())


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def flat(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a report by `quality/NAME`, `loss/NAME` and NAME."""
    numbers = {f"quality/{k}": float(v) for k, v in report.get("parts", {}).items()}
    numbers |= {f"loss/{k}": float(v) for k, v in report.get("losses", {}).items()}
    plain = ("objective", "low", "high", "cost", "train_seconds", "cost_per_1000", "rung")
    return numbers | {key: float(report[key]) for key in plain if key in report}
