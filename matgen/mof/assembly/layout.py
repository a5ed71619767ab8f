"""Candidate pairs of many frameworks as padded tensors: one axis for all their blocks, one for the starts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matgen.geometry.rotations import fit_rotation
from matgen.mof.assembly.pairs import PairTable

__all__ = ["Group", "Layout", "build_layout", "padded_size", "shape_key"]

_SIZES = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128])


def padded_size(size: int) -> int:
    """Sizes are padded to few values that depend on the framework alone, so that no result depends on its batch."""
    at = int(np.searchsorted(_SIZES, size))
    return int(_SIZES[at]) if at < len(_SIZES) else -(-size // 64) * 64


@dataclass(frozen=True, eq=False)
class Group:
    """Blocks that are turned at the same time, all metal nodes or all linkers of the batch.

    block: [G], number in the batch. slot: [G, C], connection in the batch (the last one, a dummy, where padded).
    points: [G, C, 6] Å, both atoms of the cut bond in the block's frame, the outer first; mask: [G, C].
    partner: [G, C, M], connection in the batch. offset: [G, C, M, 6] Å, from this block's centre to the partner's,
    twice. candidate: [G, C, M], whether this is one and no padding. pair: [G, C, M], row of the batch's pair tables.
    """

    block: Tensor
    slot: Tensor
    points: Tensor
    mask: Tensor
    partner: Tensor
    offset: Tensor
    candidate: Tensor
    pair: Tensor

    def turned(self, rotations: Tensor) -> Tensor:
        """[G, C, 6, S] Å: the points, turned by rotations [G, S, 3, 3]."""
        flat = self.points.view(len(self.points), -1, 3) @ rotations.permute(0, 3, 2, 1).flatten(2)
        return flat.view(*self.points.shape, -1)

    def fitted(self, target: Tensor) -> Tensor:
        """[G, S, 3, 3]: rotations that bring the points nearest to their targets [G, C, 6, S] Å."""
        source = self.points.view(len(self.points), -1, 3)  # padding is zero and pulls at nothing
        covariance = source.mT @ target.reshape(len(source), source.shape[1], -1)
        return fit_rotation(covariance.unflatten(-1, (3, -1)).permute(0, 3, 2, 1))


@dataclass(frozen=True, eq=False)
class Layout:
    """A batch of frameworks; groups: metal side, linker side. framework_of_block, framework_of_slot: which one."""

    groups: tuple[Group, Group]
    num_blocks: int
    num_slots: int
    framework_of_block: Tensor
    framework_of_slot: Tensor
    block_offsets: np.ndarray
    slot_offsets: np.ndarray


def build_layout(
    tables: Sequence[PairTable], direction: float, device: torch.device, dtype: torch.dtype = torch.float32
) -> Layout:
    """Lay out frameworks side by side.

    Args:
        tables: candidate pairs of each framework.
        direction: weight of a bond's direction against the place of its midpoint; 1 asks the two atoms of the cut bond
            to meet, which is right where blocks fit exactly.
        device: of the tensors.
        dtype: of the tensors.
    """
    block_offsets = np.cumsum([0, *(int(t.block[-1]) + 1 for t in tables)])
    slot_offsets = np.cumsum([0, *(len(t.block) for t in tables)])
    pair_offsets = np.cumsum([0, *(len(t.metal) for t in tables)])
    merged = _Merged(
        block=np.concatenate([t.block + o for t, o in zip(tables, block_offsets, strict=False)]),
        points=np.concatenate([np.hstack([t.arm + direction * t.half, t.arm - direction * t.half]) for t in tables]),
        metal=np.concatenate([t.metal + o for t, o in zip(tables, slot_offsets, strict=False)]),
        linker=np.concatenate([t.linker + o for t, o in zip(tables, slot_offsets, strict=False)]),
        offset=np.concatenate([t.offset for t in tables]),
    )
    num_blocks, num_slots = int(block_offsets[-1]), int(slot_offsets[-1])
    on_metal = np.zeros(num_blocks, dtype=bool)
    on_metal[merged.block[np.concatenate([t.is_metal for t in tables])]] = True
    groups = tuple(_group(merged, np.flatnonzero(on_metal == side), device, dtype) for side in (True, False))
    counts = [np.diff(block_offsets), np.diff(slot_offsets)]
    of_block, of_slot = (torch.as_tensor(np.repeat(np.arange(len(tables)), c), device=device) for c in counts)
    assert pair_offsets[-1] == len(merged.metal)
    return Layout((groups[0], groups[1]), num_blocks, num_slots, of_block, of_slot, block_offsets, slot_offsets)


def shape_key(table: PairTable) -> tuple[int, ...]:
    """Padded sizes of a framework: most connections of a block and most candidates of a connection, either side."""
    metal_blocks = np.unique(table.block[table.is_metal])
    on_metal = np.isin(table.block, metal_blocks)
    candidates = np.bincount(table.metal, minlength=len(table.block)) + np.bincount(
        table.linker, minlength=len(table.block)
    )
    key = []
    for side in (on_metal, ~on_metal):
        key.append(padded_size(int(np.bincount(table.block[side]).max(initial=1))))
        key.append(padded_size(int(candidates[side].max(initial=1))))
    return tuple(key)


@dataclass(frozen=True, eq=False)
class _Merged:
    block: np.ndarray
    points: np.ndarray
    metal: np.ndarray
    linker: np.ndarray
    offset: np.ndarray


def _group(merged: _Merged, blocks: np.ndarray, device: torch.device, dtype: torch.dtype) -> Group:
    row_of_block = np.full(int(merged.block.max()) + 1, -1)
    row_of_block[blocks] = np.arange(len(blocks))
    slots = np.flatnonzero(row_of_block[merged.block] >= 0)
    row = row_of_block[merged.block[slots]]
    column = _rank(row, len(blocks))
    width = padded_size(int(column.max()) + 1)
    num_slots = len(merged.block)
    place = np.full(num_slots, -1)
    place[slots] = row * width + column
    ends = np.concatenate([merged.metal, merged.linker])
    partners = np.concatenate([merged.linker, merged.metal])
    offsets = np.concatenate([merged.offset, -merged.offset])
    pairs = np.tile(np.arange(len(merged.metal)), 2)
    mine = np.flatnonzero(place[ends] >= 0)
    mine = mine[np.argsort(place[ends[mine]], kind="stable")]
    at, rank = place[ends[mine]], _rank(place[ends[mine]], len(blocks) * width)
    depth = padded_size(int(rank.max()) + 1)
    shape = (len(blocks), width)

    def filled(value: np.ndarray, where: tuple[np.ndarray, ...], shape: tuple[int, ...], fill: float) -> np.ndarray:
        array = np.full(shape, fill, dtype=value.dtype)
        array[where] = value
        return array

    flat = (len(blocks) * width, depth)
    arrays = {
        "slot": filled(slots, (row, column), shape, num_slots),
        "points": filled(merged.points[slots], (row, column), (*shape, 6), 0.0),
        "mask": filled(np.ones(len(slots), dtype=bool), (row, column), shape, False),
        "partner": filled(partners[mine], (at, rank), flat, num_slots).reshape(*shape, depth),
        "offset": filled(np.tile(offsets[mine], 2), (at, rank), (*flat, 6), 0.0).reshape(*shape, depth, 6),
        "candidate": filled(np.ones(len(mine), dtype=bool), (at, rank), flat, False).reshape(*shape, depth),
        "pair": filled(pairs[mine], (at, rank), flat, len(merged.metal)).reshape(*shape, depth),
    }
    tensors = {name: torch.as_tensor(value, device=device) for name, value in arrays.items()}
    tensors |= {name: tensors[name].to(dtype) for name in ("points", "offset")}
    return Group(block=torch.as_tensor(blocks, device=device), **tensors)


def _rank(key: np.ndarray, count: int) -> np.ndarray:
    """Position of each entry among those of equal key; keys ascend."""
    sizes = np.bincount(key, minlength=count)
    return np.arange(len(key)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
