"""The demos' extra stage: samples of the shipped checkpoint beside those of the minutes-old model."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from cluster.run import MofRun, Run

AnyRun = TypeVar("AnyRun", "Run", "MofRun")
NOT_SHIPPED = {"status": "not_run", "reason": "no checkpoint is shipped with this version"}


def shipped_stage(run: "Run") -> dict[str, Any]:
    """Sample, decode and score with the shipped checkpoint, into `shipped/`; "not run" where none is shipped."""
    from cluster.decode import decode_stage
    from cluster.evaluate import evaluate_stage
    from cluster.sample import SHIPPED_CHECKPOINT, sample

    if not SHIPPED_CHECKPOINT.is_dir():
        return NOT_SHIPPED
    sampler = replace(run.experiment.sample.sampler, num_steps=100)
    inner = _with_checkpoint(run, SHIPPED_CHECKPOINT, sample=replace(run.experiment.sample, sampler=sampler))
    sample(inner)
    decoded = decode_stage(inner)
    scored = evaluate_stage(inner)
    return {"n": decoded["n"], "status": decoded["status"], "metrics": scored["metrics"]}


def shipped_mofs_stage(run: "MofRun") -> dict[str, Any]:
    """The same for frameworks, relaxed too; the data are scored once, by the run's own stage evaluate."""
    from cluster.mof_decode import mof_decode
    from cluster.mof_evaluate import mof_evaluate
    from cluster.mof_relax import mof_relax
    from cluster.mof_sample import mof_sample
    from experiments.generate_mof import SHIPPED_MOF_CHECKPOINT

    if not SHIPPED_MOF_CHECKPOINT.is_dir():
        return NOT_SHIPPED
    sample = replace(run.experiment.sample, sampler=replace(run.experiment.sample.sampler, num_steps=100), target=())
    evaluate = replace(run.experiment.evaluate, reference_limit=0)
    inner = _with_checkpoint(run, SHIPPED_MOF_CHECKPOINT, sample=sample, evaluate=evaluate)
    mof_sample(inner)
    decoded = mof_decode(inner)
    relaxed = mof_relax(inner)
    scored = mof_evaluate(inner)
    return {
        "n": decoded["n"], "status": decoded["status"], "relaxed": relaxed["status"], "waterfall": scored["waterfall"],
    }  # fmt: skip


def _with_checkpoint(run: AnyRun, checkpoint: Path, **changes: Any) -> AnyRun:
    """The run in `shipped/`, on the same records, with another checkpoint; `changes` are of its experiment."""
    experiment = replace(run.experiment, name="shipped", **changes)
    return replace(
        run, experiment=experiment, out=run.out / "shipped", checkpoint=checkpoint, records=run.records_directory
    )
