"""`matgen decompose`: one row per structure whatever it is, and a library that holds every shape."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.frameworks import array_columns, stored_framework
from cluster.parts import read_part
from experiments.cli import main
from matgen.mof.block_library import BlockLibrary
from matgen.mof.decompose import decompose
from tests.unit.mof.conftest import STRUCTURES, load

NAMES = ("mof5", "uio66", "hkust1", "mof74", "mil53", "pillared")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parquet as data sets have it: wide text columns, and rows that are no framework."""
    path = tmp_path_factory.mktemp("input") / "mofs.parquet"
    cifs = [(STRUCTURES / f"{name}.cif").read_text() for name in NAMES]
    quartz = "data_x\n_cell_length_a 9\n_cell_length_b 9\n_cell_length_c 9\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
    quartz += "_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1'\nloop_\n_atom_site_type_symbol\n"
    quartz += "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nSi 0 0 0\nO 0.5 0.5 0.5\n"
    columns = {
        "name": pa.array([*NAMES, "quartz", "empty", "again"], pa.large_string()),
        "cif": pa.array([*cifs, quartz, "", cifs[0]], pa.large_string()),
    }
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def out(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "blocks"
    assert main(["decompose", str(table), "--out", str(out), "--workers", "0", "--quiet"]) == 0
    return out


def test_every_row_has_a_status(out: Path) -> None:
    rows = {row["material_id"]: row for row in pq.read_table(out / "decompose.parquet").to_pylist()}
    assert list(rows) == [*NAMES, "quartz", "empty", "again"]
    assert {name: row["status"] for name, row in rows.items() if row["status"] != "ok"} == {
        "quartz": "no_metal",
        "empty": "unreadable",
    }
    assert rows["quartz"]["reason"] and rows["empty"]["reason"]
    assert (rows["mof5"]["num_blocks"], rows["mof5"]["num_connections"]) == (8, 48)
    assert rows["mil53"]["num_node_bridges"] == 2


def test_the_summary_counts_rows_and_is_the_same_when_run_again(
    table: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (out / "blocks.safetensors").stat().st_mtime_ns
    assert main(["decompose", str(table), "--out", str(out), "--workers", "0", "--quiet", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["n"] == 9 and summary["status"] == {"ok": 7, "no_metal": 1, "unreadable": 1}
    assert (out / "blocks.safetensors").stat().st_mtime_ns == before


def test_the_library_holds_each_shape_once_per_framework(out: Path) -> None:
    library = BlockLibrary.load(out / "blocks.safetensors")
    blocks = pq.read_table(out / "blocks.parquet").to_pylist()
    assert library.num_identities == len(blocks) == 12
    for index in range(library.num_blocks):
        assert library.block(index).identity == library.identity(index)
        assert (library.block(index).ecfp4 == library.ecfp4[library.identity_index[index]]).all()
    assert library.source_names == (*NAMES, "again")
    bdc = next(row for row in blocks if row["formula"] == "C8H4O4")
    assert bdc["num_frameworks"] == 5
    assert sum(row["num_conformers"] for row in blocks) == library.num_blocks < 50


def test_the_page_shows_statuses_and_blocks_and_needs_nothing_else(out: Path) -> None:
    page = (out / "decompose.html").read_text()
    assert page.count("<figure") == page.count("<svg") == 12
    assert "no_metal" in page and "C8H4O4" in page and "Node bridges" in page
    assert "http" not in page and "<script" not in page


def test_frameworks_come_back_from_their_part(out: Path) -> None:
    row = read_part(out / "work" / "part-000000.parquet")[1]
    framework, original = stored_framework(row), decompose(load("uio66"))
    assert np.array_equal(framework.pairs, original.pairs)
    assert np.array_equal(framework.pair_image, original.pair_image)
    ours, theirs = framework.to_structure()[0], original.to_structure()[0]
    assert np.abs(ours.cart_coords - theirs.cart_coords).max() < 1e-5
    assert array_columns(framework).keys() == array_columns(original).keys()


def test_few_conformers_are_spread_over_frameworks(table: Path, tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path / "few"), "--workers", "0", "--quiet", "--max-conformers", "2"]
    assert main(["decompose", str(table), *arguments]) == 0
    library = BlockLibrary.load(tmp_path / "few" / "blocks.safetensors")
    assert np.diff(library.conformer_offsets).max() == 2
    bdc = library.find(next(b for b in decompose(load("mof5")).blocks if not b.is_metal).identity)
    assert len({library.source(int(i)) for i in bdc}) == 2


def test_nothing_decomposed_is_an_empty_library(tmp_path: Path, table: Path) -> None:
    only = pq.read_table(table).slice(6, 2)
    pq.write_table(only, tmp_path / "bad.parquet")
    assert main(["decompose", str(tmp_path / "bad.parquet"), "--out", str(tmp_path / "o"), "--workers", "0"]) == 0
    assert BlockLibrary.load(tmp_path / "o" / "blocks.safetensors").num_blocks == 0
