"""The score network of the joint diffusion of block features and block centres."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matgen.diffusion.noise import CounterNoise
from matgen.models.mofdiff_latent import TimeCondition
from matgen.nn.gemnet import (
    GemNet,
    GemNetConfig,
    GraphConfig,
    NeighborConfig,
    VectorReadout,
    build_graph,
    nearest_neighbors,
)
from matgen.nn.gemnet.layers import Perceptron, sum_by


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Graph and network; `graph.cutoff` is in units of the training set's mean (volume / blocks)^(1/3)."""

    neighbors: NeighborConfig = field(default_factory=NeighborConfig)
    graph: GraphConfig = field(default_factory=lambda: GraphConfig(cutoff=4.0))
    network: GemNetConfig = field(default_factory=lambda: GemNetConfig(node_dim=192, edge_dim=112, mean_neighbors=16.0))
    condition_dim: int = 192


@dataclass(frozen=True, eq=False)
class NoisyFrameworks:
    """A noisy state and what is known of each framework.

    Attributes:
        features: [N, F] at t.
        frac_coords: [N, 3] at t.
        lattice: [B, 3, 3], rows a, b, c; Å.
        num_blocks: int64[B].
        graph_index: int64[N].
        t: int64[B].
        time: [B], t / T.
        known: [B, C], latent, cell, counts and properties.
    """

    features: Tensor
    frac_coords: Tensor
    lattice: Tensor
    num_blocks: Tensor
    graph_index: Tensor
    time: Tensor
    known: Tensor


@dataclass(frozen=True, eq=False)
class State:
    """Features and fractional coordinates of all blocks at some t."""

    features: Tensor
    frac_coords: Tensor


@dataclass(frozen=True, eq=False)
class Given:
    """What does not change with t: cells (Å), counts, graph of each block, unit of sigma (Å), and what is known."""

    lattice: Tensor
    num_blocks: Tensor
    num_metal: Tensor
    graph_index: Tensor
    sigma_unit: Tensor
    known: Tensor


class ScoreNetwork(nn.Module):
    """Output for the features, and sigma times the score of the centres up to the process's gain.

    Args:
        config: graph and network.
        feature_dim: F.
        known_dim: length of what is known of a framework.
        length_scale: Å, mean (volume / blocks)^(1/3) of the training set.
    """

    def __init__(self, config: ScoreConfig, feature_dim: int, known_dim: int, length_scale: float) -> None:
        super().__init__()
        self.config, self.length_scale = config, length_scale
        width = config.network.node_dim
        self.condition = TimeCondition(known_dim, config.condition_dim, config.condition_dim)
        self.network = GemNet(
            config.network,
            feature_dim + config.condition_dim,
            config.graph.num_radial,
            config.graph.num_angular,
            config.condition_dim,
            edges_out=True,
        )
        self.features = Perceptron(width, width, feature_dim)
        self.vectors = VectorReadout(config.network)

    def forward(self, noisy: NoisyFrameworks) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N 3"]]:
        """Predict both; the vectors of a framework add up to 0, for moving all of it changes nothing."""
        with torch.no_grad():
            edges = nearest_neighbors(
                noisy.frac_coords, noisy.lattice / self.length_scale, noisy.num_blocks, self.config.neighbors
            )
        graph = build_graph(
            edges.source, edges.target, edges.vectors, len(noisy.frac_coords), self.config.graph, edges.reach
        )
        condition = self.condition.of(noisy.known, noisy.time)
        nodes = torch.cat([noisy.features, condition[noisy.graph_index]], dim=-1)
        features = self.network(nodes, graph, condition, noisy.graph_index)
        vectors = centred(self.vectors(features, graph), noisy.graph_index, noisy.num_blocks)
        return self.features(features.nodes), vectors


def centred(
    vectors: Float[Tensor, "N 3"], graph_index: Int[Tensor, "N"], num_blocks: Int[Tensor, "B"]
) -> Float[Tensor, "N 3"]:
    """Vectors less their mean in each framework."""
    mean = sum_by(vectors, graph_index, len(num_blocks)) / num_blocks[:, None]
    return vectors - mean[graph_index]


def per_block(
    noise: CounterNoise, step: int, stream: int, dim: int, num_blocks: Int[Tensor, "B"], uniform: bool = False
) -> Float[Tensor, "N D"]:
    """Random numbers of all blocks, which do not depend on other frameworks; standard normal or in [0, 1)."""
    shape = int(num_blocks.max()), dim
    draw = noise.uniform(step, stream, shape, torch.float32) if uniform else noise.normal(step, stream, shape)
    return draw[torch.arange(shape[0], device=num_blocks.device) < num_blocks[:, None]]
