"""What is written down as trials report and end, and which checkpoints are kept."""

import logging
import shutil
import time
from collections.abc import Mapping
from typing import Any

from sweeps.journal import Journal, TrialRecord
from sweeps.watch import Watch
from sweeps.work import trial_folder

logger = logging.getLogger(__name__)

Config = dict[str, Any]


class Observer:
    """Writes down what happens to the trials, shows it, and removes the checkpoints of all but the best."""

    def __init__(self, journal: Journal, watch: Watch) -> None:
        self.journal, self.watch = journal, watch

    def started(self, config: Config) -> None:
        """A trial runs."""
        self.watch.started(self.journal.trials[config["number"]])

    def result(self, config: Config, report: Mapping[str, Any]) -> None:
        """A trial reached a rung."""
        trial = self.journal.trials[config["number"]]
        if self.journal.reported(_clean(report)):
            self.watch.reported(trial)

    def died(self, config: Config, error: str) -> None:
        """A trial's process died, and it is tried again."""
        self.watch.died(config["number"], error)

    def ended(self, config: Config, error: str | None) -> None:
        """A trial ended: by itself, by the scheduler, or by dying too often."""
        trial = self.journal.trials[config["number"]]
        last = trial.last
        if error is not None:
            status, reason = ("out_of_memory" if "OutOfMemory" in error else "failed"), error
        elif last.get("status", "ok") != "ok":
            status, reason = last["status"], last.get("reason", "")
        else:
            complete = last and last["rung"] == len(self.journal.config.rung_budget.costs) - 1
            status, reason = ("done", "") if complete else ("stopped", f"behind at rung {last.get('rung', 0)}")
        self.journal.ended(trial.number, status, reason)
        self.watch.ended(trial)
        self._prune()

    def _prune(self) -> None:
        kept = {trial.number for trial in candidates(self.journal)}
        for trial in self.journal.trials.values():
            if trial.ended and trial.number not in kept:
                shutil.rmtree(self.journal.directory / trial_folder(trial.number) / "checkpoints", ignore_errors=True)


class SecondLook(Observer):
    """Writes down what a second look gives."""

    def __init__(self, journal: Journal, watch: Watch) -> None:
        super().__init__(journal, watch)
        self._rows: dict[tuple[int, int], dict[str, Any]] = {}

    def started(self, config: Config) -> None:
        """Nothing to note."""

    def result(self, config: Config, report: Mapping[str, Any]) -> None:
        """Keep the row until its trial has ended."""
        self._rows[config["number"], config["confirm"]] = _clean(report)

    def ended(self, config: Config, error: str | None) -> None:
        """Note it."""
        row = self._rows.get((config["number"], config["confirm"]))
        if row is None:
            logger.warning("trial %d could not be looked at again: %s", config["number"], error)
            return
        if (config["number"], config["confirm"]) in {(old["number"], old["seed"]) for old in self.journal.confirmed}:
            return
        self.journal.confirm({**row, "seed": config["confirm"]})
        self.watch.confirmed(row)


def candidates(journal: Journal) -> list[TrialRecord]:
    """Return the trials that deserve a second look: the best that ran to the end, the defaults and the baselines."""
    done = [trial for trial in journal.trials.values() if trial.status == "done"]
    ranked = sorted(done, key=lambda trial: -float(trial.objective or 0.0))
    others = [trial for trial in done if trial.origin not in ("search", "first")]
    best = ranked[: journal.config.confirm.top]
    return best + [trial for trial in others if trial not in best]


def _clean(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report without what Tune adds to it."""
    ours = (
        *("number", "rung", "cost", "status", "objective", "low", "high", "parts", "figures", "losses", "values"),
        *("step", "rows_seen", "train_seconds", "cost_per_1000", "judge_seconds", "num_parameters", "reason"),
    )
    return {"time": time.time(), **{key: report[key] for key in ours if key in report}}
