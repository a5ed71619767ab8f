"""Latent optimisation: latents move until the property head says what is wanted, and stay where latents are."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from matgen.diffusion.noise import CounterNoise
from matgen.models.mofdiff_latent import LatentHeads, LatentPrior, velocity
from matgen.models.mofdiff_sampling import CoarseStream

_T_STREAM, _EPS_STREAM = CoarseStream.PRIOR_TIME, CoarseStream.PRIOR


@dataclass(frozen=True, kw_only=True)
class OptimiseConfig:
    """Adam on the latent.

    `prior_weight` weighs a term that keeps latents where the model has seen them: the diffusion loss of the latent's
    distribution, which bounds minus the logarithm of its density, or |z|^2 / (2 dim) in a model without one. 0 is as
    published; the property head then finds latents that no framework has.
    """

    num_steps: int = 300
    learning_rate: float = 0.02
    prior_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.learning_rate <= 0 or self.prior_weight < 0:
            raise ValueError(f"need num_steps >= 1, learning_rate > 0 and prior_weight >= 0, not {self}")


def optimise_latent(
    heads: LatentHeads,
    prior: LatentPrior | None,
    z: Float[Tensor, "B Z"],
    target: Float[Tensor, "B P"],
    noise: CounterNoise,
    config: OptimiseConfig,
) -> Float[Tensor, "B Z"]:
    """Move latents until the property head says what is wanted.

    Args:
        heads: of the trained model; unchanged.
        prior: distribution of latents of the trained model; unchanged.
        z: where to start, from the prior or encoded frameworks.
        target: standardised properties; NaN: any. Infinity asks for as much, or as little, as possible.
        noise: one row per latent, for the term of the prior: a latent's path does not depend on the others.
        config: steps.

    Returns:
        the optimised latents.

    Source: Fu et al., MOFDiff (arXiv 2310.10732), section 3.4, with a term for the prior as in Poole et al. (arXiv
        2209.14988), eq. 2.
    """
    z = z.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=config.learning_rate)
    with torch.enable_grad():
        for step in range(config.num_steps):
            loss = _miss(heads.properties(z), target).sum()
            if config.prior_weight > 0:
                loss = loss + config.prior_weight * _implausible(prior, z, noise, step).sum()
            (z.grad,) = torch.autograd.grad(loss, z)
            optimizer.step()
    return z.detach()


def _miss(predicted: Float[Tensor, "B P"], target: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """Squared distance to finite targets; minus or plus the property where as much or as little as can be is asked."""
    endless = target.isinf()
    finite = ~target.isnan() & ~endless
    squared = (predicted - torch.where(finite, target, 0.0)).square()
    linear = -torch.where(endless, target.sign(), 0.0) * predicted
    return torch.where(finite, squared, linear)


def _implausible(prior: LatentPrior | None, z: Float[Tensor, "B Z"], noise: CounterNoise, step: int) -> Tensor:
    """The diffusion loss of latents at one random time each."""
    if prior is None:
        return 0.5 * z.square().mean(-1)
    t = 1 + (noise.uniform(step, _T_STREAM) * prior.num_steps).long()
    eps = noise.normal(step, _EPS_STREAM, (z.shape[1],))
    condition = z.new_zeros(len(z), prior.condition_dim)
    v = velocity(prior.process, z, eps, t)
    return (prior(prior.process.corrupt(z, t, eps), t, condition) - v).square().mean(-1)
