"""The figures of a page: samples beside the data."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.evaluation.report.features import Features
from matgen.evaluation.report.svg import Series, esc, grouped_bars, histogram, legend, lines, percent
from matgen.evaluation.report.symbols import CRYSTAL_SYSTEMS, SYSTEM_STARTS, space_group_text, table_place
from matgen.geometry.lattice import crystal_system_index

Styled = tuple[Features, str]
"""A distribution and the class of its colour."""

_RATE = "_per_second"


class HasElements(Protocol):
    """A set of structures with the share of those that contain each Z, [119]."""

    @property
    def name(self) -> str: ...
    @property
    def element_shares(self) -> np.ndarray: ...


LOSS_FIELDS = ("total", "lattice", "coords", "species", "site_symmetry")


def card(title: str, body: str, note: str = "", wide: bool = False) -> str:
    """A figure with its title and caption."""
    caption = f'<figcaption class="note">{esc(note)}</figcaption>' if note else ""
    return f'<figure class="card{" wide" if wide else ""}"><h3>{esc(title)}</h3>{body}{caption}</figure>'


def missing(title: str, why: str) -> str:
    """A figure that was not run."""
    return f'<figure class="card"><h3>{esc(title)}</h3><p class="notrun">not run: {esc(why)}</p></figure>'


def _key(sets: Sequence[Styled]) -> str:
    return legend([(f"{features.name} (n = {features.n:,})", style) for features, style in sets])


def distribution_figures(sets: Sequence[Styled]) -> str:
    """All figures of what the crystals are; the data come first in `sets` where there are any."""
    if not sets:
        return missing("Distributions", "there are neither records nor structures")
    made = [space_groups_figure(sets), _systems_figure(sets), _elements_figure(sets), _orbits_figure(sets)]
    return "".join([*made, _density_figure(sets), _contacts_figure(sets), _hull_figure(sets), elements_tables(sets)])


def space_groups_figure(sets: Sequence[Styled]) -> str:
    """Shares of all 230 space groups, one row for each set of crystals."""
    width, row, left = 1120.0, 92.0, 8.0
    step = (width - 2 * left) / 230
    shares = [np.bincount(f.space_groups.astype(int), minlength=231)[1:231] / max(f.n, 1) for f, _ in sets]
    top = max((float(share.max()) for share in shares), default=0.0) or 1.0
    body, bottom = "", row * len(sets)
    for i, name in enumerate(CRYSTAL_SYSTEMS):
        x, end = left + (SYSTEM_STARTS[i] - 1) * step, left + (SYSTEM_STARTS[i + 1] - 1) * step
        shade = " odd" if i % 2 else ""
        body += f'<rect class="band{shade}" x="{x:.1f}" y="0" width="{end - x:.1f}" height="{bottom}"/>'
        if i:
            body += f'<text x="{(x + end) / 2:.1f}" y="{bottom + 14}" text-anchor="middle">{name}</text>'
    for j, ((features, style), share) in enumerate(zip(sets, shares, strict=True)):
        base = (j + 1) * row - 4
        for g in np.flatnonzero(share):
            height = (row - 14) * np.sqrt(share[g] / top)
            tip = f"{space_group_text(int(g) + 1)}: {percent(float(share[g]))} of {features.name}"
            body += (
                f'<rect class="fill {style}" x="{left + g * step + 0.4:.1f}" y="{base - height:.1f}" '
                f'width="{step - 0.8:.1f}" height="{height:.1f}" data-tip="{esc(tip)}"/>'
            )
        body += f'<line class="axis" x1="{left}" x2="{width - left}" y1="{base}" y2="{base}"/>'
    chart = (
        f'<svg class="chart" viewBox="0 0 {width:g} {bottom + 20:g}" role="img" '
        f'aria-label="Shares of the 230 space groups">{body}</svg>'
    )
    different = [len(set(f.space_groups[f.space_groups > 0])) for f, _ in sets]
    kinds = "; ".join(f"{f.name}: {f.groups_are}, {count} of 230" for (f, _), count in zip(sets, different))
    note = f"Groups 1 to 230 from left to right; heights are square roots of shares. {kinds}."
    return card("Space groups", _key(sets) + chart, note, wide=True)


def _bars(sets: Sequence[Styled], shares: Sequence[np.ndarray], names: Sequence[str], x_label: str, title: str) -> str:
    series = [Series(f.name, style, share) for (f, style), share in zip(sets, shares, strict=True)]
    return card(title, _key(sets) + grouped_bars(names, series, x_label, title))


def _systems_figure(sets: Sequence[Styled]) -> str:
    shares = []
    for features, _ in sets:
        groups = features.space_groups[features.space_groups > 0].astype(int)
        shares.append(np.bincount(crystal_system_index(groups), minlength=7) / max(features.n, 1))
    names = ("tricl.", "monocl.", "orthorh.", "tetrag.", "trigonal", "hexag.", "cubic")
    return _bars(sets, shares, names, "crystal system", "Crystal systems")


def _counts(values: np.ndarray, last: int) -> np.ndarray:
    return np.bincount(np.clip(values.astype(int), 1, last), minlength=last + 1)[1:] / max(len(values), 1)


def _elements_figure(sets: Sequence[Styled]) -> str:
    names = [*map(str, range(1, 8)), "8+"]
    shares = [_counts(f.num_elements, 8) for f, _ in sets]
    return _bars(sets, shares, names, "elements in a crystal", "Number of elements")


def _orbits_figure(sets: Sequence[Styled]) -> str:
    names = [*map(str, range(1, 16)), "16+"]
    shares = [_counts(f.num_orbits, 16) for f, _ in sets]
    return _bars(sets, shares, names, "orbits in the asymmetric unit", "Number of orbits")


def _density_figure(sets: Sequence[Styled]) -> str:
    top = max((float(np.percentile(f.density, 99)) for f, _ in sets if len(f.density)), default=20.0)
    edges = np.linspace(0, max(5.0, np.ceil(top)), 41)
    series = [Series(f.name, style, f.density) for f, style in sets]
    return card("Density", _key(sets) + histogram(series, edges, "g/cm³", "Density of the crystals"))


def _contacts_figure(sets: Sequence[Styled]) -> str:
    edges = np.linspace(0, 1.6, 41)
    series = []
    for features, style in sets:
        if len(features.ratio_raw):
            series.append(Series(f"{features.name}, raw", f"{style} raw", features.ratio_raw))
        if len(features.ratio):
            series.append(Series(f"{features.name}, resolved", style, features.ratio))
    if not series:
        return missing("Closest contacts", "there are no decoded samples")
    key = legend([(s.name, s.style) for s in series])
    words = "closest distance / sum of covalent radii"
    chart = histogram(series, edges, words, "Closest contacts", [(0.5, "strict limit")])
    return card("Closest contacts, before and after overlaps are resolved", key + chart)


def _hull_figure(sets: Sequence[Styled]) -> str:
    series = [Series(f"{f.name} (n = {len(f.energies):,})", style, f.energies) for f, style in sets if len(f.energies)]
    if not series:
        return missing("Energy above the hull", "no sample was relaxed against a hull")
    edges = np.linspace(-0.2, 1.0, 49)
    key = legend([(s.name, s.style) for s in series])
    marks = [(0.0, "stable"), (0.1, "metastable")]
    chart = histogram(series, edges, "eV/atom, local hull", "Energy above the hull", marks)
    return card("Energy above the hull, after relaxation", key + chart, "The last bin holds everything above it.")


def elements_tables(sets: Sequence[tuple[HasElements, str]], things: str = "crystals") -> str:
    """Share of crystals that contain each element, a periodic table for each set of crystals."""
    top = max((float(f.element_shares.max()) for f, _ in sets), default=0.0) or 1.0
    tables = []
    for features, style in sets:
        body = ""
        for z in range(1, 104):
            row, column = table_place(z)
            share = float(features.element_shares[z])
            x, y = (column - 1) * 27, (row - 1) * 27 + (6 if row >= 8 else 0)
            said = [f"{SYMBOLS[z]}: in {percent(share)} of {features.name}"]
            said += [f"{percent(float(f.element_shares[z]))} of {f.name}" for f, _ in sets if f is not features]
            heat = (
                f'<rect class="fill {style}" x="{x}" y="{y}" width="25" height="25" rx="3" '
                f'fill-opacity="{np.sqrt(share / top):.2f}"/>'
                if share
                else ""
            )
            body += (
                f'<g data-tip="{esc("; ".join(said))}">'
                f'<rect class="cell" x="{x}" y="{y}" width="25" height="25" rx="3"/>{heat}'
                f'<text x="{x + 12.5}" y="{y + 16.5}" text-anchor="middle">{SYMBOLS[z]}</text></g>'
            )
        tables.append(
            f'<div><p class="legend"><span class="key {style}"><i></i>{esc(features.name)}</span></p>'
            '<svg class="chart elements" viewBox="0 0 486 250" role="img" '
            f'aria-label="Elements in {esc(features.name)}">'
            f"{body}</svg></div>"
        )
    note = f"Share of {things} that contain the element, square-root scale, full colour at {percent(top)}."
    return card("Elements", f'<div class="pair">{"".join(tables)}</div>', note, wide=True)


def training_figures(histories: dict[str, list[dict[str, Any]]], fields: Sequence[str] = LOSS_FIELDS) -> str:
    """Losses per field, training and validation, and the throughput, of one or several trainings of a kind."""
    made = ""
    for field in fields:
        series = []
        for i, (name, rows) in enumerate(histories.items()):
            prefix = f"{name}, " if len(histories) > 1 else ""
            for kind, dots in (("train", False), ("validation", True)):
                x, y = _curve(rows, kind, field)
                if len(x):
                    style = f"s{i + 1}" if dots else f"s{i + 1} pale"
                    series.append(Series(f"{prefix}{kind}", style, y, x, dots))
        if series:
            title = f"Loss, {field.replace('_', ' ')}"
            made += card(title, legend([(s.name, s.style) for s in series]) + lines(series, "step", title))
    return made + _throughput_figure(histories)


def loss_fields(histories: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Losses that were validated, the total first; those that are zero throughout are left out."""
    rows = [row for history in histories.values() for row in history if row["kind"] == "validation"]
    names = dict.fromkeys(name for row in rows for name, value in row.items() if _is_number(value) and name != "step")
    used = [name for name in names if any(row.get(name) for row in rows)]
    return sorted(used, key=lambda name: name != "total")


