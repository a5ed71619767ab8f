"""Message passing on directed edges with angles, its node features and its vectors."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from matgen.nn.gemnet.graph import EdgeGraph
from matgen.nn.gemnet.layers import HALF, SILU_GAIN, Dense, blend, linear, residuals, rows_of, scaled_silu, sum_by


@dataclass(frozen=True, kw_only=True)
class GemNetConfig:
    """Width and depth. `mean_neighbors` scales sums over edges: edges into an average node.

    Where a batch has many more edges than nodes, time goes with the edge layers and parameters are cheap in the node
    layers.
    """

    node_dim: int = 128
    edge_dim: int = 96
    num_layers: int = 3
    triplet_dim: int = 32
    radial_dim: int = 16
    num_edge_residuals: int = 1
    num_node_residuals: int = 2
    mean_neighbors: float = 12.0


@dataclass(frozen=True, eq=False)
class Features:
    """What the network made of a batch.

    Attributes:
        nodes: [N, node_dim], invariant.
        edges: [E, edge_dim], invariant.
        radial: [E, radial_dim], fading out with the edges.
    """

    nodes: Float[Tensor, "N D"]
    edges: Float[Tensor, "E C"]
    radial: Float[Tensor, "E R"]


class GemNet(nn.Module):
    """The network: edge messages updated from triplets, nodes from edges, edges from nodes, layer by layer.

    Args:
        config: width and depth.
        in_dim: length of a node's input features.
        num_radial: R of the graphs it will see.
        num_angular: L of the graphs it will see.
        condition_dim: length of a vector per graph that scales and shifts node updates; 0: none.
        edges_out: whether the edges are read after the last layer; else it does not update them.

    Source: Gasteiger, Becker and Guennemann, GemNet (arXiv 2106.08903), the T variant with direct vectors. Differences:
        the bilinear layer over angles is a linear one between two radial gates, nodes are normalised by layer norm in
        place of fitted scale factors, the product with node features in the edge update is taken on nodes, and the
        output blocks of unused forces are absent.
    """

    def __init__(
        self,
        config: GemNetConfig,
        in_dim: int,
        num_radial: int,
        num_angular: int,
        condition_dim: int = 0,
        edges_out: bool = False,
    ) -> None:
        super().__init__()
        last = config.num_layers - 1
        self.node_input = nn.Linear(in_dim, config.node_dim)
        self.radial = linear(num_radial, config.radial_dim)
        self.edge_input = _EdgeInput(config, num_radial)
        self.layers = nn.ModuleList(
            [_Layer(config, num_angular, condition_dim, edges_out or i < last) for i in range(config.num_layers)]
        )
        self.norm = nn.LayerNorm(config.node_dim)

    def forward(
        self,
        nodes: Float[Tensor, "K I"],
        graph: EdgeGraph,
        condition: Float[Tensor, "B C"] | None = None,
        graph_index: Int[Tensor, "N"] | None = None,
        kind: Int[Tensor, "N"] | None = None,
    ) -> Features:
        """Pass messages.

        Args:
            nodes: input features of the nodes, or, with `kind`, of each kind of node.
            graph: edges of all graphs of the batch.
            condition: a vector per graph, where the network was made for one.
            graph_index: graph of each node, needed with a condition.
            kind: row of `nodes` that each node starts from; the first layers then run once per kind.
        """
        h = self.node_input(nodes)
        radial = self.radial(graph.radial.to(h.dtype))
        if kind is None:
            m = self.edge_input(h, graph.source, graph.target, graph.radial)
        else:
            m = self.edge_input(h, kind[graph.source], kind[graph.target], graph.radial)
            h = rows_of(h, kind)
        for layer in self.layers:
            h, m = layer(h, m, radial, graph, condition, graph_index)
        return Features(self.norm(h), m, radial)


class _EdgeInput(nn.Module):
    def __init__(self, config: GemNetConfig, num_radial: int) -> None:
        super().__init__()
        self.source = linear(config.node_dim, config.edge_dim)
        self.target = linear(config.node_dim, config.edge_dim)
        self.radial = linear(num_radial, config.edge_dim)
        self.out = Dense(config.edge_dim, config.edge_dim)

    def forward(self, h: Tensor, source: Tensor, target: Tensor, radial: Tensor) -> Tensor:
        mixed = self.radial(radial.to(h.dtype))
        mixed += rows_of(self.source(h), source)
        mixed += rows_of(self.target(h), target)
        return self.out(scaled_silu(mixed, HALF * SILU_GAIN))


class _Layer(nn.Module):
    def __init__(self, config: GemNetConfig, num_angular: int, condition_dim: int, update_edges: bool) -> None:
        super().__init__()
        node, edge, triplet = config.node_dim, config.edge_dim, config.triplet_dim
        self.scale = 1 / math.sqrt(config.mean_neighbors)
        self.keep = Dense(edge, edge)
        self.down = Dense(edge, triplet)
        self.gate_in = linear(config.radial_dim, triplet)
        self.angles = linear(num_angular * triplet, triplet)
        self.gate_out = linear(config.radial_dim, triplet)
        self.up = Dense(triplet, edge)
        self.before = residuals(edge, config.num_edge_residuals)
        self.gate_node = linear(config.radial_dim, edge)
        self.collect = linear(edge, node)
        self.norm = nn.LayerNorm(node)
        self.modulate = nn.Linear(condition_dim, 2 * node) if condition_dim else None
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)
        self.update = Dense(node, node)
        self.refine = residuals(node, config.num_node_residuals)
        self.edges = _EdgeUpdate(config) if update_edges else None

    def forward(
        self,
        h: Tensor,
        m: Tensor,
        radial: Tensor,
        graph: EdgeGraph,
        condition: Tensor | None,
        graph_index: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        scaled = radial * self.scale  # as sums are linear in the gates, this scales them
        m = self.before(self.up.onto(self.keep(m), self._triplets(m, radial, scaled, graph)))
        h = self.refine(self.update.onto(h, self._nodes(h, m, scaled, graph, condition, graph_index)))
        return h, m if self.edges is None else self.edges(h, m, graph)

    def _triplets(self, m: Tensor, radial: Tensor, scaled: Tensor, graph: EdgeGraph) -> Tensor:
        collected = self.angles(graph.triplets(self.down(m) * self.gate_in(radial)))
        return collected * self.gate_out(scaled)

    def _nodes(
        self,
        h: Tensor,
        m: Tensor,
        scaled: Tensor,
        graph: EdgeGraph,
        condition: Tensor | None,
        graph_index: Tensor | None,
    ) -> Tensor:
        collected = sum_by(m * self.gate_node(scaled), graph.target, graph.num_nodes)
        update = self.norm(h + self.collect(collected))
        if self.modulate is not None:
            assert condition is not None and graph_index is not None
            scale, shift = rows_of(self.modulate(condition), graph_index).chunk(2, dim=-1)
            update = update * (1 + scale) + shift
        return update


class _EdgeUpdate(nn.Module):
    def __init__(self, config: GemNetConfig) -> None:
        super().__init__()
        node, edge = config.node_dim, config.edge_dim
        self.source, self.target = linear(node, edge), linear(node, edge)
        self.message = linear(edge, edge)
        self.after = residuals(edge, config.num_edge_residuals)

    def forward(self, h: Tensor, m: Tensor, graph: EdgeGraph) -> Tensor:
        mixed = nn.functional.linear(m, self.message.weight * HALF)  # cheaper than to scale the result
        mixed += rows_of(self.source(h) * HALF, graph.source)
        mixed += rows_of(self.target(h) * HALF, graph.target)
        return self.after(blend(m, mixed))


class VectorReadout(nn.Module):
    """An equivariant vector per node: directions of its edges, weighted by what the edges hold.

    Args:
        config: of the network.
    """

    def __init__(self, config: GemNetConfig) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(config.mean_neighbors)
        self.hidden = Dense(config.edge_dim, config.edge_dim)
        self.gate = linear(config.radial_dim, config.edge_dim)
        self.weight = nn.Linear(config.edge_dim, 1, bias=False)

    def forward(self, features: Features, graph: EdgeGraph) -> Float[Tensor, "N 3"]:
        """Sum the weighted directions of the edges into each node."""
        weight = self.weight(self.hidden(features.edges) * self.gate(features.radial))
        return sum_by(weight * graph.unit.to(weight.dtype), graph.target, graph.num_nodes) * self.scale
