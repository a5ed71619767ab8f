"""Properties as numbers near 1 and as a condition that says which of them are known."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matgen.data.mof_statistics import CoarseStatistics
from matgen.diffusion.noise import CounterNoise
from matgen.models.mofdiff_sampling import CoarseRequest, CoarseStream


class Properties(nn.Module):
    """Standardises properties and makes the condition of networks.

    Args:
        statistics: of the training set.
        conditional: whether networks are told properties at all.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, statistics: CoarseStatistics, conditional: bool) -> None:
        super().__init__()
        self.register_buffer("mean", statistics.property_mean.clone(), persistent=False)
        self.register_buffer("std", statistics.property_std.clone(), persistent=False)
        self.condition_dim = 2 * statistics.num_properties if conditional else 0

    def standardise(self, properties: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """Properties less their mean, over their standard deviation; NaN stays."""
        return (properties - self.mean) / self.std

    def restore(self, properties: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
        """The inverse of `standardise`."""
        return properties * self.std + self.mean

    def condition(
        self, properties: Float[Tensor, "B P"], drop: float = 0.0, noise: CounterNoise | None = None
    ) -> Float[Tensor, "B C"]:
        """Known properties, 0 for others, and which are known.

        Args:
            properties: standardised, NaN where unknown.
            drop: share of rows that show nothing, and of single properties that are not shown: the network learns all
                subsets, the empty one too.
            noise: one row each, with `drop`.

        Source: Ho and Salimans, Classifier-free diffusion guidance (arXiv 2207.12598), algorithm 1.
        """
        if self.condition_dim == 0:
            return properties.new_zeros(len(properties), 0)
        known = ~properties.isnan()
        if noise is not None:
            shown = noise.uniform(0, CoarseStream.CONDITION, (1 + properties.shape[1],)) >= drop
            known = known & shown[:, :1] & shown[:, 1:]
        return torch.cat([torch.where(known, properties, 0.0), known.to(properties.dtype)], dim=-1)

    def wanted(self, request: CoarseRequest) -> Float[Tensor, "B P"]:
        """Standardised properties of a request."""
        if request.properties is None:
            return torch.full((len(request), len(self.mean)), torch.nan, device=request.seeds.device)
        return self.standardise(request.properties)
