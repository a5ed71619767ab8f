"""`matgen decompose`."""

import argparse
from dataclasses import replace
from typing import Any


def decompose_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Cut given frameworks into building blocks; the summary has n, ok and counts by status."""
    from cluster.campaign import CampaignConfig
    from cluster.decompose import DecomposeRunConfig, decompose_all
    from cluster.run import available_cpus
    from experiments.cli import say

    config = DecomposeRunConfig(limit=arguments.limit)
    if arguments.keep_bound_solvent:
        config = replace(config, decompose=replace(config.decompose, remove_bound_solvent=False))
    if arguments.max_conformers is not None:
        config = replace(config, packing=replace(config.packing, max_conformers=arguments.max_conformers))
    workers = arguments.workers if arguments.workers is not None else available_cpus()
    campaign = CampaignConfig(num_workers=workers, description="decompose", progress=False if arguments.quiet else None)
    summary = decompose_all(
        arguments.path, arguments.out, config, campaign, arguments.command_line, arguments.overwrite
    )
    say(arguments, f"{summary['ok']} of {summary['n']} were cut ({100 * summary['ok'] / summary['n']:.1f} %)")
    for word, count in summary["status"].items():
        say(arguments, f"  {word:24s} {count}")
    blocks = summary["blocks"]
    say(arguments, f"{blocks['identities']} identities, {blocks['kept']} shapes of {blocks['blocks']} blocks")
    say(arguments, f"one row per structure: {summary['table']}; pictures of the blocks: {summary['page']}")
    return summary
