"""What the stages of a run have left in its directory, as tables and records; what is missing stays None."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from matgen.errors import StageError
from matgen.evaluation.report.layout import CRYSTALS, FRAMEWORKS, Layout, find_layout, reconstructions_of
from matgen.evaluation.report.tables import column, read_history, read_json, read_parts, read_rows, read_table
from matgen.evaluation.summary import Summary

POPULATION_NAMES = {"shipped": "shipped checkpoint", "free": "free", "templates": "from templates"}
"""Words for the folders in which experiments keep a second set of samples; others are called by their folder."""


@dataclass(frozen=True)
class StageRecord:
    """run.json of one stage; `record` is empty where the stage left none."""

    name: str
    directory: Path
    record: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether it ran to its end."""
        return bool(self.record.get("finished"))


@dataclass(frozen=True, eq=False)
class Population:
    """One set of samples and what became of it."""

    name: str
    directory: Path
    stages: dict[str, StageRecord]
    samples: pa.Table | None
    structures: pa.Table | None
    relaxed: pa.Table | None
    scores: pa.Table | None
    summary: Summary | None

    @property
    def num_drawn(self) -> int:
        """Rows of the first table there is."""
        tables = (self.samples, self.structures, self.scores)
        return next((table.num_rows for table in tables if table is not None), 0)


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Real frameworks that were cut and assembled again: one row each, and the settings."""

    name: str
    stage: StageRecord
    rows: pa.Table


@dataclass(frozen=True, eq=False)
class RunContents:
    """Everything that a page about some runs is made of.

    histories: by training stage, then by run. reference: scores of frameworks of the data. links: (words, file) of
    pages about runs of another kind, in a folder below or in the one above.
    """

    title: str
    layout: Layout
    records: pa.Table | None
    populations: tuple[Population, ...]
    histories: dict[str, dict[str, list[dict[str, Any]]]]
    comparisons: dict[str, dict[str, Any]]
    stages: tuple[tuple[str, StageRecord], ...]
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    reference: pa.Table | None = None
    reconstructions: tuple[Reconstruction, ...] = ()
    links: tuple[tuple[str, Path], ...] = ()

    @property
    def source(self) -> str:
        """Name of the data set, as far as a stage says it."""
        for _, stage in self.stages:
            name = stage.record.get("experiment", {}).get("preprocess", {}).get("source")
            if name and stage.name == "preprocess":
                return str(name)
        return ""


def read_runs(directories: Sequence[Path], names: Sequence[str] | None = None) -> RunContents:
    """Read all that some runs have left.

    Args:
        directories: of runs; sets of samples in folders below one (as shipped/ or free/) belong to it.
        names: what to call each run; default: by its folder.

    Raises:
        StageError: a directory is missing, or holds no stage at all; or some hold crystals and others frameworks.
        SourceError: a file of a stage is corrupt.
    """
    layout = _common_layout(directories)
    labels = names or [directory.resolve().name if len(directories) > 1 else "" for directory in directories]
    labelled = list(zip(labels, directories, strict=True))
    populations: list[Population] = []
    stages: list[tuple[str, StageRecord]] = []
    reconstructions: list[Reconstruction] = []
    for label, directory in labelled:
        found = _populations(directory, label, layout)
        own = {name: stage for name, stage in _stages(directory, layout).items() if name in layout.own}
        again = _reconstructions(directory, label) if layout is FRAMEWORKS else []
        if not found and not own and not again:
            raise StageError(f"{directory} holds no stage of a run (none of {', '.join(layout.folders.values())})")
        populations += found
        reconstructions += again
        stages += [(label, stage) for stage in own.values()]
        for population in found:
            later = (stage for name, stage in population.stages.items() if name not in own)
            stages += [(population.name, stage) for stage in later]
        stages += [(item.name, item.stage) for item in again]
    runs = {label or directory.resolve().name: read_json(directory / "run.json") for label, directory in labelled}
    experiments = [str(run.get("experiment", "")) for run in runs.values()]
    title = next((name for name in experiments if name), directories[0].resolve().name if directories else "report")
    return RunContents(
        title=title,
        layout=layout,
        records=_first([directory / "records" for directory in directories], layout.records),
        populations=tuple(populations),
        histories=_histories(labelled, layout),
        comparisons=_comparisons(labelled),
        stages=tuple(stages),
        runs=runs,
        reference=_first([directory / "scores" / "reference" for directory in directories], layout.scores),
        reconstructions=tuple(reconstructions),
        links=tuple(link for directory in directories for link in _links(directory, layout)),
    )


def _histories(runs: Sequence[tuple[str, Path]], layout: Layout) -> dict[str, dict[str, list[dict[str, Any]]]]:
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for label, directory in runs:
        for stage, words in layout.trainings.items():
            history = read_history(directory / layout.folders[stage] / "history.jsonl")
            if history:
                found.setdefault(stage, {})[label or words] = history
    return found


def _comparisons(runs: Sequence[tuple[str, Path]]) -> dict[str, dict[str, Any]]:
    found = {}
    for label, directory in runs:
        paths = (directory / "compare.json", directory / "scores" / "compare.json")
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            found[label or "comparison"] = read_json(path)
    return found


def _common_layout(directories: Sequence[Path]) -> Layout:
    layouts = {}
    for directory in directories:
        if not directory.is_dir():
            raise StageError(f"{directory}: no such directory")
        inner = (find_layout(child) for child in sorted(directory.iterdir()) if child.is_dir())
        layouts[directory] = find_layout(directory) or next((found for found in inner if found), CRYSTALS)
    first, *others = layouts.values()
    if any(layout is not first for layout in others):
        said = ", ".join(f"{directory}: {layout.kind}" for directory, layout in layouts.items())
        raise StageError(f"crystals and frameworks do not go on one page ({said})")
    return first


def _first(directories: Sequence[Path], columns: Sequence[str]) -> pa.Table | None:
    """Table of the first directory that has one."""
    there = next((directory for directory in directories if directory.is_dir()), None)
    return None if there is None else read_parts(there, columns)


def _populations(directory: Path, label: str, layout: Layout) -> list[Population]:
    inner = [
        child
        for child in sorted(directory.iterdir())
        if child.is_dir()
        and child.name not in layout.folders.values()
        and _holds_samples(child, layout)
        and find_layout(child) in (layout, None)
    ]
    found = []
    if _holds_samples(directory, layout):
        name = label or ("this run" if inner else "samples")
        found.append(_population(directory, name, layout))
    for child in inner:
        name = POPULATION_NAMES.get(child.name, child.name)
        found.append(_population(child, f"{label}: {name}" if label else name, layout))
    return found


def _holds_samples(directory: Path, layout: Layout) -> bool:
    return any((directory / layout.folders[stage] / "run.json").is_file() for stage in ("sample", "decode", "evaluate"))


def _stages(directory: Path, layout: Layout) -> dict[str, StageRecord]:
    found = {}
    for stage, folder in layout.folders.items():
        if (directory / folder).is_dir():
            found[stage] = StageRecord(stage, directory / folder, read_json(directory / folder / "run.json"))
    return found


def _population(directory: Path, name: str, layout: Layout) -> Population:
    stages = _stages(directory, layout)
    scores = stages["evaluate"].directory / "scores.parquet" if "evaluate" in stages else None
    summary = stages["evaluate"].directory / "summary.json" if "evaluate" in stages else None
    return Population(
        name=name,
        directory=directory,
        stages=stages,
        samples=read_parts(directory / "samples", layout.samples),
        structures=read_parts(directory / "structures", layout.structures),
        relaxed=read_parts(directory / "relaxed", layout.relaxed),
        scores=read_table(scores, layout.scores) if scores is not None and scores.is_file() else None,
        summary=Summary.load(summary) if summary is not None and summary.is_file() else None,
    )


def _reconstructions(directory: Path, label: str) -> list[Reconstruction]:
    found = []
    for path in reconstructions_of(directory):
        name = " ".join(word for word in (label, path.parent.name if path.parent != directory else "") if word)
        stage = StageRecord("reconstruct", path.parent, read_json(path.parent / "work" / "run.json"))
        found.append(Reconstruction(name or directory.resolve().name, stage, read_table(path)))
    return found


def _links(directory: Path, layout: Layout) -> list[tuple[str, Path]]:
    """Pages of runs of another kind: in the folders below, and in the folder above."""
    around = [directory.resolve().parent, *sorted(child for child in directory.iterdir() if child.is_dir())]
    found = []
    for other in around:
        kind = find_layout(other) if (other / "report.html").is_file() else None
        if kind is not None and kind is not layout:
            found.append((f"{kind.kind}: {other.resolve().name}", other / "report.html"))
    return found


__all__ = [
    "Population", "Reconstruction", "RunContents", "StageRecord", "column", "read_parts", "read_rows", "read_runs",
]  # fmt: skip
