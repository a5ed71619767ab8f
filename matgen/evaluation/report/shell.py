"""What every page has: the head, the figures at the top, the sections, the viewer; one file, nothing from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from os.path import relpath
from pathlib import Path

from matgen.evaluation.metric import Metric
from matgen.evaluation.report.metric_tables import Scored, figure
from matgen.evaluation.report.provenance import checkpoint_hashes, finished
from matgen.evaluation.report.reading import RunContents
from matgen.evaluation.report.svg import esc


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What a page shows.

    num_crystals, num_frameworks: in the gallery of each set of samples. num_failures: in its strip of failures.
    """

    num_crystals: int = 24
    num_frameworks: int = 12
    num_failures: int = 8


@dataclass(frozen=True, kw_only=True)
class Page:
    """eyebrow: the line above the title. headlines: (metric, words, what it means) of the figures at the top.
    sections: (key, title, HTML). viewer: JSON for the 3-D viewer.
    """

    eyebrow: str
    headlines: Sequence[tuple[str, str, str]]
    sections: Sequence[tuple[str, str, str]]
    viewer: str


def styles_of(contents: RunContents) -> dict[str, str]:
    """Class of the colour of each set of samples."""
    return {population.name: f"s{i % 6 + 1}" for i, population in enumerate(contents.populations)}


def scored_of(contents: RunContents) -> list[Scored]:
    """The sets of samples that were scored, with their colours and metrics."""
    styles = styles_of(contents)
    return [
        (population.name, styles[population.name], population.summary.metrics)
        for population in contents.populations
        if population.summary is not None
    ]


def page_html(contents: RunContents, page: Page, folder: Path) -> str:
    """The whole page as text.

    Args:
        contents: of the runs.
        page: what differs between crystals and frameworks.
        folder: in which the page is going to be, for links to its neighbours.
    """
    links = "".join(f'<a href="#{key}">{esc(title)}</a>' for key, title, _ in page.sections)
    links += "".join(
        f'<a class="other" href="{esc(relpath(path, folder))}">{esc(words)} →</a>' for words, path in contents.links
    )
    body = "".join(f'<section id="{key}"><h2>{esc(title)}</h2>{html}</section>' for key, title, html in page.sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{esc(contents.title)} · matgen</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_asset("style.css")}</style></head><body>'
        f"{_header(contents, page)}<nav>{links}</nav><main>{body}</main>{_asset('viewer.html')}"
        f'<div id="tip" role="status"></div><script type="application/json" id="crystal-data">{page.viewer}</script>'
        f"<script>{_asset('page.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files("matgen.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _header(contents: RunContents, page: Page) -> str:
    scored = scored_of(contents)
    seeds = dict.fromkeys(str(stage.record["seed"]) for _, stage in contents.stages if "seed" in stage.record)
    run_ids = dict.fromkeys(str(run["run_id"]) for run in contents.runs.values() if run.get("run_id"))
    facts = {
        "data": contents.source,
        "run": ", ".join(run_ids),
        "checkpoint": ", ".join(checkpoint_hashes(contents)),
        "seed": ", ".join(seeds),
        "finished": finished(contents).replace("T", " "),
    }
    items = "".join(f"<span><b>{name}</b> {esc(text)}</span>" for name, text in facts.items() if text)
    tiles = "".join(_tiles(*item, page.headlines, len(scored) > 1) for item in scored)
    return (
        f'<header><p class="eyebrow">{esc(page.eyebrow)}</p>'
        f'<h1>{esc(contents.title)}</h1><p class="facts">{items}</p>{tiles}</header>'
    )


def _tiles(
    name: str, style: str, metrics: Sequence[Metric], headlines: Sequence[tuple[str, str, str]], named: bool
) -> str:
    by_name = {metric.name: metric for metric in metrics}
    drawn = max((metric.n for metric in metrics), default=0)
    tiles = f'<div class="tile"><strong>{drawn:,}</strong><span>samples drawn</span></div>'
    for key, words, meaning in headlines:
        metric = by_name.get(key)
        ran = metric is not None and metric.status == "ok" and metric.value is not None
        value = figure(metric.value, metric.unit) if metric is not None and ran else "not run"
        why = meaning if ran or metric is None else metric.reason
        kind = "tile" if ran else "tile notrun"
        tiles += f'<div class="{kind}" title="{esc(why)}"><strong>{value}</strong><span>{esc(words)}</span></div>'
    heading = f'<h3 class="key {style}"><i></i>{esc(name)}</h3>' if named else ""
    return f'{heading}<div class="tiles">{tiles}</div>'
