"""Relax given frameworks with UFF4MOF: one row per structure, whatever became of it."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.campaign import CampaignConfig, run_campaign
from cluster.given import given_lineage, open_given
from cluster.lineage import finish_stage, open_stage, require_stage
from cluster.mof_relax import RELAXATION_FIELDS, relaxation_columns
from cluster.parts import Shard, part_paths, read_table, status_counts, write_table
from cluster.session import ray_session
from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds, BondsConfig, find_bonds
from matgen.relaxation.lammps import Lammps
from matgen.relaxation.uff_relax import UffRelaxConfig, UffRelaxed, relax_frameworks
from matgen.sources.rows import SourceRow
from matgen.sources.source import Source, SourceConfig

__all__ = ["RELAX_MOF_SCHEMA", "RelaxMofConfig", "RelaxMofWork", "connectivity_changes", "relax_mofs"]

logger = logging.getLogger(__name__)

RELAX_MOF_SCHEMA = pa.schema(
    [
        ("material_id", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("formula", pa.string()),
        ("num_atoms", pa.int32()),
        *RELAXATION_FIELDS,
        ("shortest_contact", pa.float64()),
        ("bonds_lost", pa.int32()),
        ("bonds_gained", pa.int32()),
        ("types_guessed", pa.list_(pa.string())),
        ("atomic_numbers", pa.list_(pa.int16())),
        ("relaxed_lattice", pa.list_(pa.float64())),
        ("relaxed_frac_coords", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class RelaxMofConfig:
    """Settings of `matgen relax`. max_atoms: larger cells are refused with the status too_large."""

    limits: SourceConfig = field(default_factory=SourceConfig)
    bonds: BondsConfig = field(default_factory=BondsConfig)
    relax: UffRelaxConfig = field(default_factory=UffRelaxConfig)
    max_atoms: int = 5000
    shard_size: int = 32
    limit: int | None = None


class RelaxMofWork:
    """Reads the structures of a shard and relaxes them side by side."""

    schema = RELAX_MOF_SCHEMA

    def __init__(self, source: Source, config: RelaxMofConfig) -> None:
        self.source = source
        self.config = config

    def setup(self) -> None:
        """Refuse where the engine is not installed."""
        if self.config.relax.engine == "lammps":
            Lammps(self.config.relax.lammps).close()

    def load(self, shard: Shard) -> Sequence[SourceRow]:
        """Read and check the structures of a shard."""
        return list(self.source.read_shard(shard.payload))[: shard.num_rows]

    def process(self, rows: Sequence[SourceRow]) -> list[Mapping[str, Any]]:
        """Relax those that can be."""
        structures = [row.structure for row in rows if self._takes(row) and row.structure is not None]
        bonds = [find_bonds(structure, self.config.bonds) for structure in structures]
        relaxed = iter(zip(relax_frameworks(structures, bonds, self.config.relax), bonds, strict=True))
        done: list[Mapping[str, Any]] = []
        for row in rows:
            if row.structure is None:
                done.append(self.failed(row, row.status, row.reason))
            elif not self._takes(row):
                reason = f"{row.structure.num_atoms} atoms, more than the limit of {self.config.max_atoms}"
                done.append(self.failed(row, "too_large", reason))
            else:
                result, bond = next(relaxed)
                done.append({**self.failed(row, result.status, result.reason), **self._columns(result, bond)})
        return done

    def failed(self, row: SourceRow, status: str, reason: str) -> Mapping[str, Any]:
        """A structure that could not be relaxed."""
        base: dict[str, Any] = {"material_id": row.id, "status": status, "reason": reason}
        if row.structure is not None:
            base |= {"formula": row.structure.formula, "num_atoms": row.structure.num_atoms}
        return base

    def _takes(self, row: SourceRow) -> bool:
        return row.structure is not None and row.structure.num_atoms <= self.config.max_atoms

    def _columns(self, result: UffRelaxed, bonds: Bonds) -> dict[str, Any]:
        columns: dict[str, Any] = {
            **relaxation_columns(result),
            "shortest_contact": result.shortest_contact,
            "types_guessed": list(result.types_guessed),
        }
        if result.status in ("ok", "not_converged"):
            lost, gained = connectivity_changes(result.structure, bonds, self.config.bonds)
            columns |= {
                "bonds_lost": lost,
                "bonds_gained": gained,
                "atomic_numbers": result.structure.atomic_numbers.tolist(),
                "relaxed_lattice": result.structure.lattice.ravel().tolist(),
                "relaxed_frac_coords": result.structure.frac_coords.ravel().tolist(),
            }
        return columns


def connectivity_changes(structure: Structure, bonds: Bonds, config: BondsConfig) -> tuple[int, int]:
    """Bonds that distances no longer show after relaxation, and bonds that they newly show.

    Args:
        structure: relaxed, in the cell and atom order that the bonds refer to.
        bonds: what the force field kept.
        config: what counts as a bond.
    """
    before, after = (_bond_set(item) for item in (bonds, find_bonds(structure, config)))
    return len(before - after), len(after - before)


def _bond_set(bonds: Bonds) -> set[tuple[int, ...]]:
    """Each bond once, in the direction that sorts first."""
    forward = np.column_stack([bonds.first, bonds.second, bonds.image]).tolist()
    backward = np.column_stack([bonds.second, bonds.first, -bonds.image]).tolist()
    return {min(tuple(a), tuple(b)) for a, b in zip(forward, backward, strict=True)}


def relax_mofs(
    path: str,
    out: Path,
    config: RelaxMofConfig,
    campaign: CampaignConfig,
    command: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Relax every structure of a source.

    Writes `relaxed.parquet` (one row per input structure) and `work/` (the finished parts).

    Args:
        path: structures in any form that `open_source` reads.
        out: directory of the results.
        config: engine, tolerances and limits.
        campaign: actors and progress.
        command: the command line, for the record.
        overwrite: delete what another run left in `out`.

    Returns:
        n, ok, counts by status, and how many rows hold guessed types.

    Raises:
        MissingDependencyError: the engine is not installed.
        SourceError: the input cannot be read as a whole.
        StageError: `out` holds another run, or cannot be written.
    """
    started = time.monotonic()
    if config.relax.engine == "lammps":
        Lammps(config.relax.lammps).close()
    source, shards = open_given(path, config)
    work = out / "work"
    lineage = given_lineage("relax", path, out, config, source, command)
    lineage = open_stage(work, lineage, overwrite=overwrite)
    if not lineage.complete:
        with ray_session(campaign.num_workers) if campaign.num_workers else contextlib.nullcontext():
            run_campaign(RelaxMofWork(source, config), shards, work, campaign, lineage.table_metadata)
        lineage = finish_stage(work, lineage, {}, time.monotonic() - started)
    table = pa.concat_tables([read_table(part, RELAX_MOF_SCHEMA.names) for part in part_paths(work)])
    write_table(out / "relaxed.parquet", table, lineage.table_metadata)
    return _summary(out, work, table)


def _summary(out: Path, work: Path, table: pa.Table) -> dict[str, Any]:
    status = status_counts(work)
    return {
        "n": sum(status.values()),
        "ok": status.get("ok", 0),
        "status": status,
        "types_guessed": sum(bool(guessed) for guessed in table["types_guessed"].to_pylist()),
        "seconds": round(require_stage(work, "relax").seconds, 2),
        "table": str(out / "relaxed.parquet"),
    }
