"""Figures of what is new: templates, unique and novel structures, stability and S.U.N."""

from collections.abc import Sequence

import numpy as np

from matgen.evaluation.bootstrap import BootstrapConfig, Interval, centred_interval
from matgen.evaluation.class_counts import count_classes, is_new_class
from matgen.evaluation.metric import Metric, MetricGroup
from matgen.evaluation.population import EvaluationConfig, References
from matgen.evaluation.stability import representative_weights, stability_columns
from matgen.evaluation.table import Table, column

_KINDS = (
    ("template", "templates", "template = detected space group and multiset of Wyckoff letters with multiplicity"),
    (
        "canonical_template",
        "templates modulo normaliser",
        "as templates, but one for all choices of origin (modulo the Euclidean normaliser)",
    ),
)


def template_metrics(table: Table, references: References, config: EvaluationConfig) -> list[Metric]:
    """Unique templates, the share of them in the training set, and the number that it lacks."""
    group = MetricGroup("templates", config.bootstrap)
    symprec = config.score.symmetry.symprec
    metrics = []
    for name, label, meaning in _KINDS:
        templates, known = column(table, name), column(references.train, name)
        present = templates != ""
        protocol = (
            f"{meaning}; detected by moyopy at symprec {symprec} Å on both sides; counts grow with "
            f"n = {len(templates)} samples drawn; reference: {references.train_name} itself, all {len(known)} of it"
        )
        if not present.any():
            reason = "no sample has a detected template"
            metrics += [
                group.not_run(f"{name}s_unique", f"unique {label}", "count", protocol, reason),
                group.not_run(f"{name}s_in_train", f"unique {label} in train", "share", protocol, reason, "lower"),
                group.not_run(f"{name}s_new", f"new {label}", "count", protocol, reason),
                group.not_run(f"{name}s_new_samples", f"samples with new {label}", "share", protocol, reason),
            ]
            continue
        metrics += _template_counts(name, label, templates, known, protocol, group)
    return metrics


def _template_counts(
    name: str, label: str, templates: np.ndarray, known: np.ndarray, protocol: str, group: MetricGroup
) -> list[Metric]:
    counts = count_classes(templates, known, group.bootstrap)
    num = len(templates)
    return [
        group.value(f"{name}s_unique", f"unique {label}", "count", counts.unique, counts.unique_interval, num, protocol,
                    better="higher", reference=counts.reference_unique, same_n=counts.expected_of_reference),
        group.value(f"{name}s_in_train", f"unique {label} in train", "share", counts.known_share,
                    counts.known_share_interval, num, protocol, better="lower", reference=1.0),
        group.value(f"{name}s_new", f"new {label}", "count", counts.new, counts.new_interval, num, protocol,
                    better="higher", reference=0.0),
        group.share(f"{name}s_new_samples", f"samples with new {label}", is_new_class(templates, known), protocol),
    ]  # fmt: skip


def novelty_metrics(table: Table, config: EvaluationConfig, reference_names: Sequence[tuple[str, str]]) -> list[Metric]:
    """Unique, novel, and unique and novel, as shares of all samples drawn.

    Args:
        table: with the columns of `novelty.match_structures` laid beside the scores (`novelty.spread_matches`).
        config: settings.
        reference_names: (NAME of the columns novel_NAME, words for people with the number of structures).
    """
    group = MetricGroup("unique and novel", config.bootstrap)
    protocol = config.match.protocol() + "; share of all samples drawn, failed ones included"
    if "component" not in table:
        reason = "the structures were not matched: the table has no column component"
        names = [("unique", "unique")]
        for name, words in reference_names:
            names += [
                (f"novel_{name}", f"novel against {words}"),
                (f"unique_novel_{name}", f"unique and novel against {words}"),
            ]
        return [group.not_run(name, label, "share", protocol, reason) for name, label in names]
    component = table["component"]
    present = component >= 0
    metrics = [group.share("unique", "unique", representative_weights(present, component), protocol)]
    for name, words in reference_names:
        text = f"{protocol}; not in {words}"
        if f"novel_{name}" not in table:
            reason = f"no reference {name} was given"
            metrics.append(group.not_run(f"novel_{name}", f"novel against {words}", "share", text, reason))
            continue
        novel = table[f"novel_{name}"].astype(bool) & present
        weights = representative_weights(novel, component)
        metrics += [
            group.share(f"novel_{name}", f"novel against {words}", novel, text),
            group.share(f"unique_novel_{name}", f"unique and novel against {words}", weights, text),
        ]
    return metrics


