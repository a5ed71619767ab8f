"""Gather building blocks and coarse frameworks into batches."""

import numpy as np
import torch

from matgen.data.mof_batch import BlockBatch, CoarseBatch
from matgen.data.mof_records import BlockRecords, CoarseRecords, ragged_rows


def collate_blocks(records: BlockRecords, indices: np.ndarray, row_ids: np.ndarray | None = None) -> BlockBatch:
    """Gather building blocks.

    Args:
        records: where the blocks are.
        indices: which ones, in the order of the rows.
        row_ids: int64[B]; the indices where not given.

    Returns:
        The batch, on the CPU; of each block its atoms first, then its connection points.

    Raises:
        ValueError: `indices` is empty.
    """
    chosen = np.asarray(indices, dtype=np.int64)
    if len(chosen) == 0:
        raise ValueError("a batch needs at least one building block")
    atoms, ends = ragged_rows(records.atom_offsets, chosen), ragged_rows(records.connection_offsets, chosen)
    num_atoms, num_ends = records.num_atoms[chosen], records.num_connections[chosen]
    counts = num_atoms + num_ends
    starts = np.cumsum(counts) - counts
    graph = np.repeat(np.arange(len(chosen)), counts)
    local = np.arange(counts.sum()) - np.repeat(starts, counts)
    is_connection = local >= np.repeat(num_atoms, counts)
    numbers = np.zeros(len(graph), dtype=np.int64)
    numbers[~is_connection] = records.atomic_numbers[atoms]
    coords = np.zeros((len(graph), 3), dtype=np.float32)
    coords[~is_connection], coords[is_connection] = records.cart_coords[atoms], records.connection_points[ends]
    bonds = records.bonds[ragged_rows(records.bond_offsets, chosen)].astype(np.int64)
    bonds += np.repeat(starts, np.diff(records.bond_offsets)[chosen])[:, None]
    docks = np.stack(
        [np.flatnonzero(is_connection), records.connection_atoms[ends].astype(np.int64) + np.repeat(starts, num_ends)]
    )
    edges = np.concatenate([bonds.T, docks], axis=1)
    identity = records.identity_index[chosen].astype(np.int64)
    return BlockBatch(
        row_id=torch.from_numpy(chosen.copy() if row_ids is None else np.asarray(row_ids, dtype=np.int64)),
        graph_index=torch.from_numpy(graph),
        atomic_numbers=torch.from_numpy(numbers),
        cart_coords=torch.from_numpy(coords),
        is_connection=torch.from_numpy(is_connection),
        edge_index=torch.from_numpy(np.concatenate([edges, edges[::-1]], axis=1)),
        identity=torch.from_numpy(identity),
        ecfp4=torch.from_numpy(records.ecfp4[identity]),
        num_atoms=torch.from_numpy(num_atoms),
        num_connections=torch.from_numpy(num_ends),
        is_metal=torch.from_numpy(records.is_metal[chosen]),
        diameter=torch.from_numpy(_diameters(coords, starts, counts)),
    )


def _diameters(coords: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    diameters = np.zeros(len(starts), dtype=np.float32)
    for i, (start, count) in enumerate(zip(starts, counts)):
        points = coords[start : start + count].astype(np.float64)
        square = (points**2).sum(1)
        diameters[i] = np.sqrt(max(0.0, (square[:, None] + square - 2 * points @ points.T).max()))
    return diameters


def collate_frameworks(
    records: CoarseRecords, embeddings: np.ndarray, indices: np.ndarray, row_ids: np.ndarray | None = None
) -> CoarseBatch:
    """Gather coarse frameworks.

    Args:
        records: where the frameworks are.
        embeddings: float32[N, D] of the building blocks that they refer to.
        indices: which frameworks, in the order of the rows.
        row_ids: int64[B]; the indices where not given.

    Returns:
        The batch, on the CPU.

    Raises:
        ValueError: `indices` is empty.
    """
    chosen = np.asarray(indices, dtype=np.int64)
    if len(chosen) == 0:
        raise ValueError("a batch needs at least one framework")
    rows, edge_rows = ragged_rows(records.offsets, chosen), ragged_rows(records.edge_offsets, chosen)
    counts, num_edges = records.num_blocks[chosen], np.diff(records.edge_offsets)[chosen]
    starts = np.cumsum(counts) - counts
    edges = records.edge_index[edge_rows].astype(np.int64).T + np.repeat(starts, num_edges)
    image = records.edge_image[edge_rows].astype(np.float32)
    return CoarseBatch(
        row_id=torch.from_numpy(chosen.copy() if row_ids is None else np.asarray(row_ids, dtype=np.int64)),
        num_blocks=torch.from_numpy(counts),
        graph_index=torch.from_numpy(np.repeat(np.arange(len(chosen)), counts)),
        frac_coords=torch.from_numpy(records.frac_coords[rows] % 1.0),
        lattice=torch.from_numpy(records.lattice[chosen].astype(np.float32)),
        embedding=torch.from_numpy(embeddings[records.block_index[rows]].astype(np.float32)),
        is_metal=torch.from_numpy(records.is_metal[rows].astype(bool)),
        num_connections=torch.from_numpy(records.num_connections[rows].astype(np.int64)),
        edge_index=torch.from_numpy(np.concatenate([edges, edges[::-1]], axis=1)),
        edge_image=torch.from_numpy(np.concatenate([image, -image])),
        properties=torch.from_numpy(records.properties[chosen].astype(np.float32)),
    )
