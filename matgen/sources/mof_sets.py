"""Structure files with a table of properties beside them, as the large sets of frameworks are published.

BW-DB: all_MOFs_screening_data.csv (column MOFname) and a folder of CIFs. QMOF: qmof.csv (qmof_id) and
relaxed_structures. CoRE MOF: a CSV (filename) and a folder of CIFs. Names in the table are names of files.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv

from matgen.errors import SourceError
from matgen.sources.files import ARCHIVE_SUFFIXES, FilesSegment, holds_structures, open_files
from matgen.sources.parquet_table import open_parquet
from matgen.sources.rows import RawRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matgen.sources.rows import Segment

logger = logging.getLogger(__name__)

MOF_SETS = {
    "bw_db": "Boyd and Woo's hypothetical frameworks, Materials Cloud 2018.0016/v3",
    "qmof": "QMOF Database, figshare 13147324",
    "core_mof": "CoRE MOF 2019, Zenodo 3677685",
}
NAME_COLUMNS = ("mofname", "qmof_id", "filename", "coreid")
"""Lower case; distinctive ones, since other tables may lie beside structures."""


@dataclass(frozen=True)
class TabledFilesSegment:
    """Structure files whose rows carry the properties that a CSV has for their names.

    Args:
        files: the structures; they alone decide how many rows there are.
        table: the CSV.
    """

    files: FilesSegment
    table: Path

    @property
    def path(self) -> Path:
        return self.files.path

    @property
    def split(self) -> str | None:
        return self.files.split

    @property
    def num_rows(self) -> int:
        return self.files.num_rows

    def ids(self) -> Iterator[str]:
        """Names of the files, without folders."""
        return (_bare(name) for name in self.files.ids())

    def read(self, start: int, stop: int) -> Iterator[RawRow]:
        """Rows start to stop - 1; one that the table does not know has no properties."""
        table, place = _read_table(self.table, self.table.stat().st_mtime_ns)
        for raw in self.files.read(start, stop):
            name = _bare(raw.id)
            row = place.get(name)
            known = {} if row is None else table.slice(row, 1).to_pylist()[0]
            yield RawRow(name, raw.structure, raw.error, {**known, **raw.properties}, raw.split)


def mof_set_name(name: str) -> str:
    """BW-DB, bwdb and bw_db are one name.

    Args:
        name: as typed.

    Returns:
        A key of MOF_SETS; empty where it is none.
    """
    bare = name.lower().replace("-", "").replace("_", "")
    return next((known for known in MOF_SETS if known.replace("_", "") == bare), "")


def open_tabled(files: Path, table: Path) -> TabledFilesSegment:
    """Opens structure files and the table beside them.

    Args:
        files: a folder or an archive.
        table: a CSV with one of the columns MOFname, qmof_id, filename, coreid.

    Returns:
        The segment.

    Raises:
        SourceError: either cannot be read, or no name in the table is one of a file.
    """
    segment = TabledFilesSegment(open_files(files), table)
    _, place = _read_table(table, table.stat().st_mtime_ns)
    names = set(segment.ids())
    both = len(names & place.keys())
    if both == 0:
        raise SourceError(f"{table}: none of its {len(place)} names is one of the {len(names)} files in {files}")
    if both < max(len(names), len(place)):
        logger.warning(
            "%s names %d structures, %s has %d, and %d are in both", table, len(place), files, len(names), both
        )
    return segment


def property_table(folder: Path) -> Path | None:
    """The CSV of properties in a folder of structures: one without a cif column, with a column of names.

    Args:
        folder: where the structures are.

    Returns:
        The file, or None where there is none.

    Raises:
        SourceError: there are several.
    """
    found = [path for path in sorted(folder.glob("*.csv")) if _name_column(_header(path)) is not None]
    if len(found) > 1:
        raise SourceError(
            f"{folder}: several tables of properties ({', '.join(path.name for path in found)}); leave one"
        )
    return found[0] if found else None


def open_mof_set(name: str, data_dir: Path | None) -> list[Segment]:
    """Opens BW-DB, QMOF or CoRE MOF from a folder of data sets.

    Args:
        name: a key of MOF_SETS.
        data_dir: holds NAME.parquet, or a folder NAME with CIFs (or an archive of them) and a CSV; None is MATGEN_DATA.

    Returns:
        Its one segment.

    Raises:
        SourceError: it is not there; these sets are too large to be downloaded unasked.
    """
    stated = data_dir or (Path(os.environ["MATGEN_DATA"]) if os.environ.get("MATGEN_DATA") else None)
    if stated is None or not stated.is_dir():
        where = (
            "no folder of data sets is named (--data or MATGEN_DATA)" if stated is None else f"{stated}: no such folder"
        )
        raise SourceError(f"{name}: {where}; it comes from {MOF_SETS[name]}")
    tables = sorted(stated.glob(f"{name}*.parquet"))
    if tables:
        return [open_parquet(tables[0])]
    folder = stated / name
    if folder.is_dir():
        return [open_set_folder(folder)]
    raise SourceError(f"{stated}: neither {name}.parquet nor a folder {name} in it; it comes from {MOF_SETS[name]}")


def open_set_folder(folder: Path) -> Segment:
    """Opens a folder of structures, or of one archive of them, with its table of properties where it has one.

    Args:
        folder: as the set was unpacked.

    Returns:
        The segment.

    Raises:
        SourceError: no structures in it, or several archives or tables.
    """
    files = folder
    if not holds_structures(folder):
        archives = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(ARCHIVE_SUFFIXES)]
        if len(archives) != 1:
            raise SourceError(f"{folder}: no structure files and {len(archives)} archives in it; one was expected")
        files = archives[0]
    table = property_table(folder)
    return open_files(files) if table is None else open_tabled(files, table)


def _bare(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        return [name.strip().strip('"') for name in stream.readline().split(",")]


def _name_column(header: list[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(header)}
    return None if "cif" in lower else next((lower[name] for name in NAME_COLUMNS if name in lower), None)


@lru_cache(maxsize=2)
def _read_table(path: Path, mtime_ns: int) -> tuple[pa.Table, dict[str, int]]:
    """The table, and the row of each name; files may be named with or without their suffix."""
    column = _name_column(_header(path))
    if column is None:
        raise SourceError(f"{path}: no column of names ({', '.join(NAME_COLUMNS)})")
    try:
        table = pyarrow.csv.read_csv(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: not a readable CSV file: {' '.join(str(error).split())[:300]}") from error
    table = table.rename_columns([name.strip() for name in table.column_names])
    place: dict[str, int] = {}
    for row, name in enumerate(table.column(column).to_pylist()):
        if name is not None:
            place.setdefault(str(name).strip().removesuffix(".cif"), row)
    return table, place
