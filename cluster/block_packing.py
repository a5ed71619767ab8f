"""Pack the building blocks of many framework parts into one library file, a part in memory at a time."""

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.frameworks import stored_blocks
from cluster.parts import read_table
from matgen.errors import StageError
from matgen.mof.block_library import ARRAYS, FORMAT, BlockLibrary

_SIZES = ("block_num_atoms", "block_num_bonds", "block_num_connections")
_PLAN_COLUMNS = ["material_id", "status", "identities", "block_shape", *_SIZES]
_BLOCK_COLUMNS = [
    "block_role",
    *_SIZES,
    "atomic_numbers",
    "cart_coords",
    "bonds",
    "connection_points",
    "connection_atoms",
]


@dataclass(frozen=True, kw_only=True)
class BlockPackingConfig:
    """max_conformers: of one identity in the library, spread evenly over the frameworks; None keeps all shapes."""

    max_conformers: int | None = None


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which blocks of which rows go where in the library; arrays over the kept blocks, in reading order."""

    names: np.ndarray  # S16, identity
    sizes: np.ndarray  # [n, 3] atoms, bonds, connections
    source: np.ndarray
    row: np.ndarray  # number of the framework row among all rows read
    number: np.ndarray  # of the block in its framework
    slot: np.ndarray  # place in the library
    sources: list[str]


def pack_blocks(parts: Sequence[Path], path: Path, config: BlockPackingConfig | None = None) -> dict[str, int]:
    """Write every distinct shape of every identity of the good rows as a block library, aside and then renamed.

    Args:
        parts: parquet parts with the columns of `cluster.frameworks`, in order.
        path: the safetensors file.
        config: how many to keep.

    Returns:
        counts: blocks read, kept, identities.

    Raises:
        StageError: the file cannot be written.
    """
    plan, num_read = _plan(parts, config or BlockPackingConfig())
    aside = path.with_name(f".{path.name}.tmp")
    if not len(plan.slot):
        BlockLibrary.from_blocks([], []).save(path)
        return {"blocks": num_read, "kept": 0, "identities": 0}
    try:
        arrays = _create(aside, plan)
        _fill(arrays, plan, parts)
        for array in arrays.values():
            array.flush()
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StageError(f"cannot write {path}: {error.strerror or error}") from error
    return {"blocks": num_read, "kept": len(plan.slot), "identities": len(np.unique(plan.names))}


def _plan(parts: Sequence[Path], config: BlockPackingConfig) -> tuple[_Plan, int]:
    names: list[bytes] = []
    sources: list[str] = []
    sizes, owner, rows, numbers, num_read, row_number = [], [], [], [], 0, -1
    for row in _rows(parts, _PLAN_COLUMNS):
        row_number += 1
        if row["status"] != "ok":
            continue
        shape = row["block_shape"]
        num_read += len(shape)
        for i in [i for i, first in enumerate(shape) if first == i]:
            names.append(bytes.fromhex(row["identities"][i]))
            sizes.append([row[name][i] for name in _SIZES])
            owner.append(len(sources))
            rows.append(row_number)
            numbers.append(i)
        sources.append(row["material_id"])
    keys = np.array(names, dtype="S16")
    order = np.argsort(keys, kind="stable")
    if config.max_conformers is not None:
        order = _thinned(keys, order, config.max_conformers)
    slot = np.full(len(keys), -1, dtype=np.int64)
    slot[order] = np.arange(len(order))
    keep = slot >= 0
    plan = _Plan(
        keys[keep],
        np.array(sizes, dtype=np.int64).reshape(-1, 3)[keep],
        np.array(owner, dtype=np.int64)[keep],
        np.array(rows, dtype=np.int64)[keep],
        np.array(numbers, dtype=np.int64)[keep],
        slot[keep],
        sources,
    )
    return plan, num_read


def _thinned(keys: np.ndarray, order: np.ndarray, most: int) -> np.ndarray:
    """At most so many entries of `order` for each key, evenly spread over those it has."""
    _, start, count = np.unique(keys[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(start, count)
    total = np.repeat(count, count)
    kept = np.minimum(total, most)
    return order[(rank * kept) // total != ((rank - 1) * kept) // total]


def _rows(parts: Sequence[Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for part in parts:
        table = read_table(part, columns)
        for batch in table.to_batches(max_chunksize=256):
            yield from batch.to_pylist()


def _create(path: Path, plan: _Plan) -> dict[str, np.memmap]:
    """Write the header and make room; return the arrays, mapped for writing."""
    num_blocks, num_identities = len(plan.slot), len(np.unique(plan.names))
    atoms, bonds, points = plan.sizes.sum(axis=0).tolist() if num_blocks else (0, 0, 0)
    text = "\n".join(plan.sources).encode()
    rows = {
        "atom_offsets": num_blocks + 1,
        "bond_offsets": num_blocks + 1,
        "connection_offsets": num_blocks + 1,
        "conformer_offsets": num_identities + 1,
        "cart_coords": atoms,
        "connection_points": points,
        "source_index": num_blocks,
        "bonds": bonds,
        "connection_atoms": points,
        "atomic_numbers": atoms,
        "role": num_blocks,
        "identity_names": num_identities,
        "ecfp4": num_identities,
        "sources": len(text),
    }
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT}}
    end = 0
    for name, (stored, dtype, tail) in ARRAYS.items():
        shape = [rows[name], *tail]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": stored, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        start = file.tell()
        file.truncate(start + end)
    arrays = {}
    for name, (_, dtype, _) in ARRAYS.items():
        begin, stop = header[name]["data_offsets"]
        if stop > begin:
            place = {"offset": start + begin, "shape": tuple(header[name]["shape"])}
            arrays[name] = np.memmap(path, dtype=dtype, mode="r+", **place)
    arrays["sources"][:] = np.frombuffer(text, dtype=np.uint8)
    return arrays


def _fill(arrays: dict[str, np.memmap], plan: _Plan, parts: Sequence[Path]) -> None:
    by_slot = np.argsort(plan.slot)
    for column, name in enumerate(("atom_offsets", "bond_offsets", "connection_offsets")):
        arrays[name][1:] = np.cumsum(plan.sizes[by_slot, column])
    unique, first, counts = np.unique(plan.names[by_slot], return_index=True, return_counts=True)
    arrays["conformer_offsets"][1:] = np.cumsum(counts)
    arrays["identity_names"][:] = np.frombuffer(
        b"".join(name.ljust(16, b"\0") for name in unique.tolist()), np.uint8
    ).reshape(-1, 16)
    arrays["source_index"][plan.slot] = plan.source
    identity_of_first = dict(zip(first.tolist(), range(len(first)), strict=True))
    starts = np.searchsorted(plan.row, np.arange(plan.row.max(initial=-1) + 2))
    for row_number, row in enumerate(_rows(parts, _BLOCK_COLUMNS)):
        if row_number + 1 >= len(starts) or starts[row_number] == starts[row_number + 1]:
            continue
        blocks = stored_blocks(row)
        for entry in range(starts[row_number], starts[row_number + 1]):
            _write(arrays, int(plan.slot[entry]), blocks[plan.number[entry]], row["block_role"][plan.number[entry]])
            identity = identity_of_first.get(int(plan.slot[entry]))
            if identity is not None:
                arrays["ecfp4"][identity] = blocks[plan.number[entry]].ecfp4


def _write(arrays: dict[str, np.memmap], slot: int, block: Any, role: int) -> None:
    atoms = slice(arrays["atom_offsets"][slot], arrays["atom_offsets"][slot + 1])
    bonds = slice(arrays["bond_offsets"][slot], arrays["bond_offsets"][slot + 1])
    points = slice(arrays["connection_offsets"][slot], arrays["connection_offsets"][slot + 1])
    arrays["role"][slot] = role
    arrays["atomic_numbers"][atoms] = block.atomic_numbers
    arrays["cart_coords"][atoms] = block.cart_coords
    if len(block.bonds):
        arrays["bonds"][bonds] = block.bonds
    arrays["connection_points"][points] = block.connection_points
    arrays["connection_atoms"][points] = block.connection_atoms
