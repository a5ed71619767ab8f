"""One way in: any path or data set name becomes a Source of rows, cut into shards that any worker can read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matgen.crystal.structure import check
from matgen.errors import SourceError, StructureError
from matgen.sources.columns import split_of_name
from matgen.sources.csv_table import open_csv
from matgen.sources.files import ARCHIVE_SUFFIXES, holds_structures, open_files
from matgen.sources.frames import NAMES_OF_FILES, format_of
from matgen.sources.mof_sets import MOF_SETS, mof_set_name, open_mof_set, open_tabled, property_table
from matgen.sources.named import NAMES, PROTOTYPES, local_files, normalised
from matgen.sources.parquet_table import open_parquet
from matgen.sources.prototypes import open_prototypes
from matgen.sources.rows import OK, RawRow, Segment, SourceRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Shard", "Source", "SourceConfig", "open_source"]

_TABLE_SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Which structures are good.

    Args:
        min_distance: Å; atoms closer than this clash. 0 turns the test off.
        max_atoms: largest cell that is read; None is no limit.
        max_atomic_number: heaviest element.
        drop_inferred_ids: rows whose `split_status` ends in "+inferred-id" (matched by composition and space group
            only) get the status "excluded".
    """

    min_distance: float = 0.5
    max_atoms: int | None = None
    max_atomic_number: int = 94
    drop_inferred_ids: bool = False


@dataclass(frozen=True)
class Shard:
    """A contiguous range of rows: the unit of work and of resume.

    Args:
        index: position among all shards of the source.
        segment: which segment of the source.
        start: first row in that segment.
        stop: one past its last.
        first_row: the number of its first row in the source.
        path: where the rows come from, for messages.
    """

    index: int
    segment: int
    start: int
    stop: int
    first_row: int
    path: str

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Source:
    """Rows of structures from one place. Holds paths and counts only, so it is cheap to pickle.

    Args:
        name: the data set's name or the path.
        segments: files, in order.
        config: the limits.
        repeated_rows: sorted numbers of the rows whose id an earlier row has.
    """

    name: str
    segments: tuple[Segment, ...]
    config: SourceConfig = field(default_factory=SourceConfig)
    repeated_rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return sum(segment.num_rows for segment in self.segments)

    def __iter__(self) -> Iterator[SourceRow]:
        for shard in self.shards(4096):
            yield from self.read_shard(shard)

    def shards(self, rows_per_shard: int) -> list[Shard]:
        """Cuts the source into shards; none crosses a file or folder.

        Args:
            rows_per_shard: at most so many rows each, from 1.

        Returns:
            The shards in order.

        Raises:
            ValueError: rows_per_shard is less than 1.
        """
        if rows_per_shard < 1:
            raise ValueError(f"rows_per_shard is {rows_per_shard}, must be at least 1")
        shards: list[Shard] = []
        first_row = 0
        for number, segment in enumerate(self.segments):
            path = str(getattr(segment, "path", self.name))
            for start in range(0, segment.num_rows, rows_per_shard):
                stop = min(start + rows_per_shard, segment.num_rows)
                shards.append(Shard(len(shards), number, start, stop, first_row + start, path))
            first_row += segment.num_rows
        return shards

    def read_shard(self, shard: Shard) -> Iterator[SourceRow]:
        """Reads a shard's rows in order; as many as it has, good or bad.

        Args:
            shard: one of `shards`.

        Yields:
            One row per structure.

        Raises:
            SourceError: the file itself cannot be read any more.
        """
        raws = self.segments[shard.segment].read(shard.start, shard.stop)
        for number, raw in enumerate(raws, start=shard.first_row):
            yield self._checked(raw, number)

    def _checked(self, raw: RawRow, number: int) -> SourceRow:
        structure, error = raw.structure, raw.error
        if structure is not None:
            try:
                check(
                    structure,
                    min_distance_allowed=self.config.min_distance,
                    max_atoms=self.config.max_atoms,
                    max_atomic_number=self.config.max_atomic_number,
                )
            except StructureError as failure:
                structure, error = None, failure
        if self.config.drop_inferred_ids and str(raw.properties.get("split_status", "")).endswith("+inferred-id"):
            structure = None
            error = StructureError(f"split_status is {raw.properties['split_status']}", status="excluded")
        status, reason = (OK, "") if error is None else (error.status, str(error))
        return SourceRow(self._unique_id(raw.id, number), structure, status, reason, raw.properties, raw.split)

    def _unique_id(self, row_id: str, number: int) -> str:
        where = int(np.searchsorted(self.repeated_rows, number))
        is_repeated = where < len(self.repeated_rows) and self.repeated_rows[where] == number
        return f"{row_id}#{number}" if is_repeated else row_id


