"""The straight line from structures to scores, on a model that has learned nothing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.decode import decode_stage
from cluster.evaluate import evaluate_stage
from cluster.lineage import read_lineage
from cluster.parts import part_paths
from cluster.preprocess import preprocess
from cluster.run import Run
from cluster.sample import sample
from experiments.cli import main
from matgen.data.records import Records
from matgen.errors import SourceError, StageError


def content(directory: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in part_paths(directory)])


def sampling(run: Run, out: Path) -> Run:
    """A run elsewhere that samples from the checkpoint of this one."""
    return replace(run, out=out, checkpoint=run.directory("train"))


def test_every_input_row_is_in_the_records_and_good_ones_are_packed(tiny_run: Run) -> None:
    directory = tiny_run.records_directory
    rows = content(directory).to_pylist()
    assert len(rows) == 96
    assert all(row["status"] == "ok" or row["reason"] for row in rows)
    for split in ("train", "val", "test"):
        records = Records.load(directory / f"{split}.safetensors")
        records.check()
        chosen = [row for row in rows if row["status"] == "ok" and row["split"] == split]
        assert list(records.ids) == [row["material_id"] for row in chosen]
        for i, row in enumerate(chosen):
            part = records.select([i])
            assert part.atomic_numbers.tolist() == row["atomic_numbers"]
            assert part.site_symmetry.ravel().tolist() == row["site_symmetry"]
            assert part.frac_coords.ravel().tolist() == row["frac_coords"]
            assert part.lattice_k[0].tolist() == row["lattice_k"]


def test_the_line_runs_and_no_sample_goes_missing(tiny_run: Run) -> None:
    count = tiny_run.experiment.sample.count
    assert sample(tiny_run)["n"] == count
    assert decode_stage(tiny_run)["n"] == count
    summary = evaluate_stage(tiny_run)
    assert summary["n"] == count and sum(summary["status"].values()) == count
    scores = pq.read_table(tiny_run.directory("evaluate") / "scores.parquet").to_pylist()
    assert [row["sample_id"] for row in scores] == list(range(count))
    written = json.loads((tiny_run.directory("evaluate") / "summary.json").read_text())
    assert written["num_samples"] == count
    assert "coverage_recall" in summary["not_run"]
    for stage in ("sample", "decode", "evaluate"):
        lineage = read_lineage(tiny_run.directory(stage))
        assert lineage is not None and lineage.complete and lineage.code_version and lineage.versions["torch"]
    metadata = pq.read_schema(part_paths(tiny_run.directory("decode"))[0]).metadata
    assert metadata[b"matgen.run_id"].decode() == read_lineage(tiny_run.directory("sample")).run_id  # type: ignore[union-attr]
    assert len(metadata[b"matgen.checkpoint_hash"]) == 16


def test_samples_do_not_depend_on_the_number_of_workers(tiny_run: Run, tmp_path: Path, ray_up: None) -> None:
    tables = []
    for workers in (0, 2):
        run = replace(
            tiny_run, out=tmp_path / str(workers), num_workers=workers, checkpoint=tiny_run.directory("train")
        )
        sample(run)
        tables.append(content(run.directory("sample")))
    for name in tables[0].column_names:
        assert tables[0].column(name).to_pylist() == tables[1].column(name).to_pylist(), name


def test_a_sample_does_not_depend_on_how_many_are_drawn(tiny_run: Run, tmp_path: Path) -> None:
    """Group, orbits and noise of a row follow from its id; batches of other content agree to rounding."""
    drawn = []
    for count in (24, 5):
        experiment = replace(
            tiny_run.experiment, sample=replace(tiny_run.experiment.sample, count=count, shard_size=24)
        )
        run = replace(
            tiny_run, experiment=experiment, out=tmp_path / str(count), checkpoint=tiny_run.directory("train")
        )
        sample(run)
        drawn.append(content(run.directory("sample")).to_pylist()[:5])
    for one, other in zip(*drawn, strict=True):
        for name in ("sample_id", "seed", "space_group_number", "num_orbits", "atomic_numbers", "site_symmetry"):
            assert one[name] == other[name]
        assert one["lattice_k"] == pytest.approx(other["lattice_k"], abs=1e-4)


def test_a_finished_stage_is_not_redone_and_another_config_is_refused(tiny_run: Run) -> None:
    before = part_paths(tiny_run.records_directory)[0].stat().st_mtime_ns
    preprocess(tiny_run)
    assert part_paths(tiny_run.records_directory)[0].stat().st_mtime_ns == before
    other = replace(tiny_run.experiment, preprocess=replace(tiny_run.experiment.preprocess, shard_size=16))
    with pytest.raises(StageError, match=r"shard_size 32 there, 16 here.*--overwrite"):
        preprocess(replace(tiny_run, experiment=other))


def test_a_corrupt_part_is_one_clear_error(tiny_run: Run, tmp_path: Path) -> None:
    run = sampling(tiny_run, tmp_path / "run")
    sample(run)
    part_paths(run.directory("sample"))[1].write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(SourceError, match=r"part-000001.parquet is not a readable parquet file"):
        decode_stage(run)
    assert not part_paths(run.directory("decode"))


def test_generate_with_constraints(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new"
    options = ["--checkpoint", str(checkpoint), "--out", str(out), "--steps", "3", "--quiet", "--json"]
    wishes = ["--space-group", "225,221", "--elements", "Li,Fe,P,O", "--require-elements", "Li"]
    assert main(["generate", "--count", "12", *wishes, *options]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["n"] == 12
    for row in content(out / "samples").to_pylist():
        assert row["space_group_number"] in (225, 221)
        assert set(row["atomic_numbers"]) <= {3, 26, 15, 8} and 3 in row["atomic_numbers"]


def test_generate_from_a_template(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    options = ["--checkpoint", str(checkpoint), "--out", str(out), "--steps", "3", "--quiet"]
    assert main(["generate", "--count", "4", "--template", "225:a=Na,b", *options, "--export", "cif"]) == 0
    for row in content(out / "structures").to_pylist():
        assert row["space_group_number"] == 225 and row["template_letters"] == ["a", "b"]
        assert row["atomic_numbers"][0] == 11
        if row["status"] == "ok":
            assert sorted(row["wyckoff_letters"]) == ["a", "b"] and row["num_atoms"] == 8


def test_export_round_trip(tiny_run: Run, tmp_path: Path) -> None:
    from pymatgen.core import Structure

    run = sampling(tiny_run, tmp_path / "run")
    sample(run)
    decode_stage(run)
    good = [row for row in content(run.directory("decode")).to_pylist() if row["status"] == "ok"]
    if not good:
        pytest.skip("this untrained model made no crystal without overlaps")
    assert main(["export", str(run.out), "--format", "cif"]) == 0
    files = sorted((run.out / "cif").iterdir())
    assert len(files) == len(good)
    for path, row in zip(files, good, strict=True):
        assert len(Structure.from_file(path)) == row["num_atoms"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_reconstruct(tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_up: None, workers: str) -> None:
    assert main(["reconstruct", "aflow", "--limit", "60", "--out", str(tmp_path), "--workers", workers, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["n"] == 60 == sum(summary["status"].values())
    rows = pq.read_table(tmp_path / "reconstruct.parquet").to_pylist()
    assert len(rows) == 60
    assert summary["matched"] == sum(row["matched"] for row in rows) >= 58
    assert all(row["matched"] == (row["status"] == "ok") for row in rows)


def test_evaluate_of_foreign_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scores"
    options = ["--out", str(out), "--workers", "0", "--set", "evaluate.coverage=false", "--quiet", "--json"]
    folder = tmp_path / "cifs"
    folder.mkdir()
    (folder / "broken.cif").write_text("data_x\nnothing here\n")
    shutil.copy(write_rocksalt(folder), folder / "again.cif")
    assert main(["evaluate", str(folder), "--reference", "aflow", *options]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["n"] == 3 and summary["status"]["ok"] == 2
    rows = {row["id"]: row for row in pq.read_table(out / "scores" / "scores.parquet").to_pylist()}
    assert rows["again"]["component"] == rows["nacl"]["component"]
    assert rows["broken"]["status"] == "unreadable"


def write_rocksalt(folder: Path) -> Path:
    from pymatgen.core import Lattice, Structure

    path = folder / "nacl.cif"
    Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(str(path))
    return path
