"""Stage 0 for MOFs: structures become coarse frameworks and a library of building blocks, packed by split."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster import parts
from cluster.campaign import run_campaign
from cluster.lineage import finish_stage
from cluster.mof_packing import pack_split
from cluster.preprocess import source_shards
from cluster.run import MofRun
from matgen.data.splits import PARTS, assign_splits
from matgen.errors import DecompositionError, StageError, StructureError
from matgen.evaluation.porosity import PorosityConfig, PorosityWorker, require_pyzeo
from matgen.mof.building_block import ROLES, BuildingBlock
from matgen.mof.decompose import decompose
from matgen.mof.framework import Framework
from matgen.mof_config import MofPreprocessConfig
from matgen.representations.coarse_framework import encode
from matgen.sources.rows import SourceRow
from matgen.sources.source import Source, open_source

logger = logging.getLogger(__name__)

EMBEDDED = Path(__file__).resolve().parent.parent / "experiments" / "data"
QUICK_PORES = PorosityConfig(surface_samples=200, void_samples=200, refine_between=(0.0, 0.0), deadline_s=20.0)
"""Some 0.2 s a framework: what thousands of training frameworks are labelled with."""
MEASURED = ("void_fraction", "pore_limiting_diameter", "largest_cavity_diameter", "accessible_surface_area")
_SAME_BLOCK = 0.1  # Å, to which the distances to the origin of two blocks of one framework agree if they are one
_floats, _shorts = pa.list_(pa.float32()), pa.list_(pa.int16())

MOF_SCHEMA = pa.schema(
    [
        ("material_id", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("split", pa.string()),
        ("formula", pa.string()),
        ("num_atoms", pa.int32()),
        ("dimension", pa.int8()),
        ("num_blocks", pa.int32()),
        ("lattice", pa.list_(pa.float64())),
        ("frac_coords", _floats),
        ("block_index", _shorts),  # into the row's own blocks
        ("is_metal", pa.list_(pa.bool_())),
        ("num_connections", _shorts),
        ("edge_index", _shorts),
        ("edge_image", pa.list_(pa.int8())),
        ("edge_multiplicity", pa.list_(pa.int8())),
        ("identities", pa.list_(pa.string())),
        ("roles", pa.list_(pa.int8())),
        ("ecfp4", pa.list_(pa.binary())),
        ("block_atoms", _shorts),
        ("block_bonds", _shorts),
        ("block_connections", _shorts),
        ("atomic_numbers", _shorts),
        ("cart_coords", _floats),
        ("bonds", _shorts),
        ("connection_points", _floats),
        ("connection_atoms", _shorts),
        ("removed_solvent", pa.string()),  # JSON
        ("properties", pa.string()),  # JSON
    ]
)


class MofPreprocessWork:
    """Reads, checks and decomposes the structures of a shard."""

    schema = MOF_SCHEMA

    def __init__(self, source: Source, config: MofPreprocessConfig) -> None:
        self.source = source
        self.config = config
        self.worker: PorosityWorker | None = None

    def setup(self) -> None:
        """Start what measures pores, where that is wanted."""
        if self.config.measured_share > 0:
            self.worker = PorosityWorker(QUICK_PORES)

    def load(self, shard: parts.Shard) -> Sequence[SourceRow]:
        """Read and check the structures of a shard."""
        return list(self.source.read_shard(shard.payload))[: shard.num_rows]

    def process(self, rows: Sequence[SourceRow]) -> list[Mapping[str, Any]]:
        """Decompose them."""
        return [self._decomposed(row) for row in rows]

    def _decomposed(self, row: SourceRow) -> Mapping[str, Any]:
        if row.structure is None:
            return self.failed(row, row.status, row.reason)
        try:
            framework = decompose(row.structure, self.config.decompose)
            if framework.num_blocks > self.config.max_blocks:
                raise DecompositionError(
                    f"{framework.num_blocks} building blocks, more than {self.config.max_blocks}", status="too_large"
                )
        except StructureError as error:
            return self.failed(row, error.status, str(error))
        columns = {**self._common(row), "status": "ok", "reason": "", **framework_columns(framework)}
        if is_measured(row.id, self.config.measured_share):
            known = {**row.properties, **self._pores(framework)}
            columns["properties"] = json.dumps(known, default=str)
        return columns

    def _pores(self, framework: Framework) -> dict[str, float]:
        """Pores of the framework without its guests; nothing where Zeo++ has no answer."""
        assert self.worker is not None, "setup comes first"
        found = self.worker.measure(framework.to_structure()[0])
        return {name: getattr(found, name) for name in MEASURED} if found.status == "ok" else {}

    def failed(self, row: SourceRow, status: str, reason: str) -> Mapping[str, Any]:
        """A row without a framework."""
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


def is_measured(material_id: str, share: float) -> bool:
    """Whether a structure is in the share whose pores are measured; a larger share holds a smaller one."""
    if share <= 0:
        return False
    digest = hashlib.blake2b(material_id.encode(), digest_size=8, key=b"pores").digest()
    return int.from_bytes(digest, "big") < share * 2**64


def framework_columns(framework: Framework) -> dict[str, Any]:
    """Columns of a decomposed framework; blocks that are the same in another orientation are kept once."""
    kept, index = distinct_blocks(framework.blocks)
    unit = encode(framework, index)
    removed = [[species.formula, species.count, species.kind] for species in framework.removed_solvent]
    return {
        "dimension": framework.dimension,
        "num_blocks": framework.num_blocks,
        "lattice": unit.lattice.ravel(),
        "frac_coords": unit.frac_coords.ravel(),
        "block_index": index,
        "is_metal": unit.is_metal,
        "num_connections": unit.num_connections,
        "edge_index": unit.edge_index.ravel(),
        "edge_image": unit.edge_image.ravel(),
        "edge_multiplicity": np.minimum(unit.edge_multiplicity, 127),
        "identities": [block.identity for block in kept],
        "roles": [ROLES.index(block.role) for block in kept],
        "ecfp4": [block.ecfp4.tobytes() for block in kept],
        "block_atoms": [block.num_atoms for block in kept],
        "block_bonds": [len(block.bonds) for block in kept],
        "block_connections": [block.num_connections for block in kept],
        "atomic_numbers": np.concatenate([block.atomic_numbers for block in kept]),
        "cart_coords": np.concatenate([block.cart_coords for block in kept]).ravel(),
        "bonds": np.concatenate([block.bonds for block in kept]).ravel(),
        "connection_points": np.concatenate([block.connection_points for block in kept]).ravel(),
        "connection_atoms": np.concatenate([block.connection_atoms for block in kept]),
        "removed_solvent": json.dumps(removed),
    }


def distinct_blocks(blocks: Sequence[BuildingBlock]) -> tuple[list[BuildingBlock], np.ndarray]:
    """Return the blocks of a framework that differ, and which of them each block is.

    Two blocks are one if their atoms, sorted by element, are as far from the origin, and so are their connection
    points: rotated and mirrored copies are.
    """
    kept: list[BuildingBlock] = []
    known: dict[tuple[Any, ...], list[tuple[int, np.ndarray]]] = {}
    index = np.zeros(len(blocks), dtype=np.int64)
    for i, block in enumerate(blocks):
        far = np.linalg.norm(block.cart_coords, axis=1)
        order = np.lexsort((far, block.atomic_numbers))
        ends = np.sort(np.linalg.norm(block.connection_points, axis=1))
        key = (block.role, block.num_connections, block.atomic_numbers[order].tobytes())
        shape = np.concatenate([far[order], ends])
        same = [number for number, other in known.get(key, []) if np.abs(shape - other).max() < _SAME_BLOCK]
        if same:
            index[i] = same[0]
            continue
        index[i] = len(kept)
        known.setdefault(key, []).append((len(kept), shape))
        kept.append(block)
    return kept, index


def mof_preprocess(run: MofRun) -> dict[str, Any]:
    """Decompose the experiment's source and write `records/`.

    Returns:
        The stage's summary: counts by status, frameworks, blocks and identities by split.

    Raises:
        SourceError: the source cannot be read as a whole.
        StageError: there is no training framework, or the directory cannot be written or holds another run.
        MissingDependencyError: pores are to be measured, and pyzeo is not installed.
    """
    started = time.monotonic()
    config = run.experiment.preprocess
    if config.measured_share > 0:
        require_pyzeo()
    source = open_source(source_path(config.source, run.data), run.data, config.limits)
    lineage = run.open_stage("preprocess", config, {"source": f"{Path(source.name).name}, {len(source)} rows"})
    directory = run.directory("preprocess")
    if lineage.complete:
        return lineage.summary
    shards = source_shards(source, config.shard_size, config.limit)
    if not shards:
        raise StageError(f"{source.name} holds no structure")
    work = MofPreprocessWork(replace(source), config)
    summary = run_campaign(work, shards, directory, run.campaign("preprocess"), lineage.table_metadata).as_dict()
    paths = parts.part_paths(directory)
    summary["splits"] = {split: pack_split(paths, split, directory, config.properties) for split in PARTS}
    if summary["splits"]["train"]["frameworks"] == 0:
        raise StageError(f"{source.name} gave no training framework (status: {summary['status']})")
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    logger.info("preprocess: %s, %s in %.1f s", summary["status"], summary["splits"], summary["seconds"])
    return summary


def source_path(name: str, data: Path | None) -> str:
    """Return the parquet of a data set: shipped, or in the data folder, such as qmof.parquet for qmof.

    Args:
        name: of the data set, or a path.
        data: folder of data sets; None takes the variable MATGEN_DATA.
    """
    if len(Path(name).parts) > 1:
        return name
    folders = [EMBEDDED, data or Path(os.environ["MATGEN_DATA"])] if data or "MATGEN_DATA" in os.environ else [EMBEDDED]
    for folder in folders:
        for file in sorted(folder.glob(f"{name}*.parquet")):
            return str(file)
    return name
