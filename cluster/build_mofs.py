"""Make hypothetical frameworks from building blocks and nets: one row for each that was asked for."""

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
from cluster.lineage import StageLineage, finish_stage, open_stage, require_stage, run_id
from cluster.parts import Shard, part_paths, read_table, status_counts
from cluster.session import ray_session
from matgen.crystal.cif_writer import write_cif
from matgen.crystal.structure import Structure
from matgen.errors import ConfigError
from matgen.mof.bonds import find_bonds
from matgen.mof.decompose import DecomposeConfig
from matgen.mof.hypothetical.build import Built, build_one
from matgen.mof.hypothetical.draw import Catalogue, DrawConfig
from matgen.mof.hypothetical.pormake import net_names, require_pormake
from matgen.relaxation.uff_relax import UffRelaxConfig, relax_frameworks
from matgen.settings import to_dict

__all__ = ["BUILD_SCHEMA", "BuildMofsConfig", "BuildMofsWork", "build_mofs"]

logger = logging.getLogger(__name__)

BUILD_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("net", pa.string()),
        ("blocks", pa.string()),
        ("formula", pa.string()),
        ("num_atoms", pa.int32()),
        ("rmsd", pa.float64()),
        ("num_builds", pa.int32()),
        ("relaxed", pa.bool_()),
        ("cif", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class BuildMofsConfig:
    """Settings of `matgen build-mofs`.

    Args:
        count: rows.
        draw: nets, blocks and limits.
        max_builds: recipes that a row may try on its net.
        decompose: of the test that a framework can be cut into nodes and linkers.
        relax: with UFF4MOF; None leaves frameworks as they were built.
        seed: of all draws, together with a row's number.
        shard_size: rows a shard.
    """

    count: int = 1000
    draw: DrawConfig = field(default_factory=DrawConfig)
    max_builds: int = 8
    decompose: DecomposeConfig = field(default_factory=DecomposeConfig)
    relax: UffRelaxConfig | None = None
    seed: int = 0
    shard_size: int = 64


class BuildMofsWork:
    """Draws, builds and, where asked for, relaxes one framework after another."""

    schema = BUILD_SCHEMA
    rows_at_once = 1  # each has a deadline of its own
    divisible = True

    def __init__(self, config: BuildMofsConfig) -> None:
        self.config = config
        self.catalogue: Catalogue | None = None

    def setup(self) -> None:
        """Read the blocks."""
        self.catalogue = Catalogue(self.config.draw)
        logger.debug("%d building blocks", len(self.catalogue.blocks))

    def load(self, shard: Shard) -> Sequence[int]:
        """Numbers of the rows."""
        return range(shard.payload, shard.payload + shard.num_rows)

    def process(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """Build them one by one."""
        return [self._row(number) for number in rows]

    def failed(self, row: int, status: str, reason: str) -> Mapping[str, Any]:
        """A framework that could not be built."""
        return {"name": f"{row:06d}", "status": status, "reason": reason}

    def _row(self, number: int) -> Mapping[str, Any]:
        assert self.catalogue is not None, "setup comes first"
        rng = np.random.default_rng([self.config.seed, number])
        built = build_one(self.catalogue, rng, self.config.max_builds, self.config.decompose)
        blocks = built.recipe.blocks if built.recipe else None
        columns: dict[str, Any] = {
            "name": "_".join([f"{number:06d}", built.net, *([blocks] if blocks else [])]),
            "status": built.status,
            "reason": built.reason,
            "net": built.net,
            "blocks": blocks,
            "rmsd": built.recipe.rmsd if built.recipe else None,
            "num_builds": built.num_builds,
            "relaxed": False,
        }
        if built.structure is None:
            return columns
        return {**columns, **self._structure_columns(built, built.structure, columns["name"])}

    def _structure_columns(self, built: Built, structure: Structure, name: str) -> dict[str, Any]:
        columns = {"formula": structure.formula, "num_atoms": structure.num_atoms}
        if self.config.relax is not None:
            bonds = find_bonds(structure, self.config.decompose.bonds)
            (relaxed,) = relax_frameworks([structure], [bonds], self.config.relax)
            if relaxed.status != "ok":
                return {**columns, "status": relaxed.status, "reason": relaxed.reason}
            structure = relaxed.structure
            columns["relaxed"] = True
        return {**columns, "cif": write_cif(structure, name=name)}


def build_mofs(
    out: Path, config: BuildMofsConfig, campaign: CampaignConfig, command: str = "", overwrite: bool = False
) -> dict[str, Any]:
    """Build `config.count` hypothetical frameworks.

    Writes `mofs/part-*.parquet` (columns name, cif, status, net, blocks, ...), which every command that reads
    structures takes as it is.

    Args:
        out: directory of the results.
        config: what to build.
        campaign: actors, deadlines, progress, and which shards are this driver's.
        command: the command line, for the record.
        overwrite: delete what another run left in `out`.

    Returns:
        n, ok, counts by status, distinct recipes, nets among the good ones, seconds, and where the parts are.

    Raises:
        MissingDependencyError: PORMAKE is not installed.
        ConfigError: a net is unknown, or count is not positive.
        StageError: `out` holds another run, or cannot be written.
    """
    started = time.monotonic()
    if config.count < 1:
        raise ConfigError(f"count is {config.count}, must be at least 1")
    require_pormake()
    unknown = sorted(set(config.draw.nets) - set(net_names()))
    if unknown or not config.draw.nets:
        said = f"unknown net {', '.join(unknown)}" if unknown else "no net is named"
        raise ConfigError(f"{said}: {len(net_names())} RCSR symbols are known, such as pcu, dia, tbo")
    directory = out / "mofs"
    lineage = StageLineage(
        stage="build_mofs",
        run_id=run_id(out, "build_mofs"),
        seed=config.seed,
        config=to_dict(config),
        inputs={"blocks": "PORMAKE (MIT)"},
        command=command,
    )
    lineage = open_stage(directory, lineage, overwrite=overwrite)
    if not lineage.complete:
        starts = range(0, config.count, config.shard_size)
        shards = [Shard(i, min(config.shard_size, config.count - first), first) for i, first in enumerate(starts)]
        with ray_session(campaign.num_workers) if campaign.num_workers else contextlib.nullcontext():
            run_campaign(BuildMofsWork(config), shards, directory, campaign, lineage.table_metadata)
        lineage = finish_stage(directory, lineage, {}, time.monotonic() - started)
    return _summary(directory)


def _summary(directory: Path) -> dict[str, Any]:
    status, nets, recipes = status_counts(directory), dict[str, int](), set()
    for part in part_paths(directory):
        for row in read_table(part, ["status", "net", "blocks"]).to_pylist():
            if row["status"] == "ok":
                nets[row["net"]] = nets.get(row["net"], 0) + 1
                recipes.add((row["net"], row["blocks"]))
    return {
        "n": sum(status.values()),
        "ok": status.get("ok", 0),
        "status": status,
        "distinct": len(recipes),
        "nets": dict(sorted(nets.items(), key=lambda item: (-item[1], item[0]))),
        "seconds": round(require_stage(directory, "build_mofs").seconds, 2),
        "out": str(directory),
    }
