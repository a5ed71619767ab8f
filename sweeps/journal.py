"""What a sweep knows: sweep.json says what it is, trials.jsonl what happened, line after line. Nothing is unpickled."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cluster.lineage import code_version, environment_versions, write_text
from matgen.errors import ConfigError, StageError
from matgen.settings import from_dict, to_dict
from sweeps.budget import BudgetConfig, EvenBudget
from sweeps.spaces import Space, Values

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ConfirmConfig:
    """The end of a sweep: its best few once more, before a winner is named.

    Attributes:
        top: trials that are looked at again, beside the experiment's defaults and the baselines.
        samples: drawn from each, with seeds that no trial has used.
        seeds: trainings of each with fresh seeds; 0 samples the trials' own checkpoints only.
    """

    top: int = 3
    samples: int = 512
    seeds: int = 0


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Everything that decides a sweep, beside its experiment.

    Attributes:
        subject: what is swept, see `sweeps.subjects`.
        space: name of the search space.
        search: how points are chosen.
        scheduler: asha stops the worse trials at each rung, pbt copies and changes them, none runs all to the end.
        only: parameters of the space that vary; None is all of them.
        trials: points, the first ones (defaults) included; baselines come on top.
        budget: of one trial.
        samples: drawn at each rung.
        pareto: search for quality and for low cost at once.
        seed: of the search, of trainings and of samples.
        workers_per_trial: processes that train one model together.
        cpus_per_worker, gpus_per_worker: what each of them reserves.
        concurrent: trials at a time at most; None is as many as the resources allow.
        baselines: trained to the end beside the trials, for comparison.
        retries: of a trial that dies; after that it is recorded as failed.
        confirm: what is done with the best.
    """

    subject: str = "symmcd"
    space: str = "demo"
    only: tuple[str, ...] | None = None
    search: Literal["tpe", "random", "grid"] = "tpe"
    scheduler: Literal["asha", "pbt", "none"] = "asha"
    trials: int = 12
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    samples: int = 256
    pareto: bool = False
    seed: int = 0
    workers_per_trial: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    concurrent: int | None = None
    baselines: tuple[str, ...] = ()
    retries: int = 1
    confirm: ConfirmConfig = field(default_factory=ConfirmConfig)

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigError(f"a sweep needs at least 1 trial, not {self.trials}")
        if self.samples < 1 or self.confirm.samples < 1:
            raise ConfigError(f"samples must be at least 1, not {self.samples} and {self.confirm.samples}")
        if self.workers_per_trial < 1 or self.cpus_per_worker <= 0 or self.gpus_per_worker < 0:
            raise ConfigError(
                f"a trial needs at least 1 worker and some CPU: not {self.workers_per_trial} workers of "
                f"{self.cpus_per_worker:g} CPUs and {self.gpus_per_worker:g} GPUs"
            )
        if self.scheduler == "pbt" and self.workers_per_trial > 1:
            raise ConfigError("population-based training needs single-worker trials: --workers-per-trial 1")
        if self.scheduler == "pbt" and self.baselines:
            raise ConfigError("population-based training has no baselines: its members take over each other's networks")
        if self.scheduler == "pbt" and self.pareto:
            raise ConfigError("population-based training follows one objective: leave out --pareto")

    @property
    def rung_budget(self) -> BudgetConfig:
        """The budget as the scheduler cuts it."""
        return self.budget.even(max(self.budget.num_rungs, 4)) if self.scheduler == "pbt" else self.budget


@dataclass(eq=False)
class TrialRecord:
    """One trial, as far as it got.

    Attributes:
        number: 0 is the experiment's defaults.
        values: its point; of a population member, its latest one.
        origin: default, first, search, or the name of a baseline.
        reports: one dict a rung, see `sweeps.trial`.
        status: running, done (to its end), stopped (by the scheduler), diverged, out_of_memory, invalid or failed.
        reason: of a failure.
    """

    number: int
    values: Values
    origin: str
    reports: list[dict[str, Any]] = field(default_factory=list)
    status: str = "running"
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.status != "running"

    @property
    def last(self) -> dict[str, Any]:
        """The report at its highest rung; empty without one."""
        return self.reports[-1] if self.reports else {}

    @property
    def objective(self) -> float | None:
        """Quality at its highest rung."""
        return self.last.get("objective")


