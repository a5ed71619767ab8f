"""The denoiser: a message-passing network over all ordered pairs of an asymmetric unit's representatives."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from matgen.geometry.orbit_distances import (
    Operations,
    OrbitDistanceConfig,
    SelfImages,
    near_stabiliser,
    pair_features,
    self_images,
)
from matgen.nn.edge import EdgeLayer, PairInputs
from matgen.nn.embeddings import (
    SiteSymmetryEmbedding,
    coordinate_phases,
    displacement_features,
    sinusoidal_embedding,
)
from matgen.nn.layout import PairLayout, with_padding, without_padding
from matgen.nn.mlp import GroupEncoder
from matgen.nn.readout import AxisReadout, OperationReadout

NUM_AXES, NUM_CLASSES, NUM_ROTATIONS, NUM_LATTICE = 15, 13, 64, 6


@dataclass(frozen=True, kw_only=True)
class CSPNetConfig:
    """Shape of the network. The defaults are the network that is best for its cost; `paper_network()` is the paper's.

    `form` chooses between the factorised edge layer and the plain formula, which give the same numbers.
    `orbit_distances` adds what symmetry copies look like to pairs and points, `operation_readout` the coordinate head
    that points to special positions, `time_modulation` a scale and shift of every layer norm by time and group.
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
    )


def tiny_network() -> CSPNetConfig:
    """A network of a few ten thousand weights with every feature of the default one, for tests and demonstrations."""
    return replace(CSPNetConfig(), hidden=48, num_layers=2, latent=24, time_dim=16, group_hidden=24, num_frequencies=8)


@dataclass(frozen=True)
class NoisyCrystals:
    """What the network sees.

    Args:
        group_description: `[B, D]`, the space group in numbers.
        mask: `[B, M]`, True for orbits, False for padding.
        time: `[B]`, t / T in (0, 1].
        sigma: `[B]`, fractional noise level of the coordinates.
        lattice_k: `[B, 6]`, noisy and standardised.
        lattice: `[B, 3, 3]`, the same as rows in Å.
        frac_coords: `[B, M, 3]`, noisy.
        species_index: `[B, M]`, noisy; the last class is the absorbing one.
        site_symmetry: `[B, M, 15]`, noisy; the last class is the absorbing one.
        operations: of each space group.
    """

    group_description: Float[Tensor, "B D"]
    mask: Bool[Tensor, "B M"]
    time: Float[Tensor, "B"]
    sigma: Float[Tensor, "B"]
    lattice_k: Float[Tensor, "B 6"]
    lattice: Float[Tensor, "B 3 3"]
    frac_coords: Float[Tensor, "B M 3"]
    species_index: Int[Tensor, "B M"]
    site_symmetry: Int[Tensor, "B M 15"]
    operations: Operations


@dataclass(frozen=True)
class Prediction:
    """What the network says, in single precision.

    Args:
        lattice_eps: `[B, 6]`, noise of the standardised lattice.
        coord_score: `[B, M, 3]`, score of the coordinates over the root of its mean square.
        species_logits: `[B, M, S]`, of the clean species.
        site_symmetry_logits: `[B, M, 15, 13]`, of the clean classes.
    """

    lattice_eps: Float[Tensor, "B 6"]
    coord_score: Float[Tensor, "B M 3"]
    species_logits: Float[Tensor, "B M S"]
    site_symmetry_logits: Float[Tensor, "B M 15 13"]


