"""Encode given crystals, save (G, k, X', S, A'), decode that alone in fresh processes, compare with the originals."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.campaign import CampaignConfig, run_campaign
from cluster.comparison import TEXT_FIELDS, CompareWork
from cluster.decode import StoredUnit, stored_unit, structure_columns
from cluster.given import given_lineage, open_given
from cluster.lineage import finish_stage, open_stage, require_stage
from cluster.parts import Shard, part_paths, read_part, read_table, shards_of_parts, status_counts, write_table
from cluster.preprocess import UNIT_FIELDS, unit_columns
from cluster.session import ray_session, session_environment
from matgen.errors import StageError
from matgen.representations.asymmetric_unit import AsymmetricUnit, EncodeConfig, encode_many
from matgen.representations.decode import DecodeConfig, decode
from matgen.settings import from_dict, to_dict
from matgen.sources.rows import SourceRow
from matgen.sources.source import Source, SourceConfig

ENCODED_SCHEMA = pa.schema([*TEXT_FIELDS, *UNIT_FIELDS])
DECODED_SCHEMA = pa.schema(
    [
        *TEXT_FIELDS,
        ("space_group_number", pa.int16()),
        ("num_atoms", pa.int32()),
        ("formula", pa.string()),
        ("lattice", pa.list_(pa.float64())),
        ("structure_frac_coords", pa.list_(pa.float64())),
        ("structure_atomic_numbers", pa.list_(pa.int16())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """Settings of a reconstruction.

    What was encoded must come back by projection alone: overlaps are neither resolved nor judged (the source's limits
    have refused clashing atoms before).
    """

    limits: SourceConfig = field(default_factory=SourceConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    decode: DecodeConfig = field(
        default_factory=lambda: DecodeConfig(resolve_overlaps=False, min_distance=0.0, min_ratio=0.0)
    )
    shard_size: int = 256
    limit: int | None = None


class EncodeWork:
    """Encodes; what is saved has no letters and no structure."""

    schema = ENCODED_SCHEMA

    def __init__(self, source: Source, config: EncodeConfig) -> None:
        self.source = source
        self.config = config

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[SourceRow]:
        """Read and check the structures of a shard."""
        return list(self.source.read_shard(shard.payload))[: shard.num_rows]

    def process(self, rows: Sequence[SourceRow]) -> list[Mapping[str, Any]]:
        """Encode the structures that could be read."""
        encoded = iter(encode_many([row.structure for row in rows if row.structure is not None], self.config))
        done: list[Mapping[str, Any]] = []
        for row in rows:
            unit = next(encoded) if row.structure is not None else None
            if isinstance(unit, AsymmetricUnit):
                columns = unit_columns(unit)
                kept = {name: columns[name] for name, _ in UNIT_FIELDS}
                done.append({"material_id": row.id, "status": "ok", "reason": "", **kept})
            elif unit is None:
                done.append(self.failed(row, row.status, row.reason))
            else:
                done.append(self.failed(row, unit.status, str(unit)))
        return done

    def failed(self, row: SourceRow, status: str, reason: str) -> Mapping[str, Any]:
        """A crystal that could not be encoded."""
        return {"material_id": row.id, "status": status, "reason": reason}


class DecodeWork:
    """Decodes what EncodeWork saved."""

    schema = DECODED_SCHEMA

    def __init__(self, config: DecodeConfig) -> None:
        self.config = config

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[Mapping[str, Any]]:
        """Read a part of encoded crystals."""
        return read_part(Path(shard.payload), ENCODED_SCHEMA.names)

    def process(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Decode them."""
        units: list[StoredUnit] = [stored_unit(row) for row in rows if row["status"] == "ok"]
        decoded = iter(decode(units, self.config))
        done: list[Mapping[str, Any]] = []
        for row in rows:
            base = {name: row[name] for name in ("material_id", "status", "reason", "space_group_number")}
            if row["status"] == "ok":
                crystal = next(decoded)
                base |= {"status": crystal.status, "reason": crystal.reason}
                base |= structure_columns(crystal.structure) if crystal.structure is not None else {}
            done.append(base)
        return done

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A crystal that could not be decoded."""
        return {"material_id": row["material_id"], "status": status, "reason": reason}


def reconstruct(
    path: str,
    out: Path,
    config: ReconstructConfig,
    campaign: CampaignConfig,
    command: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Encode, save, decode in fresh processes, compare; write `out/reconstruct.parquet`, one row per input structure.

    Args:
        path: structures in any form that `open_source` reads.
        out: directory of the results.
        config: tolerances and limits.
        campaign: actors and progress.
        command: the command line, for the record.
        overwrite: delete what another run left in `out`.

    Returns:
        n, ok, matched, and counts by status.

    Raises:
        SourceError: the input cannot be read as a whole.
        StageError: `out` holds another run, or cannot be written.
    """
    started = time.monotonic()
    source, shards = open_given(path, config)
    work = out / "work"
    lineage = given_lineage("reconstruct", path, out, config, source, command)
    lineage = open_stage(work, lineage, overwrite=overwrite)
    table = out / "reconstruct.parquet"
    if not (lineage.complete and table.exists()):
        metadata = lineage.table_metadata
        compare = CompareWork(source, work, config.encode.symprec)
        with ray_session(campaign.num_workers) if campaign.num_workers else contextlib.nullcontext():
            run_campaign(EncodeWork(source, config.encode), shards, work / "encoded", campaign, metadata)
            _decode_in_a_fresh_process(work, config.decode, campaign)
            run_campaign(compare, shards, work / "compared", campaign, metadata)
        write_table(table, pa.concat_tables([read_table(part) for part in part_paths(work / "compared")]), metadata)
        finish_stage(work, lineage, {}, time.monotonic() - started)
    status = status_counts(work / "compared")
    matched = sum(read_table(table, ["matched"]).column("matched").to_pylist())
    return {
        "n": sum(status.values()),
        "ok": status.get("ok", 0),
        "matched": matched,
        "status": status,
        "seconds": round(require_stage(work, "reconstruct").seconds, 2),
        "table": str(table),
    }


def _decode_in_a_fresh_process(work: Path, config: DecodeConfig, campaign: CampaignConfig) -> None:
    """Run this file as a program that is told the directory alone: no state of encoding can leak into decoding."""
    workers, settings = str(campaign.num_workers), json.dumps(to_dict(config))
    command = [sys.executable, "-m", "cluster.reconstruct", str(work), workers, settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=session_environment())
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or [f"exit code {done.returncode}"]
        raise StageError(f"decoding in a fresh process failed: {last[0]}")


def decode_saved(work: Path, num_workers: int, config: DecodeConfig) -> None:
    """Decode the parts in `work/encoded` and write `work/decoded`: what the fresh process does.

    Args:
        work: directory of a reconstruction.
        num_workers: actors; 0 works in this process.
        config: of the decoder.
    """
    shards = shards_of_parts(work / "encoded")
    run_campaign(DecodeWork(config), shards, work / "decoded", CampaignConfig(num_workers=num_workers, progress=False))


if __name__ == "__main__":
    from cluster import reconstruct as module  # not __main__: Ray's actors import the work by its module

    module.decode_saved(Path(sys.argv[1]), int(sys.argv[2]), from_dict(DecodeConfig, json.loads(sys.argv[3])))
