"""Losses of the coarse diffusion, each a mean over frameworks."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matgen.nn.gemnet.layers import sum_by


@dataclass(frozen=True, kw_only=True)
class CoarseLossWeights:
    """Weights of the losses."""

    coords: float = 1.0
    features: float = 1.0
    lattice: float = 1.0
    num_blocks: float = 0.2
    num_metal: float = 0.2
    properties: float = 1.0
    kl: float = 0.001
    prior: float = 1.0


@dataclass(frozen=True, eq=False)
class CoarseLosses:
    """Means over the frameworks of a batch; `total` is what is minimised."""

    total: Tensor
    coords: Tensor
    features: Tensor
    lattice: Tensor
    num_blocks: Tensor
    num_metal: Tensor
    properties: Tensor
    kl: Tensor
    prior: Tensor


def combine(losses: dict[str, Tensor], weights: CoarseLossWeights) -> CoarseLosses:
    """The losses with their weighted sum."""
    total = torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
    return CoarseLosses(total=total, **losses)


def mean_over_blocks(
    errors: Float[Tensor, "N"], graph_index: Int[Tensor, "N"], num_blocks: Int[Tensor, "B"]
) -> Float[Tensor, ""]:
    """Mean over frameworks of the mean over their blocks."""
    return (sum_by(errors[:, None], graph_index, len(num_blocks))[:, 0] / num_blocks).mean()


def property_loss(predicted: Float[Tensor, "B P"], target: Float[Tensor, "B P"]) -> Float[Tensor, ""]:
    """Squared error of known properties, NaN standing for unknown ones, summed and divided by all B * P.

    The divisor does not depend on what is known, so that the losses of parts of a batch add up.
    """
    known = ~target.isnan()
    error = torch.where(known, predicted - torch.where(known, target, 0.0), 0.0).square()
    return error.sum() / max(error.numel(), 1)


def count_loss(logits: Float[Tensor, "B K"], count: Int[Tensor, "B"]) -> Float[Tensor, ""]:
    """Cross entropy of numbers of blocks; more than any training framework has count as the most that one has.

    Args:
        logits: [B, most + 1].
        count: int64[B].
    """
    return torch.nn.functional.cross_entropy(logits, count.clamp(max=logits.shape[1] - 1))
