"""Stages of the seed comparison: two sets of samples from one checkpoint, and one table that compares them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.run import Run

MODES = ("free", "templates")


def free_stage(run: "Run") -> dict[str, Any]:
    """Sample with space group and number of orbits from the training statistics, into `free/`."""
    return _mode(run, "free", from_templates=False)


def templates_stage(run: "Run") -> dict[str, Any]:
    """Sample with a template of the training set each, into `templates/`."""
    return _mode(run, "templates", from_templates=True)


def compare_stage(run: "Run") -> dict[str, Any]:
    """Hold the two against each other, diversity of space groups and novelty, in `compare.json`."""
    from cluster.evaluate import reference_scores, score_table
    from cluster.lineage import write_text
    from matgen.evaluation.sampling_modes import compare_sampling_modes

    tables = {mode: score_table(_inner(run, mode, mode == "templates").directory("evaluate")) for mode in MODES}
    references = reference_scores(run)
    comparison = compare_sampling_modes(tables, references, run.experiment.evaluate.metrics)
    path = run.out / "compare.json"
    write_text(path, json.dumps(comparison.to_dict(), indent=1))
    figures = {mode: {metric.name: metric.value for metric in metrics} for mode, metrics in comparison.metrics.items()}
    return {
        "n": {mode: len(table["sample_id"]) for mode, table in tables.items()},
        "metrics": figures,
        "out": str(path),
    }


def _mode(run: "Run", mode: str, *, from_templates: bool) -> dict[str, Any]:
    from cluster.decode import decode_stage
    from cluster.evaluate import evaluate_stage
    from cluster.sample import sample

    inner = _inner(run, mode, from_templates)
    sample(inner)
    decoded = decode_stage(inner)
    scored = evaluate_stage(inner)
    return {"n": decoded["n"], "status": decoded["status"], "metrics": scored["metrics"]}


def _inner(run: "Run", mode: str, from_templates: bool) -> "Run":
    from cluster.sample import SHIPPED_CHECKPOINT

    experiment = replace(
        run.experiment,
        name=f"{run.experiment.name}_{mode}",
        sample=replace(run.experiment.sample, templates_from_training_set=from_templates),
    )
    checkpoint: Path = run.checkpoint or SHIPPED_CHECKPOINT
    return replace(run, experiment=experiment, out=run.out / mode, checkpoint=checkpoint, records=run.records_directory)
