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
from cluster.stopping import signals_to_file
from cluster.train_worker import STOP_FILE, log_to, settings_of, tracker_of, worker
from matgen.config import TrainConfig
from matgen.errors import ConfigError, MatgenError, StageError
from matgen.settings import from_dict, to_dict
from matgen.training.checkpoint import content_hash, find_checkpoint, read_config
from matgen.training.history import read_history
from matgen.training.progress import rate_key
from matgen.training.tasks import task_of

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
GROW_CHECK_S = 60.0  # between looks whether there is room for more processes
# settings that decide how, not what, is computed: they are no part of a run's identity
_HOW = (
    *("max_seconds", "max_edges", "overhead_edges", "compile", "num_workers", "min_workers", "checkpoint_every"),
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
        ConfigError: `train.min_workers` is negative or more than `train.num_workers`.
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
    fewest_workers(stage.config.train)
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


def fewest_workers(config: TrainConfig) -> int:
    """Return how many processes distributed training needs to start or go on.

    Args:
        config: of training.

    Raises:
        ConfigError: `min_workers` is negative or more than `num_workers`.
    """
    if not 0 <= config.min_workers <= config.num_workers:
        raise ConfigError(
            f"train.min_workers={config.min_workers} must be from 0 to train.num_workers={config.num_workers}"
        )
    return config.min_workers or config.num_workers


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


def _train_here(job: Mapping[str, Any], run: AnyRun) -> None:
    from matgen.training.run import train_plain

    with tracker_of(job, rank=0) as tracker:
        train_plain(**settings_of(job), on_log=log_to(tracker, job), progress=_shows_progress(run))


def _shows_progress(run: AnyRun) -> bool:
    return sys.stderr.isatty() if run.progress is None else run.progress


def _train_on_ray(job: dict[str, Any], run: AnyRun) -> None:
    """Run the worker on N processes of Ray, or as many as fit; after a death all start again at the last checkpoint."""
    config = from_dict(TrainConfig, job["train"])
    num_workers, fewest = config.num_workers, fewest_workers(config)
    prepare_environment()
    with ray_session(num_workers):
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        resources = ray.cluster_resources()
        use_gpu = resources.get("GPU", 0) >= fewest
        if not use_gpu and resources.get("CPU", 0) < fewest:
            name = "num_workers" if fewest == num_workers else "min_workers"
            raise StageError(f"train.{name}={fewest}, but Ray has {resources.get('CPU', 0):.0f} CPUs")
        num_nodes = sum(node["Alive"] for node in ray.nodes())
        job["threads"] = max(1, int(_cpus_per_node(ray) // -(-num_workers // num_nodes)))
        scaling: dict[str, Any] = {  # of Train v2, whose names type checkers are not shown
            "num_workers": num_workers if fewest == num_workers else (fewest, num_workers),
            "elastic_resize_monitor_interval_s": GROW_CHECK_S,
            "use_gpu": use_gpu,
            "placement_strategy": "PACK" if use_gpu else "SPREAD",
        }
        trainer = TorchTrainer(
            worker,
            train_loop_config=job,
            scaling_config=ScalingConfig(**scaling),
            run_config=RunConfig(
                name="ray-train",
                storage_path=job["out"],
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        out = Path(job["out"])
        with signals_to_file(out / STOP_FILE), _following(out, _total_steps(job) if _shows_progress(run) else 0):
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
