"""The page of the property comparison: one table with intervals, and what each way achieved as a histogram."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from matgen.evaluation.achieved import PropertyComparison
    from matgen.evaluation.metric import Metric
    from matgen.evaluation.table import Table
    from matgen.mof_config import MofOptimizeConfig

_COLORS = {"latent": "#1f6feb", "conditional": "#c2410c", "random": "#6b7280", "training": "#15803d"}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:2em auto;padding:0 1em;color:#1d2530}
table{border-collapse:collapse}td,th{padding:.2em 1.2em .2em 0;text-align:left;vertical-align:top}small{color:#5a6675}
svg{width:100%;max-width:760px}svg text{font-size:11px;fill:#5a6675}.grid{stroke:#e3e8ee}.axis{stroke:#98a2b3}
.mark{stroke:#1d2530;stroke-dasharray:4 3}.area{fill:none;stroke-width:2}.hit{fill:transparent}
.key{margin-right:1.2em}.key i{display:inline-block;width:.8em;height:.8em;margin-right:.4em}""" + "".join(
    f".area.{name}{{stroke:{color}}}.key.{name} i{{background:{color}}}" for name, color in _COLORS.items()
)


def comparison_page(
    comparison: "PropertyComparison",
    tables: Mapping[str, "Table"],
    reference: "np.ndarray | None",
    config: "MofOptimizeConfig",
) -> str:
    """Write the page.

    Args:
        comparison: the figures.
        tables: rows of each way.
        reference: values of the training set; None where there are none.
        config: what was asked for.
    """
    from matgen.evaluation.report.svg import esc

    asked = f"{config.target:g}" if config.goal == "target" and config.target is not None else config.goal
    title = f"{config.property}, asked for: {asked}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{esc(title)}</title><style>{_STYLE}</style>'
        f"<h1>{esc(title)}</h1>{_table(comparison)}{_differences(comparison)}"
        f"{_figure(tables, reference, config)}</html>\n"
    )


def _table(comparison: "PropertyComparison") -> str:
    from matgen.evaluation.report.svg import esc

    ways = list(comparison.metrics)
    head = "".join(f"<th>{esc(way)}</th>" for way in ways)
    rows = []
    for metrics in zip(*comparison.metrics.values(), strict=True):
        cells = "".join(f"<td>{_cell(metric)}</td>" for metric in metrics)
        rows.append(f"<tr><td>{esc(metrics[0].label)}<br><small>{esc(metrics[0].protocol)}</small></td>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _cell(metric: "Metric") -> str:
    from matgen.evaluation.report.svg import esc, number

    if metric.value is None:
        return f"not run<br><small>{esc(metric.reason)}</small>"
    low, high = metric.interval or (None, None)
    own = "" if metric.reference_value is None else f"; training set {number(metric.reference_value)}"
    return f"{number(metric.value)}<br><small>{number(low)} to {number(high)}, n {metric.n}{own}</small>"


def _differences(comparison: "PropertyComparison") -> str:
    from matgen.evaluation.report.svg import esc, number

    rows = "".join(
        f"<tr><td>{esc(item.label)}</td><td>{number(item.value)}</td>"
        f"<td><small>{number(item.interval[0])} to {number(item.interval[1])}</small></td></tr>"
        for item in comparison.differences
        if item.name in ("achieved_mean", "miss", "near", "came_out")
    )
    return f"<h2>Differences</h2><table>{rows}</table>"


def _figure(tables: Mapping[str, "Table"], reference: "np.ndarray | None", config: "MofOptimizeConfig") -> str:
    import numpy as np

    from matgen.evaluation.report.svg import Series, histogram, legend

    values = {way: table["achieved"].astype(np.float64) for way, table in tables.items()}
    if reference is not None:
        values["training"] = reference
    series = [Series(way, way, found[np.isfinite(found)]) for way, found in values.items()]
    series = [item for item in series if len(item.values)]
    if not series:
        return "<p>Nothing was measured: no figure.</p>"
    everything = np.concatenate([item.values for item in series])
    low, high = (float(bound) for bound in np.quantile(everything, [0.005, 0.995]))
    target = config.target if config.goal == "target" else None
    if target is not None:
        low, high = min(low, target), max(high, target)
    edges = np.linspace(low, high if high > low else low + 1.0, 25)
    marks = [] if target is None else [(target, "target")]
    picture = histogram(series, edges, config.property, f"achieved {config.property}", marks)
    return f"<h2>Achieved</h2>{legend([(s.name, s.style) for s in series])}{picture}"