class Journal:
    """The trials of a sweep in memory and, line by line, on disk."""

    def __init__(self, directory: Path, config: SweepConfig, experiment: dict[str, Any]) -> None:
        self.directory, self.config, self.experiment = directory, config, experiment
        self.trials: dict[int, TrialRecord] = {}
        self.confirmed: list[dict[str, Any]] = []
        self._file = directory / "trials.jsonl"

    def suggested(self, number: int, values: Values, origin: str) -> TrialRecord:
        """Note a new trial before it starts."""
        self._write({"event": "suggested", "number": number, "values": values, "origin": origin})
        return self.trials[number]

    def reported(self, report: Mapping[str, Any]) -> bool:
        """Note a rung of a trial; False if it is known already (a trial that was started again repeats itself)."""
        trial = self.trials[int(report["number"])]
        if any(known["rung"] == report["rung"] for known in trial.reports):
            return False
        self._write({"event": "report", **report})
        return True

    def ended(self, number: int, status: str, reason: str = "") -> None:
        """Note the end of a trial."""
        self._write({"event": "ended", "number": number, "status": status, "reason": reason})

    def confirm(self, row: Mapping[str, Any]) -> None:
        """Note what a second look at a trial gave."""
        self._write({"event": "confirmed", **row})

    def _write(self, event: dict[str, Any]) -> None:
        with self._file.open("a") as stream:
            stream.write(json.dumps(event) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        if kind == "suggested":
            self.trials[event["number"]] = TrialRecord(**event)
        elif kind == "report":
            trial = self.trials[event["number"]]
            trial.reports.append(event)
            trial.values = event.get("values", trial.values)
        elif kind == "ended":
            trial = self.trials[event["number"]]
            trial.status, trial.reason = event["status"], event["reason"]
        elif kind == "confirmed":
            self.confirmed.append(event)
        else:
            raise KeyError(kind)

    def read(self) -> None:
        """Take over what is on disk; a last line that a crash cut short is removed.

        Raises:
            StageError: a line is not one of ours.
        """
        if not self._file.exists():
            return
        lines = self._file.read_text(errors="replace").splitlines(keepends=True)
        for place, line in enumerate(lines):
            try:
                if not line.endswith("\n"):
                    raise ValueError("cut short")
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                if place == len(lines) - 1:
                    write_text(self._file, "".join(lines[:-1]))
                    return
                raise StageError(f"{self._file}: line {place + 1} is no line of a sweep: it is corrupt") from error


@contextlib.contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Have a sweep's directory for oneself; the claim ends with the process, however it ends.

    Raises:
        StageError: another process works on it.
    """
    if not (directory / "sweep.json").is_file():
        yield  # no sweep: whoever opens it says so
        return
    with (directory / "sweep.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(f"{directory}: another process works on this sweep") from error
        yield


def create_sweep(
    directory: Path,
    config: SweepConfig,
    experiment: Any,
    space: Space,
    sources: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Journal:
    """Begin a sweep in a directory of its own.

    Args:
        directory: of the sweep.
        config: of the sweep.
        experiment: whose points are tried.
        space: its points.
        sources: where `data` and `records` lie, for a sweep that is resumed before it has made its records.
        arguments: of the command line, for whoever reads sweep.json, and for the second part of MOFDiff's sweep.

    Raises:
        StageError: the directory holds another sweep or anything else, or cannot be written.
    """
    if (directory / "sweep.json").exists():
        raise StageError(f"{directory} holds a sweep already: go on with --resume {directory}, or use another --out")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise StageError(f"{directory} is not an empty directory: use another --out")
    values = to_dict(experiment)
    about = {
        "format": FORMAT,
        "config": to_dict(config),
        "even": isinstance(config.budget, EvenBudget),
        "experiment": values,
        "space": {"name": space.name, "digest": digest(space), "parameters": list(space.names)},
        "arguments": list(arguments),
        "sources": dict(sources or {}),
        "code_version": code_version(),
        "versions": environment_versions(),
    }
    write_text(directory / "sweep.json", json.dumps(about, indent=1) + "\n")
    return Journal(directory, config, values)


def open_sweep(directory: Path) -> tuple[Journal, dict[str, Any]]:
    """Open a sweep to go on with it, or to look at it.

    Returns:
        Its journal, and what sweep.json says.

    Raises:
        StageError: there is none, or it is corrupt.
    """
    path = directory / "sweep.json"
    if not path.is_file():
        raise StageError(f"{directory}: no sweep here (no sweep.json)")
    try:
        about = json.loads(path.read_text())
        if about["format"] != FORMAT:
            raise StageError(f"{path}: format {about['format']!r}, this version reads {FORMAT}")
        config = from_dict(SweepConfig, about["config"])
        journal = Journal(directory, config, about["experiment"])
        about["space"]["digest"], about["sources"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise StageError(f"{path}: no sweep of ours, or corrupt ({error})") from error
    journal.read()
    return journal, about


def digest(space: Space) -> str:
    """Hash of the parameters of a space and of its first points."""
    said = repr((space.parameters, space.first))
    return hashlib.sha256(said.encode()).hexdigest()[:16]
