"""Building blocks as a training set: batches in which blocks of one identity from different frameworks meet."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from matgen.data.block_plan import BlockPlan
from matgen.data.mof_batch import BlockBatch
from matgen.data.mof_collate import collate_blocks
from matgen.data.mof_records import BlockRecords
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.training.dataset import WeightedBatches, draw_t, own_share
from matgen.training.state import TrainConfig

_VALIDATION_SEED = 0


class BlockSet:
    """Trains the block encoder. All blocks of a step are compared with each other, so a worker has one batch a step."""

    kind: ClassVar[str] = "block_encoder"
    noun: ClassVar[str] = "building blocks"

    def __init__(self, train: BlockRecords, validation: BlockRecords, config: TrainConfig) -> None:
        """Plan the steps.

        Args:
            train: what to learn.
            validation: blocks of other frameworks; may be empty.
            config: batch size, seed and the number of validation blocks.
        """
        self.train, self.validation, self.config = train, validation, config
        count = min(config.validation_limit, len(validation))
        self._validation_size = min(config.batch_size, count)
        self.num_validation = count // max(1, self._validation_size) * self._validation_size if count > 1 else 0
        self._plan: BlockPlan | None = None

    @classmethod
    def load(cls, records: Path, config: TrainConfig) -> "BlockSet":
        """Open a folder with blocks_train.safetensors and blocks_val.safetensors (may be absent)."""
        validation = records / "blocks_val.safetensors"
        return cls(
            BlockRecords.load(records / "blocks_train.safetensors"),
            BlockRecords.load(validation) if validation.exists() else BlockRecords.empty(),
            config,
        )

    def __len__(self) -> int:
        return len(self.train)

    @property
    def constants(self) -> None:
        """None."""
        return None

    @property
    def plan(self) -> BlockPlan:
        """Which blocks form which step."""
        if self._plan is None:
            self._plan = _plan(self.train, self.config.batch_size, self.config.seed)
        return self._plan

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps that see as many blocks as there are."""
        return len(self.train) / self.config.batch_size

    def to(self, device: torch.device) -> None:
        """Nothing to move."""

    def micro_batches(self, step: int, rank: int, world_size: int) -> WeightedBatches:
        """One worker's blocks of a step, in one batch."""
        indices, row_ids = self.plan.micro_batch(step, rank, world_size)
        return [(collate_blocks(self.train, indices, row_ids), len(indices) / self.config.batch_size)]

    def validation_batches(self, rank: int, world_size: int) -> WeightedBatches:
        """One worker's share of batches of the validation set, planned as those of training are."""
        plan = _plan(self.validation, self._validation_size, _VALIDATION_SEED)
        batches = []
        for step in range(self.num_validation // self._validation_size):
            indices, row_ids = plan.micro_batch(step)
            batches.append((collate_blocks(self.validation, indices, row_ids), len(indices) / self.num_validation))
        return own_share(batches, rank, world_size)

    def prepare(
        self, batch: BlockBatch, *, seed: int, count: int, num_steps: int
    ) -> tuple[BlockBatch, Tensor, CounterNoise]:
        """Return the batch as it is, t and noise."""
        noise = CounterNoise(row_seed(seed, batch.row_id))
        return batch, draw_t(batch.row_id % count, count, noise, num_steps), noise


def _plan(records: BlockRecords, batch_size: int, seed: int) -> BlockPlan:
    num_nodes = records.num_atoms + records.num_connections
    return BlockPlan(records.identity_index, np.asarray(records.source_index), num_nodes, batch_size, seed)
