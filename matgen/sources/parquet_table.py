"""Parquet with a cif column, with species and coordinates, or as our own stages write it. Row groups are streamed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import Structure
from matgen.errors import SourceError, StructureError, UnreadableStructureError
from matgen.geometry.coordinates import wrap
from matgen.sources.columns import id_column, split_of
from matgen.sources.rows import OK, RawRow
from matgen.sources.species import atomic_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_BATCH_ROWS = 256
_CIF = ("cif",)
_SPECIES = ("structure_atomic_numbers", "species", "atomic_numbers", "numbers", "elements")
_COORDS = ("structure_frac_coords", "frac_coords", "coords", "fractional_coordinates")
_LATTICE = ("lattice", "cell", "lattice_matrix", "cell_abc_angles", "lattice_parameters")
_EXPECTED = "expected a cif column, or species, frac_coords and lattice (9 numbers) or cell_abc_angles (6 numbers)"


@dataclass(frozen=True)
class ParquetSegment:
    """One parquet file.

    Args:
        path: the file.
        num_rows: its rows.
        structure_columns: (cif,), or (species, frac_coords, lattice).
        scalar_columns: columns of numbers and text that become properties.
        id_column: the id, or None.
        split: of all rows where no split column says otherwise.
    """

    path: Path
    num_rows: int
    structure_columns: tuple[str, ...]
    scalar_columns: tuple[str, ...]
    id_column: str | None
    split: str | None = None

    def ids(self) -> Iterator[str]:
        """Ids in order; only their column is read."""
        if self.id_column is None:
            yield from (f"{self.path.stem}-{number}" for number in range(self.num_rows))
            return
        number = 0
        for batch in self._batches(0, self.num_rows, (self.id_column,)):
            for value in batch.column(0).to_pylist():
                yield self._id(value, number)
                number += 1

    def read(self, start: int, stop: int) -> Iterator[RawRow]:
        """Rows start to stop - 1, a few hundred of them in memory at a time."""
        number = start
        for batch in self._batches(start, stop, (*self.structure_columns, *self.scalar_columns)):
            names = [name for name in self.scalar_columns if name in batch.schema.names]
            scalars = [batch.column(name).to_pylist() for name in names]
            columns = [_Column.of(batch.column(name)) for name in self.structure_columns]
            for i in range(batch.num_rows):
                properties = {name: column[i] for name, column in zip(names, scalars)}
                yield self._row([column.row(i) for column in columns], properties, number)
                number += 1

    def _row(self, values: Sequence[object], properties: Mapping[str, object], number: int) -> RawRow:
        row_id = self._id(properties.get(self.id_column) if self.id_column else None, number)
        split = split_of(properties, self.split)
        status = properties.get("status")
        if isinstance(status, str) and status != OK:
            error = StructureError(str(properties.get("reason") or "failed in an earlier stage"), status=status)
            return RawRow(row_id, None, error, properties, split)
        try:
            structure = self._structure(values)
        except StructureError as error:
            return RawRow(row_id, None, error, properties, split)
        return RawRow(row_id, structure, None, properties, split)

    def _structure(self, values: Sequence[object]) -> Structure:
        missing = [name for name, value in zip(self.structure_columns, values) if value is None]
        if missing:
            raise UnreadableStructureError(f"no value in column {', '.join(missing)}")
        if len(values) == 1:
            return parse_cif(str(values[0]))
        return _from_arrays(*values)

    def _id(self, value: object, number: int) -> str:
        return f"{self.path.stem}-{number}" if value is None or value == "" else str(value)

    def _batches(self, start: int, stop: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Record batches of rows start to stop - 1, from the row groups that hold them."""
        try:
            with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as table:
                first = 0
                for group in range(table.num_row_groups):
                    size = table.metadata.row_group(group).num_rows
                    if first < stop and start < first + size:
                        yield from _sliced(table, group, columns, max(start - first, 0), min(stop - first, size))
                    first += size
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.path}: corrupt parquet in rows {start} to {stop}: {_one_line(error)}") from error


