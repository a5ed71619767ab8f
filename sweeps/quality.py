"""The objective: one number for the samples of a model, with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from matgen.evaluation.bootstrap import BootstrapConfig, centred_interval
from matgen.evaluation.distributions import wasserstein

FORMULA = "mean of its parts, each between 0 (bad) and 1; of every sample drawn, failed ones as 0"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How good samples are.

    Attributes:
        value: mean of the parts, 0..1; higher is better.
        low, high: 95 % bootstrap interval over samples.
        num_samples: drawn.
        parts: by name, each 0..1.
    """

    value: float
    low: float
    high: float
    num_samples: int
    parts: dict[str, float]


@dataclass(frozen=True, eq=False)
class Sampled:
    """What is known of the samples of a model, one row each.

    Attributes:
        flags: name -> bool[n]; their shares are parts.
        values: name -> float[n], NaN for a failed sample; exp(-d / spread) is a part, d being the 1-D Wasserstein
            distance to the reference and spread the reference's standard deviation.
    """

    flags: Mapping[str, np.ndarray]
    values: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(next(iter([*self.flags.values(), *self.values.values()])))


def quality(sampled: Sampled, reference: Mapping[str, np.ndarray], config: BootstrapConfig | None = None) -> Quality:
    """Judge samples.

    A plain mean rather than a product: early in training single parts are 0, and then a product could not tell which
    of two models is on its way.

    Args:
        sampled: at least one row.
        reference: name -> finite values of the data, for each of `sampled.values`.
        config: number of resamples, level and seed.
    """
    config = config or BootstrapConfig(num_resamples=200)
    num = len(sampled)
    rows = np.arange(num)
    parts = _parts(sampled, reference, rows)
    value = float(np.mean(list(parts.values())))
    rng = np.random.default_rng([config.seed, num])
    draws = [rng.integers(0, num, size=num) for _ in range(config.num_resamples)]
    replicates = np.array([np.mean(list(_parts(sampled, reference, draw).values())) for draw in draws])
    low, high = centred_interval(value, replicates, config)
    return Quality(value=value, low=max(low, 0.0), high=min(high, 1.0), num_samples=num, parts=parts)


def closeness(values: np.ndarray, reference: np.ndarray) -> float:
    """exp(-d / spread) of the values that are finite, times their share; 0 where there is none."""
    finite = values[np.isfinite(values)]
    spread = float(np.std(reference)) or 1.0
    if not len(finite) or not len(reference):
        return 0.0
    return float(np.exp(-wasserstein(finite, reference) / spread)) * len(finite) / len(values)


def _parts(sampled: Sampled, reference: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, float]:
    shares = {name: float(np.mean(flags[rows])) for name, flags in sampled.flags.items()}
    return shares | {name: closeness(values[rows], reference[name]) for name, values in sampled.values.items()}


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over trainings that differ in their seeds, with an interval over samples and seeds."""

    value: float
    low: float
    high: float
    num: int


def mean_quality(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> Mean:
    """Average the qualities of several trainings of one configuration.

    The interval adds what samples leave open (their bootstrap intervals) and, from two seeds on, what the spread of
    the seeds leaves open; of two or three seeds that spread is itself a rough guess.
    """
    num = len(values)
    value = float(np.mean(values))
    half = np.mean([(high - low) / 2 for low, high in zip(lows, highs, strict=True)]) / np.sqrt(num)
    spread = 1.96 * float(np.std(values, ddof=1)) / np.sqrt(num) if num > 1 else 0.0
    wide = float(np.hypot(half, spread)) if num > 1 else float(half)
    return Mean(value=value, low=max(value - wide, 0.0), high=min(value + wide, 1.0), num=num)
