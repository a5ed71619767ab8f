"""CSV and parquet: columns, shards, ids, splits, and every way in which a table can be unusable."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matgen.crystal.structure import Structure
from matgen.errors import SourceError
from matgen.sources.source import Source, SourceConfig, open_source
from tests.unit.sources.conftest import BAD_CIF, CLASHING_CIF, DISORDERED_CIF, NAN_CIF


def write_csv(path: Path, header: list[str], rows: list[list[object]], end: str = "\n") -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator=end)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def same(a: Structure, b: Structure) -> bool:
    shifts = a.frac_coords - b.frac_coords
    return a.atomic_numbers.tolist() == b.atomic_numbers.tolist() and bool(
        np.abs(shifts - np.round(shifts)).max() < 1e-8
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_of_cifs(tmp_path: Path, cifs: list[str], structures: list[Structure], end: str) -> None:
    rows = [["", f"m-{i}", 0.5 * i, text] for i, text in enumerate(cifs)]
    source = open_source(write_csv(tmp_path / "my_val.csv", ["", "material_id", "energy", "cif"], rows, end))
    assert len(source) == 300
    read = list(source)
    assert [row.id for row in read] == [f"m-{i}" for i in range(300)]
    assert {row.status for row in read} == {"ok"}
    assert {row.split for row in read} == {"val"}
    assert read[7].properties["energy"] == 3.5
    assert all(row.structure is not None and same(row.structure, s) for row, s in zip(read, structures))


@pytest.mark.parametrize("rows_per_shard", [17, 64, 100, 300, 10_000])
def test_shards_cover_every_row_once_in_any_order(tmp_path: Path, cifs: list[str], rows_per_shard: int) -> None:
    names = [f"m-{i}" for i in range(300)]
    pq.write_table(pa.table({"material_id": names, "cif": cifs}), tmp_path / "a.parquet", row_group_size=90)
    write_csv(tmp_path / "b.csv", ["material_id", "cif"], [[f"b{name}", text] for name, text in zip(names, cifs)])
    source: Source = pickle.loads(pickle.dumps(open_source(tmp_path)))
    shards = source.shards(rows_per_shard)
    assert sum(map(len, shards)) == len(source) == 600
    assert [shard.index for shard in shards] == list(range(len(shards)))
    by_shard = {}
    for shard in pickle.loads(pickle.dumps(shards[::-1])):
        rows = list(source.read_shard(shard))
        assert len(rows) == len(shard) <= rows_per_shard
        by_shard[shard.first_row] = [row.id for row in rows]
    assert [name for first in sorted(by_shard) for name in by_shard[first]] == names + [f"b{name}" for name in names]


def test_pickled_source_is_small(tmp_path: Path, cifs: list[str]) -> None:
    pq.write_table(pa.table({"cif": cifs * 40}), tmp_path / "a.parquet")
    assert len(pickle.dumps(open_source(tmp_path / "a.parquet"))) < 3000


def test_no_shard_without_rows() -> None:
    with pytest.raises(ValueError, match="0"):
        open_source("aflow").shards(0)


@pytest.mark.parametrize("kind", ["vectors", "parameters", "nested", "symbols"])
def test_parquet_of_arrays(tmp_path: Path, structures: list[Structure], kind: str) -> None:
    from matgen.crystal.elements import SYMBOLS

    numbers: list = [s.atomic_numbers.tolist() for s in structures]
    coords: list = [s.frac_coords.reshape(-1).tolist() for s in structures]
    cells = {"lattice": [s.lattice.reshape(-1).tolist() for s in structures]}
    if kind == "parameters":
        cells = {"cell_abc_angles": [[*s.lengths, *s.angles] for s in structures]}
    if kind == "nested":
        cells = {"cell": [s.lattice.tolist() for s in structures]}
        coords = [s.frac_coords.tolist() for s in structures]
    if kind == "symbols":
        numbers = [[SYMBOLS[z] for z in row] for row in numbers]
    pq.write_table(
        pa.table({"species": numbers, "frac_coords": coords, **cells}), tmp_path / "x.parquet", row_group_size=77
    )
    rows = list(open_source(tmp_path / "x.parquet"))
    assert [row.id for row in rows] == [f"x-{i}" for i in range(300)]
    assert all(row.structure is not None and same(row.structure, s) for row, s in zip(rows, structures))
    assert all(abs(row.structure.volume - s.volume) < 1e-6 for row, s in zip(rows, structures) if row.structure)


def test_stage_table_keeps_the_failures_of_earlier_stages(tmp_path: Path, structures: list[Structure]) -> None:
    s = structures[0]
    table = {
        "sample_id": [7, 8],
        "status": ["ok", "clash"],
        "reason": ["", "two atoms are 0.1 Å apart"],
        "frac_coords": [[0.0, 0, 0], [0.0, 0, 0]],  # representatives, not the structure
        "atomic_numbers": [[3], [3]],
        "lattice": [s.lattice.reshape(-1).tolist(), None],
        "structure_frac_coords": [s.frac_coords.reshape(-1).tolist(), None],
        "structure_atomic_numbers": [s.atomic_numbers.tolist(), None],
    }
    (tmp_path / "structures").mkdir()
    pq.write_table(pa.table(table), tmp_path / "structures" / "part-000000.parquet")
    good, bad = open_source(tmp_path / "structures")
    assert good.id == "7"
    assert good.structure is not None
    assert good.structure.num_atoms == 2
    assert (bad.id, bad.status, bad.reason, bad.structure) == ("8", "clash", "two atoms are 0.1 Å apart", None)


def test_bad_rows_are_rows_with_a_status_and_a_reason(tmp_path: Path, cifs: list[str]) -> None:
    cells = [cifs[0], "", BAD_CIF, DISORDERED_CIF, CLASHING_CIF, NAN_CIF, cifs[1]]
    rows = [[f"m-{i}", cell] for i, cell in enumerate(cells)]
    pq.write_table(pa.table({"material_id": [row[0] for row in rows], "cif": cells}), tmp_path / "bad.parquet")
    write_csv(tmp_path / "bad.csv", ["material_id", "cif"], rows)
    expected = ["ok", "unreadable", "unreadable", "disordered", "clash", "non_finite", "ok"]
    for name in ("bad.parquet", "bad.csv"):
        read = list(open_source(tmp_path / name))
        assert [row.status for row in read] == expected
        assert all((row.structure is None) == (row.status != "ok") == bool(row.reason) for row in read)
        assert "0.2" in read[4].reason  # the distance, Å


def test_arrays_that_do_not_fit_are_rows(tmp_path: Path) -> None:
    table = {
        "species": [["Na", "Cl"], ["Na"], ["Qq"], None, [], ["Na"]],
        "frac_coords": [[0.0] * 5, [0.0] * 3, [0.0] * 3, [0.0] * 3, [], [float("nan"), 0, 0]],
        "lattice": [
            [4.0, 0, 0, 0, 4, 0, 0, 0, 4],
            [4.0] * 5,
            [4.0, 0, 0, 0, 4, 0, 0, 0, 4],
            [4.0] * 9,
            [4.0] * 9,
            [4.0, 0, 0, 0, 4, 0, 0, 0, 4],
        ],
    }
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    rows = list(open_source(tmp_path / "x.parquet"))
    assert [row.status for row in rows] == ["unreadable"] * 5 + ["non_finite"]
    assert "2 species and 5 coordinates" in rows[0].reason
    assert "'Qq'" in rows[2].reason


def test_limits(tmp_path: Path, cifs: list[str]) -> None:
    path = write_csv(tmp_path / "x.csv", ["cif"], [[cifs[0]]])
    assert [row.status for row in open_source(path, config=SourceConfig(max_atoms=1))] == ["too_large"]
    assert [row.status for row in open_source(path, config=SourceConfig(max_atomic_number=5))] == [
        "unsupported_element"
    ]
    assert [row.status for row in open_source(path, config=SourceConfig(min_distance=3.0))] == ["clash"]


def test_repeated_ids_become_unique_the_same_way_every_time(tmp_path: Path, cifs: list[str]) -> None:
    ids = ["a", "b", "a", "", "a"]
    write_csv(tmp_path / "x.csv", ["id", "cif"], [[name, cifs[0]] for name in ids])
    write_csv(tmp_path / "y.csv", ["id", "cif"], [["b", cifs[0]]])
    source = open_source(tmp_path)
    assert [row.id for row in source] == ["a", "b", "a#2", "x-3", "a#4", "b#5"]
    shard = source.shards(2)[1]
    assert [row.id for row in source.read_shard(shard)] == ["a#2", "x-3"]


def test_inferred_ids_can_be_excluded(tmp_path: Path, cifs: list[str]) -> None:
    status = ["official", "val/test-hash+inferred-id"]
    pq.write_table(
        pa.table({"split_status": status, "split": ["val", "train"], "cif": cifs[:2]}), tmp_path / "x.parquet"
    )
    assert [row.status for row in open_source(tmp_path / "x.parquet")] == ["ok", "ok"]
    rows = list(open_source(tmp_path / "x.parquet", config=SourceConfig(drop_inferred_ids=True)))
    assert [row.status for row in rows] == ["ok", "excluded"]
    assert [row.split for row in rows] == ["val", "train"]


def test_unusable_tables_say_what_they_hold(tmp_path: Path, cifs: list[str]) -> None:
    write_csv(tmp_path / "columns.csv", ["id", "smiles"], [["a", "CC"]])
    write_csv(tmp_path / "header.csv", ["id", "cif"], [])
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "stray.csv").write_text('id,cif\na,5" pipe\nb,2\n')
    pq.write_table(pa.table({"lattice_k": [[0.0] * 6], "frac_coords": [[0.0] * 3]}), tmp_path / "columns.parquet")
    pq.write_table(pa.table({"cif": pa.array([], pa.string())}), tmp_path / "empty.parquet")
    (tmp_path / "text.parquet").write_text("not parquet at all")
    pq.write_table(pa.table({"cif": cifs}), tmp_path / "cut.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "cut.parquet").read_bytes()[:2000])
    said = {
        "columns.csv": "smiles",
        "header.csv": "no rows",
        "empty.csv": "empty",
        "stray.csv": "quotation mark",
        "columns.parquet": "expected a cif column.*lattice_k",
        "empty.parquet": "no rows",
        "text.parquet": "not a readable parquet file",
        "cut.parquet": "not a readable parquet file",
        "absent.csv": "no such file",
    }
    for name, words in said.items():
        with pytest.raises(SourceError, match=words) as caught:
            open_source(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_parquet_that_is_corrupt_inside(tmp_path: Path, cifs: list[str]) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"cif": cifs}), path, compression="zstd", use_dictionary=False, row_group_size=100)
    source = open_source(path)
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 3
    raw[middle : middle + 400] = bytes(400)
    path.write_bytes(raw)
    with pytest.raises(SourceError, match="corrupt parquet"):
        list(source)


def test_csv_that_changes_while_it_is_read(tmp_path: Path, cifs: list[str]) -> None:
    path = write_csv(tmp_path / "x.csv", ["cif"], [[text] for text in cifs[:5]])
    source = open_source(path)
    write_csv(path, ["cif"], [[text] for text in cifs[:4]])
    with pytest.raises(SourceError, match="changed"):
        list(source)


# A bare carriage return in an unquoted cell ends a row for the csv module, which writes it so itself: left out.
cell_text = st.lists(st.sampled_from(["a", ",", '"', "\n", " ", "\r\n"]), max_size=6).map("".join)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(st.tuples(cell_text, st.text("x\n,", max_size=4)), min_size=1, max_size=150),
    start=st.integers(0, 149),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_index_agrees_with_the_csv_module(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], start: int, end: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    rows = [[f"i{i}", *pair, "no structure"] for i, pair in enumerate(cells)]
    write_csv(path, ["id", "p", "q", "cif"], rows, end)
    source = open_source(path)
    assert len(source) == len(rows)
    segment = source.segments[0]
    assert [raw.id for raw in segment.read(min(start, len(rows)), len(rows))] == [row[0] for row in rows[start:]]
    assert [raw.properties["q"] or "" for raw in segment.read(0, len(rows))] == [row[2] for row in rows]


@pytest.mark.data
def test_cif_and_arrays_of_the_same_rows_agree(data_dir: Path) -> None:
    table = pq.read_table(data_dir / "mp_20_val.parquet").slice(0, 500)
    for row, numbers, coords in zip(
        open_source(data_dir / "mp_20_val.parquet").read_shard(
            open_source(data_dir / "mp_20_val.parquet").shards(500)[0]
        ),
        table.column("species").to_pylist(),
        table.column("frac_coords").to_pylist(),
    ):
        assert row.structure is not None
        assert row.structure.num_atoms == len(numbers)
        shifts = row.structure.frac_coords - np.array(coords).reshape(-1, 3)
        assert np.abs(shifts - np.round(shifts)).max() < 1e-6


@pytest.mark.data
def test_faulty_experimental_structures_are_rows_with_a_status(data_dir: Path) -> None:
    source = open_source(data_dir / "core_mof_2019_asr.parquet", config=SourceConfig(max_atoms=500))
    rows = list(source.read_shard(source.shards(200)[0]))
    assert len(rows) == 200
    assert all((row.structure is not None) == (row.status == "ok") == (row.reason == "") for row in rows)
    statuses = {row.status for row in rows}
    assert "ok" in statuses
    assert "too_large" in statuses
    assert "clash" in statuses