def open_parquet(path: Path, split: str | None = None) -> ParquetSegment:
    """Reads a parquet file's footer.

    Args:
        path: the file.
        split: of its rows.

    Returns:
        The segment.

    Raises:
        SourceError: it is corrupt, empty, or has no columns that make a structure.
    """
    try:
        schema, num_rows = pq.read_schema(path), pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a readable parquet file: {_one_line(error)}") from error
    lower = {name.lower(): name for name in reversed(schema.names)}
    found = [next((lower[name] for name in names if name in lower), None) for names in (_SPECIES, _COORDS, _LATTICE)]
    if "structure_frac_coords" in lower or "cif" not in lower:
        structure_columns = tuple(name for name in found if name is not None)
        if len(structure_columns) < 3:
            raise SourceError(f"{path}: {_EXPECTED}; found {', '.join(schema.names)[:300]}")
    else:
        structure_columns = (lower["cif"],)
    if num_rows == 0:
        raise SourceError(f"{path}: no rows")
    others = (column for column in schema if column.name not in structure_columns and column.name.lower() != "cif")
    scalars = tuple(column.name for column in others if _is_scalar(column.type))
    where = id_column(scalars)
    return ParquetSegment(path, num_rows, structure_columns, scalars, None if where is None else scalars[where], split)


@dataclass(frozen=True)
class _Column:
    """One column of a batch; list cells are views into one flat array instead of Python lists."""

    values: np.ndarray | list[object]
    offsets: np.ndarray | None
    is_valid: np.ndarray | None

    @classmethod
    def of(cls, column: pa.Array) -> _Column:
        if not _is_list(column.type):
            return cls(column.to_pylist(), None, None)
        is_valid = np.asarray(column.is_valid())
        if pa.types.is_fixed_size_list(column.type):
            column = column.cast(pa.list_(column.type.value_type))
        offsets, values = np.asarray(column.offsets), column.values
        while _is_list(values.type):
            if pa.types.is_fixed_size_list(values.type):
                values = values.cast(pa.list_(values.type.value_type))
            offsets, values = np.asarray(values.offsets)[offsets], values.values
        is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        return cls(values.to_pylist() if is_text else values.to_numpy(zero_copy_only=False), offsets, is_valid)

    def row(self, i: int) -> object:
        if self.offsets is None or self.is_valid is None:
            return self.values[i]
        return self.values[self.offsets[i] : self.offsets[i + 1]] if self.is_valid[i] else None


def _from_arrays(species: object, frac_coords: object, lattice: object) -> Structure:
    """A structure from the cells of a row, whose lengths are checked against each other."""
    try:
        coords, cell = np.array(frac_coords, dtype=float), np.array(lattice, dtype=float)
        names = list(species)  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise UnreadableStructureError(f"not numbers: {_one_line(error)}") from None
    if len(coords) != 3 * len(names) or len(names) == 0:
        raise UnreadableStructureError(f"{len(names)} species and {len(coords)} coordinates")
    numbers = np.array([atomic_number(name) if isinstance(name, str) else int(name) for name in names])
    if len(cell) == 6:
        return Structure.from_parameters(cell[:3], cell[3:], wrap(coords.reshape(-1, 3)), numbers)
    if len(cell) != 9:
        raise UnreadableStructureError(f"a cell of {len(cell)} numbers; 9 (vectors) or 6 (lengths, angles) are known")
    return Structure(cell.reshape(3, 3), wrap(coords.reshape(-1, 3)), numbers)


def _sliced(
    table: pq.ParquetFile, group: int, columns: Sequence[str], start: int, stop: int
) -> Iterator[pa.RecordBatch]:
    first = 0
    for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(columns), use_threads=False):
        if first >= stop:
            return
        if start < first + batch.num_rows:
            begin = max(start - first, 0)
            yield batch.slice(begin, min(stop - first, batch.num_rows) - begin)
        first += batch.num_rows


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_scalar(kind: pa.DataType) -> bool:
    types = pa.types
    is_text = types.is_string(kind) or types.is_large_string(kind)
    return is_text or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
