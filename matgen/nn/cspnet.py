"""The denoiser: a message-passing network over all ordered pairs of an asymmetric unit's representatives."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from matgen.geometry.orbit_distances import OrbitDistanceConfig
from matgen.nn.edge import EdgeLayer, PairInputs
from matgen.nn.embeddings import SiteSymmetryEmbedding, sinusoidal_embedding
from matgen.nn.features import NUM_ROTATIONS, FeatureConfig, PointFeatures, point_features
from matgen.nn.inputs import NoisyCrystals, Prediction
from matgen.nn.layout import PairLayout, with_padding, without_padding
from matgen.nn.mlp import GroupEncoder
from matgen.nn.readout import AxisReadout, OperationReadout, RepeatReadout

__all__ = [
    "NUM_AXES",
    "NUM_CLASSES",
    "NUM_ROTATIONS",
    "CSPNet",
    "CSPNetConfig",
    "NoisyCrystals",
    "Prediction",
    "paper_network",
    "tiny_network",
]

NUM_AXES, NUM_CLASSES, NUM_LATTICE = 15, 13, 6


@dataclass(frozen=True, kw_only=True)
class CSPNetConfig:
    """Shape of the network. The defaults are the network that is best for its cost; `paper_network()` is the paper's.

    `form` chooses between the factorised edge layer and the plain formula, which give the same numbers.
    `orbit_distances` adds what symmetry copies look like to pairs and points, `operation_readout` the coordinate head
    that points to special positions, `repeat_readout` the species head that points to elements already known (with an
    absorbing prior only), `time_modulation` a scale and shift of every layer norm by time and group.
    `remove_padding` works on blocks of equal size instead of the padded batch; compiled networks keep the padding.
    """

    hidden: int = 256
    num_layers: int = 5
    latent: int = 128
    time_dim: int = 64
    group_hidden: int = 128
    num_frequencies: int = 32
    first_frequency: int = 1
    axis_dim: int = 8
    layer_norm: bool = True
    time_modulation: bool = True
    orbit_distances: OrbitDistanceConfig | None = field(default_factory=OrbitDistanceConfig)
    operation_readout: bool = True
    repeat_readout: bool = True
    form: Literal["fast", "plain"] = "fast"
    remove_padding: bool = True


def paper_network() -> CSPNetConfig:
    """The published network: 8 layers, 1024 wide, 128 frequencies, no features of symmetry copies."""
    return CSPNetConfig(
        hidden=1024,
        num_layers=8,
        latent=512,
        time_dim=10,
        num_frequencies=128,
        first_frequency=0,
        axis_dim=4,
        time_modulation=False,
        orbit_distances=None,
        operation_readout=False,
        repeat_readout=False,
    )


def tiny_network() -> CSPNetConfig:
    """A network of a few ten thousand weights with every feature of the default one, for tests and demonstrations."""
    return replace(CSPNetConfig(), hidden=48, num_layers=2, latent=24, time_dim=16, group_hidden=24, num_frequencies=8)


class NodeLayer(nn.Module):
    """One round of messages: layer norm, edge network, mean over neighbours, node network, residual.

    Args:
        config: shape of the network.
        pair_dim: length of the pair features.
        condition_dim: length of the crystal's condition, used if `time_modulation`.
    """

    def __init__(self, config: CSPNetConfig, pair_dim: int, condition_dim: int) -> None:
        super().__init__()
        dim = config.hidden
        self.norm = nn.LayerNorm(dim) if config.layer_norm else nn.Identity()
        self.modulation = nn.Linear(condition_dim, 2 * dim) if config.time_modulation else None
        self.edge = EdgeLayer(dim, NUM_LATTICE, pair_dim, config.form)
        self.first = nn.Linear(2 * dim, dim)
        self.second = nn.Linear(dim, dim)
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(
        self, nodes: Float[Tensor, "N D"], condition: Float[Tensor, "B C"], pairs: PairInputs
    ) -> Float[Tensor, "N D"]:
        """Update the nodes."""
        normed = self.norm(nodes)
        if self.modulation is not None:
            scale, shift = self.modulation(condition)[pairs.layout.crystal_index].chunk(2, dim=-1)
            normed = normed * (1 + scale) + shift
        received = self.edge(normed, pairs)
        update = functional.silu(self.first(torch.cat([normed, received], dim=-1)))
        return nodes + functional.silu(self.second(update))


class CSPNet(nn.Module):
    """Denoiser of an asymmetric unit, equivariant to the order of its orbits.

    Args:
        config: shape of the network.
        group_dim: length of the description of a space group.
        num_species: classes of the species head.
        absorbing_species: one more input class for a species not yet known.
        absorbing_site_symmetry: one more input class for an axis not yet known.

    Source: Levy et al., SymmCD (2025), section 4; Jiao et al. (2023), section 4.3.
    """

    def __init__(
        self,
        config: CSPNetConfig,
        group_dim: int,
        num_species: int,
        absorbing_species: bool,
        absorbing_site_symmetry: bool,
    ) -> None:
        super().__init__()
        self.config = config
        dim = config.hidden
        self.features = FeatureConfig(
            num_frequencies=config.num_frequencies,
            first_frequency=config.first_frequency,
            orbit_distances=config.orbit_distances,
            own_copies=config.operation_readout,
        )
        condition_dim = config.time_dim + config.latent
        self.group = GroupEncoder(group_dim, config.group_hidden, config.latent)
        self.species = nn.Embedding(num_species + int(absorbing_species), dim)
        self.site_symmetry = SiteSymmetryEmbedding(
            NUM_AXES, NUM_CLASSES + int(absorbing_site_symmetry), config.axis_dim, config.latent
        )
        self.node_in = nn.Linear(dim + condition_dim + config.latent + self.features.num_node_features, dim)
        self.layers = nn.ModuleList(
            NodeLayer(config, self.features.num_pair_features, condition_dim) for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(dim) if config.layer_norm else nn.Identity()
        self.coord_head = nn.Linear(dim, 3, bias=False)
        self.lattice_head = nn.Linear(dim, NUM_LATTICE, bias=False)
        self.species_head = nn.Linear(dim, num_species)
        self.num_species = num_species
        self.repeat_head = RepeatReadout(dim) if config.repeat_readout and absorbing_species else None
        self.site_symmetry_head = AxisReadout(dim, NUM_AXES, NUM_CLASSES)
        self.operation_head = OperationReadout(dim, NUM_ROTATIONS) if config.operation_readout else None

    def forward(self, noisy: NoisyCrystals) -> Prediction:
        """Predict the noise of the lattice, the score of the coordinates and the clean classes."""
        with torch.no_grad(), torch.autocast(noisy.frac_coords.device.type, enabled=False):
            layout = self._layout(noisy)
            geometry = point_features(noisy, layout, self.features)
            time = sinusoidal_embedding(1000 * noisy.time, self.config.time_dim)
        condition = torch.cat([time, self.group(noisy.group_description)], dim=-1)
        nodes = self._embed(noisy, condition, geometry, layout)
        pairs = PairInputs(layout, noisy.lattice_k, geometry.pair)
        for layer in self.layers:
            nodes = layer(nodes, condition, pairs)
        return self._read_out(self.norm(nodes), noisy, geometry, layout)

    def _layout(self, noisy: NoisyCrystals) -> PairLayout:
        if torch.compiler.is_compiling() or not self.config.remove_padding:
            return with_padding(noisy.mask, noisy.operations.mask.shape[1])
        return without_padding(noisy.mask, noisy.operations.mask)

    def _embed(
        self, noisy: NoisyCrystals, condition: Float[Tensor, "B C"], geometry: PointFeatures, layout: PairLayout
    ) -> Float[Tensor, "N D"]:
        parts = [
            self.species(noisy.species_index.long().flatten()[layout.node_index]),
            condition[layout.crystal_index],
            self.site_symmetry(noisy.site_symmetry.long().flatten(0, 1)[layout.node_index]),
            geometry.node,
        ]
        return self.node_in(torch.cat(parts, dim=-1))

    def _read_out(
        self, nodes: Float[Tensor, "N D"], noisy: NoisyCrystals, geometry: PointFeatures, layout: PairLayout
    ) -> Prediction:
        shape = (noisy.mask.shape[0], noisy.mask.shape[1])
        padded = layout.scatter(nodes, shape)
        share = noisy.mask.float() / noisy.mask.sum(1, keepdim=True).clamp(min=1)
        pooled = torch.bmm(share[:, None].to(padded.dtype), padded)[:, 0]
        score = self.coord_head(nodes).float()
        if self.operation_head is not None:
            steps = [
                self.operation_head(view, copies.images, copies.rotation_one_hot, copies.reach, copies.sigma)
                for view, copies in zip(layout.block_views(nodes), geometry.copies, strict=True)
            ]
            score = score + torch.cat([step.flatten(0, 1) for step in steps])
        return Prediction(
            lattice_eps=self.lattice_head(pooled).float(),
            coord_score=layout.scatter(score, shape),
            species_logits=self._species_logits(padded, noisy),
            site_symmetry_logits=self.site_symmetry_head(padded).float(),
        )

    def _species_logits(self, padded: Float[Tensor, "B M D"], noisy: NoisyCrystals) -> Float[Tensor, "B M S"]:
        logits = self.species_head(padded).float()
        if self.repeat_head is None:
            return logits
        # the mask is the class behind the last element; padded orbits know nothing
        classes = noisy.species_index.long().masked_fill(~noisy.mask, self.num_species)
        known = functional.one_hot(classes, self.num_species + 1)[..., : self.num_species].float()
        return logits + self.repeat_head(padded, known)
