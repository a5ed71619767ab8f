"""Puts the parts of a page together and writes it whole or not at all."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from matgen.errors import StageError
from matgen.evaluation.metric import Metric
from matgen.evaluation.report.features import all_features
from matgen.evaluation.report.figures import card, comparison_figure, distribution_figures, missing, training_figures
from matgen.evaluation.report.gallery import failure_strip, make_gallery, viewer_data
from matgen.evaluation.report.metric_tables import comparison_table, figure, metrics_table, published_table
from matgen.evaluation.report.picture import gradients
from matgen.evaluation.report.provenance import checkpoint_hashes, finished, provenance_html
from matgen.evaluation.report.reading import Population, RunContents, read_runs
from matgen.evaluation.report.svg import esc
from matgen.evaluation.report.yields import failures, failures_html, preprocess_failures, waterfall_html


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What a page shows.

    num_crystals: in the gallery of each set of samples. num_failures: in its strip of failures.
    """

    num_crystals: int = 24
    num_failures: int = 8


HEADLINES = (
    ("valid", "valid", "structural and compositional validity"),
    ("unique_novel_train", "unique and novel", "of all samples drawn"),
    ("fidelity_exact_0.1", "requested space group", "exactly, at symprec 0.1 Å"),
    ("templates_new", "new templates", "that the training set lacks"),
    ("sun", "S.U.N.", "stable, unique, novel"),
)
"""(metric, words, what it means) of the figures at the top."""


def build_report(
    run_dirs: Path | Sequence[Path],
    out: Path,
    *,
    names: Sequence[str] | None = None,
    config: ReportConfig | None = None,
) -> Path:
    """Write one self-contained page about one or several runs; it opens from a file, without a network.

    Args:
        run_dirs: directories of runs, as `matgen run --out` makes them. A stage that was not run is said to be so.
        out: the page; its folder is made where absent.
        names: what to call each run; default: by its folder.
        config: settings.

    Returns:
        `out`.

    Raises:
        StageError: a directory is missing or holds no stage, or the page cannot be written.
        SourceError: a file of a stage is corrupt.
    """
    directories = [run_dirs] if isinstance(run_dirs, Path) else list(run_dirs)
    if not directories:
        raise StageError("a report needs at least one run")
    html = render(read_runs(directories, names), config or ReportConfig())
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(html, encoding="utf-8")
        aside.replace(out)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise StageError(f"cannot write {out}: {error.strerror or error}") from error
    return out


