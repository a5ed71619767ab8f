"""Training as a stage: in this process, and on two Ray workers of which one is killed; the result is the same."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cluster.run import Run
from cluster.train import train
from matgen.config import Experiment
from matgen.errors import StageError
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
    assert list((two.directory("train") / "wandb").rglob("*.wandb")), "rank 0 logs to W&B, offline"
