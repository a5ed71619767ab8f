"""Tables of figures: ours with interval, n and protocol; beside published ones; and one mode against another."""

from collections.abc import Mapping, Sequence
from typing import Any

from matgen.evaluation.metric import Metric
from matgen.evaluation.published import CAVEATS, PUBLISHED, PUBLISHED_COLUMNS, SYMMCD_PAPER
from matgen.evaluation.report.svg import esc, number, percent

Scored = tuple[str, str, Sequence[Metric]]
"""(name, class of its colour, metrics) of a set of samples."""

_ARROWS = {"higher": ("↑", "higher is better"), "lower": ("↓", "lower is better"), "reference": ("≈", "near the data")}


def figure(value: float | None, unit: str) -> str:
    """A value in its unit, without the unit's name unless it is a share."""
    return percent(value) if unit == "share" else number(value)


def metrics_table(populations: Sequence[Scored], data: str = "training set") -> str:
    """All metrics, a column for each set of samples, and what the data themselves score.

    Args:
        populations: sets of samples.
        data: what to call the data.
    """
    if not populations:
        return '<p class="notrun">not run: no set of samples has been scored (stage evaluate)</p>'
    by_name = [{metric.name: metric for metric in metrics} for _, _, metrics in populations]
    order: dict[str, Metric] = {}
    for metrics in by_name:
        for name, metric in metrics.items():
            order.setdefault(name, metric)
    head = "".join(f'<th class="num key {style}"><i></i>{esc(name)}</th>' for name, style, _ in populations)
    body, group = "", None
    for name, first in order.items():
        if first.group != group:
            group = first.group
            body += f'<tr class="group"><th colspan="{len(populations) + 3}">{esc(group)}</th></tr>'
        body += _metric_row(first, [metrics.get(name) for metrics in by_name], [p[1] for p in populations])
    return (
        '<div class="scroll"><table class="metrics"><thead><tr><th>metric <span class="faint">(open for the protocol)'
        f'</span></th>{head}<th class="num" title="the own score of the {esc(data)}">{esc(data)}</th>'
        f'<th class="num" title="what as many draws from the {esc(data)} would score">same n of it</th>'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _metric_row(first: Metric, metrics: Sequence[Metric | None], styles: Sequence[str]) -> str:
    arrow, meaning = _ARROWS[first.better]
    protocols = dict.fromkeys(metric.protocol for metric in metrics if metric is not None)
    notes = "<br>".join(esc(text) for text in protocols)
    unit = "" if first.unit in ("share", "count", "") else f' <span class="faint">{esc(first.unit)}</span>'
    label = (
        f'<details><summary>{esc(first.label)}{unit} <span class="arrow" title="{meaning}">{arrow}</span></summary>'
        f'<p class="protocol">{notes}</p></details>'
    )
    cells = "".join(_cell(metric, style) for metric, style in zip(metrics, styles, strict=True))
    known = next((m for m in metrics if m is not None and m.reference_value is not None), first)
    same = next((m for m in metrics if m is not None and m.same_n_value is not None), first)
    own = "" if known.reference_value is None else figure(known.reference_value, first.unit)
    as_many = "" if same.same_n_value is None else figure(same.same_n_value, first.unit)
    return f'<tr><td>{label}</td>{cells}<td class="num">{own}</td><td class="num">{as_many}</td></tr>'


def _cell(metric: Metric | None, style: str) -> str:
    if metric is None:
        return '<td class="num notrun">–</td>'
    if metric.status != "ok" or metric.value is None:
        return f'<td class="num notrun"><b>not run</b><small>{esc(metric.reason)}</small></td>'
    interval = "" if metric.interval is None else _interval(metric)
    strip = _strip(metric, style) if metric.unit == "share" and metric.interval is not None else ""
    return (
        f'<td class="num"><div class="value">{strip}<div><b>{figure(metric.value, metric.unit)}</b>'
        f"<small>{interval} n&nbsp;=&nbsp;{metric.n:,}</small></div></div></td>"
    )


def _interval(metric: Metric) -> str:
    assert metric.interval is not None
    low, high = metric.interval
    if metric.unit == "share":
        return f"[{100 * low:.1f}, {100 * high:.1f}]"
    return f"[{number(low)}, {number(high)}]"


def _strip(metric: Metric, style: str) -> str:
    """Value and interval on a line from 0 to 1; a tick marks the training set."""
    assert metric.interval is not None and metric.value is not None
    low, high = (100 * min(max(x, 0.0), 1.0) for x in metric.interval)
    own = metric.reference_value
    tick = "" if own is None else f'<line class="own" x1="{100 * own:.1f}" x2="{100 * own:.1f}" y1="0" y2="8"/>'
    return (
        f'<svg class="strip {style}" viewBox="-2 0 104 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<line class="grid" x1="0" x2="100" y1="4" y2="4"/><line class="span" x1="{low:.1f}" x2="{high:.1f}" y1="4" '
        f'y2="4"/>{tick}<circle cx="{100 * metric.value:.1f}" cy="4" r="2.2"/></svg>'
    )


def published_table(populations: Sequence[Scored], source: str) -> str:
    """Our rows below those that others have published, with what keeps them from being comparable."""
    all_metrics = [{metric.name: metric for metric in metrics} for _, _, metrics in populations]
    labels = {name: metrics[name] for metrics in all_metrics for name in metrics if name in PUBLISHED_COLUMNS}
    head = "".join(f'<th class="num">{_column_head(name, labels.get(name))}</th>' for name in PUBLISHED_COLUMNS)
    rows = ""
    for row in PUBLISHED:
        cells = "".join(_published_cell(row.values.get(n), row.deviation.get(n), n) for n in PUBLISHED_COLUMNS)
        kind = ' class="main"' if row.is_main else ""
        rows += f'<tr{kind}><th>{esc(row.model)}</th><td class="num">10,000</td>{cells}</tr>'
    for (name, style, metrics), by_name in zip(populations, all_metrics, strict=True):
        n = max((metric.n for metric in metrics), default=0)
        cells = "".join(_our_cell(by_name.get(column)) for column in PUBLISHED_COLUMNS)
        rows += (
            f'<tr class="ours"><th class="key {style}"><i></i>{esc(name)}</th><td class="num">{n:,}</td>{cells}</tr>'
        )
    notes = list(CAVEATS)
    if source and source != "mp_20":
        notes.insert(0, f"The published rows are of MP-20; this run's data are {source}: the rows do not compare.")
    small = [name for name, _, metrics in populations if max((m.n for m in metrics), default=0) < 10_000]
    if small:
        notes.insert(0, f"Counts of templates grow with n: {', '.join(small)} drew fewer than 10,000 samples.")
    items = "".join(f"<li>{esc(note)}</li>" for note in notes)
    protocol = PUBLISHED[0].protocol
    return (
        '<div class="scroll"><table class="published"><thead><tr><th>model</th><th class="num">n</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="note">Published rows: {esc(SYMMCD_PAPER)}. {esc(protocol)}.</p>'
        f'<p class="note"><b>Protocols differ.</b></p><ul class="note">{items}</ul>'
    )


_SHORT = {
    "structure_valid": "struct. valid",
    "composition_valid": "comp. valid",
    "coverage_recall": "COV-R",
    "coverage_precision": "COV-P",
    "d_density_valid": "d density",
    "d_elements_valid": "d elements",
    "d_sg": "d space group",
    "templates_unique": "templates unique",
    "templates_in_train": "in train",
    "templates_new": "new",
    "sun": "S.U.N.",
}


def _column_head(name: str, metric: Metric | None) -> str:
    title = f' title="{esc(metric.label)}"' if metric is not None else ""
    return f"<span{title}>{esc(_SHORT.get(name, name))}</span>"


def _published_cell(value: float | None, deviation: float | None, name: str) -> str:
    if value is None:
        return '<td class="num faint">–</td>'
    is_share = name in ("structure_valid", "composition_valid", "coverage_recall", "coverage_precision", "sun") or (
        name == "templates_in_train"
    )
    text = f"{100 * value:.2f} %" if is_share else number(value)
    scale = 100 if is_share else 1
    spread = "" if deviation is None else f"<small>± {scale * deviation:.3g}</small>"
    return f'<td class="num">{text}{spread}</td>'


def _our_cell(metric: Metric | None) -> str:
    if metric is None or metric.status != "ok" or metric.value is None:
        reason = "not scored" if metric is None else metric.reason
        return f'<td class="num notrun" title="{esc(reason)}">not run</td>'
    interval = "" if metric.interval is None else f"<small>{_interval(metric)}</small>"
    return f'<td class="num"><b>{figure(metric.value, metric.unit)}</b>{interval}</td>'


def comparison_table(comparison: Mapping[str, Any], styles: Mapping[str, str]) -> str:
    """The metrics of each mode beside each other, and their differences with intervals.

    Args:
        comparison: `ModeComparison.to_dict`.
        styles: class of each mode's colour.
    """
    modes = {mode: [Metric.from_dict(m) for m in metrics] for mode, metrics in comparison["metrics"].items()}
    differences = {item["name"]: item for item in comparison["differences"]}
    head = "".join(f'<th class="num key {styles.get(m, "s1")}"><i></i>{esc(m)}</th>' for m in modes)
    body, group = "", None
    for metrics in zip(*modes.values(), strict=True):
        first = metrics[0]
        if first.group != group:
            group = first.group
            body += f'<tr class="group"><th colspan="{len(modes) + 3}">{esc(group)}</th></tr>'
        cells = "".join(_cell(m, styles.get(mode, "s1")) for mode, m in zip(modes, metrics, strict=True))
        own = "" if first.reference_value is None else figure(first.reference_value, first.unit)
        protocol = f'<p class="protocol">{esc(first.protocol)}</p>'
        summary = f"<details><summary>{esc(first.label)}</summary>{protocol}</details>"
        difference = _difference_cell(differences.get(first.name), first.unit)
        body += f'<tr><td>{summary}</td>{cells}{difference}<td class="num">{own}</td></tr>'
    return (
        f'<div class="scroll"><table class="metrics"><thead><tr><th>metric</th>{head}<th class="num">difference</th>'
        f'<th class="num">training set</th></tr></thead><tbody>{body}</tbody></table></div>'
    )


def _difference_cell(item: Mapping[str, Any] | None, unit: str) -> str:
    if item is None:
        return '<td class="num faint">–</td>'
    low, high = item["interval"]
    scale, suffix = (100, " points") if unit == "share" else (1, "")
    apart = "" if low <= 0 <= high else " apart"
    return (
        f'<td class="num{apart}"><b>{scale * item["value"]:+.3g}{suffix}</b>'
        f"<small>[{scale * low:.3g}, {scale * high:.3g}]</small></td>"
    )
