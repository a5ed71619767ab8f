"""A training run of SymmCD from a folder of records: what the plain and the distributed entry share."""

import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from matgen.data.priors import Priors
from matgen.data.records import Records
from matgen.models.symmcd import SymmCD, SymmCDConfig
from matgen.settings import to_dict
from matgen.training.loop import OnLog, Trainer, TrainResult
from matgen.training.state import TrainConfig
from matgen.training.step import Workers


@dataclass(frozen=True, kw_only=True)
class PlainRun:
    """Model and training; what a configuration file holds, every key of it optional."""

    model: SymmCDConfig = field(default_factory=SymmCDConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def build_model(config: SymmCDConfig, priors: Priors, seed: int) -> SymmCD:
    """Return a model whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SymmCD(config, priors)


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
        records: folder with train.safetensors, val.safetensors (may be absent) and priors.safetensors.
        out: directory of the run, resumed if it has checkpoints.
        run: model and training.
        workers: this process among others.
        init_from: checkpoint to fine-tune.
        lineage: JSON values to keep in the checkpoint's config.json.
        on_log: called on rank 0 with each line of the history.

    Returns:
        The trainer.
    """
    priors = Priors.load(records / "priors.safetensors")
    validation = records / "val.safetensors"
    return Trainer(
        build_model(run.model, priors, run.train.seed),
        priors,
        Records.load(records / "train.safetensors"),
        Records.load(validation) if validation.exists() else Records.empty(),
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
