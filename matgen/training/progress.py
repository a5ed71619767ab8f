"""How fast training goes, and the bar that shows it."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matgen.training.history import read_history

PER_SECOND = "_per_second"


class Clock:
    """Counts rows per second of training alone, without validation and saving."""

    def __init__(self, batch_size: int, noun: str) -> None:
        self._batch_size, self._steps, self._lost = batch_size, 0, 0.0
        self._key = f"{noun.replace(' ', '_')}{PER_SECOND}"
        self._start = self._since = time.monotonic()

    def step(self) -> None:
        """Count one step."""
        self._steps += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of a `with` block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._lost += time.monotonic() - began

    def read(self) -> dict[str, float]:
        """Return the rows per second since the last reading, and the seconds since the start."""
        now = time.monotonic()
        rate = self._steps * self._batch_size / max(now - self._since - self._lost, 1e-9)
        self._since, self._lost, self._steps = now, 0.0, 0
        return {self._key: rate, "elapsed_s": now - self._start}


def progress_bar(total: int, initial: int) -> Any:
    """Return a tqdm bar, or None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=initial, desc="training", unit="step", dynamic_ncols=True)


def rate_key(row: Mapping[str, Any]) -> str:
    """Return the key of a training row that holds its rows per second, such as `crystals_per_second`."""
    return next(key for key in row if key.endswith(PER_SECOND))


def progress_words(row: Mapping[str, Any]) -> str:
    """Return what the bar says about a training row of the history."""
    key = rate_key(row)
    noun = key.removesuffix(PER_SECOND).replace("_", " ")
    return f"loss {row.get('total', float('nan')):.4g}, {row[key]:.0f} {noun}/s"


def follow(history: Path, done: threading.Event, total: int) -> None:
    """Show the progress of a run in other processes by what they write to its history.

    Args:
        history: history.jsonl of the run.
        done: set when the run has ended.
        total: steps of the whole run.
    """
    bar = progress_bar(total, 0)
    while bar is not None:
        ended = done.wait(1.0)
        rows = [row for row in read_history(history) if row["kind"] == "train"]
        if rows:
            bar.update(rows[-1]["step"] - bar.n)
            bar.set_postfix_str(progress_words(rows[-1]))
        if ended:
            bar.close()
            return
