import numpy as np
import pytest

from matgen.evaluation.bootstrap import BootstrapConfig
from matgen.evaluation.class_counts import count_classes, is_new_class, unseen_classes


def texts(values) -> np.ndarray:
    return np.array([str(v) for v in values], dtype=object)


def test_counts_by_hand():
    samples = texts(["a", "a", "b", "c", "d", ""])
    reference = texts(["a", "b", "", "x"])
    counts = count_classes(samples, reference, BootstrapConfig(num_resamples=50))
    assert (counts.unique, counts.new, counts.reference_unique) == (4, 2, 3)
    assert counts.known_share == 0.5
    assert counts.expected_of_reference == pytest.approx(3 * (1 - (2 / 3) ** 5))
    assert is_new_class(samples, reference).tolist() == [False, False, False, True, True, False]


def test_unseen_classes_against_the_published_formulas():
    sizes = np.array([1] * 6 + [2] * 3 + [7])  # n = 19, f1 = 6, f2 = 3
    unseen, share = unseen_classes(sizes)
    assert unseen == pytest.approx(18 / 19 * 36 / 6)
    assert share == pytest.approx(6 / 19 * (18 * 6) / (18 * 6 + 2 * 3))
    assert unseen_classes(np.array([4, 5])) == (0.0, 0.0)


def test_intervals_cover_the_mean_number_of_classes():
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 801)
    weights /= weights.sum()
    draws = [rng.choice(800, size=500, p=weights) for _ in range(60)]
    mean_unique = np.mean([len(np.unique(d)) for d in draws])
    mean_new = np.mean([(np.unique(d) % 2).sum() for d in draws])
    reference = texts(range(0, 800, 2))
    hits_unique = hits_new = 0
    for draw in draws:
        counts = count_classes(texts(draw), reference, BootstrapConfig(num_resamples=100))
        hits_unique += counts.unique_interval[0] <= mean_unique <= counts.unique_interval[1]
        hits_new += counts.new_interval[0] <= mean_new <= counts.new_interval[1]
    assert hits_unique >= 49 and hits_new >= 49  # of 60, nominal 57


def test_all_seen_often_leaves_no_doubt_and_all_different_leaves_some():
    config = BootstrapConfig(num_resamples=50)
    sure = count_classes(texts(np.repeat(range(10), 50)), texts([]), config)
    assert sure.unique_interval == (10, 10) and sure.expected_of_reference is None
    different = count_classes(texts(range(1000)), texts(range(500)), config)
    assert different.unique == 1000 and 0.45 < different.known_share < 0.55
    assert different.new_interval[0] < 500 < different.new_interval[1]
