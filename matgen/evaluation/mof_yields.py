"""How many frameworks are left after each stage: counts over the statuses, nothing dropped."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from matgen.evaluation.table import Table, num_rows

__all__ = ["StageCount", "add_novelty", "waterfall"]


@dataclass(frozen=True)
class StageCount:
    """One step. count: rows that are left; None where the stage was not run. meaning: what is counted, or why not."""

    name: str
    count: int | None
    meaning: str


def add_novelty(table: Table, reference_identities: Collection[str]) -> Table:
    """The table with the columns "novel" and "unique".

    Args:
        table: with "identity" ("" where there is none) and "mof_valid", one row for each framework drawn.
        reference_identities: of the training set.

    Returns:
        a new table; novel: has an identity that the reference lacks. unique: the first row of its identity, valid rows
        going before the others, so that a valid framework is never hidden by an invalid twin.
    """
    identity = table["identity"].astype(np.str_)
    present = identity != ""
    known = np.isin(identity, np.array(sorted(reference_identities), dtype=np.str_))
    valid = table["mof_valid"].astype(np.str_) == "passed"
    order = np.lexsort((np.arange(len(identity)), ~valid))
    _, first = np.unique(identity[order], return_index=True)
    unique = np.zeros(len(identity), dtype=bool)
    unique[order[first]] = True
    return {**table, "novel": present & ~known, "unique": unique & present}


def waterfall(table: Table) -> list[StageCount]:
    """Count the rows left after each step: drawn, decodable, feasible, assembled, relaxed, valid, novel, unique.

    Args:
        table: one row for each framework drawn. decode_status, assemble_status, relax_status: "ok", a word for the
            failure, or "" where the row did not come so far; a column that is absent means that the stage was not run.
            mof_valid: "passed", "failed" or "not_run". novel, unique: of `add_novelty`.

    Returns:
        eight steps; a row counts for a step only if it counts for all before it that were run.
    """
    left = np.ones(num_rows(table), dtype=bool)
    steps = [StageCount("drawn", int(left.sum()), "samples asked for, failed ones included")]
    for name, column, bad, meaning in _STAGES:
        steps.append(_step(table, left, name, column, bad, meaning))
    steps.append(_valid(table, left))
    novel, unique = table.get("novel"), table.get("unique")
    if novel is None or unique is None:
        reason = "identities were not compared with the training set"
        return [*steps, StageCount("novel", None, reason), StageCount("unique", None, reason)]
    left &= novel.astype(bool)
    steps.append(StageCount("novel", int(left.sum()), "not in the training set"))
    names = set(table["identity"][left].tolist())
    return [*steps, StageCount("unique", len(names), "one of each set of equals")]


_STAGES: tuple[tuple[str, str, Collection[str] | None, str], ...] = (
    ("decodable", "decode_status", None, "finite output, and a building block for every place"),
    ("feasible", "assemble_status", ("", "infeasible"), "metal and linker connections can be paired"),
    ("assembled", "assemble_status", None, "every pair of connections closes (with a clash, where it is relaxed)"),
    ("relaxed", "relax_status", None, "relaxed, with bonds, volume and contacts kept"),
)
"""Step, column of its status, the statuses that fail it (None: all but "ok"), what it means."""


def _step(
    table: Mapping[str, np.ndarray],
    left: np.ndarray,
    name: str,
    column: str,
    bad: Collection[str] | None,
    meaning: str,
) -> StageCount:
    """Takes the failed rows out of `left`."""
    if column not in table:
        return StageCount(name, None, f"the stage of {column.removesuffix('_status')} was not run")
    status = table[column].astype(np.str_)
    left &= (status == "ok") if bad is None else ~np.isin(status, list(bad))
    return StageCount(name, int(left.sum()), meaning)


def _valid(table: Mapping[str, np.ndarray], left: np.ndarray) -> StageCount:
    if "mof_valid" not in table:
        return StageCount("valid", None, "the checks were not run")
    valid = table["mof_valid"].astype(np.str_)
    open_rows = int((left & (valid == "not_run")).sum())
    left &= valid == "passed"
    note = f"; {open_rows} more failed none, but a check could not be run on them" if open_rows else ""
    return StageCount("valid", int(left.sum()), f"every check of the framework passed{note}")
