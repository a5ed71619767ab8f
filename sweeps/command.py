"""The command line of the sweeps: what `python sweeps/tune_symmcd.py` understands."""

import argparse
import dataclasses
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from cluster.run import Run, available_cpus
from experiments.arguments import count, positive
from experiments.listing import find_experiment, read_experiment
from matgen.errors import ConfigError, MatgenError, StageError
from sweeps.budget import BudgetConfig
from sweeps.journal import ConfirmConfig, Journal, SweepConfig, create_sweep, digest, open_sweep
from sweeps.schedulers import check_population
from sweeps.search import check_grid, default_values
from sweeps.spaces import Space, find_space
from sweeps.subjects import subject_of
from sweeps.trial import save_reference

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a sweep is where the command line says nothing: minutes on a laptop."""

    subject: str
    experiment: str
    config: SweepConfig
    out: str
    large: SweepConfig  # of any other experiment than the one above


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser(defaults: Defaults, description: str) -> argparse.ArgumentParser:
    """Return the parser of a sweep's command."""
    subject = subject_of(defaults.subject)
    spaces = "\n".join(f"  {space.name:<22}{space.summary}" for space in subject.spaces)
    parser = _Parser(
        description=f"{description}\n\nspaces\n{spaces}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what to sweep")
    what.add_argument("--experiment", help=f"a name that matgen list shows (default: {defaults.experiment})")
    what.add_argument("--config", type=Path, metavar="FILE", help="settings from a file, as another sweep's best.json")
    what.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of it")
    what.add_argument("--space", help="one of the spaces above")
    what.add_argument("--search", choices=["tpe", "random", "grid"], help="how points are chosen (default: tpe)")
    what.add_argument("--scheduler", choices=["asha", "pbt", "none"], help="who is stopped early (default: asha)")
    what.add_argument("--pareto", action="store_true", help="search for quality and for low cost at once")
    what.add_argument("--trials", type=int, help="points to try, defaults included")
    known = ", ".join(subject.baselines) or "there are none"
    what.add_argument("--baselines", help=f"trained beside them ({known}); none for none")
    much = parser.add_argument_group("how much")
    much.add_argument("--budget", type=positive, help="cost of a trial that is never stopped, in --unit")
    much.add_argument("--unit", choices=["crystals", "seconds"], help="rows seen in training, or seconds of training")
    much.add_argument("--rungs", type=count, help="judgements of such a trial")
    much.add_argument("--reduction", type=count, help="ratio of the costs of two rungs; one in so many goes on")
    much.add_argument("--samples", type=int, help="drawn at each rung")
    much.add_argument("--confirm-top", type=int, help="best trials that are looked at again")
    much.add_argument("--confirm-samples", type=int, help="drawn then")
    much.add_argument("--confirm-seeds", type=int, help="fresh trainings of each then (default: 0, more samples only)")
    much.add_argument("--seed", type=int, help="of search, trainings and samples")
    where = parser.add_argument_group("where")
    where.add_argument("--out", type=Path, help=f"directory of the sweep (default: {defaults.out})")
    where.add_argument("--resume", type=Path, metavar="DIR", help="go on with a sweep, after anything")
    where.add_argument("--records", type=Path, metavar="DIR", help="records that exist already: a run's records/")
    where.add_argument("--data", type=Path, help="folder of data sets (default: MATGEN_DATA)")
    where.add_argument("--address", help="Ray cluster to join, as auto (default: RAY_ADDRESS, else one of its own)")
    where.add_argument("--workers-per-trial", type=int, help="processes that train one model together")
    where.add_argument("--cpus-per-worker", type=positive, help="(default: 1)")
    where.add_argument("--gpus-per-worker", type=float, help="(default: 0)")
    where.add_argument("--concurrent", type=count, help="trials at a time (default: as many as there is room for)")
    where.add_argument("--debug", action="store_true", help="the traceback of an error")
    return parser


def main(defaults: Defaults, description: str, argv: Sequence[str] | None = None) -> int:
    """Run a sweep.

    Returns:
        The exit code: 0, 2 for an error that its one line explains, 130 after an interruption.
    """
    parser = build_parser(defaults, description)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        summary = sweep(defaults, arguments)
    except MatgenError as error:
        if arguments.debug:
            raise
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; --resume DIR goes on where it stopped", file=sys.stderr)
        return 130
    for line in summary_lines(summary):
        print(line)
    return 0


def sweep(defaults: Defaults, arguments: argparse.Namespace) -> dict[str, Any]:
    """Begin or resume a sweep, run it to its end, and write its results."""
    from cluster.session import ray_session
    from sweeps.observer import candidates
    from sweeps.results import write_results
    from sweeps.runner import prepare_tune, run_second_look, run_trials
    from sweeps.watch import Watch
    from sweeps.work import TrialWork

    journal, experiment, space = _resumed(arguments) if arguments.resume else _begun(defaults, arguments)
    config = journal.config
    subject = subject_of(config.subject)
    prepare_tune()
    slots = available_cpus()
    with ray_session(slots, address=arguments.address):
        try:
            records = _records(arguments, journal, experiment)
        except MatgenError:
            if not arguments.resume:  # this sweep is not begun yet: leave room for the corrected command
                shutil.rmtree(journal.directory)
            raise
        work = TrialWork(
            config=config, space=space, experiment=experiment, directory=str(journal.directory), records=str(records)
        )
        reference = journal.directory / "reference.npz"
        if not reference.exists():
            save_reference(reference, subject.reference(records))
        total = config.trials + len(config.baselines)
        watch = Watch(journal, f"{experiment.name}-{journal.directory.name}", total=total)
        run_trials(work, journal, space, default_values(space, journal.experiment), watch)
        run_second_look(work, journal, candidates(journal), watch)
    return write_results(journal, work, space)


