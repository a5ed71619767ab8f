"""submit.py: what would be sent where, and how light it is."""

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from slurm import submit
from slurm.sites import SITES

ROOT = Path(__file__).parents[3]


class FakeJob:
    """A job of an executor that runs nothing."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id


class FakeExecutor:
    """Keeps what it is given."""

    made: ClassVar[list["FakeExecutor"]] = []

    def __init__(self, site: Any, name: str, nodes: int, after: str) -> None:
        self.site, self.name, self.nodes, self.after = site, name, nodes, after
        self.works: list[submit.Command] = []
        FakeExecutor.made.append(self)

    def batch(self) -> "FakeExecutor":
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: submit.Command) -> FakeJob:
        self.works.append(work)
        return FakeJob(f"{7 * len(FakeExecutor.made)}_{len(self.works) - 1}")


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> list[FakeExecutor]:
    monkeypatch.setattr(submit, "make_executor", FakeExecutor)
    FakeExecutor.made = []
    return FakeExecutor.made


def test_it_imports_nothing_heavy() -> None:
    heavy = ("torch", "ray", "matgen", "numpy", "cluster")
    script = f"import sys, slurm.submit; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ranges_cover_all_shards_once() -> None:
    cut = submit.ranges(1_000_001, 500, 50)
    assert [b for _, b in cut[:-1]] == [a for a, _ in cut[1:]] and cut[0][0] == 0 and cut[-1][1] == 2001


def test_a_campaign_is_an_array_and_a_job_after_it(executors: list[FakeExecutor]) -> None:
    argv = ["campaign", "mofdiff_qmof", "--count", "1e5", "--shard-size", "100", "--shards-per-task", "400"]
    assert submit.main([*argv, "--after", "5", "--", "--set", "a.b=1"]) == 0
    array, gather = executors
    assert array.after == "afterok:5" and gather.after == "afterany:7"
    words = [" ".join(work.words) for work in array.works]
    assert words[0].startswith("matgen run mofdiff_qmof sample decode relax --shards 0:400 --out runs/mofdiff_qmof")
    assert words[2].find("--shards 800:1000") > 0 and len(words) == 3
    assert all("--set sample.shard_size=100 --set a.b=1" in text for text in words)
    (last,) = (" ".join(work.words) for work in gather.works)
    assert last.startswith("matgen run mofdiff_qmof sample decode relax evaluate report") and "--shards" not in last


def test_training_takes_the_script_of_its_kind(executors: list[FakeExecutor]) -> None:
    submit.main(["train", "symmcd_mp20", "--nodes", "4", "--gpus-per-node", "8", "--hours", "12", "--site", "gpu"])
    (executor,) = executors
    assert (executor.nodes, executor.site.gpus, executor.site.hours) == (4, 8, 12.0)
    assert executor.works[0].words[:3] == ["bash", "slurm/train_symmcd.sh", "symmcd_mp20"]
    assert executor.site.partition == SITES["gpu"].partition
    with pytest.raises(SystemExit, match="no training script"):
        submit.main(["train", "other"])


def test_a_command_that_fails_says_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exit code 37"):
        submit.Command([sys.executable, "-c", "raise SystemExit(37)"], str(tmp_path))()
