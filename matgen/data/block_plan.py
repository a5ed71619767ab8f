"""Which building blocks form which step: conformers of one identity from different frameworks meet in one batch.

A step is `batch_size` rows. Identities that occur in several frameworks give a pair of blocks each, from two different
ones; those that occur in one framework alone give single blocks, which only push. Both are drawn from a stream of
shuffles, one a round through all identities, so that rare blocks are seen as often as common ones. A step is a pure
function of (seed, step).
"""

import numpy as np


class BlockPlan:
    """The blocks of each step, for any rank of any number of workers."""

    def __init__(
        self, identity: np.ndarray, source: np.ndarray, num_nodes: np.ndarray, batch_size: int, seed: int
    ) -> None:
        """Prepare a plan.

        Args:
            identity: int[N] of each block, ascending.
            source: int[N], framework that each block was cut from.
            num_nodes: int[N], atoms and connection points.
            batch_size: blocks of a step, over all workers; at least 2.
            seed: of all draws.

        Raises:
            ValueError: there is no block, or the batch is too small to compare blocks.
        """
        if len(identity) == 0:
            raise ValueError("a batch plan needs at least one building block")
        if batch_size < 2:
            raise ValueError(f"batch_size {batch_size}: a contrast needs at least 2 building blocks")
        self.order = np.lexsort((source, identity))
        self.source, self.num_nodes = np.asarray(source)[self.order], np.asarray(num_nodes)
        self.batch_size, self.seed = batch_size, seed
        self.starts = np.flatnonzero(np.diff(np.asarray(identity)[self.order], prepend=-1))
        self.stops = np.append(self.starts[1:], len(identity))
        several = self.source[self.starts] != self.source[self.stops - 1]
        self.paired, self.single = np.flatnonzero(several), np.flatnonzero(~several)
        self.num_pairs = self._share_of_pairs()
        self._shuffles: dict[tuple[int, int], np.ndarray] = {}

    def _share_of_pairs(self) -> int:
        """Pairs of a step: as many as a stream of all identities would bring, but at least half of the rows."""
        pairs, singles, most = len(self.paired), len(self.single), self.batch_size // 2
        if pairs == 0:
            return 0
        if singles == 0:
            return most
        fair = round(self.batch_size * pairs / (2 * pairs + singles))
        return min(most, max(fair, (self.batch_size + 2) // 4))

    def indices(self, step: int) -> np.ndarray:
        """Return the blocks of a step (0-based), int64[batch_size]; the two of a pair follow one another."""
        rng = self._rng((1 << 63) + step)
        pairs = self._stream(self.paired, step, self.num_pairs, 0)
        lone = self._stream(self.single, step, self.batch_size - 2 * self.num_pairs, 1)
        if len(lone) < self.batch_size - 2 * len(pairs):  # an odd batch of identities that all have pairs
            lone = self._stream(self.paired, step, self.batch_size - 2 * len(pairs), 2)
        first = self._draw(pairs, rng)
        second = self._other(pairs, first, rng)
        places = np.concatenate([np.stack([first, second], axis=1).ravel(), self._draw(lone, rng)])
        return np.asarray(self.order[places.astype(np.int64)])

    def micro_batch(self, step: int, rank: int = 0, world_size: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return one worker's blocks of a step and their row ids; blocks of all sizes are dealt out evenly.

        Raises:
            ValueError: there are more workers than blocks in a step.
        """
        if world_size > self.batch_size:
            raise ValueError(f"{world_size} workers cannot share a batch of {self.batch_size} building blocks")
        indices = self.indices(step)
        own = np.argsort(self.num_nodes[indices], kind="stable")[rank::world_size]
        return indices[own], step * self.batch_size + own

    def _stream(self, identities: np.ndarray, step: int, count: int, which: int) -> np.ndarray:
        if count == 0 or len(identities) == 0:
            return np.empty(0, dtype=np.int64)
        rounds, places = np.divmod(step * count + np.arange(count), len(identities))
        return np.array([identities[self._shuffle(which, int(r), len(identities))[p]] for r, p in zip(rounds, places)])

    def _shuffle(self, which: int, number: int, count: int) -> np.ndarray:
        key = (which, number)
        if key not in self._shuffles:
            while len(self._shuffles) > 6:
                self._shuffles.pop(next(iter(self._shuffles)))
            self._shuffles[key] = self._rng(3 * number + which).permutation(count)
        return self._shuffles[key]

    def _rng(self, stream: int) -> np.random.Generator:
        # a list of such large integers would become floats, and all streams one
        key = np.array([self.seed & (2**64 - 1), stream], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

    def _draw(self, identities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if len(identities) == 0:
            return np.empty(0, dtype=np.int64)
        return np.asarray(rng.integers(self.starts[identities], self.stops[identities]))

    def _other(self, identities: np.ndarray, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a block of the same identity from another framework than the first one's."""
        second = np.empty(len(identities), dtype=np.int64)
        for i, (identity, taken) in enumerate(zip(identities, first)):
            start, stop = self.starts[identity], self.stops[identity]
            low, high = start + np.searchsorted(self.source[start:stop], self.source[taken], "left"), 0
            high = start + np.searchsorted(self.source[start:stop], self.source[taken], "right")
            drawn = start + rng.integers(stop - start - (high - low))
            second[i] = drawn if drawn < low else drawn + (high - low)
        return second
