"""Training as a stage: in this process, and on two Ray workers of which one is killed; the result is the same."""

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from waiting import until

from cluster.run import Run
from cluster.session import prepare_environment
from cluster.train import train
from cluster.train_worker import WORKERS_FILE
from matgen.config import Experiment
from matgen.errors import ConfigError, StageError
from matgen.training.history import TIMING, read_history


def with_settings(run: Run, out: Path, **settings) -> Run:
    experiment: Experiment = replace(run.experiment, train=replace(run.experiment.train, **settings))
    return replace(run, experiment=experiment, out=out, records=run.records_directory)


def curve(run: Run, kind: str) -> dict[int, dict[str, float]]:
    rows = read_history(run.directory("train") / "history.jsonl")
    return {
        row["step"]: {k: v for k, v in row.items() if k not in (*TIMING, "kind")} for row in rows if row["kind"] == kind
    }


def test_stage_in_this_process(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = with_settings(tiny_run, tmp_path, max_steps=6, num_workers=0)
    summary = train(run)
    assert summary["finished"] and summary["step"] == 6 and summary["best_step"] in (3, 6)
    pictures = sorted((run.directory("train") / "pictures").iterdir())
    assert [picture.name for picture in pictures] == ["step-00000003.png", "step-00000006.png"]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert train(run) == summary, "a finished stage is not run again"
    longer = replace(run, experiment=run.experiment.set("train.max_steps=7"))
    with pytest.raises(StageError, match=r"max_steps 6 there, 7 here"):
        train(longer)


def test_time_limit_ends_the_stage_and_more_time_goes_on(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = with_settings(tiny_run, tmp_path, max_steps=4, max_seconds=0.0)
    first = train(run)
    assert not first["finished"] and first["step"] == 1
    assert train(with_settings(tiny_run, tmp_path, max_steps=4, max_seconds=None))["step"] == 4


def kill_one_worker(history: Path, killed: list[int]) -> None:
    """Once training is under way, kill one of Ray's training workers outright."""
    until = time.monotonic() + 900
    while time.monotonic() < until and not any(row["step"] >= 15 for row in read_history(history)):
        time.sleep(0.05)
    for process in psutil.Process().children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
                return
        except psutil.Error:
            continue


@pytest.mark.slow
def test_two_workers_one_killed_end_where_one_process_does(tiny_run: Run, tmp_path: Path) -> None:
    settings = {"max_steps": 60, "log_every": 1, "validate_every": 20, "checkpoint_every": 10, "batch_size": 16}
    alone = with_settings(tiny_run, tmp_path / "alone", **settings, num_workers=0)
    assert train(alone)["finished"]

    two = with_settings(tiny_run, tmp_path / "two", **settings, num_workers=2)
    killed: list[int] = []
    history = two.directory("train") / "history.jsonl"
    killer = threading.Thread(target=kill_one_worker, args=(history, killed), daemon=True)
    killer.start()
    summary = train(two)
    killer.join(10)
    assert killed, "the test killed nobody"
    assert summary["finished"] and summary["step"] == 60

    first, second = curve(alone, "train"), curve(two, "train")
    assert list(first) == list(second) == list(range(1, 61))
    assert second[1]["total"] == pytest.approx(first[1]["total"], rel=1e-5)
    assert second[1]["grad_norm"] == pytest.approx(first[1]["grad_norm"], rel=1e-4)
    for step, row in curve(alone, "validation").items():
        other = curve(two, "validation")[step]
        assert other == pytest.approx(row, rel=1e-3), step
    assert list((two.out / "wandb").rglob("*.wandb")), "rank 0 logs to W&B, offline"


def test_fewest_workers_are_not_more_than_all(tiny_run: Run, tmp_path: Path) -> None:
    for least, most in ((-1, 2), (3, 2), (1, 0)):
        with pytest.raises(ConfigError, match=rf"train.min_workers={least} must be from 0 to train.num_workers={most}"):
            train(with_settings(tiny_run, tmp_path, min_workers=least, num_workers=most))
    assert not (tmp_path / "checkpoint").exists()


class TwoNodes:
    """A Ray of two nodes with one CPU each, of which one is lost.

    Args:
        out: directory of a training run, whose files say when.
    """

    def __init__(self, out: Path) -> None:
        from ray.cluster_utils import Cluster

        self.out, self.said = out, []
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self.node = self.cluster.add_node(num_cpus=1)

    def starts(self) -> list[int]:
        """How many processes trained, at each start."""
        path = self.out / WORKERS_FILE
        return [json.loads(line)["num_workers"] for line in path.read_text().splitlines()] if path.is_file() else []

    def until(self, condition) -> float:
        """Wait; return the seconds."""
        return until(condition, 900)

    def torment(self) -> None:
        """Lose the second node once training is under way."""
        self.until(lambda: any(row["step"] >= 25 for row in read_history(self.out / "history.jsonl")))
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.said.append(f"with one {self.until(lambda: self.starts() == [2, 1]):.0f} s after the loss")


@pytest.mark.slow
def test_elastic_training_shrinks_and_ends_where_one_process_does(
    tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "max_steps": 160,
        "validate_every": 40,
        "checkpoint_every": 5,
        "batch_size": 16,
        "picture_samples": 0,
    }
    alone = with_settings(tiny_run, tmp_path / "alone", **settings, log_every=1)
    assert train(alone)["finished"]

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # the default of 15 starves on a machine that does other things, too
    prepare_environment()  # the nodes' token
    elastic = with_settings(tiny_run, tmp_path / "two", **settings, log_every=1, num_workers=2, min_workers=1)
    nodes = TwoNodes(elastic.directory("train"))
    monkeypatch.setenv("RAY_ADDRESS", nodes.cluster.address)
    tormentor = threading.Thread(target=nodes.torment, daemon=True)
    try:
        tormentor.start()
        summary = train(elastic)
        tormentor.join(10)
    finally:
        nodes.cluster.shutdown()
    print(nodes.said, nodes.starts())
    assert summary["finished"] and summary["step"] == 160
    assert nodes.starts() == [2, 1]

    first, second = curve(alone, "train"), curve(elastic, "train")
    assert list(first) == list(second) == list(range(1, 161)), "each step once"
    # the same rows and the same noise at each step; sums in another order differ in their last bits, which Adam
    # amplifies over 160 steps, while other rows, or a lost average or moment, would show in per cents at once
    for step, row in curve(alone, "validation").items():
        assert curve(elastic, "validation")[step]["total"] == pytest.approx(row["total"], rel=1e-3), step
