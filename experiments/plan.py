"""`matgen plan`: what a campaign will cost, before it is run."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.arguments import AddCommand, count, positive, workers
from experiments.status import duration

if TYPE_CHECKING:
    from cluster.plan import Plan

SCALES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


def add_plan(command: AddCommand) -> None:
    """matgen plan."""
    parser = command(
        "plan",
        "experiments.plan:plan_command",
        "predict time, node-hours, storage and the bottleneck of a campaign from measured rates",
        "  matgen plan runs/qmof --count 1e6 --nodes 64 --cpus 32 --gpus 4\n"
        "  matgen plan runs/qmof --count 1e6 --scaling      (1 to 1,000 nodes)\n",
    )
    parser.add_argument("run", type=Path, metavar="DIR", help="a finished run whose measured rates are taken")
    parser.add_argument("--count", type=count, required=True, help="samples")
    parser.add_argument("--nodes", type=count, default=1, help="(default: 1)")
    parser.add_argument("--cpus", type=count, default=32, help="of a node (default: 32)")
    parser.add_argument("--gpus", type=workers, default=0, help="of a node (default: 0: networks run on CPUs)")
    parser.add_argument("--gpu-speed", type=positive, default=20.0, help="a GPU in CPUs, for networks (default: 20)")
    parser.add_argument("--cpu-speed", type=positive, default=1.0, help="a CPU in those of the run (default: 1)")
    parser.add_argument("--shard-size", type=count, help="samples of a shard (default: the run's)")
    parser.add_argument("--scaling", action="store_true", help="for 1 to 1,000 nodes")


def plan_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Predict; the summary has every stage's figures."""
    from cluster.plan import Machine, measured_costs, simulate
    from experiments.cli import say

    costs = measured_costs(arguments.run)
    machine = Machine(
        nodes=arguments.nodes,
        cpus=arguments.cpus,
        gpus=arguments.gpus,
        cpu_speed=arguments.cpu_speed,
        gpu_speed=arguments.gpu_speed,
    )
    sizes = [replace(machine, nodes=nodes) for nodes in SCALES] if arguments.scaling else [machine]
    plans = [simulate(costs, size, arguments.count, arguments.shard_size) for size in sizes]
    if arguments.scaling:
        say(arguments, scaling_text(plans))
    else:
        say(arguments, plan_text(plans[0]))
    return {"plans": [{**asdict(plan), "node_hours": plan.node_hours} for plan in plans]}


def plan_text(plan: "Plan") -> str:
    """Return the page for a person."""
    lines = [f"{plan.count} samples on {plan.machine.nodes} nodes, shards of {plan.shard_size}:"]
    lines += [
        f"  {stage.stage:10s} {duration(stage.seconds):>10s}  on {stage.num_workers} workers, "
        f"busy {stage.busy_share:.0%}  ({stage.seconds_per_row:.3g} s a row measured over {stage.rows_measured})"
        for stage in plan.stages
    ]
    lines.append(
        f"  in all     {duration(plan.seconds):>10s}  {plan.node_hours:.4g} node-hours  {plan.bytes / 1e9:.3g} GB"
    )
    lines.append(f"  bottleneck: {plan.bottleneck}")
    return "\n".join(lines)


def scaling_text(plans: "list[Plan]") -> str:
    """Return the table of a scaling curve."""
    first = plans[0]
    lines = [f"{first.count} samples, shards of {first.shard_size}", " nodes        time  node-hours  efficiency"]
    for plan in plans:
        efficiency = first.node_hours / plan.node_hours
        lines.append(
            f"{plan.machine.nodes:6d}  {duration(plan.seconds):>10s}  {plan.node_hours:10.4g}  {efficiency:9.0%}"
        )
    return "\n".join(lines)
