"""The crystals that a hull is made of, read from parquet files with the columns of MP-20."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.errors import SourceError

_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS)}
_REQUIRED = ("material_id", "cell_abc_angles", "species", "frac_coords")


@dataclass(frozen=True)
class ReferenceEntry:
    """A reference crystal. e_above_hull: its label from elsewhere, eV/atom, or NaN."""

    material_id: str
    structure: Structure
    e_above_hull: float
    split: str


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a table.

    Raises:
        SourceError: it is missing or no parquet file.
    """
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(f"{path} cannot be read as parquet: {error}") from error


def read_reference(paths: Sequence[Path]) -> list[ReferenceEntry]:
    """Reference crystals from parquet files with the columns of MP-20.

    Args:
        paths: files with material_id, cell_abc_angles, species and frac_coords; e_above_hull and split where known.

    Raises:
        SourceError: a file is missing or lacks a column.
    """
    entries: list[ReferenceEntry] = []
    for path in paths:
        file = open_parquet(path)
        present = set(file.schema_arrow.names)
        missing = [name for name in _REQUIRED if name not in present]
        if missing:
            raise SourceError(f"{path} lacks the columns {', '.join(missing)}")
        columns = [name for name in (*_REQUIRED, "e_above_hull", "split") if name in present]
        for batch in file.iter_batches(columns=columns):
            entries += [_entry(row) for row in batch.to_pylist()]
    return entries


def _entry(row: dict) -> ReferenceEntry:
    cell, species = row["cell_abc_angles"], row["species"]
    numbers = np.array([_NUMBERS.get(symbol, 0) for symbol in species], dtype=np.int64)
    structure = Structure.from_parameters(cell[:3], cell[3:], row["frac_coords"], numbers)
    label = row.get("e_above_hull")
    return ReferenceEntry(
        row["material_id"], structure, float("nan") if label is None else float(label), row.get("split") or ""
    )
