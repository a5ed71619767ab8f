"""One run of an experiment in one directory: what every stage function is given."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

from typing_extensions import TypeVar

from cluster.campaign import CampaignConfig
from cluster.lineage import StageLineage, open_stage, run_id
from cluster.session import cluster_gpus
from matgen.config import Experiment
from matgen.settings import to_dict

if TYPE_CHECKING:
    from matgen.mof_config import MofExperiment

ExperimentT = TypeVar("ExperimentT", default=Experiment)


@dataclass(frozen=True, kw_only=True)
class Run(Generic[ExperimentT]):
    """An experiment, the directory it fills, and how it is to be run here.

    Attributes:
        experiment: what to compute.
        out: directory of the run; each stage has its own below it.
        num_workers: actors of a campaign; 0 works in this process.
        data: folder of named data sets; None takes the variable MATGEN_DATA.
        init_from: checkpoint that training starts from.
        checkpoint: checkpoint to sample from; None takes the run's own.
        records: directory of the stage preprocess; None takes the run's own.
        overwrite: delete what another run left in a stage's directory.
        command: the command line, for the record.
        progress: bars; None shows them on a terminal only.
        shards: first index, and one past the last, of the shards to work on; None takes all.
    """

    experiment: ExperimentT
    out: Path
    num_workers: int = field(default_factory=lambda: available_cpus())
    data: Path | None = None
    init_from: Path | None = None
    checkpoint: Path | None = None
    records: Path | None = None
    overwrite: bool = False
    command: str = ""
    progress: bool | None = None
    shards: tuple[int, int] | None = None

    def directory(self, stage: str) -> Path:
        """Directory that a stage writes."""
        return self.out / DIRECTORIES[stage]

    @property
    def records_directory(self) -> Path:
        """Directory of the records that this run trains on and is measured against."""
        return self.records or self.directory("preprocess")

    def open_stage(self, stage: str, config: object, inputs: dict[str, str]) -> StageLineage:
        """Claim the directory of a stage, see `cluster.lineage.open_stage`."""
        experiment: Any = self.experiment
        lineage = StageLineage(
            stage=stage,
            run_id=run_id(self.out, experiment.name),
            seed=experiment.seed,
            config=to_dict(config),
            inputs=inputs,
            experiment=to_dict(experiment),
            command=self.command,
        )
        return open_stage(self.directory(stage), lineage, overwrite=self.overwrite)

    def campaign(self, description: str, **settings: float) -> CampaignConfig:
        """Settings of a campaign of this run."""
        experiment: Any = self.experiment
        return CampaignConfig(
            num_workers=self.num_workers,
            description=description,
            progress=self.progress,
            shards=self.shards,
            tracker_id=f"{run_id(self.out, experiment.name)}-{description}",
            **settings,  # type: ignore[arg-type]
        )

    def gpu_campaign(self, description: str, **settings: float) -> CampaignConfig:
        """Settings of a campaign whose workers run a network: one a GPU where there are GPUs."""
        import torch

        config = self.campaign(description, **settings)
        num_gpus = cluster_gpus() if os.environ.get("RAY_ADDRESS") else torch.cuda.device_count()
        if num_gpus == 0 or self.num_workers == 0:
            return config
        return replace(config, num_workers=min(self.num_workers, num_gpus), num_gpus_per_worker=1.0)


AnyRun = Run[Any]
"""A run of any experiment, for what does not look into it."""

MofRun: TypeAlias = "Run[MofExperiment]"
"""A run on frameworks."""

DIRECTORIES = {
    "preprocess": "records",
    "train_blocks": "block_encoder",
    "embed": "embedded",
    "score_blocks": "block_scores",
    "train": "checkpoint",
    "sample": "samples",
    "decode": "structures",
    "relax": "relaxed",
    "achieve": "achieved",
    "evaluate": "scores",
}


def available_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
