"""A real Slurm of several nodes on this machine, for tests: started, spoken to, and taken down."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from waiting import until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "nsenter")


def why_not() -> str:
    """Say why no Slurm can be started here; empty where it can."""
    if os.geteuid() != 0:
        return "not run: a Slurm of several nodes needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"not run: {missing[0]} is absent (scripts/install_slurm.sh installs it)" if missing else ""


@dataclass
class SlurmCluster:
    """The cluster, and the shared folder that all its nodes see.

    Attributes:
        state: directory of the daemons.
        shared: where jobs write.
        environment: for the client commands.
    """

    state: Path
    shared: Path
    environment: dict[str, str]

    @classmethod
    def start(cls, shared: Path, nodes: int, cpus: int) -> "SlurmCluster":
        """Start one."""
        state = shared.with_name(f"{shared.name}-slurm")
        words = [HERE / "slurm" / "slurm-up", "--nodes", str(nodes), "--cpus", str(cpus), "--mem", "4000"]
        words += ["--private-tmp", "--no-accounting", "--state", state]
        # a checkout, an environment or data below /tmp would vanish under the nodes' own
        for path in {shared, ROOT, Path(sys.prefix), Path(os.environ.get("MATGEN_DATA") or ROOT)}:
            if path.resolve().is_relative_to("/tmp"):
                words += ["--share", path]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        path = os.pathsep.join([str(state / "bin"), str(Path(sys.prefix) / "bin"), os.environ["PATH"]])
        dropped = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")
        kept = {key: value for key, value in os.environ.items() if key not in dropped}
        environment = {**kept, "PATH": path, "SLURM_CONF": str(state / "slurm.conf"), "SLURM_TEST_STATE": str(state)}
        environment["VIRTUAL_ENV"] = sys.prefix
        environment["RAY_worker_niceness"] = "0"  # the machine may do other things, too
        return cls(state, shared, environment)

    def stop(self) -> None:
        """Take it down."""
        subprocess.run([str(HERE / "slurm" / "slurm-down"), "--state", str(self.state)], timeout=120, check=False)

    def run(self, *words: str, check: bool = True) -> str:
        """Run a client command, or `slurm-node`."""
        done = subprocess.run(
            words, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def submit(self, *words: str) -> int:
        """Submit a job whose output is `job.log` of it."""
        return int(self.run("sbatch", "--parsable", f"--output={self.shared}/%j.log", *words).split(";")[0])

    def log(self, job: int) -> str:
        """What a job wrote."""
        path = self.shared / f"{job}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def state_of(self, job: int) -> tuple[str, int]:
        """State and exit code of a job."""
        text = self.run("scontrol", "show", "job", str(job))
        state, code = re.search(r"JobState=(\w+)", text), re.search(r"ExitCode=(\d+):", text)
        assert state and code, text
        return state[1], int(code[1])

    def wait(self, job: int, seconds: float = 900.0) -> tuple[str, int]:
        """Wait for a job's end."""
        ended = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
        self.until(lambda: self.state_of(job)[0] in ended, seconds, lambda: self.log(job))
        return self.state_of(job)

    @staticmethod
    def until(condition: Callable[[], object], seconds: float, say: Callable[[], str] = str) -> None:
        """Wait until a condition holds."""
        until(condition, seconds, say, every=0.5)
