"""How fast training goes, and the bar that shows it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matgen.training.history import read_history


class Clock:
    """Counts crystals per second of training alone, without validation and saving."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size, self._steps, self._lost = batch_size, 0, 0.0
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
        """Return the crystals per second since the last reading, and the seconds since the start."""
        now = time.monotonic()
        rate = self._steps * self._batch_size / max(now - self._since - self._lost, 1e-9)
        self._since, self._lost, self._steps = now, 0.0, 0
        return {"crystals_per_second": rate, "elapsed_s": now - self._start}


def progress_bar(total: int, initial: int) -> Any:
    """Return a tqdm bar, or None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=initial, desc="training", unit="step", dynamic_ncols=True)


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
            loss, rate = rows[-1].get("total", float("nan")), rows[-1]["crystals_per_second"]
            bar.set_postfix_str(f"loss {loss:.4g}, {rate:.0f} crystals/s")
        if ended:
            bar.close()
            return
