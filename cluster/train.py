"""Stage 1: train under Ray Train, or in this process; the same step, the same checkpoints, the same result."""

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.lineage import StageLineage, finish_stage, require_stage
from cluster.run import AnyRun, Run
from cluster.session import prepare_environment, ray_session
from cluster.stopping import signals_to_file, watching
from cluster.tracking import Tracker, open_tracker
from matgen.config import TrainConfig
from matgen.errors import MatgenError, StageError
from matgen.settings import from_dict, to_dict
from matgen.training.checkpoint import content_hash, find_checkpoint, read_config
from matgen.training.history import read_history
from matgen.training.loop import OnLog
from matgen.training.progress import rate_key
from matgen.training.state import TrainState
from matgen.training.tasks import task_of

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
_STOP_FILE = ".stop-requested"
# settings that decide how, not what, is computed: they are no part of a run's identity
_HOW = (
    *("max_seconds", "max_edges", "overhead_edges", "compile", "num_workers", "checkpoint_every"),
    *("checkpoint_minutes", "log_every", "max_skipped", "picture_samples"),
)
_DEFAULT = TrainConfig()


@dataclass(frozen=True, kw_only=True)
class TrainStageConfig:
    """What decides the trained model; `model` is of its kind's own type."""

    model: Any
    train: TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainStage:
    """One model to train on one folder of records.

    Attributes:
        stage: whose directory the checkpoints go to.
        kind: of the model.
        config: of model and training.
        records: folder of records.
        inputs: name -> identity of what is read.
    """

    stage: str
    kind: str
    config: TrainStageConfig
    records: Path
    inputs: dict[str, str]


def train(run: Run) -> dict[str, Any]:
    """Train the experiment's model on the run's records and leave checkpoints in `checkpoint/`.

    Args:
        run: with records; `experiment.train.num_workers` 0 trains in this process.

    Returns:
        The stage's summary: steps, best validation loss, and the hash of the best checkpoint.

    Raises:
        StageError: there are no records; training was told to stop, or its workers died too often.
        MatgenError: losses stay non-finite, a checkpoint is corrupt or cannot be written.
    """
    inputs = {"records": require_stage(run.records_directory, "preprocess").identity}
    config = TrainStageConfig(model=run.experiment.model, train=run.experiment.train)
    stage = TrainStage(stage="train", kind="symmcd", config=config, records=run.records_directory, inputs=inputs)
    return train_stage(run, stage)


def train_stage(run: AnyRun, stage: TrainStage) -> dict[str, Any]:
    """Train any model, see `train`."""
    began = time.monotonic()
    inputs = dict(stage.inputs)
    if run.init_from is not None:
        inputs["init_from"] = content_hash(run.init_from)[:16]
    config = stage.config.train
    lineage = run.open_stage(stage.stage, replace(stage.config, train=identity(config)), inputs)
    if lineage.complete and lineage.summary.get("finished"):
        return lineage.summary
    directory = run.directory(stage.stage)
    job = _job(run, stage, lineage)
    if config.num_workers == 0:
        _train_here(job, run)
    else:
        _train_on_ray(job, run)
    summary = summarise(directory, config)
    if not summary["finished"] and config.max_seconds is None:
        raise StageError(f"{directory}: stopped at step {summary['step']}; run the stage again, it goes on from there")
    finish_stage(directory, lineage, summary, time.monotonic() - began)
    logger.info("%s: %s", stage.stage, summary)
    return summary


def identity(config: TrainConfig) -> TrainConfig:
    """Return the configuration with everything that changes no result set to its default."""
    return replace(config, **{name: getattr(_DEFAULT, name) for name in _HOW})


