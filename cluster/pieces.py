"""Pieces of shards, and their runner: the one place where an exception becomes a row's status."""

import contextlib
import logging
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from cluster.notes import open_note
from cluster.parts import Shard, part_rows, read_table, write_part, write_table
from matgen.errors import MatgenError, StageError, StructureError

logger = logging.getLogger(__name__)

SYSTEMATIC_ROWS = 8
MAX_REASONS = 5
FAILED = "failed"  # status of a row whose exception nobody foresaw


class ShardWork(Protocol):
    """What one actor does. The object is pickled to the actors, so it holds paths and configs, not models.

    Two attributes may be there besides: `rows_at_once` (int: `process` is given so many rows a call, each row has a
    deadline of its own, and a crash points at them) and `divisible` (True: a row's result does not depend, to the last
    bit, on rows beyond those that it is worked on with, so shards may be cut to balance the load; for works whose
    rows cost more than reading their shard once more).
    """

    schema: pa.Schema

    def setup(self) -> None:
        """Load what all rows need; called once in each actor."""

    def load(self, shard: Shard) -> Sequence[Any]:
        """Read the input rows of a shard."""

    def process(self, rows: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
        """Turn input rows into output rows, one each, in order."""

    def failed(self, row: Any, status: str, reason: str) -> Mapping[str, Any]:
        """Make the output row of an input row that could not be worked on."""


def is_divisible(work: ShardWork) -> bool:
    """Tell whether shards of this work may be cut."""
    return bool(getattr(work, "divisible", False))


@dataclass(frozen=True)
class Piece:
    """Rows start..stop of a shard; with a verdict they are written as failed without being worked on."""

    shard: Shard
    start: int
    stop: int
    cost: float = 0.0
    deaths: int = 0
    verdict: tuple[str, str] | None = None

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return self.stop - self.start

    @property
    def whole(self) -> bool:
        """Whether it is all of its shard."""
        return self.num_rows == self.shard.num_rows

    @property
    def file_name(self) -> str:
        """Name of its file: the part itself, or one aside that is merged later."""
        return self.shard.file_name if self.whole else f"{self._stem}.parquet"

    @property
    def note_name(self) -> str:
        """Name of the file in which its actor says where it is."""
        return f"{self._stem}.note"

    @property
    def _stem(self) -> str:
        return f".piece-{self.shard.index:06d}-{self.start:08d}-{self.stop:08d}"


@dataclass(frozen=True)
class Merge:
    """All pieces of a split shard are there: make them one part."""

    shard: Shard
    file_names: tuple[str, ...]
    deaths: int = 0


@dataclass(frozen=True)
class Report:
    """What an actor tells the driver about a piece: counts only."""

    num_rows: int = 0
    status: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class PieceRunner:
    """Works on pieces, in an actor or in this process; the one boundary where any exception becomes a status.

    Args:
        work: what to do.
        out_dir: where the parts go.
        metadata: of every part.
        row_deadline_s: limit of a row, where the work takes rows one by one.
        guarded: leave notes for the driver (in an actor), or not (in this process).
    """

    def __init__(
        self, work: ShardWork, out_dir: Path, metadata: dict[str, str], row_deadline_s: float, *, guarded: bool
    ) -> None:
        self.work = work
        self.out_dir = out_dir
        self.metadata = metadata
        self.row_deadline_s = row_deadline_s
        self.guarded = guarded
        self._loaded: tuple[int, Sequence[Any]] | None = None
        self._said: set[str] = set()

    def setup(self) -> None:
        """Prepare the work."""
        if self.guarded:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a note says more than a core file, and is smaller
        with _one_thread():
            self.work.setup()

    def run(self, piece: Piece) -> Report:
        """Work on the rows of a piece and write its file."""
        started = time.perf_counter()
        rows = self._rows(piece.shard)[piece.start : piece.stop]
        with _one_thread():
            if piece.verdict is not None:
                done = [self.work.failed(row, *piece.verdict) for row in rows]
            else:
                done = self._work_on(piece, rows)
                _refuse_systematic_failure(done)
        write_part(self.out_dir / piece.file_name, done, self.work.schema, self.metadata)
        status = dict(Counter(str(row["status"]) for row in done))
        return Report(len(done), status, _reasons(done), time.perf_counter() - started)

    def merge(self, merge: Merge) -> Report:
        """Make the pieces of a shard its part; one that another actor finished before it died is left as it is."""
        started = time.perf_counter()
        path = self.out_dir / merge.shard.file_name
        paths = [self.out_dir / name for name in merge.file_names]
        if not path.exists() or part_rows(path) != merge.shard.num_rows:
            write_table(path, pa.concat_tables([read_table(piece) for piece in paths]), self.metadata)
        for piece in paths:
            piece.unlink(missing_ok=True)
        return Report(seconds=time.perf_counter() - started)

    def _rows(self, shard: Shard) -> Sequence[Any]:
        if self._loaded is None or self._loaded[0] != shard.index:
            rows = self.work.load(shard)
            if len(rows) != shard.num_rows:
                raise StageError(f"shard {shard.index} has {len(rows)} rows, {shard.num_rows} were counted before")
            self._loaded = (shard.index, rows)
        return self._loaded[1]

    def _work_on(self, piece: Piece, rows: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Process a piece's rows, some at once, with a note of where we are for the case that this process dies."""
        at_once = getattr(self.work, "rows_at_once", None)
        done: list[Mapping[str, Any]] = []
        with open_note(self.out_dir / piece.note_name if self.guarded else None) as note:
            for start in range(0, len(rows), at_once or len(rows)):
                chunk = rows[start : start + (at_once or len(rows))]
                deadline = self.row_deadline_s * len(chunk) if at_once else None
                note.at(piece.start + start, piece.start + start + len(chunk), deadline)
                done += self._process(chunk)
        return done

    def _process(self, rows: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Work on rows; where that raises, on halves, down to the row whose exception becomes its status."""
        try:
            done = list(self.work.process(rows))
        except (StageError, MemoryError, OSError):
            raise
        except Exception as error:
            if isinstance(error, MatgenError) and not isinstance(error, StructureError):
                raise
            failure = error
        else:
            assert len(done) == len(rows), f"{type(self.work).__name__} made {len(done)} rows of {len(rows)}"
            return done
        if len(rows) > 1:
            half = len(rows) // 2
            return self._process(rows[:half]) + self._process(rows[half:])
        if isinstance(failure, StructureError):
            return [self.work.failed(rows[0], failure.status, str(failure))]
        reason = f"{type(failure).__name__}: {failure}"
        if reason not in self._said:
            self._said.add(reason)
            logger.warning("a row failed", exc_info=failure)
        return [self.work.failed(rows[0], FAILED, reason)]


def _reasons(done: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the commonest reasons of failure, their numbers left out so that like ones fall together."""
    counts = Counter(
        f"{row['status']}: {re.sub(r'[-+]?[0-9]+([.][0-9]+)?', '#', str(row.get('reason') or ''))[:80]}"
        for row in done
        if row["status"] != "ok"
    )
    return dict(counts.most_common(MAX_REASONS))


def _refuse_systematic_failure(done: Sequence[Mapping[str, Any]]) -> None:
    """Stop where every row failed unexpectedly: that is a fault of the set-up or of ours, not of the structures."""
    if len(done) >= SYSTEMATIC_ROWS and all(row["status"] == FAILED for row in done):
        raise StageError(f"all {len(done)} rows of a shard failed, the first with {done[0]['reason']}")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for native libraries: actors share cores, and sums must not depend on a thread count.

    torch is told besides: its MKL is linked in, where threadpoolctl does not see it, and keeps the number it was given.
    """
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")  # not imported for works that do without
    before = torch.get_num_threads() if torch is not None else 0
    try:
        with threadpool_limits(limits=1):
            if torch is not None:
                torch.set_num_threads(1)
            yield
    finally:
        if torch is not None:
            torch.set_num_threads(before)
