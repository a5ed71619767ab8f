"""Send work to Slurm: trainings over nodes, campaigns as job arrays over ranges of shards, one after another.

    python -m slurm.submit train symmcd_mp20 --nodes 4 --gpus-per-node 8 --hours 24 -- --data DIR
    python -m slurm.submit campaign mofdiff_qmof --out runs/qmof --count 1000000 --shards-per-task 50 --after JOB
    python -m slurm.submit train symmcd_demo --site laptop       the same, as processes on this machine

What follows -- goes to matgen run. At its time limit a job writes a checkpoint and is queued again.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slurm.sites import SITES, Site

FOLDER = ".slurm/submitit"
SCRIPTS = {"symmcd": "slurm/train_symmcd.sh", "mofdiff": "slurm/train_mofdiff.sh"}
RANGED = ("sample", "decode", "relax")
DEFAULT_SHARD = 500


class Command:
    """A command on the first node of a job; at the time limit it is told to stop, and the job is queued again.

    Args:
        words: of the command.
        root: directory to start it in.
    """

    def __init__(self, words: Sequence[str], root: str) -> None:
        self.words = list(words)
        self.root = root
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run it.

        Raises:
            RuntimeError: it ended with another exit code than 0.
        """
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return 0
        environment = {**os.environ, "SLURM_SUBMIT_DIR": self.root, "MATGEN_MAX_REQUEUES": "0"}  # submitit requeues
        self.process = subprocess.Popen(self.words, cwd=self.root, env=environment)
        code = self.process.wait()
        if code != 0:
            raise RuntimeError(f"exit code {code}: {shlex.join(self.words)}")
        return code

    def checkpoint(self) -> Any:
        """Tell the command to stop where it can go on; called by submitit shortly before the time limit."""
        import submitit

        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()  # its last checkpoint is what it goes on from
        return submitit.helpers.DelayedSubmission(Command(self.words, self.root))


