"""Ray Tune over the trials of a sweep: schedulers, resources, retries, and what is written down as results come in."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cluster.session import prepare_environment
from matgen.errors import ConfigError, StageError
from sweeps.journal import Journal, SweepConfig, TrialRecord
from sweeps.search import Suggestions
from sweeps.spaces import Choice, Space, Value, Values
from sweeps.watch import Watch
from sweeps.work import TrialWork, trial_folder

logger = logging.getLogger(__name__)

Config = dict[str, Any]

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # the journal is what a sweep resumes from
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}


def prepare_tune() -> None:
    """Set what Ray Tune reads from the environment; call before the first `import ray`."""
    prepare_environment()
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})


def concurrency(config: SweepConfig, resources: Mapping[str, float]) -> int:
    """Return how many trials run at a time.

    Args:
        config: what a trial takes; drivers of trials with several workers take nothing.
        resources: of the whole cluster.

    Raises:
        StageError: not even one fits.
    """
    workers, most = config.workers_per_trial, []
    for name, each in (("CPU", config.cpus_per_worker), ("GPU", config.gpus_per_worker)):
        if each > 0:
            there = resources.get(name, 0.0)
            if there < workers * each:
                raise StageError(f"a trial needs {workers * each:g} {name}s, and Ray has {there:g}")
            most.append(int(there / (workers * each) + 1e-9))
    return max(1, min(most))


def run_trials(work: TrialWork, journal: Journal, space: Space, defaults: Values, watch: Watch) -> None:
    """Run the trials of a sweep that have not ended, in a Ray that is up.

    Raises:
        StageError: a trial does not fit into the cluster, or the sweep was interrupted.
    """
    config = work.config
    suggestions = Suggestions(space, journal, defaults)
    left = suggestions.total - sum(trial.ended for trial in journal.trials.values())
    if left <= 0:
        return
    population = config.scheduler == "pbt"

    def configs() -> Config | None:
        trial = suggestions.next()
        return None if trial is None else _tune_config(trial, space, defaults, full=population)

    observer = Observer(journal, watch)
    _fit(work, configs, left, make_scheduler(journal, space), observer, population=population)
    unfinished = [trial.number for trial in journal.trials.values() if not trial.ended]
    if unfinished or len(journal.trials) < suggestions.total:
        raise StageError(f"interrupted; go on with --resume {journal.directory}")


def _tune_config(trial: TrialRecord, space: Space, defaults: Values, *, full: bool) -> Config:
    values = dict(trial.values)
    if full:  # a population changes all of them, so it must know all of them
        values = {name: values.get(name, defaults.get(name, _middle(space, name))) for name in space.names}
    keep = trial.origin not in ("search", "first")
    return {"number": trial.number, "values": values, "origin": trial.origin, "keep": keep}


def _middle(space: Space, name: str) -> Value:
    domain = space.parameter(name).domain
    if isinstance(domain, Choice):
        return domain.options[len(domain.options) // 2]
    return (domain.low * domain.high) ** 0.5 if domain.log else (domain.low + domain.high) / 2


def run_second_look(work: TrialWork, journal: Journal, trials: list[TrialRecord], watch: Watch) -> None:
    """Sample, and where asked for train, trials once more with fresh seeds; done ones are not done again."""
    seeds = range(work.config.confirm.seeds + 1) if work.config.confirm.seeds else range(1)
    known = {(row["number"], row["seed"]) for row in journal.confirmed}
    wanted = [
        {"number": trial.number, "values": trial.values, "origin": trial.origin, "keep": True, "confirm": seed}
        for seed in seeds
        for trial in trials
        if (trial.number, seed) not in known
    ]
    if not wanted:
        return
    waiting = iter(wanted)
    _fit(work, lambda: next(waiting, None), len(wanted), None, SecondLook(journal, watch))


def _fit(
    work: TrialWork,
    configs: Callable[[], Config | None],
    count: int,
    scheduler: Any,
    observer: "Observer",
    *,
    population: bool = False,
) -> None:
    import ray
    from ray import tune

    config = work.config
    storage = Path(work.directory) / "ray"
    shutil.rmtree(storage, ignore_errors=True)
    most = concurrency(config, ray.cluster_resources())
    # Tune's population knows no searcher: its members are a grid of one dimension
    members = list(iter(configs, None)) if population else []
    tuner = tune.Tuner(
        tune.with_resources(_named(work), lambda values: trial_resources(config, asked(values))),
        param_space={"member": tune.grid_search(members)} if members else None,
        tune_config=tune.TuneConfig(
            search_alg=None if members else _searcher(configs),
            scheduler=scheduler,
            num_samples=1 if members else count,
            max_concurrent_trials=None if members else most,
            reuse_actors=config.scheduler != "pbt" and config.workers_per_trial == 1,
            trial_name_creator=lambda trial: f"trial-{asked(trial.config)['number']:05d}",
            trial_dirname_creator=lambda trial: f"{asked(trial.config)['number']:05d}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage.resolve()),
            failure_config=tune.FailureConfig(max_failures=config.retries),
            callbacks=[_callback(observer)],
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        observer.watch.close()
        shutil.rmtree(storage, ignore_errors=True)


def trial_resources(config: SweepConfig, values: Mapping[str, Any]) -> Any:
    """Return what Tune reserves for a trial: of several workers nothing, for they reserve for themselves."""
    from ray import tune

    one = {"CPU": config.cpus_per_worker}
    if config.gpus_per_worker:
        one["GPU"] = config.gpus_per_worker
    if config.workers_per_trial == 1 or values.get("confirm") == 0:
        return tune.PlacementGroupFactory([one])
    return tune.PlacementGroupFactory([{"memory": 1}])  # one byte: Tune knows no trial without any resource


def number_of(name: str) -> int:
    """Return the number in a Tune trial's name; its settings may be those of another member of the population."""
    return int(name.rpartition("-")[2])


