"""Pack the rows of many parts into one records file, a part in memory at a time."""

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cluster.parts import read_table
from matgen.errors import StageError

# name, safetensors type, numpy type, values per crystal or orbit; wide types first keeps every array aligned.
_PER_CRYSTAL = (("lattice_k", "F64", "<f8", 6), ("space_group_number", "I16", "<i2", 1))
_PER_ORBIT = (
    ("frac_coords", "F64", "<f8", 3),
    ("atomic_numbers", "I16", "<i2", 1),
    ("multiplicity", "I16", "<i2", 1),
    ("site_symmetry", "I8", "<i1", 15),
)
_COLUMNS = ["material_id", "status", "split", *(entry[0] for entry in _PER_CRYSTAL + _PER_ORBIT)]


def pack_records(parts: Sequence[Path], split: str, path: Path) -> int:
    """Write the good rows of a split as a `matgen.data.records` file, aside and then renamed.

    Args:
        parts: parquet parts of the stage preprocess, in order.
        split: train, val or test.
        path: the safetensors file.

    Returns:
        The number of crystals.

    Raises:
        StageError: the file cannot be written.
    """
    num_crystals, num_orbits, num_bytes = 0, 0, 0
    for rows in _chosen(parts, split):
        num_crystals += len(rows["material_id"])
        num_orbits += sum(len(numbers) for numbers in rows["atomic_numbers"])
        num_bytes += sum(len(name.encode()) + 1 for name in rows["material_id"])
    aside = path.with_name(f".{path.name}.tmp")
    try:
        with aside.open("wb") as file:
            places = _write_header(file, num_crystals, num_orbits, max(0, num_bytes - 1))
            _write_arrays(file, places, _chosen(parts, split))
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StageError(f"cannot write {path}: {error.strerror or error}") from error
    return num_crystals


def _chosen(parts: Sequence[Path], split: str) -> Iterator[dict[str, list[Any]]]:
    for part in parts:
        table = read_table(part, _COLUMNS).to_pydict()
        keep = [i for i, word in enumerate(table["status"]) if word == "ok" and table["split"][i] == split]
        if keep:
            yield {name: [values[i] for i in keep] for name, values in table.items()}


def _write_header(file: BinaryIO, num_crystals: int, num_orbits: int, num_bytes: int) -> dict[str, int]:
    """Write the header; return where in the file each array begins."""
    arrays: list[tuple[str, str, int, list[int]]] = [("offsets", "I64", 8, [num_crystals + 1])]
    for count, entries in ((num_crystals, _PER_CRYSTAL), (num_orbits, _PER_ORBIT)):
        for name, stored, dtype, width in entries:
            shape = [count, width] if width > 1 else [count]
            arrays.append((name, stored, np.dtype(dtype).itemsize, shape))
    arrays.append(("ids", "U8", 1, [num_bytes]))
    arrays.sort(key=lambda entry: -entry[2])
    header: dict[str, Any] = {"__metadata__": {"format": "matgen-records-1"}}
    end = 0
    for name, stored, itemsize, shape in arrays:
        size = itemsize * int(np.prod(shape))
        header[name] = {"dtype": stored, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    start = file.tell()
    file.truncate(start + end)
    return {name: start + header[name]["data_offsets"][0] for name, *_ in arrays}


def _write_arrays(file: BinaryIO, places: dict[str, int], chunks: Iterator[dict[str, list[Any]]]) -> None:
    place = dict(places)

    def append(name: str, data: bytes) -> None:
        file.seek(place[name])
        file.write(data)
        place[name] += len(data)

    append("offsets", np.zeros(1, "<i8").tobytes())
    last = 0
    for rows in chunks:
        counts = [len(numbers) for numbers in rows["atomic_numbers"]]
        offsets = last + np.cumsum(counts, dtype="<i8")
        last = int(offsets[-1])
        append("offsets", offsets.tobytes())
        for name, _, dtype, _ in _PER_CRYSTAL:
            append(name, np.asarray(rows[name], dtype=dtype).tobytes())
        for name, _, dtype, _ in _PER_ORBIT:
            append(name, np.concatenate([np.asarray(row, dtype=dtype) for row in rows[name]]).tobytes())
        lines = "\n".join(rows["material_id"]).encode()
        append("ids", (b"\n" if place["ids"] > places["ids"] else b"") + lines)
