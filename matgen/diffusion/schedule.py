"""Noise levels as tables over t = 0..T; index 0 is clean data. Tables are float64 and are cast where they are used."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from matgen.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Settings of a variance-preserving schedule alpha_bar(t).

    `reach` is the share of the steps by which a cosine or sigmoid schedule has turned everything into noise. Below 1, a
    field is noise for the rest of the way, so that sampling decides it after the fields that reach further.
    """

    kind: Literal["cosine", "linear", "sigmoid"] = "cosine"
    num_steps: int = 1000
    reach: float = 1.0
    cosine_offset: float = 0.008
    linear_start: float = 1e-4  # beta at t = 1 and t = T for T = 1000; scaled by 1000 / T otherwise
    linear_end: float = 0.02
    sigmoid_start: float = -3.0
    sigmoid_end: float = 3.0
    beta_min: float = 1e-4
    beta_max: float = 0.9999

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, not {self.num_steps}")
        if not 0 < self.reach <= 1:
            raise ValueError(f"reach must be in (0, 1], not {self.reach}")
        if self.reach < 1 and self.kind == "linear":
            raise ValueError(f"only cosine and sigmoid schedules have a reach below 1, not linear with {self.reach}")
        if not 0 <= self.beta_min < self.beta_max < 1:
            raise ValueError(f"need 0 <= beta_min < beta_max < 1, not {self.beta_min} and {self.beta_max}")


class NoiseSchedule:
    """Tables alpha_bar, alpha and beta [T + 1] with alpha_bar[0] = alpha[0] = 1 and beta[0] = 0."""

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        self.num_steps = config.num_steps
        self.beta = _beta(config)
        self.alpha = 1 - self.beta
        self.alpha_bar = torch.cumprod(self.alpha, dim=0)
        self._table = DeviceTable(self.alpha_bar)

    def alpha_bar_at(self, t: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """alpha_bar at each t.

        Args:
            t: steps in 0..T.

        Returns:
            float64 values on the device of t.
        """
        return self._table.at(t)


@dataclass(frozen=True, kw_only=True)
class SigmaConfig:
    """Settings of a variance-exploding schedule sigma(t), in fractions of a cell edge."""

    kind: Literal["geometric"] = "geometric"
    num_steps: int = 1000
    sigma_min: float = 0.005
    sigma_max: float = 0.5

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, not {self.num_steps}")
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"need 0 < sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}")


class SigmaSchedule:
    """Table sigma [T + 1] with sigma[0] = 0, sigma[1] = sigma_min and sigma[T] = sigma_max."""

    def __init__(self, config: SigmaConfig) -> None:
        self.config = config
        self.num_steps = config.num_steps
        ends = torch.tensor([config.sigma_min, config.sigma_max], dtype=torch.float64).log()
        levels = torch.linspace(float(ends[0]), float(ends[1]), config.num_steps, dtype=torch.float64).exp()
        self.sigma = torch.cat([torch.zeros(1, dtype=torch.float64), levels])
        self._table = DeviceTable(self.sigma)

    def sigma_at(self, t: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """sigma at each t in 0..T, float64, on the device of t."""
        return self._table.at(t)


class DeviceTable:
    """A float64 table indexed by t, copied once to every device that asks."""

    def __init__(self, values: Float[Tensor, "T"]) -> None:
        self._by_device: dict[torch.device, Tensor] = {values.device: values}
        self._values = values

    def at(self, t: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """The entries at t, on the device of t."""
        table = self._by_device.get(t.device)
        if table is None:
            table = self._by_device.setdefault(t.device, self._values.to(t.device))
        return table[t]


def broadcast_rows(values: Float[Tensor, "B"], like: Tensor) -> Tensor:
    """One value per crystal as [B, 1, ..., 1], in the floating dtype (float32 for integers) and dimensions of `like`.

    Args:
        values: float64, one per crystal.
        like: the tensor [B, ...] it will be combined with.

    Returns:
        values cast and reshaped.
    """
    dtype = like.dtype if like.is_floating_point() else torch.float32
    return values.to(dtype).reshape(-1, *[1] * (like.ndim - 1))


def _beta(config: ScheduleConfig) -> Float[Tensor, "T"]:
    steps = config.num_steps
    x = (torch.arange(steps + 1, dtype=torch.float64) / (steps * config.reach)).clamp(max=1)
    match config.kind:
        case "cosine":
            level = torch.cos((x + config.cosine_offset) / (1 + config.cosine_offset) * torch.pi / 2) ** 2
            beta = 1 - level[1:] / level[:-1]
        case "sigmoid":
            level = torch.sigmoid(-(config.sigmoid_start + x * (config.sigmoid_end - config.sigmoid_start)))
            level = ((level - level[-1]) / (level[0] - level[-1])).clamp(min=1e-12)
            beta = 1 - level[1:] / level[:-1]
        case "linear":
            scale = 1000 / steps
            beta = torch.linspace(config.linear_start * scale, config.linear_end * scale, steps, dtype=torch.float64)
        case _:
            raise ValueError(f"schedule kind must be cosine, linear or sigmoid, not {config.kind!r}")
    return torch.cat([torch.zeros(1, dtype=torch.float64), beta.clamp(config.beta_min, config.beta_max)])
