"""Balance uneven rows: shards are cut into pieces of like estimated cost, and the costly ones go first."""

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from cluster.parts import Shard
from cluster.pieces import Piece

PIECES_PER_WORKER = 16  # the last piece then costs a worker at most a sixteenth of its share
MAX_PIECES = 32_768  # a piece costs the driver 1.5 ms: so many are 49 s of it, more would keep workers waiting


def num_pieces(num_workers: int) -> int:
    """Return into about how many pieces the rows of all shards are cut; larger shards only, smaller ones stay whole."""
    return min(PIECES_PER_WORKER * max(1, num_workers), MAX_PIECES)


def shard_cost(shard: Shard) -> float:
    """Return the estimated cost of a shard, in units of an average row where nothing is known."""
    return float(shard.row_costs.sum()) if shard.row_costs is not None else float(shard.num_rows)


def cut_shard(shard: Shard, target: float, rows_together: int = 1) -> list[Piece]:
    """Cut a shard into pieces that cost about `target`; a group of rows that costs more is a piece alone.

    Args:
        shard: with or without the costs of its rows.
        target: cost of a piece.
        rows_together: rows that are worked on at once, counted from the shard's first: cuts fall between such groups.
    """
    plain = Shard(shard.index, shard.num_rows, shard.payload)  # the costs stay at the driver
    cost = shard_cost(shard)
    if cost <= target or shard.num_rows <= rows_together:
        return [Piece(plain, 0, shard.num_rows, cost)]
    costs = shard.row_costs if shard.row_costs is not None else np.ones(shard.num_rows)
    pieces, start, held = [], 0, 0.0
    for row in range(0, shard.num_rows, rows_together):
        value = float(costs[row : row + rows_together].sum())
        if held > 0 and held + value > target:
            pieces.append(Piece(plain, start, row, held))
            start, held = row, 0.0
        held += value
    return [*pieces, Piece(plain, start, shard.num_rows, held)]


class Backlog:
    """What is still to do: shards are opened some at a time, and of the open ones the costliest piece is next.

    Args:
        shards: without a part yet.
        num_workers: that will share them.
        divisible: whether shards may be cut.
        rows_together: cuts fall between groups of so many rows.
    """

    def __init__(self, shards: Sequence[Shard], num_workers: int, *, divisible: bool, rows_together: int = 1) -> None:
        self._rows_together = rows_together
        costs = {shard.index: shard_cost(shard) for shard in shards}
        self._target = sum(costs.values()) / num_pieces(num_workers) if divisible else float("inf")
        self._shards: Iterator[Shard] = iter(sorted(shards, key=lambda shard: (-costs[shard.index], shard.index)))
        self._heap: list[tuple[float, int, int, Piece]] = []
        self._unopened = len(costs)

    def __len__(self) -> int:
        """Shards not opened, and pieces of open ones."""
        return self._unopened + len(self._heap)

    def open(self) -> int:
        """Open the next shard.

        Returns:
            Its index, or -1 where all are open.
        """
        shard = next(self._shards, None)
        if shard is None:
            return -1
        self._unopened -= 1
        for piece in cut_shard(shard, self._target, self._rows_together):
            heapq.heappush(self._heap, (-piece.cost, shard.index, piece.start, piece))
        return shard.index

    @property
    def num_open(self) -> int:
        """Pieces of open shards that nobody has taken."""
        return len(self._heap)

    def take(self) -> Piece:
        """Return the costliest piece of the open shards."""
        return heapq.heappop(self._heap)[-1]
