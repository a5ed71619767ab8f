"""Structure files: one file, a folder of them, or an archive (zip, tar, tar.gz, tar.bz2, tar.xz, tar.zst)."""

from __future__ import annotations

import gzip
import io
import logging
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import pyarrow as pa

from matgen.errors import SourceError, UnreadableStructureError
from matgen.sources.frames import NAMES_OF_FILES, count_frames, format_of, read_frames
from matgen.sources.rows import RawRow

logger = logging.getLogger(__name__)

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tzst")
_MEMBER_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, pa.ArrowInvalid)
Opener = Callable[[], IO[bytes]]


@dataclass(frozen=True)
class FilesSegment:
    """Structure files in one place, in sorted order (archives: in their own order).

    Args:
        path: a file, a folder or an archive.
        num_files: how many structure files it holds.
        extra_frames: (position of the file, structures in it) for files that hold more than one.
        split: of all rows, or None.
    """

    path: Path
    num_files: int
    extra_frames: tuple[tuple[int, int], ...]
    split: str | None = None

    @property
    def num_rows(self) -> int:
        return self.num_files + sum(frames - 1 for _, frames in self.extra_frames)

    def ids(self) -> Iterator[str]:
        """Names without suffix, relative to the folder; structures of a longer file are numbered from 0."""
        frames = dict(self.extra_frames)
        for number, (name, _) in enumerate(iterate_members(self.path)):
            count = frames.get(number, 1)
            yield from [_stem(name)] if count == 1 else (f"{_stem(name)}-{i}" for i in range(count))

    def read(self, start: int, stop: int) -> Iterator[RawRow]:
        """Rows start to stop - 1; a file that cannot be opened is a row that says so."""
        frames = dict(self.extra_frames)
        members, number, row = _take_cursor(self.path, start)
        for name, open_member in members:
            count = frames.get(number, 1)
            number += 1
            first, last = max(start - row, 0), min(stop - row, count)
            row += count
            if first < last:
                for raw in _read_member(name, open_member, count, first, last):
                    yield RawRow(raw.id, raw.structure, raw.error, raw.properties, self.split)
            if row >= stop:
                if row == stop:
                    _leave_cursor(self.path, (members, number, row))
                return


def open_files(path: Path, split: str | None = None) -> FilesSegment:
    """Counts the structures in a file, folder or archive.

    Args:
        path: what to read; folders are searched with their subfolders.
        split: to mark the rows with.

    Returns:
        The segment.

    Raises:
        SourceError: there is no structure file in it, or an archive is corrupt.
    """
    _folder_names.cache_clear()
    _CURSORS.pop(path, None)
    extra = []
    number = -1
    for number, (name, open_member) in enumerate(iterate_members(path)):
        kind = format_of(_without_gz(name))
        assert kind is not None
        try:
            with open_member() as stream:
                count = count_frames(stream, kind)
        except _MEMBER_ERRORS as error:
            logger.warning("%s in %s cannot be read: %s", name, path, error)
            count = 1
        if count > 1:
            extra.append((number, count))
    if number < 0:
        raise SourceError(f"{path}: no structure file in it ({NAMES_OF_FILES})")
    return FilesSegment(path, number + 1, tuple(extra), split)


# Where the last shards of this process ended. Shards are mostly read in order, and a compressed archive has no other
# way to its middle than through its beginning.
_Cursor = tuple[Iterator[tuple[str, Opener]], int, int]
_CURSORS: dict[Path, _Cursor] = {}
_MAX_CURSORS = 4


def _take_cursor(path: Path, start: int) -> _Cursor:
    """Members from the last stop on, with their number and row; from the beginning if that was beyond `start`."""
    cursor = _CURSORS.pop(path, None)
    return cursor if cursor is not None and cursor[2] <= start else (iterate_members(path), 0, 0)


def _leave_cursor(path: Path, cursor: _Cursor) -> None:
    while len(_CURSORS) >= _MAX_CURSORS:
        _CURSORS.pop(next(iter(_CURSORS)))
    _CURSORS[path] = cursor


def iterate_members(path: Path) -> Iterator[tuple[str, Opener]]:
    """Structure files below a path, each with a function that opens it; open it before asking for the next.

    Args:
        path: a file, folder or archive.

    Yields:
        Name relative to the path, and its opener. Other files are passed over.

    Raises:
        SourceError: the archive is corrupt.
    """
    if path.is_dir():
        for name in _folder_names(path):
            yield name, partial(_open_file, path / name)
    elif not path.name.lower().endswith(ARCHIVE_SUFFIXES):
        yield path.name, partial(_open_file, path)
    else:
        try:
            yield from _zip_members(path) if path.suffix.lower() == ".zip" else _tar_members(path)
        except _MEMBER_ERRORS as error:
            raise SourceError(f"{path}: corrupt archive: {_one_line(error)}") from error


@lru_cache(maxsize=4)
def _folder_names(path: Path) -> tuple[str, ...]:
    names, others = [], 0
    for folder, subfolders, files in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in files:
            if format_of(_without_gz(name)) is None:
                others += 1
            else:
                names.append(str((Path(folder) / name).relative_to(path)))
    if others:
        logger.info("%s: %d files are no structure files and are passed over", path, others)
    return tuple(sorted(names))


def _zip_members(path: Path) -> Iterator[tuple[str, Opener]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith("/") and format_of(name):
                yield name, partial(archive.open, name)


def _tar_members(path: Path) -> Iterator[tuple[str, Opener]]:
    with ExitStack() as stack:
        if path.name.lower().endswith((".zst", ".tzst")):
            raw = stack.enter_context(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
            archive = stack.enter_context(tarfile.open(fileobj=raw, mode="r|"))
        else:
            archive = stack.enter_context(tarfile.open(path, mode="r|*"))
        for info in archive:
            if info.isfile() and format_of(info.name):
                yield info.name, partial(_tar_stream, archive, info)
            archive.members = []  # type: ignore[attr-defined]  # else it remembers every member it has passed


def _tar_stream(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    assert stream is not None
    return io.BytesIO(stream.read())


def _open_file(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return io.BytesIO(gzip.decompress(path.read_bytes()))
    return path.open("rb")


def _read_member(name: str, open_member: Opener, count: int, first: int, last: int) -> Iterator[RawRow]:
    kind = format_of(_without_gz(name))
    assert kind is not None
    stem = _stem(name)
    try:
        with open_member() as stream:
            yield from read_frames(stream, kind, stem, count, first, last)
    except _MEMBER_ERRORS as error:
        reason = UnreadableStructureError(f"{name} cannot be read: {_one_line(error)}")
        for i in range(first, last):
            yield RawRow(stem if count == 1 else f"{stem}-{i}", None, reason)


def _stem(name: str) -> str:
    """The name without the suffix of its format; POSCAR_7 has none."""
    bare = _without_gz(name)
    head, dot, suffix = bare.rpartition(".")
    return head if dot and suffix.lower() in {"cif", "mcif", "vasp", "poscar", "extxyz", "xyz"} else bare


def _without_gz(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def holds_structures(path: Path) -> bool:
    """Whether a folder or one of its subfolders has a structure file.

    Args:
        path: a folder.

    Returns:
        True where `open_files` would find something.
    """
    _folder_names.cache_clear()
    return bool(_folder_names(path))
