"""Named arrays in one safetensors file: written in pieces, mapped when read."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Layout = Mapping[str, tuple[str, str]]
"""Name -> safetensors type and numpy type."""

STORED = {
    "F64": "<f8",
    "F32": "<f4",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_MAX_HEADER = 10_000_000


def map_arrays(path: Path, layout: Layout, optional: Layout | None = None) -> dict[str, np.ndarray]:
    """Map the arrays of a file, and optional ones where they are there; pages are read when they are used.

    safetensors' own numpy reader copies every array; the format is simple enough to map: length, JSON header, bytes.

    Raises:
        OSError: the file cannot be read.
        KeyError: it lacks an array.
        ValueError: it is truncated, or an array is of another type.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        (header_size,) = struct.unpack("<Q", file.read(8))
        if not 2 <= header_size <= min(size - 8, _MAX_HEADER):
            raise ValueError(f"header of {header_size} bytes in a file of {size}")
        header = json.loads(file.read(header_size))
    start = 8 + header_size
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    wanted = dict(layout) | {name: types for name, types in (optional or {}).items() if name in header}
    arrays = {}
    for name, (stored, dtype) in wanted.items():
        entry = header[name]
        begin, end = entry["data_offsets"]
        if entry["dtype"] != stored or not 0 <= begin <= end <= size - start:
            raise ValueError(f"{name} has type {entry['dtype']} and bytes {begin}:{end} of {size - start}")
        arrays[name] = mapped[start + begin : start + end].view(np.ndarray).view(dtype).reshape(entry["shape"])
    return arrays


class ArrayWriter:
    """Writes arrays that grow along their first axis, in any order, with memory for one piece at a time.

    Each array grows in a file of its own beside the target; `finish` joins them.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[str, tuple[int, ...]]], file_format: str) -> None:
        """Begin.

        Args:
            path: the safetensors file; its folder must exist.
            shapes: name -> safetensors type, and shape behind the first axis.
            file_format: word for the metadata.
        """
        self.path, self.shapes, self.file_format = path, dict(shapes), file_format
        self.counts = dict.fromkeys(self.shapes, 0)
        self._files: dict[str, BinaryIO] = {name: self._aside(name).open("wb") for name in self.shapes}

    def append(self, name: str, values: Any) -> None:
        """Add rows to an array."""
        stored, tail = self.shapes[name]
        array = np.ascontiguousarray(values, dtype=STORED[stored]).reshape(-1, *tail)
        self.counts[name] += len(array)
        self._files[name].write(array.tobytes())

    def finish(self) -> None:
        """Join the arrays into the file, aside and then renamed."""
        names = sorted(self.shapes, key=lambda name: -np.dtype(STORED[self.shapes[name][0]]).itemsize)
        header: dict[str, Any] = {"__metadata__": {"format": self.file_format}}
        end = 0
        for name in names:
            stored, tail = self.shapes[name]
            size = np.dtype(STORED[stored]).itemsize * self.counts[name] * int(np.prod(tail))
            header[name] = {"dtype": stored, "shape": [self.counts[name], *tail], "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        aside = self._aside("joined")
        with aside.open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                self._files[name].close()
                with self._aside(name).open("rb") as file:
                    while piece := file.read(1 << 22):
                        out.write(piece)
        aside.replace(self.path)
        self.discard()

    def discard(self) -> None:
        """Close and delete what was not joined."""
        for name, file in self._files.items():
            file.close()
            self._aside(name).unlink(missing_ok=True)

    def _aside(self, name: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{name}.tmp")


def pack_text(lines: tuple[str, ...] | list[str]) -> np.ndarray:
    """Return lines as bytes joined by line breaks, uint8."""
    return np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)


def unpack_text(data: np.ndarray, count: int) -> tuple[str, ...]:
    """Return the lines that `pack_text` joined.

    Raises:
        ValueError: there are not `count` of them.
    """
    text = data.tobytes().decode()
    lines = tuple(text.split("\n")) if text or count else ()
    if len(lines) != count:
        raise ValueError(f"{len(lines)} names, expected {count}")
    return lines
