"""Batches of building blocks and of coarse frameworks: flat tensors, nodes of all graphs one after the other."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

_FlatT = TypeVar("_FlatT", bound="_Flat")  # not Self: beartype in tests cannot check it on a plain method


@dataclass(frozen=True, eq=False)
class _Flat:
    """What both batches share: one graph a row of `row_id`, dataclass fields that are all tensors."""

    row_id: Tensor

    def __len__(self) -> int:
        return len(self.row_id)

    @property
    def num_graphs(self) -> int:
        """Number of graphs B."""
        return len(self.row_id)

    def to(self: _FlatT, device: torch.device | str) -> _FlatT:
        """Return the same batch on another device."""
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return replace(self, **moved)


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockBatch(_Flat):
    """B building blocks with n nodes in all: of each block its atoms first, then its connection points.

    Attributes:
        row_id: int64[B], what the noise of the row is a function of (its position in the training stream).
        graph_index: int64[n], block of each node, ascending.
        atomic_numbers: int64[n], Z; 0 at a connection point.
        cart_coords: float32[n, 3], Å, origin at the centroid of the block's connection points.
        is_connection: bool[n].
        edge_index: int64[2, E], bonds and docking edges (connection point - its atom), both directions.
        identity: int64[B], equal for blocks of one canonical bond graph.
        ecfp4: uint8[B, bits / 8], packed.
        num_atoms: int64[B], without connection points.
        num_connections: int64[B].
        is_metal: bool[B], a metal node.
        diameter: float32[B], Å, largest distance of two nodes.
    """

    graph_index: Tensor
    atomic_numbers: Tensor
    cart_coords: Tensor
    is_connection: Tensor
    edge_index: Tensor
    identity: Tensor
    ecfp4: Tensor
    num_atoms: Tensor
    num_connections: Tensor
    is_metal: Tensor
    diameter: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class CoarseBatch(_Flat):
    """B coarse frameworks with n blocks in all.

    Attributes:
        row_id: int64[B], what the noise of the row is a function of (its position in the training stream).
        num_blocks: int64[B], K of each framework.
        graph_index: int64[n], framework of each block, ascending.
        frac_coords: float32[n, 3] in [0, 1), centroids of the blocks' connection points.
        lattice: float32[B, 3, 3], rows a, b, c; Å.
        embedding: float32[n, D] of the blocks, not standardised.
        is_metal: bool[n], metal nodes.
        num_connections: int64[n].
        edge_index: int64[2, E], connected blocks, both directions, each once however many connections it has.
        edge_image: float32[E, 3], cell of the second block relative to the first.
        properties: float32[B, P], not standardised, NaN where unknown.
    """

    num_blocks: Tensor
    graph_index: Tensor
    frac_coords: Tensor
    lattice: Tensor
    embedding: Tensor
    is_metal: Tensor
    num_connections: Tensor
    edge_index: Tensor
    edge_image: Tensor
    properties: Tensor
