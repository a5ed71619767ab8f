"""One process of training, in a process of Ray or in the calling one: its settings, its W&B run, its loop."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster.stopping import watching
from cluster.tracking import Tracker, open_tracker
from matgen.training.loop import OnLog
from matgen.training.state import TrainState

STOP_FILE = ".stop-requested"
WORKERS_FILE = "workers.jsonl"  # a line for each start: from which step on how many processes trained


def settings_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that `train_plain` and `make_trainer` share."""
    from matgen.training.run import plain_run

    return {
        "records": Path(job["records"]),
        "out": Path(job["out"]),
        "run": plain_run(job["kind"], {"model": job["model"], "train": job["train"]}),
        "init_from": None if job["init_from"] is None else Path(job["init_from"]),
        "lineage": job["lineage"],
    }


@contextlib.contextmanager
def tracker_of(job: Mapping[str, Any], rank: int) -> Iterator[Tracker]:
    """Have the W&B run of a training open, on rank 0; it lies beside those of the run's other stages."""
    config = {"model": job["model"], "train": job["train"], **job["lineage"]}
    with open_tracker(
        job["tracker_id"], Path(job["out"]).parent, config, group=job["lineage"]["experiment"], enabled=rank == 0
    ) as tracker:
        yield tracker


def log_to(tracker: Tracker, job: Mapping[str, Any]) -> OnLog:
    """Return what shows each line of the history to the tracker."""

    def log(row: dict[str, Any], state: TrainState) -> None:
        values = {f"{row['kind']}/{key}": value for key, value in row.items() if key not in ("kind", "step")}
        tracker.log(values, row["step"])
        if row["kind"] == "validation" and job["kind"] == "symmcd" and job["train"]["picture_samples"] > 0:
            _log_picture(tracker, Path(job["out"]), state, job["train"]["picture_samples"])

    return log


def _log_picture(tracker: Tracker, out: Path, state: TrainState, count: int) -> None:
    """Draw samples of the averaged weights into `pictures/`, and show them to the tracker."""
    from cluster.pictures import draw_during_training
    from matgen.models.symmcd import SymmCD

    assert isinstance(state.model, SymmCD)
    path = out / "pictures" / f"step-{state.step:08d}.png"
    with state.ema.applied_to(state.model):
        draw_during_training(state.model, state.model.priors, path, count)
    tracker.image("samples", path, state.step)


def worker(job: dict[str, Any]) -> None:
    """Train as one of the processes that Ray Train started; a started-again one goes on from the last checkpoint."""
    import ray.train
    import ray.train.torch
    import torch

    from matgen.training.run import make_trainer
    from matgen.training.step import Workers

    context = ray.train.get_context()
    workers = Workers(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    torch.set_num_threads(job["threads"])
    with tracker_of(job, workers.rank) as tracker:
        trainer = make_trainer(**settings_of(job), workers=workers, on_log=log_to(tracker, job))
        if workers.rank == 0:
            note_start(Path(job["out"]), trainer.state.step, workers.world_size)
        with watching(Path(job["out"]) / STOP_FILE, trainer):
            result = trainer.run()
    ray.train.report({"step": result.step, "best_loss": result.best_loss})


def note_start(out: Path, step: int, num_workers: int) -> None:
    """Append a line to `workers.jsonl`."""
    with (out / WORKERS_FILE).open("a") as stream:
        stream.write(json.dumps({"step": step, "num_workers": num_workers, "time": round(time.time(), 3)}) + "\n")
