"""`matgen evaluate`: score structures from anywhere."""

import argparse
from dataclasses import replace
from typing import Any

from matgen.errors import ConfigError, StageError


def evaluate_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Score samples against a reference; the summary has n, counts by status, and the metrics."""
    from cluster.evaluate import evaluate
    from cluster.populations import SampledPopulation, open_population
    from cluster.run import Run, available_cpus
    from experiments.cli import say
    from matgen.config import Experiment
    from matgen.evaluation.summary import Summary, format_summary

    experiment = Experiment(name="evaluate", stages=("evaluate",))
    for assignment in arguments.set:
        if not assignment.startswith("evaluate."):
            raise ConfigError(f"matgen evaluate takes settings of the group evaluate only, not {assignment!r}")
        experiment = experiment.set(assignment)
    samples = open_population(arguments.samples)
    reference = open_population(arguments.reference)
    train = open_population(arguments.train) if arguments.train else reference
    for population, name in ((samples, arguments.samples), (reference, arguments.reference)):
        if not population.shards():
            raise StageError(f"{name} holds no structure")
    run = Run(
        experiment=experiment,
        out=arguments.out,
        num_workers=arguments.workers if arguments.workers is not None else available_cpus(),
        overwrite=arguments.overwrite,
        command=arguments.command_line,
        progress=False if arguments.quiet else None,
    )
    inputs = {"samples": samples.identity, "reference": reference.identity, "train": train.identity}
    lineage = run.open_stage("evaluate", experiment.evaluate, inputs)
    out = run.directory("evaluate")
    if not lineage.complete:
        config = replace(experiment.evaluate)
        energies = isinstance(samples, SampledPopulation) and samples.has_energies
        hull = "the one of the stage relax" if energies else None
        evaluate(samples, train, reference, out, config, lineage, run.campaign("evaluate"), hull=hull)
    summary = Summary.load(out / "summary.json")
    say(arguments, format_summary(summary))
    return {
        "n": summary.num_samples,
        "status": summary.statuses,
        "metrics": {metric.name: metric.value for metric in summary.metrics if metric.status == "ok"},
        "not_run": {metric.name: metric.reason for metric in summary.metrics if metric.status != "ok"},
        "out": str(out),
    }
