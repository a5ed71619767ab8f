"""How many frameworks are left after each stage, and why the others failed: counts over statuses."""

import numpy as np
import pyarrow as pa

from matgen.evaluation.mof_checks import CHECKS
from matgen.evaluation.mof_yields import waterfall
from matgen.evaluation.report.reading import Population, column
from matgen.evaluation.report.svg import esc, percent
from matgen.evaluation.report.yields import Failure, Step, failures

NOT_RUN = "not_run"


def framework_steps(population: Population) -> list[Step]:
    """Steps from samples drawn to frameworks that are valid, novel and unique."""
    table = _table(population)
    if not table:
        return [Step("drawn", population.num_drawn, "samples asked for, failed ones included")]
    left_out = _not_relaxed(population)
    steps = []
    for step in waterfall(table):
        meaning = step.meaning
        if step.name == "assembled":
            meaning += _on_trial(population)
        if step.name == "relaxed" and step.count is not None and left_out:
            meaning += f"; {left_out:,} that came so far were left out (relax.limit, relax.max_atoms): not run"
        steps.append(Step(step.name, step.count, meaning))
    return steps


def _table(population: Population) -> dict[str, np.ndarray]:
    """Columns for `waterfall`: those of the scores, else what the earlier stages say of themselves."""
    scores = population.scores
    if scores is not None:
        names = ("decode_status", "assemble_status", "relax_status", "mof_valid", "identity", "novel", "unique")
        found = {name: column(scores, name) for name in names}
        if population.relaxed is None:
            found.pop("relax_status")
        return {name: values for name, values in found.items() if values is not None}
    samples, structures, relaxed = (
        column(table, "status") for table in (population.samples, population.structures, population.relaxed)
    )
    if structures is None:
        return {} if samples is None else {"sampled": samples}
    looked_up = column(population.structures, "num_assembled")
    known = np.isfinite(looked_up.astype(np.float64)) if looked_up is not None else structures == "ok"
    assembled = np.where(known, structures, "").astype(object)
    table = {"decode_status": np.where(known, "ok", structures).astype(object), "assemble_status": assembled}
    words = column(population.relaxed, "relax_status")
    if relaxed is not None and words is not None:
        tried = (words != "") & (words != NOT_RUN)
        table["assemble_status"] = np.where(tried & (assembled == "clash"), "ok", assembled).astype(object)
        table["relax_status"] = words
    return table


def _on_trial(population: Population) -> str:
    """How many frameworks were tried before one was taken, in words; nothing where none was put on trial."""
    counts, words = column(population.structures, "num_trials"), column(population.structures, "trial_status")
    if counts is None or words is None:
        return ""
    tried = np.nan_to_num(counts.astype(np.float64))
    if not tried.any():
        return ""
    first = int(((tried == 1) & (words == "sound")).sum())
    return (
        f"; {int(tried.sum()):,} frameworks of {int((tried > 0).sum()):,} samples were put on trial before one was "
        f"taken (decode.trial), of {first:,} the first stood it"
    )


def _not_relaxed(population: Population) -> int:
    """Assembled frameworks that the stage relax left out."""
    words, status = column(population.relaxed, "relax_status"), column(population.structures, "status")
    if words is None or status is None or len(words) != len(status):
        return 0
    return int(((words == NOT_RUN) & np.isin(status, ["ok", "clash"])).sum())


def framework_failures(population: Population) -> list[Failure]:
    """(stage, status, count, an example of the reason) of the failures, each at the stage where the sample ended.

    A clash of the assembled framework is a failure of the stage decode only where relaxation was not tried on it.
    """
    places = {"sample": 0, "decode": 1, "relax": 2, "evaluate": 3}
    found = failures(population, clash_forgiven=_tried(population.relaxed))
    return sorted(found, key=lambda failure: places[failure[0]])


def _tried(relaxed: pa.Table | None) -> set[int]:
    ids, words = column(relaxed, "sample_id"), column(relaxed, "relax_status")
    if ids is None or words is None:
        return set()
    return {int(i) for i in ids[(words != "") & (words != NOT_RUN)]}


def checks_html(population: Population) -> str:
    """Which checks of the frameworks failed, and which could not be run; the commonest failures first."""
    num_atoms = column(population.scores, "num_atoms")
    if num_atoms is None:
        return '<p class="notrun">not run: the stage evaluate was not run</p>'
    came_out = num_atoms.astype(np.float64) > 0
    total = int(came_out.sum())
    if not total:
        return '<p class="notrun">not run: no framework came out</p>'
    rows = []
    for name in CHECKS:
        answers = column(population.scores, f"check_{name}")
        if answers is not None:
            answers = answers[came_out]
            rows.append((name, int((answers == "failed").sum()), int((answers == NOT_RUN).sum())))
    rows.sort(key=lambda row: -row[1])
    body = "".join(
        f'<tr><td>{esc(name.replace("_", " "))}</td><td class="num">{failed:,} <span>{percent(failed / total)}</span>'
        f'</td><td class="num">{missing:,}</td></tr>'
        for name, failed, missing in rows
        if failed or missing
    )
    if not body:
        return f'<p class="faint">All checks were passed by all {total:,} frameworks that came out.</p>'
    return (
        f'<table class="failures checks"><thead><tr><th>check of the {total:,} frameworks that came out</th>'
        f'<th class="num">failed</th><th class="num">not run</th></tr></thead><tbody>{body}</tbody></table>'
    )
