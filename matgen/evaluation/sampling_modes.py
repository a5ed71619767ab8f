"""Free sampling against sampling from templates of the training set: diversity and novelty, side by side."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from matgen.evaluation.bootstrap import Interval
from matgen.evaluation.class_counts import count_classes, is_new_class
from matgen.evaluation.distributions import (
    entropy,
    entropy_interval,
    jensen_shannon,
    jensen_shannon_interval,
    space_group_histogram,
)
from matgen.evaluation.metric import Better, Metric, MetricGroup
from matgen.evaluation.population import EvaluationConfig, References
from matgen.evaluation.stability import representative_weights
from matgen.evaluation.table import Table, column, num_rows


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of the first mode minus the same of the second; the interval adds the two in quadrature."""

    name: str
    label: str
    value: float
    interval: Interval


@dataclass(frozen=True)
class ModeComparison:
    """metrics: by mode, the same names in the same order. histograms: counts of groups 1..230, [230], of each mode's
    drawn and detected groups ("MODE drawn", "MODE detected") and of the training set ("train")."""

    metrics: dict[str, tuple[Metric, ...]]
    differences: tuple[Difference, ...]
    histograms: dict[str, list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, for JSON."""
        return {
            "metrics": {mode: [metric.to_dict() for metric in metrics] for mode, metrics in self.metrics.items()},
            "differences": [asdict(difference) for difference in self.differences],
            "histograms": self.histograms,
        }


def compare_sampling_modes(
    tables: Mapping[str, Table], references: References, config: EvaluationConfig | None = None
) -> ModeComparison:
    """Is each mode diverse in space groups, and is it novel?

    Args:
        tables: by mode (such as "free" and "template"; differences are first minus each other one): scores with
            space_group_requested = the group drawn, and the columns of `match_structures` (component, novel_train).
        references: the training set is what diversity and novelty are held against.
        config: settings.

    Raises:
        EmptyTableError, MissingColumnError: a table is empty, or was not matched.
        ValueError: fewer than two modes.
    """
    config = config or EvaluationConfig()
    if len(tables) < 2:
        raise ValueError(f"a comparison needs two modes, not {sorted(tables)}")
    train = space_group_histogram(column(references.train, "space_group_detected"))
    metrics: dict[str, tuple[Metric, ...]] = {}
    histograms = {"train": train.tolist()}
    for mode, table in tables.items():
        num_rows(table)
        drawn = space_group_histogram(column(table, "space_group_requested"))
        detected = space_group_histogram(column(table, "space_group_detected"))
        histograms |= {f"{mode} drawn": drawn.tolist(), f"{mode} detected": detected.tolist()}
        metrics[mode] = (
            *_diversity("detected", detected, train, references.train_name, config),
            *_diversity("drawn", drawn, train, references.train_name, config),
            *_novelty(table, references, config),
        )
    first, *others = metrics
    differences = [
        difference_of(a, b, first, other) for other in others for a, b in zip(metrics[first], metrics[other])
    ]
    return ModeComparison(metrics, tuple(d for d in differences if d is not None), histograms)


def _diversity(
    kind: str, counts: np.ndarray, train: np.ndarray, train_name: str, config: EvaluationConfig
) -> list[Metric]:
    group = MetricGroup(f"space groups, {kind}", config.bootstrap)
    detected = f"groups detected at symprec {config.score.symmetry.symprec} Å"
    how = detected if kind == "detected" else "groups drawn for sampling (the baseline)"
    num = int(counts.sum())
    distance = f"Jensen-Shannon distance, base e, to {train_name}; {how}"
    specs: tuple[tuple[str, str, str, str, Better], ...] = (
        ("unique", "number of groups", "count", f"{how}; grows with n", "higher"),
        ("entropy", "entropy of groups", "nat", how, "higher"),
        ("js_train", "d space group to train", "nat^0.5", distance, "lower"),
    )
    if num == 0:
        return [
            group.not_run(f"{kind}_{s[0]}", f"{s[1]}, {kind}", s[2], s[3], f"no groups {kind}", s[4]) for s in specs
        ]
    groups = count_classes(_as_texts(counts), _as_texts(train), config.bootstrap)
    values = (
        (groups.unique, groups.unique_interval, groups.reference_unique, groups.expected_of_reference),
        (entropy(counts), entropy_interval(counts, config.bootstrap), entropy(train), None),
        (jensen_shannon(counts, train), jensen_shannon_interval(counts, train, config.bootstrap), 0.0, None),
    )
    return [
        group.value(
            f"{kind}_{name}", f"{label}, {kind}", unit, value, interval, num, protocol,
            better=better, reference=own, same_n=same_n,
        )
        for (name, label, unit, protocol, better), (value, interval, own, same_n) in zip(specs, values, strict=True)
    ]  # fmt: skip


def _novelty(table: Table, references: References, config: EvaluationConfig) -> list[Metric]:
    group = MetricGroup("novelty", config.bootstrap)
    component = column(table, "component")
    novel = column(table, "novel_train").astype(bool) & (component >= 0)
    once = representative_weights(novel, component)
    match = f"{config.match.protocol()}; against {references.train_name}; of all samples drawn"
    metrics = [
        group.share("novel_structures", "novel structures", novel, match),
        group.share("unique_novel_structures", "unique and novel structures", once, match),
        group.share("valid", "valid", column(table, "valid"), "structural and compositional validity, of all drawn",
                    reference=column(references.train, "valid")),
    ]  # fmt: skip
    symprec = config.score.symmetry.symprec
    text = f"detected at symprec {symprec} Å on both sides, against {references.train_name}"
    for name, words in (("template", "templates"), ("canonical_template", "templates modulo normaliser")):
        metrics += _novel_templates(name, words, column(table, name), column(references.train, name), text, group)
    return metrics


def _novel_templates(
    name: str, words: str, templates: np.ndarray, known: np.ndarray, text: str, group: MetricGroup
) -> list[Metric]:
    new = is_new_class(templates, known)
    samples = group.share(f"novel_{name}_samples", f"samples with novel {words}", new, f"{text}; of all drawn")
    label = f"share of unique {words} that are novel"
    if not (templates != "").any():
        return [samples, group.not_run(f"novel_{name}s", label, "share", text, "no sample has a detected template")]
    counts = count_classes(templates, known, group.bootstrap)
    low, high = counts.known_share_interval
    value = 1.0 - counts.known_share
    return [
        samples,
        group.value(f"novel_{name}s", label, "share", value, (1.0 - high, 1.0 - low), len(new), text, better="higher"),
    ]


def _as_texts(histogram: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(1, len(histogram) + 1), histogram).astype(np.str_).astype(object)


def difference_of(first: Metric, second: Metric, name_first: str, name_second: str) -> Difference | None:
    """A figure of one population minus the same of another; None where one of them has no interval.

    Args:
        first, second: the figure of each.
        name_first, name_second: words for the populations.

    Source: Newcombe, Statist. Med. 17 (1998) 873, method 10: square-and-add interval of independent figures.
    """
    if first.value is None or second.value is None or first.interval is None or second.interval is None:
        return None
    value = first.value - second.value
    low = np.hypot(first.value - first.interval[0], second.interval[1] - second.value)
    high = np.hypot(first.interval[1] - first.value, second.value - second.interval[0])
    label = f"{first.label}: {name_first} minus {name_second}"
    return Difference(name=first.name, label=label, value=value, interval=(value - float(low), value + float(high)))