def _throughput_figure(histories: dict[str, list[dict[str, Any]]]) -> str:
    series, unit = [], ""
    for i, (name, rows) in enumerate(histories.items()):
        found = [key for row in rows for key in row if key.endswith(_RATE)]
        x, y = _curve(rows, "train", found[0]) if found else (np.zeros(0), np.zeros(0))
        if len(x):
            unit = found[0].removesuffix(_RATE).replace("_", " ")
            series.append(Series(name, f"s{i + 1}", y, x))
    if not series:
        return ""
    said = "; ".join(f"{s.name}: median {np.median(s.values):.0f} {unit}/s" for s in series)
    return card("Throughput of training", lines(series, "step", f"{unit.capitalize()} per second"), said)


def _curve(rows: list[dict[str, Any]], kind: str, field: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a field in the lines of one kind."""
    found = [(row["step"], row[field]) for row in rows if row["kind"] == kind and _is_number(row.get(field))]
    points = np.array(found, dtype=np.float64).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def comparison_figure(histograms: dict[str, list[int]], styles: dict[str, str]) -> str:
    """Space groups of each mode, drawn and detected, below those of the training set."""
    sets = []
    for name, counts in histograms.items():
        groups = np.repeat(np.arange(1, len(counts) + 1), counts)
        none = np.zeros(0)
        mode = name.rsplit(" ", 1)[0]
        style = "s0" if name == "train" else styles.get(mode, "s1") + (" pale" if name.endswith("drawn") else "")
        sets.append((Features(name, len(groups), groups, "counted", none, none, none, none, none, none, none), style))
    return space_groups_figure(sets)
