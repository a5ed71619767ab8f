"""Cut real frameworks, forget every orientation, assemble again in a fresh process, compare with the originals."""

import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.block_packing import pack_blocks
from cluster.campaign import CampaignConfig, run_campaign
from cluster.decompose import DecomposeWork
from cluster.given import given_lineage, open_given
from cluster.lineage import finish_stage, open_stage, require_stage
from cluster.mof_assembly import AssembleWork, PrepareWork
from cluster.mof_comparison import CompareWork
from cluster.parts import part_paths, read_table, shards_of_parts, status_counts, write_table
from cluster.session import ray_session, session_environment
from matgen.errors import StageError
from matgen.mof.assemble import AssembleConfig
from matgen.mof.assembly.perturb import PerturbConfig
from matgen.mof.decompose import DecomposeConfig
from matgen.settings import from_dict, to_dict
from matgen.sources.source import SourceConfig


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
    source, shards = open_given(path, config)
    work, table = out / "work", out / "reconstruct.parquet"
    lineage = given_lineage("reconstruct", path, out, config, source, command, config.seed)
    lineage = open_stage(work, lineage, overwrite=overwrite)
    if not (lineage.complete and table.exists()):
        metadata = lineage.table_metadata
        with ray_session(campaign.num_workers) if campaign.num_workers else contextlib.nullcontext():
            run_campaign(DecomposeWork(source, config.decompose), shards, work / "frameworks", campaign, metadata)
            library = (config.library or _library(work)) if config.perturb is not None else None
            cut = shards_of_parts(work / "frameworks")
            run_campaign(PrepareWork(library, config.perturb, config.seed), cut, work / "inputs", campaign, metadata)
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


if __name__ == "__main__":
    told = json.loads(sys.argv[4])
    assemble_saved(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        int(sys.argv[3]),
        from_dict(AssembleConfig, told["assemble"]),
        told["seed"],
    )
