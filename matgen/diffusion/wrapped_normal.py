"""Variance-exploding diffusion on the circle [0, 1), with the exact score of the wrapped normal distribution."""

import functools
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from matgen.diffusion.schedule import DeviceTable, SigmaConfig, SigmaSchedule, broadcast_rows
from matgen.shapes import Float, Int

# Below this sigma five images are enough (truncation 1e-14), above it five terms of the Fourier series (1e-27).
_CROSSOVER = 0.3
_NUM_IMAGES = 2
_NUM_HARMONICS = 5
_NUM_NODES = 128


@dataclass(frozen=True, kw_only=True)
class WrappedNormalConfig:
    """Settings of WrappedNormalProcess."""

    sigmas: SigmaConfig = field(default_factory=SigmaConfig)


class WrappedNormalProcess:
    """q(x_t | x_0) = N(x_0, sigma_t^2) wrapped to [0, 1), each coordinate by itself."""

    def __init__(self, config: WrappedNormalConfig) -> None:
        self.config = config
        self.schedule = SigmaSchedule(config.sigmas)
        self.score_norm = _score_norm_table(config.sigmas)
        self._score_scale = DeviceTable(self.score_norm.sqrt())

    def corrupt(
        self, x_0: Float[Tensor, "B *D"], t: Int[Tensor, "B"], eps: Float[Tensor, "B *D"]
    ) -> tuple[Float[Tensor, "B *D"], Float[Tensor, "B *D"]]:
        """x_t and the regression target of a denoiser.

        Args:
            x_0: fractional coordinates.
            t: steps in 1..T.
            eps: standard normal noise.

        Returns:
            x_t in [0, 1), and grad log q(x_t | x_0) / sqrt(lambda_t), whose mean square is 1 at every t.

        Source: Jiao et al. 2023 (arXiv 2309.04475), eq. 7; the sign is that of the score.
        """
        sigma = broadcast_rows(self.schedule.sigma_at(t), eps.double())
        displacement = sigma * eps.double()
        target = score(displacement, sigma) / broadcast_rows(self._score_scale.at(t), displacement)
        return wrap(x_0 + displacement.to(x_0.dtype)), target.to(x_0.dtype)

    def unscale(self, prediction: Float[Tensor, "B *D"], t: Int[Tensor, "B"]) -> Float[Tensor, "B *D"]:
        """The score from the prediction of `corrupt`'s target: the product with sqrt(lambda_t)."""
        return prediction * broadcast_rows(self._score_scale.at(t), prediction)

    def reverse_step(
        self,
        x_t: Float[Tensor, "B *D"],
        score_hat: Float[Tensor, "B *D"],
        t: Int[Tensor, "B"],
        s: Int[Tensor, "B"],
        noise: Float[Tensor, "B *D"],
        eta: float = 1.0,
    ) -> Float[Tensor, "B *D"]:
        """The predictor: one ancestral step from t to any s < t.

        Args:
            x_t: state at t.
            score_hat: predicted grad log p(x_t).
            t: steps in 1..T.
            s: steps in 0..t - 1.
            noise: standard normal noise.
            eta: 1 is the ancestral step, 0 the deterministic one.

        Returns:
            x_s in [0, 1).

        Source: Song et al. 2021 (arXiv 2011.13456), eq. 47; for eta < 1 the step of arXiv 2010.02502 with sigmas.
        """
        var_t, var_s = self.schedule.sigma_at(t) ** 2, self.schedule.sigma_at(s) ** 2
        variance = eta**2 * var_s * (var_t - var_s) / var_t
        drift = var_t - (var_t * (var_s - variance).clamp(min=0)).sqrt()
        return wrap(x_t + broadcast_rows(drift, x_t) * score_hat + broadcast_rows(variance.sqrt(), x_t) * noise)

    def corrector_step(
        self,
        x_t: Float[Tensor, "B *D"],
        score_hat: Float[Tensor, "B *D"],
        t: Int[Tensor, "B"],
        step_size: float,
        noise: Float[Tensor, "B *D"],
    ) -> Float[Tensor, "B *D"]:
        """One Langevin step at fixed t, with step eta_t = step_size (sigma_t / sigma_1)^2.

        Args:
            x_t: state at t.
            score_hat: predicted grad log p(x_t).
            t: steps in 1..T.
            step_size: eta at t = 1.
            noise: standard normal noise, or zeros.

        Returns:
            a state at the same t, in [0, 1).

        Source: Song et al. 2021 (arXiv 2011.13456), algorithm 4; step of Jiao et al. 2023, algorithm 2.
        """
        eta = step_size * (self.schedule.sigma_at(t) / self.config.sigmas.sigma_min) ** 2
        return wrap(x_t + broadcast_rows(eta, x_t) * score_hat + broadcast_rows((2 * eta).sqrt(), x_t) * noise)


