"""Bootstrap intervals: how much a figure would move with another draw of as many samples."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_CELLS_PER_CHUNK = 5_000_000


@dataclass(frozen=True, kw_only=True)
class BootstrapConfig:
    """Number of resamples, level of the interval, and the seed that makes it repeatable."""

    num_resamples: int = 1000
    level: float = 0.95
    seed: int = 0

    def protocol(self) -> str:
        """One line for the table."""
        return f"{self.level:.0%} centred percentile bootstrap, {self.num_resamples} resamples, seed {self.seed}"


Interval = tuple[float, float]


def resample_counts(num: int, config: BootstrapConfig) -> Iterator[np.ndarray]:
    """How often each of `num` rows is drawn, in chunks float64[resamples, num]; each row of a chunk sums to `num`."""
    rng = np.random.default_rng([config.seed, num])
    left = config.num_resamples
    chunk = max(1, _CELLS_PER_CHUNK // num)
    while left > 0:
        size = min(chunk, left)
        draws = rng.integers(0, num, size=(size, num)) + num * np.arange(size)[:, None]
        yield np.bincount(draws.ravel(), minlength=size * num).reshape(size, num).astype(np.float64)
        left -= size


def centred_interval(value: float, replicates: np.ndarray, config: BootstrapConfig) -> Interval:
    """Interval from the spread of replicates about their own mean, laid around the value.

    Distances between histograms are biased upwards by resampling, so that a plain percentile interval may exclude the
    value itself; taking the spread only avoids that, and for means it is the plain percentile interval.

    Args:
        value: the figure computed from all rows.
        replicates: the same figure from each resample.
    """
    tail = (1.0 - config.level) / 2.0
    low, high = np.quantile(replicates - replicates.mean(), [tail, 1.0 - tail])
    return float(value + low), float(value + high)


def mean_interval(values: np.ndarray, config: BootstrapConfig) -> Interval:
    """Bootstrap interval of a mean (of a share, if the values are 0 and 1).

    A share of 0 or 1 has no spread to resample: there the exact (Clopper-Pearson) bound is given instead.

    Args:
        values: [n] finite, n >= 1.
    """
    values = np.asarray(values, dtype=np.float64)
    num = len(values)
    mean = float(values.mean())
    if np.isin(values, (0.0, 1.0)).all():
        return _share_interval(int(values.sum()), num, config)
    replicates = np.concatenate([counts @ values / num for counts in resample_counts(num, config)])
    return centred_interval(mean, replicates, config)


def _share_interval(hits: int, num: int, config: BootstrapConfig) -> Interval:
    """A resample of 0/1 rows is one binomial number, so nothing need be resampled row by row."""
    tail = (1.0 - config.level) / 2.0
    if hits in (0, num):
        bound = tail ** (1.0 / num)
        return (0.0, 1.0 - bound) if hits == 0 else (bound, 1.0)
    rng = np.random.default_rng([config.seed, num])
    low, high = centred_interval(
        hits / num, rng.binomial(num, hits / num, size=max(config.num_resamples, 10_000)) / num, config
    )
    return max(low, 0.0), min(high, 1.0)
