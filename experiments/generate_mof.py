"""`matgen generate --kind mof`: frameworks from a trained model, assembled, and relaxed where asked for."""

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matgen.errors import CheckpointError

if TYPE_CHECKING:
    from matgen.mof_config import MofExperiment

SHIPPED_MOF_CHECKPOINT = Path(__file__).resolve().parent / "checkpoints" / "mofdiff_qmof"


def generate_mofs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw frameworks; the summary has n, counts by status, and the most frequent formulas."""
    from cluster.mof_decode import mof_decode
    from cluster.mof_relax import mof_relax
    from cluster.mof_sample import mof_sample
    from cluster.parts import iterate_rows
    from experiments.cli import say
    from experiments.run import make_run

    experiment = mof_experiment(arguments)
    if arguments.checkpoint is None and not SHIPPED_MOF_CHECKPOINT.is_dir():
        raise CheckpointError("no MOF checkpoint is shipped with this version: name one with --checkpoint DIR")
    run = replace(make_run(experiment, arguments), checkpoint=arguments.checkpoint or SHIPPED_MOF_CHECKPOINT)
    sampled, decoded = mof_sample(run), mof_decode(run)
    summary: dict[str, Any] = {
        "n": decoded["n"],
        "status": decoded["status"],
        "out": str(run.out),
        "sample_seconds": sampled["seconds"],
        "decode_seconds": decoded["seconds"],
    }
    if arguments.relax:
        summary["relaxed"] = mof_relax(run)["status"]
    rows = iterate_rows(run.directory("decode"), ["status", "formula"])
    summary["formulas"] = dict(Counter(row["formula"] for row in rows if row["status"] == "ok").most_common(10))
    words = " ".join(f"{word}={count}" for word, count in summary["status"].items())
    say(arguments, f"{summary['n']} samples in {summary['out']}: {words}")
    return summary


def mof_experiment(arguments: argparse.Namespace) -> "MofExperiment":
    """Turn the options into an experiment of the stages sample, decode and relax."""
    from matgen.models.mofdiff_sampling import CoarseSamplerConfig
    from matgen.mof_config import MofExperiment, MofSampleConfig

    paper = arguments.sampler == "paper"
    sampler = CoarseSamplerConfig(
        num_steps=arguments.steps or (2000 if paper else 100), eta=1.0 if paper else 0.0, metal_nodes_as_drawn=not paper
    )
    sample = MofSampleConfig(count=arguments.count, sampler=sampler)
    return MofExperiment(name="generate", stages=("sample", "decode"), seed=arguments.seed, sample=sample)