def summarise(directory: Path, config: TrainConfig) -> dict[str, Any]:
    """Return how far the checkpoints of a run have got.

    Args:
        directory: of the stage.
        config: of the run.
    """
    state = json.loads((directory / "checkpoints/last/state.json").read_text())
    rows = [row for row in read_history(directory / "history.jsonl") if row["kind"] == "train"]
    rates = sorted(row[rate_key(row)] for row in rows)
    return {
        "step": state["step"],
        "finished": state["step"] >= int(read_config(directory / "checkpoints/last")["total_steps"]),
        "num_skipped": state["num_skipped"],
        "best_step": state["best_step"],
        "best_loss": state["best_loss"],
        "checkpoint": content_hash(find_checkpoint(directory))[:16],
        "num_workers": config.num_workers,
        **({rate_key(rows[0]): round(rates[len(rates) // 2], 1)} if rates else {}),
    }


def _job(run: AnyRun, stage: TrainStage, lineage: StageLineage) -> dict[str, Any]:
    """Return what a worker needs, as plain values."""
    return {
        "kind": stage.kind,
        "tracker_id": lineage.run_id if stage.stage == "train" else f"{lineage.run_id}-{stage.stage}",
        "records": str(stage.records.resolve()),
        "out": str(run.directory(stage.stage).resolve()),
        "model": to_dict(stage.config.model),
        "train": to_dict(stage.config.train),
        "init_from": None if run.init_from is None else str(run.init_from.resolve()),
        "lineage": {
            "run_id": lineage.run_id,
            "experiment": run.experiment.name,
            "code_version": lineage.code_version,
            "versions": lineage.versions,
            "inputs": lineage.inputs,
        },
    }


def _settings(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that `train_plain` and `make_trainer` share."""
    from matgen.training.run import plain_run

    return {
        "records": Path(job["records"]),
        "out": Path(job["out"]),
        "run": plain_run(job["kind"], {"model": job["model"], "train": job["train"]}),
        "init_from": None if job["init_from"] is None else Path(job["init_from"]),
        "lineage": job["lineage"],
    }


def _train_here(job: Mapping[str, Any], run: AnyRun) -> None:
    from matgen.training.run import train_plain

    with _tracker(job, rank=0) as tracker:
        train_plain(**_settings(job), on_log=_log_to(tracker, job), progress=_shows_progress(run))


@contextlib.contextmanager
def _tracker(job: Mapping[str, Any], rank: int) -> Iterator[Tracker]:
    config = {"model": job["model"], "train": job["train"], **job["lineage"]}
    with open_tracker(
        job["tracker_id"], Path(job["out"]), config, group=job["lineage"]["experiment"], enabled=rank == 0
    ) as tracker:
        yield tracker


def _log_to(tracker: Tracker, job: Mapping[str, Any]) -> OnLog:
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


def _shows_progress(run: AnyRun) -> bool:
    return sys.stderr.isatty() if run.progress is None else run.progress


def _train_on_ray(job: dict[str, Any], run: AnyRun) -> None:
    """Run the worker on N processes of Ray; those that die are started again from the last checkpoint."""
    num_workers = job["train"]["num_workers"]
    prepare_environment()
    with ray_session(num_workers):
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        resources = ray.cluster_resources()
        use_gpu = resources.get("GPU", 0) >= num_workers
        if not use_gpu and resources.get("CPU", 0) < num_workers:
            raise StageError(f"train.num_workers={num_workers}, but Ray has {resources.get('CPU', 0):.0f} CPUs")
        num_nodes = sum(node["Alive"] for node in ray.nodes())
        job["threads"] = max(1, int(_cpus_per_node(ray) // -(-num_workers // num_nodes)))
        trainer = TorchTrainer(
            worker,
            train_loop_config=job,
            scaling_config=ScalingConfig(
                num_workers=num_workers, use_gpu=use_gpu, placement_strategy="PACK" if use_gpu else "SPREAD"
            ),
            run_config=RunConfig(
                name="ray-train",
                storage_path=job["out"],
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        out = Path(job["out"])
        with signals_to_file(out / _STOP_FILE), _following(out, _total_steps(job) if _shows_progress(run) else 0):
            _fit(trainer)


def _total_steps(job: Mapping[str, Any]) -> int:
    config = from_dict(TrainConfig, job["train"])
    return config.total_steps(len(task_of(job["kind"]).load_set(Path(job["records"]), config)))


def _cpus_per_node(ray: Any) -> float:
    return min(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"])


def _fit(trainer: Any) -> None:
    from ray.train import TrainingFailedError

    try:
        trainer.fit()
    except TrainingFailedError as error:
        cause = original_error(error)
        if isinstance(cause, MatgenError):
            raise cause from error
        raise StageError(f"training failed: {type(cause).__name__}: {str(cause).splitlines()[0]}") from error


def original_error(error: BaseException) -> BaseException:
    """Return what a worker raised, out of what Ray Train wrapped around it."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        return original_error(next(iter(failures.values())))
    inner = getattr(error, "cause", None) or error.__cause__
    return error if inner is None else original_error(inner)


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
    with _tracker(job, workers.rank) as tracker:
        trainer = make_trainer(**_settings(job), workers=workers, on_log=_log_to(tracker, job))
        with watching(Path(job["out"]) / _STOP_FILE, trainer):
            result = trainer.run()
    ray.train.report({"step": result.step, "best_loss": result.best_loss})


@contextlib.contextmanager
def _following(directory: Path, total: int) -> Iterator[None]:
    """Show on the driver what the workers write to the history."""
    if total == 0:
        yield
        return
    from matgen.training.progress import follow

    done = threading.Event()
    thread = threading.Thread(target=follow, args=(directory / "history.jsonl", done, total), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