def _begun(defaults: Defaults, arguments: argparse.Namespace) -> tuple[Journal, Any, Space]:
    experiment: Any
    if arguments.config is not None:
        experiment = read_experiment(arguments.config)
    else:
        experiment = find_experiment(arguments.experiment or defaults.experiment)
    small = experiment.name == defaults.experiment
    for assignment in arguments.set:
        experiment = experiment.set(assignment)
    config = configured(defaults.config if small else defaults.large, arguments)
    subject = subject_of(config.subject)
    subject.check(experiment)
    for baseline in config.baselines:
        if baseline not in subject.baselines:
            raise ConfigError(f"unknown baseline {baseline!r} (there are: {', '.join(subject.baselines) or 'none'})")
    space = find_space(config.space, subject.spaces)
    space.check(experiment)
    if config.scheduler == "pbt":
        check_population(space)
    if config.search == "grid":
        check_grid(space)
    _check_resources(config, arguments.address)
    if arguments.records is not None and not arguments.records.is_dir():
        raise ConfigError(f"--records {arguments.records}: no such folder")
    if arguments.data is not None and not arguments.data.is_dir():
        raise ConfigError(f"--data {arguments.data}: no such folder")
    out = (arguments.out or Path(defaults.out)).resolve()
    return create_sweep(out, config, experiment, space), experiment, space


def _check_resources(config: SweepConfig, address: str | None) -> None:
    """Refuse what this machine cannot run before anything is made; a cluster is asked once it is joined."""
    import os

    import torch

    if address or os.environ.get("RAY_ADDRESS"):
        return
    gpus, cpus = config.workers_per_trial * config.gpus_per_worker, config.workers_per_trial * config.cpus_per_worker
    if gpus > torch.cuda.device_count():
        raise StageError(f"a trial needs {gpus:g} GPUs, and this machine has {torch.cuda.device_count()}")
    if cpus > available_cpus():
        raise StageError(f"a trial needs {cpus:g} CPUs, and this machine has {available_cpus()}")


def _resumed(arguments: argparse.Namespace) -> tuple[Journal, Any, Space]:
    journal, about = open_sweep(arguments.resume.resolve())
    subject = subject_of(journal.config.subject)
    space = find_space(journal.config.space, subject.spaces)
    if about["space"]["digest"] != digest(space):
        raise StageError(f"{arguments.resume}: the space {space.name!r} has changed since; begin anew with --out")
    if arguments.trials is not None:
        if arguments.trials < journal.config.trials:
            raise ConfigError(f"--trials {arguments.trials}: the sweep has {journal.config.trials} already")
        journal.config = replace(journal.config, trials=arguments.trials)
    return journal, subject.read(journal.experiment), space


def _records(arguments: argparse.Namespace, journal: Journal, experiment: Any) -> Path:
    """Return the folder of records, made in the sweep's directory unless another was named."""
    kept = journal.directory / "records.txt"
    if kept.exists():
        return Path(kept.read_text().strip())
    run = Run(
        experiment=experiment,
        out=journal.directory,
        num_workers=0,
        data=arguments.data,
        records=None if arguments.records is None else arguments.records.resolve(),
        progress=None,
    )
    records = subject_of(journal.config.subject).prepare(run)
    kept.write_text(f"{records}\n")
    return records


def configured(config: SweepConfig, arguments: argparse.Namespace) -> SweepConfig:
    """Return the configuration with what the command line says."""
    said = {name: getattr(arguments, name) for name in _DIRECT if getattr(arguments, name) is not None}
    budget = {
        "amount": arguments.budget,
        "unit": arguments.unit,
        "num_rungs": arguments.rungs,
        "reduction": arguments.reduction,
    }
    confirm = {
        "top": arguments.confirm_top,
        "samples": arguments.confirm_samples,
        "seeds": arguments.confirm_seeds,
    }
    if arguments.baselines is not None:
        named = [name.strip() for name in arguments.baselines.split(",") if name.strip()]
        said["baselines"] = () if named == ["none"] else tuple(named)
    elif arguments.scheduler == "pbt":
        said["baselines"] = ()
    if arguments.space is not None and arguments.search is None:
        said["search"] = find_space(arguments.space, subject_of(config.subject).spaces).search
    return replace(
        config,
        **said,
        pareto=arguments.pareto or config.pareto,
        budget=_changed(config.budget, budget),
        confirm=_changed(config.confirm, confirm),
    )


_DIRECT = (
    *("space", "search", "scheduler", "trials", "samples", "seed"),
    *("workers_per_trial", "cpus_per_worker", "gpus_per_worker", "concurrent"),
)


def _changed(config: Any, said: dict[str, Any]) -> Any:
    assert dataclasses.is_dataclass(config)
    given = {name: value for name, value in said.items() if value is not None}
    return replace(config, **given) if given else config  # type: ignore[type-var]


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """Return the last words of a sweep."""
    counts = ", ".join(f"{number} {status}" for status, number in summary["status"].items())
    lines = [f"{summary['trials']} trials: {counts}"]
    if summary["winner"] is None:
        lines.append("no trial ran to its end: there is no winner")
    else:
        again = ""
        if "confirmed" in summary:
            again = f", second look {summary['confirmed']:.3f} [{summary['low']:.3f}, {summary['high']:.3f}]"
        lines.append(f"winner: trial {summary['winner']}, quality {summary['quality']:.3f}{again}")
        lines.extend(f"  {name} = {value}" for name, value in summary["values"].items())
    lines.append(f"page: {summary['page']}")
    return lines


__all__ = ["BudgetConfig", "ConfirmConfig", "Defaults", "main"]