def render(contents: RunContents, config: ReportConfig) -> str:
    """The page as text."""
    styles = {population.name: f"s{i % 6 + 1}" for i, population in enumerate(contents.populations)}
    scored = [
        (population.name, styles[population.name], population.summary.metrics)
        for population in contents.populations
        if population.summary is not None
    ]
    crystals, data = _crystals(contents, config)
    sections = [
        ("yields", "Yields", _yields(contents, styles)),
        ("crystals", "Crystals", crystals),
        *([("comparison", "Comparison", _comparisons(contents, styles))] if contents.comparisons else []),
        ("scores", "Scores", metrics_table(scored)),
        ("published", "Beside published models", published_table(scored, contents.source)),
        ("distributions", "Distributions", f'<div class="grid2">{_distributions(contents, styles)}</div>'),
        ("training", "Training", f'<div class="grid2">{_training(contents)}</div>'),
        ("provenance", "Provenance", provenance_html(contents)),
    ]
    links = "".join(f'<a href="#{key}">{esc(title)}</a>' for key, title, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{esc(title)}</h2>{html}</section>' for key, title, html in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{esc(contents.title)} · matgen</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_asset("style.css")}</style></head><body>'
        f"{_header(contents, scored)}<nav>{links}</nav><main>{body}</main>{_asset('viewer.html')}"
        f'<div id="tip" role="status"></div><script type="application/json" id="crystal-data">{data}</script>'
        f"<script>{_asset('page.js')}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files("matgen.evaluation.report").joinpath(name).read_text(encoding="utf-8")


def _header(contents: RunContents, scored: Sequence[tuple[str, str, Sequence[Metric]]]) -> str:
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
    tiles = "".join(_tiles(*item, len(scored) > 1) for item in scored)
    return (
        '<header><p class="eyebrow">matgen · crystals drawn by a diffusion model on asymmetric units</p>'
        f'<h1>{esc(contents.title)}</h1><p class="facts">{items}</p>{tiles}</header>'
    )


def _tiles(name: str, style: str, metrics: Sequence[Metric], named: bool) -> str:
    by_name = {metric.name: metric for metric in metrics}
    drawn = max((metric.n for metric in metrics), default=0)
    tiles = f'<div class="tile"><strong>{drawn:,}</strong><span>samples drawn</span></div>'
    for key, words, meaning in HEADLINES:
        metric = by_name.get(key)
        ran = metric is not None and metric.status == "ok" and metric.value is not None
        value = figure(metric.value, metric.unit) if metric is not None and ran else "not run"
        why = meaning if ran or metric is None else metric.reason
        kind = "tile" if ran else "tile notrun"
        tiles += f'<div class="{kind}" title="{esc(why)}"><strong>{value}</strong><span>{esc(words)}</span></div>'
    heading = f'<h3 class="key {style}"><i></i>{esc(name)}</h3>' if named else ""
    return f'{heading}<div class="tiles">{tiles}</div>'


def _yields(contents: RunContents, styles: dict[str, str]) -> str:
    parts = []
    if contents.records is not None:
        rows = preprocess_failures(contents.records)
        total = contents.records.num_rows
        good = total - sum(row[2] for row in rows)
        words = f"<p>{good:,} of {total:,} structures of the data set became records.</p>"
        parts.append(words + (failures_html(rows, total) if rows else ""))
    for population in contents.populations:
        lost = failures(population)
        parts.append(
            f'<h3 class="key {styles[population.name]}"><i></i>{esc(population.name)}</h3>'
            f"{waterfall_html(population, styles[population.name])}"
            f"<h4>Why samples failed</h4>{failures_html(lost, population.num_drawn)}"
        )
    if not contents.populations:
        parts.append('<p class="notrun">not run: no samples were drawn</p>')
    note = '<p class="note">Shares are of all samples drawn. Hollow bars stand beside the line, not in it.</p>'
    return "".join(parts) + note


def _crystals(contents: RunContents, config: ReportConfig) -> tuple[str, str]:
    """The galleries and the viewer's data."""
    parts: list[str] = []
    entries: list[dict[str, Any]] = []
    elements: set[int] = set()
    for population in contents.populations:
        gallery, rule = make_gallery(population, config.num_crystals, len(entries))
        entries += gallery.viewer
        elements |= gallery.elements
        parts.append(_gallery_html(population, gallery.html, rule, len(contents.populations) > 1))
        strip, numbers = failure_strip(population, config.num_failures)
        elements |= numbers
        if strip:
            parts.append(
                '<h4>The first that failed</h4><p class="note">Pictures are of the decoded crystal where there is one, '
                f'else of the representatives in the cell as drawn.</p><div class="gallery">{strip}</div>'
            )
    if not contents.populations:
        parts.append('<p class="notrun">not run: no samples were drawn</p>')
    return gradients(elements) + "".join(parts), viewer_data(entries, elements)


def _gallery_html(population: Population, cards: str, rule: str, named: bool) -> str:
    heading = f"<h3>{esc(population.name)}</h3>" if named else ""
    if not cards:
        return f'{heading}<p class="notrun">no crystal to show: {esc(rule)}</p>'
    note = f"Shown: {rule}. Pictures are of the conventional cell; click one to turn it."
    return f'{heading}<p class="note">{esc(note)}</p><div class="gallery">{cards}</div>'


def _comparisons(contents: RunContents, styles: dict[str, str]) -> str:
    parts = []
    for name, comparison in contents.comparisons.items():
        modes = {mode: f"s{i + 1}" for i, mode in enumerate(comparison["metrics"])}
        words = {"templates": "from templates"}
        modes |= {mode: styles[words.get(mode, mode)] for mode in modes if words.get(mode, mode) in styles}
        heading = f"<h3>{esc(name)}</h3>" if len(contents.comparisons) > 1 else ""
        chart = comparison_figure(comparison["histograms"], modes)
        parts.append(f'{heading}{comparison_table(comparison, modes)}<div class="grid2">{chart}</div>')
    note = "A difference stands out where its interval leaves out zero. Groups drawn are the baseline of the detected."
    return "".join(parts) + f'<p class="note">{note}</p>'


def _distributions(contents: RunContents, styles: dict[str, str]) -> str:
    data, samples = all_features(contents)
    sets = ([(data, "s0")] if data is not None else []) + [(features, styles[features.name]) for features in samples]
    return distribution_figures(sets)


def _training(contents: RunContents) -> str:
    if not contents.histories:
        return missing("Losses", "no stage train of these runs has left a history")
    return training_figures(contents.histories)


__all__ = ["ReportConfig", "build_report", "card", "render"]
