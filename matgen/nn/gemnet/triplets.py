"""Sums over triplets as one product with a sparse matrix.

Two edges k -> s and s -> t meet in s at some angle. What edge s -> t collects from all k -> s, once per angular
function, is linear in what these carry, so it is a matrix of angular functions times the messages. The matrix is built
once per batch and serves all layers; a row per angular function avoids any tensor of the size of triplets x channels,
which is what makes the sum fast on a CPU.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matgen.nn.gemnet.basis import legendre


@dataclass(frozen=True, eq=False)
class Triplets:
    """The sums of a batch.

    Attributes:
        forward_matrix: sparse [L * E, E]; row l * E + e holds the l-th angular function of e and each edge into its
            source.
        backward_matrix: sparse [E, L * E], the transpose; None where no gradient was wanted.
        num_angular: L.
    """

    forward_matrix: Tensor
    backward_matrix: Tensor | None
    num_angular: int

    def __call__(self, messages: Float[Tensor, "E C"]) -> Float[Tensor, "E LC"]:
        """Sum messages of incoming edges, weighted by each angular function: [E, L * C], functions first."""
        summed: Tensor = _SparseProduct.apply(messages, self.forward_matrix, self.backward_matrix)
        num_edges, channels = messages.shape
        return (
            summed.view(self.num_angular, num_edges, channels)
            .transpose(0, 1)
            .reshape(num_edges, self.num_angular * channels)
        )


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
    num_edges = len(source)
    into, first_into = _segments(target, num_nodes)
    count = into[source]
    edge = torch.arange(num_edges, device=source.device).repeat_interleave(count)
    other = first_into[source[edge]] + ragged_arange(count)
    values = _angular(unit, edge, other, num_angular)
    starts = torch.cat([count.new_zeros(1), count.cumsum(0)])
    shift = torch.arange(num_angular, device=source.device)[:, None]
    rows = torch.cat([(starts[:-1] + shift * len(edge)).flatten(), starts[-1:] * num_angular])
    matrix = _csr(rows, other.repeat(num_angular), values.T.flatten(), (num_angular * num_edges, num_edges))
    backward = None
    if torch.is_grad_enabled():
        backward = _transposed(source, target, unit, num_nodes, num_angular)
    return Triplets(matrix, backward, num_angular)


def ragged_arange(count: Int[Tensor, "N"]) -> Int[Tensor, "T"]:
    """0..count[0] - 1, then 0..count[1] - 1, and so on."""
    starts = count.cumsum(0) - count
    return torch.arange(int(count.sum()), device=count.device) - starts.repeat_interleave(count)


def _segments(index: Int[Tensor, "E"], num_nodes: int) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    count = torch.bincount(index, minlength=num_nodes)
    return count, count.cumsum(0) - count


def _angular(unit: Tensor, edge: Tensor, other: Tensor, num_angular: int) -> Float[Tensor, "T L"]:
    """Angular functions of the angle at the shared node: the incoming edge is seen from it, hence the sign."""
    return legendre(-(unit[edge] * unit[other]).sum(-1).clamp(-1, 1), num_angular)


def _transposed(source: Tensor, target: Tensor, unit: Tensor, num_nodes: int, num_angular: int) -> Tensor:
    num_edges = len(source)
    by_source = torch.argsort(source, stable=True)
    out, first_out = _segments(source, num_nodes)
    count = out[target]
    other = torch.arange(num_edges, device=source.device).repeat_interleave(count)
    edge = by_source[first_out[target[other]] + ragged_arange(count)]
    values = _angular(unit, edge, other, num_angular)
    columns = edge[:, None] + num_edges * torch.arange(num_angular, device=source.device)
    rows = torch.cat([count.new_zeros(1), count.cumsum(0)]) * num_angular
    return _csr(rows, columns.flatten(), values.flatten(), (num_edges, num_angular * num_edges))


def _csr(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(rows, columns, values, shape, check_invariants=False)


class _SparseProduct(torch.autograd.Function):
    """matrix @ dense, whose gradient with respect to the dense factor needs no transposition at run time."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Tensor, transposed: Tensor | None) -> Tensor:
        ctx.transposed = transposed
        return _product(matrix, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        assert ctx.transposed is not None, "the triplets were built without gradients"
        return _product(ctx.transposed, gradients[0]), None, None


def _product(matrix: Tensor, dense: Tensor) -> Tensor:
    """In the precision of the matrix: sparse products know no half precision everywhere."""
    with torch.autocast(dense.device.type, enabled=False):
        return (matrix @ dense.to(matrix.dtype)).to(dense.dtype)
