"""CSV with a cif column: an index of byte offsets, so that any rows can be read without the ones before them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matgen.crystal.cif import parse_cif
from matgen.errors import SourceError, StructureError, UnreadableStructureError
from matgen.sources.columns import id_column, scalar_of, split_of
from matgen.sources.rows import RawRow

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 22
_INDEX_STEP = 64
_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
# A cell holds a whole CIF; the csv module's default limit is 128 kB.
csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class CsvSegment:
    """One CSV file.

    Args:
        path: the file.
        num_rows: data rows, blank lines not counted.
        columns: its header.
        cif_column: position of the CIF text.
        id_column: position of the id, or None.
        split: of all rows where no split column says otherwise.
    """

    path: Path
    num_rows: int
    columns: tuple[str, ...]
    cif_column: int
    id_column: int | None
    split: str | None = None

    def ids(self) -> Iterator[str]:
        """Ids in order."""
        for number, cells in enumerate(self._cells(0, self.num_rows)):
            yield self._id(cells, number)

    def read(self, start: int, stop: int) -> Iterator[RawRow]:
        """Rows start to stop - 1."""
        for number, cells in enumerate(self._cells(start, stop), start=start):
            yield self._row(cells, number)

    def _row(self, cells: list[str], number: int) -> RawRow:
        named = enumerate(zip(self.columns, cells))
        properties = {name: scalar_of(cell) for i, (name, cell) in named if i != self.cif_column}
        row_id, split = self._id(cells, number), split_of(properties, self.split)
        if len(cells) != len(self.columns):
            reason = f"{len(cells)} cells in a table of {len(self.columns)} columns"
            return RawRow(row_id, None, UnreadableStructureError(reason), properties, split)
        try:
            return RawRow(row_id, parse_cif(cells[self.cif_column]), None, properties, split)
        except StructureError as error:
            return RawRow(row_id, None, error, properties, split)

    def _id(self, cells: list[str], number: int) -> str:
        value = cells[self.id_column] if self.id_column is not None and self.id_column < len(cells) else ""
        return value.strip() or f"{self.path.stem}-{number}"

    def _cells(self, start: int, stop: int) -> Iterator[list[str]]:
        status = self.path.stat()
        offsets, num_rows = _row_offsets(self.path, status.st_size, status.st_mtime_ns)
        if num_rows != self.num_rows:
            raise SourceError(f"{self.path}: has changed while it was read: {num_rows} rows instead of {self.num_rows}")
        with self.path.open("rb") as stream:
            for block in range(start // _INDEX_STEP, -(-stop // _INDEX_STEP)):
                begin, end = offsets[block], offsets[block + 1]
                stream.seek(begin)
                text = stream.read(end - begin).decode("utf-8", errors="replace").replace("\0", "")
                rows = [cells for cells in csv.reader(io.StringIO(text, newline="")) if cells]
                first = block * _INDEX_STEP
                if len(rows) != min(_INDEX_STEP, num_rows - first):
                    raise SourceError(f"{self.path}: a stray quotation mark near row {first} hides where rows end")
                yield from rows[max(start - first, 0) : stop - first]


def open_csv(path: Path, split: str | None = None) -> CsvSegment:
    """Indexes a CSV file.

    Args:
        path: the file, comma separated, UTF-8, with a header.
        split: of its rows.

    Returns:
        The segment.

    Raises:
        SourceError: it is empty or has no cif column.
    """
    with path.open("rb") as stream:
        header = stream.readline().decode("utf-8-sig", errors="replace")
    columns = tuple(name.strip() for name in next(csv.reader([header]), []))
    cif_column = next((i for i, name in enumerate(columns) if name.lower() == "cif"), None)
    if not columns:
        raise SourceError(f"{path}: empty file; expected a header with a cif column")
    if cif_column is None:
        raise SourceError(f"{path}: no cif column; found {', '.join(columns)[:300]}")
    status = path.stat()
    _, num_rows = _row_offsets(path, status.st_size, status.st_mtime_ns)
    if num_rows == 0:
        raise SourceError(f"{path}: a header and no rows")
    return CsvSegment(path, num_rows, columns, cif_column, id_column(columns), split)


@lru_cache(maxsize=8)
def _row_offsets(path: Path, size: int, mtime_ns: int) -> tuple[tuple[int, ...], int]:
    """Byte offset of every _INDEX_STEP-th data row and of the end, and the number of rows.

    A newline ends a row where the number of quotes before it is even: quoted cells hold the newlines of a CIF.
    """
    starts: list[int] = []
    row, row_start, base, is_quoted, previous = -1, 0, 0, False, 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            data = np.frombuffer(chunk, np.uint8)
            inside = (np.cumsum(data == _QUOTE) + is_quoted) % 2 == 1
            for end in (np.flatnonzero((data == _NEWLINE) & ~inside) + base).tolist():
                last = data[end - base - 1] if end > base else previous
                if end - row_start > (last == _RETURN):  # else a blank line, which the csv module passes over too
                    if row >= 0 and row % _INDEX_STEP == 0:
                        starts.append(row_start)
                    row += 1
                row_start = end + 1
            is_quoted, previous, base = bool(inside[-1]), int(data[-1]), base + len(chunk)
    if base > row_start:
        if row >= 0 and row % _INDEX_STEP == 0:
            starts.append(row_start)
        row += 1
    return (*starts, base), max(row, 0)
