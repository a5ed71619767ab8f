"""A training run from a folder of records: what the plain and the distributed entry share."""

import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from matgen.errors import ConfigError
from matgen.settings import from_dict, to_dict
from matgen.training.loop import OnLog, Trainer, TrainResult
from matgen.training.state import TrainConfig
from matgen.training.step import Workers
from matgen.training.tasks import Task, task_of


@dataclass(frozen=True, kw_only=True)
class PlainRun:
    """Model and training.

    Attributes:
        model: settings of the model, of the kind's own type.
        train: settings of training.
        kind: of the model, see `matgen.training.tasks`.
    """

    model: Any
    train: TrainConfig = field(default_factory=TrainConfig)
    kind: str = "symmcd"


def plain_run(kind: str, values: dict[str, Any]) -> PlainRun:
    """Read what a configuration file holds, the keys `model` and `train`, both optional.

    Raises:
        ConfigError: an unknown kind or key, or a wrong type.
    """
    unknown = sorted(set(values) - {"model", "train"})
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r} (valid: model, train)")
    model: Any = from_dict(task_of(kind).config_type, values.get("model", {}), "model")
    return PlainRun(model=model, train=from_dict(TrainConfig, values.get("train", {}), "train"), kind=kind)


def build_model(task: Task, config: Any, constants: Any, seed: int) -> nn.Module:
    """Return a model whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return task.build(config, constants)


def make_trainer(
    records: Path,
    out: Path,
    run: PlainRun,
    *,
    workers: Workers,
    init_from: Path | None = None,
    lineage: dict[str, Any] | None = None,
    on_log: OnLog | None = None,
) -> Trainer:
    """Prepare training in one of the processes that share it.

    Args:
        records: folder that the kind's training set opens.
        out: directory of the run, resumed if it has checkpoints.
        run: model and training.
        workers: this process among others.
        init_from: checkpoint to fine-tune.
        lineage: JSON values to keep in the checkpoint's config.json.
        on_log: called on rank 0 with each line of the history.

    Returns:
        The trainer.
    """
    task = task_of(run.kind)
    dataset = task.load_set(records, run.train)
    return Trainer(
        build_model(task, run.model, dataset.constants, run.train.seed),
        dataset,
        run.train,
        out,
        workers=workers,
        run_config={"model": to_dict(run.model), **(lineage or {})},
        init_from=init_from,
        on_log=on_log,
    )


def train_plain(
    records: Path,
    out: Path,
    run: PlainRun,
    device: str | None = None,
    *,
    init_from: Path | None = None,
    lineage: dict[str, Any] | None = None,
    on_log: OnLog | None = None,
    progress: bool = False,
) -> TrainResult:
    """Train in this process; SIGTERM, SIGUSR1 and SIGINT save a checkpoint and end it.

    Args:
        records: see `make_trainer`, as are `out`, `run`, `init_from`, `lineage` and `on_log`.
        out: directory of the run.
        run: model and training.
        device: cpu or cuda; the GPU if there is one where not given.
        init_from: checkpoint to fine-tune.
        lineage: JSON values for config.json.
        on_log: called with each line of the history.
        progress: show a progress bar.

    Returns:
        How it ended.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trainer = make_trainer(
        records, out, run, workers=Workers(device=where), init_from=init_from, lineage=lineage, on_log=on_log
    )
    previous = {}

    def stop(_number: int, _frame: object) -> None:
        trainer.stop_requested = True

    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        return trainer.run(progress=progress)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
