"""`matgen run` and `matgen report`: an experiment's stages in their order."""

import argparse
import contextlib
import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from matgen.errors import ConfigError, StageError

if TYPE_CHECKING:
    from cluster.run import AnyRun, Run
    from matgen.config import Experiment

logger = logging.getLogger(__name__)

ExperimentT = TypeVar("ExperimentT", "Experiment", "MofExperiment")

STAGE_FUNCTIONS = {
    "preprocess": "cluster.preprocess:preprocess",
    "train": "cluster.train:train",
    "sample": "cluster.sample:sample",
    "decode": "cluster.decode:decode_stage",
    "relax": "cluster.relax:relax_stage",
    "evaluate": "cluster.evaluate:evaluate_stage",
    "report": "experiments.run:report_stage",
    "shipped": "experiments.shipped:shipped_stage",
    "free": "experiments.seed_comparison:free_stage",
    "templates": "experiments.seed_comparison:templates_stage",
    "compare": "experiments.seed_comparison:compare_stage",
}

MOF_STAGE_FUNCTIONS = {
    "preprocess": "cluster.mof_preprocess:mof_preprocess",
    "train_blocks": "cluster.mof_train:train_blocks",
    "embed": "cluster.mof_embed:embed",
    "score_blocks": "cluster.mof_score_blocks:score_blocks",
    "train": "cluster.mof_train:train_frameworks",
    "sample": "cluster.mof_sample:mof_sample",
    "decode": "cluster.mof_decode:mof_decode",
    "relax": "cluster.mof_relax:mof_relax",
    "evaluate": "cluster.mof_evaluate:mof_evaluate",
    "report": "experiments.run:report_stage",
    "shipped": "experiments.shipped:shipped_mofs_stage",
    "latent": "experiments.mof_comparison:latent_stage",
    "conditional": "experiments.mof_comparison:conditional_stage",
    "random": "experiments.mof_comparison:random_stage",
    "compare": "experiments.mof_comparison:compare_stage",
}


SHARDED = {"sample", "decode", "relax"}


def run_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """matgen run."""
    from experiments.cli import say

    experiment = _named(arguments)
    stages = chosen_stages(arguments.stages, experiment.stages)
    if getattr(arguments, "shards", None) and not set(stages) <= SHARDED:
        raise ConfigError(f"--shards is for the stages {', '.join(sorted(SHARDED))}: name those to run")
    experiment = configured(experiment, arguments)
    if arguments.show:
        say(arguments, experiment.to_json())
        return {"experiment": experiment.name, "stages": list(stages)}
    run = make_run(experiment, arguments)
    summary: dict[str, Any] = {"experiment": experiment.name, "out": str(run.out), "stages": {}}
    with _one_ray(run, len(stages)):
        for stage in stages:
            summary["stages"][stage] = stage_function(stage, run.experiment)(run)
            say(arguments, f"{stage}: {one_line(summary['stages'][stage])}")
    return summary


def _named(arguments: argparse.Namespace) -> Any:
    """Return the experiment of a name, or of a file of settings; with a file all positional words are stages.

    Raises:
        ConfigError: neither, no such experiment, or no file of settings.
    """
    from experiments.listing import find_experiment, read_experiment

    if arguments.config is None:
        if arguments.experiment is None:
            raise ConfigError("name an experiment (matgen list shows them), or give --config FILE")
        return find_experiment(arguments.experiment)
    if arguments.experiment is not None:
        arguments.stages = [arguments.experiment, *arguments.stages]
    return read_experiment(arguments.config)


def _one_ray(run: "Run", num_stages: int) -> contextlib.AbstractContextManager[None]:
    """Keep one Ray for all stages: starting it takes seconds."""
    if run.num_workers == 0 or num_stages == 1:
        return contextlib.nullcontext()
    from cluster.session import ray_session

    experiment: Any = run.experiment
    configs = [experiment.train, *([experiment.blocks.train] if is_mof(experiment) else [])]
    return ray_session(max(run.num_workers, *(config.num_workers + 1 for config in configs)))


def is_mof(experiment: object) -> bool:
    """Whether an experiment is one on frameworks."""
    return hasattr(experiment, "blocks")


