"""`matgen build-mofs`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.arguments import AddCommand, _add_overwrite, _add_workers, count, positive


def names(text: str) -> list[str]:
    """Parse names, comma- or space-separated."""
    return text.replace(",", " ").split()


def add_build_mofs(command: AddCommand) -> None:
    """matgen build-mofs."""
    parser = command(
        "build-mofs",
        "experiments.build_mofs:build_mofs_command",
        "make hypothetical metal-organic frameworks from building blocks and nets (PORMAKE, an extra)",
        "  matgen build-mofs --count 1000 --out hypothetical\n"
        "  matgen build-mofs --count 100000 --nets pcu,dia,tbo --max-atoms 500 --workers 16 --out hypothetical\n"
        "  matgen decompose hypothetical/mofs --out blocks\n"
        "  matgen run mofdiff_qmof --set preprocess.source=hypothetical/mofs --out runs/hypothetical\n",
    )
    parser.add_argument("--count", type=count, required=True, help="frameworks to make: one row each, good or not")
    parser.add_argument("--out", type=Path, required=True, help="directory; the structures are in mofs/ below it")
    parser.add_argument("--nets", type=names, help="RCSR symbols, as in pcu,dia,tbo; or all (default: 39 common ones)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same frameworks (default: 0)")
    parser.add_argument("--max-atoms", type=count, help="in the primitive cell (default: 1000)")
    parser.add_argument("--max-rmsd", type=positive, help="of a block on its vertex, unit vectors (default: 0.2)")
    parser.add_argument("--relax", action="store_true", help="relax with UFF4MOF as well; failures get its status")
    parser.add_argument("--deadline", type=positive, default=120.0, help="seconds for one framework (default: 120)")
    _add_workers(parser)
    _add_overwrite(parser)


def build_mofs_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Build hypothetical frameworks; the summary has n, ok, counts by status and by net."""
    from cluster.build_mofs import BuildMofsConfig, build_mofs
    from cluster.campaign import CampaignConfig
    from cluster.run import available_cpus
    from experiments.cli import say
    from matgen.mof.hypothetical.draw import DrawConfig
    from matgen.mof.hypothetical.pormake import net_names
    from matgen.relaxation.uff_relax import UffRelaxConfig

    draw = DrawConfig()
    if arguments.nets is not None:
        draw = replace(draw, nets=net_names() if arguments.nets == ["all"] else tuple(arguments.nets))
    if arguments.max_atoms is not None:
        draw = replace(draw, max_atoms=arguments.max_atoms)
    if arguments.max_rmsd is not None:
        draw = replace(draw, max_rmsd=arguments.max_rmsd)
    config = BuildMofsConfig(
        count=arguments.count,
        draw=draw,
        relax=UffRelaxConfig() if arguments.relax else None,
        seed=arguments.seed,
    )
    campaign = CampaignConfig(
        num_workers=arguments.workers if arguments.workers is not None else available_cpus(),
        description="build-mofs",
        row_deadline_s=arguments.deadline,
        shard_deadline_s=arguments.deadline * config.shard_size,
        progress=False if arguments.quiet else None,
    )
    summary = build_mofs(arguments.out, config, campaign, arguments.command_line, arguments.overwrite)
    share = 100 * summary["ok"] / summary["n"]
    say(arguments, f"{summary['ok']} of {summary['n']} were built ({share:.1f} %), {summary['distinct']} distinct")
    for word, number in summary["status"].items():
        say(arguments, f"  {word:24s} {number}")
    say(arguments, f"structures: {summary['out']} (matgen decompose {summary['out']} --out blocks)")
    return summary
