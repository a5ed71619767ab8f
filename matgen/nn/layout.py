"""Which orbits and pairs of a padded batch are real: blocks of crystals of one size, so that no padding is computed."""

from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_OPERATION_STEPS = (8, 48, 192)  # blocks are also cut where the number of operations passes these


@dataclass(frozen=True)
class Block:
    """Crystals with the same number of orbits, and about the same number of operations.

    Args:
        rows: which crystals of the batch.
        num_orbits: of each of them (of the batch's width where padding is kept).
        num_operations: largest number of operations among them.
    """

    rows: Int[Tensor, "b"]
    num_orbits: int
    num_operations: int


@dataclass(frozen=True)
class PairLayout:
    """Order of the nodes and pairs that the network works on: flat, block after block.

    Args:
        node_index: `[N]`, place of each node in the flattened batch `[B * M]`.
        crystal_index: `[N]`, crystal of each node.
        blocks: in order; those that differ in operations alone follow each other.
        weights: `[B, M]` share of each neighbour in a mean, where padding is kept; None where all are alike.
    """

    node_index: Int[Tensor, "N"]
    crystal_index: Int[Tensor, "N"]
    blocks: tuple[Block, ...]
    weights: Float[Tensor, "B M"] | None

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Number of crystals and of orbits of each stretch of nodes with one number of orbits."""
        stretches = groupby(self.blocks, key=lambda block: block.num_orbits)
        return [(sum(len(block.rows) for block in blocks), orbits) for orbits, blocks in stretches]

    def node_views(self, nodes: Float[Tensor, "N D"]) -> list[Float[Tensor, "b m D"]]:
        """The nodes of each stretch, crystal by crystal."""
        parts = nodes.split([count * orbits for count, orbits in self.sizes])
        return [part.unflatten(0, size) for part, size in zip(parts, self.sizes, strict=True)]

    def block_views(self, nodes: Float[Tensor, "N D"]) -> list[Float[Tensor, "b m D"]]:
        """The nodes of each block, crystal by crystal."""
        parts = nodes.split([len(block.rows) * block.num_orbits for block in self.blocks])
        return [part.unflatten(0, (len(b.rows), b.num_orbits)) for part, b in zip(parts, self.blocks, strict=True)]

    def mean_over_neighbours(self, messages: Float[Tensor, "E D"]) -> Float[Tensor, "N D"]:
        """Mean over j of the messages of the pairs (i, j)."""
        parts = messages.split([count * orbits**2 for count, orbits in self.sizes])
        squares = [
            part.view(count, orbits, orbits, -1) for part, (count, orbits) in zip(parts, self.sizes, strict=True)
        ]
        if self.weights is not None:
            return torch.einsum("bijd,bj->bid", squares[0], self.weights.to(messages.dtype)).flatten(0, 1)
        return torch.cat([square.mean(2).flatten(0, 1) for square in squares])

    def scatter(self, nodes: Float[Tensor, "N D"], shape: tuple[int, int]) -> Float[Tensor, "B M D"]:
        """The nodes in their padded places; zero in padding."""
        if self.weights is not None:
            return nodes.unflatten(0, shape)
        out = nodes.new_zeros(shape[0] * shape[1], nodes.shape[-1])
        return out.index_copy(0, self.node_index, nodes).unflatten(0, shape)


def without_padding(mask: Bool[Tensor, "B M"], operations: Bool[Tensor, "B O"]) -> PairLayout:
    """Blocks of exact size; costs one wait for the device.

    Args:
        mask: True for orbits, which come first.
        operations: True for operations, which come first.
    """
    counts, sizes = torch.stack([mask.sum(1), operations.sum(1)]).tolist()
    width = mask.shape[1]

    def kind(row: int) -> tuple[int, int]:
        return counts[row], next((step for step in _OPERATION_STEPS if sizes[row] <= step), sizes[row])

    order = sorted(range(len(counts)), key=kind)
    blocks = []
    for (orbits, _), members in groupby(order, key=kind):
        rows = list(members)
        largest = max(sizes[row] for row in rows)
        blocks.append(Block(torch.tensor(rows, device=mask.device), orbits, largest))
    places = [row * width + orbit for row in order for orbit in range(counts[row])]
    node_index = torch.tensor(places, device=mask.device)
    return PairLayout(node_index, node_index // width, tuple(blocks), None)


def with_padding(mask: Bool[Tensor, "B M"], num_operations: int) -> PairLayout:
    """One block of the batch's shape; for compiled networks, whose graph must not depend on the sizes."""
    batch, width = mask.shape
    node_index = torch.arange(batch * width, device=mask.device)
    weights = mask.float() / mask.sum(1, keepdim=True).clamp(min=1)
    block = Block(torch.arange(batch, device=mask.device), width, num_operations)
    return PairLayout(node_index, node_index // width, (block,), weights)
