"""Ray Tune over the trials of a sweep: schedulers, resources, retries, and what is written down as results come in."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.session import prepare_environment
from matgen.errors import StageError
from sweeps.journal import Journal, SweepConfig, TrialRecord
from sweeps.observer import Observer, SecondLook
from sweeps.schedulers import make_scheduler
from sweeps.search import Suggestions
from sweeps.spaces import Choice, Space, Value, Values
from sweeps.watch import Watch
from sweeps.work import TrialWork

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
    most += [] if config.concurrent is None else [config.concurrent]
    return max(1, min(most))


def check_cluster(config: SweepConfig) -> None:
    """Refuse a sweep none of whose trials fits into the Ray that is up.

    Raises:
        StageError: says what is missing.
    """
    import ray

    concurrency(config, ray.cluster_resources())


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

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial that dies is said in one line, by the watch
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


def asked(config: Mapping[str, Any]) -> Config:
    """Return what a Tune trial is to do: a member of a population has it one level down, where a grid put it."""
    return dict(config.get("member", config))


def seen(trial: Any) -> Config:
    """Return what a Tune trial is to do, under its own number."""
    return {**asked(trial.config), "number": number_of(str(trial))}


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


def _last_words(trial: Any) -> str:
    """Return the last line of what a Tune trial died of."""
    path = Path(trial.error_file) if trial.error_file else None
    lines = path.read_text(errors="replace").split("\n") if path is not None and path.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else "died"


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

        def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            observer.died(seen(trial), _last_words(trial))

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            observer.ended(seen(trial), _last_words(trial))

    return Callbacks()
