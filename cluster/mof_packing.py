"""Pack decomposed frameworks of many parts into a block library and coarse records, a part in memory at a time."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.parts import read_table
from matgen.data.arrays import pack_text
from matgen.data.mof_records import BlockRecords, CoarseRecords, ragged_rows
from matgen.errors import StageError

_CHUNK = 20_000  # blocks that are brought into order at a time
_PER_BLOCK = {"atomic_numbers": 1, "cart_coords": 3, "bonds": 2, "connection_points": 3, "connection_atoms": 1}
_COUNTS = {"atom_offsets": "block_atoms", "bond_offsets": "block_bonds", "connection_offsets": "block_connections"}
_RAGGED = {
    "atom_offsets": ("atomic_numbers", "cart_coords"),
    "bond_offsets": ("bonds",),
    "connection_offsets": ("connection_points", "connection_atoms"),
}


def pack_split(parts: Sequence[Path], split: str, directory: Path, properties: Sequence[str]) -> dict[str, int]:
    """Write `blocks_SPLIT.safetensors` and `coarse_SPLIT.safetensors`.

    Args:
        parts: parquet parts of the stage preprocess, in order.
        split: train, val or test.
        directory: of the stage.
        properties: names of the properties that frameworks keep, NaN where a row has none.

    Returns:
        Numbers of frameworks, blocks and identities.

    Raises:
        StageError: a file cannot be written.
    """
    blocks = directory / f"blocks_{split}.safetensors"
    try:
        unsorted = directory / f".unsorted_{split}.safetensors"
        names, prints = _gather_blocks(parts, split, unsorted)
        place = _sort_blocks(unsorted, blocks, names, prints)
        unsorted.unlink()
        count = _gather_frameworks(parts, split, directory / f"coarse_{split}.safetensors", properties, place)
    except OSError as error:
        raise StageError(f"cannot write {blocks}: {error.strerror or error}") from error
    return {"frameworks": count, "blocks": len(place), "identities": len(prints)}


def _chosen(parts: Sequence[Path], split: str) -> Iterator[list[dict[str, Any]]]:
    for part in parts:
        table = read_table(part)
        words, splits = (table[name].to_pylist() for name in ("status", "split"))
        chosen = [i for i, word in enumerate(words) if word == "ok" and splits[i] == split]
        if chosen:
            yield table.take(chosen).to_pylist()


def _gather_blocks(parts: Sequence[Path], split: str, path: Path) -> tuple[list[str], dict[str, bytes]]:
    """Write the blocks in the order of the parts; return the identity of each, and the fingerprint of each identity."""
    writer = BlockRecords.writer(path)
    for name in _COUNTS:
        writer.append(name, np.zeros(1, np.int64))
    last = dict.fromkeys(_COUNTS, 0)
    names: list[str] = []
    prints: dict[str, bytes] = {}
    sources: list[str] = []
    for rows in _chosen(parts, split):
        for row in rows:
            for name, column in _COUNTS.items():
                offsets = last[name] + np.cumsum(row[column], dtype=np.int64)
                last[name] = int(offsets[-1])
                writer.append(name, offsets)
            for name in _PER_BLOCK:
                writer.append(name, row[name])
            writer.append("role", row["roles"])
            writer.append("source_index", np.full(len(row["roles"]), len(sources)))
            names += row["identities"]
            prints |= dict(zip(row["identities"], row["ecfp4"]))
            sources.append(row["material_id"])
    writer.append("sources", pack_text(sources))
    writer.finish()
    return names, prints


def _sort_blocks(unsorted: Path, path: Path, names: list[str], prints: dict[str, bytes]) -> np.ndarray:
    """Write the library: blocks in ascending order of their identity; return the new place of each."""
    given = BlockRecords.load(unsorted)
    order = np.argsort(np.array(names, dtype="U32"), kind="stable") if names else np.empty(0, np.int64)
    identities = sorted(prints)
    counts = np.unique(np.array(names, dtype="U32"), return_counts=True)[1]
    writer = BlockRecords.writer(path)
    writer.append("conformer_offsets", np.concatenate([[0], np.cumsum(counts)]))
    if identities:
        writer.append("identity_names", np.frombuffer(bytes.fromhex("".join(identities)), np.uint8))
        writer.append("ecfp4", np.frombuffer(b"".join(prints[name] for name in identities), np.uint8))
    for name in _COUNTS:
        sizes = np.diff(getattr(given, name))[order]
        writer.append(name, np.concatenate([[0], np.cumsum(sizes)]))
    for start in range(0, len(order), _CHUNK):
        chosen = order[start : start + _CHUNK]
        for name in ("role", "source_index"):
            writer.append(name, getattr(given, name)[chosen])
        for offsets, ragged in _RAGGED.items():
            rows = ragged_rows(getattr(given, offsets), chosen)
            for name in ragged:
                writer.append(name, getattr(given, name)[rows])
    writer.append("sources", pack_text(given.sources))
    writer.finish()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


def _gather_frameworks(
    parts: Sequence[Path], split: str, path: Path, properties: Sequence[str], place: np.ndarray
) -> int:
    writer = CoarseRecords.writer(path)
    last = {"offsets": 0, "edge_offsets": 0}
    for name in last:
        writer.append(name, np.zeros(1, np.int64))
    ids: list[str] = []
    first = 0
    for rows in _chosen(parts, split):
        for row in rows:
            last["offsets"] += row["num_blocks"]
            last["edge_offsets"] += len(row["edge_multiplicity"])
            for name, value in last.items():
                writer.append(name, [value])
            for name in ("lattice", "is_metal", "num_connections", "edge_index", "edge_image", "edge_multiplicity"):
                writer.append(name, row[name])
            coords = np.asarray(row["frac_coords"], dtype=np.float32)
            writer.append("frac_coords", np.where(coords < 1, coords, 0))
            writer.append("block_index", place[first + np.asarray(row["block_index"])])
            writer.append("properties", property_values(row["properties"], properties))
            first += len(row["identities"])
            ids.append(row["material_id"])
    writer.append("ids", pack_text(ids))
    writer.append("property_names", pack_text(list(properties)))
    writer.finish()
    return len(ids)


def property_values(text: str, names: Sequence[str]) -> list[float]:
    """Return the named properties of a row, NaN where it has none that is a number."""
    known = json.loads(text)
    values = [known.get(name) for name in names]
    return [float(value) if isinstance(value, int | float) else math.nan for value in values]
