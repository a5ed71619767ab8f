"""Stage 4: crystals are relaxed within their space groups, and their energies held against a hull."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.campaign import run_campaign
from cluster.decode import STRUCTURE_SCHEMA, stored_structure
from cluster.lineage import finish_stage, require_stage
from cluster.parts import Shard, read_part, shards_of_parts
from cluster.run import Run
from matgen.config import RelaxStageConfig
from matgen.crystal.structure import Structure
from matgen.errors import StageError
from matgen.relaxation.mlip import CHGNetPotential
from matgen.relaxation.optimizer import CONVERGED, Relaxed, relax
from matgen.relaxation.reference import ReferenceHull, finished_hull

logger = logging.getLogger(__name__)

NOT_RUN = "not_run"

RELAXED_SCHEMA = pa.schema(
    [
        *STRUCTURE_SCHEMA,
        ("relax_status", pa.string()),
        ("energy_per_atom", pa.float64()),
        ("initial_energy_per_atom", pa.float64()),
        ("relaxed_lattice", pa.list_(pa.float64())),
        ("relaxed_frac_coords", pa.list_(pa.float64())),
        ("num_relax_steps", pa.int32()),
        ("converged", pa.bool_()),
        ("max_force", pa.float64()),
        ("max_stress", pa.float64()),
        ("rmsd_to_relaxed", pa.float64()),
        ("volume_ratio", pa.float64()),
        ("relaxed_space_group_number", pa.int16()),
        ("e_above_hull", pa.float64()),
        ("hull_status", pa.string()),
    ]
)


class RelaxWork:
    """Relaxes the crystals of a part; `limit` takes those with a smaller sample_id only."""

    schema = RELAXED_SCHEMA

    def __init__(self, config: RelaxStageConfig) -> None:
        self.config = config

    def setup(self) -> None:
        """Load the potential and the hull."""
        self.potential = CHGNetPotential()
        self.hull = ReferenceHull.load(Path(self.config.hull)) if self.config.hull else None

    def load(self, shard: Shard) -> Sequence[Mapping[str, Any]]:
        """Read a part of structures."""
        return read_part(Path(shard.payload), STRUCTURE_SCHEMA.names)

    def process(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Relax them side by side; failures of earlier stages stay as they are."""
        structures = [stored_structure(row) if self._wanted(row) else None for row in rows]
        todo = [(structure, row["space_group_number"]) for structure, row in zip(structures, rows) if structure]
        relaxed = relax([item[0] for item in todo], self.potential, self.config.relax, [item[1] for item in todo])
        results = iter(relaxed)
        done: list[Mapping[str, Any]] = []
        for row, structure in zip(rows, structures, strict=True):
            if structure is None:
                done.append({**row, "relax_status": NOT_RUN, "hull_status": NOT_RUN})
            else:
                result = next(results)
                done.append({**row, **_relaxed_columns(result), **self._hull_columns(structure, result)})
        return done

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A crystal that could not be relaxed."""
        return {**row, "status": status, "reason": reason, "relax_status": status, "hull_status": NOT_RUN}

    def _wanted(self, row: Mapping[str, Any]) -> bool:
        return row["status"] == "ok" and (self.config.limit is None or row["sample_id"] < self.config.limit)

    def _hull_columns(self, structure: Structure, result: Relaxed) -> dict[str, Any]:
        if self.hull is None or not result.usable:
            return {"hull_status": NOT_RUN}
        distance = self.hull.hull.e_above_hull(structure.atomic_numbers, result.energy_per_atom)
        return {"e_above_hull": distance.value, "hull_status": distance.status}


def _relaxed_columns(result: Relaxed) -> dict[str, Any]:
    return {
        "status": "ok" if result.usable else result.status,
        "reason": result.reason,
        "relax_status": result.status,
        "energy_per_atom": result.energy_per_atom,
        "initial_energy_per_atom": result.initial_energy_per_atom,
        "relaxed_lattice": result.structure.lattice.ravel().tolist() if result.usable else None,
        "relaxed_frac_coords": result.structure.frac_coords.ravel().tolist() if result.usable else None,
        "num_relax_steps": result.num_steps,
        "converged": result.status == CONVERGED,
        "max_force": result.max_force,
        "max_stress": result.max_stress,
        "rmsd_to_relaxed": result.rmsd,
        "volume_ratio": result.volume_ratio,
        "relaxed_space_group_number": result.space_group_number,
    }


def relaxed_structure(row: Mapping[str, Any]) -> Structure | None:
    """Read the relaxed crystal of a row; None where there is none."""
    if row.get("relaxed_lattice") is None:
        return None
    return stored_structure(
        {**row, "lattice": row["relaxed_lattice"], "structure_frac_coords": row["relaxed_frac_coords"]}
    )


def relax_stage(run: Run) -> dict[str, Any]:
    """Relax `structures/` and write `relaxed/`.

    Returns:
        The stage's summary.

    Raises:
        MissingDependencyError: the potential's package is not installed.
        SourceError: the hull's folder holds none, or more than one.
        StageError: the structures are missing or incomplete, or the directory cannot be written or holds another run.
    """
    started = time.monotonic()
    config = run.experiment.relax
    structures = require_stage(run.directory("decode"), "decode", partial=run.shards is not None)
    if config.hull:
        if not Path(config.hull).is_dir():
            raise StageError(f"relax.hull {config.hull}: no such directory (matgen hull builds one)")
        config = replace(config, hull=str(finished_hull(Path(config.hull))))  # a name that no later hull can take over
    inputs = {"structures": structures.identity, "checkpoint": structures.inputs.get("checkpoint", "")}
    lineage = run.open_stage("relax", config, inputs)
    if lineage.complete:
        return lineage.summary
    shards = shards_of_parts(run.directory("decode"), "num_atoms")
    settings = run.gpu_campaign("relax", shard_deadline_s=config.shard_deadline_s, row_deadline_s=config.row_deadline_s)
    directory = run.directory("relax")
    summary = run_campaign(RelaxWork(config), shards, directory, settings, lineage.table_metadata).as_dict()
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    logger.info("relax: %s in %.1f s", summary["status"], summary["seconds"])
    return summary
