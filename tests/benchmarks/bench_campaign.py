"""Campaigns measured: what the driver costs, and how busy actors are kept. No item imports torch, but in `assembly`.

python tests/benchmarks/bench_campaign.py light --rows 1000000     a million items of about 1 ms on two actors
python tests/benchmarks/bench_campaign.py sleep --workers 1 2 4 8 16 64
python tests/benchmarks/bench_campaign.py items --rows 400         items of 100 ms
python tests/benchmarks/bench_campaign.py assembly --rows 64       embedded frameworks put together, 1 and 2 actors
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])

import numpy as np
import pyarrow as pa

from cluster.campaign import CampaignConfig, CampaignSummary, run_campaign
from cluster.parts import Shard, shards_of_parts
from cluster.session import ray_session

SCHEMA = pa.schema(
    [("sample_id", pa.int64()), ("value", pa.float64()), ("status", pa.string()), ("reason", pa.string())]
)


@dataclass(frozen=True)
class TimedWork:
    """Rows that take real time: spinning or asleep."""

    seconds: float
    sleeps: bool
    spread: float = 0.0  # of a log-normal
    schema = SCHEMA
    divisible = True

    def setup(self) -> None:
        """Check that nothing heavy came along."""
        assert "torch" not in sys.modules

    def load(self, shard: Shard) -> Sequence[int]:
        """Row numbers."""
        return range(shard.payload, shard.payload + shard.num_rows)

    def process(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """Spend the rows' time."""
        return [self._one(row) for row in rows]

    def failed(self, row: int, status: str, reason: str) -> Mapping[str, Any]:
        """A row without a value."""
        return {"sample_id": row, "value": None, "status": status, "reason": reason}

    def duration(self, row: int) -> float:
        """Seconds of a row, from its number alone."""
        return self.seconds * float(np.exp(self.spread * np.random.default_rng(row).normal() - self.spread**2 / 2))

    def _one(self, row: int) -> Mapping[str, Any]:
        seconds = self.duration(row) if self.spread else self.seconds
        if self.sleeps:
            time.sleep(seconds)
        else:
            until = time.thread_time() + seconds
            while time.thread_time() < until:
                pass
        return {"sample_id": row, "value": seconds, "status": "ok", "reason": ""}


def run(work: TimedWork, rows: int, shard_size: int, workers: int) -> CampaignSummary:
    """Run one campaign in a folder of its own."""
    starts = range(0, rows, shard_size)
    shards = []
    for index, start in enumerate(starts):
        count = min(shard_size, rows - start)
        costs = np.array([work.duration(start + i) for i in range(count)]) if work.spread else None
        shards.append(Shard(index, count, start, costs))
    out = Path(tempfile.mkdtemp(prefix="bench-campaign-"))
    try:
        return run_campaign(work, shards, out, CampaignConfig(num_workers=workers, progress=False))
    finally:
        shutil.rmtree(out)


def light(rows: int, workers: int) -> None:
    """Light items: cost of the driver, and its memory."""
    import psutil

    process, seen, done = psutil.Process(), [], threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            seen.append(process.memory_info().rss / 1e6)

    thread = threading.Thread(target=watch, daemon=True)
    with ray_session(workers):
        run(TimedWork(0.0, sleeps=True), 100, 50, workers)  # imports and first connections are not the campaign's
        thread.start()
        summary = run(TimedWork(0.001, sleeps=True), rows, 1000, workers)
    done.set()
    thread.join()
    print(
        f"{rows} items of 1 ms on {workers} actors: {summary.seconds:.0f} s, driver CPU "
        f"{1e3 * summary.driver_cpu_seconds / rows:.4f} ms an item, busy {summary.busy_share:.2%}; driver memory "
        f"{seen[0]:.0f} to {max(seen):.0f} MB, deaths {summary.num_deaths}"
    )


def sleeping(workers: Sequence[int], spread: float, items: int) -> None:
    """Sleepers: how actors are kept busy as they become more."""
    with ray_session(max(workers)):
        for count in workers:
            work = TimedWork(0.25, sleeps=True, spread=spread)
            summary = run(work, items * count, 20, count)
            print(
                f"{count:3d} actors, {items * count} items of 0.25 s (log-normal, {spread:g}): {summary.seconds:.1f} s "
                f"with starts, busy {summary.busy_share:.2%}, driver CPU {summary.driver_cpu_seconds:.1f} s"
            )


