"""Padded batches of crystals, and the plan that says which crystals form which step.

The stream of training crystals is the concatenation of one shuffle per epoch; step s is the `batch_size` crystals at
stream positions s * batch_size onwards. It is a pure function of (seed, step): nothing has to be saved to resume, and
any number of workers sees the same step. Within a step crystals of similar size are put together in micro-batches.
Their gradients, weighted by their crystals, add up to that of the step as a whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from matgen.data.records import Records


@dataclass(frozen=True, eq=False)
class Batch:
    """B crystals padded to M orbits; padded orbits hold zeros and have mask False.

    Attributes:
        space_group_number: int64[B], 1..230.
        num_orbits: int64[B], at least 1.
        mask: bool[B, M], True at real orbits, which come first.
        lattice_k: float32[B, 6], not standardised.
        frac_coords: float32[B, M, 3] in [0, 1).
        species_index: int64[B, M], Z - 1.
        site_symmetry: int64[B, M, 15], class 0..12.
        row_id: int64[B], what the noise of the row is a function of (its position in the training stream).
    """

    space_group_number: Tensor
    num_orbits: Tensor
    mask: Tensor
    lattice_k: Tensor
    frac_coords: Tensor
    species_index: Tensor
    site_symmetry: Tensor
    row_id: Tensor

    def __len__(self) -> int:
        return len(self.space_group_number)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the same batch on another device."""
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return replace(self, **moved)


def collate(
    records: Records, indices: Sequence[int] | np.ndarray, row_ids: np.ndarray | None = None, pad_to: int | None = None
) -> Batch:
    """Gather crystals into one padded batch.

    Args:
        records: where the crystals are.
        indices: which ones, in the order of the rows.
        row_ids: int64[B]; the indices where not given.
        pad_to: number of orbits to pad to; the largest of the batch where not given.

    Returns:
        The batch, on the CPU.

    Raises:
        ValueError: if `indices` is empty, or `pad_to` is smaller than the largest crystal.
    """
    chosen = np.asarray(indices, dtype=np.int64)
    if len(chosen) == 0:
        raise ValueError("a batch needs at least one crystal")
    counts = records.num_orbits[chosen]
    width = int(counts.max()) if pad_to is None else pad_to
    if width < counts.max():
        raise ValueError(f"pad_to {pad_to} is less than the {counts.max()} orbits of a crystal")
    slots = np.arange(width)
    mask = slots < counts[:, None]
    rows = np.where(mask, records.offsets[chosen][:, None] + slots, 0)

    def gather(values: np.ndarray, dtype: torch.dtype) -> Tensor:
        taken = values[rows]
        taken[~mask] = 0
        return torch.from_numpy(taken).to(dtype)

    return Batch(
        space_group_number=torch.from_numpy(records.space_group_number[chosen].astype(np.int64)),
        num_orbits=torch.from_numpy(counts),
        mask=torch.from_numpy(mask),
        lattice_k=torch.from_numpy(records.lattice_k[chosen]).float(),
        frac_coords=gather(records.frac_coords, torch.float64).float() % 1.0,
        species_index=gather(records.atomic_numbers - 1, torch.int64),
        site_symmetry=gather(records.site_symmetry, torch.int64),
        row_id=torch.from_numpy(chosen.copy() if row_ids is None else np.asarray(row_ids, dtype=np.int64)),
    )


@dataclass(frozen=True, kw_only=True)
class BatchPlanConfig:
    """How a step is cut into micro-batches.

    Attributes:
        batch_size: crystals of a step, over all workers.
        max_edges: padded orbit pairs (B M^2) that one micro-batch may have; bounds memory.
        overhead_edges: cost of one more micro-batch, in orbit pairs; large where launching kernels is what takes time.
        operation_weight: cost of one more space-group operation, relative to the pair itself.
    """

    batch_size: int = 256
    max_edges: int = 65536
    overhead_edges: int = 3000
    operation_weight: float = 0.0


@dataclass(frozen=True)
class MicroBatch:
    """Crystals that go through the network together.

    Attributes:
        indices: int64[b] into the records.
        row_ids: int64[b], see Batch.
        weight: share of the step's crystals, b / batch_size.
    """

    indices: np.ndarray
    row_ids: np.ndarray
    weight: float


