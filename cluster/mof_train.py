"""Stage 1 for MOFs: train the block encoder, then the coarse diffusion on the blocks that it embedded."""

from typing import Any

from cluster.lineage import require_stage
from cluster.run import MofRun
from cluster.train import TrainStage, TrainStageConfig, train_stage


def train_blocks(run: MofRun) -> dict[str, Any]:
    """Train the block encoder on the run's building blocks and leave checkpoints in `block_encoder/`.

    Returns:
        The stage's summary, see `cluster.train.train`.

    Raises:
        StageError: there are no records; training was told to stop, or its workers died too often.
    """
    blocks = run.experiment.blocks
    stage = TrainStage(
        stage="train_blocks",
        kind="block_encoder",
        config=TrainStageConfig(model=blocks.model, train=blocks.train),
        records=run.records_directory,
        inputs={"records": require_stage(run.records_directory, "preprocess").identity},
    )
    return train_stage(run, stage)


def train_frameworks(run: MofRun) -> dict[str, Any]:
    """Train the coarse diffusion on the run's embedded frameworks and leave checkpoints in `checkpoint/`.

    Returns:
        The stage's summary, see `cluster.train.train`.

    Raises:
        StageError: there are no embeddings; training was told to stop, or its workers died too often.
    """
    embedded = run.directory("embed")
    stage = TrainStage(
        stage="train",
        kind="mofdiff",
        config=TrainStageConfig(model=run.experiment.model, train=run.experiment.train),
        records=embedded,
        inputs={"embedded": require_stage(embedded, "embed").identity},
    )
    return train_stage(run, stage)
