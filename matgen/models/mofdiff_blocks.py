"""The network of a framework's blocks alone: which blocks go together, before any of them has a place."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matgen.models.mofdiff_latent import TIME_DIM
from matgen.nn.embeddings import sinusoidal_embedding
from matgen.nn.gemnet.layers import Perceptron
from matgen.nn.set_transformer import SetLayer, Sets


@dataclass(frozen=True, kw_only=True)
class BlockSetConfig:
    """A transformer over the blocks of a framework: width, layers, heads, and length of the condition."""

    hidden: int = 256
    num_layers: int = 4
    num_heads: int = 8
    condition_dim: int = 128

    def __post_init__(self) -> None:
        if self.hidden % self.num_heads:
            raise ValueError(f"hidden {self.hidden} is no multiple of num_heads {self.num_heads}")


@dataclass(frozen=True, eq=False)
class NoisyBlocks:
    """Noisy features of blocks and what is known of each framework.

    Attributes:
        features: [N, F] at t.
        graph_index: int64[N], ascending.
        num_blocks: int64[B].
        time: [B], t / T.
        known: [B, C], latent, cell, counts and properties.
    """

    features: Tensor
    graph_index: Tensor
    num_blocks: Tensor
    time: Tensor
    known: Tensor


class BlockSetNetwork(nn.Module):
    """Output for the features of all blocks of a framework together, whatever their order.

    Args:
        config: width and layers.
        feature_dim: F.
        known_dim: C.
    """

    def __init__(self, config: BlockSetConfig, feature_dim: int, known_dim: int) -> None:
        super().__init__()
        width = config.hidden
        self.condition = Perceptron(known_dim + TIME_DIM, width, config.condition_dim)
        self.enter = nn.Linear(feature_dim + config.condition_dim, width)
        self.layers = nn.ModuleList(
            [SetLayer(width, config.num_heads, config.condition_dim) for _ in range(config.num_layers)]
        )
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, feature_dim)

    def forward(self, noisy: NoisyBlocks) -> Float[Tensor, "N F"]:
        """Predict the output for each block."""
        time = sinusoidal_embedding(noisy.time * 1000, TIME_DIM)
        condition = nn.functional.silu(self.condition(torch.cat([noisy.known, time], dim=-1)))
        sets = Sets.of(noisy.graph_index, noisy.num_blocks)
        h = self.enter(torch.cat([noisy.features, condition[noisy.graph_index]], dim=-1))
        for layer in self.layers:
            h, _ = layer(h, None, condition, sets)
        return self.leave(self.norm(h))
