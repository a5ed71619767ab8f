"""Given crystals beside what came back of them: one row per crystal, matched or not, and why."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.decode import stored_structure
from cluster.parts import Shard, read_part
from matgen.crystal.space_group import SymmetryConfig, find_space_group_number, primitive_cell
from matgen.crystal.structure import Structure
from matgen.errors import StructureError
from matgen.sources.rows import SourceRow
from matgen.sources.source import Source

__all__ = ["RESULT_SCHEMA", "TEXT_FIELDS", "CompareWork", "match_rms"]

TEXT_FIELDS = [("material_id", pa.string()), ("status", pa.string()), ("reason", pa.string())]
RESULT_SCHEMA = pa.schema(
    [
        *TEXT_FIELDS,
        ("formula", pa.string()),
        ("num_atoms", pa.int32()),
        ("num_atoms_decoded", pa.int32()),
        ("num_orbits", pa.int16()),
        ("space_group_number", pa.int16()),
        ("space_group_decoded", pa.int16()),
        ("matched", pa.bool_()),
        ("rms", pa.float64()),  # in units of (volume per atom)^(1/3), as StructureMatcher gives it
    ]
)


class CompareWork:
    """Compares originals with what came back."""

    schema = RESULT_SCHEMA

    def __init__(self, source: Source, directory: Path, symprec: float) -> None:
        self.source = source
        self.directory = directory
        self.symprec = symprec

    def setup(self) -> None:
        """Nothing to load."""

    def load(self, shard: Shard) -> Sequence[Any]:
        """Pair the originals with their decoded rows."""
        originals = list(self.source.read_shard(shard.payload))[: shard.num_rows]
        encoded = read_part(self.directory / "encoded" / shard.file_name, ["atomic_numbers"])
        decoded = read_part(self.directory / "decoded" / shard.file_name)
        return list(zip(originals, encoded, decoded, strict=True))

    def process(self, rows: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Compare them one by one."""
        return [self._compare(*row) for row in rows]

    def failed(self, row: Any, status: str, reason: str) -> Mapping[str, Any]:
        """A pair that could not be compared."""
        return {"material_id": row[0].id, "status": status, "reason": reason, "matched": False}

    def _compare(self, original: SourceRow, encoded: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {name: row[name] for name in ("material_id", "status", "reason")}
        result |= {"space_group_number": row["space_group_number"], "matched": False}
        if original.structure is not None:
            result |= {"formula": original.structure.formula, "num_atoms": original.structure.num_atoms}
        if row["status"] != "ok":
            return result
        decoded = stored_structure(row)
        assert original.structure is not None and decoded is not None
        result |= {"num_atoms_decoded": decoded.num_atoms, "num_orbits": len(encoded["atomic_numbers"])}
        # StructureMatcher's own search for a primitive cell depends on the cell it is given: spare it the choice.
        decoded = primitive_cell(decoded, row["space_group_number"])
        rms = match_rms(original.structure, decoded)
        if rms is None:
            return {**result, "status": "no_match", "reason": "StructureMatcher (defaults) finds no match"}
        group = self._group(decoded)
        result |= {"rms": rms, "space_group_decoded": group}
        if group != row["space_group_number"]:
            reason = f"space group {row['space_group_number']} became {group} at symprec {self.symprec} Å"
            return {**result, "status": "space_group_changed", "reason": reason}
        return {**result, "matched": True}

    def _group(self, structure: Structure) -> int:
        try:
            return int(find_space_group_number(structure, SymmetryConfig(symprec=self.symprec)))
        except StructureError:
            return 0


@functools.cache
def _matcher() -> Any:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher()


def match_rms(first: Structure, second: Structure) -> float | None:
    """Return pymatgen's root mean square distance of two crystals, None where its default matcher finds no match."""
    found = _matcher().get_rms_dist(first.to_pymatgen(), second.to_pymatgen())
    return None if found is None else float(found[0])