class BatchPlan:
    """Which crystals form which step, for any rank of any number of workers."""

    def __init__(self, num_orbits: np.ndarray, num_operations: np.ndarray, config: BatchPlanConfig, seed: int) -> None:
        """Prepare a plan.

        Args:
            num_orbits: int[N] of each training crystal.
            num_operations: int[N] of each training crystal's space group.
            config: sizes and costs.
            seed: of the shuffles.

        Raises:
            ValueError: if there is no crystal, or a size is not positive.
        """
        if len(num_orbits) == 0:
            raise ValueError("a batch plan needs at least one crystal")
        if config.batch_size < 1 or config.max_edges < 1:
            raise ValueError(f"batch_size {config.batch_size} and max_edges {config.max_edges} must be positive")
        self.num_orbits = np.asarray(num_orbits, dtype=np.int64)
        self.num_operations = np.asarray(num_operations, dtype=np.int64)
        self.config = config
        self.seed = seed
        self._shuffles: dict[int, np.ndarray] = {}

    @property
    def steps_per_epoch(self) -> float:
        """Optimiser steps in which every crystal is seen once."""
        return len(self.num_orbits) / self.config.batch_size

    def positions(self, step: int) -> np.ndarray:
        """Return the stream positions of a step (0-based), int64[batch_size]."""
        return step * self.config.batch_size + np.arange(self.config.batch_size)

    def indices(self, step: int) -> np.ndarray:
        """Return the crystals of a step (0-based), int64[batch_size]."""
        positions = self.positions(step)
        epochs, places = np.divmod(positions, len(self.num_orbits))
        indices = np.empty_like(places)
        for epoch in np.unique(epochs):
            indices[epochs == epoch] = self._shuffle(int(epoch))[places[epochs == epoch]]
        return indices

    def micro_batches(self, step: int, rank: int = 0, world_size: int = 1) -> list[MicroBatch]:
        """Cut a step into the micro-batches of one worker.

        Args:
            step: 0-based optimiser step.
            rank: of the worker.
            world_size: number of workers; the union over ranks is the same step whatever it is.

        Returns:
            At least one micro-batch; the weights of all ranks add up to 1.

        Raises:
            ValueError: if there are more workers than crystals in a step.
        """
        if world_size > self.config.batch_size:
            raise ValueError(f"{world_size} workers cannot share a batch of {self.config.batch_size} crystals")
        indices, positions = self.indices(step), self.positions(step)
        order = np.lexsort((positions, self.num_operations[indices], self.num_orbits[indices]))[rank::world_size]
        groups = self._cut(indices[order])
        return [
            MicroBatch(indices[order[group]], positions[order[group]], len(group) / self.config.batch_size)
            for group in groups
        ]

    def _shuffle(self, epoch: int) -> np.ndarray:
        if epoch not in self._shuffles:
            while len(self._shuffles) > 2:
                self._shuffles.pop(next(iter(self._shuffles)))
            rng = np.random.Generator(np.random.Philox(key=[self.seed & (2**64 - 1), epoch]))
            self._shuffles[epoch] = rng.permutation(len(self.num_orbits))
        return self._shuffles[epoch]

    def _cut(self, ordered: np.ndarray) -> list[np.ndarray]:
        """Return the cheapest of a few ways to set apart groups with many operations."""
        orbits, operations = self.num_orbits[ordered], self.num_operations[ordered]
        if self.config.operation_weight <= 0:
            return self._cut_by_orbits(orbits, 1.0)[1]
        best: tuple[float, list[np.ndarray]] | None = None
        for borders in ((192,), (16, 192), (8, 48, 192)):
            cost, groups, low = 0.0, [], 0
            for high in borders:
                members = np.flatnonzero((operations > low) & (operations <= high))
                low = high
                if len(members):
                    weight = 1.0 + self.config.operation_weight * int(operations[members].max())
                    part_cost, part = self._cut_by_orbits(orbits[members], weight)
                    cost += part_cost
                    groups += [members[group] for group in part]
            if best is None or cost < best[0]:
                best = (cost, groups)
        assert best is not None
        return best[1]

    def _cut_by_orbits(self, orbits: np.ndarray, pair_cost: float) -> tuple[float, list[np.ndarray]]:
        """Return the cheapest cut of crystals in ascending order of orbits (dynamic programming over the sizes)."""
        sizes, starts = np.unique(orbits, return_index=True)
        ends = np.append(starts[1:], len(orbits))
        cost, previous = [0.0], [0]
        for last in range(len(sizes)):
            pairs = (ends[last] - starts[: last + 1]) * sizes[last] ** 2
            pieces = np.ceil(pairs / self.config.max_edges)
            totals = np.array(cost) + pieces * self.config.overhead_edges + pairs * pair_cost
            previous.append(int(totals.argmin()))
            cost.append(float(totals.min()))
        groups: list[np.ndarray] = []
        last = len(sizes)
        while last > 0:
            first = previous[last]
            members = np.arange(starts[first], ends[last - 1])
            capacity = max(1, self.config.max_edges // int(sizes[last - 1]) ** 2)
            groups = np.array_split(members, -(-len(members) // capacity)) + groups
            last = first
        return cost[-1], groups


def evaluation_batches(records: Records, max_edges: int, limit: int | None = None) -> Iterator[Batch]:
    """Yield the first crystals of a set in padded batches of similar size, each crystal once.

    Args:
        records: the set.
        max_edges: padded orbit pairs of one batch.
        limit: number of crystals to take; all where not given.

    Yields:
        Batches whose `row_id` is the crystal's index in the records.
    """
    count = len(records) if limit is None else min(limit, len(records))
    order = np.argsort(records.num_orbits[:count], kind="stable")
    start = 0
    while start < count:
        stop = start + 1
        while stop < count and (stop + 1 - start) * int(records.num_orbits[order[stop]]) ** 2 <= max_edges:
            stop += 1
        yield collate(records, order[start:stop])
        start = stop
