"""The page about crystals."""

from typing import Any

from matgen.evaluation.report.features import all_features
from matgen.evaluation.report.figures import comparison_figure, distribution_figures, missing, training_figures
from matgen.evaluation.report.gallery import failure_strip, make_gallery, viewer_data
from matgen.evaluation.report.metric_tables import comparison_table, metrics_table, published_table
from matgen.evaluation.report.picture import gradients
from matgen.evaluation.report.provenance import provenance_html
from matgen.evaluation.report.reading import Population, RunContents
from matgen.evaluation.report.shell import Page, ReportConfig, scored_of, styles_of
from matgen.evaluation.report.svg import esc
from matgen.evaluation.report.yields import failures, waterfall_steps, yields_html

HEADLINES = (
    ("valid", "valid", "structural and compositional validity"),
    ("unique_novel_train", "unique and novel", "of all samples drawn"),
    ("fidelity_exact_0.1", "requested space group", "exactly, at symprec 0.1 Å"),
    ("templates_new", "new templates", "that the training set lacks"),
    ("sun", "S.U.N.", "stable, unique, novel"),
)


def crystal_page(contents: RunContents, config: ReportConfig) -> Page:
    """Yields, crystals, scores, distributions, training and provenance."""
    styles, scored = styles_of(contents), scored_of(contents)
    crystals, data = _crystals(contents, config)
    yields = yields_html(contents, styles, waterfall_steps, failures)
    sections = [
        ("yields", "Yields", yields),
        ("crystals", "Crystals", crystals),
        *([("comparison", "Comparison", _comparisons(contents, styles))] if contents.comparisons else []),
        ("scores", "Scores", metrics_table(scored)),
        ("published", "Beside published models", published_table(scored, contents.source)),
        ("distributions", "Distributions", f'<div class="grid2">{_distributions(contents, styles)}</div>'),
        ("training", "Training", f'<div class="grid2">{_training(contents)}</div>'),
        ("provenance", "Provenance", provenance_html(contents)),
    ]
    return Page(
        eyebrow="matgen · crystals drawn by a diffusion model on asymmetric units",
        headlines=HEADLINES,
        sections=sections,
        viewer=data,
    )


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
    return training_figures(contents.histories["train"])
