"""Property-driven generation, held against what it was asked for: requested, predicted and achieved values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from matgen.evaluation.bootstrap import BootstrapConfig
from matgen.evaluation.metric import Metric, MetricGroup
from matgen.evaluation.sampling_modes import Difference, difference_of
from matgen.evaluation.table import Table, column, num_rows

_NEAR = 0.1  # of the target


@dataclass(frozen=True)
class PropertyComparison:
    """metrics: by way, the same names in the same order. differences: of each other way minus the last one."""

    metrics: dict[str, tuple[Metric, ...]]
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for JSON."""
        return {
            "metrics": {way: [metric.to_dict() for metric in metrics] for way, metrics in self.metrics.items()},
            "differences": [asdict(difference) for difference in self.differences],
        }


def compare_ways(
    tables: Mapping[str, Table],
    target: float | None,
    reference: np.ndarray | None = None,
    bootstrap: BootstrapConfig | None = None,
) -> PropertyComparison:
    """Does asking for a property change what comes out?

    Args:
        tables: by way, such as "latent", "conditional" and, last, "random", which asked for nothing.
        target: value that was asked for; None where as much or as little as possible was.
        reference: values of the training set.
        bootstrap: of the intervals.

    Raises:
        EmptyTableError: a table is empty.
        ValueError: fewer than two ways.
    """
    if len(tables) < 2:
        raise ValueError(f"a comparison needs two ways, not {sorted(tables)}")
    metrics = {way: achieved_metrics(table, target, reference, bootstrap) for way, table in tables.items()}
    *others, base = metrics
    found = [difference_of(a, b, way, base) for way in others for a, b in zip(metrics[way], metrics[base], strict=True)]
    return PropertyComparison(metrics, tuple(item for item in found if item is not None))


def achieved_metrics(
    table: Table,
    target: float | None,
    reference: np.ndarray | None = None,
    bootstrap: BootstrapConfig | None = None,
) -> tuple[Metric, ...]:
    """Figures of one population.

    Args:
        table: one row for each framework drawn, failed ones included: `status`, `predicted` (of the latent, by the
            model) and `achieved` (measured on the framework that came out; NaN where there is none).
        target: value that was asked for; None where as much or as little as possible was.
        reference: values of the training set.
        bootstrap: of the intervals.

    Raises:
        EmptyTableError: the table has no rows.
    """
    count = num_rows(table)
    group = MetricGroup("property", bootstrap or BootstrapConfig())
    achieved, predicted = (column(table, name).astype(np.float64) for name in ("achieved", "predicted"))
    measured = np.isfinite(achieved)
    came_out = column(table, "status") == "ok"
    after = "measured on the frameworks that came out"
    metrics = [
        group.share("came_out", "frameworks that came out", came_out, f"closed without clashes, of all {count} drawn"),
        group.mean("predicted_mean", "predicted value", "", predicted, "property head, of all drawn", "reference"),
        group.mean("achieved_mean", "achieved value", "", achieved, after, "reference"),
        group.mean("head_error", "|achieved - predicted|", "", np.abs(achieved - predicted), after, "lower"),
    ]
    if reference is not None and np.isfinite(reference).any():
        metrics[2] = replace(metrics[2], reference_value=float(np.nanmean(reference)))
    if target is None:
        return tuple(metrics)
    miss = np.abs(achieved - target)
    own = None if reference is None else np.abs(reference[np.isfinite(reference)] - target) <= _NEAR * abs(target)
    near = f"within {_NEAR:.0%} of the target {target:g}, {after}"
    return (
        *metrics,
        group.mean("miss", "|achieved - target|", "", miss, f"target {target:g}, {after}", "lower"),
        group.share("near", "near the target", miss[measured] <= _NEAR * abs(target), near, reference=own),
    )
