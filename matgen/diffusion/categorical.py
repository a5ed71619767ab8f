"""Discrete diffusion of class labels, in closed form: no transition matrix is ever built.

q(x_t | x_0) keeps x_0 with probability alpha_bar_t and draws from a prior otherwise. With the marginal prior that is
the data's histogram; with the absorbing prior it is one extra state, the mask, whose index is num_classes.
Labels are [B, ...], probabilities [B, ..., classes]; priors broadcast against probabilities; t and s are per crystal.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from matgen.diffusion.schedule import NoiseSchedule, ScheduleConfig, broadcast_rows
from matgen.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class CategoricalConfig:
    """Settings of a CategoricalProcess."""

    num_classes: int
    prior: Literal["marginal", "absorbing"] = "marginal"
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


class CategoricalProcess(ABC):
    """What both priors share."""

    def __init__(self, config: CategoricalConfig) -> None:
        self.config = config
        self.num_classes = config.num_classes
        self.schedule = NoiseSchedule(config.schedule)

    @property
    @abstractmethod
    def num_states(self) -> int:
        """Number of values of x_t: what an embedding of it must hold."""

    @abstractmethod
    def corrupt(
        self,
        x_0: Int[Tensor, "B *D"],
        t: Int[Tensor, "B"],
        prior_probs: Float[Tensor, "..."],
        uniform: Float[Tensor, "B *D"],
    ) -> Int[Tensor, "B *D"]:
        """x_t from data.

        Args:
            x_0: classes in 0..num_classes - 1.
            t: steps in 0..T.
            prior_probs: [..., num_classes], broadcastable over x_0; only the marginal prior reads it.
            uniform: float64 numbers in [0, 1), one per label.

        Returns:
            states in 0..num_states - 1.

        Source: Austin et al. 2021 (arXiv 2107.03006), eq. 3.
        """

    @abstractmethod
    def posterior_probs(
        self,
        x_t: Int[Tensor, "B *D"],
        x_0_probs: Float[Tensor, "B *D C"],
        t: Int[Tensor, "B"],
        s: Int[Tensor, "B"],
        prior_probs: Float[Tensor, "..."],
    ) -> Float[Tensor, "B *D S"]:
        """sum over x_0 of q(x_s | x_t, x_0) p(x_0), for any s < t.

        Args:
            x_t: states at t.
            x_0_probs: predicted probabilities of the data; one-hot for a given or an already sampled x_0.
            t: steps in 1..T.
            s: steps in 0..t - 1.
            prior_probs: as in `corrupt`.

        Returns:
            probabilities of the states at s, [..., num_states], summing to 1.

        Source: Austin et al. 2021 (arXiv 2107.03006), eqs. 3 and 4.
        """

    @abstractmethod
    def prior_sample(self, prior_probs: Float[Tensor, "..."], uniform: Float[Tensor, "B *D"]) -> Int[Tensor, "B *D"]:
        """x_T; arguments as in `corrupt`."""

    def reverse_step(
        self,
        x_t: Int[Tensor, "B *D"],
        x_0_probs: Float[Tensor, "B *D C"],
        t: Int[Tensor, "B"],
        s: Int[Tensor, "B"],
        prior_probs: Float[Tensor, "..."],
        uniform: Float[Tensor, "B *D"],
    ) -> Int[Tensor, "B *D"]:
        """x_s drawn from `posterior_probs`; arguments as there and in `corrupt`."""
        return sample_categorical(self.posterior_probs(x_t, x_0_probs, t, s, prior_probs), uniform)


class MarginalProcess(CategoricalProcess):
    """The prior is the data's own distribution, for instance per space group and symmetry axis."""

    @property
    def num_states(self) -> int:
        return self.num_classes

    def corrupt(self, x_0: Tensor, t: Tensor, prior_probs: Tensor, uniform: Tensor) -> Tensor:
        uniform = uniform.double()
        alpha_bar = broadcast_rows(self.schedule.alpha_bar_at(t), uniform)
        # One number decides twice: below alpha_bar the label stays, and the rest of the interval is the redraw.
        redraw = ((uniform - alpha_bar) / (1 - alpha_bar).clamp(min=1e-12)).clamp(0, 1 - 2.0**-53)
        return torch.where(uniform < alpha_bar, x_0, sample_categorical(prior_probs, redraw))

    def posterior_probs(self, x_t: Tensor, x_0_probs: Tensor, t: Tensor, s: Tensor, prior_probs: Tensor) -> Tensor:
        alpha_bar_t, alpha_bar_s = self.schedule.alpha_bar_at(t), self.schedule.alpha_bar_at(s)
        change = 1 - alpha_bar_t / alpha_bar_s  # probability of a redraw between s and t
        z = x_t[..., None]
        prior = prior_probs.to(x_0_probs.dtype).expand(x_0_probs.shape)
        p_z, m_z = x_0_probs.gather(-1, z), prior.gather(-1, z)

        def rows(values: Tensor) -> Tensor:
            return broadcast_rows(values, x_0_probs)

        # Bayes with q(x_t = z | x_0) = (1 - alpha_bar_t) m_z for every x_0 but z. The m_z of q(z | x_s) has been
        # cancelled against it, so that a state of zero prior weight needs no special case.
        stay = p_z / (rows(alpha_bar_t) + rows(1 - alpha_bar_t) * m_z)
        others = (1 - p_z) / rows(1 - alpha_bar_t)
        redrawn = rows(1 - alpha_bar_s) * (stay * m_z + others)
        from_x_0 = rows(change * alpha_bar_s / (1 - alpha_bar_t))
        probs = from_x_0 * x_0_probs + rows(change) * redrawn * prior
        same = (rows(1 - change) + rows(change) * m_z) * (rows(alpha_bar_s) * stay + redrawn)
        return probs.scatter(-1, z, same)

    def prior_sample(self, prior_probs: Tensor, uniform: Tensor) -> Tensor:
        return sample_categorical(prior_probs, uniform)


