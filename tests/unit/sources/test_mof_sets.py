"""BW-DB, QMOF and CoRE MOF as they are published: structure files with a table of properties beside them."""

import logging
import zipfile
from pathlib import Path

import pytest

from matgen.errors import SourceError
from matgen.sources.source import open_source
from tests.unit.mof.conftest import STRUCTURES

CIF = (STRUCTURES / "mof5.cif").read_text()


def write_bw_db(folder: Path) -> Path:
    """Two structures and a broken one; the table knows one of them and one that is not there."""
    (folder / "cifs").mkdir(parents=True)
    (folder / "cifs" / "str_m1_o1_o1_pcu_sym.1.cif").write_text(CIF)
    (folder / "cifs" / "str_m1_o1_o1_pcu_sym.2.cif").write_text(CIF)
    (folder / "cifs" / "str_m2_o1_o1_pcu_sym.3.cif").write_text("data_nothing\n")
    table = "MOFname,working_capacity_vacuum_swing [mmol/g],void_fraction\n"
    table += "str_m1_o1_o1_pcu_sym.1,2.5,0.78\nstr_m2_o1_o1_pcu_sym.3,1.0,\nstr_absent,0.1,0.2\n"
    (folder / "all_MOFs_screening_data.csv").write_text(table)
    return folder


@pytest.mark.parametrize("name", ["bw_db", "BW-DB"])
def test_bw_db_by_name(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_bw_db(tmp_path / "bw_db")
    with caplog.at_level(logging.WARNING):
        source = open_source(name, tmp_path)
    assert "2 are in both" in caplog.text
    rows = {row.id: row for row in source}
    assert list(rows) == [f"str_m{m}_o1_o1_pcu_sym.{i}" for m, i in ((1, 1), (1, 2), (2, 3))]
    first, second, third = rows.values()
    assert first.status == "ok" and first.properties["void_fraction"] == 0.78
    assert first.properties["working_capacity_vacuum_swing [mmol/g]"] == 2.5
    assert second.status == "ok" and not second.properties
    assert third.status != "ok" and third.properties["void_fraction"] is None


def test_the_same_by_path_and_by_shards(tmp_path: Path) -> None:
    source = open_source(write_bw_db(tmp_path / "elsewhere"))
    (last,) = source.shards(2)[1:]
    (row,) = source.read_shard(last)
    assert row.id.endswith("sym.3") and row.properties["MOFname"] == row.id


def test_qmof_as_an_archive_and_core_mof_with_suffixes_in_its_table(tmp_path: Path) -> None:
    (tmp_path / "qmof").mkdir()
    with zipfile.ZipFile(tmp_path / "qmof" / "relaxed_structures.zip", "w") as archive:
        archive.writestr("relaxed_structures/qmof-0000295.cif", CIF)
    (tmp_path / "qmof" / "qmof.csv").write_text("qmof_id,name,outputs.pbe.bandgap\nqmof-0000295,MOF-5,3.4\n")
    (row,) = open_source("qmof", tmp_path)
    assert (row.id, row.status, row.properties["outputs.pbe.bandgap"]) == ("qmof-0000295", "ok", 3.4)
    (tmp_path / "core_mof").mkdir()
    (tmp_path / "core_mof" / "SAHYIK_clean.cif").write_text(CIF)
    (tmp_path / "core_mof" / "asr.csv").write_text("filename,LCD\nSAHYIK_clean.cif,15.1\n")
    (row,) = open_source("CoRE-MOF", tmp_path)
    assert (row.id, row.properties["LCD"]) == ("SAHYIK_clean", 15.1)


def test_what_is_not_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MATGEN_DATA", raising=False)
    with pytest.raises(SourceError, match=r"--data or MATGEN_DATA.*Materials Cloud"):
        open_source("bw_db")
    with pytest.raises(SourceError, match=r"neither qmof.parquet nor a folder qmof"):
        open_source("qmof", tmp_path)
    (tmp_path / "qmof").mkdir()
    with pytest.raises(SourceError, match="no structure files and 0 archives"):
        open_source("qmof", tmp_path)
    folder = write_bw_db(tmp_path / "bw_db")
    (folder / "second.csv").write_text("MOFname,x\na,1\n")
    with pytest.raises(SourceError, match="several tables"):
        open_source("bw_db", tmp_path)
    (folder / "second.csv").unlink()
    (folder / "all_MOFs_screening_data.csv").write_text("MOFname,x\nother,1\n")
    with pytest.raises(SourceError, match="none of its 1 names"):
        open_source("bw_db", tmp_path)