def open_source(
    spec: str | Path,
    data_dir: str | Path | None = None,
    config: SourceConfig | None = None,
    splits: Sequence[str] | None = None,
) -> Source:
    """Opens a path or a named data set and counts its structures; none is parsed yet.

    Args:
        spec: a file, folder or archive, or one of the names mp_20, mpts_52, perov_5, carbon_24, aflow; or, where no
            such path is there, bw_db, qmof, core_mof.
        data_dir: where the files of named data sets are; else the folder that MATGEN_DATA names, else a download.
        config: the limits.
        splits: only these splits of a named data set, or files that are named after them; None is all.

    Returns:
        The source.

    Raises:
        SourceError: nothing there, or nothing that can be read.
        DownloadError: a named data set is not at hand and cannot be fetched.
    """
    name = str(spec)
    if normalised(name) in NAMES:
        segments = _named_segments(normalised(name), data_dir, splits)
    elif mof_set_name(name) and not Path(name).exists():
        segments = open_mof_set(mof_set_name(name), Path(data_dir) if data_dir else None)
    else:
        segments = _path_segments(Path(spec).expanduser())
        if splits is not None:
            segments = [segment for segment in segments if getattr(segment, "split", None) in splits]
            if not segments:
                raise SourceError(f"{spec}: no file is named after the splits {', '.join(splits)}")
    return Source(name, tuple(segments), config or SourceConfig(), _repeated_rows(segments))


def _named_segments(name: str, data_dir: str | Path | None, splits: Sequence[str] | None) -> list[Segment]:
    if name == PROTOTYPES:
        return [open_prototypes()]
    files = local_files(name, Path(data_dir) if data_dir else None, splits)
    return [_open_table(path, split) for split, path in files.items()]


def _path_segments(path: Path) -> list[Segment]:
    if not path.exists():
        raise SourceError(
            f"{path}: no such file or folder, and not one of the data sets {', '.join(sorted([*NAMES, *MOF_SETS]))}"
        )
    lower = path.name.lower()
    if path.is_dir():
        return _folder_segments(path)
    if lower.endswith(_TABLE_SUFFIXES):
        return [_open_table(path, split_of_name(path))]
    if lower.endswith(ARCHIVE_SUFFIXES) or format_of(lower.removesuffix(".gz")):
        return [open_files(path)]
    known = ", ".join((*_TABLE_SUFFIXES, NAMES_OF_FILES, *ARCHIVE_SUFFIXES))
    raise SourceError(f"{path}: unknown kind of file; known are {known}")


def _folder_segments(path: Path) -> list[Segment]:
    """Structure files where there are any (with subfolders, and properties from a table), else the folder's tables."""
    if holds_structures(path):
        table = property_table(path)
        return [open_files(path) if table is None else open_tabled(path, table)]
    tables = sorted(entry for entry in path.iterdir() if entry.name.lower().endswith(_TABLE_SUFFIXES))
    if not tables:
        raise SourceError(f"{path}: neither structure files ({NAMES_OF_FILES}) nor tables (.csv, .parquet) in it")
    return [_open_table(table, split_of_name(table)) for table in tables]


def _open_table(path: Path, split: str | None) -> Segment:
    try:
        return open_parquet(path, split) if path.suffix.lower() == ".parquet" else open_csv(path, split)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from error


def _repeated_rows(segments: Sequence[Segment]) -> np.ndarray:
    """Rows whose id came before, found by 8 bytes of hash per row: the only thing here that grows with the rows."""
    ids = (row_id for segment in segments for row_id in segment.ids())
    hashes = np.fromiter((_hash(row_id) for row_id in ids), dtype=np.uint64)
    first = np.zeros(len(hashes), dtype=bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    return np.flatnonzero(~first)


def _hash(row_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(row_id.encode(), digest_size=8).digest(), "little")
