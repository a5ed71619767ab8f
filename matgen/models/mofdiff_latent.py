"""The latent of a coarse framework: its encoder, what is predicted from it, and its distribution."""

import itertools
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matgen.diffusion.gaussian import GaussianConfig, GaussianProcess
from matgen.diffusion.noise import CounterNoise
from matgen.diffusion.sampler import time_grid
from matgen.models.mofdiff_sampling import CoarseStream
from matgen.nn.embeddings import sinusoidal_embedding
from matgen.nn.gemnet import GemNet, GemNetConfig, GraphConfig, GraphReadout, ReadoutConfig, build_graph
from matgen.nn.gemnet.layers import Perceptron

TIME_DIM = 64
_LATTICE = 6


@dataclass(frozen=True, kw_only=True)
class LatentConfig:
    """Encoder, latent and heads.

    `graph.cutoff` is in units of the training set's mean (volume / blocks)^(1/3).
    """

    dim: int = 64
    graph: GraphConfig = field(default_factory=lambda: GraphConfig(cutoff=4.0))
    network: GemNetConfig = field(default_factory=lambda: GemNetConfig(mean_neighbors=6.0, num_layers=2))
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    hidden: int = 256
    min_log_var: float = -8.0
    max_log_var: float = 4.0


@dataclass(frozen=True, eq=False)
class CoarseGraph:
    """Connected blocks.

    Attributes:
        features: [N, F], standardised.
        graph_index: int64[N].
        edge_index: int64[2, E], both directions.
        vectors: [E, 3] from the first block to the image of the second, in units of the training set's length scale.
        num_blocks: int64[B].
        num_metal: int64[B].
        lattice: [B, 6], standardised target.
    """

    features: Tensor
    graph_index: Tensor
    edge_index: Tensor
    vectors: Tensor
    num_blocks: Tensor
    num_metal: Tensor
    lattice: Tensor


class TimeCondition(Perceptron):
    """What a network of the diffusion is told of a framework: all that is known of it, and t.

    Args:
        known_dim: C.
        hidden: of the hidden layer.
        condition_dim: D.
    """

    def __init__(self, known_dim: int, hidden: int, condition_dim: int) -> None:
        super().__init__(known_dim + TIME_DIM, hidden, condition_dim)

    def of(self, known: Float[Tensor, "B C"], time: Float[Tensor, "B"]) -> Float[Tensor, "B D"]:
        """The condition at t / T = time."""
        times = sinusoidal_embedding(time * 1000, TIME_DIM)
        return nn.functional.silu(self(torch.cat([known, times], dim=-1)))


