"""What training has reached: everything that has to be saved to go on as if nothing had happened."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from matgen.data.augment import AugmentConfig
from matgen.settings import ADDED
from matgen.training.optimizer import Ema


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run.

    Attributes:
        max_steps: optimiser steps; with None, `max_epochs` says how long.
        max_epochs: passes over the training set, used where max_steps is None.
        max_seconds: wall time of this process after which it saves and stops; the run can be resumed.
        batch_size: rows (crystals, building blocks, frameworks) of a step over all workers; gradients are accumulated
            over micro-batches of similar size, except those of building blocks, which are compared with each other.
        max_edges: padded orbit pairs, or pairs of blocks, of a micro-batch; bounds memory, never changes the gradient.
        overhead_edges: cost of one more micro-batch in pairs; thousands on a CPU, ten thousands on a GPU.
        learning_rate: after warm-up.
        warmup_steps: steps of linear warm-up.
        decay: of the learning rate from the end of warm-up to max_steps.
        final_learning_rate: share of learning_rate that is left at max_steps.
        weight_decay: of AdamW, on matrices only; 0 is Adam.
        betas: of Adam.
        grad_clip_norm: largest norm of the gradient; 0 is no clipping.
        ema_decay: of the weight average; its warm-up is built in. 0 is no average.
        precision: fp32, tf32 (matrix products on NVIDIA GPUs) or bf16 (autocast).
        compile: compile the network with torch.compile.
        num_workers: processes of distributed training; 0 trains in the calling process.
        min_workers: fewest of them that training goes on with when nodes are lost; growing again up to num_workers is
            left to Ray. 0 is num_workers: no fewer. The rows of a step stay the same, shared by those that there are.
        validate_every: steps between validations; 0 is never.
        validation_limit: rows of the validation set that are looked at.
        picture_samples: crystals that the training stage samples and draws at each validation; 0 is none.
        checkpoint_every: steps between checkpoints.
        checkpoint_minutes: minutes after which a checkpoint is written even so.
        log_every: steps between lines of the history.
        seed: of shuffles, noise, augmentation and initial weights.
        max_skipped: steps in a row with a loss or gradient that is not finite, after which training gives up.
        frozen: beginnings of the names of weights that stay as they are, say "encoder." and "heads.".
        augment: what is drawn anew each time a crystal is seen; of crystals only.
    """

    max_steps: int | None = None
    max_epochs: float = 100.0
    max_seconds: float | None = None
    batch_size: int = 256
    max_edges: int = 65536
    overhead_edges: int = 3000
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final_learning_rate: float = 0.01
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip_norm: float = 1.0
    ema_decay: float = 0.999
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    compile: bool = False
    num_workers: int = 0
    min_workers: int = field(default=0, metadata=ADDED)
    validate_every: int = 500
    validation_limit: int = 1024
    picture_samples: int = 8
    checkpoint_every: int = 500
    checkpoint_minutes: float = 10.0
    log_every: int = 20
    seed: int = 0
    max_skipped: int = 100
    frozen: tuple[str, ...] = field(default=(), metadata=ADDED)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def total_steps(self, num_rows: int) -> int:
        """Return the steps of the whole run on a training set of that many rows."""
        if self.max_steps is not None:
            return self.max_steps
        return max(1, round(self.max_epochs * num_rows / self.batch_size))


@dataclass(kw_only=True, eq=False)
class TrainState:
    """The state of a run between two steps.

    Attributes:
        model: the raw (never the distributed wrapper's) module.
        optimizer: over its parameters.
        ema: averaged weights.
        step: steps done.
        num_skipped: steps so far whose update was left out because something was not finite.
        num_skipped_in_row: the same since the last good step.
        best_step, best_loss: of the best validation so far.
        window: sums of what the next line of the history averages.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    step: int = 0
    num_skipped: int = 0
    num_skipped_in_row: int = 0
    best_step: int | None = None
    best_loss: float = float("inf")
    window: dict[str, float] = field(default_factory=dict)

    def counters(self) -> dict[str, object]:
        """Return what is not a tensor, for JSON."""
        return {
            "step": self.step,
            "num_skipped": self.num_skipped,
            "num_skipped_in_row": self.num_skipped_in_row,
            "best_step": self.best_step,
            "best_loss": None if self.best_step is None else self.best_loss,
            "window": dict(self.window),
            "ema_updates": self.ema.num_updates,
        }

    def set_counters(self, values: dict) -> None:
        """Take over what `counters` returned."""
        self.step = int(values["step"])
        self.num_skipped = int(values["num_skipped"])
        self.num_skipped_in_row = int(values["num_skipped_in_row"])
        self.best_step = values["best_step"]
        self.best_loss = float("inf") if values["best_loss"] is None else float(values["best_loss"])
        self.window = {name: float(value) for name, value in values["window"].items()}
        self.ema.num_updates = int(values["ema_updates"])


def optimizer_tensors(state: TrainState) -> dict[str, Tensor]:
    """Return the moments of Adam by parameter name: `exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME`."""
    tensors = {}
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = torch.as_tensor(value)
    return tensors


def set_optimizer_tensors(state: TrainState, tensors: dict[str, Tensor]) -> None:
    """Take over what `optimizer_tensors` returned.

    Raises:
        KeyError: if a tensor belongs to no parameter of the model.
    """
    parameters = dict(state.model.named_parameters())
    for key, value in tensors.items():
        kind, name = key.split(".", 1)
        parameter = parameters[name]
        # Adam keeps its step counters on the CPU unless it is fused on a GPU; its moments live with the parameter
        fused = bool(state.optimizer.param_groups[0].get("fused"))
        device = parameter.device if kind != "step" or fused else torch.device("cpu")
        state.optimizer.state[parameter][kind] = value.to(device).clone()
