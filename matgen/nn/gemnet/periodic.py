"""Nearest neighbours under periodic boundaries, for a whole batch of small cells at once."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matgen.nn.gemnet.layers import rows_of
from matgen.nn.gemnet.triplets import ragged_arange


@dataclass(frozen=True, kw_only=True)
class NeighborConfig:
    """Which images become edges.

    `max_neighbors` nearest of each node, among those nearer than `cutoff` times (volume / nodes)^(1/3) of its cell.
    """

    max_neighbors: int = 16
    cutoff: float = 2.6

    def __post_init__(self) -> None:
        if self.max_neighbors < 1 or self.cutoff < 1.2:
            raise ValueError(
                f"need max_neighbors >= 1 and cutoff >= 1.2 (a lattice's shortest vector), not {self.max_neighbors}, "
                f"{self.cutoff}"
            )


@dataclass(frozen=True, eq=False)
class PeriodicEdges:
    """Directed edges, ordered by target.

    Attributes:
        source, target: int64[E].
        vectors: [E, 3], position of the target less that of the image of the source, in the unit of the lattice.
        reach: [E], distance at which the target's edges fade out: that of its next neighbour, or the cutoff. An edge at
            this distance has no weight, so that nothing jumps when two neighbours change their order.
    """

    source: Int[Tensor, "E"]
    target: Int[Tensor, "E"]
    vectors: Float[Tensor, "E 3"]
    reach: Float[Tensor, "E"]


def periodic_vectors(
    frac_coords: Float[Tensor, "N 3"],
    lattice: Float[Tensor, "B 3 3"],
    graph_index: Int[Tensor, "N"],
    edge_index: Int[Tensor, "2 E"],
    edge_image: Float[Tensor, "E 3"],
) -> Float[Tensor, "E 3"]:
    """Vectors of given edges from the first node to the image of the second.

    Args:
        frac_coords: of the nodes.
        lattice: rows a, b, c; Å.
        graph_index: graph of each node.
        edge_index: first and second node.
        edge_image: cell of the second node relative to the first.

    Returns:
        Cartesian vectors in Å.
    """
    first, second = edge_index
    steps = frac_coords[second] + edge_image - frac_coords[first]
    return _to_cartesian(steps, lattice[graph_index[first]])


def _to_cartesian(frac: Float[Tensor, "E 3"], lattice: Float[Tensor, "E 3 3"]) -> Float[Tensor, "E 3"]:
    """frac @ lattice, written such that autocast leaves it in full precision."""
    return (frac[:, :, None] * lattice).sum(1)


def nearest_neighbors(
    frac_coords: Float[Tensor, "N 3"],
    lattice: Float[Tensor, "B 3 3"],
    num_nodes: Int[Tensor, "B"],
    config: NeighborConfig,
) -> PeriodicEdges:
    """The nearest periodic images of the nodes of each graph.

    Args:
        frac_coords: of all graphs' nodes, one graph after the other; any cell.
        lattice: rows a, b, c of any unit; of any shape, for the images searched follow from the cell.
        num_nodes: of each graph, at least 1.
        config: how many, and how far.

    Returns:
        Edges into every node, its own images included.
    """
    volume = torch.linalg.det(lattice).abs()
    cutoff = config.cutoff * (volume / num_nodes).pow(1 / 3)
    source, target, graph = _all_pairs(num_nodes)
    steps = rows_of(frac_coords, target) - rows_of(frac_coords, source)
    difference = _to_cartesian(steps - steps.round(), rows_of(lattice, graph))
    images, num_images, first = _images(lattice, cutoff)
    shift = _to_cartesian(images.to(lattice.dtype), lattice.repeat_interleave(num_images, dim=0))
    # there are many more pairs with an image than pairs or images, so both are made Cartesian before
    repeats = num_images[graph]
    pair = torch.arange(len(graph), device=graph.device).repeat_interleave(repeats)
    image = rows_of(first[graph], pair) + ragged_arange(repeats)
    vectors = rows_of(difference, pair) + rows_of(shift, image)
    length = vectors.norm(dim=-1)
    # a node is no neighbour of itself, but its images are
    near = (length < rows_of(cutoff[graph], pair)) & (rows_of(source != target, pair) | rows_of(images.any(-1), image))
    near = near.nonzero()[:, 0]
    pair, vectors, length = pair[near], rows_of(vectors, near), length[near]
    return _keep_nearest(source[pair], target[pair], vectors, length, cutoff[graph[pair]], len(frac_coords), config)


def _all_pairs(num_nodes: Int[Tensor, "B"]) -> tuple[Int[Tensor, "P"], Int[Tensor, "P"], Int[Tensor, "P"]]:
    """Source, target and graph of all ordered pairs of nodes of one graph."""
    squares = num_nodes**2
    graph = torch.arange(len(num_nodes), device=num_nodes.device).repeat_interleave(squares)
    place, size = ragged_arange(squares), num_nodes[graph]
    start = (num_nodes.cumsum(0) - num_nodes)[graph]
    return start + place % size, start + place // size, graph


def _images(
    lattice: Float[Tensor, "B 3 3"], cutoff: Float[Tensor, "B"]
) -> tuple[Int[Tensor, "I 3"], Int[Tensor, "B"], Int[Tensor, "B"]]:
    """Cells that may hold a point within the cutoff of one that is at most half a cell away along each axis."""
    spacing = 1 / torch.linalg.inv(lattice).norm(dim=-2)  # of the planes across a, b and c
    reach = (cutoff[:, None] / spacing + 0.5).floor().long()
    sides = 2 * reach + 1
    count = sides.prod(-1)
    graph = torch.arange(len(count), device=count.device).repeat_interleave(count)
    place, (_, side_b, side_c) = ragged_arange(count), sides[graph].unbind(-1)
    cells = torch.stack([place // (side_b * side_c), place // side_c % side_b, place % side_c], dim=-1)
    return cells - reach[graph], count, count.cumsum(0) - count


def _keep_nearest(
    source: Tensor,
    target: Tensor,
    vectors: Tensor,
    length: Tensor,
    cutoff: Tensor,
    num_nodes: int,
    config: NeighborConfig,
) -> PeriodicEdges:
    order = torch.argsort(length, stable=True)
    order = order[torch.argsort(target[order], stable=True)]
    source, target, vectors, length, cutoff = (x[order] for x in (source, target, vectors, length, cutoff))
    rank = ragged_arange(torch.bincount(target, minlength=num_nodes))
    next_one = rank == config.max_neighbors
    reach = length.new_full((num_nodes,), torch.inf)
    reach[target[next_one]] = length[next_one]
    kept = rank < config.max_neighbors
    return PeriodicEdges(source[kept], target[kept], vectors[kept], torch.minimum(reach[target[kept]], cutoff[kept]))
