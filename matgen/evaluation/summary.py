"""All figures of a population in one record, as JSON: nothing is left out, what could not be run says why."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from matgen.errors import SourceError
from matgen.evaluation.coverage import MagpieScaler, coverage
from matgen.evaluation.discovery import novelty_metrics, stability_metrics, template_metrics
from matgen.evaluation.distributions import space_group_histogram
from matgen.evaluation.fingerprints import Fingerprints
from matgen.evaluation.metric import Metric, MetricGroup
from matgen.evaluation.population import (
    EvaluationConfig,
    References,
    distance_metrics,
    fidelity_metrics,
    raw_decode_metrics,
    space_group_metrics,
    validity_metrics,
    yield_metrics,
)
from matgen.evaluation.table import Table, column, num_rows

_TOOLS = ("moyopy", "pymatgen", "smact", "matminer", "numpy", "scipy")


@dataclass(frozen=True)
class Summary:
    """Figures of one population.

    metrics: in the order of the report. statuses: count of each status over all rows. space_groups: counts of detected
    groups of the samples, train and test, [230] each. config: as used. versions: of the tools; "not installed" if so.
    """

    num_samples: int
    metrics: tuple[Metric, ...]
    statuses: dict[str, int]
    space_groups: dict[str, list[int]]
    references: dict[str, str]
    config: dict[str, Any]
    versions: dict[str, str]

    def __getitem__(self, name: str) -> Metric:
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"no metric {name!r}; there are {', '.join(m.name for m in self.metrics)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain types only."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return record | {"metrics": [metric.to_dict() for metric in self.metrics]}

    def save(self, path: Path) -> None:
        """Write JSON, aside and then renamed."""
        aside = path.with_name(path.name + ".part")
        aside.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8")
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Summary":
        """Read what `save` wrote.

        Raises:
            SourceError: the file is missing or not a summary.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return cls(**(record | {"metrics": tuple(Metric.from_dict(m) for m in record["metrics"])}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{path} is not a summary of scores: {error}") from error


def summarize(
    table: Table,
    references: References,
    config: EvaluationConfig | None = None,
    *,
    sample_fingerprints: Fingerprints | None = None,
    coverage_reason: str = "no fingerprints were made",
    novelty_references: Sequence[tuple[str, str]] | None = None,
    hull: str | None = None,
) -> Summary:
    """Every crystal metric of a population of samples.

    Args:
        table: `score_structures` of all samples drawn, and where they exist the columns raw_min_distance,
            raw_min_ratio, moved_orbits (decode), component, novel_* (match_structures), e_above_hull,
            e_above_hull_initial, rmsd_to_relaxed, converged (relaxation). A metric without its column is "not run".
        references: training and test set.
        config: settings.
        sample_fingerprints: of the first `config.coverage.num_samples` samples; None: coverage is "not run".
        coverage_reason: why there are none.
        novelty_references: (NAME, words) of each column novel_NAME; default: the training set.
        hull: words for the hull that e_above_hull belongs to; None: stability is "not run".

    Raises:
        EmptyTableError: the table has no rows.
        MissingColumnError: a column of `score_structures` is missing.
    """
    config = config or EvaluationConfig()
    num_rows(table)  # refuses an empty one
    names = list(novelty_references or [("train", f"{references.train_name} ({num_rows(references.train)})")])
    metrics = (
        *yield_metrics(table, config),
        *raw_decode_metrics(table, config),
        *validity_metrics(table, references, config),
        *coverage_metrics(sample_fingerprints, coverage_reason, references, config),
        *distance_metrics(table, references, config),
        *space_group_metrics(table, references, config),
        *fidelity_metrics(table, config),
        *template_metrics(table, references, config),
        *novelty_metrics(table, config, names),
        *stability_metrics(table, config, hull, names[0][0]),
    )
    return _summary(metrics, table, references, config)


def _summary(metrics: tuple[Metric, ...], table: Table, references: References, config: EvaluationConfig) -> Summary:
    """The figures, with what they were counted over and how."""
    return Summary(
        num_samples=num_rows(table),
        metrics=metrics,
        statuses={str(k): int(v) for k, v in sorted(Counter(column(table, "status").tolist()).items())},
        space_groups=_space_group_counts(table, references),
        references={"train": references.train_name, "test": references.test_name},
        config=json.loads(json.dumps(asdict(config))),  # tuples as lists, as they are read back
        versions={tool: _version(tool) for tool in _TOOLS},
    )


def _space_group_counts(table: Table, references: References) -> dict[str, list[int]]:
    tables = {"samples": table, "train": references.train, "test": references.test}
    return {name: space_group_histogram(column(t, "space_group_detected")).tolist() for name, t in tables.items()}


def coverage_metrics(
    samples: Fingerprints | None, reason: str, references: References, config: EvaluationConfig
) -> list[Metric]:
    """Coverage recall and precision; "not run", with the reason, where there are no fingerprints."""
    group = MetricGroup("coverage", config.bootstrap)
    protocol = f"{config.coverage.protocol()}; against {references.test_name}"
    labels = (("coverage_recall", "coverage recall"), ("coverage_precision", "coverage precision"))
    if samples is None or references.test_fingerprints is None or references.train_composition is None:
        if samples is not None:
            reason = "the reference has no fingerprints"
        return [group.not_run(name, label, "share", protocol, reason) for name, label in labels]
    scaler = MagpieScaler.fit(references.train_composition)
    result = coverage(samples, references.test_fingerprints, scaler, config.coverage)
    own = None
    if references.train_fingerprints is not None:
        own = coverage(references.train_fingerprints, references.test_fingerprints, scaler, config.coverage)
    return [
        group.share("coverage_recall", "coverage recall", result.covered_reference, protocol,
                    reference=None if own is None else own.covered_reference),
        group.share("coverage_precision", "coverage precision", result.covering_sample, protocol,
                    reference=None if own is None else own.covering_sample),
    ]  # fmt: skip


def _version(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        return "not installed"


def format_summary(summary: Summary) -> str:
    """A plain text table for the terminal: value, interval, n, and the training set's own figure."""
    lines = [f"{'metric':44s} {'value':>10s}  {'95 % interval':>21s} {'n':>7s} {'train':>9s} {'same n':>9s}"]
    for metric in summary.metrics:
        if metric.status != "ok" or metric.value is None:
            lines.append(f"{metric.label[:44]:44s} {'not run':>10s}  {metric.reason}")
            continue
        interval = "" if metric.interval is None else f"{metric.interval[0]:.4g} .. {metric.interval[1]:.4g}"
        own, same = (_number(x) for x in (metric.reference_value, metric.same_n_value))
        row = f"{metric.label[:44]:44s} {metric.value:10.4g}  {interval:>21s} {metric.n:7d} {own:>9s} {same:>9s}"
        lines.append(row.rstrip())
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.4g}"