def stability_metrics(table: Table, config: EvaluationConfig, hull: str | None, novelty_reference: str) -> list[Metric]:
    """Stable, metastable, S.U.N. and metastable S.U.N., and how far relaxation moved the samples.

    Args:
        table: with e_above_hull (eV/atom after relaxation, NaN where it failed), and if there are any
            e_above_hull_initial (before relaxation), rmsd_to_relaxed (Å), converged, num_relax_steps, asked_to_relax
            (where it is there, shares are of these samples alone: of the others nobody knows).
        config: settings.
        hull: words for the hull: potential, entries and their number; None where there is none.
        novelty_reference: NAME of the column novel_NAME that "novel" means.
    """
    group = MetricGroup("stability", config.bootstrap)
    protocol = config.stability.protocol(hull or "none")
    asked = _asked_to_relax(table)
    if not asked.all():
        protocol += f"; here of the {int(asked.sum()):,} samples that were to be relaxed, of {len(asked):,} drawn"
    names = (("stable", "stable"), ("metastable", "metastable"), ("sun", "S.U.N."), ("msun", "metastable S.U.N."))
    needed = ["e_above_hull", "component", f"novel_{novelty_reference}"]
    missing = [name for name in needed if name not in table]
    if missing or hull is None:
        reason = "no convex hull was given" if hull is None else f"the table has no column {', '.join(missing)}"
        metrics = [group.not_run(name, label, "share", protocol, reason) for name, label in names]
    else:
        columns = stability_columns(
            table["e_above_hull"], table["num_elements"], table["component"], table[needed[2]], config.stability
        )
        metrics = [
            group.share("stable", "stable", columns["stable"][asked], protocol),
            group.share("metastable", "metastable", columns["metastable"][asked], protocol),
            group.share("sun", "S.U.N.", columns["sun_weight"][asked], protocol),
            group.share("msun", "metastable S.U.N.", columns["msun_weight"][asked], protocol),
        ]
        if "e_above_hull_initial" in table:
            energy = np.nan_to_num(table["e_above_hull_initial"].astype(np.float64)[asked], nan=np.inf)
            text = f"energy above hull <= {config.stability.stable} eV/atom before relaxation; {protocol}"
            metrics.append(
                group.share("stable_initial", "stable before relaxation", energy <= config.stability.stable, text)
            )
    return metrics + _relaxation_metrics(table, group)


def _asked_to_relax(table: Table) -> np.ndarray:
    """bool[n]: the samples whose relaxation was asked for, failed ones included; all where nothing says otherwise."""
    return np.asarray(table.get("asked_to_relax", np.ones(len(table["status"]))), dtype=bool)


def _relaxation_metrics(table: Table, group: MetricGroup) -> list[Metric]:
    protocol = "root mean square displacement from sample to relaxed structure, over the samples that could be relaxed"
    if "rmsd_to_relaxed" not in table:
        reason = "nothing was relaxed: the table has no column rmsd_to_relaxed"
        return [group.not_run("rmsd_to_relaxed", "RMSD to relaxed", "Å", protocol, reason, "lower")]
    rmsd = table["rmsd_to_relaxed"].astype(np.float64)
    metrics = [group.mean("rmsd_to_relaxed", "RMSD to relaxed, mean", "Å", rmsd, protocol, "lower")]
    finite = rmsd[np.isfinite(rmsd)]
    if len(finite):
        metrics.append(
            group.value("rmsd_to_relaxed_median", "RMSD to relaxed, median", "Å", float(np.median(finite)),
                        median_interval(finite, group.bootstrap), len(finite), protocol, better="lower")
        )  # fmt: skip
    if "converged" in table:
        converged = np.array([bool(c) if c is not None else False for c in table["converged"]])
        asked = _asked_to_relax(table)
        metrics.append(
            group.share("relax_converged", "relaxation converged", converged[asked], "of the samples to be relaxed")
        )
    return metrics


def median_interval(values: np.ndarray, config: BootstrapConfig) -> Interval:
    """Bootstrap interval of a median."""
    rng = np.random.default_rng([config.seed, len(values)])
    replicates = np.array([np.median(rng.choice(values, size=len(values))) for _ in range(config.num_resamples)])
    return centred_interval(float(np.median(values)), replicates, config)
