"""Features of noisy points and pairs: Fourier features of coordinates, and what symmetry copies look like."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from matgen.geometry.orbit_distances import OrbitDistanceConfig, SelfImages, near_stabiliser, pair_features, self_images
from matgen.nn.embeddings import coordinate_phases, displacement_features
from matgen.nn.inputs import NoisyCrystals
from matgen.nn.layout import Block, PairLayout

NUM_ROTATIONS = 64  # distinct rotation matrices of all space groups in their standard settings
_NEAR = 0.3  # Å, smallest distance within which an operation counts as nearly fixing a point


@dataclass(frozen=True)
class Copies:
    """A block's symmetry copies: those of each point by itself, and the rotation that each operation carries."""

    images: SelfImages
    rotation_one_hot: Float[Tensor, "b o R"]
    reach: Float[Tensor, "b"]  # Å, how far a copy may be for its operation to count as nearly fixing the point
    sigma: Float[Tensor, "b"]


@dataclass(frozen=True)
class PointFeatures:
    """Features of the noisy points, computed once a forward pass; no gradient flows into them."""

    node: Float[Tensor, "N F"]
    pair: Float[Tensor, "E G"]
    copies: list[Copies]


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Which features.

    Args:
        num_frequencies: Fourier features per coordinate, twice that many numbers.
        first_frequency: the lowest.
        orbit_distances: of the features of symmetry copies; None: none.
        own_copies: hand each point's own copies to the readout.
    """

    num_frequencies: int
    first_frequency: int
    orbit_distances: OrbitDistanceConfig | None
    own_copies: bool

    @property
    def num_node_features(self) -> int:
        """Length of a point's features."""
        distances = self.orbit_distances
        own = 0 if distances is None else distances.num_pair_features + 2 * NUM_ROTATIONS
        return 6 * self.num_frequencies + own

    @property
    def num_pair_features(self) -> int:
        """Length of an ordered pair's features."""
        return 6 * self.num_frequencies + (self.orbit_distances.num_pair_features if self.orbit_distances else 0)


def point_features(noisy: NoisyCrystals, layout: PairLayout, config: FeatureConfig) -> PointFeatures:
    """Features of all points and pairs, block by block.

    Args:
        noisy: crystals.
        layout: order of the nodes and pairs.
        config: which features.
    """
    sine, cosine = coordinate_phases(noisy.frac_coords, config.num_frequencies, config.first_frequency)
    node, pair, copies = [], [], []
    for block in layout.blocks:
        rows, orbits = block.rows, block.num_orbits
        points = [sine[rows, :orbits], cosine[rows, :orbits]]
        displacements = displacement_features(points[0], points[1])
        if config.own_copies or config.orbit_distances is not None:
            copies.append(_copies(noisy, block))
        if config.orbit_distances is not None:
            operations = noisy.operations.select(rows, block.num_operations)
            distances = pair_features(
                noisy.frac_coords[rows, :orbits], noisy.lattice[rows], operations, config.orbit_distances
            )
            points += [distances.diagonal(dim1=1, dim2=2).transpose(1, 2), _near_stabiliser(copies[-1])]
            displacements = torch.cat([displacements, distances], dim=-1)
        node.append(torch.cat(points, dim=-1).flatten(0, 1))
        pair.append(displacements.flatten(0, 2))
    return PointFeatures(torch.cat(node), torch.cat(pair), copies)


def _copies(noisy: NoisyCrystals, block: Block) -> Copies:
    rows = block.rows
    lattice, sigma = noisy.lattice[rows], noisy.sigma[rows]
    operations = noisy.operations.select(rows, block.num_operations)
    images = self_images(noisy.frac_coords[rows, : block.num_orbits], lattice, operations)
    one_hot = functional.one_hot(operations.rotation_index.long(), NUM_ROTATIONS).to(lattice.dtype)
    edge_length = torch.linalg.det(lattice).abs().pow(1 / 3)
    return Copies(images, one_hot, (2 * sigma * edge_length).clamp(min=_NEAR), sigma)


def _near_stabiliser(copies: Copies) -> Float[Tensor, "b m WR"]:
    widths = torch.stack([torch.full_like(copies.reach, _NEAR), copies.reach], dim=-1)
    return near_stabiliser(copies.images, copies.rotation_one_hot, widths)
