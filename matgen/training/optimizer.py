"""Adam, its learning rate as a function of the step alone, and the moving average of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from matgen.errors import ConfigError


def learning_rate(
    step: int,
    *,
    base: float,
    warmup_steps: int,
    total_steps: int,
    decay: Literal["cosine", "linear", "constant"],
    final: float,
) -> float:
    """Return the learning rate of a step.

    Args:
        step: steps done before this one, from 0.
        base: after warm-up.
        warmup_steps: the rate rises linearly and reaches base in step warmup_steps - 1.
        total_steps: length of the run; beyond it the rate stays where it ended.
        decay: shape of the way down.
        final: share of base at the end of decay, in [0, 1].

    Returns:
        The rate.

    Raises:
        ValueError: if decay is unknown.
    """
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    match decay:
        case "constant":
            share = 1.0
        case "linear":
            share = 1 - progress
        case "cosine":
            share = (1 + math.cos(math.pi * progress)) / 2
        case _:
            raise ValueError(f"decay must be cosine, linear or constant, not {decay!r}")
    return base * (share if decay == "constant" else final + (1 - final) * share)


def freeze(model: nn.Module, beginnings: tuple[str, ...]) -> None:
    """Leave weights as they are whose names begin with one of these.

    Raises:
        ConfigError: no name begins so.
    """
    names = [name for name, _ in model.named_parameters()]
    unknown = [start for start in beginnings if not any(name.startswith(start) for name in names)]
    if unknown:
        parts = ", ".join(sorted({name.split(".")[0] for name in names}))
        raise ConfigError(f"train.frozen: no weights begin with {', '.join(unknown)} (there are: {parts})")
    for name, parameter in model.named_parameters():
        if name.startswith(beginnings):
            parameter.requires_grad_(False)


def build_optimizer(model: nn.Module, rate: float, betas: tuple[float, float], weight_decay: float) -> torch.optim.Adam:
    """Return AdamW that decays matrices only (vectors are biases and norms); without weight decay it is Adam."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate, betas=betas, fused=True)


class Ema:
    """Exponential moving average of a model's parameters; short at first, so that the initial weights are forgotten.

    After n updates the decay is min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start at the model's weights.

        Args:
            model: whose parameters are averaged, in float32.
            decay: in [0, 1); 0 follows the weights themselves.

        Raises:
            ValueError: if decay is out of range.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"ema decay must be in [0, 1), it is {decay}")
        self.decay = decay
        self.num_updates = 0
        self.weights: dict[str, Tensor] = {
            name: parameter.detach().float().clone() for name, parameter in model.named_parameters()
        }

    def current_decay(self) -> float:
        """Return the decay of the next update."""
        return min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's present weights."""
        parameters = [parameter.detach().float() for parameter in model.parameters()]
        torch._foreach_lerp_(list(self.weights.values()), parameters, 1 - self.current_decay())
        self.num_updates += 1

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Put the averaged weights into the model for the length of a `with` block."""
        parameters = dict(model.named_parameters())
        kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self.weights[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(kept[name])