def chosen_stages(asked: Sequence[str], valid: Sequence[str]) -> list[str]:
    """Return the stages to run, in the experiment's order.

    Raises:
        ConfigError: a stage that the experiment does not have.
    """
    for stage in asked:
        if stage not in valid:
            raise ConfigError(f"unknown stage {stage!r} (this experiment has: {', '.join(valid)})")
    return [stage for stage in valid if not asked or stage in asked]


def configured(experiment: ExperimentT, arguments: argparse.Namespace) -> ExperimentT:
    """Apply --small, --seed, --data and --set, in this order.

    Raises:
        ConfigError: --set with an unknown key or wrong value; no --data where it is needed.
    """
    if arguments.small:
        from experiments.small import small

        experiment = small(experiment)
    if arguments.seed is not None:
        experiment = experiment.with_seed(arguments.seed)
    if experiment.preprocess.source == "" and arguments.data:
        path = Path(arguments.data).expanduser()
        source = str(path.resolve()) if path.exists() else arguments.data
        experiment = replace(experiment, preprocess=replace(experiment.preprocess, source=source))
    drawn: int | None = getattr(arguments, "count", None)
    for assignment in [*([f"sample.count={drawn}"] if drawn else []), *arguments.set]:
        experiment = experiment.set(assignment)
    if not experiment.preprocess.source:
        raise ConfigError(f"{experiment.name} needs --data PATH: a file, folder or archive of structures")
    return experiment


def make_run(experiment: ExperimentT, arguments: argparse.Namespace) -> "Run[ExperimentT]":
    """Build the Run of a command.

    Raises:
        ConfigError: a path that does not exist.
        StageError: --out is a file.
    """
    from cluster.run import Run, available_cpus

    named = getattr(arguments, "data", None)
    data = Path(named).expanduser() if named else None
    for option, path in (("--data", data), *((f"--{k}", getattr(arguments, k.replace("-", "_"), None)) for k in PATHS)):
        if path is not None and not path.exists():
            raise ConfigError(f"{option} {path}: no such file or folder")
    out = arguments.out or Path("runs") / experiment.name
    if out.exists() and not out.is_dir():
        raise StageError(f"--out {out} is a file, not a directory")
    return Run(
        experiment=experiment,
        out=out,
        num_workers=arguments.workers if arguments.workers is not None else available_cpus(),
        data=data if data is not None and data.is_dir() else None,
        init_from=getattr(arguments, "init_from", None),
        checkpoint=getattr(arguments, "checkpoint", None),
        overwrite=arguments.overwrite,
        command=arguments.command_line,
        progress=False if arguments.quiet else None,
        shards=getattr(arguments, "shards", None),
    )


PATHS = ("init-from", "checkpoint")


def stage_function(stage: str, experiment: object) -> Callable[["AnyRun"], dict[str, Any]]:
    """Import the function of a stage."""
    functions = MOF_STAGE_FUNCTIONS if is_mof(experiment) else STAGE_FUNCTIONS
    module, name = functions[stage].split(":")
    function: Callable[[AnyRun], dict[str, Any]] = getattr(importlib.import_module(module), name)
    return function


def one_line(summary: dict[str, Any]) -> str:
    """Say a stage's summary in one line: its plain values, and counts by status."""
    said = []
    for key, value in summary.items():
        if isinstance(value, dict) and value and all(isinstance(item, int) for item in value.values()):
            said.append(f"{key} " + " ".join(f"{word}={count}" for word, count in value.items()))
        elif isinstance(value, float):
            said.append(f"{key} {value:.4g}")
        elif isinstance(value, int | str):
            said.append(f"{key} {value}")
    return ", ".join(said)


def report_stage(run: "Run") -> dict[str, Any]:
    """Stage 6: one page about the run."""
    return _report(run.out, run.out / "report.html")


def report_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """matgen report."""
    from experiments.cli import say

    if not arguments.dir.is_dir():
        raise StageError(f"{arguments.dir}: no such directory")
    summary = _report(arguments.dir, arguments.out or arguments.dir / "report.html")
    say(arguments, summary["report"])
    return summary


def _report(directory: Path, path: Path) -> dict[str, Any]:
    from matgen.evaluation.report import build_report

    build_report(directory, path)
    return {"report": str(path), "bytes": path.stat().st_size}
