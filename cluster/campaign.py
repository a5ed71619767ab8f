"""Run work over shards on Ray actors, or in this process: every row comes out exactly once, whatever dies on the way.

A shard is read, worked on and written by one actor; the driver sees counts only. A shard that kills its actor (native
crash, memory) or passes its deadline is split until the guilty row is alone, and that row becomes a row with a status.
"""

import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from tqdm import tqdm

from cluster.parts import Shard, read_table, remove_leftovers, status_counts, write_part, write_table
from cluster.session import ray_session
from matgen.errors import MatgenError, StageError, StructureError

logger = logging.getLogger(__name__)

MAX_START_FAILURES = 3
SYSTEMATIC_ROWS = 8
FAILED = "failed"  # status of a row whose exception nobody foresaw


class ShardWork(Protocol):
    """What one actor does. The object is pickled to the actors, so it holds paths and configs, not models."""

    schema: pa.Schema

    def setup(self) -> None:
        """Load what all rows need; called once in each actor."""

    def load(self, shard: Shard) -> Sequence[Any]:
        """Read the input rows of a shard."""

    def process(self, rows: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
        """Turn input rows into output rows, one each, in order."""

    def failed(self, row: Any, status: str, reason: str) -> Mapping[str, Any]:
        """Make the output row of an input row that could not be worked on."""


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """How a campaign runs; none of it changes what the tables hold."""

    num_workers: int = 0  # 0: in this process, without Ray, without protection against native crashes
    shard_deadline_s: float = 3600.0  # a shard that takes longer is split
    row_deadline_s: float = 60.0  # the least that a piece of a split shard gets
    start_deadline_s: float = 900.0
    max_row_deaths: int = 2  # a lone row gets a second try: its actor may have died for another reason
    num_gpus_per_worker: float = 0.0
    description: str = "rows"
    progress: bool | None = None  # None: a bar on a terminal only


@dataclass(frozen=True)
class CampaignSummary:
    """What a campaign did, over all parts, also those that an earlier run had finished."""

    num_rows: int
    status: dict[str, int]
    num_shards: int
    num_shards_resumed: int
    num_deaths: int
    num_timeouts: int
    seconds: float
    busy_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for run.json and the command's summary."""
        return {
            "n": self.num_rows,
            "status": self.status,
            "shards": self.num_shards,
            "shards_resumed": self.num_shards_resumed,
            "actor_deaths": self.num_deaths,
            "timeouts": self.num_timeouts,
            "seconds": round(self.seconds, 3),
            "busy_seconds": round(self.busy_seconds, 3),
        }


@dataclass(frozen=True)
class _Piece:
    """Rows start..stop of a shard; with a verdict they are written as failed without being worked on."""

    shard: Shard
    start: int
    stop: int
    deaths: int = 0
    verdict: tuple[str, str] | None = None

    @property
    def num_rows(self) -> int:
        return self.stop - self.start

    @property
    def file_name(self) -> str:
        if self.num_rows == self.shard.num_rows:
            return self.shard.file_name
        return f".piece-{self.shard.index:06d}-{self.start:08d}-{self.stop:08d}.parquet"


@dataclass(frozen=True)
class _Merge:
    """All pieces of a split shard are there: make them one part."""

    shard: Shard
    file_names: tuple[str, ...]
    deaths: int = 0


@dataclass(frozen=True)
class _Report:
    num_rows: int = 0
    status: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def run_campaign(
    work: ShardWork,
    shards: Sequence[Shard],
    out_dir: Path,
    config: CampaignConfig,
    metadata: Mapping[str, str] | None = None,
) -> CampaignSummary:
    """Work through the shards that have no part yet.

    Args:
        work: what to do with a shard.
        shards: all shards of the stage, in order of their index.
        out_dir: where the parts go.
        config: actors, deadlines, progress.
        metadata: key-value pairs for the metadata of every part.

    Returns:
        Counts over all parts.

    Raises:
        StageError: the disk is full, workers cannot start, or a shard's input cannot be read.
        MatgenError: what `work` raised for a whole shard.
    """
    started = time.monotonic()
    out_dir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out_dir)
    todo = [shard for shard in shards if not (out_dir / shard.file_name).exists()]
    runner = _PieceRunner(work, out_dir, dict(metadata or {}))
    tally = _Tally(shards, todo, config)
    try:
        if not todo:
            logger.info("%s: all %d shards are done already", config.description, len(shards))
        elif config.num_workers == 0:
            _run_here(runner, todo, tally)
        else:
            with ray_session(config.num_workers):
                _Driver(runner, todo, tally, config).run()
    finally:
        tally.bar.close()
        remove_leftovers(out_dir)
    status = status_counts(out_dir)
    return CampaignSummary(
        num_rows=sum(status.values()),
        status=status,
        num_shards=len(shards),
        num_shards_resumed=len(shards) - len(todo),
        num_deaths=tally.deaths,
        num_timeouts=tally.timeouts,
        seconds=time.monotonic() - started,
        busy_seconds=tally.busy_seconds,
    )


