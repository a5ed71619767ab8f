"""How many distinct classes (templates, space groups) a sample shows, and how sure that number is."""

from dataclasses import dataclass

import numpy as np

from matgen.evaluation.bootstrap import BootstrapConfig, Interval, centred_interval


@dataclass(frozen=True)
class ClassCounts:
    """unique: number of classes seen. new: those of them outside the reference. known_share: 1 - new / unique.

    expected_of_reference: classes that as many draws from the reference would show (None without one).
    """

    unique: int
    unique_interval: Interval
    new: int
    new_interval: Interval
    known_share: float
    known_share_interval: Interval
    expected_of_reference: float | None
    reference_unique: int


def is_new_class(texts: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """bool[n]: the row has a class, and no reference structure has it."""
    return (texts != "") & ~np.isin(texts.astype(np.str_), np.unique(reference.astype(np.str_)))


def count_classes(texts: np.ndarray, reference: np.ndarray, config: BootstrapConfig) -> ClassCounts:
    """Distinct classes among samples, and how many of them a reference lacks.

    Resampling the rows would always find fewer classes than were seen, so that the resamples are drawn from an estimate
    that leaves room for the unseen: Chao's number of unseen classes share the estimated mass of what was not seen.

    Args:
        texts: class of each sample, "" for none; at least one is not "".
        reference: class of each reference structure, "" for none.
        config: resamples.

    Source: Chao & Jost, Methods Ecol. Evol. 2015, 6, 873 (bootstrap); Chao 1984 (unseen classes).
    """
    present = texts[texts != ""].astype(np.str_)
    names, sizes = np.unique(present, return_counts=True)
    known, known_sizes = np.unique(reference[reference != ""].astype(np.str_), return_counts=True)
    is_new = ~np.isin(names, known)
    unique, new = _replicates(sizes, is_new, config)
    share = 1.0 - float(is_new.mean())
    low, high = centred_interval(share, 1.0 - new / np.maximum(unique, 1), config)
    expected = None
    if len(known):
        expected = float((1.0 - (1.0 - known_sizes / known_sizes.sum()) ** len(present)).sum())
    return ClassCounts(
        len(names),
        _at_least_zero(centred_interval(float(len(names)), unique, config)),
        int(is_new.sum()),
        _at_least_zero(centred_interval(float(is_new.sum()), new, config)),
        share,
        (max(low, 0.0), min(high, 1.0)),
        expected,
        len(known),
    )


def unseen_classes(sizes: np.ndarray) -> tuple[float, float]:
    """(estimated number of classes that were not seen, estimated share of the population that they hold).

    Args:
        sizes: how often each class that was seen was seen.

    Source: Chao & Jost 2015, equations 4 and 5.
    """
    num = int(sizes.sum())
    once, twice = int((sizes == 1).sum()), int((sizes == 2).sum())
    if once == 0 or num < 2:
        return 0.0, 0.0
    if twice > 0:
        unseen = (num - 1) / num * once**2 / (2 * twice)
        share = once / num * ((num - 1) * once) / ((num - 1) * once + 2 * twice)
    else:
        unseen = (num - 1) / num * once * (once - 1) / 2
        share = once / num * ((num - 1) * (once - 1)) / ((num - 1) * (once - 1) + 2)
    return unseen, share


def _replicates(sizes: np.ndarray, is_new: np.ndarray, config: BootstrapConfig) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of unique and of new classes in each resample."""
    num = int(sizes.sum())
    unseen, unseen_share = unseen_classes(sizes)
    unseen_count = int(np.ceil(unseen))
    relative = sizes / num
    rare = relative * (1.0 - relative) ** num
    seen = relative - (unseen_share * rare / rare.sum() if rare.sum() > 0 else 0.0)
    seen = np.maximum(seen, 0.0)
    singles = sizes == 1
    new_among_unseen = float(is_new[singles].mean()) if singles.any() else 0.0
    rng = np.random.default_rng([config.seed, num, len(sizes)])
    unique, new = np.empty(config.num_resamples), np.empty(config.num_resamples)
    for i in range(config.num_resamples):
        outside = int(rng.binomial(num, unseen_share)) if unseen_count else 0
        drawn = rng.multinomial(num - outside, seen / seen.sum()) > 0 if outside < num else np.zeros(len(sizes), bool)
        extra = np.unique(rng.integers(0, max(unseen_count, 1), size=outside))
        unique[i] = drawn.sum() + len(extra)
        new[i] = (drawn & is_new).sum() + (extra < new_among_unseen * unseen_count).sum()
    return unique, new


def _at_least_zero(interval: Interval) -> Interval:
    return max(interval[0], 0.0), interval[1]
