"""`matgen reconstruct`."""

import argparse
from dataclasses import replace
from typing import Any

from matgen.errors import ConfigError


def reconstruct_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Encode and decode given crystals, or cut and assemble given frameworks; the summary has counts by status."""
    if arguments.kind == "mof":
        return _reconstruct_mofs(arguments)
    for option in ("perturb", "library", "seed"):
        if getattr(arguments, option):
            raise ConfigError(f"--{option} is for frameworks: it needs --kind mof")
    from cluster.campaign import CampaignConfig
    from cluster.reconstruct import ReconstructConfig, reconstruct
    from cluster.run import available_cpus
    from experiments.cli import say

    config = ReconstructConfig(limit=arguments.limit)
    if arguments.symprec is not None:
        config = replace(config, encode=replace(config.encode, symprec=arguments.symprec))
    workers = arguments.workers if arguments.workers is not None else available_cpus()
    campaign = CampaignConfig(
        num_workers=workers, description="reconstruct", progress=False if arguments.quiet else None
    )
    summary = reconstruct(arguments.path, arguments.out, config, campaign, arguments.command_line, arguments.overwrite)
    say(
        arguments, f"{summary['matched']} of {summary['n']} came back ({100 * summary['matched'] / summary['n']:.2f} %)"
    )
    for word, count in summary["status"].items():
        say(arguments, f"  {word:24s} {count}")
    say(arguments, f"one row per structure: {summary['table']}")
    return summary


def _reconstruct_mofs(arguments: argparse.Namespace) -> dict[str, Any]:
    from cluster.campaign import CampaignConfig
    from cluster.reconstruct_mof import ReconstructMofConfig, reconstruct_mofs
    from cluster.run import available_cpus
    from experiments.cli import say
    from matgen.mof.assembly.perturb import PerturbConfig

    if arguments.symprec is not None:
        raise ConfigError("--symprec is for crystals: frameworks are cut and assembled without symmetry")
    perturb = PerturbConfig() if arguments.perturb else None
    config = ReconstructMofConfig(
        limit=arguments.limit, seed=arguments.seed, perturb=perturb, library=arguments.library
    )
    workers = arguments.workers if arguments.workers is not None else available_cpus()
    campaign = CampaignConfig(
        num_workers=workers, description="reconstruct", progress=False if arguments.quiet else None
    )
    summary = reconstruct_mofs(
        arguments.path, arguments.out, config, campaign, arguments.command_line, arguments.overwrite
    )
    say(arguments, f"of {summary['n']} structures {summary['decomposed']} were cut, {summary['closed']} closed again")
    if not arguments.perturb:
        say(arguments, f"{summary['matched']} match the original (StructureMatcher, stol 0.5, ltol 0.3, angle 10)")
    for word, count in summary["status"].items():
        say(arguments, f"  {word:24s} {count}")
    say(arguments, f"one row per structure: {summary['table']}")
    return summary
