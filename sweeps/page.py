"""sweep.html: one page without network about a sweep."""

import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cluster.lineage import write_text
from matgen.errors import ConfigError
from sweeps.journal import Journal, TrialRecord
from sweeps.results import confirmed, encoded, pareto_front, run_to_the_end, saving, winner
from sweeps.search import default_values
from sweeps.spaces import Space
from sweeps.subjects import subject_of
from sweeps.watch import describe
from sweeps.work import TrialWork

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:13px;width:100%}td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;
text-align:left;vertical-align:top}td.n{font-variant-numeric:tabular-nums;white-space:nowrap}tr.w{background:#eef7ee}
.wide{overflow-x:auto}.wide td:last-child{min-width:24rem}
.bad{color:#a33}h2{margin-top:2.2rem}p.note{color:#555}"""

_COLOUR = {"done": "#1b7837", "stopped": "#8a8a8a", "running": "#2166ac"}


def write_page(journal: Journal, work: TrialWork, space: Space, importance: Mapping[str, float], path: Path) -> None:
    """Write the page about a sweep; plotly lies within."""
    import plotly.io
    from plotly.offline import get_plotlyjs

    figures: list[tuple[str, str, Any]] = [
        (
            "Best so far",
            "Trials run to the end, with their intervals; the line is the best so far.",
            _progress(journal),
        ),
        ("Parameters", "A line a trial; stopped ones with the quality at their last rung.", _parallel(journal, space)),
        ("Importance", "PED-ANOVA, adding up to 1; of few points it says little.", _bars(importance)),
        ("Schedules", "Signal left of each field over the way to noise.", _schedules(journal, work)),
        ("Quality against cost", "Seconds of training per 1,000 rows; the line is the Pareto front.", _pareto(journal)),
    ]
    parts = [_head(journal, space, get_plotlyjs()), _winner_words(journal), _second_look(journal)]
    for title, note, figure in figures:
        if figure is not None:
            drawn = plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, default_height=420)
            parts.append(f"<h2>{title}</h2><p class=note>{html.escape(note)}</p>{drawn}")
    parts.append(_trial_table(journal))
    write_text(path, "\n".join([*parts, "</body></html>\n"]))


def _head(journal: Journal, space: Space, library: str) -> str:
    config = journal.config
    subject = subject_of(config.subject)
    budget = config.budget
    costs = ", ".join(f"{cost:g}" for cost in config.rung_budget.costs)
    unit = subject.noun if budget.unit == "crystals" else budget.unit
    said = (
        f"{len(journal.trials)} trials of space “{space.name}” ({space.summary}); {config.search} search, "
        f"{config.scheduler} scheduler; judged at {costs} {unit} by {config.samples} samples with the same seeds for "
        "all."
    )
    if config.scheduler == "asha":
        said += f" Stopping early saved {saving(journal):.0%} of the cost of running all to the end."
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>Sweep {html.escape(space.name)}</title>"
        f"<style>{_STYLE}</style><script>{library}</script></head><body><h1>Sweep: "
        f"{html.escape(str(journal.experiment.get('name')))}</h1><p>{html.escape(said)}</p>"
        f"<p class=note>Quality: {html.escape(subject.formula)}.</p>"
    )


def _winner_words(journal: Journal) -> str:
    best = winner(journal)
    if best is None:
        return "<p class=bad>No trial ran to its end.</p>"
    values = "".join(
        f"<tr><td>{html.escape(k)}</td><td>{html.escape(str(v))}</td></tr>" for k, v in best.values.items()
    )
    same = "" if best.values else "<p>The experiment's own settings.</p>"
    return f"<h2>Winner: trial {best.number}</h2>{same}<table>{values}</table><p class=note>best.json holds it.</p>"


def _second_look(journal: Journal) -> str:
    found = confirmed(journal)
    if not found:
        return ""
    rows = []
    for entry in found:
        own = "" if entry.own is None else f"{entry.own.value:.3f} [{entry.own.low:.3f}, {entry.own.high:.3f}]"
        mean = f"{entry.quality.value:.3f} [{entry.quality.low:.3f}, {entry.quality.high:.3f}]"
        values = html.escape(describe(entry.trial))
        rows.append(
            f"<tr><td>{entry.trial.number}</td><td>{html.escape(entry.trial.origin)}</td><td class=n>{mean}</td>"
            f"<td class=n>{entry.trainings}</td><td class=n>{own}</td><td>{values}</td></tr>"
        )
    head = "<tr><th>trial<th>origin<th>quality<th>fresh trainings<th>own checkpoint, new samples<th>values</tr>"
    return f"<h2>Second look</h2><table>{head}{''.join(rows)}</table>"


