"""The way back from noise: features and centres of blocks, step by step, given all else of a framework."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from matgen.diffusion.gaussian import GaussianProcess
from matgen.diffusion.noise import CounterNoise
from matgen.diffusion.sampler import time_grid
from matgen.diffusion.wrapped_normal_lattice import LatticeNormalProcess
from matgen.models.mofdiff_sampling import CoarseSamplerConfig, CoarseStream
from matgen.models.mofdiff_score import Given, per_block


@dataclass(frozen=True, eq=False)
class Reverse:
    """Reverse steps of the frameworks of one request.

    Attributes:
        features: process of the features.
        coords: process of the centres.
        given: what does not change.
        unguided: the same without wanted properties, for guidance; None: without guidance.
        noise: one row per framework.
        sampler: number of steps, guidance and noise.
    """

    features: GaussianProcess
    coords: LatticeNormalProcess
    given: Given
    unguided: Given | None
    noise: CounterNoise
    sampler: CoarseSamplerConfig

    def times(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The pairs (t, s) of all steps, int64[B] each."""
        grid = time_grid(self.sampler.num_steps, self.coords.num_steps, self.sampler.grid_power).tolist()
        for t, s in itertools.pairwise(grid):
            yield torch.full_like(self.given.num_blocks, t), torch.full_like(self.given.num_blocks, s)

    def start_features(self, dim: int) -> Float[Tensor, "N F"]:
        """Features at T: standard normal noise."""
        return per_block(self.noise, 0, CoarseStream.FEATURES_START, dim, self.given.num_blocks)

    def start_centres(self) -> Float[Tensor, "N 3"]:
        """Fractional coordinates at T: anywhere."""
        return per_block(self.noise, 0, CoarseStream.COORDS_START, 3, self.given.num_blocks, uniform=True)

    def guided(self, output: Callable[[Given], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What a network says, further away from what it says when it is not told the wanted properties."""
        told = output(self.given)
        if self.unguided is None:
            return told
        scale = self.sampler.score_guidance
        return tuple(a + scale * (a - b) for a, b in zip(told, output(self.unguided), strict=True))

    def step_features(self, features: Tensor, clean: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "N F"]:
        """Features at s from those at t and the clean ones that a network expects."""
        index = self.given.graph_index
        noise = per_block(self.noise, int(t[0]), CoarseStream.FEATURES_START, features.shape[1], self.given.num_blocks)
        return self.features.step_toward(features, clean, t[index], s[index], noise, self.sampler.eta)

    def step_centres(self, frac_coords: Tensor, output: Tensor, t: Tensor, s: Tensor) -> Float[Tensor, "N 3"]:
        """Fractional coordinates at s from those at t and sigma times their score."""
        given, index = self.given, self.given.graph_index
        noise = per_block(self.noise, int(t[0]), CoarseStream.COORDS, 3, given.num_blocks)
        sigma_t, sigma_s = (self.coords.sigma(step, given.sigma_unit) for step in (t, s))
        score = output / sigma_t[index, None]
        return self.coords.reverse_step(
            frac_coords, score, given.lattice, index, sigma_t, sigma_s, noise, self.sampler.eta
        )
