"""What the training loop asks of a data set: batches as a function of the step, and what a loss needs of a batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from matgen.diffusion.noise import CounterNoise
from matgen.errors import MatgenError
from matgen.shapes import Int

_STREAM_TIME = 1000  # a stream of the noise that no process uses


class TrainingError(MatgenError):
    """Training cannot go on: the loss stays non-finite, or the data and the configuration do not fit."""


class TrainBatch(Protocol):
    """Rows that go through a network together."""

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str) -> Self:
        """Return the same batch on another device."""


WeightedBatches = Sequence[tuple[Any, float]]
"""Batches (each a TrainBatch) with their shares of the rows of a step, or of a validation set."""


class Constants(Protocol):
    """Tensors counted from the training set that define a model and are saved beside its weights."""

    file_name: ClassVar[str]

    def save(self, path: Path | str) -> None:
        """Write one safetensors file."""


class TrainingSet(Protocol):
    """The rows that a model is trained on, and those that it is validated on.

    Attributes:
        kind: of the models that can be trained on it, see `matgen.training.tasks`.
        noun: what a row is, in plural.
    """

    kind: ClassVar[str]
    noun: ClassVar[str]

    def __len__(self) -> int:
        """Number of training rows."""

    @property
    def num_validation(self) -> int:
        """Number of validation rows that are looked at; 0 is no validation."""

    @property
    def constants(self) -> Constants | None:
        """What belongs into a checkpoint beside the weights."""

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps in which each row is seen once."""

    def to(self, device: torch.device) -> None:
        """Move what `prepare` needs to a device."""

    def micro_batches(self, step: int, rank: int, world_size: int) -> WeightedBatches:
        """Return one worker's batches of a step (0-based), on the CPU: a pure function of the arguments.

        The weights of all workers add up to 1.
        """

    def validation_batches(self, rank: int, world_size: int) -> WeightedBatches:
        """Return one worker's share of the validation set, at least one batch, on the CPU."""

    def prepare(self, batch: Any, *, seed: int, count: int, num_steps: int) -> tuple[Any, ...]:
        """Draw everything random of a batch from its rows' ids.

        Args:
            batch: with row ids of which each run of `count` belongs to one step.
            seed: of the run.
            count: rows of a step over all workers.
            num_steps: T of the model, 0 where it has none.

        Returns:
            The arguments of the model's loss.
        """


def draw_t(place: Int[Tensor, "B"], count: int, noise: CounterNoise, num_steps: int) -> Int[Tensor, "B"]:
    """Draw t in 1..T, stratified over the rows of a step, so that each step sees all noise levels evenly.

    Args:
        place: of each row among those of the step, 0..count - 1.
        count: rows of the step over all workers.
        noise: one row per row of the batch.
        num_steps: T.

    Returns:
        t of each row: one in each of `count` equal parts of 1..T.
    """
    stratified = (place + noise.uniform(0, _STREAM_TIME, (), torch.float64)) / count
    return 1 + (stratified * num_steps).long().clamp(0, num_steps - 1)


def own_share(batches: Sequence[tuple[Any, float]], rank: int, world_size: int) -> WeightedBatches:
    """Return every world_size-th batch; a worker without a share takes part with weight 0, since sums need all."""
    return list(batches[rank::world_size]) or [(batches[0][0], 0.0)]