def _progress(journal: Journal) -> Any:
    from plotly.subplots import make_subplots

    line = run_to_the_end(journal)
    if not line:
        return None
    seconds, costs = [at for at, _, _ in line], [spent for _, spent, _ in line]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True)
    config = journal.config
    unit = "training seconds" if config.budget.unit == "seconds" else f"{subject_of(config.subject).noun} seen"
    own, low, high = (np.array([report[name] for _, _, report in line]) for name in ("objective", "low", "high"))
    best = np.maximum.accumulate(own)
    for column, (x, title) in enumerate(
        ((seconds, "seconds since the first report"), (costs, f"{unit}, all trials")), 1
    ):
        place = {"showlegend": False, "row": 1, "col": column}
        figure.add_scatter(x=x, y=best, mode="lines", line={"shape": "hv", "color": "#2166ac"}, **place)
        bars = {"array": high - own, "arrayminus": own - low, "thickness": 1}
        figure.add_scatter(x=x, y=own, error_y=bars, mode="markers", marker_color="#1b7837", **place)
        figure.update_xaxes(title=title, row=1, col=column)
    figure.update_yaxes(title="quality", range=[0, 1], row=1, col=1)
    return figure


def _parallel(journal: Journal, space: Space) -> Any:
    from plotly import graph_objects

    defaults = default_values(space, journal.experiment)
    trials = [t for t in journal.trials.values() if t.last and t.origin not in journal.config.baselines]
    if len(trials) < 2:
        return None
    dimensions = []
    for name in space.names:
        numbers, names = encoded(space, name, [{**defaults, **t.values}.get(name) for t in trials])
        if np.isfinite(numbers).any():
            log = names is None and getattr(space.parameter(name).domain, "log", False)
            dimension: dict[str, Any] = {"label": _short(name) + (" (log)" if log else ""), "values": numbers}
            if names is not None:
                dimension |= {"tickvals": list(range(len(names))), "ticktext": names}
            dimensions.append(dimension)
    objective = [float(t.objective or 0.0) for t in trials]
    dimensions.append({"label": "quality", "values": objective})
    line = {"color": objective, "colorscale": "Viridis", "showscale": True}
    lines = graph_objects.Parcoords(line=line, dimensions=dimensions, labelangle=-20, labelfont_size=11)
    return graph_objects.Figure(lines).update_layout(margin={"t": 110, "l": 90, "b": 40})


def _bars(importance: Mapping[str, float]) -> Any:
    from plotly import graph_objects

    if not importance:
        return None
    ordered = sorted(importance.items(), key=lambda item: item[1])
    return graph_objects.Figure(
        graph_objects.Bar(x=[v for _, v in ordered], y=[_short(k) for k, _ in ordered], orientation="h")
    ).update_layout(margin_l=220)


def _schedules(journal: Journal, work: TrialWork) -> Any:
    from plotly.subplots import make_subplots

    done = sorted((t for t in journal.trials.values() if t.last), key=lambda t: -float(t.objective or 0.0))
    chosen = {t.number: t for t in [*done[:4], *(t for t in done if t.origin not in ("search", "first"))]}
    curves = [(t, name, x, y) for t in chosen.values() for name, x, y in curves_of(work, t)]
    names = list(dict.fromkeys(name for _, name, _, _ in curves))
    if not names:
        return None
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=names)
    palette = ["#1b7837", "#762a83", "#e08214", "#2166ac", "#b2182b", "#555555", "#01665e", "#999900"]
    shown = set()
    for trial, name, x, y in curves:
        label = f"trial {trial.number}" + ("" if trial.origin in ("search", "first") else f" ({trial.origin})")
        colour = palette[list(chosen).index(trial.number) % len(palette)]
        figure.add_scatter(
            x=x, y=y, mode="lines", line_color=colour, name=label, legendgroup=label, showlegend=label not in shown,
            row=1, col=names.index(name) + 1,
        )  # fmt: skip
        shown.add(label)
    figure.update_xaxes(title="t / T")
    return figure


