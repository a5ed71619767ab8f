"""Cut given frameworks into building blocks: one row per structure, the blocks' library, and a list of the blocks."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.block_packing import BlockPackingConfig, pack_blocks
from cluster.block_page import write_page
from cluster.campaign import CampaignConfig, run_campaign
from cluster.frameworks import ARRAY_FIELDS, SUMMARY_FIELDS, array_columns, summary_columns
from cluster.given import given_lineage, open_given
from cluster.lineage import StageLineage, finish_stage, open_stage, require_stage
from cluster.parts import Shard, part_paths, read_table, status_counts, write_table
from cluster.session import ray_session
from matgen.errors import StructureError
from matgen.mof.block_library import BlockLibrary
from matgen.mof.decompose import DecomposeConfig, decompose
from matgen.mof.fragments import hill_formula
from matgen.sources.rows import SourceRow
from matgen.sources.source import Source, SourceConfig

logger = logging.getLogger(__name__)

_TEXT = [("material_id", pa.string()), ("status", pa.string()), ("reason", pa.string())]
TABLE_SCHEMA = pa.schema([*_TEXT, ("formula", pa.string()), ("num_atoms", pa.int32()), *SUMMARY_FIELDS])
PART_SCHEMA = pa.schema([*TABLE_SCHEMA, *ARRAY_FIELDS])
BLOCKS_SCHEMA = pa.schema(
    [
        ("identity", pa.string()),
        ("smiles", pa.string()),
        ("role", pa.string()),
        ("formula", pa.string()),
        ("num_atoms", pa.int32()),
        ("num_connections", pa.int32()),
        ("num_frameworks", pa.int32()),
        ("num_conformers", pa.int32()),
        ("example", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class DecomposeRunConfig:
    """Settings of `matgen decompose`."""

    limits: SourceConfig = field(default_factory=SourceConfig)
    decompose: DecomposeConfig = field(default_factory=DecomposeConfig)
    packing: BlockPackingConfig = field(default_factory=BlockPackingConfig)
    shard_size: int = 256
    limit: int | None = None


class DecomposeWork:
    """Reads the structures of a shard and cuts them."""

    schema = PART_SCHEMA

    def __init__(self, source: Source, config: DecomposeConfig) -> None:
        self.source = source
        self.config = config

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[SourceRow]:
        """Read and check the structures of a shard."""
        return list(self.source.read_shard(shard.payload))[: shard.num_rows]

    def process(self, rows: Sequence[SourceRow]) -> list[Mapping[str, Any]]:
        """Cut them one by one."""
        return [self._cut(row) for row in rows]

    def failed(self, row: SourceRow, status: str, reason: str) -> Mapping[str, Any]:
        """A structure that could not be cut."""
        base: dict[str, Any] = {"material_id": row.id, "status": status, "reason": reason}
        if row.structure is not None:
            base |= {"formula": row.structure.formula, "num_atoms": row.structure.num_atoms}
        return base

    def _cut(self, row: SourceRow) -> Mapping[str, Any]:
        if row.structure is None:
            return self.failed(row, row.status, row.reason)
        try:
            framework = decompose(row.structure, self.config)
        except StructureError as error:
            return self.failed(row, error.status, str(error))
        return {**self.failed(row, "ok", ""), **summary_columns(framework), **array_columns(framework)}


def decompose_all(
    path: str,
    out: Path,
    config: DecomposeRunConfig,
    campaign: CampaignConfig,
    command: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Cut every structure of a source.

    Writes `decompose.parquet` (one row per input structure), `blocks.parquet` (one row per identity),
    `blocks.safetensors` (the library), `decompose.html` (statuses and pictures) and `work/` (parts with the whole
    frameworks).

    Args:
        path: structures in any form that `open_source` reads.
        out: directory of the results.
        config: tolerances and limits.
        campaign: actors and progress.
        command: the command line, for the record.
        overwrite: delete what another run left in `out`.

    Returns:
        n, ok, counts by status, of blocks and identities.

    Raises:
        SourceError: the input cannot be read as a whole.
        StageError: `out` holds another run, or cannot be written.
    """
    started = time.monotonic()
    source, shards = open_given(path, config)
    lineage = given_lineage("decompose", path, out, config, source, command)
    work = out / "work"
    lineage = open_stage(work, lineage, overwrite=overwrite)
    if not (lineage.complete and (out / "blocks.safetensors").exists()):
        metadata = lineage.table_metadata
        with ray_session(campaign.num_workers) if campaign.num_workers else contextlib.nullcontext():
            run_campaign(DecomposeWork(source, config.decompose), shards, work, campaign, metadata)
        counts = _write_results(out, work, Path(path).name, config, metadata)
        lineage = finish_stage(work, lineage, {"blocks": counts}, time.monotonic() - started)
    return _summary(out, work, lineage)


def _summary(out: Path, work: Path, lineage: StageLineage) -> dict[str, Any]:
    status = status_counts(work)
    return {
        "n": sum(status.values()),
        "ok": status.get("ok", 0),
        "status": status,
        **lineage.summary,
        "seconds": round(require_stage(work, "decompose").seconds, 2),
        "table": str(out / "decompose.parquet"),
        "library": str(out / "blocks.safetensors"),
        "page": str(out / "decompose.html"),
    }


def _write_results(
    out: Path, work: Path, name: str, config: DecomposeRunConfig, metadata: Mapping[str, str]
) -> dict[str, int]:
    """Write the readable tables, the library and the page from the parts."""
    parts = part_paths(work)
    light = pa.concat_tables([read_table(part, TABLE_SCHEMA.names) for part in parts])
    write_table(out / "decompose.parquet", light, metadata)
    counts = pack_blocks(parts, out / "blocks.safetensors", config.packing)
    library = BlockLibrary.load(out / "blocks.safetensors")
    rows = _identity_rows(light, library)
    write_table(out / "blocks.parquet", pa.Table.from_pylist(rows, schema=BLOCKS_SCHEMA), metadata)
    write_page(out / "decompose.html", name, status_counts(work), rows, library)
    return counts


def _identity_rows(light: pa.Table, library: BlockLibrary) -> list[dict[str, Any]]:
    smiles: dict[str, str] = {}
    frameworks: Counter[str] = Counter()
    for names, texts in zip(light["identities"].to_pylist(), light["smiles"].to_pylist(), strict=True):
        smiles.update(zip(names or (), texts or (), strict=True))
        frameworks.update(set(names or ()))
    rows = []
    for index, first in enumerate(library.conformer_offsets[:-1].tolist()):
        block, name = library.block(first), library.identity(first)
        rows.append(
            {
                "identity": name,
                "smiles": smiles[name],
                "role": block.role,
                "formula": hill_formula(block.atomic_numbers),
                "num_atoms": block.num_atoms,
                "num_connections": block.num_connections,
                "num_frameworks": frameworks[name],
                "num_conformers": int(library.conformer_offsets[index + 1]) - first,
                "example": library.source(first),
            }
        )
    return sorted(rows, key=lambda row: (-row["num_frameworks"], row["identity"]))
