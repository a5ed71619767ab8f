"""The objective: bounded, higher for better samples, with an interval that holds its value."""

import numpy as np
import pytest

from matgen.evaluation.bootstrap import BootstrapConfig
from sweeps.budget import BudgetConfig
from sweeps.quality import Sampled, closeness, mean_quality, quality

REFERENCE = {"density": np.random.default_rng(0).normal(5.0, 1.0, 500)}


def samples(share: float, shift: float, count: int = 200, failed: float = 0.0) -> Sampled:
    rng = np.random.default_rng(1)
    density = rng.normal(5.0 + shift, 1.0, count)
    density[: int(failed * count)] = np.nan
    return Sampled(flags={"strict": np.arange(count) < share * count}, values={"density": density})


def test_formula() -> None:
    found = quality(samples(0.25, 0.0), REFERENCE)
    assert found.parts["strict"] == 0.25
    assert found.value == pytest.approx(np.mean([0.25, found.parts["density"]]))
    assert found.low < found.value < found.high
    assert found.num_samples == 200


def test_distance_is_counted_in_spreads_of_the_data() -> None:
    far = closeness(np.full(50, 8.0), np.array([4.0, 6.0] * 50))  # d = 3, spread = 1
    assert far == pytest.approx(np.exp(-3.0), rel=1e-9)
    assert closeness(REFERENCE["density"], REFERENCE["density"]) == pytest.approx(1.0)


def test_failed_samples_count_as_nothing() -> None:
    good, half = quality(samples(0.5, 0.0), REFERENCE), quality(samples(0.5, 0.0, failed=0.5), REFERENCE)
    assert half.parts["density"] < 0.55 < good.parts["density"]
    nothing = Sampled(flags={"strict": np.zeros(9, dtype=bool)}, values={"density": np.full(9, np.nan)})
    assert quality(nothing, REFERENCE).value == 0.0


def test_more_samples_narrow_the_interval() -> None:
    widths = []
    for count in (50, 800):
        found = quality(samples(0.5, 0.5, count), REFERENCE, BootstrapConfig(num_resamples=200))
        widths.append(found.high - found.low)
    assert widths[1] < 0.5 * widths[0]


def test_seeds_widen_the_interval_of_a_mean() -> None:
    alike = mean_quality([0.5, 0.5], [0.45, 0.45], [0.55, 0.55])
    apart = mean_quality([0.4, 0.6], [0.35, 0.55], [0.45, 0.65])
    assert alike.value == apart.value == 0.5
    assert apart.high - apart.low > 2 * (alike.high - alike.low)


def test_rungs_lie_at_equal_cost_whatever_the_batch() -> None:
    budget = BudgetConfig(amount=9_000, num_rungs=3, reduction=3)
    assert budget.costs == (1000, 3000, 9000)
    for batch in (10, 50, 250):
        assert [steps * batch for steps in budget.steps(batch)] == [1000, 3000, 9000]


def test_a_budget_in_seconds_gives_a_slow_model_fewer_steps() -> None:
    budget = BudgetConfig(unit="seconds", amount=90, num_rungs=2)
    assert budget.steps(64, seconds_per_step=0.1) == (300, 900)
    assert budget.steps(64, seconds_per_step=1.0) == (30, 90)


def test_even_rungs_of_a_population() -> None:
    budget = BudgetConfig(amount=8_000).even(4)
    assert budget.costs == (2000, 4000, 6000, 8000)
    assert budget.steps(100) == (20, 40, 60, 80)
