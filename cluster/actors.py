"""The driver of a campaign: keeps Ray actors busy, replaces dead ones, and finds the rows that killed them."""

import contextlib
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cluster.balance import Backlog
from cluster.notes import read_note
from cluster.parts import Shard
from cluster.pieces import Merge, Piece, PieceRunner, Report, is_divisible
from cluster.progress import Tally
from matgen.errors import MatgenError, StageError

if TYPE_CHECKING:
    from cluster.campaign import CampaignConfig

MAX_START_FAILURES = 3
MAX_KILLS = 3  # tries of a lone row whose actor dies without a trace of a native crash: somebody may be killing actors
NODES_EVERY_S = 5.0
UNREACHABLE_S = 120.0  # Ray takes so long, at most, to say that a node is gone
OPEN_SHARDS_PER_WORKER = 2


@dataclass
class _Worker:
    """An actor, where it runs, and since when it is ready."""

    actor: Any
    node: str = ""
    ready_at: float = 0.0


@dataclass(frozen=True)
class _Flight:
    """A call that a worker is busy with; job None is its start."""

    worker: _Worker
    job: Piece | Merge | None
    deadline: float


class Driver:
    """Works through shards on actors.

    Args:
        runner: what each actor gets.
        todo: shards without a part.
        tally: counts.
        config: of the campaign.
    """

    def __init__(self, runner: PieceRunner, todo: Sequence[Shard], tally: Tally, config: "CampaignConfig") -> None:
        import ray

        self.ray = ray
        self.config = config
        self.tally = tally
        self.out_dir = runner.out_dir
        self.runner_ref = ray.put(runner)
        self.actor_class: Any = ray.remote(_Actor).options(
            num_cpus=1, num_gpus=config.num_gpus_per_worker, max_restarts=0, max_task_retries=0
        )
        at_once = getattr(runner.work, "rows_at_once", None)
        self.rows_end_themselves = at_once is not None
        divisible = is_divisible(runner.work)
        self.backlog = Backlog(todo, config.num_workers, divisible=divisible, rows_together=at_once or 1)
        self.urgent: deque[Piece | Merge] = deque()
        self.split: dict[int, dict[tuple[int, int], str]] = {}  # shard -> finished pieces of it
        self.unfinished: set[int] = set()
        self.flights: dict[Any, _Flight] = {}
        self.idle: list[_Worker] = []
        self.start_failures = 0
        self.ever_started = False
        self.lost_nodes: set[str] = set()
        self.nodes_read = -math.inf
        self.num_wanted = config.num_workers
        self.follows = config.num_workers >= self._places()  # all of the cluster: also what joins it later

    def run(self) -> None:
        """Run to the end."""
        try:
            while len(self.backlog) or self.urgent or any(flight.job is not None for flight in self.flights.values()):
                self._watch_nodes()
                self._launch()
                self._tell()  # here, where who has just answered has work again
                self._collect()
                self._expire()
            self._tell()
        finally:
            for worker in [*self.idle, *(flight.worker for flight in self.flights.values())]:
                self._end(worker)

    def _places(self) -> int:
        key, each = ("GPU", self.config.num_gpus_per_worker) if self.config.num_gpus_per_worker else ("CPU", 1.0)
        return int(self.ray.cluster_resources().get(key, 0) / each)

    def _watch_nodes(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self.nodes_read < NODES_EVERY_S:
            return
        self.nodes_read = time.monotonic()
        self.lost_nodes = {node["NodeID"] for node in self.ray.nodes() if not node["Alive"]}
        places = max(1, self._places())
        self.num_wanted = places if self.follows else min(self.config.num_workers, places)

    def _next_job(self) -> Piece | Merge | None:
        if self.urgent:
            return self.urgent.popleft()
        while not self.backlog.num_open and len(self.unfinished) < OPEN_SHARDS_PER_WORKER * max(1, self.num_wanted):
            index = self.backlog.open()
            if index < 0:
                return None
            self.unfinished.add(index)
        return self.backlog.take() if self.backlog.num_open else None

    def _launch(self) -> None:
        while self.idle and (job := self._next_job()) is not None:
            worker = self.idle.pop()
            call = worker.actor.merge if isinstance(job, Merge) else worker.actor.run
            self.flights[call.remote(job)] = _Flight(worker, job, time.monotonic() + self._allowance(job))
        starting = sum(flight.job is None for flight in self.flights.values())
        waiting = len(self.urgent) + len(self.backlog)
        for _ in range(min(self.num_wanted - len(self.flights) - len(self.idle), waiting - starting)):
            worker = _Worker(self.actor_class.remote(self.runner_ref))
            deadline = time.monotonic() + self.config.start_deadline_s
            self.flights[worker.actor.setup.remote()] = _Flight(worker, None, deadline)

    def _allowance(self, job: Piece | Merge) -> float:
        if isinstance(job, Merge) or job.verdict is not None:
            return self.config.start_deadline_s  # nothing of the row's own runs here
        if self.rows_end_themselves:
            return self.config.row_deadline_s * job.num_rows + UNREACHABLE_S
        share = job.num_rows / max(1, job.shard.num_rows)
        return max(self.config.row_deadline_s, self.config.shard_deadline_s * share)

    def _collect(self) -> None:
        if not self.flights:  # a start was lost with its node, or all shards wait for a merge
            time.sleep(0.05)
            return
        nearest = min(flight.deadline for flight in self.flights.values())
        wait = min(max(nearest - time.monotonic(), 0.01), 2.0)
        first, rest = self.ray.wait(list(self.flights), num_returns=1, timeout=wait)
        more, _ = self.ray.wait(rest, num_returns=len(rest), timeout=0) if first and rest else ([], [])
        for ref in [*first, *more]:
            flight = self.flights.pop(ref)
            try:
                answer = self.ray.get(ref)
            except self.ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None)
                raise cause if isinstance(cause, MatgenError) else StageError(_describe(error)) from error
            except self.ray.exceptions.RayError as error:
                self._died(flight, error)
                continue
            self._answered(flight, answer)

    def _answered(self, flight: _Flight, answer: Any) -> None:
        self.start_failures = 0
        self.ever_started = True
        if flight.job is None:
            flight.worker.node, flight.worker.ready_at = answer, time.monotonic()
        else:
            assert isinstance(answer, Report)
            self.tally.add(answer)
            self._finished(flight.job)
        alive = len(self.flights) + len(self.idle)
        if alive < self.num_wanted:
            self.idle.append(flight.worker)
        else:  # the cluster shrank
            self._end(flight.worker)

    def _finished(self, job: Piece | Merge) -> None:
        if isinstance(job, Merge) or job.whole:
            self.unfinished.discard(job.shard.index)
            self.tally.shards += 1
            return
        pieces = self.split.setdefault(job.shard.index, {})
        pieces[job.start, job.stop] = job.file_name
        if sum(stop - start for start, stop in pieces) == job.shard.num_rows:
            names = tuple(pieces[bounds] for bounds in sorted(pieces))
            self.urgent.append(Merge(job.shard, names))
            del self.split[job.shard.index]

    def _expire(self) -> None:
        now = time.monotonic()
        for ref, flight in [(ref, flight) for ref, flight in self.flights.items() if flight.deadline < now]:
            del self.flights[ref]
            self._end(flight.worker)
            if flight.job is None:
                if self.ever_started:
                    continue
                raise StageError(f"no worker started within {self.config.start_deadline_s:g} s")
            self.tally.timeouts += 1
            reason = f"no result after {self._allowance(flight.job):g} s"
            # twice: the first time the node may only have been out of reach
            self._blame(flight.job, "timeout", reason, self._guilty(flight.job), tries=2)

    def _died(self, flight: _Flight, error: Exception) -> None:
        self.tally.deaths += 1
        self._watch_nodes(now=True)
        self._end(flight.worker)
        job, said = flight.job, _describe(error)
        if job is None:
            self.start_failures += 1
            if self.start_failures >= MAX_START_FAILURES * (self.num_wanted if self.ever_started else 1):
                raise StageError(f"workers die as they start: {said}")
        elif flight.worker.node in self.lost_nodes:
            self.urgent.appendleft(job)  # the node went, no row is to blame
        elif isinstance(job, Merge):
            self._blame(job, "crashed", said, None, tries=MAX_START_FAILURES)
        else:
            words = read_note(self.out_dir / job.note_name)
            guilty = None if words is None else (words.start, words.stop)
            if words is not None and words.timed_out:
                self.tally.timeouts += 1
                seconds = self.config.row_deadline_s * (words.stop - words.start)
                self._blame(job, "timeout", f"no result after {seconds:g} s {words.place}".rstrip(), guilty, tries=1)
            elif words is not None and words.fault:
                reason = f"the worker process died: {words.fault} {words.place}".rstrip()
                self._blame(job, "crashed", reason, guilty, tries=self.config.max_row_deaths)
            else:
                self._blame(job, "crashed", f"the worker process died: {said}", guilty, tries=MAX_KILLS)

    def _guilty(self, job: Piece | Merge) -> tuple[int, int] | None:
        words = None if isinstance(job, Merge) else read_note(self.out_dir / job.note_name)
        return None if words is None else (words.start, words.stop)

    def _blame(
        self, job: Piece | Merge, status: str, reason: str, guilty: tuple[int, int] | None, *, tries: int
    ) -> None:
        """Queue what replaces a job whose actor is gone: its innocent and guilty rows, halves, or a verdict."""
        if isinstance(job, Merge) or job.verdict is not None:
            if job.deaths + 1 >= MAX_START_FAILURES:
                raise StageError(f"shard {job.shard.index} cannot be finished: {reason}")
            self.urgent.appendleft(replace(job, deaths=job.deaths + 1))
            return
        start, stop = guilty or (job.start, job.stop)
        if job.start <= start < stop <= job.stop and stop - start < job.num_rows:
            suspects = self._suspects(replace(job, start=start, stop=stop, deaths=0), status, reason, tries)
            around = [replace(job, start=job.start, stop=start, deaths=0), replace(job, start=stop, deaths=0)]
            self.urgent.extendleft(piece for piece in [*suspects, *around] if piece.num_rows > 0)
        else:
            self.urgent.extendleft(reversed(self._suspects(job, status, reason, tries)))

    def _suspects(self, job: Piece, status: str, reason: str, tries: int) -> list[Piece]:
        if job.num_rows > 1:
            middle = (job.start + job.stop) // 2
            return [replace(job, stop=middle, deaths=0), replace(job, start=middle, deaths=0)]
        if job.deaths + 1 >= tries:
            return [replace(job, verdict=(status, reason), deaths=0)]
        return [replace(job, deaths=job.deaths + 1)]

    def _end(self, worker: _Worker) -> None:
        with contextlib.suppress(ValueError, self.ray.exceptions.RayError):
            self.ray.kill(worker.actor)
        if worker.ready_at:
            self.tally.alive_seconds += time.monotonic() - worker.ready_at
            worker.ready_at = 0.0

    def _tell(self) -> None:
        flights = list(self.flights.values())
        self.tally.workers = {
            "busy": sum(flight.job is not None for flight in flights),
            "idle": len(self.idle),
            "starting": sum(flight.job is None for flight in flights),
        }
        self.tally.running = [flight.job.shard.index for flight in flights if flight.job is not None]
        self.tally.queued = len(self.backlog) + len(self.urgent)
        self.tally.beat()


class _Actor:
    """The Ray actor: a piece runner in a process of its own."""

    def __init__(self, runner: PieceRunner) -> None:
        self.runner = runner

    def setup(self) -> str:
        """Prepare the work; return the node's id."""
        import ray

        self.runner.setup()
        return str(ray.get_runtime_context().get_node_id())

    def run(self, piece: Piece) -> Report:
        return self.runner.run(piece)

    def merge(self, merge: Merge) -> Report:
        return self.runner.merge(merge)


def _describe(error: BaseException) -> str:
    """Return the line of a Ray error that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in lines:
        if "Worker unexpectedly exits" in line or "exit detail" in line.lower():
            return line.split("exit_detail:")[-1].strip()[:300]
    return lines[-1][:300] if lines else type(error).__name__
