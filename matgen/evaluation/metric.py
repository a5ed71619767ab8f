"""One figure with what is needed to judge it: interval, n, protocol, and what the data themselves score."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from matgen.evaluation.bootstrap import BootstrapConfig, Interval, mean_interval

Better = Literal["higher", "lower", "reference"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a population of samples.

    name: key. group: heading it stands under. label: for people. unit: "share" is 0..1. value, interval: None where
    not run. n: rows it was computed from. protocol: how. better: which way is good; "reference" is nearest to the data.
    reference_value: the same figure of the training set. same_n_value: what as many draws from the training set would
    score. status: "ok" or "not run". reason: why it was not run.
    """

    name: str
    group: str
    label: str
    unit: str
    value: float | None
    interval: Interval | None
    n: int
    protocol: str
    better: Better
    reference_value: float | None = None
    same_n_value: float | None = None
    status: Literal["ok", "not run"] = "ok"
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for JSON; a number that is not finite becomes null."""
        record = asdict(self)
        for key in ("value", "reference_value", "same_n_value"):
            record[key] = _finite(record[key])
        record["interval"] = None if self.interval is None else [_finite(x) for x in self.interval]
        return record

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Metric":
        """Inverse of `to_dict`."""
        interval = record["interval"]
        return cls(**(record | {"interval": None if interval is None else (interval[0], interval[1])}))


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


@dataclass(frozen=True)
class MetricGroup:
    """Makes the metrics of one heading, so that each call says only what differs."""

    group: str
    bootstrap: BootstrapConfig

    def share(
        self,
        name: str,
        label: str,
        flags: np.ndarray,
        protocol: str,
        *,
        reference: np.ndarray | None = None,
        better: Better = "higher",
    ) -> Metric:
        """A share of rows (or a mean of weights), with the training set's own share.

        Args:
            flags: bool or float [n]; every row drawn, failed ones as 0.
            reference: the same column of the training set.
        """
        if len(flags) == 0:
            return self.not_run(name, label, "share", protocol, "no rows", better)
        values = np.asarray(flags, dtype=np.float64)
        return Metric(
            name=name, group=self.group, label=label, unit="share", value=float(values.mean()),
            interval=mean_interval(values, self.bootstrap), n=len(values), protocol=protocol, better=better,
            reference_value=None if reference is None or not len(reference) else float(np.mean(reference)),
        )  # fmt: skip

    def value(
        self,
        name: str,
        label: str,
        unit: str,
        value: float,
        interval: Interval | None,
        n: int,
        protocol: str,
        *,
        better: Better,
        reference: float | None = None,
        same_n: float | None = None,
    ) -> Metric:
        """Any other figure."""
        return Metric(
            name=name, group=self.group, label=label, unit=unit, value=value, interval=interval, n=n,
            protocol=protocol, better=better, reference_value=reference, same_n_value=same_n,
        )  # fmt: skip

    def mean(self, name: str, label: str, unit: str, values: np.ndarray, protocol: str, better: Better) -> Metric:
        """Mean of the finite ones among the values; `n` says how many they are."""
        finite = values[np.isfinite(values)]
        if not len(finite):
            return self.not_run(name, label, unit, protocol, "no row has a finite value", better)
        interval = mean_interval(finite, self.bootstrap)
        return self.value(name, label, unit, float(finite.mean()), interval, len(finite), protocol, better=better)

    def not_run(
        self, name: str, label: str, unit: str, protocol: str, reason: str, better: Better = "higher"
    ) -> Metric:
        """A metric that could not be computed, and why: never a pass, and never left out of the table."""
        return Metric(
            name=name, group=self.group, label=label, unit=unit, value=None, interval=None, n=0, protocol=protocol,
            better=better, status="not run", reason=reason,
        )  # fmt: skip