@dataclass(frozen=True)
class _Geometry:
    """Features of the noisy points, computed once a forward pass; no gradient flows into them."""

    node: Float[Tensor, "N F"]
    pair: Float[Tensor, "E G"]
    images: SelfImages | None
    rotation_one_hot: Float[Tensor, "B O R"] | None
    reach: Float[Tensor, "B"]


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
        dim, fourier = config.hidden, 6 * config.num_frequencies
        distances = config.orbit_distances
        node_dim = fourier
        if distances is not None:
            node_dim += distances.num_pair_features + 2 * NUM_ROTATIONS
        pair_dim = fourier + (distances.num_pair_features if distances is not None else 0)
        condition_dim = config.time_dim + config.latent
        self.group = GroupEncoder(group_dim, config.group_hidden, config.latent)
        self.species = nn.Embedding(num_species + int(absorbing_species), dim)
        self.site_symmetry = SiteSymmetryEmbedding(
            NUM_AXES, NUM_CLASSES + int(absorbing_site_symmetry), config.axis_dim, config.latent
        )
        self.node_in = nn.Linear(dim + condition_dim + config.latent + node_dim, dim)
        self.layers = nn.ModuleList([NodeLayer(config, pair_dim, condition_dim) for _ in range(config.num_layers)])
        self.norm = nn.LayerNorm(dim) if config.layer_norm else nn.Identity()
        self.coord_head = nn.Linear(dim, 3, bias=False)
        self.lattice_head = nn.Linear(dim, NUM_LATTICE, bias=False)
        self.species_head = nn.Linear(dim, num_species)
        self.site_symmetry_head = AxisReadout(dim, NUM_AXES, NUM_CLASSES)
        self.operation_head = OperationReadout(dim, NUM_ROTATIONS) if config.operation_readout else None

    def forward(self, noisy: NoisyCrystals) -> Prediction:
        """Predict the noise of the lattice, the score of the coordinates and the clean classes."""
        with torch.no_grad(), torch.autocast(noisy.frac_coords.device.type, enabled=False):
            layout = self._layout(noisy)
            geometry = self._geometry(noisy, layout)
            time = sinusoidal_embedding(1000 * noisy.time, self.config.time_dim)
        condition = torch.cat([time, self.group(noisy.group_description)], dim=-1)
        nodes = self._embed(noisy, condition, geometry, layout)
        pairs = PairInputs(layout, noisy.lattice_k, geometry.pair)
        for layer in self.layers:
            nodes = layer(nodes, condition, pairs)
        padded = layout.scatter(self.norm(nodes), (noisy.mask.shape[0], noisy.mask.shape[1]))
        return self._read_out(padded, noisy, geometry)

    def _layout(self, noisy: NoisyCrystals) -> PairLayout:
        if torch.compiler.is_compiling() or not self.config.remove_padding:
            return with_padding(noisy.mask, noisy.operations.mask.shape[1])
        return without_padding(noisy.mask, noisy.operations.mask)

    def _geometry(self, noisy: NoisyCrystals, layout: PairLayout) -> _Geometry:
        config = self.config
        sine, cosine = coordinate_phases(noisy.frac_coords, config.num_frequencies, config.first_frequency)
        edge_length = torch.linalg.det(noisy.lattice).abs().pow(1 / 3)
        reach = (2 * noisy.sigma * edge_length).clamp(min=0.3)
        node = [torch.cat([sine, cosine], dim=-1).flatten(0, 1)[layout.node_index]]
        images, one_hot = None, None
        if config.orbit_distances is not None or config.operation_readout:
            images = self_images(noisy.frac_coords, noisy.lattice, noisy.operations)
            one_hot = functional.one_hot(noisy.operations.rotation_index.long(), NUM_ROTATIONS).to(sine.dtype)
        if config.orbit_distances is not None and images is not None and one_hot is not None:
            widths = torch.stack([torch.full_like(reach, 0.3), reach], dim=-1)
            node.append(near_stabiliser(images, one_hot, widths).flatten(0, 1)[layout.node_index])
        pair, own = [], []
        for block in layout.blocks:
            rows, orbits = block.rows, block.num_orbits
            features = displacement_features(sine[rows, :orbits], cosine[rows, :orbits])
            if config.orbit_distances is not None:
                operations = noisy.operations.select(rows, block.num_operations)
                copies = pair_features(
                    noisy.frac_coords[rows, :orbits], noisy.lattice[rows], operations, config.orbit_distances
                )
                own.append(copies.diagonal(dim1=1, dim2=2).transpose(1, 2).flatten(0, 1))
                features = torch.cat([features, copies], dim=-1)
            pair.append(features.flatten(0, 2))
        if own:
            node.append(torch.cat(own))
        return _Geometry(torch.cat(node, dim=-1), torch.cat(pair), images, one_hot, reach)

    def _embed(
        self, noisy: NoisyCrystals, condition: Float[Tensor, "B C"], geometry: _Geometry, layout: PairLayout
    ) -> Float[Tensor, "N D"]:
        parts = [
            self.species(noisy.species_index.long().flatten()[layout.node_index]),
            condition[layout.crystal_index],
            self.site_symmetry(noisy.site_symmetry.long().flatten(0, 1)[layout.node_index]),
            geometry.node,
        ]
        return self.node_in(torch.cat(parts, dim=-1))

    def _read_out(self, nodes: Float[Tensor, "B M D"], noisy: NoisyCrystals, geometry: _Geometry) -> Prediction:
        share = noisy.mask.float() / noisy.mask.sum(1, keepdim=True).clamp(min=1)
        pooled = torch.bmm(share[:, None].to(nodes.dtype), nodes)[:, 0]
        score = self.coord_head(nodes).float()
        if self.operation_head is not None and geometry.images is not None and geometry.rotation_one_hot is not None:
            score = score + self.operation_head(
                nodes, geometry.images, geometry.rotation_one_hot, geometry.reach, noisy.sigma
            )
        return Prediction(
            lattice_eps=self.lattice_head(pooled).float(),
            coord_score=score,
            species_logits=self.species_head(nodes).float(),
            site_symmetry_logits=self.site_symmetry_head(nodes).float(),
        )