class _Tally:
    """Progress over all shards, with failures beside it."""

    def __init__(self, shards: Sequence[Shard], todo: Sequence[Shard], config: CampaignConfig) -> None:
        total = sum(shard.num_rows for shard in shards)
        self.bar = tqdm(
            total=total,
            initial=total - sum(shard.num_rows for shard in todo),
            desc=config.description,
            unit="row",
            disable=None if config.progress is None else not config.progress,
            mininterval=0.5,
            smoothing=0.1,
        )
        self.failures: Counter[str] = Counter()
        self.deaths = 0
        self.timeouts = 0
        self.busy_seconds = 0.0

    def add(self, report: _Report) -> None:
        self.busy_seconds += report.seconds
        self.failures.update({word: count for word, count in report.status.items() if word != "ok"})
        if self.failures and report.num_rows:
            self.bar.set_postfix(dict(self.failures.most_common(3)), refresh=False)
        self.bar.update(report.num_rows)


class _PieceRunner:
    """Works on pieces, in an actor or in this process; the one boundary where any exception becomes a status."""

    def __init__(self, work: ShardWork, out_dir: Path, metadata: dict[str, str]) -> None:
        self.work = work
        self.out_dir = out_dir
        self.metadata = metadata
        self._loaded: tuple[int, Sequence[Any]] | None = None
        self._said: set[str] = set()

    def setup(self) -> None:
        with _one_thread():
            self.work.setup()

    def run(self, piece: _Piece) -> _Report:
        started = time.perf_counter()
        rows = self._rows(piece.shard)[piece.start : piece.stop]
        with _one_thread():
            if piece.verdict is not None:
                done = [self.work.failed(row, *piece.verdict) for row in rows]
            else:
                done = self._process(rows)
                _refuse_systematic_failure(done)
        write_part(self.out_dir / piece.file_name, done, self.work.schema, self.metadata)
        status = dict(Counter(str(row["status"]) for row in done))
        return _Report(len(done), status, time.perf_counter() - started)

    def merge(self, merge: _Merge) -> _Report:
        paths = [self.out_dir / name for name in merge.file_names]
        table = pa.concat_tables([read_table(path) for path in paths])
        write_table(self.out_dir / merge.shard.file_name, table, self.metadata)
        for path in paths:
            path.unlink(missing_ok=True)
        return _Report()

    def _rows(self, shard: Shard) -> Sequence[Any]:
        if self._loaded is None or self._loaded[0] != shard.index:
            rows = self.work.load(shard)
            if len(rows) != shard.num_rows:
                raise StageError(f"shard {shard.index} has {len(rows)} rows, {shard.num_rows} were counted before")
            self._loaded = (shard.index, rows)
        return self._loaded[1]

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


def _refuse_systematic_failure(done: Sequence[Mapping[str, Any]]) -> None:
    """Stop where every row failed unexpectedly: that is a fault of the set-up or of ours, not of the structures."""
    if len(done) >= SYSTEMATIC_ROWS and all(row["status"] == FAILED for row in done):
        raise StageError(f"all {len(done)} rows of a shard failed, the first with {done[0]['reason']}")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for native libraries: actors share cores, and sums must not depend on a thread count."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def _run_here(runner: _PieceRunner, todo: Sequence[Shard], tally: _Tally) -> None:
    runner.setup()
    for shard in todo:
        tally.add(runner.run(_Piece(shard, 0, shard.num_rows)))


@dataclass(frozen=True)
class _Flight:
    """A call that an actor is busy with; job None is its start."""

    actor: Any
    job: _Piece | _Merge | None
    deadline: float


