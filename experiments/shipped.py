"""The demo's extra stage: samples of the shipped checkpoint beside those of the minutes-old model."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.run import Run


def shipped_stage(run: "Run") -> dict[str, Any]:
    """Sample, decode and score with the shipped checkpoint, into `shipped/`; "not run" where none is shipped."""
    from cluster.decode import decode_stage
    from cluster.evaluate import evaluate_stage
    from cluster.sample import SHIPPED_CHECKPOINT, sample

    if not SHIPPED_CHECKPOINT.is_dir():
        return {"status": "not_run", "reason": "no checkpoint is shipped with this version"}
    sampler = replace(run.experiment.sample.sampler, num_steps=100)
    experiment = replace(run.experiment, name="shipped", sample=replace(run.experiment.sample, sampler=sampler))
    inner = replace(
        run,
        experiment=experiment,
        out=run.out / "shipped",
        checkpoint=SHIPPED_CHECKPOINT,
        records=run.records_directory,
    )
    sample(inner)
    decoded = decode_stage(inner)
    scored = evaluate_stage(inner)
    return {"n": decoded["n"], "status": decoded["status"], "metrics": scored["metrics"]}
