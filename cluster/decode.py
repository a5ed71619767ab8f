"""Stage 3: samples become crystals: projected onto Wyckoff positions, orbits expanded, overlaps resolved."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.campaign import run_campaign
from cluster.lineage import finish_stage, require_stage
from cluster.parts import Shard, read_part, shards_of_parts
from cluster.run import Run
from cluster.sample import SAMPLE_SCHEMA
from matgen.crystal.structure import Structure
from matgen.crystal.tables import load_tables
from matgen.representations.decode import DecodeConfig, DecodedCrystal, decode

logger = logging.getLogger(__name__)

DECODED_FIELDS = [
    ("num_atoms", pa.int32()),
    ("formula", pa.string()),
    ("lattice", pa.list_(pa.float64())),
    ("structure_frac_coords", pa.list_(pa.float64())),
    ("structure_atomic_numbers", pa.list_(pa.int16())),
    ("orbit_index", pa.list_(pa.int16())),
    ("representatives", pa.list_(pa.float64())),
    ("wyckoff_letters", pa.list_(pa.string())),
    ("multiplicities", pa.list_(pa.int16())),
    ("raw_min_distance", pa.float64()),
    ("raw_min_ratio", pa.float64()),
    ("raw_clash", pa.bool_()),
    ("min_distance", pa.float64()),
    ("min_ratio", pa.float64()),
    ("moved_orbits", pa.int16()),
    ("code_distance", pa.list_(pa.int16())),
    ("displacement", pa.list_(pa.float64())),
]
STRUCTURE_SCHEMA = pa.schema([*SAMPLE_SCHEMA, *DECODED_FIELDS])


@dataclass(frozen=True, eq=False)
class StoredUnit:
    """An asymmetric unit as it was saved: (G, k, X', S, A') and nothing else."""

    space_group_number: int
    lattice_k: np.ndarray
    frac_coords: np.ndarray
    atomic_numbers: np.ndarray
    site_symmetry: np.ndarray


def stored_unit(row: Mapping[str, Any]) -> StoredUnit:
    """Read the asymmetric unit of a table's row."""
    return StoredUnit(
        space_group_number=int(row["space_group_number"]),
        lattice_k=np.asarray(row["lattice_k"], dtype=np.float64),
        frac_coords=np.asarray(row["frac_coords"], dtype=np.float64).reshape(-1, 3),
        atomic_numbers=np.asarray(row["atomic_numbers"], dtype=np.int64),
        site_symmetry=np.asarray(row["site_symmetry"], dtype=np.int8).reshape(-1, 15),
    )


def stored_structure(row: Mapping[str, Any]) -> Structure | None:
    """Read the crystal of a row of `structures/` or `relaxed/`; None where there is none."""
    if row.get("lattice") is None:
        return None
    return Structure(
        lattice=np.asarray(row["lattice"], dtype=np.float64).reshape(3, 3),
        frac_coords=np.asarray(row["structure_frac_coords"], dtype=np.float64).reshape(-1, 3),
        atomic_numbers=np.asarray(row["structure_atomic_numbers"], dtype=np.int64),
    )


def decoded_columns(crystal: DecodedCrystal) -> dict[str, Any]:
    """Table columns of a decoded crystal."""
    columns: dict[str, Any] = {
        "status": crystal.status,
        "reason": crystal.reason,
        "orbit_index": crystal.orbit_index.tolist(),
        "representatives": np.asarray(crystal.representatives).ravel().tolist(),
        "wyckoff_letters": list(crystal.wyckoff_letters),
        "multiplicities": crystal.multiplicities.tolist(),
        "raw_min_distance": _known(crystal.raw_min_distance),
        "raw_min_ratio": _known(crystal.raw_min_ratio),
        "raw_clash": bool(crystal.raw_clash),
        "min_distance": _known(crystal.min_distance),
        "min_ratio": _known(crystal.min_ratio),
        "moved_orbits": crystal.moved_orbits,
        "code_distance": np.asarray(crystal.code_distance).tolist(),
        "displacement": np.asarray(crystal.displacement).tolist(),
    }
    if crystal.structure is not None:
        columns |= structure_columns(crystal.structure)
    return columns


def _known(value: float) -> float | None:
    """Return null for what a crystal without a structure does not have: a table with NaN is not equal to itself."""
    return None if math.isnan(value) else value


def structure_columns(structure: Structure) -> dict[str, Any]:
    """Table columns of a crystal."""
    return {
        "num_atoms": structure.num_atoms,
        "formula": structure.formula,
        "lattice": structure.lattice.ravel().tolist(),
        "structure_frac_coords": structure.frac_coords.ravel().tolist(),
        "structure_atomic_numbers": structure.atomic_numbers.tolist(),
    }


class DecodeWork:
    """Decodes the samples of a part."""

    schema = STRUCTURE_SCHEMA

    def __init__(self, config: DecodeConfig) -> None:
        self.config = config

    def setup(self) -> None:
        """Load the symmetry tables once."""
        load_tables()

    def load(self, shard: Shard) -> Sequence[Mapping[str, Any]]:
        """Read a part of samples."""
        return read_part(Path(shard.payload), SAMPLE_SCHEMA.names)

    def process(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Decode them; a sample that failed before stays as it is."""
        good = [row for row in rows if row["status"] == "ok"]
        decoded = iter(
            decode([stored_unit(row) for row in good], self.config, [row["template_letters"] for row in good])
        )
        return [{**row, **decoded_columns(next(decoded))} if row["status"] == "ok" else row for row in rows]

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A sample that could not be decoded."""
        return {**row, "status": status, "reason": reason}


def decode_stage(run: Run) -> dict[str, Any]:
    """Decode `samples/` and write `structures/`.

    Returns:
        The stage's summary.

    Raises:
        StageError: the samples are missing or incomplete, or the directory cannot be written or holds another run.
        SourceError: a part of the samples is corrupt.
    """
    started = time.monotonic()
    config = run.experiment.decode
    samples = require_stage(run.directory("sample"), "sample", partial=run.shards is not None)
    inputs = {"samples": samples.identity, "checkpoint": samples.inputs.get("checkpoint", "")}
    lineage = run.open_stage("decode", config.decode, inputs)
    if lineage.complete:
        return lineage.summary
    shards = shards_of_parts(run.directory("sample"))
    settings = run.campaign("decode", shard_deadline_s=config.shard_deadline_s)
    directory = run.directory("decode")
    summary = run_campaign(DecodeWork(config.decode), shards, directory, settings, lineage.table_metadata).as_dict()
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    logger.info("decode: %s in %.1f s", summary["status"], summary["seconds"])
    return summary