def _named(work: TrialWork) -> Any:
    from ray import tune

    def trial(config: Config) -> None:
        work({**asked(config), "number": number_of(tune.get_context().get_trial_name())})

    return trial


def make_scheduler(journal: Journal, space: Space) -> Any:
    """Return the sweep's scheduler, with what earlier sessions saw."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler

    config = journal.config
    if config.scheduler == "none":
        return FIFOScheduler()
    if config.scheduler == "pbt":
        return PopulationBasedTraining(
            time_attr="training_iteration",
            metric="objective",
            mode="max",
            perturbation_interval=1,
            hyperparam_mutations={"member": {"values": _mutations(space)}},
            custom_explore_fn=lambda changed: {"member": _inside(space, changed["member"])},
        )

    class Halving(AsyncHyperBandScheduler):
        """ASHA that lets the defaults and the baselines run to the end: they are what others are held against."""

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            action = super().on_trial_result(tune_controller, trial, {**result, "relative": relative(config, result)})
            return str(TrialScheduler.CONTINUE if trial.config.get("keep") else action)

        def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
            """Nothing: the last result has been seen."""

    scheduler = Halving(
        time_attr="relative",
        metric="objective",
        mode="max",
        grace_period=1,
        max_t=config.budget.reduction ** (config.budget.num_rungs - 1) + 1,
        reduction_factor=config.budget.reduction,
    )
    nothing: Any = None
    for trial in journal.trials.values():
        if trial.ended:
            known: Any = SimpleNamespace(trial_id=f"known-{trial.number}", config={})
            scheduler.on_trial_add(nothing, known)
            for report in trial.reports:
                scheduler.on_trial_result(nothing, known, report)
    return scheduler


def relative(config: SweepConfig, report: Mapping[str, Any]) -> int:
    """Cost of a report in units of the first rung: the same for all trials, whatever their steps cost."""
    return int(config.budget.reduction ** int(report["rung"]))


def _inside(space: Space, member: Config) -> Config:
    return {**member, "values": clamped(space, member["values"])}


def asked(config: Mapping[str, Any]) -> Config:
    """Return what a Tune trial is to do: a member of a population has it one level down, where a grid put it."""
    return dict(config.get("member", config))


def seen(trial: Any) -> Config:
    """Return what a Tune trial is to do, under its own number."""
    return {**asked(trial.config), "number": number_of(str(trial))}


def _mutations(space: Space) -> dict[str, Any]:
    import random

    def draw(low: float, high: float, log: bool) -> Any:
        return lambda: low * (high / low) ** random.random() if log else random.uniform(low, high)

    return {
        p.name: list(p.domain.options)
        if isinstance(p.domain, Choice)
        else draw(p.domain.low, p.domain.high, p.domain.log)
        for p in space.parameters
    }


def clamped(space: Space, values: Values) -> Values:
    """Bring perturbed values back into their intervals."""
    kept = dict(values)
    for parameter in space.parameters:
        domain, value = parameter.domain, kept.get(parameter.name)
        if not isinstance(domain, Choice) and isinstance(value, int | float):
            inside = min(max(value, domain.low), domain.high)
            kept[parameter.name] = round(inside) if domain.whole else inside
    return kept


def check_population(space: Space) -> None:
    """Refuse a space that a population cannot change on the way.

    Raises:
        ConfigError: a parameter decides the network or the process.
    """
    for parameter in space.parameters:
        if not parameter.in_training:
            raise ConfigError(
                f"population-based training cannot change {parameter.name!r} of a network in training; "
                "the space 'population' holds what it can"
            )


def _searcher(configs: Any) -> Any:
    from ray.tune.search import Searcher

    class Ask(Searcher):
        """Asks for the next trial when there is room for it."""

        def suggest(self, trial_id: str) -> Any:
            found = configs()
            return Searcher.FINISHED if found is None else found

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Nothing: the journal knows."""

        def save(self, checkpoint_path: str) -> None:
            """Write nothing: the journal is what a sweep resumes from."""
            Path(checkpoint_path).touch()

        def restore(self, checkpoint_path: str) -> None:
            """Nothing to read."""

    return Ask()


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


def _callback(observer: Observer) -> Any:
    from ray.tune import Callback

    class Callbacks(Callback):
        """Hands Tune's events to an observer."""

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            observer.started(seen(trial))

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            if "objective" in result:
                observer.result(seen(trial), result)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            observer.ended(seen(trial), None)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            error = trial.get_error()
            words = " ".join(str(error).split()) if error is not None else "died"
            observer.ended(seen(trial), words[-300:])

    return Callbacks()
