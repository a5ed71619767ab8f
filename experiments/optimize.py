"""`matgen optimize`: frameworks with a wanted property, and what they have of it once they are assembled."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.arguments import _add_overwrite, _add_shards, _add_workers, _integer, count
from matgen.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from cluster.run import MofRun
    from matgen.mof_config import MofExperiment

EXAMPLES = (
    "  matgen optimize --property void_fraction --target 0.8 --count 200 --out porous\n"
    "  matgen optimize --property pore_limiting_diameter --maximize --checkpoint runs/qmof/checkpoint --out wide\n"
    "  matgen optimize --property accessible_surface_area --target 3000 --way conditional --out surface\n"
    "  matgen optimize --property void_fraction --target 0.8 --relax --workers 2 --json --out relaxed\n"
)


def add_optimize(command: Callable[..., argparse.ArgumentParser]) -> None:
    """matgen optimize."""
    parser = command(
        "optimize",
        "experiments.optimize:optimize_command",
        "draw frameworks with a wanted property, assemble them, and measure what they have of it",
        EXAMPLES,
    )
    what = parser.add_argument_group("what to ask for")
    what.add_argument("--property", required=True, metavar="NAME", help="one that the model has learnt")
    goal = what.add_mutually_exclusive_group(required=True)
    goal.add_argument("--target", type=float, metavar="VALUE", help="the value wanted, in the property's own unit")
    goal.add_argument("--maximize", action="store_true", help="as much as possible")
    goal.add_argument("--minimize", action="store_true", help="as little as possible")
    parser.add_argument("--count", type=count, default=100, help="samples to draw (default: 100)")
    parser.add_argument("--out", type=Path, required=True, help="directory for samples/, structures/ and achieved/")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--way",
        choices=["latent", "conditional"],
        default="latent",
        help="move latents by the model's property head (default), or draw them given the target",
    )
    how.add_argument(
        "--start",
        choices=["auto", "training", "prior"],
        default="auto",
        help="latent: begin at encoded training frameworks or at draws of the prior (default: the first that is there)",
    )
    how.add_argument("--steps", type=count, help="latent: steps of Adam (default: 300)")
    how.add_argument("--prior-weight", type=float, help="latent: how strongly latents stay plausible (default: 1)")
    how.add_argument("--guidance", type=float, help="conditional: 0 draws plainly, more sharpens (default: 1)")
    how.add_argument("--sampler-steps", type=count, help="reverse steps of the sampler (default: 100)")
    how.add_argument("--checkpoint", type=Path, help="directory of a trained model (default: the one shipped)")
    how.add_argument("--seed", type=_integer, default=0, help="the same seed gives the same frameworks (default: 0)")
    how.add_argument("--relax", action="store_true", help="relax with UFF4MOF before measuring")
    _add_shards(how)
    _add_workers(how, 0)
    _add_overwrite(how)


def optimize_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw, assemble and measure; the summary has n, counts by status, and what was achieved, with its interval."""
    from experiments.cli import say
    from experiments.generate_mof import SHIPPED_MOF_CHECKPOINT
    from experiments.run import make_run

    experiment = optimize_experiment(arguments)
    if arguments.checkpoint is None and not SHIPPED_MOF_CHECKPOINT.is_dir():
        raise CheckpointError("no MOF checkpoint is shipped with this version: name one with --checkpoint DIR")
    run = replace(make_run(experiment, arguments), checkpoint=arguments.checkpoint or SHIPPED_MOF_CHECKPOINT)
    summary = optimized(run, relax=arguments.relax)
    say(arguments, table_text(summary))
    return summary


def optimized(run: "MofRun", *, relax: bool) -> dict[str, Any]:
    """Run the stages of property-driven generation, one after the other.

    Args:
        run: an experiment with `optimize`.
        relax: before measuring.

    Returns:
        The summary of the last stage, with the counts by status of all, and a warning about the target.
    """
    from cluster.mof_achieve import mof_achieve
    from cluster.mof_decode import mof_decode
    from cluster.mof_optimize import mof_optimize
    from cluster.mof_relax import mof_relax

    drawn = mof_optimize(run)
    made = mof_decode(run)
    if relax:
        made = mof_relax(run)
    achieved = mof_achieve(run)
    words = {key: value for key, value in achieved.items() if key not in ("n", "status", *_OF_THE_CAMPAIGN)}
    warned = {"warning": drawn["warning"]} if drawn.get("warning") else {}
    return {
        "n": achieved["n"],
        "status": made["status"],
        **words,
        "training_range": drawn.get("training_range"),
        **warned,
        "out": str(run.out),
    }


_OF_THE_CAMPAIGN = ("shards", "shards_resumed", "actor_deaths", "timeouts", "seconds", "busy_seconds", "busy_share")


def optimize_experiment(arguments: argparse.Namespace) -> "MofExperiment":
    """Turn the options into an experiment of the stages sample, decode, relax and achieve.

    Raises:
        ConfigError: a setting out of its range.
    """
    from matgen.models.mofdiff_optimise import OptimiseConfig
    from matgen.models.mofdiff_sampling import CoarseSamplerConfig
    from matgen.mof_config import MofDecodeConfig, MofExperiment, MofOptimizeConfig, MofSampleConfig, TrialConfig

    given = {"num_steps": arguments.steps, "prior_weight": arguments.prior_weight}
    sampling = {"num_steps": arguments.sampler_steps, "guidance": arguments.guidance}
    try:
        latent = OptimiseConfig(**{name: value for name, value in given.items() if value is not None})
        sampler = CoarseSamplerConfig(**{name: value for name, value in sampling.items() if value is not None})
    except ValueError as error:
        raise ConfigError(str(error)) from error
    goal = "maximize" if arguments.maximize else "minimize" if arguments.minimize else "target"
    return MofExperiment(
        name="optimize",
        stages=("sample", "decode", "relax") if arguments.relax else ("sample", "decode"),
        seed=arguments.seed,
        sample=MofSampleConfig(count=arguments.count, sampler=sampler),
        optimize=MofOptimizeConfig(
            property=arguments.property,
            target=arguments.target,
            goal=goal,  # type: ignore[arg-type]
            way=arguments.way,
            start=arguments.start,
            latent=latent,
        ),
        # what is measured is the property: frameworks are not picked for their pores
        decode=MofDecodeConfig(trial=TrialConfig(least_pore_limiting_diameter=0.0)),
    )


def table_text(summary: dict[str, Any]) -> str:
    """Return the short table for a person."""
    words = " ".join(f"{word}={count}" for word, count in summary["status"].items())
    lines = [f"{summary['n']} samples in {summary['out']}: {words}"]
    lines.append(f"{summary['property']}, asked for: {summary['target']}, by way {summary['way']}")
    for name, label in (("predicted_mean", "predicted"), ("achieved_mean", "achieved"), ("miss", "off by")):
        value, interval = summary.get(name), summary.get(f"{name}_interval")
        if value is not None and interval is not None:
            lines.append(f"  {label:10s} {value:.4g}  (95 %: {interval[0]:.4g} to {interval[1]:.4g})")
        elif name in summary["not_run"]:
            lines.append(f"  {label:10s} not run: {summary['not_run'][name]}")
    return "\n".join([*lines, *([f"warning: {summary['warning']}"] if "warning" in summary else [])])
