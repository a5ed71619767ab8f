"""Sweeps as a user runs them, on a Ray of their own: populations, several workers, trials that die."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.run import Run, available_cpus
from sweeps.journal import Journal, open_sweep
from sweeps.results import pareto_front
from sweeps.symmcd_spaces import POPULATION

pytest.importorskip("optuna")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}, "WANDB_MODE": "disabled"}
TINY = ["--samples", "4", "--confirm-top", "1", "--confirm-samples", "4", "--set", "sample.sampler.num_steps=4"]


@pytest.fixture
def begin(tiny_run: Run, tmp_path: Path) -> Iterator:
    """Start a sweep of the demo in tmp_path/sweep; it is ended with the test."""
    started = []

    def start(*words: str, script: str = "tune_symmcd.py", program: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        command = [*program, sys.executable, f"sweeps/{script}", *words]
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, text=True, stdout=-1, stderr=subprocess.STDOUT)
        started.append(process)
        return process

    yield lambda *words, **options: start(
        *("--out", str(tmp_path / "sweep"), "--records", str(tiny_run.records_directory), *TINY, *words), **options
    )
    for process in started:
        process.kill()
        process.communicate()


def finished(process: "subprocess.Popen[str]", out: Path, *, expected: str = "") -> Journal:
    """Wait for a sweep that must end well and say something; return what it knows."""
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said[-3000:]
    journal, _ = open_sweep(out)
    assert all(trial.ended for trial in journal.trials.values()) and not (out / "ray").exists()
    assert (out / "sweep.html").exists() and "Traceback" not in said and expected in said
    return journal


def test_a_population_takes_over_weights_and_changes_settings(begin, tmp_path: Path) -> None:
    words = ["--scheduler", "pbt", "--space", "population", "--trials", "3", "--budget", "512"]
    journal = finished(begin(*words), tmp_path / "sweep")
    lines = (tmp_path / "sweep" / "trials.jsonl").read_text().splitlines()
    values = [json.loads(line) for line in lines if '"event": "report"' in line]
    assert len(journal.trials) == 3
    changed = 0
    for number, trial in journal.trials.items():
        own = [row for row in values if row["number"] == number]
        assert trial.status == "done" and trial.last["rows_seen"] == 512
        assert [row["cost"] for row in own] == sorted({row["cost"] for row in own})
        changed += len({json.dumps(row["values"], sort_keys=True) for row in own}) > 1
        for name, value in trial.values.items():
            domain = POPULATION.parameter(name).domain
            assert domain.low <= value <= domain.high
    assert changed  # at least one gave up its own settings for those of a better one, perturbed


@pytest.mark.skipif(available_cpus() < 2, reason="four workers of half a CPU need two")
def test_trials_of_several_workers_and_a_best_configuration_that_runs(begin, tiny_run: Run, tmp_path: Path) -> None:
    words = ["--workers-per-trial", "2", "--cpus-per-worker", "0.5", "--trials", "4", "--scheduler", "none"]
    words += ["--budget", "96", "--rungs", "2", "--confirm-seeds", "1", "--baselines", "none"]
    journal = finished(begin(*words), tmp_path / "sweep")
    assert [trial.status for trial in journal.trials.values()] == ["done"] * 4
    assert [len(trial.reports) for trial in journal.trials.values()] == [2] * 4
    assert {row["seed"] for row in journal.confirmed} == {0, 1}
    out = tmp_path / "best"
    command = [sys.executable, "-m", "experiments", "run", "--config", str(tmp_path / "sweep" / "best.json")]
    command += ["preprocess", "train", "--workers", "0", "--out", str(out), "--set", "preprocess.limit=96"]
    command += ["--set", "train.max_steps=2"]
    ran = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    trained = json.loads((out / "checkpoint" / "checkpoints" / "last" / "config.json").read_text())
    best = json.loads((tmp_path / "sweep" / "best.json").read_text())
    assert trained["model"] == best["model"]


def test_more_trials_than_cpus_for_quality_and_cost_at_once(begin, tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    words = ["--pareto", "--trials", "5", "--budget", "96", "--rungs", "2", "--reduction", "2", "--scheduler", "none"]
    journal = finished(begin(*words, program=("taskset", "-c", str(cpu))), tmp_path / "sweep")
    assert [trial.status for trial in journal.trials.values()] == ["done"] * 6  # five points and a baseline, on one CPU
    times = sorted((r["time"], t.number) for t in journal.trials.values() for r in t.reports)
    assert [number for _, number in times] == [n for n in range(6) for _ in range(2)]  # one after another
    front = pareto_front(journal)
    assert front
    for cheaper, dearer in pairwise(front):
        assert cheaper.last["cost_per_1000"] <= dearer.last["cost_per_1000"]
        assert cheaper.objective < dearer.objective
    page = (tmp_path / "sweep" / "sweep.html").read_text()
    assert "Pareto front" in page
    table = pq.read_table(tmp_path / "sweep" / "results.parquet")
    assert table.num_rows == 6 and all(table["cost_per_1000"].to_pylist())


def descendants(pid: int) -> list[int]:
    """Processes below a process."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def trial_process(driver: int) -> int | None:
    """The one process below a driver that runs a trial at this moment."""
    for pid in descendants(driver):
        with contextlib.suppress(OSError):
            if b"ImplicitFunc.train" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc: processes are not found")
def test_a_trial_that_dies_is_tried_again_and_then_recorded(begin, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    words = ["--trials", "3", "--budget", "4608", "--rungs", "2", "--scheduler", "none", "--concurrent", "1"]
    process = begin(*words, "--search", "random", "--baselines", "none")
    victims: list[tuple[int, int]] = []  # trial, process

    def kill(trial: int) -> None:
        """Kill the process of a trial, once it runs in one that has not been killed."""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0][-3000:]
            path = out / "trials.jsonl"
            events = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
            begun = [event["number"] for event in events if event["event"] == "suggested"]
            running = begun and begun[-1] == trial and (out / f"trials/{trial:05d}/history.jsonl").exists()
            pid = trial_process(process.pid) if running else None
            if pid is not None and pid not in [known for _, known in victims]:
                os.kill(pid, signal.SIGKILL)
                victims.append((trial, pid))
                return
            time.sleep(0.05)
        raise AssertionError(f"trial {trial} was not seen running")

    for trial in (0, 1, 1):  # the first once, the second as often as it is tried
        kill(trial)
    journal = finished(process, out, expected="trial 0 died and is tried again: ")
    assert [(n, t.status) for n, t in journal.trials.items()] == [(0, "done"), (1, "failed"), (2, "done")]
    assert journal.trials[1].reason
    assert [report["rung"] for report in journal.trials[0].reports] == [0, 1]
    table = pq.read_table(out / "results.parquet").to_pylist()
    assert [row["status"] for row in table] == ["done", "failed", "done"]
