import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from scipy.stats import wasserstein_distance

from matgen.evaluation.bootstrap import BootstrapConfig, centred_interval, mean_interval, resample_counts
from matgen.evaluation.distributions import (
    chi_squared,
    chi_squared_interval,
    element_shares_interval,
    entropy,
    entropy_interval,
    jensen_shannon,
    jensen_shannon_floor,
    jensen_shannon_interval,
    space_group_histogram,
    total_variation,
    wasserstein,
    wasserstein_floor,
    wasserstein_interval,
)

CONFIG = BootstrapConfig(num_resamples=200)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.lists(st.floats(-50, 50), min_size=1, max_size=30))
def test_wasserstein_is_scipys(first, second):
    expected = wasserstein_distance(first, second)
    assert wasserstein(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-9)


def test_groups_229_and_230_have_bins_of_their_own():
    histogram = space_group_histogram(np.array([229, 230, 230, 1, 0]))
    assert histogram.shape == (230,) and histogram[228] == 1 and histogram[229] == 2 and histogram[0] == 1
    assert histogram.sum() == 4  # "none found" is no group
    only_229, only_230 = (space_group_histogram(np.array([g] * 10)) for g in (229, 230))
    assert jensen_shannon(only_229, only_230) == pytest.approx(np.sqrt(np.log(2)))


def test_jensen_shannon_is_the_distance_in_base_e():
    rng = np.random.default_rng(0)
    p, q = rng.integers(0, 20, 230), rng.integers(0, 20, 230)
    mean = (p / p.sum() + q / q.sum()) / 2
    divergence = (scipy_entropy(p, mean) + scipy_entropy(q, mean)) / 2
    assert jensen_shannon(p, q) == pytest.approx(np.sqrt(divergence)) == jensenshannon(p, q, base=np.e)
    assert jensen_shannon(p, p) == 0


def test_chi_squared_leaves_out_groups_that_the_reference_lacks():
    value, outside = chi_squared(np.array([50, 40, 10]), np.array([50, 50, 0]))
    assert value == pytest.approx(0.1**2 / 0.5) and outside == pytest.approx(0.1)
    low, high = chi_squared_interval(np.array([50, 40, 10]), np.array([50, 50, 0]), CONFIG)
    assert low <= value <= high


def test_entropy_and_total_variation():
    assert entropy(np.array([5, 5, 0])) == pytest.approx(np.log(2)) and entropy(np.array([9])) == 0
    low, high = entropy_interval(np.array([50, 50]), CONFIG)
    assert low <= np.log(2) <= high
    assert total_variation(np.array([1.0, 0]), np.array([0, 1.0])) == 1


def test_resamples_have_as_many_rows_and_can_be_repeated():
    first, second = (np.concatenate(list(resample_counts(7, CONFIG))) for _ in range(2))
    assert first.shape == (200, 7) and (first.sum(1) == 7).all() and (first == second).all()
    assert len(np.unique(first, axis=0)) > 150


@pytest.mark.parametrize("sampler", [lambda rng: rng.random(300) < 0.3, lambda rng: rng.exponential(1.0, 300)])
def test_intervals_of_a_mean_cover_the_truth_about_as_often_as_they_say(sampler):
    rng = np.random.default_rng(3)
    truth = sampler(np.random.default_rng(0)).mean() * 0 + (0.3 if sampler(rng).dtype == bool else 1.0)
    hits = 0
    for seed in range(200):
        low, high = mean_interval(sampler(rng), BootstrapConfig(num_resamples=200, seed=seed))
        hits += low <= truth <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_interval_of_a_share_at_its_bounds_is_not_a_point():
    low, high = mean_interval(np.zeros(100), CONFIG)
    assert low == 0 and high == pytest.approx(1 - 0.025**0.01)
    low, high = mean_interval(np.ones(100), CONFIG)
    assert high == 1 and low == pytest.approx(0.025**0.01)


def test_intervals_of_distances_hold_the_value_and_shrink_with_n():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=4000)
    widths = []
    for num in (100, 1600):
        values = rng.normal(0.5, 1.0, size=num)
        low, high = wasserstein_interval(values, reference, CONFIG)
        assert low <= wasserstein(values, reference) <= high
        assert low <= 0.5 <= high
        widths.append(high - low)
    assert 2.5 < widths[0] / widths[1] < 6.5  # four times narrower


def test_resampled_wasserstein_is_that_of_the_resampled_rows():
    rng = np.random.default_rng(2)
    values, reference = rng.integers(0, 5, 40).astype(float), rng.integers(0, 6, 30).astype(float)
    config = BootstrapConfig(num_resamples=50)
    direct = []
    for counts in resample_counts(40, config):
        for row in counts:
            direct.append(wasserstein_distance(np.repeat(values, row.astype(int)), reference))
    low, high = centred_interval(wasserstein(values, reference), np.array(direct), config)
    assert wasserstein_interval(values, reference, config) == pytest.approx((max(low, 0.0), high))


def test_a_finite_draw_of_the_reference_itself_is_not_at_distance_zero():
    rng = np.random.default_rng(4)
    source = rng.multinomial(20_000, np.full(50, 0.02))
    few, many = (jensen_shannon_floor(source, source, n) for n in (100, 10_000))
    assert few > 3 * many > 0
    assert wasserstein_floor(np.arange(100.0), np.arange(100.0), 50) > 0
    low, high = jensen_shannon_interval(source, source, CONFIG)
    assert low == 0 and high < 0.05


def test_interval_of_element_shares():
    rng = np.random.default_rng(5)
    shares = rng.dirichlet([1, 1, 1], size=400)
    reference = np.array([0.5, 0.25, 0.25])
    low, high = element_shares_interval(shares, reference, CONFIG)
    assert low < total_variation(shares.mean(0), reference) < high < 0.25