def curves_of(work: TrialWork, trial: TrialRecord) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, t / T and level of each noise schedule in the model's settings of a trial, wherever they lie."""
    try:
        experiment = work.experiment_of(trial.origin, trial.values)
    except ConfigError:
        return
    model = subject_of(work.config.subject).model(experiment)
    yield from _curves(model, "")


def _curves(config: Any, where: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    import dataclasses

    from matgen.diffusion.schedule import NoiseSchedule, ScheduleConfig, SigmaConfig, SigmaSchedule

    if isinstance(config, ScheduleConfig):
        level = NoiseSchedule(config).alpha_bar.sqrt().numpy()
        yield f"{where}: signal", *_thinned(level)
    elif isinstance(config, SigmaConfig):
        yield f"{where}: sigma", *_thinned(SigmaSchedule(config).sigma.numpy())
    elif dataclasses.is_dataclass(config):
        for field in dataclasses.fields(config):
            inner = field.name not in ("schedule", "sigmas", "process")
            yield from _curves(getattr(config, field.name), field.name if inner else where)


def _thinned(level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    index = np.unique(np.linspace(0, len(level) - 1, 101).round().astype(int))
    return (index / (len(level) - 1)).round(4), level[index].round(5)


def _pareto(journal: Journal) -> Any:
    from plotly import graph_objects

    trials = [t for t in journal.trials.values() if t.last.get("cost_per_1000")]
    if not trials:
        return None
    figure = graph_objects.Figure()
    for status in dict.fromkeys(t.status for t in trials):
        own = [t for t in trials if t.status == status]
        figure.add_scatter(
            x=[t.last["cost_per_1000"] for t in own],
            y=[t.objective for t in own],
            error_y={
                "array": [t.last["high"] - float(t.objective or 0) for t in own],
                "arrayminus": [float(t.objective or 0) - t.last["low"] for t in own],
                "thickness": 1,
            },
            mode="markers",
            name=status,
            marker_color=_COLOUR.get(status, "#b2182b"),
            text=[f"trial {t.number}: {describe(t)}" for t in own],
        )
    front = pareto_front(journal)
    figure.add_scatter(
        x=[t.last["cost_per_1000"] for t in front], y=[t.objective for t in front], mode="lines", name="front"
    )
    figure.update_xaxes(title="seconds of training per 1,000 rows", type="log")
    figure.update_yaxes(title="quality")
    return figure


def _trial_table(journal: Journal) -> str:
    trials = sorted(journal.trials.values(), key=lambda t: (-(t.last.get("rung", -1)), -float(t.objective or 0.0)))
    parts = list(dict.fromkeys(name for t in trials for name in t.last.get("parts", {})))
    losses = list(dict.fromkeys(name for t in trials for name in t.last.get("losses", {})))
    head = ["trial", "origin", "status", "rung", "cost", "quality", *parts, *(f"loss {x}" for x in losses), "values"]
    best = winner(journal)
    rows = []
    for trial in trials:
        last = trial.last
        quality = f"{last['objective']:.3f} [{last['low']:.3f}, {last['high']:.3f}]" if last else ""
        status = html.escape(trial.status + (f": {trial.reason}" if trial.reason else ""))
        numbers = [last.get("rung", ""), f"{last['cost']:g}" if last else "", quality]
        numbers += [_number(last.get("parts", {}).get(name)) for name in parts]
        numbers += [_number(last.get("losses", {}).get(name)) for name in losses]
        cells = "".join(f"<td class=n>{value}</td>" for value in numbers)
        mark = " class=w" if trial is best else ""
        rows.append(
            f"<tr{mark}><td>{trial.number}</td><td>{html.escape(trial.origin)}</td><td>{status}</td>{cells}"
            f"<td>{html.escape(describe(trial))}</td></tr>"
        )
    heads = "".join(f"<th>{html.escape(name)}" for name in head)
    note = "Losses of the validation set, field by field; their scale moves with the schedule, so they rank nothing."
    return (
        f"<h2>Trials</h2><p class=note>{note}</p><div class=wide><table><tr>{heads}</tr>{''.join(rows)}</table></div>"
    )


def _number(value: Any) -> str:
    return "" if value is None else f"{float(value):.3f}"


def _short(name: str) -> str:
    return ".".join(name.split(".")[-2:])
