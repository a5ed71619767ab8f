"""`matgen relax`."""

import argparse
from dataclasses import replace
from typing import Any


def relax_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Relax given frameworks with UFF4MOF; the summary has n, ok and counts by status."""
    from cluster.campaign import CampaignConfig
    from cluster.relax_mof import RelaxMofConfig, relax_mofs
    from cluster.run import available_cpus
    from experiments.cli import say

    config = RelaxMofConfig(limit=arguments.limit)
    settings = replace(config.relax, engine=arguments.engine)
    if arguments.max_steps is not None:
        settings = replace(settings, max_steps=arguments.max_steps)
    if arguments.deadline is not None:
        settings = replace(settings, lammps=replace(settings.lammps, deadline_s=arguments.deadline))
    config = replace(config, relax=settings)
    workers = arguments.workers if arguments.workers is not None else available_cpus()
    row_deadline = 1.5 * settings.lammps.deadline_s  # LAMMPS ends at its own deadline first
    campaign = CampaignConfig(
        num_workers=workers,
        description="relax",
        row_deadline_s=row_deadline,
        shard_deadline_s=row_deadline * config.shard_size,
        progress=False if arguments.quiet else None,
    )
    summary = relax_mofs(arguments.path, arguments.out, config, campaign, arguments.command_line, arguments.overwrite)
    share = 100 * summary["ok"] / summary["n"]
    say(arguments, f"{summary['ok']} of {summary['n']} relaxed ({share:.1f} %); {arguments.force_field}")
    for word, count in summary["status"].items():
        say(arguments, f"  {word:24s} {count}")
    say(arguments, f"{summary['types_guessed']} hold atoms whose environment no published type covers")
    say(arguments, f"one row per structure: {summary['table']}")
    return summary