class LatentEncoder(nn.Module):
    """Mean and log variance of q(z | framework), which sees composition, geometry and cell.

    Args:
        config: encoder.
        feature_dim: F.
    """

    def __init__(self, config: LatentConfig, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        self.network = GemNet(config.network, feature_dim, config.graph.num_radial, config.graph.num_angular)
        self.readout = GraphReadout(config.readout, config.network.node_dim, config.hidden)
        self.moments = Perceptron(config.hidden + _LATTICE + 2, config.hidden, 2 * config.dim)

    def forward(self, framework: CoarseGraph) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Moments of the posterior."""
        source, target = framework.edge_index
        num_nodes, num_graphs = len(framework.features), len(framework.num_blocks)
        graph = build_graph(source, target, framework.vectors, num_nodes, self.config.graph)
        features = self.network(framework.features, graph)
        pooled = self.readout(features.nodes, framework.graph_index, num_graphs)
        counts = torch.stack([framework.num_blocks, framework.num_metal], dim=-1).to(pooled.dtype).log1p()
        mean, log_var = self.moments(torch.cat([pooled, framework.lattice, counts], dim=-1)).chunk(2, dim=-1)
        return mean, log_var.clamp(self.config.min_log_var, self.config.max_log_var)


def kl_divergence(mean: Float[Tensor, "B Z"], log_var: Float[Tensor, "B Z"]) -> Float[Tensor, "B"]:
    """KL(N(mean, exp(log_var)) || N(0, I)), summed over components."""
    return -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(-1)


@dataclass(frozen=True, eq=False)
class LatentPrediction:
    """What the heads say of a latent: standardised lattice and properties, logits of counts (index = count)."""

    lattice: Float[Tensor, "B 6"]
    num_blocks: Float[Tensor, "B K"]
    num_metal: Float[Tensor, "B K"]
    properties: Float[Tensor, "B P"]


class LatentHeads(nn.Module):
    """Predictors from the latent.

    Args:
        config: their hidden layer.
        max_blocks: largest number of blocks.
        num_properties: P.
    """

    def __init__(self, config: LatentConfig, max_blocks: int, num_properties: int) -> None:
        super().__init__()
        self.lattice = Perceptron(config.dim, config.hidden, _LATTICE)
        self.num_blocks = Perceptron(config.dim, config.hidden, max_blocks + 1)
        self.num_metal = Perceptron(config.dim, config.hidden, max_blocks + 1)
        self.properties = Perceptron(config.dim, config.hidden, num_properties)

    def forward(self, z: Float[Tensor, "B Z"]) -> LatentPrediction:
        """Apply all heads."""
        return LatentPrediction(self.lattice(z), self.num_blocks(z), self.num_metal(z), self.properties(z))


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """A small diffusion over the latent, given properties or not."""

    hidden: int = 256
    num_layers: int = 3
    process: GaussianConfig = field(default_factory=GaussianConfig)


class LatentPrior(nn.Module):
    """p(z | properties) as a diffusion of v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) z.

    An encoder that keeps the geometry does not fill a standard normal distribution; what is drawn from one then decodes
    to nothing known. This learns where latents are, without changing them.

    Args:
        config: network and process.
        dim: of the latent.
        condition_dim: length of the condition.

    Source: Rombach et al. (arXiv 2112.10752); v as in Salimans and Ho (arXiv 2202.00512).
    """

    def __init__(self, config: PriorConfig, dim: int, condition_dim: int) -> None:
        super().__init__()
        self.process, self.condition_dim = GaussianProcess(config.process), condition_dim
        self.enter = nn.Linear(dim + TIME_DIM + condition_dim, config.hidden)
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.LayerNorm(config.hidden), Perceptron(config.hidden, 2 * config.hidden, config.hidden))
                for _ in range(config.num_layers)
            ]
        )
        self.leave = nn.Linear(config.hidden, dim)

    @property
    def num_steps(self) -> int:
        """T."""
        return self.process.schedule.num_steps

    def forward(
        self, z_t: Float[Tensor, "B Z"], t: Int[Tensor, "B"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B Z"]:
        """Predict v."""
        time = sinusoidal_embedding(t * (1000 / self.num_steps), TIME_DIM)
        h = self.enter(torch.cat([z_t, time, condition], dim=-1))
        for layer in self.layers:
            h = h + layer(h)
        return self.leave(nn.functional.silu(h))

    def loss(
        self,
        z: Float[Tensor, "B Z"],
        t: Int[Tensor, "B"],
        condition: Float[Tensor, "B C"],
        eps: Float[Tensor, "B Z"],
    ) -> Float[Tensor, "B"]:
        """Mean squared error of v per row; no gradient reaches the encoder."""
        z = z.detach()
        v = velocity(self.process, z, eps, t)
        return (self(self.process.corrupt(z, t, eps), t, condition) - v).square().mean(-1)

    def sample(
        self,
        start: Float[Tensor, "B Z"],
        condition: Float[Tensor, "B C"],
        guidance: float,
        num_steps: int,
        eta: float,
        noise: CounterNoise,
    ) -> Float[Tensor, "B Z"]:
        """Latents from standard normal noise.

        Args:
            start: standard normal numbers.
            condition: as in training.
            guidance: 0 for the plain conditional distribution; more sharpens the condition.
            num_steps: at most; all where there are fewer.
            eta: 1 for ancestral steps, 0 for deterministic ones.
            noise: one row per latent.

        Source: Ho and Salimans (arXiv 2207.12598), eq. 6.
        """
        z, hidden = start, torch.zeros_like(condition)
        grid = time_grid(min(num_steps, self.num_steps), self.num_steps).tolist()
        for t_now, t_next in itertools.pairwise(grid):
            t = torch.full((len(z),), t_now, dtype=torch.int64, device=z.device)
            v = self(z, t, condition)
            if guidance != 0:
                v = v + guidance * (v - self(z, t, hidden))
            fresh = noise.normal(t_now, CoarseStream.PRIOR_START, (z.shape[1],))
            eps = eps_of_velocity(self.process, z, v, t)
            z = self.process.reverse_step(z, eps, t, torch.full_like(t, t_next), fresh, eta)
        return z


def velocity(process: GaussianProcess, x_0: Tensor, eps: Tensor, t: Int[Tensor, "B"]) -> Tensor:
    """v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0."""
    alpha_bar = process.schedule.alpha_bar_at(t).to(x_0.dtype)[:, None]
    return alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x_0


def eps_of_velocity(process: GaussianProcess, x_t: Tensor, v: Tensor, t: Int[Tensor, "B"]) -> Tensor:
    """The noise that v implies: sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_t."""
    alpha_bar = process.schedule.alpha_bar_at(t).to(x_t.dtype)[:, None]
    return alpha_bar.sqrt() * v + (1 - alpha_bar).sqrt() * x_t
