"""Log metrics and pictures to Weights & Biases: offline unless told otherwise, resumable, and a no-op without it."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Tracker:
    """One W&B run, or nothing at all; training code logs to it without asking which."""

    def __init__(self, run: Any | None) -> None:
        self._run = run

    @property
    def active(self) -> bool:
        """Whether anything is recorded."""
        return self._run is not None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record scalars at a step; steps never go backwards, so a resumed run repeats none."""
        if self._run is not None:
            self._run.log(dict(metrics), step=step)

    def image(self, key: str, path: Path, step: int) -> None:
        """Record a picture file at a step."""
        if self._run is not None:
            import wandb

            self._run.log({key: wandb.Image(str(path))}, step=step)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Record final values of the whole run."""
        if self._run is not None:
            self._run.summary.update(dict(values))


@contextlib.contextmanager
def open_tracker(
    run_id: str,
    out_dir: Path,
    config: Mapping[str, Any],
    *,
    group: str | None = None,
    enabled: bool = True,
    beside: bool = False,
) -> Iterator[Tracker]:
    """Open the W&B run of this id, on world rank 0 only; logs lie in `out_dir/wandb`.

    Args:
        run_id: the run's id; opening it again continues the same W&B run.
        out_dir: the run's directory.
        config: nested plain values shown beside the run.
        group: name that gathers runs of one experiment.
        enabled: False gives the no-op tracker (other ranks, or tracking switched off).
        beside: leave other runs of this process open.

    Yields:
        A Tracker; a no-op one when W&B is absent, disabled by WANDB_MODE, or fails to start.
    """
    run = _start(run_id, out_dir, config, group, beside) if enabled else None
    failed = True
    try:
        yield Tracker(run)
        failed = False
    finally:
        if run is not None:
            run.finish(exit_code=1 if failed else 0)


def _start(run_id: str, out_dir: Path, config: Mapping[str, Any], group: str | None, beside: bool) -> Any | None:
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode == "disabled":
        return None
    try:
        import wandb
    except ImportError:
        logger.info("wandb is not installed: metrics go to the log and the run directory alone")
        return None
    # a service inherited from another process still holds the run of a worker that was killed
    os.environ.pop("WANDB_SERVICE", None)
    try:
        (out_dir / "wandb").mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "matgen"),
            id=run_id,
            name=run_id,
            group=group,
            resume="allow",
            mode=mode,  # type: ignore[arg-type]
            dir=str(out_dir),
            config=dict(config),
            reinit="create_new" if beside else None,
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
    except Exception as error:  # noqa: BLE001  what watches training must not end it; W&B raises errors of no common base
        logger.warning("W&B did not start, going on without it: %s", error)
        return None
