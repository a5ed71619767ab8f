"""Folders, archives and single files of CIF, POSCAR and extxyz."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from matgen.crystal.structure import Structure
from matgen.errors import SourceError, StructureError
from matgen.sources.extxyz import parse_extxyz_frame, write_extxyz_frame
from matgen.sources.poscar import parse_poscar, write_poscar
from matgen.sources.source import open_source
from tests.unit.sources.conftest import BAD_CIF, rock_salt


def fill(folder: Path, cifs: list[str]) -> Path:
    """Three good structures, one bad, and junk."""
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "a.cif").write_text(cifs[0])
    (folder / "bad.cif").write_text(BAD_CIF)
    (folder / "deep" / "POSCAR_3").write_text(write_poscar(rock_salt()))
    (folder / "deep" / "er" / "b.cif").write_bytes(b"# caf\xe9 in Latin-1\n" + cifs[1].encode())
    (folder / "README.txt").write_text("junk")
    (folder / ".hidden.cif").write_text("junk")
    (folder / "picture.png").write_bytes(bytes(range(256)))
    return folder


NAMES = ["a", "bad", "deep/POSCAR_3", "deep/er/b"]


def test_folder_with_one_bad_file_among_good(tmp_path: Path, cifs: list[str]) -> None:
    rows = list(open_source(fill(tmp_path / "x", cifs)))
    assert [row.id for row in rows] == NAMES
    assert [row.status for row in rows] == ["ok", "unreadable", "ok", "ok"]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz", "tar.zst"])
def test_archives_with_junk_inside(tmp_path: Path, cifs: list[str], kind: str) -> None:
    folder = fill(tmp_path / "x", cifs)
    path = tmp_path / f"all.{kind}"
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.write(folder / name, name)
            archive.writestr("__MACOSX/._a.cif", b"junk")
    else:
        raw = io.BytesIO()
        mode = {"tar.gz": "w:gz", "tar.xz": "w:xz"}.get(kind, "w")
        with tarfile.open(fileobj=raw, mode=mode) as tar:  # type: ignore[call-overload]
            for name in names:
                tar.add(folder / name, name)
        path.write_bytes(pa.compress(raw.getvalue(), "zstd", asbytes=True) if kind == "tar.zst" else raw.getvalue())
    source = pickle.loads(pickle.dumps(open_source(path)))
    assert [(row.id, row.status) for row in source] == list(zip(NAMES, ["ok", "unreadable", "ok", "ok"]))
    shards = source.shards(1)
    for order in (shards, shards[::-1], shards[1::2] + shards[::2]):
        read = {row.id: row.status for shard in order for row in source.read_shard(shard)}
        assert [read[name] for name in NAMES] == ["ok", "unreadable", "ok", "ok"]


def test_archives_that_are_corrupt_or_empty(tmp_path: Path, cifs: list[str]) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no structures")
    with pytest.raises(SourceError, match="no structure file"):
        open_source(path)
    for name in ("y.zip", "y.tar", "y.tar.gz", "y.tar.zst"):
        (tmp_path / name).write_bytes(b"this is no archive" * 100)
        with pytest.raises(SourceError, match="corrupt archive"):
            open_source(tmp_path / name)
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for i in range(20):
            info = tarfile.TarInfo(f"{i}.cif")
            data = cifs[i].encode() + np.random.default_rng(i).bytes(4000)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (tmp_path / "cut.tar.gz").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(SourceError, match="corrupt archive"):
        open_source(tmp_path / "cut.tar.gz")


def test_a_member_that_is_corrupt_is_a_row(tmp_path: Path, cifs: list[str]) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.cif", cifs[0])
        archive.writestr("b.cif", cifs[1])
    raw = path.read_bytes()
    where = raw.index(b"_cell_length_b", raw.index(b"b.cif"))
    path.write_bytes(raw[:where] + b"_XXXX" + raw[where + 5 :])
    a, b = open_source(path)
    assert a.status == "ok"
    assert b.status == "unreadable"
    assert "CRC" in b.reason


def test_gzipped_files_and_files_that_vanish(tmp_path: Path, cifs: list[str]) -> None:
    (tmp_path / "a.cif.gz").write_bytes(gzip.compress(cifs[0].encode()))
    (tmp_path / "b.cif").write_text(cifs[1])
    (tmp_path / "c.cif.gz").write_bytes(b"no gzip")
    source = open_source(tmp_path)
    (tmp_path / "b.cif").unlink()
    assert [(row.id, row.status) for row in source] == [("a", "ok"), ("b", "unreadable"), ("c", "unreadable")]


def test_empty_folder_and_unknown_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither structure files"):
        open_source(tmp_path)
    (tmp_path / "x.docx").write_text("?")
    with pytest.raises(SourceError, match="unknown kind of file"):
        open_source(tmp_path / "x.docx")
    with pytest.raises(SourceError, match=r"no such file.*aflow"):
        open_source("mp_21")


def test_single_cif_with_many_blocks(tmp_path: Path, cifs: list[str]) -> None:
    path = tmp_path / "many.cif"
    path.write_text("data_global\n_publ_author_name X\n" + "\n".join(cifs))
    source = open_source(path)
    assert len(source) == 300
    rows = list(source)
    assert [row.id for row in rows][:2] == ["many-0", "many-1"]
    lengths = [row.structure.lengths[0] for row in rows if row.structure]
    assert np.allclose(np.diff(lengths), 0.01 / np.sqrt(2))
    last = source.shards(70)[-1]
    assert [row.id for row in source.read_shard(last)] == [f"many-{i}" for i in range(280, 300)]


def test_extxyz_of_many_frames(tmp_path: Path, structures: list[Structure]) -> None:
    path = tmp_path / "frames.extxyz"
    frames = [
        write_extxyz_frame(structure, {"energy": -0.25 * i, "note": "a b"}) for i, structure in enumerate(structures)
    ]
    frames[5] = frames[5].replace("Lattice", "Box")
    path.write_text("\n".join(frames))
    source = open_source(path)
    assert len(source) == 300
    for rows_per_shard in (300, 64, 1):
        rows = [row for shard in source.shards(rows_per_shard) for row in source.read_shard(shard)]
        assert [row.status for row in rows] == ["ok"] * 5 + ["unreadable"] + ["ok"] * 294
        assert rows[299].properties == {"energy": -0.25 * 299, "note": "a b"}
        assert rows[299].id == "frames-299"


def test_extxyz_that_breaks_off(tmp_path: Path, structures: list[Structure]) -> None:
    text = write_extxyz_frame(structures[0]) + "these are\nno frames\n" + write_extxyz_frame(structures[1])
    (tmp_path / "x.xyz").write_text(text)
    assert [row.status for row in open_source(tmp_path / "x.xyz")] == ["ok", "unreadable"]
    (tmp_path / "y.xyz").write_text("")
    assert [row.status for row in open_source(tmp_path / "y.xyz")] == ["unreadable"]


def test_extxyz_agrees_with_ase(structures: list[Structure]) -> None:
    from ase.io import read, write

    atoms = read(io.StringIO(write_extxyz_frame(structures[3], {"energy": 1.0})), format="extxyz")
    assert np.allclose(atoms.cell.array, structures[3].lattice)
    text = io.StringIO()
    write(text, atoms, format="extxyz")
    back, _ = parse_extxyz_frame(text.getvalue())
    assert np.allclose(back.frac_coords, structures[3].frac_coords)
    assert back.atomic_numbers.tolist() == structures[3].atomic_numbers.tolist()


POSCAR4 = "Na Cl\n{scale}\n0 2.82 2.82\n2.82 0 2.82\n2.82 2.82 0\n1 1\n{mode}\n0 0 0 T T F\n{last} ! comment\n"
POSCAR5 = (
    "salt\n1.0\n0 2.82 2.82\n2.82 0 2.82\n2.82 2.82 0\nNa_pv Cl/1a2b\n1 1\n"
    "Selective dynamics\nDirect\n0 0 0 T T F\n.5 .5 .5 F F F\n"
)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        (POSCAR5, 5.64),
        (POSCAR4.format(scale="1.0", mode="Direct", last="0.5 0.5 0.5"), 5.64),
        (POSCAR4.format(scale="2.0", mode="Direct", last="0.5 0.5 0.5"), 11.28),
        (POSCAR4.format(scale="2.0", mode="Cartesian", last="2.82 2.82 2.82"), 11.28),
        (POSCAR4.format(scale="-44.851536", mode="Cartesian", last="2.82 2.82 2.82"), 5.64),
        (POSCAR4.format(scale="2 2 2", mode="kartesisch", last="2.82 2.82 2.82"), 11.28),
    ],
)
def test_poscar_dialects(text: str, length: float) -> None:
    from pymatgen.io.vasp import Poscar

    structure = parse_poscar(text)
    assert structure.atomic_numbers.tolist() == [11, 17]
    assert np.allclose(structure.frac_coords, [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert structure.lengths[0] * np.sqrt(2) == pytest.approx(length, rel=1e-6)
    # pymatgen knows no three scales, and multiplies Cartesian coordinates by a negative scale (VASP: by its factor)
    if "2 2 2" not in text and "-44" not in text:
        shifts = Poscar.from_str(text).structure.frac_coords - structure.frac_coords
        assert np.allclose(shifts, np.round(shifts), atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\nb\nc\n",
        POSCAR5.replace("1 1\n", "1 2\n"),
        POSCAR5.replace("1.0", "zero"),
        POSCAR5.replace("1.0", "0.0"),
        POSCAR5.replace(".5 .5 .5", "nan 0 0"),
        POSCAR5.replace("Na_pv", "Zz"),
        POSCAR5.replace("2.82 2.82 0", "0 0 0"),
        POSCAR5.replace("1 1\n", "x\n"),
        POSCAR5.replace("Direct\n0 0 0 T T F\n.5 .5 .5 F F F\n", ""),
    ],
)
def test_broken_poscars_are_refused(text: str) -> None:
    with pytest.raises(StructureError):
        parse_poscar(text)


def test_poscar_round_trip(structures: list[Structure]) -> None:
    from pymatgen.io.vasp import Poscar

    shuffled = Structure(5 * np.eye(3), np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0.1]]), np.array([8, 26, 8]))
    text = write_poscar(shuffled, "name")
    back = parse_poscar(text)
    assert back.atomic_numbers.tolist() == [8, 8, 26]
    assert np.allclose(back.frac_coords, shuffled.frac_coords[[0, 2, 1]])
    assert Poscar.from_str(text).structure.composition.reduced_formula == "FeO2"
