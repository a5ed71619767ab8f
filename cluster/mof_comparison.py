"""Compare real frameworks with what self-assembly made of their blocks."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.frameworks import stored_framework
from cluster.parts import Shard, read_part
from matgen.crystal.structure import Structure

TEXT_FIELDS = [("material_id", pa.string()), ("status", pa.string()), ("reason", pa.string())]
ASSEMBLED_FIELDS = [
    ("num_atoms_assembled", pa.int32()),
    ("num_pairs", pa.int32()),
    ("max_residual", pa.float64()),  # Å, of the two connection points of a pair
    ("mean_residual", pa.float64()),
    ("shortest_contact", pa.float64()),  # Å
    ("score", pa.float64()),
    ("cpu_seconds", pa.float64()),  # of the shard, shared equally
]
RESULT_SCHEMA = pa.schema(
    [
        *TEXT_FIELDS,
        ("formula", pa.string()),
        ("num_atoms", pa.int32()),
        ("num_atoms_kept", pa.int32()),
        ("num_blocks", pa.int32()),
        ("num_connections", pa.int32()),
        ("dimension", pa.int8()),
        ("decomposed", pa.bool_()),
        ("closed", pa.bool_()),
        ("matched", pa.bool_()),
        ("rms", pa.float64()),  # in units of (volume per atom)^(1/3), as StructureMatcher gives it
        ("replaced_by", pa.list_(pa.string())),
        *ASSEMBLED_FIELDS,
    ]
)


class CompareWork:
    """Compares the frameworks that were cut with what came back."""

    schema = RESULT_SCHEMA
    divisible = True

    def __init__(self, directory: Path, must_match: bool) -> None:
        self.directory = directory
        self.must_match = must_match

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[Any]:
        """Pair the frameworks with their assemblies."""
        name = Path(shard.payload).name
        parts = [read_part(self.directory / stage / name) for stage in ("frameworks", "inputs", "assembled")]
        return list(zip(*parts, strict=True))

    def process(self, rows: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Compare them one by one."""
        return [self._compared(*row) for row in rows]

    def failed(self, row: Any, status: str, reason: str) -> Mapping[str, Any]:
        """A pair that could not be compared."""
        return {**self._base(*row), "status": status, "reason": reason}

    def _base(self, cut: Mapping[str, Any], given: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
        names = ("material_id", "formula", "num_atoms", "num_atoms_kept", "num_blocks", "num_connections", "dimension")
        result = {name: cut.get(name) for name in names} | {"replaced_by": given.get("replaced_by")}
        result |= {name: made.get(name) for name in ("status", "reason", *dict(ASSEMBLED_FIELDS))}
        closed = made["status"] in ("ok", "clash") and made.get("num_pairs") is not None
        return {**result, "decomposed": cut["status"] == "ok", "closed": closed, "matched": False}

    def _compared(self, cut: Mapping[str, Any], given: Mapping[str, Any], made: Mapping[str, Any]) -> Mapping[str, Any]:
        result = self._base(cut, given, made)
        if not result["closed"]:
            return result
        original, _ = stored_framework(cut).to_structure()
        assembled = Structure(
            np.array(made["lattice"]).reshape(3, 3),
            np.array(made["structure_frac_coords"]).reshape(-1, 3),
            np.array(made["structure_atomic_numbers"]),
        )
        rms = framework_rms(original, assembled)
        if rms is not None:
            return {**result, "matched": True, "rms": rms}
        if self.must_match and made["status"] == "ok":
            reason = "closed, but StructureMatcher (stol 0.5, ltol 0.3, angle 10) finds no match"
            return {**result, "status": "no_match", "reason": reason}
        return result


@functools.cache
def _matcher() -> Any:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(stol=0.5, ltol=0.3, angle_tol=10.0, primitive_cell=False)


def framework_rms(first: Structure, second: Structure) -> float | None:
    """Root mean square distance of two primitive frameworks, None without a match.

    Source: the settings with which the literature compares assembled frameworks, stol 0.5, ltol 0.3, angle_tol 10.
    """
    if first.num_atoms != second.num_atoms:
        return None
    found = _matcher().get_rms_dist(first.to_pymatgen(), second.to_pymatgen())
    return None if found is None else float(found[0])
