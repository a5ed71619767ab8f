"""Figures of a population from its table of scores: yields, validity, symmetry, distances to the data."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from matgen.evaluation.bootstrap import BootstrapConfig
from matgen.evaluation.composition import parse_formula
from matgen.evaluation.coverage import CoverageConfig
from matgen.evaluation.distributions import (
    chi_squared,
    chi_squared_interval,
    element_shares_interval,
    jensen_shannon,
    jensen_shannon_floor,
    jensen_shannon_interval,
    space_group_histogram,
    total_variation,
    wasserstein,
    wasserstein_floor,
    wasserstein_interval,
)
from matgen.evaluation.fingerprints import FingerprintConfig, Fingerprints
from matgen.evaluation.metric import Better, Metric, MetricGroup
from matgen.evaluation.novelty import MatchConfig
from matgen.evaluation.scores import ScoreConfig
from matgen.evaluation.stability import StabilityConfig
from matgen.evaluation.table import Table, column


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """All settings of an evaluation; printed with its figures."""

    score: ScoreConfig = field(default_factory=ScoreConfig)
    match: MatchConfig = field(default_factory=MatchConfig)
    coverage: CoverageConfig = field(default_factory=CoverageConfig)
    fingerprints: FingerprintConfig = field(default_factory=FingerprintConfig)
    stability: StabilityConfig = field(default_factory=StabilityConfig)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)


@dataclass(frozen=True, kw_only=True)
class References:
    """What samples are held against, scored by `score_structures` with the same settings as the samples.

    train: the training set (its own pass rates, templates, space groups). test: held-out data (distances, coverage).
    test_fingerprints: None where coverage cannot be run. train_composition: Magpie features of the training set, from
    which the scaler is made. train_fingerprints: gives coverage of the test set by the training set itself.
    """

    train_name: str
    train: Table
    test_name: str
    test: Table
    test_fingerprints: Fingerprints | None = None
    train_composition: np.ndarray | None = None
    train_fingerprints: Fingerprints | None = None


def yield_metrics(table: Table, config: EvaluationConfig) -> list[Metric]:
    """Share of the samples drawn that became a structure."""
    group = MetricGroup("yield", config.bootstrap)
    ok = column(table, "status") == "ok"
    return [group.share("usable", "became a structure", ok, "status is ok; every sample drawn counts")]


def validity_metrics(table: Table, references: References, config: EvaluationConfig) -> list[Metric]:
    """Structural, strict and compositional validity beside the training set's own pass rates."""
    group = MetricGroup("validity", config.bootstrap)
    limits = config.score.validity
    texts = {
        "structure_valid": (
            "structural validity",
            f"min distance over periodic images > {limits.min_distance} Å, volume > {limits.min_volume} Å^3, max "
            f"length <= {limits.max_length} Å of the cell as given (CDVAE)",
        ),
        "strict_valid": (
            "strict structural validity",
            f"every distance > {limits.min_radii_ratio} x sum of covalent radii (Cordero 2008), density "
            f"{limits.min_density}-{limits.max_density} g/cm^3, reduced cell: lengths {limits.min_reduced_length}-"
            f"{limits.max_reduced_length} Å, angles >= {limits.min_reduced_angle}°",
        ),
        "composition_valid": ("compositional validity", config.score.composition.protocol()),
        "valid": ("valid", "structural and compositional validity"),
    }
    return [
        group.share(name, label, column(table, name), protocol, reference=column(references.train, name))
        for name, (label, protocol) in texts.items()
    ]


