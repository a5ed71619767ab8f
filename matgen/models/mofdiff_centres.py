"""The network of the centres of known blocks in a known cell."""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matgen.models.mofdiff_features import NUM_ARMS
from matgen.models.mofdiff_latent import TimeCondition
from matgen.models.mofdiff_score import NoisyFrameworks, centred
from matgen.nn.gemnet.layers import Perceptron, sum_by
from matgen.nn.set_transformer import SetLayer, Sets


@dataclass(frozen=True, kw_only=True)
class CentreConfig:
    """A transformer over blocks and pairs of blocks.

    Of each pair the `num_images` nearest images are looked at. `num_radial` functions of their distance reach up to
    `reach` of the training set's mean (volume / blocks)^(1/3), and as many of what is left of it beyond both blocks'
    arms, either way up to half of that; `num_waves` sines and cosines an axis tell a pair's fractional difference.
    """

    hidden: int = 256
    num_layers: int = 4
    num_heads: int = 8
    pair_dim: int = 64
    condition_dim: int = 128
    num_images: int = 3
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
    Blocks that are joined in a straight line are as far apart as both arms are long: the network is told what is left.

    Args:
        config: width and layers.
        feature_dim: F, of which the last are arms, see `BlockFeatures.with_arms`.
        known_dim: C.
        length_scale: Å, mean (volume / blocks)^(1/3) of the training set.
    """

    _images: Tensor

    def __init__(self, config: CentreConfig, feature_dim: int, known_dim: int, length_scale: float) -> None:
        super().__init__()
        self.config, self.length_scale = config, length_scale
        width, pair = config.hidden, config.pair_dim
        self.condition = TimeCondition(known_dim, width, config.condition_dim)
        self.enter = nn.Linear(feature_dim + config.condition_dim, width)
        self.enter_images = Perceptron(2 * config.num_radial + 6, pair, pair)
        self.enter_pairs = nn.Linear(6 * config.num_waves, pair)
        self.layers = nn.ModuleList(
            [SetLayer(width, config.num_heads, config.condition_dim, pair) for _ in range(config.num_layers)]
        )
        self.norm, self.pair_norm = nn.LayerNorm(width), nn.LayerNorm(pair)
        self.leave = nn.Linear(width, 3)
        self.image_gate = nn.Linear(2 * config.num_radial + 6, pair)
        self.leave_images = nn.Linear(pair, 1, bias=False)
        images = torch.tensor(list(itertools.product((0.0, -1.0, 1.0), repeat=3)))
        self.register_buffer("_images", images, persistent=False)

    def forward(self, noisy: NoisyFrameworks) -> tuple[Float[Tensor, "N 3"]]:
        """Predict vectors, whose sum is 0 in each framework: moving all of it is no news."""
        condition = self.condition.of(noisy.known, noisy.time)
        sets = Sets.of(noisy.graph_index, noisy.num_blocks)
        with torch.no_grad():
            waves, images, unit = self._pairs(noisy, sets)
        h = self.enter(torch.cat([noisy.features, condition[noisy.graph_index]], dim=-1))
        p = self.enter_pairs(waves) + self.enter_images(images).sum(1)
        for layer in self.layers:
            h, p = layer(h, p, condition, sets)
        weight = self.leave_images(nn.functional.silu(self.pair_norm(p)[:, None] + self.image_gate(images)))
        vectors = self.leave(self.norm(h)) + sum_by((weight * unit).sum(1), sets.pairs[0], len(h))
        return (centred(vectors, noisy.graph_index, noisy.num_blocks),)

    def _pairs(
        self, noisy: NoisyFrameworks, sets: Sets
    ) -> tuple[Float[Tensor, "P W"], Float[Tensor, "P I R"], Float[Tensor, "P I 3"]]:
        """What is told of each pair and of each of its nearest images, and the unit vectors to these (0 to itself)."""
        config = self.config
        first, second = sets.pairs
        frac = noisy.frac_coords[second] - noisy.frac_coords[first]
        frac = frac - frac.round()
        lattice = (noisy.lattice / self.length_scale)[noisy.graph_index[first]]
        vectors = torch.baddbmm(torch.bmm(frac[:, None], lattice), self._images.expand(len(frac), -1, -1), lattice)
        nearest = vectors.square().sum(-1).topk(config.num_images, largest=False).indices
        vectors = vectors.gather(1, nearest[..., None].expand(-1, -1, 3))
        distance = vectors.norm(dim=-1, keepdim=True)
        unit = vectors / distance.clamp(min=1e-6)
        arms = noisy.features[:, -NUM_ARMS + 1]
        left = distance - (arms[first] + arms[second])[:, None, None]
        grid = torch.linspace(0, config.reach, config.num_radial, device=frac.device)
        sharp = config.num_radial / config.reach
        radial = (-0.5 * ((distance - grid) * sharp).square()).exp()
        beyond = (-0.5 * ((left - grid / 2 + config.reach / 4) * (2 * sharp)).square()).exp()
        steps = torch.arange(1, config.num_waves + 1, device=frac.device)
        waves = (2 * math.pi * frac[..., None] * steps).flatten(1)
        return torch.cat([waves.sin(), waves.cos()], 1), torch.cat([radial, beyond, unit, vectors], -1), unit
