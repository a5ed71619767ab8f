"""Chaos on a real Slurm of four nodes: python tests/integration/chaos.py --items 10000

Actors are killed at random, a raylet is killed, a node is cut off, rows crash in native code and hang, the disk is full
once, the driver is killed three times; then every row must be there once, with its status and its value.
"""

import argparse
import contextlib
import math
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from chaos_campaign import fate
from slurm_cluster import ROOT, SlurmCluster, why_not

JOB = """#!/bin/bash
#SBATCH --nodes={nodes} --ntasks-per-node=1 --cpus-per-task=2 --no-kill --requeue --open-mode=append
cd "$SLURM_SUBMIT_DIR" && . slurm/ray_cluster.sh
export PYTHONPATH=$PWD:{here} MATGEN_OBJECT_STORE_MB=100
# a driver that is killed is started again, as a user would do
again='until python "$1" "$2" "$3" "$0"; do echo "driver ended: $?"; sleep 1; done'
run_on_ray bash -c "$again" "$ALL_CPUS" {here}/chaos_campaign.py {out} {items}
"""


class Chaos:
    """Does harm to a running campaign, a step at a time.

    Args:
        slurm: the cluster.
        job: the campaign's.
        out: its parts.
        nodes: how many.
        seed: of what is hit.
    """

    def __init__(self, slurm: SlurmCluster, job: int, out: Path, nodes: int, seed: int) -> None:
        self.slurm, self.job, self.out, self.nodes = slurm, job, out, nodes
        self.rng = random.Random(seed)
        self.done: Counter[str] = Counter()

    def kill(self, pattern: str, what: str, node: int) -> None:
        """Kill one process of a node, found within the node's own process table."""
        pids = self.slurm.run("slurm-node", "exec", f"node{node}", "pgrep", "-f", pattern, check=False).split()
        pids = [pid for pid in pids if pid.isdigit()]
        if pids:
            self.slurm.run("slurm-node", "exec", f"node{node}", "kill", "-9", self.rng.choice(pids), check=False)
            self.done[what] += 1

    def cut(self, node: int, seconds: float) -> None:
        """Pull a node's network cable for a while."""
        self.slurm.run("slurm-node", "cut", f"node{node}")
        time.sleep(seconds)
        self.slurm.run("slurm-node", "heal", f"node{node}")
        self.done["nodes cut off"] += 1

    def fill_disk(self, seconds: float) -> None:
        """Leave no space for a while."""
        ballast = self.out / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"\0" * (1 << 20))
        time.sleep(seconds)
        ballast.unlink()
        self.done["full disks"] += 1

    def plan(self, items: int) -> list[tuple[float, Callable[[], None]]]:
        """Say what happens at which share of the campaign."""
        driver = "^python .*/chaos_campaign.py"
        steps: list[tuple[float, Callable[[], None]]] = [
            (0.10, lambda: self.kill(driver, "drivers killed", 1)),
            (0.20, lambda: self.kill("raylet/raylet", "raylets killed", 2)),
            (0.35, lambda: self.fill_disk(4.0)),
            (0.45, lambda: self.kill(driver, "drivers killed", 1)),
            (0.55, lambda: self.cut(self.nodes, 25.0)),
            (0.75, lambda: self.kill(driver, "drivers killed", 1)),
        ]
        for i in range(max(3, items // 500)):
            share = 0.05 + 0.9 * i / max(3, items // 500)
            steps.append((share, lambda: self.kill("ray::_Actor", "actors killed", self.rng.randint(1, self.nodes))))
        return sorted(steps, key=lambda step: step[0])

    def torment(self, items: int, limit_s: float) -> None:
        """Follow the campaign, and strike at each share of it, until the job ends."""
        steps, shards = self.plan(items), math.ceil(items / 25)
        deadline = time.monotonic() + limit_s
        while self.slurm.state_of(self.job)[0] in ("PENDING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < deadline, f"not ended in time: {self.slurm.log(self.job)[-3000:]}"
            share = len(list(self.out.glob("part-*.parquet"))) / shards
            if steps and share >= steps[0][0]:
                steps.pop(0)[1]()
            time.sleep(0.5)


def check(out: Path, items: int) -> Counter[str]:
    """Hold the parts against what an undisturbed run leaves; return the counts by status."""
    table = pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("part-*.parquet"))])
    rows = table.to_pylist()
    assert [row["sample_id"] for row in rows] == list(range(items)), "each row once, in order"
    for row in rows:
        assert row["status"] == fate(row["sample_id"]), row
        assert row["value"] == (math.sin(row["sample_id"]) if row["status"] == "ok" else None), row
    assert not list(out.glob(".part-*")) and not list(out.glob(".piece-*")), "nothing is left aside"
    return Counter(row["status"] for row in rows)


def chaos(shared: Path, items: int, nodes: int = 4, seed: int = 0, limit_s: float = 3600.0) -> str:
    """Run it all; return what happened in one line."""
    out = shared / "out"
    out.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(out)], check=True)
    slurm = SlurmCluster.start(shared, nodes, cpus=2)
    try:
        here = Path(__file__).parent
        script = shared / "chaos.sh"
        script.write_text(JOB.format(nodes=nodes, here=here, out=out, items=items))
        began = time.monotonic()
        job = slurm.submit(str(script))
        torment = Chaos(slurm, job, out, nodes, seed)
        torment.torment(items, limit_s)
        assert slurm.state_of(job) == ("COMPLETED", 0), slurm.log(job)[-5000:]
        counts = check(out, items)
        return f"{items} items in {time.monotonic() - began:.0f} s: {dict(counts)}; {dict(torment.done)}"
    finally:
        slurm.stop()
        subprocess.run(["umount", "-l", str(out)], check=False)


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if why_not():
        print(why_not())
        return 0
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as folder:
        print(chaos(Path(folder), arguments.items, seed=arguments.seed))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
