"""Trials that train, sample and judge; a sweep on Ray that is killed twice and has the trials of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.run import Run
from matgen.config import Experiment
from matgen.models.symmcd import SymmCD
from matgen.settings import to_dict
from sweeps.budget import BudgetConfig
from sweeps.journal import SweepConfig, create_sweep, open_sweep
from sweeps.results import results_table, winner, write_results
from sweeps.search import Suggestions
from sweeps.subjects import subject_of
from sweeps.symmcd_spaces import DEMO
from sweeps.trial import TrialJob, read_reports, run_trial, save_reference
from sweeps.work import TrialWork, adopt, rename_model, resample

pytest.importorskip("optuna")


@pytest.fixture(scope="session")
def reference(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "reference.npz"
    save_reference(path, subject_of("symmcd").reference(tiny_run.records_directory))
    return path


def make_job(tiny: Experiment, tiny_run: Run, reference: Path, out: Path, **changes: object) -> TrialJob:
    settings: dict = {
        "number": 3,
        "subject": "symmcd",
        "experiment": to_dict(tiny),
        "values": {},
        "out": str(out),
        "records": str(tiny_run.records_directory),
        "reference": str(reference),
        "budget": to_dict(BudgetConfig(amount=144, num_rungs=3)),
        "samples": 4,
        "sample_seed": 1,
        "train_seed": 0,
    }
    return TrialJob(**(settings | changes))


def test_a_trial_reports_each_rung_at_its_cost(
    tiny: Experiment, tiny_run: Run, reference: Path, tmp_path: Path
) -> None:
    reports: list[dict] = []
    run_trial(make_job(tiny, tiny_run, reference, tmp_path), reports.append)
    assert [row["cost"] for row in reports] == [16, 48, 144]
    assert [row["rows_seen"] for row in reports] == [16, 48, 144]
    for row in reports:
        assert row["status"] == "ok" and 0 <= row["low"] <= row["objective"] <= row["high"] <= 1
        assert {"lattice", "coords", "species", "site_symmetry"} <= set(row["losses"])
        assert set(row["parts"]) == {"raw", "strict", "composition", "fidelity", "elements", "density"}


def test_a_trial_that_is_cut_off_goes_on_and_repeats_nothing(
    tiny: Experiment, tiny_run: Run, reference: Path, tmp_path: Path
) -> None:
    job = make_job(tiny, tiny_run, reference, tmp_path / "cut")
    whole: list[dict] = []
    run_trial(make_job(tiny, tiny_run, reference, tmp_path / "whole"), whole.append)

    class Cut(BaseException):
        pass

    def cut(row: dict) -> None:
        if row["rung"] == 1:
            raise Cut

    with pytest.raises(Cut):
        run_trial(job, cut)
    judged = [row["judge_seconds"] for row in read_reports(tmp_path / "cut")]
    again: list[dict] = []
    run_trial(job, again.append)
    assert [row["judge_seconds"] for row in again[:2]] == judged  # reported again, not judged again
    assert [row["objective"] for row in again] == [row["objective"] for row in whole]
    assert again[-1]["losses"] == pytest.approx(whole[-1]["losses"], rel=1e-4)


def test_a_budget_in_seconds_is_one_of_the_sweeps_own_experiment(
    tiny: Experiment, tiny_run: Run, reference: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "reference.npz"
    kept.write_bytes(reference.read_bytes())
    wide = replace(tiny, model=replace(tiny.model, network=replace(tiny.model.network, hidden=1024)))
    budget = BudgetConfig(unit="seconds", amount=0.5, num_rungs=2)
    rows, speeds = {}, {}
    for name, experiment in (("own", tiny), ("wide", wide)):
        job = make_job(
            tiny, tiny_run, kept, tmp_path / name,
            experiment=to_dict(experiment), yardstick=to_dict(tiny), budget=to_dict(budget),
        )  # fmt: skip
        reports: list[dict] = []
        run_trial(job, reports.append)
        speeds[name] = json.loads((tmp_path / name / "speed.json").read_text())
        rows[name] = [row["rows_seen"] for row in reports]
        steps = budget.steps(tiny.train.batch_size, speeds[name]["seconds_per_step"])
        assert rows[name] == [step * tiny.train.batch_size for step in steps]
        assert [row["cost"] for row in reports] == list(budget.costs)
    one = json.loads((tmp_path / "speed.json").read_text())["seconds_per_step"]
    for speed in speeds.values():
        assert speed["seconds_per_step"] == pytest.approx(speed["ratio"] * one)
    assert 0.5 < speeds["own"]["ratio"] < 2.0  # of two equal trainings
    assert speeds["wide"]["ratio"] > 1.1 * speeds["own"]["ratio"]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc: the memory of a process is not known")
def test_a_network_that_does_not_fit_into_memory_is_a_result(
    tiny: Experiment, tiny_run: Run, reference: Path, tmp_path: Path
) -> None:
    import resource

    network = replace(tiny.model.network, hidden=2048, num_layers=6)
    job = make_job(
        tiny,
        tiny_run,
        reference,
        tmp_path,
        experiment=to_dict(replace(tiny, model=replace(tiny.model, network=network))),
    )
    reports: list[dict] = []
    run_trial(make_job(tiny, tiny_run, reference, tmp_path / "warm"), lambda row: None)  # what is loaded late is loaded
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), hard))
    try:
        run_trial(job, reports.append)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert [(row["status"], row["objective"]) for row in reports] == [("out_of_memory", 0.0)]
    assert "memory" in reports[0]["reason"]


def test_failures_end_as_results(
    tiny: Experiment, tiny_run: Run, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def last(name: str, experiment: Experiment) -> dict:
        reports: list[dict] = []
        job = make_job(tiny, tiny_run, reference, tmp_path / name, experiment=to_dict(experiment))
        run_trial(job, reports.append)
        return reports[-1]

    wild = replace(tiny, train=replace(tiny.train, learning_rate=1e30, warmup_steps=0, max_skipped=3))
    found = last("wild", wild)
    assert (found["status"], found["objective"]) == ("diverged", 0.0)
    assert "not finite" in found["reason"]

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(SymmCD, "loss", full)
    found = last("full", tiny)
    assert (found["status"], found["objective"], found["rung"]) == ("out_of_memory", 0.0, 0)


def test_a_second_look_and_a_change_of_weights(
    tiny: Experiment, tiny_run: Run, reference: Path, tmp_path: Path
) -> None:
    job = make_job(tiny, tiny_run, reference, tmp_path / "one", budget=to_dict(BudgetConfig(amount=32, num_rungs=1)))
    reports: list[dict] = []
    run_trial(job, reports.append)
    assert resample(job, tmp_path / "one")["objective"] == reports[0]["objective"]  # the same seeds, the same samples
    weights = replace(tiny.model.weights, coords=4.0)
    changed = replace(tiny, model=replace(tiny.model, weights=weights))
    adopt((tmp_path / "one" / "checkpoints" / "last").resolve(), tmp_path / "two")
    rename_model(tmp_path / "two", to_dict(changed.model))
    further = make_job(
        tiny, tiny_run, reference, tmp_path / "two", experiment=to_dict(changed),
        budget=to_dict(BudgetConfig(amount=64, num_rungs=1)),
    )  # fmt: skip
    run_trial(further, reports.append)
    assert reports[-1]["rows_seen"] == 64


def test_results_of_a_sweep(tiny: Experiment, tmp_path: Path) -> None:
    config = SweepConfig(trials=9, baselines=("paper",))
    journal = create_sweep(tmp_path / "s", config, tiny, DEMO)
    suggestions = Suggestions(DEMO, journal, {})
    while (trial := suggestions.next()) is not None:
        for rung, cost in enumerate(config.budget.costs[: 1 + trial.number % 3]):
            quality = 0.1 * (rung + 1) + 0.01 * trial.number
            journal.reported(
                {
                    "number": trial.number, "rung": rung, "cost": cost, "objective": quality, "low": quality - 0.05,
                    "high": quality + 0.05, "status": "ok", "time": float(trial.number + rung),
                    "cost_per_1000": 1.0 + trial.number, "parts": {"strict": quality}, "losses": {"total": 1.0},
                }
            )  # fmt: skip
        journal.ended(trial.number, "done" if trial.number % 3 == 2 else "stopped")
    work = TrialWork(config=config, space=DEMO, experiment=tiny, directory=str(tmp_path / "s"), records="")
    summary = write_results(journal, work, DEMO)
    best = winner(journal)
    assert best is not None and best.number == summary["winner"] == 8
    assert Experiment.from_json((tmp_path / "s" / "best.json").read_text()) == work.experiment_of("search", best.values)
    page = (tmp_path / "s" / "sweep.html").read_text()
    for word in ("Best so far", "Importance", "Schedules", "Pareto", "Trials", "Parameters"):
        assert f"<h2>{word}" in page or word in page
    assert 'src="http' not in page
    table = results_table(journal, DEMO).to_pylist()
    assert len(table) == 10 and table[2]["values/model.network.hidden"] == 48


@pytest.mark.slow
def test_a_sweep_killed_twice_ends_as_an_undisturbed_one(tiny_run: Run, tmp_path: Path) -> None:
    settings = ["--records", str(tiny_run.records_directory), "--concurrent", "1", "--trials", "6", "--samples", "4"]
    settings += ["--budget", "288", "--rungs", "2", "--confirm-top", "1", "--confirm-samples", "4"]
    environment = {**os.environ, "WANDB_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "sweeps/tune_symmcd.py", *arguments]
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def reports() -> int:
        path = tmp_path / "killed" / "trials.jsonl"
        return path.read_text().count('"event": "report"') if path.exists() else 0

    process = start("--out", str(tmp_path / "killed"), *settings)
    for wanted in (1, 7):
        deadline = time.monotonic() + 600
        while reports() < wanted:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process = start("--resume", str(tmp_path / "killed"))
    assert process.wait(timeout=900) == 0
    assert start("--out", str(tmp_path / "quiet"), *settings).wait(timeout=900) == 0

    def ended(name: str) -> list[tuple]:
        """What a sweep knows of each trial in the end: its point, fate, and quality at each rung."""
        journal, _ = open_sweep(tmp_path / name)
        assert (tmp_path / name / "sweep.html").exists() and not (tmp_path / name / "ray").exists()
        return [
            (t.number, t.origin, t.values, t.status, [(r["rung"], pytest.approx(r["objective"])) for r in t.reports])
            for t in journal.trials.values()
        ]

    killed, quiet = ended("killed"), ended("quiet")
    assert len(killed) == 7 and {trial[1] for trial in killed} == {"default", "paper", "first", "search"}
    assert all(trial[3] in ("done", "stopped") for trial in killed)
    assert killed == quiet
    best = [(tmp_path / name / "best.json").read_text() for name in ("killed", "quiet")]
    assert best[0] == best[1] and json.loads(best[0])["name"] == "symmcd_demo"