def assembly(rows: int, shard_size: int) -> None:
    """Real assembly on one actor and on two, beside what two processes that know nothing of each other lose."""
    from cluster.mof_assembly import AssembleWork
    from matgen.mof.assemble import AssembleConfig

    out = Path(tempfile.mkdtemp(prefix="bench-assembly-"))
    count, seconds = prepare_assembly(out, rows, shard_size), {}
    try:
        for processes in (1, 2):
            context = multiprocessing.get_context("spawn")
            with context.Pool(processes) as pool:
                names = [(out, f"alone-{processes}-{number}") for number in range(processes)]
                seconds[processes] = float(np.mean(pool.starmap(assemble_here, names, chunksize=1)))
        bound = seconds[1] / seconds[2]
        print(
            f"{count} frameworks: one process {seconds[1]:.1f} s; each of two at once {seconds[2]:.1f} s: {bound:.1%}"
        )
        rates = {}
        with ray_session(2):
            for workers in (1, 2):
                work, config = AssembleWork(AssembleConfig(), 0), CampaignConfig(num_workers=workers, progress=False)
                done = run_campaign(work, shards_of_parts(out / "inputs"), out / f"ray-{workers}", config)
                rates[workers] = count / (done.alive_seconds / workers)
                print(
                    f"{workers} actors: {done.seconds:.1f} s with starts, {rates[workers]:.2f} a second when ready, "
                    f"busy {done.busy_share:.2%}, driver CPU {done.driver_cpu_seconds:.2f} s, {done.status}"
                )
        raw = rates[2] / (2 * rates[1])
        print(f"efficiency of 2 actors: {raw:.1%}; against two independent processes {raw / bound:.1%}")
    finally:
        shutil.rmtree(out)


def prepare_assembly(out: Path, rows: int, shard_size: int) -> int:
    """Cut the embedded frameworks into blocks, turn each at random, and save what assembly is told."""
    from cluster.decompose import DecomposeWork
    from cluster.mof_assembly import PrepareWork
    from cluster.preprocess import source_shards
    from cluster.reconstruct_mof import ReconstructMofConfig
    from matgen.sources.source import open_source

    config, here = ReconstructMofConfig(), CampaignConfig(progress=False)
    source = open_source(str(Path(__file__).parents[2] / "experiments/data/mof_demo.parquet"), None, config.limits)
    work = DecomposeWork(source, config.decompose)
    run_campaign(work, source_shards(source, shard_size, rows), out / "frameworks", here)
    done = run_campaign(
        PrepareWork(None, config.perturb, config.seed), shards_of_parts(out / "frameworks"), out / "inputs", here
    )
    return done.status["ok"]


def assemble_here(out: Path, name: str) -> float:
    """Assemble all in this process; return the seconds."""
    from cluster.mof_assembly import AssembleWork
    from matgen.mof.assemble import AssembleConfig

    work, config = AssembleWork(AssembleConfig(), 0), CampaignConfig(progress=False)
    return run_campaign(work, shards_of_parts(out / "inputs"), out / name, config).seconds


def main() -> None:
    """Print figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["light", "sleep", "items", "assembly"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--shard-size", type=int, default=10)
    parser.add_argument("--spread", type=float, default=0.8)
    parser.add_argument("--items", type=int, default=160, help="of each actor")
    arguments = parser.parse_args()
    if arguments.what == "light":
        light(arguments.rows, arguments.workers[0])
    elif arguments.what == "sleep":
        sleeping(arguments.workers, arguments.spread, arguments.items)
    elif arguments.what == "assembly":
        assembly(arguments.rows, arguments.shard_size)
    else:
        with ray_session(2):
            summary = run(TimedWork(0.1, sleeps=True), arguments.rows, arguments.shard_size, 2)
        rows = f"{arguments.rows} items of 100 ms, {arguments.shard_size} a shard"
        print(f"{rows}, 2 actors: busy {summary.busy_share:.2%}")


if __name__ == "__main__":
    import bench_campaign  # actors unpickle by module name

    bench_campaign.main()
