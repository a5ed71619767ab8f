"""What runs inside Ray: a trial in the actor that Tune gave it, or as a Ray Train run of several workers."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matgen.errors import ConfigError
from matgen.settings import to_dict
from sweeps.journal import SweepConfig
from sweeps.spaces import Space
from sweeps.subjects import subject_of
from sweeps.trial import TrialJob, climb, failed_report, failure, job_values, read_reports, run_trial

CONFIRM_SEED = 7_919  # what seeds of a second look are moved by, far from those of trials


@dataclass(frozen=True, kw_only=True)
class TrialWork:
    """Runs any trial of a sweep; goes to the actors once.

    Attributes:
        config: of the sweep.
        space: of the sweep.
        experiment: whose points are tried.
        directory: of the sweep, on a disk that all nodes see.
        records: what to train on.
    """

    config: SweepConfig
    space: Space
    experiment: Any
    directory: str
    records: str

    def __call__(self, config: dict[str, Any]) -> None:
        """Run the trial that Tune asks for; Tune's reports carry what the scheduler reads."""
        from ray import tune

        job = self.job(config)
        if isinstance(job, dict):  # no valid experiment
            tune.report(job)
            return
        if config.get("confirm") == 0:
            tune.report(resample(job, Path(self.directory) / trial_folder(job.number)))
        elif self.config.workers_per_trial > 1:
            self._on_workers(job)
        elif self.config.scheduler == "pbt" and "confirm" not in config:
            self._in_population(job)
        else:
            run_trial(job, tune.report)

    def job(self, config: Mapping[str, Any]) -> TrialJob | dict[str, Any]:
        """Return the job of a suggestion, or the report of one that makes no valid experiment."""
        sweep, number, seed = self.config, int(config["number"]), config.get("confirm")
        folder = trial_folder(number) if seed is None else f"confirm/{number:05d}-{seed}"
        budget = sweep.rung_budget if seed is None else replace(sweep.budget, num_rungs=1)
        job = TrialJob(
            number=number,
            subject=sweep.subject,
            experiment={},
            values=dict(config["values"]),
            out=str(Path(self.directory) / folder),
            records=self.records,
            reference=str(Path(self.directory) / "reference.npz"),
            budget=to_dict(budget),
            even=seed is None and sweep.scheduler == "pbt",
            samples=sweep.samples if seed is None else sweep.confirm.samples,
            sample_seed=sweep.seed if seed is None else sweep.seed + CONFIRM_SEED + seed,
            train_seed=sweep.seed if not seed else sweep.seed + CONFIRM_SEED + seed,
            threads=max(1, int(sweep.cpus_per_worker)),
            yardstick=to_dict(self.experiment),
        )
        try:
            experiment = self.experiment_of(config["origin"], job.values)
        except ConfigError as error:
            return failed_report(job, "invalid", error)
        return replace(job, experiment=to_dict(experiment))

    def experiment_of(self, origin: str, values: Mapping[str, Any]) -> Any:
        """Return the experiment of a point, or a baseline.

        Raises:
            ConfigError: the values do not go together.
        """
        baselines = subject_of(self.config.subject).baselines
        if origin in baselines:
            return baselines[origin](self.experiment)
        return self.space.apply(self.experiment, values)

    def _on_workers(self, job: TrialJob) -> None:
        """Train on several workers; their reports go through Train to Tune, and this driver reserves nothing."""
        from ray import tune
        from ray.train import RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchTrainer
        from ray.tune.integration.ray_train import TuneReportCallback

        from cluster.train import original_error

        sweep = self.config
        resources = {"CPU": sweep.cpus_per_worker}
        if sweep.gpus_per_worker:
            resources["GPU"] = sweep.gpus_per_worker
        callbacks: Any = [TuneReportCallback()]
        trainer = TorchTrainer(
            train_worker,
            train_loop_config=job_values(job),
            scaling_config=ScalingConfig(
                num_workers=sweep.workers_per_trial,
                use_gpu=sweep.gpus_per_worker > 0,
                resources_per_worker=resources,
            ),
            run_config=RunConfig(name=Path(job.out).name, storage_path=str(Path(job.out) / "ray"), callbacks=callbacks),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            cause = original_error(error)
            status = failure(cause)
            if status is None:
                raise
            tune.report(failed_report(job, status, cause))

    def _in_population(self, job: TrialJob) -> None:
        """Go on from the weights that the scheduler hands over, and hand over one's own at each rung."""
        from ray import tune

        out = Path(job.out)
        given = tune.get_checkpoint()
        if given is not None:
            with given.as_directory() as folder:
                adopt(Path(folder), out)
        rename_model(out, to_dict(subject_of(job.subject).model(subject_of(job.subject).read(job.experiment))))

        def report(row: dict[str, Any]) -> None:
            last = out / "checkpoints" / "last"
            kept = tune.Checkpoint.from_directory(str(last.resolve())) if last.exists() else None
            tune.report(row, checkpoint=kept)

        run_trial(replace(job, repeat=given is None), report)


def train_worker(values: dict[str, Any]) -> None:
    """Run a trial as one of the processes that Ray Train started."""
    import ray.train
    import ray.train.torch
    import torch

    from matgen.training.step import Workers

    context = ray.train.get_context()
    job = TrialJob(**values)
    torch.set_num_threads(job.threads)
    device = ray.train.torch.get_device()
    climb(job, ray.train.report, Workers(context.get_world_rank(), context.get_world_size(), device))


def trial_folder(number: int) -> str:
    """Folder of a trial below the sweep's directory."""
    return f"trials/{number:05d}"


def resample(job: TrialJob, trained: Path) -> dict[str, Any]:
    """Judge the last checkpoint of a trial by more samples with seeds that it has not seen."""
    import torch

    from matgen.training.tasks import load_trained
    from sweeps.trial import load_reference

    subject = subject_of(job.subject)
    model = load_trained(trained / "checkpoints" / "last", subject.kind)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    reference = load_reference(Path(job.reference))
    with torch.inference_mode():
        judged = subject.judge(
            model, subject.read(job.experiment), Path(job.records), reference, job.samples, job.sample_seed
        )
    found = judged.quality
    return {
        "number": job.number, "rung": 0, "cost": job.costs.amount, "status": "ok", "values": dict(job.values),
        "objective": found.value, "low": found.low, "high": found.high, "parts": found.parts,
        "figures": dict(judged.figures),
    }  # fmt: skip


def adopt(checkpoint: Path, out: Path) -> None:
    """Make another member's checkpoint one's own, and forget what one reported beyond it."""
    step = int(json.loads((checkpoint / "state.json").read_text())["step"])
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    target = out / "checkpoints" / f"step-{step:08d}"
    shutil.copytree(checkpoint, target)
    (out / "checkpoints" / "last").symlink_to(target.name)
    kept = [row for row in read_reports(out) if row.get("step", step + 1) <= step]
    aside = out / ".reports.partial"
    aside.write_text("".join(json.dumps(row) + "\n" for row in kept))
    aside.replace(out / "reports.jsonl")


def rename_model(out: Path, model: dict[str, Any]) -> None:
    """Say in the last checkpoint that it is of this model: a member of a population changes its loss weights."""
    path = out / "checkpoints" / "last" / "config.json"
    if path.exists():
        values = json.loads(path.read_text())
        path.write_text(json.dumps({**values, "model": json.loads(json.dumps(model))}, indent=1))


Trainable = Callable[[dict[str, Any]], None]
