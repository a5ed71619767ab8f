"""The command of the sweeps: begin one or go on with one, run it to its end, write its results."""

import argparse
import contextlib
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.run import Run, available_cpus
from experiments.listing import find_experiment, read_experiment
from matgen.errors import ConfigError, MatgenError, StageError
from sweeps.arguments import Defaults, build_parser, configured
from sweeps.journal import Journal, SweepConfig, claimed, create_sweep, digest, open_sweep
from sweeps.schedulers import check_population
from sweeps.search import check_grid, default_values
from sweeps.spaces import Space, find_space
from sweeps.subjects import subject_of
from sweeps.trial import load_reference, save_reference
from sweeps.work import TrialWork

logger = logging.getLogger(__name__)


def main(defaults: Defaults, description: str, argv: Sequence[str] | None = None) -> int:
    """Run a sweep.

    Returns:
        The exit code: 0, 2 for an error that its one line explains, 130 after an interruption.
    """
    parser = build_parser(defaults, description)
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(words, argparse.Namespace(words=words))
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
    from sweeps.results import write_results

    with contextlib.ExitStack() as stack:
        if arguments.resume:
            stack.enter_context(claimed(arguments.resume.resolve()))
            journal, experiment, space = _resumed(arguments)
        else:
            journal, experiment, space = _begun(defaults, arguments)
            stack.enter_context(claimed(journal.directory))
        work = _run(arguments, journal, experiment, space)
        return write_results(journal, work, space)


def _run(arguments: argparse.Namespace, journal: Journal, experiment: Any, space: Space) -> TrialWork:
    """Run what is left of a sweep in a Ray of its own or in the cluster that it joins."""
    from cluster.session import ray_session
    from sweeps.observer import candidates
    from sweeps.runner import check_cluster, prepare_tune, run_second_look, run_trials
    from sweeps.watch import Watch

    config = journal.config
    prepare_tune()
    slots = available_cpus()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(ray_session(slots, address=arguments.address))
            check_cluster(config)
            work = _prepared(arguments, journal, experiment, space)
        except MatgenError:
            if not arguments.resume:  # this sweep is not begun yet: leave room for the corrected command
                shutil.rmtree(journal.directory)
            raise
        total = config.trials + len(config.baselines)
        watch = Watch(journal, f"{experiment.name}-{journal.directory.name}", total=total)
        run_trials(work, journal, space, default_values(space, journal.experiment), watch)
        run_second_look(work, journal, candidates(journal), watch)
    return work


def _prepared(arguments: argparse.Namespace, journal: Journal, experiment: Any, space: Space) -> TrialWork:
    """Return what trials need, with the records and the reference made where they are not there yet."""
    records = _records(arguments, journal, experiment)
    reference = journal.directory / "reference.npz"
    if not reference.exists():
        save_reference(reference, subject_of(journal.config.subject).reference(records))
    load_reference(reference)
    return TrialWork(
        config=journal.config,
        space=space,
        experiment=experiment,
        directory=str(journal.directory),
        records=str(records),
    )


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
    space = find_space(config.space, subject.spaces).only(config.only)
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
    sources = {name: getattr(arguments, name) for name in ("data", "records")}
    sources = {name: str(path.resolve()) for name, path in sources.items() if path is not None}
    return create_sweep(out, config, experiment, space, sources, arguments.words), experiment, space


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
    space = find_space(journal.config.space, subject.spaces).only(journal.config.only)
    if about["space"]["digest"] != digest(space):
        raise StageError(f"{arguments.resume}: the space {space.name!r} has changed since; begin anew with --out")
    if arguments.trials is not None:
        if arguments.trials < journal.config.trials:
            raise ConfigError(f"--trials {arguments.trials}: the sweep has {journal.config.trials} already")
        journal.config = replace(journal.config, trials=arguments.trials)
    for name, path in about["sources"].items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, Path(path))
    return journal, subject.read(journal.experiment), space


def _records(arguments: argparse.Namespace, journal: Journal, experiment: Any) -> Path:
    """Return the folder of records, made in the sweep's directory unless another was named."""
    kept = journal.directory / "records.txt"
    if kept.exists():
        records = Path(kept.read_text().strip())
        if not records.is_dir():
            raise StageError(f"{kept}: the records {str(records)!r} that the trials were trained on are not there")
        return records
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
