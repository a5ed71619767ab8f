"""All figures of a population of frameworks in one record, in the same form as those of crystals."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from matgen.evaluation.adsorption import AdsorptionConfig
from matgen.evaluation.bootstrap import BootstrapConfig
from matgen.evaluation.distributions import (
    element_shares_interval,
    jensen_shannon,
    jensen_shannon_floor,
    jensen_shannon_interval,
    total_variation,
    wasserstein,
    wasserstein_floor,
    wasserstein_interval,
)
from matgen.evaluation.metric import Metric, MetricGroup
from matgen.evaluation.mof_checks import CHECKS
from matgen.evaluation.mof_identity import IDENTITY_PROTOCOL
from matgen.evaluation.mof_yields import waterfall
from matgen.evaluation.porosity import PorosityConfig
from matgen.evaluation.summary import Summary
from matgen.evaluation.table import Table, column, num_rows

__all__ = ["PORE_FIELDS", "MofSummaryConfig", "summarize_mofs"]

_MAX_Z = 118
_MAX_BLOCKS = 64
_TOOLS = ("pyzeo", "raspalib", "rdkit", "numpy", "scipy", "vesin")

PORE_FIELDS: tuple[tuple[str, str, str], ...] = (
    ("largest_cavity_diameter", "largest cavity diameter", "Å"),
    ("pore_limiting_diameter", "pore limiting diameter", "Å"),
    ("accessible_surface_area", "accessible surface area", "m²/g"),
    ("void_fraction", "void fraction", ""),
)
"""Column, words, unit of each pore figure."""

_COUNTS = {"num_blocks": "number of blocks", "num_kinds": "number of different blocks"}
_FIELDS = (*PORE_FIELDS, ("density", "density", "g/cm³"), *((name, words, "") for name, words in _COUNTS.items()))


@dataclass(frozen=True, kw_only=True)
class MofSummaryConfig:
    """bootstrap: of all intervals. porosity, adsorption: how these were measured, for the protocol."""

    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    porosity: PorosityConfig = field(default_factory=PorosityConfig)
    adsorption: AdsorptionConfig = field(default_factory=AdsorptionConfig)


def summarize_mofs(
    table: Table,
    reference: Table | None = None,
    config: MofSummaryConfig | None = None,
    *,
    reference_name: str = "the training set",
) -> Summary:
    """Every figure of a population of frameworks; what could not be run says why.

    Args:
        table: one row for each framework drawn, failed ones included: the columns of `mof_scores.score_mof`, of
            `mof_yields.add_novelty`, and the statuses that `mof_yields.waterfall` reads.
        reference: `score_mof` of frameworks of the data.
        config: settings.
        reference_name: words for the data.

    Raises:
        EmptyTableError: the table has no rows.
        MissingColumnError: a column of `score_mof` is missing.
    """
    config = config or MofSummaryConfig()
    num = num_rows(table)
    metrics = [
        *_yield_metrics(table, config),
        *_check_metrics(table, reference, config),
        *_novelty_metrics(table, reference_name, config),
        *_distance_metrics(table, reference, reference_name, config),
        _working_capacity(table, config),
    ]
    status = column(table, "status") if "status" in table else column(table, "mof_valid")
    return Summary(
        num_samples=num,
        metrics=tuple(metrics),
        statuses={str(word): int(count) for word, count in sorted(Counter(status.tolist()).items())},
        space_groups={},
        references={"train": reference_name},
        config=json.loads(json.dumps(asdict(config))),
        versions={tool: _version(tool) for tool in _TOOLS},
    )


def _version(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        return "not installed"


def _yield_metrics(table: Table, config: MofSummaryConfig) -> list[Metric]:
    group = MetricGroup("yields", config.bootstrap)
    metrics, num = [], num_rows(table)
    for step in waterfall(table)[1:]:
        name, label = f"yield_{step.name}", f"{step.name}, of all drawn"
        protocol = f"{step.meaning}, and all steps before; share of all samples drawn"
        if step.count is None:
            metrics.append(group.not_run(name, label, "share", protocol, step.meaning))
        else:
            metrics.append(group.share(name, label, np.arange(num) < step.count, protocol))
    return metrics


def _check_metrics(table: Table, reference: Table | None, config: MofSummaryConfig) -> list[Metric]:
    group = MetricGroup("checks of the framework", config.bootstrap)
    rule = "MOFChecker's rule on our own bonds"
    metrics = []
    for name in ("mof_valid", *(f"check_{check}" for check in CHECKS)):
        label = "every check" if name == "mof_valid" else name.removeprefix("check_").replace("_", " ")
        answers = column(table, name).astype(np.str_)
        asked = (column(table, "num_atoms") > 0) & (answers != "not_run")
        missing = int((column(table, "num_atoms") > 0).sum() - asked.sum())
        protocol = f"{rule}; of the frameworks that came out; not run for {missing} of them"
        if not asked.any():
            metrics.append(group.not_run(name, label, "share", protocol, _reason(table, name)))
            continue
        own = None
        if reference is not None and name in reference:
            words = reference[name].astype(np.str_)
            own = words[words != "not_run"] == "passed"
        metrics.append(group.share(name, label, answers[asked] == "passed", protocol, reference=own))
    return metrics


def _reason(table: Table, name: str) -> str:
    if not (column(table, "num_atoms") > 0).any():
        return "no framework came out"
    reasons = [str(text) for text in column(table, "checks_reason") if name.removeprefix("check_") in str(text)]
    return reasons[0][:200] if reasons else "the check was not run on any framework"


def _novelty_metrics(table: Table, reference_name: str, config: MofSummaryConfig) -> list[Metric]:
    group = MetricGroup("unique and novel", config.bootstrap)
    protocol = f"{IDENTITY_PROTOCOL}; share of all samples drawn, failed ones included"
    labels = (
        ("unique", "unique"),
        ("novel_train", f"novel against {reference_name}"),
        ("valid_novel_unique", "valid, novel and unique"),
    )
    if "novel" not in table or "unique" not in table:
        reason = "identities were not compared with the training set"
        return [group.not_run(name, label, "share", protocol, reason) for name, label in labels]
    unique, novel = table["unique"].astype(bool), table["novel"].astype(bool)
    valid = column(table, "mof_valid").astype(np.str_) == "passed"
    flags = (unique, novel, valid & novel & unique)
    return [group.share(name, label, flag, protocol) for (name, label), flag in zip(labels, flags, strict=True)]


def _distance_metrics(
    table: Table, reference: Table | None, reference_name: str, config: MofSummaryConfig
) -> list[Metric]:
    group = MetricGroup("distance to the data", config.bootstrap)
    rows, which = _compared_rows(table)
    pores = config.porosity.protocol()
    metrics = []
    for name, words, unit in _FIELDS:
        protocol = f"1-D Wasserstein distance to {reference_name}; {which}"
        protocol += f"; {pores}" if name in {key for key, _, _ in PORE_FIELDS} else ""
        values = _finite(column(table, name)[rows], name)
        known = _finite(reference[name], name) if reference is not None and name in reference else np.zeros(0)
        label = f"Wasserstein distance, {words}"
        if not len(values) or not len(known):
            reason = f"no {words} of {'the samples' if not len(values) else 'the data'}"
            metrics.append(group.not_run(f"d_{name}", label, unit, protocol, reason, "lower"))
            continue
        metrics.append(
            group.value(f"d_{name}", label, unit, wasserstein(values, known),
                        wasserstein_interval(values, known, config.bootstrap), len(values), protocol, better="lower",
                        same_n=wasserstein_floor(known, known, len(values)))
        )  # fmt: skip
    return [*metrics, *_histogram_metrics(table, rows, which, reference, reference_name, group)]


def _working_capacity(table: Table, config: MofSummaryConfig) -> Metric:
    group = MetricGroup("adsorption", config.bootstrap)
    head = ("working_capacity", "mean CO2 working capacity of valid frameworks", "mol/kg")
    protocol = config.adsorption.protocol()
    status = column(table, "adsorption_status").astype(np.str_)
    asked = status != "not_run"
    if not (status == "ok").any():
        reasons = column(table, "adsorption_reason")[asked if asked.any() else status == "not_run"]
        reason = str(Counter(map(str, reasons)).most_common(1)[0][0])
        return group.not_run(*head, protocol, reason)
    protocol += f"; no result for {int((asked & (status != 'ok')).sum())} of {int(asked.sum())} simulated"
    return group.mean(*head, column(table, "working_capacity").astype(np.float64), protocol, "higher")


def _compared_rows(table: Table) -> tuple[np.ndarray, str]:
    valid = column(table, "mof_valid").astype(np.str_) == "passed"
    if valid.any():
        return valid, "valid frameworks"
    return column(table, "num_atoms") > 0, "all frameworks that came out, as none is valid"


def _finite(values: np.ndarray, name: str) -> np.ndarray:
    values = values.astype(np.float64)
    return values[np.isfinite(values) & ((values > 0) | (name not in _COUNTS))]


def _histogram_metrics(
    table: Table, rows: np.ndarray, which: str, reference: Table | None, reference_name: str, group: MetricGroup
) -> list[Metric]:
    elements = ("d_elements", "distance of elements")
    blocks = ("js_num_blocks", "Jensen-Shannon distance, number of blocks")
    shares_words = f"total variation distance of mean element shares to {reference_name}; {which}"
    blocks_words = f"Jensen-Shannon distance (base e) of histograms to {reference_name}; {which}"
    if reference is None or not rows.any():
        reason = "no data to compare with" if reference is None else "no framework came out"
        return [
            group.not_run(*elements, "", shares_words, reason, "lower"),
            group.not_run(*blocks, "", blocks_words, reason, "lower"),
        ]
    shares, known = _element_shares(column(table, "elements")[rows]), _element_shares(column(reference, "elements"))
    mean = known.mean(0)
    counts, own = _block_counts(column(table, "num_blocks")[rows]), _block_counts(column(reference, "num_blocks"))
    num = len(shares)
    metrics = [
        group.value(*elements, "", total_variation(shares.mean(0), mean),
                    element_shares_interval(shares, mean, group.bootstrap), num, shares_words, better="lower"),
    ]  # fmt: skip
    if not counts.sum() or not own.sum():
        return [*metrics, group.not_run(*blocks, "", blocks_words, "no framework has its blocks counted", "lower")]
    metrics.append(
        group.value(*blocks, "", jensen_shannon(counts, own), jensen_shannon_interval(counts, own, group.bootstrap),
                    int(counts.sum()), blocks_words, better="lower",
                    same_n=jensen_shannon_floor(own, own, int(counts.sum())))
    )  # fmt: skip
    return metrics


def _element_shares(texts: np.ndarray) -> np.ndarray:
    """[n, Z]: 1 / number of elements for each element of a framework."""
    shares = np.zeros((len(texts), _MAX_Z + 1))
    for row, text in enumerate(texts):
        numbers = [int(word) for word in str(text).split()]
        shares[row, numbers] = 1.0 / max(len(numbers), 1)
    return shares


def _block_counts(num_blocks: np.ndarray) -> np.ndarray:
    values = num_blocks.astype(np.int64)
    return np.bincount(np.minimum(values[values > 0], _MAX_BLOCKS), minlength=_MAX_BLOCKS + 1)
