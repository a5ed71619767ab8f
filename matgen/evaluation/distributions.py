"""How far a distribution of samples is from that of the data."""

import numpy as np
from scipy.spatial.distance import jensenshannon

from matgen.evaluation.bootstrap import BootstrapConfig, Interval, centred_interval, resample_counts

NUM_SPACE_GROUPS = 230


def wasserstein(values: np.ndarray, reference: np.ndarray) -> float:
    """1-D Wasserstein distance of two samples, in their unit.

    Args:
        values: [n] finite.
        reference: [m] finite.
    """
    grid, weights_v, weights_r = _on_common_grid(values, reference)
    return float(_grid_distance(weights_v[None] / len(values), weights_r / len(reference), np.diff(grid))[0])


def wasserstein_interval(values: np.ndarray, reference: np.ndarray, config: BootstrapConfig) -> Interval:
    """Bootstrap interval of `wasserstein` over draws of `values`; the reference is held fixed."""
    grid, _, weights_r = _on_common_grid(values, reference)
    steps = np.diff(grid)
    order = np.argsort(values, kind="stable")
    starts = np.searchsorted(values[order], grid)  # resampled weights are summed between these bounds
    replicates = []
    for counts in resample_counts(len(values), config):
        cumulative = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts[:, order], axis=1)], axis=1)
        upto = cumulative[:, np.append(starts[1:], len(values))]
        difference = np.abs(upto[:, :-1] / len(values) - np.cumsum(weights_r)[:-1] / len(reference))
        replicates.append(difference @ steps)
    low, high = centred_interval(wasserstein(values, reference), np.concatenate(replicates), config)
    return max(low, 0.0), high


def wasserstein_floor(reference: np.ndarray, source: np.ndarray, num: int, seed: int = 0) -> float:
    """Mean Wasserstein distance to the reference of `num` draws from another sample (the training set)."""
    rng = np.random.default_rng([seed, num])
    draws = [rng.choice(source, size=num) for _ in range(20)]
    return float(np.mean([wasserstein(draw, reference) for draw in draws]))


def _on_common_grid(values: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    grid, inverse = np.unique(np.concatenate([values, reference]), return_inverse=True)
    split = len(values)
    size = len(grid)
    return grid, np.bincount(inverse[:split], minlength=size), np.bincount(inverse[split:], minlength=size)


def _grid_distance(first: np.ndarray, second: np.ndarray, steps: np.ndarray) -> np.ndarray:
    difference = np.cumsum(first, axis=1) - np.cumsum(second)
    return np.abs(difference[:, :-1]) @ steps


def space_group_histogram(space_groups: np.ndarray) -> np.ndarray:
    """Counts of groups 1..230, one bin each (229 and 230 apart); 0, "none found", is not counted."""
    groups = np.asarray(space_groups, dtype=np.int64)
    return np.bincount(groups[groups > 0], minlength=NUM_SPACE_GROUPS + 1)[1:]


def jensen_shannon(counts: np.ndarray, reference_counts: np.ndarray) -> float:
    """Jensen-Shannon distance (the square root of the divergence, base e) of two histograms over the same bins."""
    return float(jensenshannon(counts, reference_counts, base=np.e))


def jensen_shannon_interval(counts: np.ndarray, reference_counts: np.ndarray, config: BootstrapConfig) -> Interval:
    """Bootstrap interval of `jensen_shannon` over draws of the first histogram; the reference is held fixed."""
    num = int(counts.sum())
    rng = np.random.default_rng([config.seed, num])
    draws = rng.multinomial(num, counts / num, size=config.num_resamples)
    replicates = jensenshannon(draws, reference_counts[None], base=np.e, axis=1)
    low, high = centred_interval(jensen_shannon(counts, reference_counts), replicates, config)
    return max(low, 0.0), high


def jensen_shannon_floor(reference_counts: np.ndarray, source_counts: np.ndarray, num: int, seed: int = 0) -> float:
    """Mean Jensen-Shannon distance to the reference of `num` draws from another histogram (the training set's).

    This is what a perfect model would score with as many samples: a finite draw is never at distance 0.
    """
    rng = np.random.default_rng([seed, num])
    draws = rng.multinomial(num, source_counts / source_counts.sum(), size=200)
    return float(jensenshannon(draws, reference_counts[None], base=np.e, axis=1).mean())


def chi_squared(counts: np.ndarray, reference_counts: np.ndarray) -> tuple[float, float]:
    """Chi-squared distance of space-group frequencies, and the share of samples in groups unknown to the reference.

    Args:
        counts, reference_counts: histograms over the same bins.

    Returns:
        (sum over bins of the reference of (p - q)^2 / q, share outside). Divided by nothing: 0 for equal frequencies.
        Groups that the reference lacks would make it infinite; their share is the second number.
    """
    known = reference_counts > 0
    p = counts / counts.sum()
    q = reference_counts / reference_counts.sum()
    return float((((p - q) ** 2)[known] / q[known]).sum()), float(p[~known].sum())


def chi_squared_interval(counts: np.ndarray, reference_counts: np.ndarray, config: BootstrapConfig) -> Interval:
    """Bootstrap interval of the first number of `chi_squared`; the reference is held fixed."""
    num = int(counts.sum())
    known = reference_counts > 0
    q = (reference_counts / reference_counts.sum())[known]
    rng = np.random.default_rng([config.seed, num])
    draws = rng.multinomial(num, counts / num, size=config.num_resamples)[:, known] / num
    replicates = ((draws - q) ** 2 / q).sum(1)
    low, high = centred_interval(chi_squared(counts, reference_counts)[0], replicates, config)
    return max(low, 0.0), high


def entropy(counts: np.ndarray) -> float:
    """Shannon entropy of a histogram in nats; exp of it is the effective number of bins."""
    p = counts[counts > 0] / counts.sum()
    return abs(float((p * np.log(p)).sum()))


def entropy_interval(counts: np.ndarray, config: BootstrapConfig) -> Interval:
    """Bootstrap interval of `entropy`."""
    num = int(counts.sum())
    rng = np.random.default_rng([config.seed, num])
    draws = rng.multinomial(num, counts / num, size=config.num_resamples) / num
    logs = np.log(np.where(draws > 0, draws, 1.0))
    low, high = centred_interval(entropy(counts), -(draws * logs).sum(1), config)
    return max(low, 0.0), high


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Total variation distance of two distributions over the same bins: the share of mass to be moved, 0..1."""
    return 0.5 * float(np.abs(first - second).sum())


def element_shares_interval(shares: np.ndarray, reference: np.ndarray, config: BootstrapConfig) -> Interval:
    """Bootstrap interval of the total variation distance between mean element shares and a fixed reference.

    Args:
        shares: float[n, elements], share of each element in each structure.
        reference: float[elements], mean shares of the data.
    """
    draws = resample_counts(len(shares), config)
    replicates = np.concatenate([0.5 * np.abs(counts @ shares / len(shares) - reference).sum(1) for counts in draws])
    low, high = centred_interval(total_variation(shares.mean(0), reference), replicates, config)
    return max(low, 0.0), min(high, 1.0)
