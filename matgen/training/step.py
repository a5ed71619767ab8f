"""One training step: draw t, corrupt, predict, compare, accumulate over micro-batches, clip, update, average."""

import dataclasses
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from matgen.training.dataset import TrainingError, TrainingSet, WeightedBatches
from matgen.training.state import TrainConfig, TrainState

_VALIDATION_SEED = 2**40 + 1


class Trainable(Protocol):
    """What a model offers to be trained; a diffusion model also has `num_steps`, its T."""

    def loss(self, *arguments: Any) -> Any:
        """Return a dataclass of scalar losses, means over the rows of the batch; `total` is what is minimised.

        Args:
            *arguments: what `prepare` of the training set returned.
        """


class LossModule(nn.Module):
    """The loss as a forward pass, which is what distributed wrappers hook into."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *arguments: Any) -> dict[str, Tensor]:
        """Return the losses by name."""
        return loss_values(self.model.loss(*arguments))  # type: ignore[operator]


def loss_values(losses: Any) -> dict[str, Tensor]:
    """Return the scalar fields of a dataclass of losses."""
    values = {entry.name: getattr(losses, entry.name) for entry in dataclasses.fields(losses)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor) and value.ndim == 0}


@dataclass(frozen=True)
class Workers:
    """This process among those that train together.

    Attributes:
        rank: world rank.
        world_size: number of processes.
        device: of this process.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """Return the sums over all workers."""
        if self.world_size == 1:
            return values
        packed = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(packed)
        return dict(zip(values, packed.tolist()))

    def barrier(self) -> None:
        """Wait for all workers."""
        if self.world_size > 1:
            torch.distributed.barrier()


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context in which the forward pass runs."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def train_step(
    state: TrainState,
    loss_module: nn.Module,
    micro_batches: WeightedBatches,
    dataset: TrainingSet,
    config: TrainConfig,
    workers: Workers,
    rate: float,
    stop: bool = False,
) -> dict[str, float]:
    """Do one optimiser step.

    Args:
        state: changed in place.
        loss_module: a LossModule of the state's model, or a distributed wrapper around it.
        micro_batches: this worker's batches, on its device, with their share of the step's rows.
        dataset: where they are from, on the device.
        config: settings.
        workers: who trains together.
        rate: learning rate of this step.
        stop: whether this worker wants to stop.

    Returns:
        Losses over the whole step, `grad_norm` before clipping, `skipped` (0 or 1), and how many workers `stop`.

    Raises:
        TrainingError: if too many steps in a row were not finite.
    """
    losses = _accumulate(state.model, loss_module, micro_batches, dataset, config, workers)
    parameters = list(state.model.parameters())
    limit = config.grad_clip_norm if config.grad_clip_norm > 0 else math.inf
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    sums = dict(zip([*losses, "grad_norm"], torch.stack([*losses.values(), norm]).double().tolist()))
    own_norm = sums.pop("grad_norm")
    # a gradient is the same on all workers once exchanged, but a loss is not: the sum decides for all
    sums = workers.sum({**sums, "unsound": float(not math.isfinite(own_norm)), "stop": float(stop)})
    skipped = sums.pop("unsound") > 0 or not math.isfinite(sums["total"])
    _update(state, rate, skipped, config)
    return {**sums, "grad_norm": own_norm, "skipped": float(skipped)}


def _accumulate(
    model: nn.Module,
    loss_module: nn.Module,
    micro_batches: WeightedBatches,
    dataset: TrainingSet,
    config: TrainConfig,
    workers: Workers,
) -> dict[str, Tensor]:
    """Add up the gradients of all micro-batches; returns this worker's part of the losses over the step."""
    num_steps = getattr(model, "num_steps", 0)
    losses: dict[str, Tensor] = {}
    for index, (batch, weight) in enumerate(micro_batches):
        # only the last backward pass of a step exchanges gradients
        last = index == len(micro_batches) - 1
        wrapped = isinstance(loss_module, DistributedDataParallel) and not last
        with loss_module.no_sync() if wrapped else nullcontext():  # type: ignore[operator]
            arguments = dataset.prepare(batch, seed=config.seed, count=config.batch_size, num_steps=num_steps)
            with autocast(config.precision, workers.device):
                values = loss_module(*arguments)
            # wrappers average over workers, and the weights of all workers add up to 1
            (values["total"] * (weight * workers.world_size)).backward()
        for name, value in values.items():
            losses[name] = losses.get(name, torch.zeros_like(value)) + weight * value.detach()
    return losses


def _update(state: TrainState, rate: float, skipped: bool, config: TrainConfig) -> None:
    if not skipped:
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        state.ema.update(state.model)
    state.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    state.num_skipped += skipped
    state.num_skipped_in_row = state.num_skipped_in_row + 1 if skipped else 0
    if state.num_skipped_in_row >= config.max_skipped:
        raise TrainingError(
            f"loss or gradient not finite in {state.num_skipped_in_row} steps in a row, up to step {state.step}"
        )


@torch.no_grad()
def evaluate(
    model: Any,
    batches: WeightedBatches,
    dataset: TrainingSet,
    config: TrainConfig,
    workers: Workers,
    num_rows: int,
) -> dict[str, float]:
    """Return the losses over a validation set with draws that are the same each time, so that curves can be compared.

    Args:
        model: Trainable, with the weights to judge.
        batches: this worker's share, at least one, on its device, with their shares of the set's rows.
        dataset: where they are from, on the device; it augments: the model is judged on what it is trained for.
        config: precision.
        workers: who shares the set.
        num_rows: of the whole set; t is spread over them evenly.

    Returns:
        Means over all rows of the set.
    """
    sums: dict[str, Tensor] = {}
    num_steps = getattr(model, "num_steps", 0)
    for batch, weight in batches:
        arguments = dataset.prepare(batch, seed=_VALIDATION_SEED, count=num_rows, num_steps=num_steps)
        with autocast(config.precision, workers.device):
            values = loss_values(model.loss(*arguments))
        for name, value in values.items():
            sums[name] = sums.get(name, torch.zeros_like(value, dtype=torch.float64)) + value.double() * weight
    return workers.sum({name: float(value) for name, value in sums.items()})
