"""Where the structures of one file begin and end: any structure file as a sequence of texts, one per structure."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from matgen.crystal.cif import parse_cif
from matgen.errors import StructureError, UnreadableStructureError
from matgen.sources.extxyz import parse_extxyz_frame
from matgen.sources.poscar import parse_poscar
from matgen.sources.rows import RawRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matgen.crystal.structure import Structure

CIF, POSCAR, EXTXYZ = "cif", "poscar", "extxyz"
NAMES_OF_FILES = ".cif, .mcif, .vasp, .poscar, POSCAR*, CONTCAR*, .extxyz, .xyz"
# Every so many frames the index keeps a byte offset, so that a shard far into a large file starts at once.
_INDEX_STEP = 128
_ATOMS = re.compile(rb"\s*_atom_site_fract_x\b", re.IGNORECASE)


def format_of(name: str) -> str | None:
    """The format that a file's name says, or None for a file that is no structure file.

    Args:
        name: a file name or path.

    Returns:
        "cif", "poscar", "extxyz" or None; hidden files are None.
    """
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    lower = base.lower()
    if base.startswith(".") or "__MACOSX/" in name:
        return None
    if lower.endswith((".cif", ".mcif")):
        return CIF
    if lower.endswith((".extxyz", ".xyz")):
        return EXTXYZ
    if lower.endswith((".vasp", ".poscar")) or lower.startswith(("poscar", "contcar")):
        return POSCAR
    return None


def count_frames(stream: IO[bytes], kind: str) -> int:
    """Counts the structures in a file; at least 1, so that a broken file is still a row.

    Args:
        stream: the file's bytes from the start.
        kind: its format.

    Returns:
        The number of structures.
    """
    if kind == POSCAR:
        return 1
    if kind == EXTXYZ:
        return max(1, sum(1 for _ in _scan_extxyz(stream, 0)))
    return max(1, sum(1 for line in stream if _ATOMS.match(line)))


def read_frames(stream: IO[bytes], kind: str, stem: str, num_frames: int, start: int, stop: int) -> Iterator[RawRow]:
    """Reads structures start to stop - 1 of one file.

    Args:
        stream: the file's bytes, seekable.
        kind: its format.
        stem: the id of its only structure, or the stem of its structures' ids.
        num_frames: as counted.
        start: first structure.
        stop: one past the last.

    Yields:
        One row per structure.
    """
    if num_frames == 1 and kind != EXTXYZ:
        yield parse_frame(decode(stream.read()), kind, stem)
        return
    offsets = _offsets(stream, kind) if start else (0,)
    first = min(start // _INDEX_STEP, len(offsets) - 1)
    number = first * _INDEX_STEP
    for _, text in _scan(stream, kind, offsets[first]):
        if number >= start:
            yield parse_frame(decode(text), kind, stem if num_frames == 1 else f"{stem}-{number}")
        number += 1
        if number >= stop:
            return
    for missing in range(max(number, start), stop):
        reason = f"structure {missing} of {num_frames} counted cannot be told apart"
        yield RawRow(stem if num_frames == 1 else f"{stem}-{missing}", None, UnreadableStructureError(reason))


def parse_frame(text: str, kind: str, row_id: str) -> RawRow:
    """Parses one structure's text; its failure is part of the row.

    Args:
        text: the text of one structure.
        kind: its format.
        row_id: its id.

    Returns:
        The row.
    """
    structure: Structure | None = None
    properties: dict[str, object] = {}
    try:
        if kind == CIF:
            structure = parse_cif(text)
        elif kind == POSCAR:
            structure = parse_poscar(text)
        else:
            structure, properties = parse_extxyz_frame(text)
    except StructureError as error:
        return RawRow(row_id, None, error, properties)
    return RawRow(row_id, structure, None, properties)


def decode(raw: bytes) -> str:
    """Bytes to text; a byte that is not UTF-8 (old files are Latin-1) becomes a mark and does no harm.

    Args:
        raw: a file's bytes.

    Returns:
        Its text without a byte order mark.
    """
    return raw.decode("utf-8-sig", errors="replace")


def _scan(stream: IO[bytes], kind: str, offset: int) -> Iterator[tuple[int, bytes]]:
    """Structures from a byte offset on: where each starts, and its bytes."""
    stream.seek(offset)
    return _scan_extxyz(stream, offset) if kind == EXTXYZ else _scan_cif(stream, offset)


def _scan_extxyz(stream: IO[bytes], offset: int) -> Iterator[tuple[int, bytes]]:
    """Frames in order; once a count line cannot be read, all that is left is one last frame."""
    while header := stream.readline():
        if not header.strip():
            offset += len(header)
            continue
        if not header.strip().isdigit() or len(header) > 12:
            yield offset, header + stream.read(1000)
            return
        frame = header + b"".join(islice(stream, int(header) + 1))
        yield offset, frame
        offset += len(frame)


def _scan_cif(stream: IO[bytes], offset: int) -> Iterator[tuple[int, bytes]]:
    """Data blocks that have atoms."""
    block: list[bytes] = []
    begin, has_atoms = offset, False
    for line in stream:
        if line[:5].lower() == b"data_":
            if has_atoms:
                yield begin, b"".join(block)
            block, has_atoms, begin = [], False, offset
        block.append(line)
        offset += len(line)
        has_atoms = has_atoms or _ATOMS.match(line) is not None
    if has_atoms:
        yield begin, b"".join(block)


def _offsets(stream: IO[bytes], kind: str) -> tuple[int, ...]:
    """Byte offsets of every _INDEX_STEP-th structure; only files on disk are worth an index."""
    if not isinstance(stream, io.BufferedReader):
        return (0,)
    status = Path(stream.name).stat()
    return _file_offsets(str(stream.name), kind, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _file_offsets(name: str, kind: str, size: int, mtime_ns: int) -> tuple[int, ...]:
    with Path(name).open("rb") as stream:
        starts = (start for start, _ in _scan(stream, kind, 0))
        return tuple(islice(starts, 0, None, _INDEX_STEP)) or (0,)