class _Driver:
    """Keeps each actor busy with one piece, replaces dead ones, and splits the shards that killed them."""

    def __init__(self, runner: _PieceRunner, todo: Sequence[Shard], tally: _Tally, config: CampaignConfig) -> None:
        import ray

        self.ray = ray
        self.config = config
        self.tally = tally
        self.runner_ref = ray.put(runner)
        self.actor_class: Any = ray.remote(_Actor).options(
            num_cpus=1, num_gpus=config.num_gpus_per_worker, max_restarts=0, max_task_retries=0
        )
        self.queue: deque[_Piece | _Merge] = deque(_Piece(shard, 0, shard.num_rows) for shard in todo)
        self.split: dict[int, dict[tuple[int, int], str]] = {}  # shard -> finished pieces of it
        self.flights: dict[Any, _Flight] = {}
        self.idle: list[Any] = []
        self.start_failures = 0

    def run(self) -> None:
        try:
            while self.queue or any(flight.job is not None for flight in self.flights.values()):
                self._launch()
                self._collect()
                self._expire()
        finally:
            for actor in [*self.idle, *(flight.actor for flight in self.flights.values())]:
                self.ray.kill(actor)

    def _launch(self) -> None:
        while self.idle and self.queue:
            actor, job = self.idle.pop(), self.queue.popleft()
            call = actor.merge if isinstance(job, _Merge) else actor.run
            self.flights[call.remote(job)] = _Flight(actor, job, time.monotonic() + self._allowance(job))
        busy = len(self.flights) + len(self.idle)
        starting = sum(flight.job is None for flight in self.flights.values())
        for _ in range(min(self.config.num_workers - busy, len(self.queue) - starting)):
            actor = self.actor_class.remote(self.runner_ref)
            deadline = time.monotonic() + self.config.start_deadline_s
            self.flights[actor.setup.remote()] = _Flight(actor, None, deadline)

    def _allowance(self, job: _Piece | _Merge) -> float:
        if isinstance(job, _Merge) or job.verdict is not None:
            return self.config.start_deadline_s  # nothing of the row's own runs here
        share = job.num_rows / max(1, job.shard.num_rows)
        return max(self.config.row_deadline_s, self.config.shard_deadline_s * share)

    def _collect(self) -> None:
        nearest = min(flight.deadline for flight in self.flights.values())
        wait = min(max(nearest - time.monotonic(), 0.01), 5.0)
        done, _ = self.ray.wait(list(self.flights), num_returns=1, timeout=wait)
        for ref in done:
            flight = self.flights.pop(ref)
            try:
                report = self.ray.get(ref)
            except self.ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                raise cause if isinstance(cause, MatgenError) else StageError(_describe(error)) from error
            except self.ray.exceptions.RayError as error:
                self._died(flight, error)
                continue
            self.idle.append(flight.actor)
            self.start_failures = 0
            if flight.job is not None:
                self.tally.add(report)
                self._finished(flight.job)

    def _finished(self, job: _Piece | _Merge) -> None:
        if isinstance(job, _Merge) or job.num_rows == job.shard.num_rows:
            return
        pieces = self.split[job.shard.index]
        pieces[job.start, job.stop] = job.file_name
        if sum(stop - start for start, stop in pieces) == job.shard.num_rows:
            names = tuple(pieces[bounds] for bounds in sorted(pieces))
            self.queue.appendleft(_Merge(job.shard, names))
            del self.split[job.shard.index]

    def _expire(self) -> None:
        now = time.monotonic()
        for ref, flight in [(ref, flight) for ref, flight in self.flights.items() if flight.deadline < now]:
            del self.flights[ref]
            self.ray.kill(flight.actor)
            self.tally.timeouts += 1
            if flight.job is None:
                raise StageError(f"a worker did not start within {self.config.start_deadline_s:g} s")
            seconds = self._allowance(flight.job)
            self._blame(flight.job, "timeout", f"no result after {seconds:g} s", last_chance=True)

    def _died(self, flight: _Flight, error: Exception) -> None:
        self.tally.deaths += 1
        with contextlib.suppress(ValueError):
            self.ray.kill(flight.actor)
        if flight.job is None:
            self.start_failures += 1
            if self.start_failures >= MAX_START_FAILURES:
                raise StageError(f"workers die as they start: {_describe(error)}")
            return
        self._blame(flight.job, "crashed", f"the worker process died: {_describe(error)}", last_chance=False)

    def _blame(self, job: _Piece | _Merge, status: str, reason: str, *, last_chance: bool) -> None:
        """Queue what replaces a job whose actor is gone: halves, the lone row again, or its verdict."""
        if isinstance(job, _Merge) or job.verdict is not None:
            if job.deaths + 1 >= MAX_START_FAILURES:
                raise StageError(f"shard {job.shard.index} cannot be finished: {reason}")
            self.queue.appendleft(replace(job, deaths=job.deaths + 1))
        elif job.num_rows > 1:
            self.split.setdefault(job.shard.index, {})
            middle = (job.start + job.stop) // 2
            self.queue.appendleft(replace(job, start=middle, deaths=0))
            self.queue.appendleft(replace(job, stop=middle, deaths=0))
        elif last_chance or job.deaths + 1 >= self.config.max_row_deaths:
            self.split.setdefault(job.shard.index, {})
            self.queue.appendleft(replace(job, verdict=(status, reason), deaths=0))
        else:
            self.queue.appendleft(replace(job, deaths=job.deaths + 1))


class _Actor:
    """The Ray actor: a piece runner in a process of its own."""

    def __init__(self, runner: _PieceRunner) -> None:
        self.runner = runner

    def setup(self) -> None:
        self.runner.setup()

    def run(self, piece: _Piece) -> _Report:
        return self.runner.run(piece)

    def merge(self, merge: _Merge) -> _Report:
        return self.runner.merge(merge)


def _describe(error: BaseException) -> str:
    """Return the line of a Ray error that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if "Worker unexpectedly exits" in line or "exit detail" in line.lower():
            return line.split("exit_detail:")[-1].strip()[:300]
    return lines[-1][:300] if lines else type(error).__name__
