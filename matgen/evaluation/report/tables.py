"""Files that stages leave, as tables and records; a corrupt one is named."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matgen.errors import SourceError
from matgen.evaluation.metric import Metric


def read_parts(directory: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Read some columns of all parts of a stage; None where there is no part.

    Raises:
        SourceError: a part is corrupt.
    """
    tables = [read_table(path, columns) for path in sorted(directory.glob("part-*.parquet"))]
    return pa.concat_tables(tables, promote_options="default") if tables else None


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read those of some columns of a parquet file that it has.

    Raises:
        SourceError: it is corrupt.
    """
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
        ids = read_table(path, ["sample_id"])["sample_id"].to_pylist()
        chosen = [i for i, sample_id in enumerate(ids) if sample_id in wanted]
        if chosen:
            rows |= {int(row["sample_id"]): row for row in read_table(path).take(chosen).to_pylist()}
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


def read_metrics(path: Path) -> list[Metric]:
    """Read a JSON list of metrics; empty where there is no file.

    Raises:
        SourceError: it is not one.
    """
    if not path.is_file():
        return []
    try:
        return [Metric.from_dict(record) for record in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{path} is not a list of metrics: {error}") from error


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
