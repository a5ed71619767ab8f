"""The page about frameworks."""

from matgen.evaluation.report.figures import loss_fields, missing, training_figures
from matgen.evaluation.report.metric_tables import metrics_table
from matgen.evaluation.report.mof_figures import framework_figures
from matgen.evaluation.report.mof_gallery import frameworks_html
from matgen.evaluation.report.mof_yields import checks_html, framework_failures, framework_steps
from matgen.evaluation.report.provenance import provenance_html
from matgen.evaluation.report.reading import RunContents
from matgen.evaluation.report.reconstruction import reconstruction_html
from matgen.evaluation.report.shell import Page, ReportConfig, scored_of, styles_of
from matgen.evaluation.report.svg import esc
from matgen.evaluation.report.tables import read_metrics
from matgen.evaluation.report.yields import yields_html

HEADLINES = (
    ("yield_assembled", "assembled", "every pair of connections closes, of all samples drawn"),
    ("yield_relaxed", "relaxed", "with bonds, volume and contacts kept, of all samples drawn"),
    ("yield_valid", "valid", "every check of the framework passed, of all samples drawn"),
    ("yield_unique", "valid, novel, unique", "relaxed, too; of all samples drawn"),
)


def mof_page(contents: RunContents, config: ReportConfig) -> Page:
    """Yields, frameworks, scores, distributions, reconstruction, training and provenance."""
    styles = styles_of(contents)
    gallery, viewer = frameworks_html(contents, config)
    data = contents.source or "data"
    sections = [
        ("yields", "Yields", yields_html(contents, styles, framework_steps, framework_failures)),
        ("frameworks", "Frameworks", gallery + _not_shipped(contents)),
        ("scores", "Scores", metrics_table(scored_of(contents), data) + _checks(contents)),
        ("distributions", "Distributions", f'<div class="grid2">{framework_figures(contents, styles)}</div>'),
        ("reconstruction", "Reconstruction", reconstruction_html(contents.reconstructions)),
        ("training", "Training", _training(contents)),
        ("provenance", "Provenance", provenance_html(contents)),
    ]
    return Page(
        eyebrow="matgen · metal-organic frameworks, assembled from building blocks that a diffusion model placed",
        headlines=HEADLINES,
        sections=sections,
        viewer=viewer,
    )


def _not_shipped(contents: RunContents) -> str:
    """A line where the experiment was to draw from the shipped checkpoint, too, and did not."""
    asked = any("shipped" in stage.record.get("experiment", {}).get("stages", ()) for _, stage in contents.stages)
    if not asked or any(population.directory.name == "shipped" for population in contents.populations):
        return ""
    return '<h3>Shipped checkpoint</h3><p class="notrun">not run: no samples of a shipped checkpoint are here</p>'


def _checks(contents: RunContents) -> str:
    return "".join(
        f"<h4>{esc(population.name)}: checks that frameworks failed</h4>{checks_html(population)}"
        for population in contents.populations
        if population.scores is not None
    )


def _training(contents: RunContents) -> str:
    parts = []
    for stage, words in contents.layout.trainings.items():
        histories = contents.histories.get(stage)
        if histories:
            figures = training_figures(histories, loss_fields(histories))
        else:
            figures = missing("Losses", f"no stage {stage} of these runs has left a history")
        parts.append(f'<h3>{esc(words.capitalize())}</h3><div class="grid2">{figures}</div>')
        if stage == "train_blocks":
            parts.append(_retrieval(contents))
    return "".join(parts)


def _retrieval(contents: RunContents) -> str:
    """How well the encoder finds held-out blocks, beside an untrained one."""
    scored = [
        (label or "block encoder", "s1", read_metrics(stage.directory / "scores.json"))
        for label, stage in contents.stages
        if stage.name == "score_blocks"
    ]
    if not any(metrics for _, _, metrics in scored):
        return '<p class="notrun">Retrieval of held-out blocks: not run (stage score_blocks)</p>'
    return f"<h4>Held-out blocks</h4>{metrics_table(scored, 'training set')}"
