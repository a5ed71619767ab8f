"""Export: what is written reads back; what cannot be written leaves nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import gemmi
import numpy as np
import pytest

from matgen.crystal.cif import CifSymmetry
from matgen.crystal.structure import Structure
from matgen.errors import ExportError
from matgen.sources.source import open_source
from matgen.sources.writers import FORMATS, ExportRow, export_structures
from tests.unit.sources.conftest import rock_salt


def conventional() -> ExportRow:
    operations = list(gemmi.SpaceGroup("F m -3 m").operations())
    centring = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    coords = np.concatenate([centring, (centring + 0.5) % 1.0])
    structure = Structure(5.64 * np.eye(3), coords, np.array([11] * 4 + [17] * 4))
    symmetry = CifSymmetry(
        225,
        np.array([op.rot for op in operations]) // gemmi.Op.DEN,
        np.array([op.tran for op in operations]) / gemmi.Op.DEN,
        np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
        np.array([11, 17]),
        ["a", "b"],
        [4, 4],
    )
    return ExportRow("000012", structure, symmetry, {"seed": 1})


@pytest.mark.parametrize("file_format", FORMATS)
def test_exports_read_back(tmp_path: Path, file_format: str) -> None:
    rows = [conventional(), ExportRow("run/7", rock_salt(6.0)), ExportRow("run_7", rock_salt(6.1))]
    out = tmp_path / "new" / "out"
    assert export_structures(iter(rows), out, file_format) == 3
    assert {path.name for path in out.parent.iterdir()} == {"out"}
    read = list(open_source(out))
    assert [row.status for row in read] == ["ok"] * 3
    assert sorted(row.structure.num_atoms for row in read if row.structure) == [2, 2, 8]
    if file_format == "extxyz":
        assert [path.name for path in out.iterdir()] == ["structures.extxyz"]
        assert [str(row.properties["sample_id"]) for row in read] == ["12", "run/7", "run_7"]
    else:
        assert [row.id for row in read] == ["000012", "run_7", "run_7_3"]
    if file_format == "cif":
        block = gemmi.cif.read(str(out / "000012.cif"))[0]
        assert block.find_value("_space_group_IT_number") == "225"
        assert list(block.find_values("_atom_site_Wyckoff_symbol")) == ["a", "b"]


def test_folders_in_use_are_not_overwritten_unless_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_structures([ExportRow("a", rock_salt())], out, "cif")
    with pytest.raises(ExportError, match="not empty"):
        export_structures([ExportRow("b", rock_salt())], out, "cif")
    assert [path.name for path in out.iterdir()] == ["a.cif"]
    export_structures([ExportRow("b", rock_salt())], out, "cif", overwrite=True)
    assert [path.name for path in out.iterdir()] == ["b.cif"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_unknown_format_and_a_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cif, extxyz, poscar"):
        export_structures([], tmp_path / "x", "pdb")
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="is a file"):
        export_structures([], tmp_path / "file", "cif")
    with pytest.raises(ExportError, match="cannot be made"):
        export_structures([], tmp_path / "file" / "below", "cif")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ExportError, match="Permission denied"):
        export_structures([ExportRow("a", rock_salt())], tmp_path / "locked" / "out", "cif")


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_failure_midway_leaves_nothing(tmp_path: Path, file_format: str) -> None:
    def rows() -> Iterator[ExportRow]:
        yield ExportRow("a", rock_salt())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ExportError, match="No space left on device"):
        export_structures(rows(), tmp_path / "out", file_format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_to_full_disk(self: Path, text: str, encoding: str | None = None) -> None:
        with Path("/dev/full").open("w", encoding=encoding) as stream:
            stream.write(text)

    monkeypatch.setattr(Path, "write_text", write_to_full_disk)
    with pytest.raises(ExportError, match="No space left on device"):
        export_structures([ExportRow("a", rock_salt())], tmp_path / "out", "cif")
    assert list(tmp_path.iterdir()) == []
