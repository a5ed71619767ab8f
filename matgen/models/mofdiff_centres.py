"""The network of the centres of known blocks in a known cell."""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matgen.models.mofdiff_latent import TIME_DIM
from matgen.models.mofdiff_score import NoisyFrameworks, centred
from matgen.nn.embeddings import sinusoidal_embedding
from matgen.nn.gemnet.layers import Perceptron, sum_by
from matgen.nn.set_transformer import SetLayer, Sets


@dataclass(frozen=True, kw_only=True)
class CentreConfig:
    """A transformer over blocks and pairs of blocks.

    `num_radial` functions of a pair's distance reach up to `reach` of the training set's mean (volume / blocks)^(1/3);
    `num_waves` sines and cosines an axis tell a pair's fractional difference.
    """

    hidden: int = 256
    num_layers: int = 4
    num_heads: int = 8
    pair_dim: int = 64
    condition_dim: int = 128
    num_radial: int = 24
    reach: float = 3.0
    num_waves: int = 6

    def __post_init__(self) -> None:
        if self.hidden % self.num_heads or self.pair_dim % self.num_heads:
            raise ValueError(f"hidden {self.hidden}, pair_dim {self.pair_dim}: no multiples of {self.num_heads} heads")


class CentreNetwork(nn.Module):
    """Sigma times the score of the centres, up to the process's gain.

    Vectors are told and predicted in the frame of the cell as `lattice_from_target` sets it up, which is the same
    however a framework was turned; differences of centres alone are looked at, so that no origin is preferred.

    Args:
        config: width and layers.
        feature_dim: F.
        known_dim: C.
        length_scale: Å, mean (volume / blocks)^(1/3) of the training set.
    """

    _images: Tensor

    def __init__(self, config: CentreConfig, feature_dim: int, known_dim: int, length_scale: float) -> None:
        super().__init__()
        self.config, self.length_scale = config, length_scale
        width, pair = config.hidden, config.pair_dim
        self.condition = Perceptron(known_dim + TIME_DIM, width, config.condition_dim)
        self.enter = nn.Linear(feature_dim + config.condition_dim, width)
        self.enter_pairs = Perceptron(config.num_radial + 6 + 6 * config.num_waves, 2 * pair, pair)
        self.layers = nn.ModuleList(
            [SetLayer(width, config.num_heads, config.condition_dim, pair) for _ in range(config.num_layers)]
        )
        self.norm, self.pair_norm = nn.LayerNorm(width), nn.LayerNorm(pair)
        self.leave = nn.Linear(width, 3)
        self.leave_pairs = nn.Linear(pair, 1)
        images = torch.tensor(list(itertools.product((0.0, -1.0, 1.0), repeat=3)))
        self.register_buffer("_images", images, persistent=False)

    def forward(self, noisy: NoisyFrameworks) -> tuple[Float[Tensor, "N 3"]]:
        """Predict vectors, whose sum is 0 in each framework: moving all of it is no news."""
        time = sinusoidal_embedding(noisy.time * 1000, TIME_DIM)
        condition = nn.functional.silu(self.condition(torch.cat([noisy.known, time], dim=-1)))
        sets = Sets.of(noisy.graph_index, noisy.num_blocks)
        features, unit = self._pairs(noisy, sets)
        h = self.enter(torch.cat([noisy.features, condition[noisy.graph_index]], dim=-1))
        p = self.enter_pairs(features.to(h.dtype))
        for layer in self.layers:
            h, p = layer(h, p, condition, sets)
        weighted = self.leave_pairs(self.pair_norm(p)) * unit.to(h.dtype)
        vectors = self.leave(self.norm(h)) + sum_by(weighted, sets.pairs[0], len(h))
        return (centred(vectors, noisy.graph_index, noisy.num_blocks),)

    def _pairs(self, noisy: NoisyFrameworks, sets: Sets) -> tuple[Float[Tensor, "P R"], Float[Tensor, "P 3"]]:
        """What is told of each pair, and the unit vector to the nearest image of its second block (0 with itself)."""
        first, second = sets.pairs
        frac = noisy.frac_coords[second] - noisy.frac_coords[first]
        frac = frac - frac.round()
        lattice = (noisy.lattice / self.length_scale)[noisy.graph_index[first]]
        vectors = torch.einsum("pmi,pij->pmj", frac[:, None] + self._images.to(frac.dtype), lattice)
        nearest = vectors.square().sum(-1).argmin(1)
        vector = vectors[torch.arange(len(frac), device=frac.device), nearest]
        distance = vector.norm(dim=-1, keepdim=True)
        unit = vector / distance.clamp(min=1e-6)
        centres = torch.linspace(0, self.config.reach, self.config.num_radial, device=frac.device)
        radial = (-0.5 * ((distance - centres) * (self.config.num_radial / self.config.reach)).square()).exp()
        waves = 2 * math.pi * frac[..., None] * torch.arange(1, self.config.num_waves + 1, device=frac.device)
        waves = waves.flatten(1)
        return torch.cat([radial, unit, vector, waves.sin(), waves.cos()], dim=-1), unit
