"""Stage 4 for MOFs: assembled frameworks are relaxed with UFF4MOF, bonds given; positions and cell together."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.campaign import run_campaign
from cluster.decode import stored_structure
from cluster.lineage import finish_stage, require_stage
from cluster.mof_decode import MOF_STRUCTURE_SCHEMA
from cluster.parts import Shard, read_part, shards_of_parts
from cluster.run import MofRun
from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds
from matgen.mof_config import MofRelaxConfig
from matgen.relaxation.lammps import Lammps
from matgen.relaxation.uff_relax import UffRelaxed, relax_frameworks

logger = logging.getLogger(__name__)

NOT_RUN = "not_run"

RELAXATION_FIELDS = [
    ("energy", pa.float64()),
    ("initial_energy", pa.float64()),
    ("num_relax_steps", pa.int32()),
    ("num_soft_steps", pa.int32()),
    ("max_force", pa.float64()),
    ("max_stress", pa.float64()),
    ("rmsd_to_relaxed", pa.float64()),
    ("volume_ratio", pa.float64()),
    ("longest_bond", pa.float64()),
]

MOF_RELAXED_SCHEMA = pa.schema(
    [
        *MOF_STRUCTURE_SCHEMA,
        ("relax_status", pa.string()),
        ("relaxed_lattice", pa.list_(pa.float64())),
        ("relaxed_frac_coords", pa.list_(pa.float64())),
        *RELAXATION_FIELDS,
        ("relaxed_shortest_contact", pa.float64()),
        ("types_guessed", pa.list_(pa.string())),
    ]
)


class MofRelaxWork:
    """Relaxes the frameworks of a part that closed, those with clashes too: a clash may resolve."""

    schema = MOF_RELAXED_SCHEMA

    def __init__(self, config: MofRelaxConfig) -> None:
        self.config = config
        self.divisible = config.relax.engine == "lammps"  # one by one; torch's sums depend on what is beside a row

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[Mapping[str, Any]]:
        """Read a part of structures."""
        return read_part(Path(shard.payload), MOF_STRUCTURE_SCHEMA.names)

    def process(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Relax them side by side; failures of earlier stages stay as they are."""
        structures = [stored_structure(row) if self._wanted(row) else None for row in rows]
        todo = [(structure, stored_bonds(row)) for structure, row in zip(structures, rows) if structure is not None]
        relaxed = relax_frameworks([item[0] for item in todo], [item[1] for item in todo], self.config.relax)
        results = iter(relaxed)
        return [
            {**row, "relax_status": NOT_RUN} if structure is None else {**row, **_columns(next(results))}
            for row, structure in zip(rows, structures, strict=True)
        ]

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A framework that could not be relaxed."""
        return {**row, "status": status, "reason": reason, "relax_status": status}

    def _wanted(self, row: Mapping[str, Any]) -> bool:
        within = self.config.limit is None or row["sample_id"] < self.config.limit
        small = (row["num_atoms"] or 0) <= self.config.max_atoms
        return within and small and row["status"] in ("ok", "clash")


def stored_bonds(row: Mapping[str, Any]) -> Bonds:
    """Read the bonds of a row of `structures/` or `relaxed/`."""
    first, second = np.asarray(row["bonds"], dtype=np.int64).reshape(-1, 2).T
    return Bonds(first, second, np.asarray(row["bond_images"], dtype=np.int64).reshape(-1, 3))


def relaxed_framework(row: Mapping[str, Any]) -> Structure | None:
    """Read the relaxed framework of a row; None where there is none."""
    if row.get("relaxed_lattice") is None:
        return None
    return stored_structure(
        {**row, "lattice": row["relaxed_lattice"], "structure_frac_coords": row["relaxed_frac_coords"]}
    )


def relaxation_columns(result: UffRelaxed) -> dict[str, Any]:
    """Table columns RELAXATION_FIELDS of a relaxation."""
    return {
        "energy": result.energy,
        "initial_energy": result.initial_energy,
        "num_relax_steps": result.num_steps,
        "num_soft_steps": result.num_soft_steps,
        "max_force": result.max_force,
        "max_stress": result.max_stress,
        "rmsd_to_relaxed": result.rmsd,
        "volume_ratio": result.volume_ratio,
        "longest_bond": result.longest_bond,
    }


def _columns(result: UffRelaxed) -> dict[str, Any]:
    usable = result.status in ("ok", "not_converged")
    return {
        "status": result.status,
        "reason": result.reason,
        "relax_status": result.status,
        "relaxed_lattice": result.structure.lattice.ravel() if usable else None,
        "relaxed_frac_coords": result.structure.frac_coords.ravel() if usable else None,
        **relaxation_columns(result),
        "relaxed_shortest_contact": result.shortest_contact,
        "types_guessed": list(result.types_guessed),
    }


def mof_relax(run: MofRun) -> dict[str, Any]:
    """Relax `structures/` and write `relaxed/`.

    Returns:
        The stage's summary.

    Raises:
        MissingDependencyError: the engine is LAMMPS, which is not installed.
        StageError: the structures are missing or incomplete, or the directory cannot be written or holds another run.
    """
    started = time.monotonic()
    config = run.experiment.relax
    structures = require_stage(run.directory("decode"), "decode", partial=run.shards is not None)
    if config.relax.engine == "lammps":
        Lammps(config.relax.lammps).close()  # refuses where it is not installed
    inputs = {"structures": structures.identity, "checkpoint": structures.inputs.get("checkpoint", "")}
    lineage = run.open_stage("relax", config, inputs)
    if lineage.complete:
        return lineage.summary
    shards = shards_of_parts(run.directory("decode"), "num_atoms")
    settings = run.campaign("relax", shard_deadline_s=config.shard_deadline_s, row_deadline_s=config.row_deadline_s)
    directory = run.directory("relax")
    summary = run_campaign(MofRelaxWork(config), shards, directory, settings, lineage.table_metadata).as_dict()
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    logger.info("relax: %s in %.1f s", summary["status"], summary["seconds"])
    return summary
