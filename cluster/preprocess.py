"""Stage 0: structures from a source become records of asymmetric units, packed for training, with their priors."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from cluster import parts
from cluster.campaign import run_campaign
from cluster.lineage import finish_stage
from cluster.packing import pack_records
from cluster.run import Run
from matgen.config import PreprocessConfig
from matgen.crystal.tables import symmetry_tables
from matgen.data.priors import SymmetryTables, build_priors
from matgen.data.records import Records
from matgen.data.splits import PARTS, assign_splits
from matgen.errors import StageError
from matgen.representations.asymmetric_unit import AsymmetricUnit, encode_many
from matgen.sources.rows import SourceRow
from matgen.sources.source import Source, open_source

logger = logging.getLogger(__name__)

UNIT_FIELDS = [
    ("space_group_number", pa.int16()),
    ("lattice_k", pa.list_(pa.float64())),
    ("frac_coords", pa.list_(pa.float64())),
    ("atomic_numbers", pa.list_(pa.int16())),
    ("site_symmetry", pa.list_(pa.int8())),
]

RECORD_SCHEMA = pa.schema(
    [
        ("material_id", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("split", pa.string()),
        *UNIT_FIELDS,
        ("multiplicity", pa.list_(pa.int16())),
        ("wyckoff_letters", pa.list_(pa.string())),
        ("num_atoms", pa.int32()),
        ("formula", pa.string()),
        ("properties", pa.string()),  # JSON
    ]
)


class PreprocessWork:
    """Reads, checks and encodes the structures of a shard."""

    schema = RECORD_SCHEMA

    def __init__(self, source: Source, config: PreprocessConfig) -> None:
        self.source = source
        self.config = config

    def setup(self) -> None:
        """Load the symmetry tables once."""
        symmetry_tables()

    def load(self, shard: parts.Shard) -> Sequence[SourceRow]:
        """Read and check the structures of a shard."""
        return list(self.source.read_shard(shard.payload))[: shard.num_rows]

    def process(self, rows: Sequence[SourceRow]) -> list[Mapping[str, Any]]:
        """Encode them."""
        structures = [row.structure for row in rows if row.structure is not None]
        encoded = iter(encode_many(structures, self.config.encode))
        done: list[Mapping[str, Any]] = []
        for row in rows:
            unit = next(encoded) if row.structure is not None else None
            if unit is None:
                done.append(self.failed(row, row.status, row.reason))
            elif isinstance(unit, AsymmetricUnit):
                done.append({**self._common(row), "status": "ok", "reason": "", **unit_columns(unit)})
            else:
                done.append(self.failed(row, unit.status, str(unit)))
        return done

    def failed(self, row: SourceRow, status: str, reason: str) -> Mapping[str, Any]:
        """A row without an asymmetric unit."""
        return {**self._common(row), "status": status, "reason": reason}

    def _common(self, row: SourceRow) -> dict[str, Any]:
        split = None if self.config.resplit else row.split
        if split not in PARTS:
            (split,) = assign_splits([row.id], self.config.split_fractions, self.config.split_seed)
        return {
            "material_id": row.id,
            "split": split,
            "num_atoms": row.structure.num_atoms if row.structure else None,
            "formula": row.structure.formula if row.structure else None,
            "properties": json.dumps(dict(row.properties), default=str),
        }


def unit_columns(unit: AsymmetricUnit) -> dict[str, Any]:
    """Columns of an asymmetric unit in a record."""
    return {
        "space_group_number": int(unit.space_group_number),
        "lattice_k": unit.lattice_k.tolist(),
        "frac_coords": unit.frac_coords.ravel().tolist(),
        "atomic_numbers": unit.atomic_numbers.tolist(),
        "site_symmetry": unit.site_symmetry.ravel().tolist(),
        "multiplicity": unit.multiplicity.tolist(),
        "wyckoff_letters": list(unit.wyckoff_letters),
    }


def source_shards(source: Source, rows_per_shard: int, limit: int | None = None) -> list[parts.Shard]:
    """Cut a source into shards of a campaign, up to `limit` rows."""
    shards, left = [], limit if limit is not None else len(source)
    for shard in source.shards(rows_per_shard):
        if left <= 0:
            break
        shards.append(parts.Shard(shard.index, min(len(shard), left), shard))
        left -= len(shard)
    return shards


def preprocess(run: Run) -> dict[str, Any]:
    """Read the experiment's source and write `records/`.

    Returns:
        The stage's summary: counts by status, crystals by split.

    Raises:
        SourceError: the source cannot be read as a whole.
        StageError: there is no training crystal, or the directory cannot be written or holds another run.
    """
    started = time.monotonic()
    config = run.experiment.preprocess
    source = open_source(config.source, run.data, config.limits)
    lineage = run.open_stage("preprocess", config, {"source": f"{source.name}, {len(source)} rows"})
    directory = run.directory("preprocess")
    if lineage.complete:
        return lineage.summary
    shards = source_shards(source, config.shard_size, config.limit)
    if not shards:
        raise StageError(f"{source.name} holds no structure")
    work = PreprocessWork(replace(source), config)
    summary = run_campaign(work, shards, directory, run.campaign("preprocess"), lineage.table_metadata).as_dict()
    paths = parts.part_paths(directory)
    counts = {split: pack_records(paths, split, directory / f"{split}.safetensors") for split in PARTS}
    if counts["train"] == 0:
        raise StageError(
            f"{source.name} gave no training crystal (status: {summary['status']}; splits: {counts}); "
            "set preprocess.resplit=true to divide it anew"
        )
    records = Records.load(directory / "train.safetensors")
    priors = build_priors(records, SymmetryTables.from_arrays(symmetry_tables()))
    priors.save(directory / "priors.safetensors")
    summary["splits"] = counts
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    logger.info("preprocess: %s, %s in %.1f s", summary["status"], counts, summary["seconds"])
    return summary
