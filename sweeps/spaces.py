"""Search spaces in code: parameters with dotted names that are checked against the experiment's dataclasses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from matgen.config import ComposedExperiment
from matgen.errors import ConfigError
from matgen.settings import from_dict, to_dict

ExperimentT = TypeVar("ExperimentT", bound=ComposedExperiment)

Value = float | int | str | bool | None
Values = dict[str, Value]
"""Parameter name -> value: one point of a space."""

TRAINING_KEYS = ("train.", "blocks.train.", "model.weights.", "blocks.model.weights.")
"""What may change in the middle of a training: everything else decides the network or the process."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some values."""

    options: tuple[Value, ...]

    @property
    def corners(self) -> tuple[Value, ...]:
        """Values that stand for all others in a check."""
        return self.options


@dataclass(frozen=True, kw_only=True)
class Range:
    """A number between two ends, both included; `log` draws its logarithm evenly, `whole` draws integers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def corners(self) -> tuple[Value, ...]:
        """Values that stand for all others in a check."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dimension of a space.

    Attributes:
        name: what results are listed under.
        domain: its values.
        keys: dotted settings that all take the value; none: the name itself is the setting.
        presets: value -> settings, where a value is a name for several settings at once.
    """

    name: str
    domain: Choice | Range
    keys: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    def settings(self, value: Value) -> dict[str, Value]:
        """Return dotted setting -> value of one value of the parameter."""
        if self.presets:
            return dict(self.presets[str(value)])
        return dict.fromkeys(self.keys or (self.name,), value)

    @property
    def in_training(self) -> bool:
        """Whether it may change while a network is being trained."""
        keys = [key for value in self.domain.corners for key in self.settings(value)]
        return all(key.startswith(TRAINING_KEYS) and not key.endswith(".batch_size") for key in keys)


def choice(name: str, *options: Value, keys: Sequence[str] = ()) -> Parameter:
    """One of some values; of several settings at once with `keys`."""
    return Parameter(name=name, domain=Choice(options=options), keys=tuple(keys))


def presets(name: str, options: Mapping[str, Mapping[str, Value]]) -> Parameter:
    """One of some named groups of settings that only make sense together."""
    return Parameter(name=name, domain=Choice(options=tuple(options)), presets=options)


def uniform(name: str, low: float, high: float) -> Parameter:
    """A number, drawn evenly."""
    return Parameter(name=name, domain=Range(low=low, high=high))


def log_uniform(name: str, low: float, high: float) -> Parameter:
    """A number above 0 whose logarithm is drawn evenly."""
    return Parameter(name=name, domain=Range(low=low, high=high, log=True))


def integers(name: str, low: int, high: int) -> Parameter:
    """A whole number."""
    return Parameter(name=name, domain=Range(low=low, high=high, whole=True))


@dataclass(frozen=True, kw_only=True)
class Space:
    """What a sweep searches.

    Attributes:
        name: for the command line.
        summary: one line for people.
        parameters: the dimensions.
        first: points tried before any other, given by some of their values; the rest are the experiment's own.
        search: how points are chosen where the command line does not say.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    first: tuple[Values, ...] = ()
    search: Literal["tpe", "random", "grid"] = "tpe"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def size(self) -> float:
        """Number of points; infinite where a parameter is continuous."""
        options = [len(p.domain.options) if isinstance(p.domain, Choice) else math.inf for p in self.parameters]
        return math.prod(options)

    def parameter(self, name: str) -> Parameter:
        """Return the parameter of a name.

        Raises:
            ConfigError: there is none.
        """
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise ConfigError(f"space {self.name!r} has no parameter {name!r} (it has: {', '.join(self.names)})")

    def only(self, names: Sequence[str] | None) -> "Space":
        """Return the space of some of its parameters, None for all; first points keep what is left of them.

        Raises:
            ConfigError: it has no parameter of such a name.
        """
        if names is None:
            return self
        chosen = tuple(self.parameter(name) for name in names)
        points = [{name: value for name, value in point.items() if name in names} for point in self.first]
        return replace(self, parameters=chosen, first=tuple(point for point in points if point))

    def check(self, experiment: ComposedExperiment) -> None:
        """Refuse a space that does not fit an experiment, before anything is run.

        Raises:
            ConfigError: it is empty, a name occurs twice, an interval is not one, or a setting does not exist or does
                not take the value.
        """
        if not self.parameters:
            raise ConfigError(f"space {self.name!r} is empty: it has no parameter")
        for parameter in self.parameters:
            if self.names.count(parameter.name) > 1:
                raise ConfigError(f"space {self.name!r} has the parameter {parameter.name!r} twice")
            _check_domain(parameter)
            for value in parameter.domain.corners:
                _assign(experiment, parameter.settings(value))
        for point in self.first:
            for name in point:
                self.parameter(name)
            self.apply(experiment, point)

    def apply(self, experiment: ExperimentT, values: Mapping[str, Value]) -> ExperimentT:
        """Return the experiment at a point of the space.

        Raises:
            ConfigError: the values do not go together.
        """
        settings: dict[str, Value] = {}
        for name, value in values.items():
            settings |= self.parameter(name).settings(value)
        return _assign(experiment, settings)


def join(name: str, summary: str, *spaces: Space) -> Space:
    """The product of several spaces; their first points come one after the other."""
    parameters = {parameter.name: parameter for space in spaces for parameter in space.parameters}
    first = [point for space in spaces for point in space.first]
    return Space(name=name, summary=summary, parameters=tuple(parameters.values()), first=tuple(first))


def find_space(name: str, spaces: Sequence[Space]) -> Space:
    """Return a space by its name.

    Raises:
        ConfigError: there is none; the message lists all.
    """
    for space in spaces:
        if space.name == name:
            return space
    raise ConfigError(f"unknown space {name!r} (there are: {', '.join(space.name for space in spaces)})")


def _check_domain(parameter: Parameter) -> None:
    domain = parameter.domain
    if isinstance(domain, Choice):
        if not domain.options:
            raise ConfigError(f"parameter {parameter.name!r} has no value to choose from")
        return
    if not domain.low <= domain.high or (domain.log and domain.low <= 0):
        raise ConfigError(f"parameter {parameter.name!r}: {domain.low} to {domain.high} is no interval")


def _assign(experiment: ExperimentT, settings: Mapping[str, Value]) -> ExperimentT:
    """Set all at once: some settings are only valid together."""
    values = to_dict(experiment)
    for key, value in settings.items():
        *path, last = key.split(".")
        place: Any = values
        for depth, name in enumerate(path):
            if not isinstance(place, dict) or name not in place:
                _unknown(experiment, key, ".".join(path[: depth + 1]), place)
            place = place[name]
        if not isinstance(place, dict):
            _unknown(experiment, key, ".".join(path), place)
        place[last] = value
    return from_dict(type(experiment), values)


def _unknown(experiment: ComposedExperiment, key: str, where: str, place: Any) -> None:
    has = f"valid: {', '.join(place)}" if isinstance(place, dict) else "it is a single value, or switched off"
    raise ConfigError(f"{key}: {type(experiment).__name__} has no settings at {where!r} ({has})")
