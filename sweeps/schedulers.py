"""Who is stopped, and who takes over whose settings: Ray Tune's schedulers over the reports of a sweep."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from matgen.errors import ConfigError
from sweeps.journal import Journal, SweepConfig
from sweeps.spaces import Choice, Space, Values

Config = dict[str, Any]


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
