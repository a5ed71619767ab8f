"""What the network reads of a batch's geometry: computed once from edge vectors, shared by all layers."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matgen.nn.gemnet.basis import envelope, gaussians
from matgen.nn.gemnet.triplets import Triplets, build_triplets


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """Radial and angular resolution.

    `cutoff` is in the unit of the edge vectors: the distance where an edge has faded out, and the end of the radial
    functions.
    """

    cutoff: float = 7.0
    num_radial: int = 32
    num_angular: int = 5
    envelope_exponent: int = 5

    def __post_init__(self) -> None:
        if self.cutoff <= 0 or self.num_radial < 2 or self.num_angular < 1:
            raise ValueError(
                f"need cutoff > 0, num_radial >= 2, num_angular >= 1, not {self.cutoff}, {self.num_radial}, "
                f"{self.num_angular}"
            )


@dataclass(frozen=True, eq=False)
class EdgeGraph:
    """Directed edges, ordered by target.

    Attributes:
        num_nodes: N.
        source: int64[E].
        target: int64[E], ascending.
        unit: [E, 3], direction from source to target.
        radial: [E, R], radial functions, which fade out at the cutoff.
        triplets: sums over the edges into an edge's source.
    """

    num_nodes: int
    source: Int[Tensor, "E"]
    target: Int[Tensor, "E"]
    unit: Float[Tensor, "E 3"]
    radial: Float[Tensor, "E R"]
    triplets: Triplets


def build_graph(
    source: Int[Tensor, "E"],
    target: Int[Tensor, "E"],
    vectors: Float[Tensor, "E 3"],
    num_nodes: int,
    config: GraphConfig,
    reach: Float[Tensor, "E"] | None = None,
) -> EdgeGraph:
    """Sort the edges by target, and work out their radial and angular functions.

    Args:
        source: node that an edge leaves.
        target: node that an edge enters.
        vectors: position of the target less that of the source, any unit.
        num_nodes: number of nodes.
        config: cutoff in the unit of `vectors`, and resolution.
        reach: distance at which each edge has faded out, where that is less than the cutoff.

    Returns:
        The graph; no gradient flows into `vectors`.
    """
    vectors = vectors.detach()
    if len(target) > 1 and bool((target[1:] < target[:-1]).any()):
        order = torch.argsort(target, stable=True)
        source, target, vectors = source[order], target[order], vectors[order]
        reach = None if reach is None else reach[order]
    length = vectors.norm(dim=-1)
    unit = vectors / length.clamp(min=1e-6)[:, None]
    faded = envelope(length / config.cutoff, config.envelope_exponent)
    if reach is not None:
        faded = faded * envelope(length / reach.clamp(min=1e-6), config.envelope_exponent)
    return EdgeGraph(
        num_nodes=num_nodes,
        source=source,
        target=target,
        unit=unit,
        radial=gaussians(length / config.cutoff, config.num_radial) * faded[:, None],
        triplets=build_triplets(source, target, unit, num_nodes, config.num_angular),
    )