def raw_decode_metrics(table: Table, config: EvaluationConfig) -> list[Metric]:
    """The same checks before overlaps were resolved, and how many samples were changed by it."""
    group = MetricGroup("before overlaps are resolved", config.bootstrap)
    limits = config.score.validity
    specs = (
        ("raw_structure_valid", "structural validity, raw", "raw_min_distance",
         f"nearest-position decode: min distance > {limits.min_distance} Å; a row without a structure is invalid"),
        ("raw_strict_valid", "distance over radii, raw", "raw_min_ratio",
         f"nearest-position decode: every distance > {limits.min_radii_ratio} x sum of covalent radii"),
    )  # fmt: skip
    bounds = (limits.min_distance, limits.min_radii_ratio)
    metrics = []
    for (name, label, source, protocol), bound in zip(specs, bounds, strict=True):
        if source in table:
            values = np.nan_to_num(np.asarray(table[source], dtype=np.float64), nan=-1.0)
            metrics.append(group.share(name, label, values > bound, protocol))
        else:
            metrics.append(group.not_run(name, label, "share", protocol, f"the table has no column {source}"))
    moved = "share of samples in which at least one orbit was moved to another Wyckoff position to avoid an overlap"
    if "moved_orbits" in table:
        changed = np.nan_to_num(np.asarray(table["moved_orbits"], dtype=np.float64)) > 0
        metrics.append(group.share("moved", "changed by overlap resolution", changed, moved, better="lower"))
    else:
        metrics.append(
            group.not_run("moved", "changed by overlap resolution", "share", moved, "no column moved_orbits", "lower")
        )
    failed = column(table, "status") != "ok"
    metrics.append(
        group.share("rejected", "rejected", failed, "share of samples drawn without a structure", better="lower")
    )
    return metrics


def distance_metrics(table: Table, references: References, config: EvaluationConfig) -> list[Metric]:
    """Distances of density, number of elements and elements from the test set; all samples, then valid ones."""
    group = MetricGroup("distance to the test set", config.bootstrap)
    ok = column(table, "status") == "ok"
    metrics = []
    selections = (("", "all samples", ok), ("_valid", "valid samples", ok & column(table, "valid")))
    for name, label, unit, source in (
        ("d_density", "d density", "g/cm^3", "density"),
        ("d_elements", "d elements", "elements", "num_elements"),
    ):
        reference = _finite(references.test[source])
        train = _finite(references.train[source])
        for suffix, words, rows in selections:
            protocol = f"1-D Wasserstein distance, {words}, against {references.test_name}"
            values = _finite(column(table, source)[rows])
            if not len(values) or not len(reference):
                metrics.append(
                    group.not_run(name + suffix, f"{label}, {words}", unit, protocol, f"no {words} to compare", "lower")
                )
                continue
            metrics.append(
                group.value(
                    name + suffix, f"{label}, {words}", unit, wasserstein(values, reference),
                    wasserstein_interval(values, reference, config.bootstrap), len(values), protocol, better="lower",
                    reference=wasserstein(train, reference),
                    same_n=wasserstein_floor(reference, train, len(values), config.bootstrap.seed),
                )
            )  # fmt: skip
    return [*metrics, *_element_metrics(table, references, selections, group)]


def _element_metrics(
    table: Table, references: References, selections: Sequence[tuple[str, str, np.ndarray]], group: MetricGroup
) -> list[Metric]:
    metrics = []
    test, train = (element_shares(t["formula"]) for t in (references.test, references.train))
    for suffix, words, rows in selections:
        name, label = f"d_element_shares{suffix}", f"element distribution, {words}"
        protocol = f"total variation distance of mean element shares per structure, {words}, to {references.test_name}"
        shares = element_shares(column(table, "formula")[rows])
        if not len(shares) or not len(test):
            metrics.append(group.not_run(name, label, "share", protocol, f"no {words} to compare", "lower"))
            continue
        value = total_variation(shares.mean(0), test.mean(0))
        interval = element_shares_interval(shares, test.mean(0), group.bootstrap)
        own = total_variation(train.mean(0), test.mean(0))
        metrics.append(
            group.value(name, label, "share", value, interval, len(shares), protocol, better="lower", reference=own)
        )
    return metrics


