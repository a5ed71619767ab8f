"""Stages of the property comparison: three sets of frameworks from one checkpoint, one table, one page."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from cluster.run import MofRun

WAYS = ("latent", "conditional", "random")


def latent_stage(run: "MofRun") -> dict[str, Any]:
    """Move latents by the property head, and make frameworks of them, into `latent/`."""
    return _drawn(run, "latent")


def conditional_stage(run: "MofRun") -> dict[str, Any]:
    """Draw frameworks given the target, into `conditional/`."""
    return _drawn(run, "conditional")


def random_stage(run: "MofRun") -> dict[str, Any]:
    """Draw frameworks without asking for anything, into `random/`."""
    return _drawn(run, "random")


def compare_stage(run: "MofRun") -> dict[str, Any]:
    """Hold them against each other, achieved values with intervals, in `compare.json` and `compare.html`."""
    from cluster.lineage import require_stage, write_text
    from cluster.mof_achieve import achieved_table
    from experiments.mof_comparison_page import comparison_page
    from matgen.evaluation.achieved import compare_ways

    config = run.experiment.optimize
    folders = {way: _inner(run, way).directory("achieve") for way in WAYS}
    for folder in folders.values():
        require_stage(folder, "achieve")
    tables = {way: achieved_table(folder) for way, folder in folders.items()}
    reference = training_values(run)
    comparison = compare_ways(tables, config.target if config.goal == "target" else None, reference)
    write_text(run.out / "compare.json", json.dumps(comparison.to_dict(), indent=1) + "\n")
    write_text(run.out / "compare.html", comparison_page(comparison, tables, reference, config))
    return {
        "n": {way: len(table["sample_id"]) for way, table in tables.items()},
        "metrics": {way: {m.name: m.value for m in metrics} for way, metrics in comparison.metrics.items()},
        "out": str(run.out / "compare.html"),
    }


def training_values(run: "MofRun") -> "np.ndarray | None":
    """Known values of the property in the training set beside the checkpoint; None where there is none."""
    import numpy as np

    from cluster.mof_optimize import embedded_directory
    from matgen.data.mof_records import CoarseRecords

    folder = embedded_directory(run)
    if folder is None:
        return None
    records = CoarseRecords.load(folder / "coarse_train.safetensors")
    values = records.properties[:, records.property_names.index(run.experiment.optimize.property)]
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


def _drawn(run: "MofRun", way: str) -> dict[str, Any]:
    from experiments.optimize import optimized

    return optimized(_inner(run, way), relax=run.experiment.relax.limit != 0)


def _inner(run: "MofRun", way: str) -> "MofRun":
    experiment = run.experiment
    optimize = replace(experiment.optimize, way=way)  # type: ignore[arg-type]
    return replace(
        run,
        experiment=replace(experiment, name=f"{experiment.name}_{way}", optimize=optimize),
        out=run.out / way,
        checkpoint=run.checkpoint or run.directory("train"),
    )
