"""Frameworks as assembly is told of them, blocks, centres and cell alone, and what it makes of that."""

import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.decode import structure_columns
from cluster.frameworks import ARRAY_FIELDS, stored_blocks, stored_framework
from cluster.mof_comparison import ASSEMBLED_FIELDS, TEXT_FIELDS
from cluster.parts import Shard, read_part
from matgen.mof.assemble import AssembleConfig, Assembly, AssemblyInput, assemble, reorient
from matgen.mof.assembly.perturb import PerturbConfig, Replacer, perturb
from matgen.mof.block_library import BlockLibrary
from matgen.mof.building_block import ROLES

__all__ = ["ASSEMBLED_SCHEMA", "INPUT_SCHEMA", "AssembleWork", "PrepareWork", "row_seed"]

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


class PrepareWork:
    """Turns every block at random, and saves blocks, centres and cell without a word on how they were joined."""

    schema = INPUT_SCHEMA
    divisible = True

    def __init__(self, library: Path | None, perturb: PerturbConfig | None, seed: int) -> None:
        self.path = library
        self.perturb = perturb
        self.seed = seed

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
        rng = np.random.default_rng([row_seed(self.seed, name), 1])
        given = AssemblyInput(framework.lattice, framework.frac_coords, framework.blocks)
        how: list[str] = []
        if self.replacer is not None and self.perturb is not None:
            given, how = perturb(given, name, self.replacer, rng, self.perturb)
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
        """Assemble them one by one."""
        return [self._assembled(row) if row["status"] == "ok" else self.failed(row, *_word(row)) for row in rows]

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A framework that could not be assembled."""
        return {"material_id": row["material_id"], "status": status, "reason": reason}

    def _assembled(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        name = str(row["material_id"])
        started = time.process_time()
        (made,) = assemble([_stored_input(row)], self.config, [row_seed(self.seed, name)])
        seconds = time.process_time() - started
        return {"material_id": row["material_id"], **_assembled_columns(made), "cpu_seconds": seconds}


def row_seed(seed: int, name: str) -> int:
    """Seed of a framework: a function of the run's seed and of its name."""
    return zlib.crc32(f"{seed} {name}".encode())


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
