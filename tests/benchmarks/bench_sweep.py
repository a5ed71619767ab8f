"""Sweeps measured: what Ray Tune costs a trial, and what stopping early saves and loses.

python tests/benchmarks/bench_sweep.py overhead --trials 12    the same trials through Tune and in a plain loop
python tests/benchmarks/bench_sweep.py saving DIR              ASHA replayed on a sweep that ran with --scheduler none
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pytest

from cluster.run import Run
from cluster.session import ray_session
from experiments.small import small
from experiments.symmcd_demo import symmcd_demo
from sweeps.budget import BudgetConfig
from sweeps.journal import Journal, SweepConfig, TrialRecord, create_sweep, open_sweep
from sweeps.runner import prepare_tune, run_trials
from sweeps.schedulers import make_scheduler
from sweeps.search import default_values
from sweeps.subjects import subject_of
from sweeps.symmcd_spaces import DEMO
from sweeps.trial import TrialJob, read_reports, run_trial, save_reference
from sweeps.watch import Watch
from sweeps.work import TrialWork


def tune_overhead(trials: int, folder: Path, *, track: bool = True) -> dict[str, float]:
    """Return seconds that Tune costs, all of the clock, one trial at a time.

    Args:
        trials: of the demo space, each of two rungs and some seconds.
        folder: for the sweep.
        track: with an offline W&B run for each trial.

    Returns:
        `sweep` and `work`: seconds of all trials through Tune and of the same jobs in a plain loop; `per_trial`: median
        of the time from one trial's last report to the next one's, less the latter in the loop; `start`: the rest.
    """
    experiment = small(symmcd_demo())
    experiment = replace(experiment, preprocess=replace(experiment.preprocess, limit=96, shard_size=32))
    subject = subject_of("symmcd")
    config = SweepConfig(
        search="random", scheduler="none", trials=trials, concurrent=1, samples=8,
        budget=BudgetConfig(amount=600, num_rungs=2),
    )  # fmt: skip
    journal = create_sweep(folder / "sweep", config, experiment, DEMO)
    records = subject.prepare(Run(experiment=experiment, out=folder, num_workers=0, progress=False))
    save_reference(folder / "sweep" / "reference.npz", subject.reference(records))
    work = TrialWork(
        config=config, space=DEMO, experiment=experiment, directory=str(folder / "sweep"), records=str(records)
    )
    prepare_tune()
    with ray_session(1):
        began = time.time()
        watch = Watch(journal, "bench", track=track)
        run_trials(work, journal, DEMO, default_values(DEMO, journal.experiment), watch)
        whole = time.time() - began
    plain = [_plain(work, trial, folder / "plain") for trial in journal.trials.values()]
    ends = [trial.reports[-1]["time"] for trial in journal.trials.values()]
    per_trial = float(np.median(np.diff(ends) - np.array(plain[1:])))
    return {
        "trials": trials,
        "sweep": whole,
        "work": sum(plain),
        "per_trial": per_trial,
        "start": whole - sum(plain) - trials * per_trial,
    }


def _plain(work: TrialWork, trial: TrialRecord, aside: Path) -> float:
    """Seconds of a trial without Ray; it gives what the trial in Tune gave."""
    job = work.job({"number": trial.number, "values": trial.values, "origin": trial.origin})
    assert isinstance(job, TrialJob)
    job = replace(job, out=str(aside / str(trial.number)))
    began = time.time()
    run_trial(job, lambda row: None)
    seconds = time.time() - began
    again = [report["objective"] for report in read_reports(Path(job.out))]
    assert again == pytest.approx([report["objective"] for report in trial.reports])
    return seconds


def halving_replayed(journal: Journal, orders: int = 1000) -> dict[str, Any]:
    """Replay ASHA on the reports of a sweep that stopped nobody: the same points, in many orders of arrival.

    Args:
        journal: of a sweep with `--scheduler none` and several rungs; the defaults are never stopped.
        orders: random ones, the sweep's own first; one trial after another.

    Returns:
        Share of the training saved, and quality lost in the best trial: of the sweep's own order, and over all orders.
    """
    config = replace(journal.config, scheduler="asha")
    trials = [t for t in journal.trials.values() if t.status == "done" and t.origin not in config.baselines]
    best = max(float(trial.objective or 0.0) for trial in trials)
    generator, saved, lost = random.Random(0), [], []
    for order in range(orders):
        scheduler = make_scheduler(Journal(journal.directory, config, journal.experiment), DEMO)
        cost, found = 0.0, 0.0
        for trial in trials if order == 0 else generator.sample(trials, len(trials)):
            spent, quality = _replayed(scheduler, trial)
            cost, found = cost + spent, max(found, quality)
        saved.append(1.0 - cost / (len(trials) * config.budget.amount))
        lost.append(best - found)
    return {
        "trials": len(trials), "orders": orders, "best": best, "saved": saved[0], "lost": lost[0],
        "saved_of_all": [float(x) for x in np.percentile(saved, [2.5, 50, 97.5])],
        "lost_of_all": [float(x) for x in np.percentile(lost, [50, 90, 97.5])],
        "best_kept": float(np.mean(np.array(lost) == 0.0)),
    }  # fmt: skip


def _replayed(scheduler: Any, trial: TrialRecord) -> tuple[float, float]:
    """Cost of a trial until it is stopped, and its quality if it never is (else 0)."""
    asked: Any = SimpleNamespace(trial_id=str(trial.number), config={"keep": trial.origin not in ("search", "first")})
    nothing: Any = None
    scheduler.on_trial_add(nothing, asked)
    for report in trial.reports:
        if scheduler.on_trial_result(nothing, asked, report) == "STOP" and report is not trial.reports[-1]:
            return float(report["cost"]), 0.0
    return float(trial.last["cost"]), float(trial.objective or 0.0)


@pytest.mark.benchmark
def test_overhead_of_tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    print(json.dumps(tune_overhead(6, tmp_path), indent=1))


def main() -> None:
    """Print the figures asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    overhead = what.add_parser("overhead")
    overhead.add_argument("--trials", type=int, default=12)
    overhead.add_argument("--no-wandb", action="store_true")
    what.add_parser("saving").add_argument("directory", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "saving":
        print(json.dumps(halving_replayed(open_sweep(arguments.directory)[0]), indent=1))
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-sweep-"))
    try:
        print(json.dumps(tune_overhead(arguments.trials, folder, track=not arguments.no_wandb), indent=1))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
