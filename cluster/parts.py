"""Shards and their parquet parts: written aside and renamed, read as streams."""

import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matgen.errors import SourceError, StageError


@dataclass(frozen=True)
class Shard:
    """A unit of work, of output and of resume.

    `payload` says where the rows come from (a path, a range); it is small, the rows themselves stay off the driver.
    `row_costs` are estimates in any one unit, for balance; without them rows count alike.
    """

    index: int
    num_rows: int
    payload: Any = None
    row_costs: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def file_name(self) -> str:
        """Name of the finished part."""
        return f"part-{self.index:06d}.parquet"


def write_part(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, metadata: Mapping[str, str]) -> None:
    """Write rows as one parquet file, aside and then renamed: it is there whole, or not at all.

    Raises:
        StageError: the file cannot be written (full disk, no permission).
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    write_table(path, table, metadata)


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, str]) -> None:
    """Write a table as one parquet file (zstd), aside and then renamed.

    Raises:
        StageError: the file cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata(dict(metadata)), aside, compression="zstd")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StageError(f"cannot write {path}: {os.strerror(error.errno) if error.errno else error}") from error


def read_part(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Read the rows of one part.

    Raises:
        SourceError: the file is missing, corrupt, or lacks a column.
    """
    return read_table(path, columns).to_pylist()


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part as a table.

    Raises:
        SourceError: the file is missing, corrupt, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns or () if name not in file.schema_arrow.names]
            if missing:
                raise SourceError(f"{path} has no column {missing[0]!r} (it has: {', '.join(file.schema_arrow.names)})")
            return file.read(columns=list(columns) if columns is not None else None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path} is not a readable parquet file: {_first_line(error)}") from error


def part_rows(path: Path) -> int:
    """Return the number of rows of a part from its footer alone.

    Raises:
        SourceError: the file is missing or corrupt.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path} is not a readable parquet file: {_first_line(error)}") from error


def part_paths(directory: Path) -> list[Path]:
    """Return the finished parts of a stage in order."""
    return sorted(directory.glob("part-*.parquet"))


def shards_of_parts(directory: Path, cost_column: str | None = None, exponent: float = 1.0) -> list[Shard]:
    """Return one shard for each finished part of the previous stage; part i becomes part i.

    Args:
        directory: of the previous stage.
        cost_column: a number whose power tells what a row will cost (the number of atoms); null costs nothing.
        exponent: that power.

    Raises:
        StageError: there is none.
        SourceError: one is corrupt.
    """
    paths = part_paths(directory)
    if not paths:
        raise StageError(f"{directory} has no part-*.parquet")
    shards = []
    for path in paths:
        index = int(path.stem.removeprefix("part-"))
        if cost_column is None:
            shards.append(Shard(index, part_rows(path), str(path)))
        else:
            values = read_table(path, [cost_column]).column(cost_column).fill_null(0).to_numpy()
            costs = 1e-3 + values.astype(np.float64) ** exponent
            shards.append(Shard(index, len(values), str(path), costs.astype(np.float32)))
    return shards


def iterate_rows(directory: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of all parts in order, one part in memory at a time."""
    for path in part_paths(directory):
        yield from read_part(path, columns)


def status_counts(directory: Path, paths: Sequence[Path] | None = None) -> dict[str, int]:
    """Count the words of the column `status`, "ok" first and then by count.

    Args:
        directory: of the parts.
        paths: some of its parts; None takes all.
    """
    counts: Counter[str] = Counter()
    for path in part_paths(directory) if paths is None else paths:
        for entry in read_table(path, ["status"]).column("status").value_counts().to_pylist():
            counts[entry["values"]] += entry["counts"]
    ordered = sorted(counts.items(), key=lambda item: (item[0] != "ok", -item[1], item[0]))
    return dict(ordered)


def remove_leftovers(directory: Path, shards: Sequence[Shard]) -> None:
    """Delete what an interrupted run left aside for these shards: unfinished files, notes, pieces of split shards."""
    if not directory.is_dir():
        return
    ours = {f"{shard.index:06d}" for shard in shards}
    for pattern in (".part-*.tmp", ".piece-*"):
        for path in directory.glob(pattern):
            if path.name.lstrip(".").split("-")[1].split(".")[0] in ours:  # others' may be under way
                path.unlink(missing_ok=True)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
