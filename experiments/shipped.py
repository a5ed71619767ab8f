"""The demos' extra stage: samples of the shipped checkpoint beside those of the minutes-old model."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.run import MofRun, Run

NOT_SHIPPED = {"status": "not_run", "reason": "no checkpoint is shipped with this version"}


def shipped_stage(run: "Run") -> dict[str, Any]:
    """Sample, decode and score with the shipped checkpoint, into `shipped/`; "not run" where none is shipped."""
    from cluster.decode import decode_stage
    from cluster.evaluate import evaluate_stage
    from cluster.sample import SHIPPED_CHECKPOINT, sample

    if not SHIPPED_CHECKPOINT.is_dir():
        return NOT_SHIPPED
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
    inner = replace(
        run,
        experiment=replace(run.experiment, name="shipped", sample=sample, evaluate=evaluate),
        out=run.out / "shipped",
        checkpoint=SHIPPED_MOF_CHECKPOINT,
        records=run.records_directory,
    )
    mof_sample(inner)
    decoded = mof_decode(inner)
    relaxed = mof_relax(inner)
    scored = mof_evaluate(inner)
    return {
        "n": decoded["n"], "status": decoded["status"], "relaxed": relaxed["status"], "waterfall": scored["waterfall"],
    }  # fmt: skip
