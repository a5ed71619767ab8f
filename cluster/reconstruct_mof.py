"""Cut real frameworks, forget every orientation, assemble again in a fresh process, compare with the originals."""

import contextlib
import json
import logging
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.block_packing import pack_blocks
from cluster.campaign import CampaignConfig, run_campaign
from cluster.decode import structure_columns
from cluster.decompose import DecomposeWork
from cluster.frameworks import ARRAY_FIELDS, stored_blocks, stored_framework
from cluster.lineage import StageLineage, finish_stage, open_stage, require_stage, run_id
from cluster.mof_comparison import ASSEMBLED_FIELDS, TEXT_FIELDS, CompareWork
from cluster.parts import Shard, part_paths, read_part, read_table, shards_of_parts, status_counts, write_table
from cluster.preprocess import source_shards
from cluster.session import ray_session, session_environment
from matgen.errors import StageError
from matgen.mof.assemble import AssembleConfig, Assembly, AssemblyInput, assemble, reorient
from matgen.mof.assembly.perturb import PerturbConfig, Replacer, perturb
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import ROLES
from matgen.mof.decompose import DecomposeConfig
from matgen.settings import from_dict, to_dict
from matgen.sources.source import SourceConfig, open_source

logger = logging.getLogger(__name__)

_FORGOTTEN = {"pairs", "pair_image", "block_shape"}
_INPUT_FIELDS = [(name, kind) for name, kind in ARRAY_FIELDS if name not in _FORGOTTEN]
INPUT_SCHEMA = pa.schema([*TEXT_FIELDS, *_INPUT_FIELDS, ("replaced_by", pa.list_(pa.string()))])
ASSEMBLED_SCHEMA = pa.schema(
    [
        *TEXT_FIELDS,
        *ASSEMBLED_FIELDS,
        ("lattice", pa.list_(pa.float64())),
        ("structure_frac_coords", pa.list_(pa.float64())),
        ("structure_atomic_numbers", pa.list_(pa.int16())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class ReconstructMofConfig:
    """Settings of a reconstruction of frameworks.

    Args:
        limits: which structures are read.
        decompose: of the cut.
        assemble: of the assembly.
        library: block library (`matgen decompose`) to take replacements from; None makes one of the given structures.
        perturb: replace every block by another framework's conformer and move centres and cell; None leaves them.
        seed: of the random orientations, of the perturbation and of the assembly.
        shard_size: frameworks a shard.
        limit: the first structures only.
    """

    limits: SourceConfig = field(default_factory=SourceConfig)
    decompose: DecomposeConfig = field(default_factory=DecomposeConfig)
    assemble: AssembleConfig = field(default_factory=AssembleConfig)
    perturb: PerturbConfig | None = None
    library: Path | None = None
    seed: int = 0
    shard_size: int = 64
    limit: int | None = None


class PrepareWork:
    """Turns every block at random, and saves blocks, centres and cell without a word on how they were joined."""

    schema = INPUT_SCHEMA
    divisible = True

    def __init__(self, library: Path | None, config: ReconstructMofConfig) -> None:
        self.path = library
        self.config = config

    def setup(self) -> None:
        """Map the library."""
        self.replacer = Replacer(BlockLibrary.load(self.path)) if self.path else None

    def load(self, shard: Shard) -> Sequence[Mapping[str, Any]]:
        """Read a part of frameworks."""
        return read_part(Path(shard.payload))

    def process(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Prepare those that could be cut."""
        return [self._prepared(row) if row["status"] == "ok" else self.failed(row, *_word(row)) for row in rows]

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A framework that could not be prepared."""
        return {"material_id": row["material_id"], "status": status, "reason": reason}

    def _prepared(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        framework = stored_framework(row)
        name = str(row["material_id"])
        rng = np.random.default_rng([row_seed(self.config.seed, name), 1])
        given = AssemblyInput(framework.lattice, framework.frac_coords, framework.blocks)
        how: list[str] = []
        if self.replacer is not None and self.config.perturb is not None:
            given, how = perturb(given, name, self.replacer, rng, self.config.perturb)
        given, _ = reorient(given, rng)
        return {**self.failed(row, "ok", ""), **_input_columns(given), "replaced_by": how}


class AssembleWork:
    """Assembles what PrepareWork saved."""

    schema = ASSEMBLED_SCHEMA
    rows_at_once = 1  # all starts of one are in one tensor; frameworks side by side gain nothing on a CPU
    divisible = True

    def __init__(self, config: AssembleConfig, seed: int) -> None:
        self.config = config
        self.seed = seed

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[Mapping[str, Any]]:
        """Read a part of inputs."""
        return read_part(Path(shard.payload))

    def process(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Assemble them."""
        todo = [row for row in rows if row["status"] == "ok"]
        started = time.process_time()
        made = iter(
            assemble(
                [_stored_input(row) for row in todo],
                self.config,
                [row_seed(self.seed, str(row["material_id"])) for row in todo],
            )
        )
        seconds = (time.process_time() - started) / max(len(todo), 1)
        return [
            {"material_id": row["material_id"], **_assembled_columns(next(made)), "cpu_seconds": seconds}
            if row["status"] == "ok"
            else self.failed(row, *_word(row))
            for row in rows
        ]

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A framework that could not be assembled."""
        return {"material_id": row["material_id"], "status": status, "reason": reason}


def row_seed(seed: int, name: str) -> int:
    """Seed of a framework: a function of the run's seed and of its name."""
    return zlib.crc32(f"{seed} {name}".encode())


def reconstruct_mofs(
    path: str,
    out: Path,
    config: ReconstructMofConfig,
    campaign: CampaignConfig,
    command: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Cut, turn, save, assemble in a fresh process, compare; write `out/reconstruct.parquet`, one row per structure.

    Args:
        path: structures in any form that `open_source` reads.
        out: directory of the results.
        config: tolerances, limits, perturbation.
        campaign: actors and progress.
        command: the command line, for the record.
        overwrite: delete what another run left in `out`.

    Returns:
        n, decomposed, closed, matched, and counts by status.

    Raises:
        SourceError: the input cannot be read as a whole.
        StageError: `out` holds another run, or cannot be written.
    """
    started = time.monotonic()
    source = open_source(path, None, config.limits)
    shards = source_shards(source, config.shard_size, config.limit)
    if not shards:
        raise StageError(f"{path} holds no structure")
    lineage = StageLineage(
        stage="reconstruct",
        run_id=run_id(out, "reconstruct"),
        seed=config.seed,
        config=to_dict(config),
        inputs={"source": f"{Path(path).expanduser().resolve()}, {len(source)} rows"},
        command=command,
    )
    work, table = out / "work", out / "reconstruct.parquet"
    lineage = open_stage(work, lineage, overwrite=overwrite)
    if not (lineage.complete and table.exists()):
        metadata = lineage.table_metadata
        with ray_session(campaign.num_workers) if campaign.num_workers else contextlib.nullcontext():
            run_campaign(DecomposeWork(source, config.decompose), shards, work / "frameworks", campaign, metadata)
            library = (config.library or _library(work)) if config.perturb is not None else None
            cut = shards_of_parts(work / "frameworks")
            run_campaign(PrepareWork(library, config), cut, work / "inputs", campaign, metadata)
            _assemble_in_a_fresh_process(work, config, campaign)
            run_campaign(CompareWork(work, library is None), cut, work / "compared", campaign, metadata)
        write_table(table, pa.concat_tables([read_table(part) for part in part_paths(work / "compared")]), metadata)
        finish_stage(work, lineage, {}, time.monotonic() - started)
    return _summary(work, table, config)


def _summary(work: Path, table: Path, config: ReconstructMofConfig) -> dict[str, Any]:
    rows = read_table(table, ["decomposed", "closed", "matched", "cpu_seconds"]).to_pydict()
    seconds = [x for x in rows["cpu_seconds"] if x is not None]
    return {
        "n": len(rows["closed"]),
        "decomposed": sum(rows["decomposed"]),
        "closed": sum(rows["closed"]),
        "matched": sum(rows["matched"]),
        "status": status_counts(work / "compared"),
        "perturbed": config.perturb is not None,
        "assembly_cpu_seconds_each": round(float(np.mean(seconds)), 3) if seconds else None,
        "seconds": round(require_stage(work, "reconstruct").seconds, 2),
        "table": str(table),
    }


def _library(work: Path) -> Path:
    path = work / "blocks.safetensors"
    if not path.exists():
        pack_blocks(part_paths(work / "frameworks"), path)
    return path


def _assemble_in_a_fresh_process(work: Path, config: ReconstructMofConfig, campaign: CampaignConfig) -> None:
    """Run this file as a program that is told the inputs alone: nothing of the cut can leak into the assembly."""
    settings = json.dumps({"assemble": to_dict(config.assemble), "seed": config.seed})
    arguments = [str(work / "inputs"), str(work / "assembled"), str(campaign.num_workers), settings]
    command = [sys.executable, "-m", "cluster.reconstruct_mof", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=session_environment())
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or [f"exit code {done.returncode}"]
        raise StageError(f"assembling in a fresh process failed: {last[0]}")


def assemble_saved(inputs: Path, out: Path, num_workers: int, config: AssembleConfig, seed: int) -> None:
    """Assemble the parts in `inputs` and write `out`: what the fresh process does.

    Args:
        inputs: directory of blocks, centres and cells.
        out: directory of the assembled frameworks.
        num_workers: actors; 0 works in this process.
        config: of the assembly.
        seed: of the run.
    """
    campaign = CampaignConfig(num_workers=num_workers, description="assemble", row_deadline_s=600.0, progress=False)
    run_campaign(AssembleWork(config, seed), shards_of_parts(inputs), out, campaign)


def _word(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["status"]), str(row["reason"])


def _input_columns(given: AssemblyInput) -> dict[str, Any]:
    def flat(name: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.asarray(getattr(block, name)).ravel() for block in given.blocks]).astype(dtype)

    return {
        "lattice": given.lattice.ravel(),
        "block_frac_coords": given.frac_coords.ravel(),
        "block_role": [ROLES.index(block.role) for block in given.blocks],
        "block_num_atoms": [block.num_atoms for block in given.blocks],
        "block_num_bonds": [len(block.bonds) for block in given.blocks],
        "block_num_connections": [block.num_connections for block in given.blocks],
        "atomic_numbers": flat("atomic_numbers", np.int16),
        "cart_coords": flat("cart_coords", np.float32),
        "bonds": flat("bonds", np.int16),
        "connection_points": flat("connection_points", np.float32),
        "connection_atoms": flat("connection_atoms", np.int16),
    }


def _stored_input(row: Mapping[str, Any]) -> AssemblyInput:
    lattice = np.array(row["lattice"], dtype=float).reshape(3, 3)
    frac_coords = np.array(row["block_frac_coords"], dtype=float).reshape(-1, 3)
    return AssemblyInput(lattice, frac_coords, tuple(stored_blocks(row)))


def _assembled_columns(made: Assembly) -> dict[str, Any]:
    result: dict[str, Any] = {"status": made.status, "reason": made.reason}
    if len(made.pairs) == 0:
        return result
    structure, _ = made.to_structure()
    columns = structure_columns(structure)
    return {
        **result,
        "num_atoms_assembled": structure.num_atoms,
        "num_pairs": len(made.pairs),
        "max_residual": float(made.residuals.max()),
        "mean_residual": float(made.residuals.mean()),
        "shortest_contact": made.shortest_contact,
        "score": made.score,
        **{name: columns[name] for name in ("lattice", "structure_frac_coords", "structure_atomic_numbers")},
    }


if __name__ == "__main__":
    from cluster import reconstruct_mof as module  # not __main__: Ray's actors import the work by its module

    told = json.loads(sys.argv[4])
    module.assemble_saved(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        int(sys.argv[3]),
        from_dict(AssembleConfig, told["assemble"]),
        told["seed"],
    )
