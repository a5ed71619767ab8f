"""One trial: train to each rung, draw samples, judge them, report. Knows no Ray; resumes from what it left on disk."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.lineage import write_text
from matgen.errors import CheckpointError, ConfigError
from matgen.settings import from_dict
from matgen.training.dataset import TrainingError
from matgen.training.history import read_history
from matgen.training.loop import Trainer
from matgen.training.run import PlainRun, make_trainer
from matgen.training.state import TrainConfig
from matgen.training.step import Workers
from sweeps.budget import BudgetConfig, EvenBudget
from sweeps.speed import clock, measured_speed, trial_training
from sweeps.subjects import Reference, subject_of

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """What a process needs to run a trial, as plain values.

    Attributes:
        number: of the trial.
        subject: see `sweeps.subjects`.
        experiment: JSON values, the trial's point applied.
        values: the point, for the record.
        out: directory of the trial.
        records: what to train on.
        reference: npz file of what samples are held against.
        budget: JSON values; with `even` of an EvenBudget.
        samples: to draw at each rung.
        sample_seed: of the samples.
        train_seed: of weights, shuffles and noise.
        threads: of torch.
        yardstick: JSON values of the sweep's own experiment; a budget in seconds is one of its seconds.
        repeat: report again what an earlier process reported; the scheduler of this session does not know it.
    """

    number: int
    subject: str
    experiment: dict[str, Any]
    values: dict[str, Any]
    out: str
    records: str
    reference: str
    budget: dict[str, Any]
    even: bool = False
    samples: int
    sample_seed: int
    train_seed: int
    threads: int = 1
    yardstick: dict[str, Any] = field(default_factory=dict)
    repeat: bool = True

    @property
    def costs(self) -> BudgetConfig:
        """The budget."""
        return from_dict(EvenBudget if self.even else BudgetConfig, self.budget)


def run_trial(job: TrialJob, report: Report, workers: Workers | None = None) -> None:
    """Run a trial from where it stands; a rung that it reached before is reported again, not computed again.

    A trial that does not fit into memory, diverges or is no valid model ends with a report of quality 0 that says so.

    Args:
        job: the trial.
        report: called at each rung, on every worker; may not return (the scheduler's decision).
        workers: this process among those of the trial.
    """
    workers = workers or Workers(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    torch.set_num_threads(max(1, job.threads))
    try:
        climb(job, report, workers)
    except Exception as error:
        status = failure(error)
        if status is None:
            raise
        report(failed_report(job, status, error))


def failure(error: BaseException) -> str | None:
    """Return the status of a trial that ends by an error which is a result, None for any other error."""
    if isinstance(error, TrainingError):
        return "diverged"
    words = str(error).lower()
    memory = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in words for word in memory)):
        return "out_of_memory"
    return "invalid" if isinstance(error, ConfigError) else None


def failed_report(job: TrialJob, status: str, error: BaseException) -> dict[str, Any]:
    """Return the last report of a trial that ends by such an error: quality 0 at the rung that it did not reach."""
    rung = len(read_reports(Path(job.out)))
    costs = job.costs.costs
    rung = min(rung, len(costs) - 1)
    reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return {
        "number": job.number, "rung": rung, "cost": costs[rung], "objective": 0.0, "low": 0.0, "high": 0.0,
        "status": status, "reason": reason, "values": dict(job.values),
    }  # fmt: skip


def climb(job: TrialJob, report: Report, workers: Workers) -> None:
    """Train to each rung and report there, errors and all, see `run_trial`."""
    subject = subject_of(job.subject)
    experiment = subject.read(job.experiment)
    out = Path(job.out)
    steps = _steps(job, subject.train(experiment), workers)
    config = trial_training(subject.train(experiment), steps, job.train_seed)
    reference = load_reference(Path(job.reference))
    known = {row["rung"]: row for row in read_reports(out)}
    for rung in sorted(known) if job.repeat else ():  # all that is known first: the scheduler may have seen enough
        report(known[rung])
    if len(known) == len(steps) or any(row["status"] != "ok" for row in known.values()):
        return
    trainer = make_trainer(
        Path(job.records),
        out,
        PlainRun(model=subject.model(experiment), train=config, kind=subject.kind),
        workers=workers,
    )
    for rung, last in enumerate(steps):
        if rung in known or (job.even and last < trainer.state.step):
            continue  # a member of a population may begin with the weights of one that is further
        began = clock(workers)
        trainer.run(until=last)
        seconds = clock(workers) - began
        row: dict[str, Any] = {}
        if workers.rank == 0:
            previous = known[rung - 1]["train_seconds"] if rung - 1 in known else 0.0
            row = _judged(job, trainer, experiment, reference, rung, previous + seconds)
            append_report(out, row)
        known[rung] = row
        workers.barrier()
        report(row)


def _judged(
    job: TrialJob, trainer: Trainer, experiment: Any, reference: Reference, rung: int, seconds: float
) -> dict[str, Any]:
    """Return the report of a rung."""
    subject, state = subject_of(job.subject), trainer.state
    began = time.monotonic()
    state.model.eval()
    with state.ema.applied_to(state.model), torch.inference_mode():
        judged = subject.judge(state.model, experiment, Path(job.records), reference, job.samples, job.sample_seed)
    state.model.train()
    seen = state.step * trainer.config.batch_size
    history = [row for row in read_history(trainer.out / "history.jsonl") if row["kind"] == "validation"]
    losses = {k: v for k, v in (history[-1] if history else {}).items() if k not in ("kind", "step")}
    return {
        "number": job.number, "rung": rung, "cost": job.costs.costs[rung], "status": "ok",
        "objective": judged.quality.value, "low": judged.quality.low, "high": judged.quality.high,
        "parts": judged.quality.parts, "figures": dict(judged.figures), "losses": losses, "values": dict(job.values),
        "step": state.step, "rows_seen": seen, "train_seconds": seconds, "cost_per_1000": 1000 * seconds / seen,
        "judge_seconds": time.monotonic() - began,
        "num_parameters": sum(parameter.numel() for parameter in state.model.parameters()),
    }  # fmt: skip


def _steps(job: TrialJob, train: TrainConfig, workers: Workers) -> tuple[int, ...]:
    """Return the steps at each rung; where the budget is in seconds, by a measurement that is kept."""
    if job.costs.unit == "crystals":
        return job.costs.steps(train.batch_size)
    kept = Path(job.out) / "speed.json"
    if not kept.exists() and workers.rank == 0:
        write_text(kept, json.dumps(measured_speed(job, workers)))
    workers.barrier()
    return job.costs.steps(train.batch_size, json.loads(kept.read_text())["seconds_per_step"])


def read_reports(out: Path) -> list[dict[str, Any]]:
    """Return the good reports of a trial's directory, rung by rung; a line that a crash cut short is left out."""
    path = out / "reports.jsonl"
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def append_report(out: Path, row: Mapping[str, Any]) -> None:
    """Keep a report."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "reports.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def save_reference(path: Path, reference: Reference) -> None:
    """Write what samples are held against, aside and then renamed."""
    aside = path.with_name(f".{path.name}.partial.npz")
    np.savez(aside, **reference)  # type: ignore[arg-type]
    aside.replace(path)


def load_reference(path: Path) -> Reference:
    """Read what `save_reference` wrote.

    Raises:
        CheckpointError: it is missing or corrupt.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def job_values(job: TrialJob) -> dict[str, Any]:
    """Return a job as plain values."""
    return dataclasses.asdict(job)
