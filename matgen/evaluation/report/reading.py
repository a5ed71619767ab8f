"""What the stages of a run have left in its directory, as tables and records; what is missing stays None."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matgen.errors import SourceError, StageError
from matgen.evaluation.summary import Summary

STAGE_FOLDERS = {
    "preprocess": "records",
    "train": "checkpoint",
    "sample": "samples",
    "decode": "structures",
    "relax": "relaxed",
    "evaluate": "scores",
}
"""Folder of each stage below a run's directory, in the order of the line."""

POPULATION_NAMES = {"shipped": "shipped checkpoint", "free": "free", "templates": "from templates"}
"""Words for the folders in which experiments keep a second set of samples; others are called by their folder."""

_RECORD_COLUMNS = ("status", "reason", "split", "space_group_number", "lattice_k", "atomic_numbers", "multiplicity")
_SAMPLE_COLUMNS = ("sample_id", "status", "reason", "space_group_number", "num_orbits")
_STRUCTURE_COLUMNS = (
    *_SAMPLE_COLUMNS, "atomic_numbers", "multiplicities", "lattice", "raw_min_distance", "raw_min_ratio", "min_ratio",
    "moved_orbits",
)  # fmt: skip
_RELAXED_COLUMNS = (
    "sample_id", "status", "reason", "relax_status", "converged", "energy_per_atom", "e_above_hull", "rmsd_to_relaxed",
)  # fmt: skip
_SCORE_COLUMNS = (
    "sample_id", "status", "reason", "formula", "density", "num_elements", "space_group_detected", "valid",
    "structure_valid", "component", "novel_train", "e_above_hull",
)  # fmt: skip


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
class RunContents:
    """Everything that a page about some runs is made of."""

    title: str
    records: pa.Table | None
    populations: tuple[Population, ...]
    histories: dict[str, list[dict[str, Any]]]
    comparisons: dict[str, dict[str, Any]]
    stages: tuple[tuple[str, StageRecord], ...]
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

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
        StageError: a directory is missing, or holds no stage at all.
        SourceError: a file of a stage is corrupt.
    """
    populations: list[Population] = []
    histories: dict[str, list[dict[str, Any]]] = {}
    comparisons: dict[str, dict[str, Any]] = {}
    stages: list[tuple[str, StageRecord]] = []
    runs: dict[str, dict[str, Any]] = {}
    records: pa.Table | None = None
    for i, directory in enumerate(directories):
        label = names[i] if names else (directory.resolve().name if len(directories) > 1 else "")
        found = _populations(directory, label)
        own = {name: stage for name, stage in _stages(directory).items() if name in ("preprocess", "train")}
        if not found and not own:
            raise StageError(f"{directory} holds no stage of a run (none of {', '.join(STAGE_FOLDERS.values())})")
        populations += found
        stages += [(label, stage) for stage in own.values()]
        for population in found:
            later = (stage for name, stage in population.stages.items() if name not in own)
            stages += [(population.name, stage) for stage in later]
        if records is None and (directory / "records").is_dir():
            records = read_parts(directory / "records", _RECORD_COLUMNS)
        history = read_history(directory / "checkpoint" / "history.jsonl")
        if history:
            histories[label or "training"] = history
        for path in (directory / "compare.json", directory / "scores" / "compare.json"):
            if path.is_file():
                comparisons[label or "comparison"] = read_json(path)
                break
        runs[label or directory.resolve().name] = read_json(directory / "run.json")
    experiments = [str(run.get("experiment", "")) for run in runs.values()]
    title = next((name for name in experiments if name), directories[0].resolve().name if directories else "report")
    return RunContents(title, records, tuple(populations), histories, comparisons, tuple(stages), runs)


def _populations(directory: Path, label: str) -> list[Population]:
    if not directory.is_dir():
        raise StageError(f"{directory}: no such directory")
    inner = [
        child
        for child in sorted(directory.iterdir())
        if child.is_dir() and child.name not in STAGE_FOLDERS.values() and _holds_samples(child)
    ]
    found = []
    if _holds_samples(directory):
        name = label or ("this run" if inner else "samples")
        found.append(_population(directory, name))
    for child in inner:
        name = POPULATION_NAMES.get(child.name, child.name)
        found.append(_population(child, f"{label}: {name}" if label else name))
    return found


def _holds_samples(directory: Path) -> bool:
    return any((directory / STAGE_FOLDERS[stage] / "run.json").is_file() for stage in ("sample", "decode", "evaluate"))


def _stages(directory: Path) -> dict[str, StageRecord]:
    found = {}
    for stage, folder in STAGE_FOLDERS.items():
        if (directory / folder).is_dir():
            found[stage] = StageRecord(stage, directory / folder, read_json(directory / folder / "run.json"))
    return found


def _population(directory: Path, name: str) -> Population:
    stages = _stages(directory)
    scores = stages["evaluate"].directory / "scores.parquet" if "evaluate" in stages else None
    summary = stages["evaluate"].directory / "summary.json" if "evaluate" in stages else None
    return Population(
        name=name,
        directory=directory,
        stages=stages,
        samples=read_parts(directory / "samples", _SAMPLE_COLUMNS),
        structures=read_parts(directory / "structures", _STRUCTURE_COLUMNS),
        relaxed=read_parts(directory / "relaxed", _RELAXED_COLUMNS),
        scores=_read_table(scores, _SCORE_COLUMNS) if scores is not None and scores.is_file() else None,
        summary=Summary.load(summary) if summary is not None and summary.is_file() else None,
    )


def read_parts(directory: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Read some columns of all parts of a stage; None where there is no part.

    Raises:
        SourceError: a part is corrupt.
    """
    tables = [_read_table(path, columns) for path in sorted(directory.glob("part-*.parquet"))]
    return pa.concat_tables(tables, promote_options="default") if tables else None


def _read_table(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            return file.read(columns=[name for name in columns if name in there] if columns is not None else None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path} is not a readable parquet file: {str(error).splitlines()[0]}") from error


def read_rows(directory: Path, sample_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Read whole rows of a stage by sample_id; one part is in memory at a time."""
    wanted = set(sample_ids)
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted(directory.glob("part-*.parquet")):
        ids = _read_table(path, ["sample_id"])["sample_id"].to_pylist()
        chosen = [i for i, sample_id in enumerate(ids) if sample_id in wanted]
        if chosen:
            rows |= {int(row["sample_id"]): row for row in _read_table(path, None).take(chosen).to_pylist()}
    return rows


def column(table: pa.Table | None, name: str) -> np.ndarray | None:
    """A plain column as an array, nulls as NaN or ""; None where there is no such column."""
    if table is None or name not in table.column_names:
        return None
    values = table[name]
    if pa.types.is_string(values.type):
        return np.array([value or "" for value in values.to_pylist()], dtype=object)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where there is no file.

    Raises:
        SourceError: it is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise SourceError(f"{path} is not a JSON object")
    return record


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a training history; one that a crash cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row and "kind" in row:
            rows.append(row)
    return rows
