"""Figures of property-driven generation."""

import numpy as np
import pytest

from matgen.evaluation.achieved import achieved_metrics, compare_ways
from matgen.evaluation.table import EmptyTableError, Table


def table(achieved: list[float], predicted: float = 0.7, failed: int = 0) -> Table:
    values = np.array(achieved + [np.nan] * failed)
    status = np.array(["ok"] * len(achieved) + ["open"] * failed, dtype=object)
    return {"status": status, "achieved": values, "predicted": np.full(len(values), predicted)}


def test_figures_are_of_what_came_out() -> None:
    found = {m.name: m for m in achieved_metrics(table([0.7, 0.8, 0.9], failed=1), 0.8, np.array([0.5, 0.8, np.nan]))}
    assert found["came_out"].value == 0.75 and found["came_out"].n == 4
    assert found["achieved_mean"].value == pytest.approx(0.8) and found["achieved_mean"].n == 3
    assert found["achieved_mean"].reference_value == pytest.approx(0.65)
    assert found["miss"].value == pytest.approx(0.2 / 3)
    assert found["near"].value == pytest.approx(1 / 3) and found["near"].reference_value == pytest.approx(0.5)
    assert found["head_error"].value == pytest.approx(0.1)
    low, high = found["achieved_mean"].interval or (1, 0)
    assert low < 0.8 < high


def test_nothing_measured_is_not_run_and_never_a_number() -> None:
    found = {m.name: m for m in achieved_metrics(table([], failed=3), 0.8)}
    assert found["came_out"].value == 0.0
    assert all(found[name].status == "not run" for name in ("achieved_mean", "miss", "near", "head_error"))
    assert "miss" not in {m.name for m in achieved_metrics(table([0.5]), None)}
    with pytest.raises(EmptyTableError):
        achieved_metrics(table([]), 0.8)


def test_ways_differ_from_the_last_one() -> None:
    rng = np.random.default_rng(0)
    high, low = rng.normal(0.8, 0.05, 200).tolist(), rng.normal(0.6, 0.05, 200).tolist()
    comparison = compare_ways({"latent": table(high), "random": table(low)}, 0.8)
    (difference,) = [d for d in comparison.differences if d.name == "achieved_mean"]
    assert difference.value == pytest.approx(0.2, abs=0.02) and difference.interval[0] > 0.15
    assert difference.label.endswith("latent minus random")
    assert comparison.to_dict()["metrics"]["latent"][0]["name"] == "came_out"
    with pytest.raises(ValueError, match="two ways"):
        compare_ways({"latent": table(high)}, 0.8)
