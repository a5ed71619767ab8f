"""`matgen generate`: samples and crystals from a trained model."""

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matgen.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from matgen.config import Experiment


def generate_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw crystals, or frameworks; the summary has n, counts by status, rates and the most frequent formulas."""
    if arguments.kind == "mof":
        from experiments.generate_mof import generate_mofs

        return generate_mofs(arguments)
    from cluster.decode import decode_stage
    from cluster.relax import relax_stage
    from cluster.sample import SHIPPED_CHECKPOINT, sample
    from experiments.cli import say
    from experiments.run import make_run

    experiment = generate_experiment(arguments)
    if arguments.checkpoint is None and not SHIPPED_CHECKPOINT.is_dir():
        raise CheckpointError("no checkpoint is shipped with this version: train one and name it with --checkpoint DIR")
    run = replace(make_run(experiment, arguments), checkpoint=arguments.checkpoint or SHIPPED_CHECKPOINT)
    sampled, decoded = sample(run), decode_stage(run)
    summary: dict[str, Any] = {
        "n": decoded["n"],
        "status": decoded["status"],
        "out": str(run.out),
        "sample_seconds": sampled["seconds"],
        "decode_seconds": decoded["seconds"],
    }
    if arguments.relax:
        summary["relaxed"] = relax_stage(run)["status"]
    summary |= _contents(run.directory("decode"))
    if arguments.export:
        from experiments.export import export_directory

        summary["export"] = export_directory(run.out, arguments.export, None, p1=False, overwrite=arguments.overwrite)
    say(arguments, table_text(summary))
    return summary


def generate_experiment(arguments: argparse.Namespace) -> "Experiment":
    """Turn the options into an experiment of the stages sample and decode.

    Raises:
        ConfigError: options that contradict each other.
    """
    from matgen.config import Experiment, SampleConfig
    from matgen.diffusion.sampler import SamplerConfig
    from matgen.models.requests import fast_sampler

    paper = arguments.sampler == "paper"
    base = SamplerConfig(num_steps=1000, corrector_steps=1) if paper else fast_sampler()
    sampler = base if arguments.steps is None else replace(base, num_steps=arguments.steps)
    groups = tuple(number for numbers in arguments.space_group for number in numbers)
    if arguments.template and groups:
        raise ConfigError("a template has its own space group: give --template or --space-group, not both")
    try:
        config: SampleConfig = SampleConfig(
            count=arguments.count,
            space_groups=groups,
            space_group_temperature=arguments.temperature or 1.0,
            elements=tuple(arguments.elements),
            require_elements=tuple(arguments.require_elements),
            forbid_elements=tuple(arguments.forbid_elements),
            template=arguments.template,
            sampler=sampler,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    stages = ("sample", "decode", "relax") if arguments.relax else ("sample", "decode")
    return Experiment(name="generate", stages=stages, seed=arguments.seed, sample=config)


def _contents(directory: Path) -> dict[str, Any]:
    from cluster.parts import iterate_rows

    formulas: Counter[str] = Counter()
    groups: Counter[int] = Counter()
    num_atoms = 0
    for row in iterate_rows(directory, ["status", "formula", "space_group_number", "num_atoms"]):
        if row["status"] == "ok":
            formulas[row["formula"]] += 1
            groups[row["space_group_number"]] += 1
            num_atoms += row["num_atoms"]
    return {
        "num_formulas": len(formulas),
        "formulas": dict(formulas.most_common(10)),
        "space_groups": {str(group): count for group, count in groups.most_common(10)},
        "mean_atoms": round(num_atoms / max(1, sum(formulas.values())), 2),
    }


def table_text(summary: dict[str, Any]) -> str:
    """Return the short table for a person."""
    rate = summary["n"] / max(summary["sample_seconds"] + summary["decode_seconds"], 1e-9)
    lines = [f"{summary['n']} samples ({rate:.2f} a second) in {summary['out']}"]
    lines += [f"  {word:20s} {count}" for word, count in summary["status"].items()]
    lines.append(f"{summary['num_formulas']} formulas, {summary['mean_atoms']} atoms a conventional cell")
    lines.append("  formulas      " + " ".join(f"{name} ({count})" for name, count in summary["formulas"].items()))
    lines.append("  space groups  " + " ".join(f"{name} ({count})" for name, count in summary["space_groups"].items()))
    return "\n".join(lines)
