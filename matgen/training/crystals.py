"""Crystals as a training set: records, priors, and another description of each crystal whenever it is seen."""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from matgen.data.augment import AugmentConfig, augment
from matgen.data.batch import Batch, BatchPlan, BatchPlanConfig, collate, evaluation_batches
from matgen.data.priors import Priors
from matgen.data.records import Records
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.training.dataset import WeightedBatches, draw_t, own_share
from matgen.training.state import TrainConfig

_STREAM_AUGMENT = 1001


class CrystalSet:
    """Trains SymmCD. Micro-batches hold crystals of similar size, see `matgen.data.batch`."""

    kind: ClassVar[str] = "symmcd"
    noun: ClassVar[str] = "crystals"

    def __init__(self, priors: Priors, train: Records, validation: Records, config: TrainConfig) -> None:
        """Plan the steps.

        Args:
            priors: of the training set.
            train: what to learn.
            validation: what to measure on; may be empty.
            config: sizes, seed and augmentation.
        """
        self.priors, self.train, self.validation, self.config = priors, train, validation, config
        self.num_validation = min(config.validation_limit, len(validation))
        self._plan: BatchPlan | None = None

    @classmethod
    def load(cls, records: Path, config: TrainConfig) -> "CrystalSet":
        """Open a folder with train.safetensors, val.safetensors (may be absent) and priors.safetensors."""
        validation = records / "val.safetensors"
        return cls(
            Priors.load(records / "priors.safetensors"),
            Records.load(records / "train.safetensors"),
            Records.load(validation) if validation.exists() else Records.empty(),
            config,
        )

    def __len__(self) -> int:
        return len(self.train)

    @property
    def constants(self) -> Priors:
        """The priors."""
        return self.priors

    @property
    def plan(self) -> BatchPlan:
        """Which crystals form which step."""
        if self._plan is None:
            config = self.config
            self._plan = BatchPlan(
                self.train.num_orbits,
                self.priors.num_operations.cpu().numpy()[self.train.space_group_number],
                BatchPlanConfig(
                    batch_size=config.batch_size, max_edges=config.max_edges, overhead_edges=config.overhead_edges
                ),
                config.seed,
            )
        return self._plan

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps in which every crystal is seen once."""
        return self.plan.steps_per_epoch

    def to(self, device: torch.device) -> None:
        """Move the priors."""
        self.priors = self.priors.to(device)

    def micro_batches(self, step: int, rank: int, world_size: int) -> WeightedBatches:
        """One worker's crystals of a step."""
        micro_batches = self.plan.micro_batches(step, rank, world_size)
        return [(collate(self.train, micro.indices, micro.row_ids), micro.weight) for micro in micro_batches]

    def validation_batches(self, rank: int, world_size: int) -> WeightedBatches:
        """One worker's share of the first crystals of the validation set."""
        count = self.num_validation
        batches = evaluation_batches(self.validation, self.config.max_edges, count)
        return own_share([(batch, len(batch) / count) for batch in batches], rank, world_size)

    def prepare(self, batch: Batch, *, seed: int, count: int, num_steps: int) -> tuple[Batch, Tensor, CounterNoise]:
        """Return the batch in another description, t, and the noise to come."""
        return prepare_crystals(batch, self.priors, self.config.augment, seed=seed, count=count, num_steps=num_steps)


def prepare_crystals(
    batch: Batch, priors: Priors, config: AugmentConfig, *, seed: int, count: int, num_steps: int
) -> tuple[Batch, Tensor, CounterNoise]:
    """Draw everything random of a batch from its rows' ids.

    Args:
        batch: with row ids of which each run of `count` belongs to one step.
        priors: on the device of the batch.
        config: what is drawn anew.
        seed: of the run.
        count: crystals of a step over all workers.
        num_steps: T.

    Returns:
        The batch in another description, t, and the noise to come.
    """
    noise = CounterNoise(row_seed(seed, batch.row_id))
    t = draw_t(batch.row_id % count, count, noise, num_steps)

    def uniform(purpose: int, shape: tuple[int, ...]) -> Tensor:
        return noise.uniform(0, _STREAM_AUGMENT + purpose, shape)

    return augment(batch, priors, uniform, config), t, noise
