"""The distributions of frameworks: pores, density and blocks, of the samples beside those of the data."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from matgen.evaluation.mof_summary import PORE_FIELDS
from matgen.evaluation.report.features import NUM_ELEMENTS
from matgen.evaluation.report.figures import card, elements_tables, missing
from matgen.evaluation.report.reading import RunContents, column
from matgen.evaluation.report.svg import Series, grouped_bars, histogram, legend, number

_FIELDS = (*PORE_FIELDS, ("density", "density", "g/cm³"))
_MARKS = {"pore_limiting_diameter": [(2.4, "2.4 Å: a check")]}
_LAST_BLOCK = 20


@dataclass(frozen=True, eq=False)
class FrameworkFeatures:
    """Distributions of one set of frameworks.

    name: legend. n: frameworks that came out. values: finite figures by column. num_blocks: of those that have an
    identity. element_shares: share of frameworks with each Z, [119]. reason: why pores were not measured.
    """

    name: str
    n: int
    values: dict[str, np.ndarray]
    num_blocks: np.ndarray
    element_shares: np.ndarray
    reason: str


def framework_features(name: str, scores: pa.Table | None) -> FrameworkFeatures:
    """Features of the frameworks in a table of scores that came out."""
    num_atoms = column(scores, "num_atoms")
    rows = num_atoms.astype(np.float64) > 0 if num_atoms is not None else np.zeros(0, dtype=bool)
    values = {}
    for field, _, _ in _FIELDS:
        found = column(scores, field)
        kept = found.astype(np.float64)[rows] if found is not None else np.zeros(0)
        values[field] = kept[np.isfinite(kept)]
    blocks = column(scores, "num_blocks")
    counts = blocks.astype(np.int64)[rows] if blocks is not None else np.zeros(0, dtype=np.int64)
    reasons = column(scores, "porosity_reason")
    said = [str(text) for text in (reasons[rows] if reasons is not None else []) if text]
    elements = column(scores, "elements")
    shares = _element_shares(elements[rows]) if elements is not None else np.zeros(NUM_ELEMENTS)
    return FrameworkFeatures(name, int(rows.sum()), values, counts[counts > 0], shares, said[0] if said else "")


def _element_shares(texts: np.ndarray) -> np.ndarray:
    present = np.zeros((len(texts), NUM_ELEMENTS), dtype=bool)
    for row, text in enumerate(texts):
        present[row, [int(word) for word in str(text).split()]] = True
    return np.asarray(present.mean(0)) if len(texts) else np.zeros(NUM_ELEMENTS)


Styled = tuple[FrameworkFeatures, str]


def framework_figures(contents: RunContents, styles: dict[str, str]) -> str:
    """All figures; the data come first where frameworks of theirs were scored."""
    data = framework_features(f"data ({contents.source})" if contents.source else "data", contents.reference)
    samples = [(framework_features(p.name, p.scores), styles[p.name]) for p in contents.populations]
    sets = [(features, style) for features, style in [(data, "s0"), *samples] if features.n]
    if not sets:
        scored = any(population.scores is not None for population in contents.populations)
        return missing("Distributions", "no framework came out" if scored else "the stage evaluate was not run")
    made = [_histogram_figure(sets, *field) for field in _FIELDS]
    return "".join([*made, _blocks_figure(sets), elements_tables(sets, "frameworks")])


def _histogram_figure(sets: Sequence[Styled], field: str, words: str, unit: str) -> str:
    title = words.capitalize()
    series = [
        Series(f"{features.name} (n = {len(features.values[field]):,})", style, features.values[field])
        for features, style in sets
        if len(features.values[field])
    ]
    if not series:
        return missing(
            title, next((features.reason for features, _ in sets if features.reason), "nothing was measured")
        )
    top = max(float(np.percentile(s.values, 99)) for s in series)
    edges = np.linspace(0.0, 1.0 if field == "void_fraction" else max(top, 1e-3), 31)
    label = f"{words}, {unit}" if unit else words
    medians = "; ".join(f"{s.name.rsplit(' (', 1)[0]} {number(float(np.median(s.values)))}" for s in series)
    short = [features.name for features, _ in sets if len(features.values[field]) < features.n]
    note = f"Medians: {medians}." + (f" Not measured on all frameworks of: {', '.join(short)}." if short else "")
    key = legend([(s.name, s.style) for s in series])
    return card(title, key + histogram(series, edges, label, title, _MARKS.get(field, ())), note)


def _blocks_figure(sets: Sequence[Styled]) -> str:
    names = [*map(str, range(1, _LAST_BLOCK)), f"{_LAST_BLOCK}+"]
    series = []
    for features, style in sets:
        if len(features.num_blocks):
            counts = np.bincount(np.clip(features.num_blocks, 1, _LAST_BLOCK), minlength=_LAST_BLOCK + 1)[1:]
            name = f"{features.name} (n = {len(features.num_blocks):,})"
            series.append(Series(name, style, counts / counts.sum()))
    title = "Number of blocks"
    if not series:
        return missing(title, "no framework has its blocks counted")
    key = legend([(s.name, s.style) for s in series])
    return card(title, key + grouped_bars(names, series, "building blocks in a primitive cell", title))
