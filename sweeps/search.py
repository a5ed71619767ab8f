"""Which point comes next: the defaults first, then a grid, random numbers or Optuna's tree-structured Parzen estimator.

A suggestion depends on the sweep's seed, on its own number, and, for TPE, on the results known by then. So a sweep that
was killed and resumed has the trials of an undisturbed one: always for grid and random, and for TPE as long as results
come in the same order, as they do with one trial at a time.
"""

import itertools
import warnings
from collections.abc import Callable
from typing import Any

from matgen.errors import ConfigError, MissingDependencyError
from sweeps.journal import Journal, SweepConfig, TrialRecord
from sweeps.spaces import Choice, Parameter, Space, Value, Values

DefaultOf = Callable[[Parameter], Value]


class Suggestions:
    """Hands out the trials of a sweep, those first that were begun and not ended."""

    def __init__(self, space: Space, journal: Journal, defaults: Values) -> None:
        """Begin or go on.

        Args:
            space: the parameters.
            journal: what is known; suggestions are noted there before they are handed out.
            defaults: the experiment's own values, where they lie in the space.

        Raises:
            ConfigError: a grid over a space that is not finite.
            MissingDependencyError: TPE without Optuna.
        """
        self.space, self.journal, self.config = space, journal, journal.config
        self.defaults = defaults
        if self.config.search == "grid":
            check_grid(space)
        self._waiting = [trial for trial in journal.trials.values() if not trial.ended]
        self._optuna: Any = None if self.config.search == "grid" else load_optuna()

    @property
    def total(self) -> int:
        """Trials of the whole sweep, baselines included."""
        size = self.space.size
        most = self.config.trials if self.config.search != "grid" else min(self.config.trials, 1 + int(size))
        return most + len(self.config.baselines)

    def next(self) -> TrialRecord | None:
        """Return the next trial, None after the last one."""
        if self._waiting:
            return self._waiting.pop(0)
        number = len(self.journal.trials)
        if number >= self.total:
            return None
        values, origin = self._point(number)
        return self.journal.suggested(number, values, origin)

    def _point(self, number: int) -> tuple[Values, str]:
        if number == 0:
            return {}, "default"
        baselines = self.config.baselines
        if number <= len(baselines):
            return {}, baselines[number - 1]
        index = number - 1 - len(baselines)
        if index < len(self.space.first):
            return dict(self.space.first[index]), "first"
        if self.config.search == "grid":
            return self._grid_point(index - len(self.space.first)), "search"
        return self._ask(number), "search"

    def _grid_point(self, index: int) -> Values:
        options = [p.domain.options for p in self.space.parameters if isinstance(p.domain, Choice)]
        point = next(itertools.islice(itertools.product(*options), index, None))
        return dict(zip(self.space.names, point, strict=True))

    def _ask(self, number: int) -> Values:
        optuna = self._optuna
        seed = (self.config.seed * 1_000_003 + number) % (2**31)
        if self.config.search == "random":
            sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=startup(self.config), multivariate=True, constant_liar=True
            )
        study = make_study(optuna, self.config, sampler)
        known = [] if self.config.search == "random" else list(self.journal.trials.values())
        for trial in known:
            frozen = frozen_trial(optuna, self.space, trial, self.config, self.defaults)
            if frozen is not None:
                study.add_trial(frozen)
        asked = study.ask(distributions(optuna, self.space))
        return {name: asked.params[name] for name in self.space.names}


def check_grid(space: Space) -> None:
    """Refuse a grid over a space that is not finite.

    Raises:
        ConfigError: a parameter is an interval.
    """
    for parameter in space.parameters:
        if not isinstance(parameter.domain, Choice):
            raise ConfigError(
                f"a grid needs finite choices, and {parameter.name} of space {space.name!r} is an interval"
            )


def startup(config: SweepConfig) -> int:
    """Random points before TPE looks at results: a quarter of the trials, at most 10."""
    return max(2, min(10, config.trials // 4))


def load_optuna() -> Any:
    """Import Optuna, quiet.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError("sweeps need Optuna: pip install 'matgen[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def make_study(optuna: Any, config: SweepConfig, sampler: Any = None) -> Any:
    """Return an empty study with the sweep's objectives: quality up, and with `pareto` cost down."""
    if config.pareto:
        return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    return optuna.create_study(direction="maximize", sampler=sampler)


def distributions(optuna: Any, space: Space) -> dict[str, Any]:
    """Return the space as Optuna's distributions."""
    made = {}
    for parameter in space.parameters:
        domain = parameter.domain
        if isinstance(domain, Choice):
            made[parameter.name] = optuna.distributions.CategoricalDistribution(domain.options)
        elif domain.whole:
            made[parameter.name] = optuna.distributions.IntDistribution(
                int(domain.low), int(domain.high), log=domain.log
            )
        else:
            made[parameter.name] = optuna.distributions.FloatDistribution(domain.low, domain.high, log=domain.log)
    return made


def frozen_trial(optuna: Any, space: Space, trial: TrialRecord, config: SweepConfig, defaults: Values) -> Any | None:
    """Return a trial as Optuna's, None where it says nothing about the space.

    One that the scheduler stopped is "pruned": TPE ranks it below those that went on, by its last rung. One that
    diverged or did not fit into memory counts as quality 0.
    """
    values = {**defaults, **trial.values}
    if trial.origin in config.baselines or set(space.names) - set(values):
        return None
    known = distributions(optuna, space)
    try:
        params = {name: values[name] for name in space.names}
        for name, distribution in known.items():
            if not distribution._contains(distribution.to_internal_repr(params[name])):
                return None
    except (ValueError, TypeError):
        return None
    state, last = optuna.trial.TrialState, trial.last
    steps = {report["rung"]: float(report["objective"]) for report in trial.reports}
    if not trial.ended:
        return optuna.trial.create_trial(state=state.RUNNING, params=params, distributions=known)
    if not last:
        return None
    if config.pareto:
        pair = [float(last["objective"]), float(last.get("cost_per_1000") or 1e9)]
        return optuna.trial.create_trial(state=state.COMPLETE, params=params, distributions=known, values=pair)
    if trial.status == "stopped":
        return optuna.trial.create_trial(
            state=state.PRUNED, params=params, distributions=known, intermediate_values=steps
        )
    return optuna.trial.create_trial(
        state=state.COMPLETE, params=params, distributions=known, value=float(last["objective"])
    )


def default_values(space: Space, experiment: dict[str, Any]) -> Values:
    """Return the values of an experiment at each parameter of a space, where it has one of the parameter's.

    Args:
        space: the parameters.
        experiment: settings as nested dicts.
    """
    found: Values = {}
    for parameter in space.parameters:
        if isinstance(parameter.domain, Choice):
            for option in parameter.domain.options:
                if all(_lookup(experiment, key) == value for key, value in parameter.settings(option).items()):
                    found[parameter.name] = option
        else:
            value = _lookup(experiment, next(iter(parameter.settings(0))))
            if value is not None and parameter.domain.low <= value <= parameter.domain.high:
                found[parameter.name] = value
    return found


def _lookup(values: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(values, dict) or name not in values:
            return None
        values = values[name]
    return values
