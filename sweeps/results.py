"""What a sweep leaves: results.parquet, best.json and sweep.html."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.lineage import write_text
from matgen.config import ComposedExperiment
from sweeps.journal import Journal, TrialRecord
from sweeps.quality import Mean, mean_quality
from sweeps.search import default_values, frozen_trial, load_optuna, make_study
from sweeps.spaces import Choice, Space
from sweeps.work import TrialWork

_FIGURES = (
    *("objective", "low", "high", "cost", "rung", "step", "rows_seen", "train_seconds", "cost_per_1000"),
    *("judge_seconds", "num_parameters"),
)


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """A trial after the second look.

    Attributes:
        trial: which.
        quality: over its fresh trainings, or of more samples of its own checkpoint where there are none.
        own: quality of its own checkpoint by more samples.
        trainings: fresh ones.
    """

    trial: TrialRecord
    quality: Mean
    own: Mean | None
    trainings: int


def confirmed(journal: Journal) -> list[Confirmed]:
    """Return the trials that were looked at again, best first."""
    found = []
    for number in dict.fromkeys(row["number"] for row in journal.confirmed):
        rows = [row for row in journal.confirmed if row["number"] == number]
        fresh = [row for row in rows if row["seed"] > 0]
        own = [row for row in rows if row["seed"] == 0]
        quality = _mean(fresh or own)
        found.append(
            Confirmed(
                trial=journal.trials[number],
                quality=quality,
                own=_mean(own) if own else None,
                trainings=len(fresh),
            )
        )
    return sorted(found, key=lambda entry: -entry.quality.value)


def _mean(rows: list[dict[str, Any]]) -> Mean:
    return mean_quality([r["objective"] for r in rows], [r["low"] for r in rows], [r["high"] for r in rows])


def winner(journal: Journal) -> TrialRecord | None:
    """Return the best trial: by the second look among points of the space, else by its own report."""
    baselines = journal.config.baselines
    looked = [entry.trial for entry in confirmed(journal) if entry.trial.origin not in baselines]
    if looked:
        return looked[0]
    done = [t for t in journal.trials.values() if t.status == "done" and t.origin not in baselines]
    return max(done, key=lambda trial: float(trial.objective or 0.0), default=None)


def pareto_front(journal: Journal) -> list[TrialRecord]:
    """Return the trials run to the end that no other beats in both quality and cost, cheapest first."""
    done = [t for t in journal.trials.values() if t.status == "done" and t.last.get("cost_per_1000")]
    ordered = sorted(done, key=lambda trial: (trial.last["cost_per_1000"], -float(trial.objective or 0.0)))
    front: list[TrialRecord] = []
    for trial in ordered:
        if not front or float(trial.objective or 0.0) > float(front[-1].objective or 0.0):
            front.append(trial)
    return front


def write_results(journal: Journal, work: TrialWork, space: Space) -> dict[str, Any]:
    """Write the three files.

    Returns:
        What the command says at its end.
    """
    directory = journal.directory
    defaults = default_values(space, journal.experiment)
    pq.write_table(results_table(journal, space), directory / "results.parquet")
    best = winner(journal)
    summary: dict[str, Any] = {"trials": len(journal.trials), "winner": None}
    if best is not None:
        experiment: ComposedExperiment = work.experiment_of(best.origin, best.values)
        write_text(directory / "best.json", experiment.to_json() + "\n")
        summary |= {"winner": best.number, "quality": best.objective, "values": best.values}
        for entry in confirmed(journal):
            if entry.trial is best:
                found = entry.quality
                summary |= {"confirmed": found.value, "low": found.low, "high": found.high}
    from sweeps.page import write_page

    write_page(journal, work, space, importances(journal, space, defaults), directory / "sweep.html")
    counts: dict[str, int] = {}
    for trial in journal.trials.values():
        counts[trial.status] = counts.get(trial.status, 0) + 1
    return summary | {"status": counts, "page": str(directory / "sweep.html")}


def results_table(journal: Journal, space: Space) -> pa.Table:
    """Return a row a trial: its point (defaults filled in), status, figures, parts of the quality, losses."""
    defaults = default_values(space, journal.experiment)
    rows = []
    for trial in journal.trials.values():
        last = trial.last
        row: dict[str, Any] = {
            "number": trial.number,
            "origin": trial.origin,
            "status": trial.status,
            "reason": trial.reason,
            **{name: last.get(name) for name in _FIGURES},
        }
        known = {} if trial.origin in journal.config.baselines else {**defaults, **trial.values}
        row |= {f"values/{name}": known.get(name) for name in space.names}
        for group in ("parts", "losses", "figures"):
            row |= {f"{group}/{name}": value for name, value in last.get(group, {}).items()}
        row["rungs"] = json.dumps([{k: r.get(k) for k in ("rung", "cost", "objective")} for r in trial.reports])
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    metadata = {"matgen.sweep": json.dumps({"space": space.name, "trials": len(rows)})}
    return pa.table({name: _column(values) for name, values in columns.items()}, metadata=metadata)


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a parameter of mixed kinds
        return pa.array([None if value is None else str(value) for value in values])


def importances(journal: Journal, space: Space, defaults: dict[str, Any]) -> dict[str, float]:
    """Return the importance of each parameter (PED-ANOVA, Watanabe et al. 2023), adding up to 1.

    Of fewer points than parameters that would be a lottery: it is empty then.
    Trials that the scheduler stopped count with the quality at their last rung.
    """
    optuna = load_optuna()
    study = make_study(optuna, journal.config.__class__(space=space.name))
    for trial in journal.trials.values():
        if trial.ended and trial.last:
            seen = TrialRecord(trial.number, trial.values, trial.origin, trial.reports, "done")
            frozen = frozen_trial(
                optuna, space, seen, journal.config.__class__(baselines=journal.config.baselines), defaults
            )
            if frozen is not None:
                study.add_trial(frozen)
    if len(study.trials) < max(6, len(space.names)):
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return {}
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else {}


def run_to_the_end(journal: Journal) -> list[tuple[float, float, dict[str, Any]]]:
    """Return (seconds since the first report, cost spent by then, report) of each trial that ran to its end."""
    reports = sorted(
        (report for trial in journal.trials.values() for report in trial.reports), key=lambda r: r.get("time", 0.0)
    )
    full = len(journal.config.rung_budget.costs) - 1
    spent: dict[int, float] = {}
    line = []
    for report in reports:
        spent[report["number"]] = max(spent.get(report["number"], 0.0), float(report["cost"]))
        if report["rung"] == full and report.get("status") == "ok":
            line.append((report.get("time", 0.0) - reports[0].get("time", 0.0), sum(spent.values()), report))
    return line


def saving(journal: Journal) -> float:
    """Return the share of cost that stopping early has saved, against running every trial to its end."""
    ended = [trial for trial in journal.trials.values() if trial.ended and trial.reports]
    spent = sum(float(trial.last["cost"]) for trial in ended)
    return 1.0 - spent / (len(ended) * journal.config.budget.amount) if ended else 0.0


def encoded(space: Space, name: str, values: list[Any]) -> tuple[np.ndarray, list[str] | None]:
    """Return the values of a parameter as numbers, and the words of those that are choices."""
    domain = space.parameter(name).domain
    if isinstance(domain, Choice):
        options = list(domain.options)
        return np.array([float(options.index(v)) if v in options else np.nan for v in values]), [
            str(o) for o in options
        ]
    numbers = np.array([np.nan if v is None else float(v) for v in values])
    return (np.log10(numbers) if domain.log else numbers), None
