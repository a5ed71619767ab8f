"""Denoising diffusion of a real vector, with reverse steps from any t to any s < t."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from matgen.diffusion.schedule import NoiseSchedule, ScheduleConfig, broadcast_rows
from matgen.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class GaussianConfig:
    """Settings of GaussianProcess."""

    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    # At t near T a small error of eps is a huge one of x_0 (alpha_bar_T = 2e-10 for the cosine schedule), which a long
    # reverse step would pass on. Data are standardised, so that nothing real lies beyond. None: the paper's plain step.
    x_0_limit: float | None = 10.0


class GaussianProcess:
    """q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I)."""

    def __init__(self, config: GaussianConfig) -> None:
        self.config = config
        self.schedule = NoiseSchedule(config.schedule)

    def corrupt(
        self, x_0: Float[Tensor, "B *D"], t: Int[Tensor, "B"], eps: Float[Tensor, "B *D"]
    ) -> Float[Tensor, "B *D"]:
        """x_t from data and standard normal noise.

        Args:
            x_0: data, standardised.
            t: steps in 0..T.
            eps: standard normal noise.

        Returns:
            x_t.

        Source: Ho et al. 2020 (arXiv 2006.11239), eq. 4.
        """
        alpha_bar = self.schedule.alpha_bar_at(t)
        return broadcast_rows(alpha_bar.sqrt(), x_0) * x_0 + broadcast_rows((1 - alpha_bar).sqrt(), x_0) * eps

    def estimate_x_0(
        self, x_t: Float[Tensor, "B *D"], eps_hat: Float[Tensor, "B *D"], t: Int[Tensor, "B"]
    ) -> Float[Tensor, "B *D"]:
        """The data that x_t and the predicted noise imply, clamped to the configured limit."""
        alpha_bar = self.schedule.alpha_bar_at(t)
        noise = broadcast_rows((1 - alpha_bar).sqrt(), x_t) * eps_hat
        x_0 = (x_t - noise) / broadcast_rows(alpha_bar.sqrt(), x_t)
        limit = self.config.x_0_limit
        return x_0 if limit is None else x_0.clamp(-limit, limit)

    def reverse_step(
        self,
        x_t: Float[Tensor, "B *D"],
        eps_hat: Float[Tensor, "B *D"],
        t: Int[Tensor, "B"],
        s: Int[Tensor, "B"],
        noise: Float[Tensor, "B *D"],
        eta: float = 1.0,
    ) -> Float[Tensor, "B *D"]:
        """x_s from q(x_s | x_t, x_0) at the x_0 that the predicted noise implies.

        Args:
            x_t: state at t.
            eps_hat: predicted noise.
            t: steps in 1..T.
            s: steps in 0..t - 1.
            noise: standard normal noise.
            eta: 1 is the ancestral step, 0 the deterministic one.

        Returns:
            x_s.

        Source: Ho et al. 2020, eq. 7, for any t and s; Song et al. 2021 (arXiv 2010.02502), eq. 12.
        """
        return self.step_toward(x_t, self.estimate_x_0(x_t, eps_hat, t), t, s, noise, eta)

    def step_toward(
        self,
        x_t: Float[Tensor, "B *D"],
        x_0: Float[Tensor, "B *D"],
        t: Int[Tensor, "B"],
        s: Int[Tensor, "B"],
        noise: Float[Tensor, "B *D"],
        eta: float = 1.0,
    ) -> Float[Tensor, "B *D"]:
        """The same for x_0 as it is; see `reverse_step`."""
        alpha_bar_t, alpha_bar_s = self.schedule.alpha_bar_at(t), self.schedule.alpha_bar_at(s)
        variance = eta**2 * (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
        keep = ((1 - alpha_bar_s - variance).clamp(min=0) / (1 - alpha_bar_t)).sqrt()
        toward = alpha_bar_s.sqrt() - keep * alpha_bar_t.sqrt()
        mean = broadcast_rows(keep, x_t) * x_t + broadcast_rows(toward, x_t) * x_0
        return mean + broadcast_rows(variance.sqrt(), x_t) * noise

    def prior_sample(self, noise: Float[Tensor, "B *D"]) -> Float[Tensor, "B *D"]:
        """x_T from standard normal noise: the noise itself, for alpha_bar_T is nearly 0."""
        return torch.clone(noise)
