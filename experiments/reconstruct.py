"""`matgen reconstruct`."""

import argparse
from dataclasses import replace
from typing import Any


def reconstruct_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Encode and decode given crystals; the summary has n, ok, matched and counts by status."""
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