def wrap(x: Float[Tensor, "*D"]) -> Float[Tensor, "*D"]:
    """x modulo 1, in [0, 1) even where x - floor(x) rounds to 1."""
    x = x - x.floor()
    return torch.where(x < 1, x, torch.zeros_like(x))


def score(displacement: Float[Tensor, "*#D"], sigma: Float[Tensor, "*#D"]) -> Float[Tensor, "..."]:
    """grad log p of the wrapped normal distribution with mean 0.

    Args:
        displacement: x_t - x_0; any real number.
        sigma: standard deviation before wrapping, > 0; broadcastable to displacement.

    Returns:
        the score in float64, exact to rounding for every sigma.
    """
    y = displacement.double() - displacement.double().round()
    sigma = sigma.double()
    small, large = sigma.clamp(min=1e-8, max=_CROSSOVER), sigma.clamp(min=_CROSSOVER)
    return torch.where(sigma < _CROSSOVER, _score_by_images(y, small), _score_by_harmonics(y, large))


def log_density(displacement: Float[Tensor, "*#D"], sigma: Float[Tensor, "*#D"]) -> Float[Tensor, "..."]:
    """log p of the wrapped normal distribution with mean 0; arguments as in `score`."""
    y = displacement.double() - displacement.double().round()
    sigma = sigma.double()
    small, large = sigma.clamp(min=1e-8, max=_CROSSOVER), sigma.clamp(min=_CROSSOVER)
    nearest = -(y**2) / (2 * small**2) - small.log() - 0.5 * np.log(2 * np.pi)
    images = nearest + _image_ratios(y, small).sum(-1).log()
    weights, phase = _harmonics(y, large)
    return torch.where(sigma < _CROSSOVER, images, (1 + 2 * (weights * phase.cos()).sum(-1)).log())


def score_norm(sigma: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    """lambda = E[score^2] for each sigma, by Gauss-Legendre quadrature.

    Args:
        sigma: standard deviations, > 0.

    Returns:
        float64 values; 1 / sigma^2 where sigma is small.
    """
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(_NUM_NODES))
    sigma = sigma.double()[:, None]
    half_width = (12 * sigma).clamp(max=0.5) / 2  # the integrand is even, and nothing is left beyond 12 sigma
    y = half_width * (nodes + 1)
    integrand = score(y, sigma) ** 2 * log_density(y, sigma).exp()
    return 2 * (half_width * weights * integrand).sum(-1)


@functools.lru_cache(maxsize=16)
def _score_norm_table(config: SigmaConfig) -> Float[Tensor, "T"]:
    norm = score_norm(SigmaSchedule(config).sigma[1:])
    return torch.cat([torch.ones(1, dtype=torch.float64), norm])  # no score at t = 0


def _image_ratios(y: Tensor, sigma: Tensor) -> Float[Tensor, "*D I"]:
    """exp(-(y + i)^2 / 2 sigma^2) over that of i = 0: at most 1 for |y| <= 1/2, and exact next to y = 1/2."""
    i = torch.arange(-_NUM_IMAGES, _NUM_IMAGES + 1, dtype=y.dtype, device=y.device)
    return (-(i * (i + 2 * y[..., None])) / (2 * sigma[..., None] ** 2)).exp()


def _score_by_images(y: Tensor, sigma: Tensor) -> Tensor:
    ratios = _image_ratios(y, sigma)
    i = torch.arange(-_NUM_IMAGES, _NUM_IMAGES + 1, dtype=y.dtype, device=y.device)
    return -(y + (i * ratios).sum(-1) / ratios.sum(-1)) / sigma**2


def _harmonics(y: Tensor, sigma: Tensor) -> tuple[Float[Tensor, "... N"], Float[Tensor, "... N"]]:
    n = torch.arange(1, _NUM_HARMONICS + 1, dtype=y.dtype, device=y.device)
    return (-2 * (torch.pi * n * sigma[..., None]) ** 2).exp(), 2 * torch.pi * n * y[..., None]


def _score_by_harmonics(y: Tensor, sigma: Tensor) -> Tensor:
    weights, phase = _harmonics(y, sigma)
    n = torch.arange(1, _NUM_HARMONICS + 1, dtype=y.dtype, device=y.device)
    slope = -4 * torch.pi * (n * weights * phase.sin()).sum(-1)
    return slope / (1 + 2 * (weights * phase.cos()).sum(-1))
