"""Machines that jobs are sent to. Add yours: copy an entry, and name it with --site."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a cluster wants to be told; the command line overrides it.

    Attributes:
        cluster: "slurm", or "local" for processes on this machine.
        partition: of the jobs; empty takes the cluster's default.
        account: that pays; empty takes the user's default.
        cpus: of a node, for each job.
        gpus: of a node.
        memory_gb: of a node; None takes the cluster's default.
        hours: time limit; longer work is queued again and goes on.
        array_parallelism: tasks of an array that run at once.
        setup: shell lines before each job (modules, environment).
    """

    cluster: str = "slurm"
    partition: str = ""
    account: str = ""
    cpus: int = 8
    gpus: int = 0
    memory_gb: float | None = None
    hours: float = 24.0
    array_parallelism: int = 256
    setup: tuple[str, ...] = ()


SITES = {
    "default": Site(),
    "laptop": Site(cluster="local", cpus=2, hours=100.0, array_parallelism=1),
    "gpu": Site(partition="gpu", cpus=32, gpus=4, setup=("module load cuda/12 || true",)),
}
