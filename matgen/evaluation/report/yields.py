"""How many samples are left after each stage, and why the others failed: counts over `status`."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from matgen.evaluation.report.reading import Population, RunContents, column
from matgen.evaluation.report.svg import esc, percent


@dataclass(frozen=True)
class Step:
    """One bar. count: None where it was not run. meaning: what is counted, or why it was not run.

    aside: not a step of the line, a figure beside it (it is drawn hollow).
    """

    name: str
    count: float | None
    meaning: str
    aside: bool = False


Failure = tuple[str, str, int, str]
"""(stage, status, count, an example of the reason)."""


def waterfall_steps(population: Population) -> list[Step]:
    """Steps from samples drawn to S.U.N."""
    drawn = Step("drawn", population.num_drawn, "samples asked for, failed ones included")
    steps = [drawn]
    if population.samples is not None:
        steps.append(Step("sampled", _count_ok(population.samples), "the network's output is finite"))
    steps += _decode_steps(population)
    steps.append(_relax_step(population))
    return steps + _score_steps(population)


def _count_ok(table: pa.Table) -> int:
    status = column(table, "status")
    return 0 if status is None else int((status == "ok").sum())


def _decode_steps(population: Population) -> list[Step]:
    if population.structures is None:
        return [Step("decoded", None, "the stage decode was not run")]
    raw = column(population.structures, "raw_min_distance")
    steps = []
    if raw is not None:
        valid = np.nan_to_num(raw.astype(np.float64), nan=-1.0) > 0.5
        meaning = "nearest-position decode, before overlaps are resolved: every distance above 0.5 Å"
        steps.append(Step("raw valid", int(valid.sum()), meaning, aside=True))
    moved = column(population.structures, "moved_orbits")
    said = ""
    if moved is not None:
        said = f"; {int((np.nan_to_num(moved.astype(np.float64)) > 0).sum())} of all had an orbit moved for it"
    decoded = Step("resolved", _count_ok(population.structures), f"became a crystal, overlaps resolved{said}")
    return [*steps, decoded]


def _relax_step(population: Population) -> Step:
    words = column(population.relaxed, "relax_status")
    if words is None:
        return Step("relaxed", None, "the stage relax was not run", aside=True)
    ok = column(population.relaxed, "status")
    tried = words != "not_run"
    good = int((tried & (ok == "ok")).sum()) if ok is not None else 0
    limited = population.structures is not None and int(tried.sum()) < _count_ok(population.structures)
    note = f"; only {int(tried.sum())} were to be relaxed" if limited else ""
    converged = column(population.relaxed, "converged")
    if converged is not None:
        note += f"; {sum(value is True or value == 1 for value in converged.tolist())} converged"
    return Step("relaxed", good, f"relaxed within the space group to a usable structure{note}", aside=limited)


def _score_steps(population: Population) -> list[Step]:
    names = ("valid", "unique", "novel")
    valid, status = column(population.scores, "valid"), column(population.scores, "status")
    if valid is None or status is None:
        return [Step(name, None, "the stage evaluate was not run") for name in (*names, "S.U.N.")]
    kept = valid.astype(bool) & (status == "ok")
    steps = [Step("valid", int(kept.sum()), "structural and compositional validity")]
    component, novel = column(population.scores, "component"), column(population.scores, "novel_train")
    if component is None or novel is None:
        steps += [Step(name, None, "structures were not matched") for name in names[1:]]
    else:
        kept &= component >= 0
        unique = len(set(component[kept].tolist()))
        fresh = np.array([value is True or value == 1 for value in novel.tolist()])
        steps.append(Step("unique", unique, "valid, one of each set of duplicates"))
        new = len(set(component[kept & fresh].tolist()))
        steps.append(Step("novel", new, "valid, unique, not in the training set"))
    summary = population.summary
    for name, label in (("msun", "metastable S.U.N."), ("sun", "S.U.N.")):
        metric = next((m for m in summary.metrics if m.name == name), None) if summary is not None else None
        if metric is not None and metric.value is not None:
            steps.append(Step(label, metric.value * metric.n, metric.protocol, aside=True))
        elif name == "sun":
            reason = metric.reason if metric is not None else "the summary has no such metric"
            steps.append(Step(label, None, reason, aside=True))
    return steps


def waterfall_html(steps: Sequence[Step], num_drawn: int, style: str) -> str:
    """Bars of the steps, as a table that reads without colours."""
    total = max(num_drawn, 1)
    rows = []
    for step in steps:
        if step.count is None:
            rows.append(
                f'<tr class="missing"><th>{esc(step.name)}</th><td class="num">not run</td><td></td>'
                f'<td class="meaning">{esc(step.meaning)}</td></tr>'
            )
            continue
        share = step.count / total
        hollow = " hollow" if step.aside else ""
        rows.append(
            f'<tr><th>{esc(step.name)}</th><td class="num"><b>{step.count:,.0f}</b> <span>{percent(share)}</span></td>'
            f'<td class="track"><div class="meter {style}{hollow}" style="width:{100 * min(share, 1):.2f}%"></div></td>'
            f'<td class="meaning">{esc(step.meaning)}</td></tr>'
        )
    return f'<table class="waterfall"><tbody>{"".join(rows)}</tbody></table>'


def failures(population: Population, *, clash_forgiven: Collection[int] = ()) -> list[Failure]:
    """(stage, status, count, an example of the reason) of the failures, each at the first stage that has it.

    Args:
        population: the run's tables.
        clash_forgiven: sample_ids whose clash in decode is none yet, for relaxation was tried on them.
    """
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    seen: set[object] = set()
    tables = (
        ("sample", population.samples),
        ("decode", population.structures),
        ("relax", population.relaxed),
        ("evaluate", population.scores),
    )
    for stage, table in tables:
        ids, status, reason = (column(table, name) for name in ("sample_id", "status", "reason"))
        if ids is None or status is None:
            continue
        bad = [i for i in np.flatnonzero(status != "ok") if int(ids[i]) not in seen]
        if stage == "decode":
            bad = [i for i in bad if status[i] != "clash" or int(ids[i]) not in clash_forgiven]
        for i in bad:
            key = (stage, str(status[i]))
            counts[key] += 1
            example.setdefault(key, str(reason[i]) if reason is not None else "")
        seen |= {int(ids[i]) for i in bad}
    return [(stage, word, count, example[stage, word]) for (stage, word), count in counts.most_common()]


def preprocess_failures(records: pa.Table) -> list[Failure]:
    """The same for the structures of the data set."""
    status, reason = column(records, "status"), column(records, "reason")
    if status is None:
        return []
    counts = Counter(str(word) for word in status[status != "ok"])
    texts = reason if reason is not None else np.full(len(status), "", dtype=object)
    example = {word: str(texts[np.flatnonzero(status == word)[0]]) for word in counts}
    return [("preprocess", word, count, example[word]) for word, count in counts.most_common()]


def failures_html(rows: Sequence[Failure], total: int) -> str:
    """A table of failures."""
    if not rows:
        return '<p class="faint">No row failed.</p>'
    body = "".join(
        f"<tr><td>{esc(stage)}</td><td><code>{esc(word)}</code></td>"
        f'<td class="num">{count:,} <span>{percent(count / max(total, 1))}</span></td>'
        f'<td class="meaning">{esc(reason[:240])}</td></tr>'
        for stage, word, count, reason in rows
    )
    return (
        '<table class="failures"><thead><tr><th>stage</th><th>status</th><th class="num">rows</th>'
        f"<th>reason of the first</th></tr></thead><tbody>{body}</tbody></table>"
    )


def records_html(records: pa.Table | None) -> str:
    """What became of the structures of the data set; empty where there are no records."""
    if records is None:
        return ""
    rows, total = preprocess_failures(records), records.num_rows
    good = total - sum(row[2] for row in rows)
    words = f"<p>{good:,} of {total:,} structures of the data set became records.</p>"
    return words + (failures_html(rows, total) if rows else "")


def yields_html(
    contents: RunContents,
    styles: Mapping[str, str],
    steps: Callable[[Population], Sequence[Step]],
    reasons: Callable[[Population], Sequence[Failure]],
) -> str:
    """The records, and the waterfall and the failures of each set of samples."""
    parts = [records_html(contents.records)]
    for population in contents.populations:
        style = styles[population.name]
        parts.append(
            f'<h3 class="key {style}"><i></i>{esc(population.name)}</h3>'
            f"{waterfall_html(steps(population), population.num_drawn, style)}"
            f"<h4>Why samples failed</h4>{failures_html(reasons(population), population.num_drawn)}"
        )
    if not contents.populations:
        parts.append('<p class="notrun">not run: no samples were drawn</p>')
    note = '<p class="note">Shares are of all samples drawn. Hollow bars stand beside the line, not in it.</p>'
    return "".join(parts) + note
