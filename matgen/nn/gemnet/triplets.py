"""Sums over triplets as weighted sums of rows.

Two edges k -> s and s -> t meet in s at some angle. What edge s -> t collects from all k -> s, once per angular
function, is linear in what these carry: a sum of their messages, weighted by angular functions. The weights are worked
out once per batch and serve all layers; a sum per edge and angular function avoids any tensor of the size of triplets x
channels, which is what makes it fast on a CPU.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matgen.nn.gemnet.basis import legendre


@dataclass(frozen=True, eq=False)
class WeightedSums:
    """Sums of rows of a table: of `rows` from one entry of `starts` to the next, times `weights`.

    An embedding bag takes these sums faster than a product with a sparse matrix, and leaves no copies behind.
    """

    rows: Int[Tensor, "T"]
    starts: Int[Tensor, "S"]
    weights: Float[Tensor, "T"]

    def __call__(self, table: Float[Tensor, "E C"]) -> Float[Tensor, "S C"]:
        """The sums, worked out in the precision of the weights."""
        with torch.autocast(table.device.type, enabled=False):
            exact = table.to(self.weights.dtype)
            sums = nn.functional.embedding_bag(
                self.rows, exact, self.starts, mode="sum", per_sample_weights=self.weights
            )
        return sums.to(table.dtype)


@dataclass(frozen=True, eq=False)
class Triplets:
    """The sums of a batch.

    Attributes:
        sums: S = E * L; number e * L + l is that of edge e with the l-th angular function.
        transposed: from [E * L, C] to [E, C]; None where no gradient was wanted.
        num_angular: L.
    """

    sums: WeightedSums
    transposed: WeightedSums | None
    num_angular: int

    def __call__(self, messages: Float[Tensor, "E C"]) -> Float[Tensor, "E LC"]:
        """Sum messages of incoming edges, weighted by each angular function: [E, L * C], functions first."""
        summed: Tensor = _LinearSums.apply(messages, self.sums, self.transposed)
        return summed.view(len(messages), self.num_angular * messages.shape[1])


def build_triplets(
    source: Int[Tensor, "E"], target: Int[Tensor, "E"], unit: Float[Tensor, "E 3"], num_nodes: int, num_angular: int
) -> Triplets:
    """List all pairs of an edge and an edge into its source, and their angular functions.

    Args:
        source: node that an edge leaves.
        target: node that an edge enters, ascending.
        unit: direction from source to target.
        num_nodes: number of nodes N.
        num_angular: L, Legendre polynomials up to degree L - 1.

    Returns:
        The sums, on the device and in the dtype of `unit`. An edge's own way back counts as one of the triplets.
    """
    into, first_into = _segments(target, num_nodes)
    count, first = into[source], first_into[source]
    place = ragged_arange(count)
    values = _angular(unit, _repeated(count), first.repeat_interleave(count) + place, num_angular)
    # all functions of an edge in a row, so that its triplets' messages are still in the cache for the next function
    counts = count.repeat_interleave(num_angular)
    place = ragged_arange(counts)
    shift = torch.arange(num_angular, device=source.device)
    start_of_values = ((count.cumsum(0) - count)[:, None] * num_angular + shift).flatten()
    weights = values.flatten().index_select(0, start_of_values.repeat_interleave(counts) + place * num_angular)
    rows = first.repeat_interleave(count * num_angular) + place
    transposed = _transposed(source, target, unit, num_nodes, num_angular) if torch.is_grad_enabled() else None
    return Triplets(WeightedSums(rows, counts.cumsum(0) - counts, weights), transposed, num_angular)


def ragged_arange(count: Int[Tensor, "N"]) -> Int[Tensor, "T"]:
    """0..count[0] - 1, then 0..count[1] - 1, and so on."""
    starts = count.cumsum(0) - count
    return torch.arange(int(count.sum()), device=count.device) - starts.repeat_interleave(count)


def _repeated(count: Int[Tensor, "E"]) -> Int[Tensor, "T"]:
    """0 count[0] times, then 1 count[1] times, and so on."""
    return torch.arange(len(count), device=count.device).repeat_interleave(count)


def _segments(index: Int[Tensor, "E"], num_nodes: int) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    count = torch.bincount(index, minlength=num_nodes)
    return count, count.cumsum(0) - count


def _angular(unit: Tensor, edge: Tensor, other: Tensor, num_angular: int) -> Float[Tensor, "T L"]:
    """Angular functions of the angle at the shared node: the incoming edge is seen from it, hence the sign."""
    return legendre(-(unit[edge] * unit[other]).sum(-1).clamp(-1, 1), num_angular)


def _transposed(source: Tensor, target: Tensor, unit: Tensor, num_nodes: int, num_angular: int) -> WeightedSums:
    by_source = torch.argsort(source, stable=True)
    out, first_out = _segments(source, num_nodes)
    count = out[target]
    other = _repeated(count)
    edge = by_source[first_out[target[other]] + ragged_arange(count)]
    values = _angular(unit, edge, other, num_angular)
    rows = edge[:, None] * num_angular + torch.arange(num_angular, device=source.device)
    return WeightedSums(rows.flatten(), (count.cumsum(0) - count) * num_angular, values.flatten())


class _LinearSums(torch.autograd.Function):
    """Sums whose gradient with respect to the table needs no transposition at run time."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, sums: WeightedSums, transposed: WeightedSums | None) -> Tensor:
        ctx.transposed = transposed
        return sums(table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        assert ctx.transposed is not None, "the triplets were built without gradients"
        return ctx.transposed(gradients[0]), None, None
