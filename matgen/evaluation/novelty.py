"""Unique and novel structures: hash prefilters, then pymatgen's StructureMatcher, as connected components."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from matgen.crystal.structure import Structure
from matgen.evaluation.reference_index import ReferenceIndex, structure_hash
from matgen.evaluation.table import Table

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """When two structures are the same: tolerances of pymatgen's StructureMatcher (its defaults).

    ltol: fractional length. stol: site distance in units of (volume / atoms)^(1/3). angle_tol: degrees.
    max_atoms: a structure with more atoms in its primitive cell is compared by its hash only, and counted.
    """

    ltol: float = 0.2
    stol: float = 0.3
    angle_tol: float = 5.0
    max_atoms: int = 300

    def protocol(self) -> str:
        """One line for the table."""
        return (
            f"pymatgen StructureMatcher ltol={self.ltol}, stol={self.stol}, angle_tol={self.angle_tol}, primitive "
            "cell, scaled, no supercells, either way round; only structures of one reduced formula are compared; same "
            "= connected component"
        )


class _Candidate:
    """A structure on its way through the prefilters; the pymatgen form is made, and reduced, only when needed."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure

    @cached_property
    def key(self) -> str:
        return structure_hash(self.structure)

    @cached_property
    def reduced(self) -> Any:
        """What StructureMatcher itself makes of a structure before it compares: Niggli, then primitive."""
        reduced = self.structure.to_pymatgen().get_reduced_structure(reduction_algo="niggli")
        return reduced.get_primitive_structure()


class Matcher:
    """Compares structures of one reduced formula."""

    def __init__(self, config: MatchConfig) -> None:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        self.config = config
        self.num_compared = 0
        self._matcher = StructureMatcher(ltol=config.ltol, stol=config.stol, angle_tol=config.angle_tol)

    def same(self, first: _Candidate, second: _Candidate) -> bool:
        """Whether two structures match. StructureMatcher is not exactly symmetric: a match either way round counts."""
        if first.key == second.key:
            return True
        one, two = first.reduced, second.reduced
        if len(one) != len(two) or len(one) > self.config.max_atoms:
            return False  # without supercells, unequal primitive cells cannot match
        self.num_compared += 1
        return bool(
            self._matcher.fit(one, two, skip_structure_reduction=True)
            or self._matcher.fit(two, one, skip_structure_reduction=True)
        )


def connected_components(candidates: Sequence[_Candidate], matcher: Matcher) -> np.ndarray:
    """Label each candidate with the smallest index of those it is joined to by a chain of matches."""
    parent = np.arange(len(candidates))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for j in range(len(candidates)):
        for i in range(j):
            a, b = root(i), root(j)
            if a != b and matcher.same(candidates[i], candidates[j]):
                parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(len(candidates))], dtype=np.int64)


def match_structures(
    structures: Sequence[Structure],
    sample_ids: Sequence[int],
    references: Mapping[str, ReferenceIndex],
    config: MatchConfig | None = None,
) -> Table:
    """Uniqueness among structures, and novelty against references.

    Structures of one reduced formula must be in one call; different formulas may be in different calls (shards:
    `formula_shards`), with the same result. The result does not depend on the order of the structures.

    Args:
        structures: such as passed `matgen.crystal.structure.check`.
        sample_ids: one per structure.
        references: by name of the column to write, as {"train": index}.
        config: tolerances.

    Returns:
        Columns sample_id, component (the smallest sample_id that it is the same as), component_size, and for each
        reference novel_NAME (bool) and match_NAME (id of the first match by id, "" if none).
    """
    matcher = Matcher(config or MatchConfig())
    num = len(structures)
    ids = np.asarray(sample_ids, dtype=np.int64)
    table: Table = {"sample_id": ids, "component": ids.copy(), "component_size": np.ones(num, dtype=np.int64)}
    for name in references:
        table[f"novel_{name}"] = np.ones(num, dtype=bool)
        table[f"match_{name}"] = np.full(num, "", dtype=object)
    rows_by_formula: dict[str, list[int]] = {}
    for row in np.argsort(ids, kind="stable").tolist():
        rows_by_formula.setdefault(structures[row].formula, []).append(row)
    for formula, rows in rows_by_formula.items():
        candidates = [_Candidate(structures[row]) for row in rows]
        labels = connected_components(candidates, matcher)
        sizes = np.bincount(labels, minlength=len(rows))
        table["component"][rows] = ids[rows][labels]
        table["component_size"][rows] = sizes[labels]
        for name, index in references.items():
            matches = _first_matches(candidates, index, formula, matcher)
            table[f"match_{name}"][rows] = matches
            table[f"novel_{name}"][rows] = [match == "" for match in matches]
    logger.info("%d structures, %d formulas, %d pairs compared", num, len(rows_by_formula), matcher.num_compared)
    return table


def _first_matches(
    candidates: Sequence[_Candidate], index: ReferenceIndex, formula: str, matcher: Matcher
) -> list[str]:
    rows = index.rows(formula)
    known = [(str(index.ids[row]), _Candidate(index[int(row)])) for row in rows[np.argsort(index.ids[rows])]]
    return [
        next((identity for identity, reference in known if matcher.same(candidate, reference)), "")
        for candidate in candidates
    ]


def formula_shards(formulas: Sequence[str], num_shards: int) -> list[np.ndarray]:
    """Cut rows into shards such that equal formulas stay together.

    Args:
        formulas: reduced formula of each row; rows with "" (failed) are left out.
        num_shards: at most so many non-empty shards are returned.

    Returns:
        Row indices of each shard, balanced by the number of pairs to compare.
    """
    rows_by_formula: dict[str, list[int]] = {}
    for row, formula in enumerate(formulas):
        if formula:
            rows_by_formula.setdefault(str(formula), []).append(row)
    shards: list[list[int]] = [[] for _ in range(max(1, num_shards))]
    load = np.zeros(len(shards))
    for formula in sorted(rows_by_formula, key=lambda f: (-len(rows_by_formula[f]), f)):
        lightest = int(np.argmin(load))
        shards[lightest] += rows_by_formula[formula]
        load[lightest] += 1 + len(rows_by_formula[formula]) ** 2
    return [np.array(sorted(shard), dtype=np.int64) for shard in shards if shard]


def spread_matches(matches: Table, sample_ids: np.ndarray) -> Table:
    """Lay the rows of (concatenated) `match_structures` tables beside all samples, failed ones included.

    Args:
        matches: has a column sample_id.
        sample_ids: of all samples, in the order of the score table.

    Returns:
        The columns of `matches` with one row per sample; rows without a match entry (no structure) are component -1,
        size 0, not novel, "".
    """
    position = {int(sample): row for row, sample in enumerate(sample_ids)}
    rows = np.array([position[int(s)] for s in matches["sample_id"]], dtype=np.int64)
    spread: Table = {}
    for name, values in matches.items():
        if name == "sample_id":
            continue
        fill: Any = {"component": -1}.get(name, "" if values.dtype == object else 0)
        spread[name] = np.full(len(sample_ids), fill, dtype=values.dtype)
        spread[name][rows] = values
    return spread