def element_shares(formulas: np.ndarray) -> np.ndarray:
    """float64[n, 119]: share of each element in each formula; rows with "" (no structure) are left out."""
    present = [str(f) for f in formulas if f]
    unique, inverse = np.unique(np.array(present, dtype=np.str_), return_inverse=True)
    shares = np.zeros((len(unique), 119))
    for row, formula in enumerate(unique):
        for number, count in parse_formula(formula):
            shares[row, number] = count
    shares /= np.maximum(shares.sum(1, keepdims=True), 1.0)
    return shares[inverse]


def space_group_metrics(table: Table, references: References, config: EvaluationConfig) -> list[Metric]:
    """How the detected space groups are distributed, beside the data's."""
    group = MetricGroup("space groups", config.bootstrap)
    symprec = config.score.symmetry.symprec
    counts = space_group_histogram(column(table, "space_group_detected"))
    test = space_group_histogram(column(references.test, "space_group_detected"))
    train = space_group_histogram(column(references.train, "space_group_detected"))
    num = int(counts.sum())
    detected = f"groups detected by moyopy at symprec {symprec} Å on both sides, before relaxation"
    p1 = group.share(
        "p1_share", "share detected as P1", column(table, "space_group_detected") == 1, detected + "; of all drawn",
        reference=column(references.train, "space_group_detected") == 1, better="reference",
    )  # fmt: skip
    d_sg = f"Jensen-Shannon distance, base e, over 230 bins, against {references.test_name}; {detected}"
    chi = f"sum over groups of (p - q)^2 / q, q of {references.train_name}, groups unknown to it left out; {detected}"
    if num == 0:
        reason = "no sample has a detected space group"
        return [p1, group.not_run("d_sg", "d space group", "nat^0.5", d_sg, reason, "lower"),
                group.not_run("chi_squared_sg", "chi^2 of space groups", "", chi, reason, "lower")]  # fmt: skip
    chi_value, outside = chi_squared(counts, train)
    return [
        p1,
        group.value(
            "d_sg", "d space group", "nat^0.5", jensen_shannon(counts, test),
            jensen_shannon_interval(counts, test, config.bootstrap), num, d_sg, better="lower",
            reference=jensen_shannon(train, test),
            same_n=jensen_shannon_floor(test, train, num, config.bootstrap.seed),
        ),
        group.value(
            "chi_squared_sg", "chi^2 of space groups", "", chi_value,
            chi_squared_interval(counts, train, config.bootstrap), num,
            f"{chi} (share of samples in such groups: {outside:.4f})", better="lower", reference=0.0,
            same_n=chi_squared_floor(train, num),
        ),
    ]  # fmt: skip


def chi_squared_floor(train: np.ndarray, num: int) -> float:
    """Expected `chi_squared` of `num` draws from the reference itself: (occupied bins - 1) / num."""
    return float((int((train > 0).sum()) - 1) / num)


def fidelity_metrics(table: Table, config: EvaluationConfig) -> list[Metric]:
    """Whether the detected group is the requested one, or contains it: two separate shares at each tolerance."""
    group = MetricGroup("space-group fidelity", config.bootstrap)
    requested = column(table, "space_group_requested") > 0
    kinds: tuple[tuple[str, str, Better], ...] = (
        ("exact", "exactly the requested group", "higher"),
        ("supergroup", "a proper supergroup of it", "lower"),
    )
    metrics = []
    for symprec in config.score.symmetry.fidelity_symprecs:
        for kind, label, better in kinds:
            name = f"fidelity_{kind}_{symprec:g}"
            protocol = (
                f"group detected by moyopy at symprec {symprec} Å before relaxation, against the requested one; of all "
                "samples with a requested group, failed ones included"
                + ("; supergroup as a type, the requested group itself not included" if kind == "supergroup" else "")
            )
            words = f"{label}, symprec {symprec:g}"
            if not requested.any():
                metrics.append(group.not_run(name, words, "share", protocol, "no space groups were requested", better))
                continue
            flags = column(table, f"{kind}_symprec_{symprec:g}")[requested]
            metrics.append(group.share(name, words, flags, protocol, better=better))
    return metrics


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return values[np.isfinite(values) & (values > 0)]
