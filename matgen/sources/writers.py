"""Writing structures for other programs: CIF and POSCAR folders, or one extxyz file. Whole or not at all."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from matgen.crystal.cif import CifSymmetry, write_cif
from matgen.errors import ExportError
from matgen.sources.extxyz import write_extxyz_frame
from matgen.sources.poscar import write_poscar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matgen.crystal.structure import Structure

logger = logging.getLogger(__name__)

FORMATS = ("cif", "extxyz", "poscar")
EXTXYZ_NAME = "structures.extxyz"


@dataclass(frozen=True)
class ExportRow:
    """One structure to write.

    Args:
        sample_id: names the file; anything unfit for a file name becomes an underscore.
        structure: all atoms of the cell.
        symmetry: for CIF, the group and Wyckoff sites; None writes P1. The other formats have no room for it.
        properties: scalars for CIF items and extxyz keys.
    """

    sample_id: str
    structure: Structure
    symmetry: CifSymmetry | None = None
    properties: Mapping[str, object] = field(default_factory=dict)


def export_structures(rows: Iterable[ExportRow], out_dir: str | Path, file_format: str, overwrite: bool = False) -> int:
    """Writes all rows into a new folder, one at a time; the folder appears when the last is written.

    Args:
        rows: what to write; read once.
        out_dir: the folder to make.
        file_format: "cif" and "poscar" write one file per row, "extxyz" writes one structures.extxyz.
        overwrite: replace a folder that is there and not empty.

    Returns:
        The number of structures written.

    Raises:
        ExportError: unknown format, folder in use, or it cannot be written (permissions, full disk).
    """
    target = Path(out_dir)
    if file_format not in FORMATS:
        raise ExportError(f"unknown format {file_format!r}; known are {', '.join(FORMATS)}")
    try:
        if target.exists() and not target.is_dir():
            raise ExportError(f"{target}: is a file, not a folder")
        if target.is_dir() and any(target.iterdir()) and not overwrite:
            raise ExportError(f"{target}: is not empty; name a new folder or ask to overwrite")
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise ExportError(f"{target}: cannot be made: {error.strerror or error}") from error
    try:
        count = _write_extxyz(rows, aside) if file_format == "extxyz" else _write_files(rows, aside, file_format)
        aside.chmod(0o755)  # mkdtemp's folder is for its owner alone
        _replace(aside, target)
    except OSError as error:
        raise ExportError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    logger.info("wrote %d structures to %s as %s", count, target, file_format)
    return count


def _write_extxyz(rows: Iterable[ExportRow], folder: Path) -> int:
    count = 0
    with (folder / EXTXYZ_NAME).open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(write_extxyz_frame(row.structure, {"sample_id": row.sample_id, **row.properties}))
            count += 1
    return count


def _write_files(rows: Iterable[ExportRow], folder: Path, file_format: str) -> int:
    count = 0
    for count, row in enumerate(rows, start=1):
        name = re.sub(r"[^A-Za-z0-9_.+-]", "_", row.sample_id).lstrip(".") or "structure"
        if file_format == "cif":
            text, suffix = write_cif(row.structure, row.symmetry, name=name, properties=row.properties), ".cif"
        else:
            text, suffix = write_poscar(row.structure, f"{row.structure.formula} {row.sample_id}"), ".vasp"
        path = folder / f"{name}{suffix}"
        if path.exists():  # two ids that differ only in characters unfit for a file name
            path = folder / f"{name}_{count}{suffix}"
        path.write_text(text, encoding="utf-8")
    return count


def _replace(aside: Path, target: Path) -> None:
    """A folder can only be renamed onto an empty one, so one that is to be overwritten moves away first."""
    if target.is_dir() and any(target.iterdir()):
        old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
        target.replace(old)
        aside.replace(target)
        shutil.rmtree(old, ignore_errors=True)
        return
    aside.replace(target)
