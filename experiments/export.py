"""`matgen export`: structure files from our tables."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matgen.errors import StageError

if TYPE_CHECKING:
    from matgen.crystal.cif import CifSymmetry
    from matgen.crystal.structure import Structure
    from matgen.sources.writers import ExportRow


def export_command(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write CIF, extxyz or POSCAR files of the good rows."""
    from experiments.cli import say

    summary = export_directory(arguments.dir, arguments.format, arguments.out, arguments.p1, overwrite=False)
    say(arguments, f"{summary['n']} structures in {summary['out']}")
    return summary


def export_directory(directory: Path, file_format: str, out: Path | None, p1: bool, overwrite: bool) -> dict[str, Any]:
    """Write the good structures of a run, or of one of its stages; relaxed ones where they are.

    Args:
        directory: a run's directory, or its structures/ or relaxed/.
        file_format: cif, extxyz or poscar.
        out: folder to make; None makes one named after the format in `directory`.
        p1: CIFs without symmetry.
        overwrite: replace the folder.

    Raises:
        StageError: no structures there.
        ExportError: the folder is in use or cannot be written.
    """
    from matgen.sources.writers import export_structures

    source = _stage_directory(directory)
    target = out or directory / file_format
    count = export_structures(_rows(source, with_symmetry=not p1), target, file_format, overwrite)
    return {"n": count, "out": str(target), "from": str(source)}


def _stage_directory(directory: Path) -> Path:
    from cluster.lineage import require_stage
    from cluster.parts import part_paths

    for candidate in (directory / "relaxed", directory / "structures", directory):
        if candidate.is_dir() and part_paths(candidate):
            stage = {"relaxed": "relax", "structures": "decode"}.get(candidate.name, "decode")
            require_stage(candidate, stage)
            return candidate
    raise StageError(f"{directory}: no structures/ or relaxed/ with parts in it")


def _rows(directory: Path, with_symmetry: bool) -> Iterator["ExportRow"]:
    from cluster.decode import stored_structure
    from cluster.parts import iterate_rows
    from cluster.relax import relaxed_structure
    from matgen.sources.writers import ExportRow

    for row in iterate_rows(directory):
        if row["status"] == "ok":
            relaxed = relaxed_structure(row)
            structure = relaxed or stored_structure(row)
            if structure is not None:
                properties = {
                    name: row[name] for name in ("seed", "energy_per_atom", "e_above_hull") if row.get(name) is not None
                }
                # A relaxed crystal's representatives have moved: its first atom of each orbit takes their place.
                symmetry = _symmetry(row, structure) if with_symmetry else None
                yield ExportRow(f"{row['sample_id']:08d}", structure, symmetry, properties)


def _symmetry(row: Mapping[str, Any], structure: "Structure") -> "CifSymmetry":
    from matgen.crystal.cif import CifSymmetry

    return CifSymmetry.from_orbits(
        structure,
        int(row["space_group_number"]),
        row["orbit_index"],
        row["wyckoff_letters"],
        row["multiplicities"],
    )
