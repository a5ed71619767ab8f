"""Coarse frameworks as a training set: places of embedded building blocks in a cell."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from matgen.data.batch import BatchPlan, BatchPlanConfig
from matgen.data.mof_batch import CoarseBatch
from matgen.data.mof_collate import collate_frameworks
from matgen.data.mof_records import BlockRecords, CoarseRecords
from matgen.data.mof_statistics import CoarseStatistics
from matgen.data.records import RecordsError
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.training.dataset import WeightedBatches, draw_t, own_share
from matgen.training.state import TrainConfig


class FrameworkSet:
    """Trains the coarse diffusion. Micro-batches hold frameworks of a similar number of blocks."""

    kind: ClassVar[str] = "mofdiff"
    noun: ClassVar[str] = "frameworks"

    def __init__(
        self,
        statistics: CoarseStatistics,
        train: tuple[CoarseRecords, np.ndarray],
        validation: tuple[CoarseRecords, np.ndarray],
        config: TrainConfig,
    ) -> None:
        """Plan the steps.

        Args:
            statistics: of the training set.
            train: frameworks to learn, and the embeddings of the blocks that they refer to.
            validation: the same of other frameworks; may be empty.
            config: sizes and seed.
        """
        self.statistics, self.train, self.validation, self.config = statistics, train, validation, config
        self.num_validation = min(config.validation_limit, len(validation[0]))
        self._plan: BatchPlan | None = None

    @classmethod
    def load(cls, records: Path, config: TrainConfig) -> "FrameworkSet":
        """Open a folder with statistics.safetensors, and coarse_ and blocks_ of train and val (val may be absent)."""
        train = _load(records, "train")
        has_validation = (records / "coarse_val.safetensors").exists()
        nothing = (CoarseRecords.empty(train[0].property_names), train[1][:0])
        validation = _load(records, "val") if has_validation else nothing
        return cls(CoarseStatistics.load(records / CoarseStatistics.file_name), train, validation, config)

    def __len__(self) -> int:
        return len(self.train[0])

    @property
    def constants(self) -> CoarseStatistics:
        """The statistics."""
        return self.statistics

    @property
    def plan(self) -> BatchPlan:
        """Which frameworks form which step."""
        if self._plan is None:
            config, counts = self.config, self.train[0].num_blocks
            self._plan = BatchPlan(
                counts,
                np.ones_like(counts),
                BatchPlanConfig(
                    batch_size=config.batch_size, max_edges=config.max_edges, overhead_edges=config.overhead_edges
                ),
                config.seed,
            )
        return self._plan

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps in which every framework is seen once."""
        return self.plan.steps_per_epoch

    def to(self, device: torch.device) -> None:
        """Move the statistics."""
        self.statistics = self.statistics.to(device)

    def micro_batches(self, step: int, rank: int, world_size: int) -> WeightedBatches:
        """One worker's frameworks of a step."""
        micro_batches = self.plan.micro_batches(step, rank, world_size)
        return [
            (collate_frameworks(*self.train, micro.indices, micro.row_ids), micro.weight) for micro in micro_batches
        ]

    def validation_batches(self, rank: int, world_size: int) -> WeightedBatches:
        """One worker's share of the first frameworks of the validation set."""
        counts = self.validation[0].num_blocks[: self.num_validation]
        order = np.argsort(counts, kind="stable")
        pairs = np.cumsum(counts[order] ** 2)
        groups = np.split(order, np.flatnonzero(np.diff(pairs // self.config.max_edges)) + 1)
        batches = [
            (collate_frameworks(*self.validation, group), len(group) / self.num_validation)
            for group in groups
            if len(group)
        ]
        return own_share(batches, rank, world_size)

    def prepare(
        self, batch: CoarseBatch, *, seed: int, count: int, num_steps: int
    ) -> tuple[CoarseBatch, Tensor, CounterNoise]:
        """Return the batch, t, and the noise to come."""
        noise = CounterNoise(row_seed(seed, batch.row_id))
        return batch, draw_t(batch.row_id % count, count, noise, num_steps), noise


def _load(records: Path, split: str) -> tuple[CoarseRecords, np.ndarray]:
    path = records / f"blocks_{split}.safetensors"
    embedding = BlockRecords.load(path).embedding
    if embedding is None:
        raise RecordsError(f"{path}: its blocks have no embeddings")
    return CoarseRecords.load(records / f"coarse_{split}.safetensors"), embedding
