"""Frameworks as rows of a table, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from matgen.mof.building_block import ROLES, BuildingBlock
from matgen.mof.conformers import first_of_its_shape
from matgen.mof.framework import Framework

SUMMARY_FIELDS = [
    ("num_blocks", pa.int32()),
    ("num_metal_nodes", pa.int32()),
    ("num_linkers", pa.int32()),
    ("num_node_bridges", pa.int32()),
    ("num_connections", pa.int32()),
    ("num_atoms_kept", pa.int32()),  # in the reduced primitive cell, without what was removed
    ("dimension", pa.int8()),  # 1 chain, 2 layer, 3 net
    ("removed_free", pa.string()),
    ("removed_bound", pa.string()),
    ("identities", pa.list_(pa.string())),  # by block
    ("smiles", pa.list_(pa.string())),
]

ARRAY_FIELDS = [
    ("lattice", pa.list_(pa.float64())),
    ("block_frac_coords", pa.list_(pa.float64())),
    ("block_role", pa.list_(pa.int8())),
    ("block_num_atoms", pa.list_(pa.int32())),
    ("block_num_bonds", pa.list_(pa.int32())),
    ("block_num_connections", pa.list_(pa.int32())),
    ("block_shape", pa.list_(pa.int32())),  # first block of the framework with the same identity and shape
    ("atomic_numbers", pa.list_(pa.int16())),
    ("cart_coords", pa.list_(pa.float32())),
    ("bonds", pa.list_(pa.int16())),
    ("connection_points", pa.list_(pa.float32())),
    ("connection_atoms", pa.list_(pa.int16())),
    ("pairs", pa.list_(pa.int32())),
    ("pair_image", pa.list_(pa.int16())),
]


def summary_columns(framework: Framework) -> dict[str, Any]:
    """Counts and names of a framework for a table that people read."""
    roles = [block.role for block in framework.blocks]
    removed = {
        kind: " ".join(f"{s.count} {s.formula}" for s in framework.removed_solvent if s.kind == kind)
        for kind in ("free", "bound")
    }
    return {
        "num_blocks": framework.num_blocks,
        "num_metal_nodes": roles.count("metal_node"),
        "num_linkers": roles.count("linker"),
        "num_node_bridges": roles.count("node_bridge"),
        "num_connections": framework.num_connections,
        "num_atoms_kept": framework.num_atoms,
        "dimension": framework.dimension,
        "removed_free": removed["free"],
        "removed_bound": removed["bound"],
        "identities": [block.identity for block in framework.blocks],
        "smiles": [block.smiles for block in framework.blocks],
    }


def array_columns(framework: Framework) -> dict[str, Any]:
    """All that `stored_framework` needs."""
    blocks = framework.blocks

    def flat(name: str, dtype: type) -> np.ndarray:
        return np.concatenate([getattr(block, name).ravel() for block in blocks]).astype(dtype)

    return {
        "lattice": framework.lattice.ravel(),
        "block_frac_coords": framework.frac_coords.ravel(),
        "block_role": np.array([ROLES.index(block.role) for block in blocks], np.int8),
        "block_num_atoms": np.array([block.num_atoms for block in blocks], np.int32),
        "block_num_bonds": np.array([len(block.bonds) for block in blocks], np.int32),
        "block_num_connections": np.array([block.num_connections for block in blocks], np.int32),
        "block_shape": first_of_its_shape(blocks).astype(np.int32),
        "atomic_numbers": flat("atomic_numbers", np.int16),
        "cart_coords": flat("cart_coords", np.float32),
        "bonds": flat("bonds", np.int16),
        "connection_points": flat("connection_points", np.float32),
        "connection_atoms": flat("connection_atoms", np.int16),
        "pairs": framework.pairs.astype(np.int32).ravel(),
        "pair_image": framework.pair_image.astype(np.int16).ravel(),
    }


def stored_blocks(row: Mapping[str, Any]) -> list[BuildingBlock]:
    """The building blocks of a row that `array_columns` made."""
    parts = {
        "atomic_numbers": _split(row["atomic_numbers"], row["block_num_atoms"], (), np.int64),
        "cart_coords": _split(row["cart_coords"], row["block_num_atoms"], (3,), np.float64),
        "bonds": _split(row["bonds"], row["block_num_bonds"], (2,), np.int64),
        "connection_points": _split(row["connection_points"], row["block_num_connections"], (3,), np.float64),
        "connection_atoms": _split(row["connection_atoms"], row["block_num_connections"], (), np.int64),
    }
    return [
        BuildingBlock(**{name: arrays[i] for name, arrays in parts.items()}, role=ROLES[code])
        for i, code in enumerate(row["block_role"])
    ]


def stored_framework(row: Mapping[str, Any]) -> Framework:
    """The framework of a row that `array_columns` made; coordinates within blocks to 1e-6 Å."""
    return Framework(
        lattice=np.array(row["lattice"], dtype=float).reshape(3, 3),
        frac_coords=np.array(row["block_frac_coords"], dtype=float).reshape(-1, 3),
        blocks=tuple(stored_blocks(row)),
        pairs=np.array(row["pairs"], dtype=np.int64).reshape(-1, 2),
        pair_image=np.array(row["pair_image"], dtype=np.int64).reshape(-1, 3),
        dimension=int(row.get("dimension") or 3),
    )


def _split(values: Any, counts: Any, tail: tuple[int, ...], dtype: type) -> list[np.ndarray]:
    array: np.ndarray = np.array(values, dtype=dtype).reshape(-1, *tail)
    return np.split(array, np.cumsum(counts)[:-1])