class AbsorbingProcess(CategoricalProcess):
    """The prior is the mask; a label once revealed stays."""

    @property
    def num_states(self) -> int:
        return self.num_classes + 1

    @property
    def mask_state(self) -> int:
        """Index of the mask."""
        return self.num_classes

    def corrupt(self, x_0: Tensor, t: Tensor, prior_probs: Tensor, uniform: Tensor) -> Tensor:
        alpha_bar = broadcast_rows(self.schedule.alpha_bar_at(t), uniform.double())
        return torch.where(uniform < alpha_bar, x_0, self.mask_state)

    def posterior_probs(self, x_t: Tensor, x_0_probs: Tensor, t: Tensor, s: Tensor, prior_probs: Tensor) -> Tensor:
        alpha_bar_t, alpha_bar_s = self.schedule.alpha_bar_at(t), self.schedule.alpha_bar_at(s)
        reveal = broadcast_rows((alpha_bar_s - alpha_bar_t) / (1 - alpha_bar_t), x_0_probs)
        hidden = torch.cat([reveal * x_0_probs, (1 - reveal).expand(*x_0_probs.shape[:-1], 1)], dim=-1)
        revealed = one_hot(x_t, self.num_states, x_0_probs.dtype)
        return torch.where((x_t == self.mask_state)[..., None], hidden, revealed)

    def prior_sample(self, prior_probs: Tensor, uniform: Tensor) -> Tensor:
        return torch.full(uniform.shape, self.mask_state, dtype=torch.int64, device=uniform.device)


def categorical_process(config: CategoricalConfig) -> CategoricalProcess:
    """The process of a config's prior.

    Raises:
        ValueError: the prior is neither "marginal" nor "absorbing".
    """
    match config.prior:
        case "marginal":
            return MarginalProcess(config)
        case "absorbing":
            return AbsorbingProcess(config)
    raise ValueError(f"prior must be marginal or absorbing, not {config.prior!r}")


def sample_categorical(probs: Float[Tensor, "..."], uniform: Float[Tensor, "*D"]) -> Int[Tensor, "*D"]:
    """One class per label, by inversion of the cumulated probabilities; a class of probability 0 is never drawn.

    Args:
        probs: [..., classes], broadcastable over uniform; rows need not be normalised.
        uniform: numbers in [0, 1), preferably float64.

    Returns:
        class indices in the shape of uniform.
    """
    cumulated = probs.cumsum(-1)
    threshold = uniform[..., None].double() * cumulated[..., -1:]
    return (cumulated <= threshold).sum(-1).clamp(max=probs.shape[-1] - 1)


def one_hot(index: Int[Tensor, "*D"], num_classes: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "*D C"]:
    """Probabilities that are 1 at index: a known or already sampled x_0 in the form of a prediction."""
    classes = torch.arange(num_classes, device=index.device)
    return (index[..., None] == classes).to(dtype)