def ranges(count: int, shard_size: int, shards_per_task: int) -> list[tuple[int, int]]:
    """Cut a campaign into ranges of shards, one for each task of the array."""
    num_shards = -(-count // shard_size)
    return [(first, min(first + shards_per_task, num_shards)) for first in range(0, num_shards, shards_per_task)]


def make_executor(site: Site, name: str, nodes: int, after: str) -> Any:
    """Return submitit's executor for jobs at a site."""
    import submitit

    executor = submitit.AutoExecutor(folder=FOLDER, cluster=site.cluster)
    executor.update_parameters(
        name=name,
        nodes=nodes,
        tasks_per_node=1,
        cpus_per_task=site.cpus,
        timeout_min=max(1, round(site.hours * 60)),
        **({"gpus_per_node": site.gpus} if site.gpus else {}),
        **({"mem_gb": site.memory_gb} if site.memory_gb else {}),
    )
    if site.cluster == "slurm":
        extra: dict[str, Any] = {"requeue": True}
        if after:
            extra["dependency"] = after
        executor.update_parameters(
            slurm_array_parallelism=site.array_parallelism,
            slurm_setup=list(site.setup),
            slurm_srun_args=["--wait=0", "--overlap"],
            slurm_signal_delay_s=120,
            slurm_additional_parameters=extra,
            **({"slurm_partition": site.partition} if site.partition else {}),
            **({"slurm_account": site.account} if site.account else {}),
        )
    return executor


def submit_train(arguments: argparse.Namespace, site: Site) -> list[Any]:
    """Submit one training over nodes."""
    kind = next((kind for kind in SCRIPTS if arguments.experiment.startswith(kind)), None)
    if kind is None:
        raise SystemExit(f"{arguments.experiment}: no training script; known kinds: {', '.join(SCRIPTS)}")
    options = ["--out", arguments.out, *arguments.options]
    if site.cluster == "local":
        words = ["matgen", "run", arguments.experiment, *options]
    else:
        words = ["bash", SCRIPTS[kind], arguments.experiment, *options]
    executor = make_executor(site, f"train-{arguments.experiment}", arguments.nodes, _afterok(arguments.after))
    return [executor.submit(Command(words, str(Path.cwd())))]


def submit_campaign(arguments: argparse.Namespace, site: Site) -> list[Any]:
    """Submit an array over ranges of shards, and one job after it that gathers, scores and reports."""
    settings = ["--count", str(arguments.count), "--set", f"sample.shard_size={arguments.shard_size}"]
    common = ["matgen", "run", arguments.experiment]
    options = ["--out", arguments.out, "--workers", str(site.cpus), *settings, *arguments.options]
    root = str(Path.cwd())
    cut = ranges(arguments.count, arguments.shard_size, arguments.shards_per_task)
    works = [Command([*common, *arguments.stages, "--shards", f"{a}:{b}", *options], root) for a, b in cut]
    executor = make_executor(site, f"shards-{arguments.experiment}", 1, _afterok(arguments.after))
    with executor.batch():
        jobs = [executor.submit(work) for work in works]
    if site.cluster == "local":
        for job in jobs:
            job.wait()
    array = jobs[0].job_id.split("_")[0]
    # afterany: what an array task did not finish, the gathering job does itself
    gather = make_executor(site, f"gather-{arguments.experiment}", 1, f"afterany:{array}")
    last = gather.submit(Command([*common, *arguments.stages, *arguments.then, *options], root))
    return [*jobs, last]


def _afterok(after: str) -> str:
    return f"afterok:{after}" if after else ""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    argv, options = list(argv), []
    if "--" in argv:
        argv, options = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    parser = argparse.ArgumentParser(
        prog="python -m slurm.submit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, text in (("train", "train over nodes"), ("campaign", "draw, build and relax as an array of jobs")):
        sub = kinds.add_parser(kind, help=text)
        sub.add_argument("experiment", help="a name that matgen list shows")
        sub.add_argument("--site", choices=sorted(SITES), default="default", help="where to (slurm/sites.py)")
        sub.add_argument("--out", help="directory of the run (default: runs/EXPERIMENT)")
        sub.add_argument("--hours", type=float, help="time limit of a job")
        sub.add_argument("--cpus", type=int, help="of each node")
        sub.add_argument("--gpus-per-node", type=int)
        sub.add_argument("--partition")
        sub.add_argument("--account")
        sub.add_argument("--after", default="", metavar="JOB", help="begin when this job has ended well")
        sub.add_argument("--wait", action="store_true", help="wait for the end; exit code 1 when a job failed")
        if kind == "train":
            sub.add_argument("--nodes", type=int, default=1)
        else:
            sub.add_argument("--count", type=lambda text: int(float(text)), required=True, help="samples to draw")
            sub.add_argument("--shard-size", type=int, default=DEFAULT_SHARD, help="samples of a shard")
            sub.add_argument("--shards-per-task", type=int, default=50)
            sub.add_argument("--stages", nargs="+", choices=RANGED, default=list(RANGED), help="of the array")
            sub.add_argument("--then", nargs="*", default=["evaluate", "report"], help="stages after the gathering")
    arguments = parser.parse_args(argv)
    arguments.options = options
    arguments.out = arguments.out or f"runs/{arguments.experiment}"
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Submit, and say which jobs."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    given = {
        "hours": arguments.hours,
        "cpus": arguments.cpus,
        "gpus": arguments.gpus_per_node,
        "partition": arguments.partition,
        "account": arguments.account,
    }
    site = replace(SITES[arguments.site], **{key: value for key, value in given.items() if value is not None})
    jobs = submit_train(arguments, site) if arguments.kind == "train" else submit_campaign(arguments, site)
    first, last = jobs[0].job_id, jobs[-1].job_id
    print(f"{len(jobs)} jobs, {first} to {last}; logs in {FOLDER}; matgen status {arguments.out}")
    if arguments.wait or site.cluster == "local":
        return int(any(_failed(job) for job in jobs))
    return 0


def _failed(job: Any) -> bool:
    job.wait()
    error = job.exception()
    if error is not None:
        print(f"job {job.job_id}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
    return error is not None


if __name__ == "__main__":
    sys.exit(main())
