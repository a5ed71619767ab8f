"""The block encoder: a building block with its connection points becomes one point on a sphere."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matgen.data.mof_batch import BlockBatch
from matgen.diffusion.noise import CounterNoise
from matgen.models.block_contrast import ContrastConfig, contrastive_loss
from matgen.nn.gemnet import GemNet, GemNetConfig, GraphConfig, GraphReadout, ReadoutConfig, build_graph
from matgen.nn.gemnet.layers import Perceptron

_NUM_ELEMENTS = 119  # 0 is a connection point
_NUM_SCALARS = 3


@dataclass(frozen=True, kw_only=True)
class BlockLossWeights:
    """Weights of the losses; distances enter as squares of Å over 10."""

    contrast: float = 5.0
    num_atoms: float = 0.3
    num_connections: float = 0.3
    diameter: float = 1.0
    is_metal: float = 0.3


@dataclass(frozen=True, kw_only=True)
class BlockEncoderConfig:
    """Network, embedding and losses.

    `spherical` puts embeddings on the sphere of radius sqrt(latent_dim), where each component has unit variance on
    average and the contrast acts on the embedding itself; off, it acts on a projection of length `projection_dim`, as
    published. Larger numbers of atoms and connections than the heads know count as the largest.
    """

    graph: GraphConfig = field(default_factory=GraphConfig)
    network: GemNetConfig = field(default_factory=lambda: GemNetConfig(mean_neighbors=2.0))
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    latent_dim: int = 32
    hidden: int = 256
    num_hidden: int = 1
    spherical: bool = True
    projection_dim: int = 128
    max_atoms: int = 256
    max_connections: int = 64
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    weights: BlockLossWeights = field(default_factory=BlockLossWeights)


def paper_config() -> BlockEncoderConfig:
    """A network of the published size (12 million parameters) with the published targets, the diagonal left out.

    Half of the parameters are in the layers behind the readout, which run once per block and not once per atom or edge.
    """
    return BlockEncoderConfig(
        graph=GraphConfig(num_radial=128, num_angular=7),
        network=large_network(),
        readout=ReadoutConfig(num_heads=8, head_dim=32, hidden=256),
        hidden=1536,
        num_hidden=3,
        spherical=False,
        contrast=ContrastConfig(hard=True),
        weights=BlockLossWeights(contrast=5.0, num_atoms=1.0, num_connections=1.0, diameter=100.0, is_metal=0.0),
    )


def large_network() -> GemNetConfig:
    """Three layers 256 wide, as published."""
    return GemNetConfig(
        node_dim=256, edge_dim=256, triplet_dim=64, num_edge_residuals=1, num_node_residuals=2, mean_neighbors=2.0
    )


@dataclass(frozen=True, eq=False)
class BlockLosses:
    """Means over the blocks of a batch; `total` is what is minimised."""

    total: Tensor
    contrast: Tensor
    num_atoms: Tensor
    num_connections: Tensor
    diameter: Tensor
    is_metal: Tensor


class BlockEncoder(nn.Module):
    """The model.

    Args:
        config: network, embedding and losses.

    Source: Fu et al., MOFDiff (ICLR 2024, arXiv 2310.10732), section 3.1; the contrast is that of `block_contrast`.
        Angles and distances do not tell mirror images apart, so neither does the embedding.
    """

    def __init__(self, config: BlockEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width, latent = config.network.node_dim, config.latent_dim
        self.elements = nn.Embedding(_NUM_ELEMENTS, width)
        self.network = GemNet(config.network, width, config.graph.num_radial, config.graph.num_angular)
        self.readout = GraphReadout(config.readout, width, config.hidden)
        self.to_latent = Perceptron(config.hidden + _NUM_SCALARS, config.hidden, latent, config.num_hidden)
        heads = {"num_atoms": config.max_atoms + 1, "num_connections": config.max_connections + 1}
        heads |= {"diameter": 1, "is_metal": 1}
        self.heads = nn.ModuleDict({name: Perceptron(latent, config.hidden, size) for name, size in heads.items()})
        self.project = None if config.spherical else Perceptron(latent, config.hidden, config.projection_dim)

    @property
    def num_steps(self) -> int:
        """1: there is no diffusion time."""
        return 1

    def forward(self, batch: BlockBatch, t: Int[Tensor, "B"], noise: CounterNoise) -> BlockLosses:
        """The same as `loss`: what data-parallel wrappers call."""
        return self.loss(batch, t, noise)

    def embed(self, batch: BlockBatch) -> Float[Tensor, "B L"]:
        """Embeddings of a batch of blocks, the same for any order, rotation and place of their atoms."""
        source, target = batch.edge_index
        vectors = batch.cart_coords[target] - batch.cart_coords[source]
        graph = build_graph(source, target, vectors, len(batch.atomic_numbers), self.config.graph)
        features = self.network(self.elements.weight, graph, kind=batch.atomic_numbers)
        pooled = self.readout(features.nodes, batch.graph_index, batch.num_graphs)
        sizes = [batch.num_atoms.float().log1p() / 4, batch.num_connections.float().log1p() / 2, batch.diameter / 20]
        scalars = torch.stack(sizes, dim=-1)
        latent = self.to_latent(torch.cat([pooled, scalars.to(pooled.dtype)], dim=-1))
        if self.config.spherical:
            latent = nn.functional.normalize(latent, dim=-1) * math.sqrt(self.config.latent_dim)
        return latent

    def loss(self, batch: BlockBatch, t: Int[Tensor, "B"], noise: CounterNoise) -> BlockLosses:
        """Losses of a batch, which should hold two or more conformers of each identity.

        Args:
            batch: blocks.
            t: not read.
            noise: not read.
        """
        latent = self.embed(batch)
        directions = nn.functional.normalize(latent if self.project is None else self.project(latent), dim=-1)
        cross_entropy = nn.functional.cross_entropy
        config = self.config
        losses = {
            "contrast": contrastive_loss(directions.float(), batch.identity, batch.ecfp4, config.contrast),
            "num_atoms": cross_entropy(self.heads["num_atoms"](latent), batch.num_atoms.clamp(max=config.max_atoms)),
            "num_connections": cross_entropy(
                self.heads["num_connections"](latent), batch.num_connections.clamp(max=config.max_connections)
            ),
            "diameter": (self.heads["diameter"](latent)[:, 0] - batch.diameter / 10).square().mean(),
            "is_metal": nn.functional.binary_cross_entropy_with_logits(
                self.heads["is_metal"](latent)[:, 0], batch.is_metal.to(latent.dtype)
            ),
        }
        total = torch.stack([getattr(config.weights, name) * value for name, value in losses.items()]).sum()
        return BlockLosses(total=total, **losses)

    def describe(self, latent: Float[Tensor, "N L"]) -> dict[str, Tensor]:
        """What the heads read off embeddings: for generated ones, which blocks to look for.

        Args:
            latent: embeddings, not standardised.

        Returns:
            `num_atoms` and `num_connections` (most probable), `diameter` in Å, `is_metal` as a probability.
        """
        return {
            "num_atoms": self.heads["num_atoms"](latent).argmax(-1),
            "num_connections": self.heads["num_connections"](latent).argmax(-1),
            "diameter": self.heads["diameter"](latent)[:, 0] * 10,
            "is_metal": self.heads["is_metal"](latent)[:, 0].sigmoid(),
        }
