"""From the nodes of a graph to one vector per graph."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matgen.nn.gemnet.layers import Perceptron, sum_by


@dataclass(frozen=True, kw_only=True)
class ReadoutConfig:
    """Attention heads of GraphReadout, their width, and the hidden layer of scores and values."""

    num_heads: int = 8
    head_dim: int = 16
    hidden: int = 128


class GraphReadout(nn.Module):
    """A weighted mean, a gated sum and a maximum over nodes, mixed.

    Args:
        config: heads.
        in_dim: length of a node's features.
        out_dim: of the result.
    """

    def __init__(self, config: ReadoutConfig, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.heads, width = config.num_heads, config.num_heads * config.head_dim
        self.mean_scores = Perceptron(in_dim, config.hidden, config.num_heads)
        self.mean_values = Perceptron(in_dim, config.hidden, width)
        self.sum_scores = Perceptron(in_dim, config.hidden, config.num_heads)
        self.sum_values = Perceptron(in_dim, config.hidden, width)
        self.peak_values = Perceptron(in_dim, config.hidden, width)
        self.norm = nn.LayerNorm(3 * width)
        self.mix = nn.Linear(3 * width, out_dim)

    def forward(
        self, nodes: Float[Tensor, "N D"], graph_index: Int[Tensor, "N"], num_graphs: int
    ) -> Float[Tensor, "B O"]:
        """Read one vector per graph off its nodes.

        Args:
            nodes: features.
            graph_index: graph of each node.
            num_graphs: B; every graph has at least one node.

        Returns:
            the vectors; the same for any order of the nodes.
        """
        scores = self.mean_scores(nodes)
        weights = segment_softmax(scores, graph_index, num_graphs)
        mean = sum_by(self._weighted(self.mean_values(nodes), weights), graph_index, num_graphs)
        gates = torch.sigmoid(self.sum_scores(nodes))
        total = sum_by(self._weighted(self.sum_values(nodes), gates), graph_index, num_graphs)
        peak = segment_max(self.peak_values(nodes), graph_index, num_graphs)
        return self.mix(nn.functional.silu(self.norm(torch.cat([mean, total, peak], dim=-1))))

    def _weighted(self, values: Float[Tensor, "N W"], weights: Float[Tensor, "N H"]) -> Float[Tensor, "N W"]:
        return (values.view(len(values), self.heads, -1) * weights[..., None]).flatten(1)


def segment_max(values: Float[Tensor, "N D"], index: Int[Tensor, "N"], num: int) -> Float[Tensor, "B D"]:
    """Largest value of each column over the rows that share an index; every index occurs."""
    where = index[:, None].expand(-1, values.shape[1])
    lowest = values.new_full((num, values.shape[1]), -torch.inf)
    return lowest.scatter_reduce(0, where, values, reduce="amax")


def segment_softmax(scores: Float[Tensor, "N H"], index: Int[Tensor, "N"], num: int) -> Float[Tensor, "N H"]:
    """Softmax of each column over the rows that share an index."""
    peak = segment_max(scores.detach(), index, num)
    raised = (scores - peak[index]).exp()
    return raised / sum_by(raised, index, num)[index]
