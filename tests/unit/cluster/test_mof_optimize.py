"""Property-driven generation as stages: what was asked for, what the model says, what came out, and refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.decode import structure_columns
from cluster.mof_achieve import MOF_ACHIEVED_SCHEMA, MofAchieveWork, achieved_table, summarise
from cluster.mof_decode import MOF_STRUCTURE_SCHEMA, mof_decode
from cluster.mof_optimize import MOF_OPTIMIZE_SCHEMA, mof_optimize
from cluster.mof_preprocess import QUICK_PORES
from cluster.mof_sample import mof_sample
from cluster.parts import Shard, iterate_rows, write_part
from cluster.run import Run
from matgen.data.arrays import pack_text
from matgen.data.mof_properties import properties_of, save_properties
from matgen.data.mof_records import BlockRecords, CoarseRecords
from matgen.data.mof_statistics import build_statistics
from matgen.errors import CheckpointError, ConfigError, StageError
from matgen.evaluation.porosity import PorosityWorker
from matgen.models.mofdiff import MOFDiffConfig
from matgen.models.mofdiff_blocks import BlockSetConfig
from matgen.models.mofdiff_centres import CentreConfig
from matgen.models.mofdiff_optimise import OptimiseConfig
from matgen.models.mofdiff_sampling import CoarseSamplerConfig
from matgen.mof_config import MofExperiment, MofOptimizeConfig, MofSampleConfig, tiny_mofdiff
from matgen.training.run import PlainRun, train_plain
from matgen.training.state import TrainConfig
from tests.unit.mof.conftest import load
from tests.unit.training.mof_toys import fake_blocks, fake_frameworks

FAST = OptimiseConfig(num_steps=150, learning_rate=0.05, prior_weight=0.0)


def embedded_set(folder: Path, frameworks: CoarseRecords) -> None:
    """Write what the stage embed writes of the training set."""
    folder.mkdir()
    blocks = fake_blocks()
    writer = BlockRecords.writer(folder / "blocks_train.safetensors", {"embedding": ("F32", (32,))})
    for name in BlockRecords.shapes:
        writer.append(name, getattr(blocks, name))
    writer.append("sources", pack_text(blocks.sources))
    writer.append("embedding", blocks.embedding)
    writer.finish()
    frameworks.save(folder / "coarse_train.safetensors")
    assert blocks.embedding is not None
    build_statistics(frameworks, blocks.embedding, blocks.arms()).save(folder / "statistics.safetensors")


def trained(folder: Path, frameworks: CoarseRecords, model: MOFDiffConfig | None = None) -> Run[MofExperiment]:
    """A run whose model has taken one step."""
    embedded_set(folder / "embedded", frameworks)
    config = TrainConfig(max_steps=1, batch_size=8, warmup_steps=1, checkpoint_every=1)
    settings = PlainRun(model=model or tiny_mofdiff(), train=config, kind="mofdiff")
    train_plain(folder / "embedded", folder / "checkpoint", settings, "cpu")
    experiment = MofExperiment(
        name="optimize",
        sample=MofSampleConfig(
            count=5, shard_size=3, batch_size=2, sampler=CoarseSamplerConfig(num_steps=2, latent_steps=2)
        ),
        optimize=MofOptimizeConfig(target=0.9, latent=FAST),
    )
    return Run(experiment=experiment, out=folder / "made", num_workers=0, checkpoint=folder / "checkpoint")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run[MofExperiment]:
    return trained(tmp_path_factory.mktemp("optimize"), fake_frameworks(fake_blocks()))


def asking(run: Run[MofExperiment], out: str, **changes: Any) -> Run[MofExperiment]:
    experiment = replace(run.experiment, optimize=replace(run.experiment.optimize, **changes))
    return replace(run, experiment=experiment, out=run.out.parent / out)


def test_latents_move_to_the_target_from_training_frameworks(run: Run[MofExperiment]) -> None:
    summary = mof_optimize(run)
    assert summary["n"] == 5 and mof_optimize(run) == summary, "a finished stage is not done again"
    rows = list(iterate_rows(run.directory("sample")))
    assert [row["sample_id"] for row in rows] == list(range(5)) and len({row["start"] for row in rows}) > 1
    for row in rows:
        assert (row["property"], row["goal"], row["way"]) == ("void_fraction", "target", "latent")
        assert row["requested"] == 0.9
        assert row["start"].startswith("mof-")
        assert abs(row["predicted"] - 0.9) < 0.02 < abs(row["start_predicted"] - 0.9)
        assert row["predicted_properties"][0] == pytest.approx(row["predicted"], abs=1e-5)


def test_blocks_first_centres_are_drawn_for_rows_of_the_library(tmp_path: Path) -> None:
    model = replace(
        tiny_mofdiff(),
        blocks=BlockSetConfig(hidden=16, num_layers=1, num_heads=2, condition_dim=8),
        centres=CentreConfig(hidden=16, num_layers=1, num_heads=2, pair_dim=8, condition_dim=8),
    )
    made = trained(tmp_path, fake_frameworks(fake_blocks()), model)
    mof_optimize(made)
    plain = replace(made, out=tmp_path / "plain", experiment=replace(made.experiment, name="plain"))
    mof_sample(plain)
    library = BlockRecords.load(tmp_path / "embedded" / "blocks_train.safetensors")
    assert library.embedding is not None
    for row in (*iterate_rows(made.directory("sample")), *iterate_rows(plain.directory("sample"))):
        assert row["status"] == "ok" and len(row["block_index"]) == row["num_blocks"]
        index = np.asarray(row["block_index"])
        assert (library.is_metal[index] == np.asarray(row["is_metal"])).all()
    path = tmp_path / "embedded" / "blocks_train.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StageError, match="drawn for another library"):
        mof_decode(plain)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(StageError, match="no library of building blocks"):
        mof_sample(replace(plain, out=tmp_path / "without"))


def test_rows_do_not_depend_on_shards_and_batches(run: Run[MofExperiment]) -> None:
    mof_optimize(run)
    sample = replace(run.experiment.sample, shard_size=5, batch_size=5)
    other = replace(run, out=run.out.parent / "other", experiment=replace(run.experiment, sample=sample))
    mof_optimize(other)
    first, second = (list(iterate_rows(r.directory("sample"))) for r in (run, other))
    for a, b in zip(first, second, strict=True):
        assert a["start"] == b["start"] and a["seed"] == b["seed"]
        assert np.allclose(a["latent"], b["latent"], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"way": "conditional"}, "prior"),
        ({"way": "random"}, "prior"),
        ({"start": "prior"}, "prior"),
        ({"goal": "maximize", "target": None}, "mof-"),
    ],
)
def test_other_ways(run: Run[MofExperiment], changes: dict[str, Any], start: str) -> None:
    other = asking(run, "-".join(str(value) for value in changes.values()), **changes)
    assert mof_optimize(other)["n"] == 5
    rows = list(iterate_rows(other.directory("sample")))
    assert all(row["start"].startswith(start) and np.isfinite(row["predicted"]) for row in rows)
    if "goal" in changes:
        assert all(row["predicted"] > row["start_predicted"] and row["requested"] is None for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"property": "colour"}, "unknown property 'colour' .this model knows: void_fraction, density"),
        ({"target": None}, "a target is needed"),
        ({"way": "conditional", "goal": "maximize"}, "conditional needs a target"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(run: Run[MofExperiment], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mof_optimize(asking(run, "refused", **changes))
    assert not (run.out.parent / "refused" / "samples").exists()


def test_targets_outside_the_training_range_are_warned_about(
    run: Run[MofExperiment], caplog: pytest.LogCaptureFixture
) -> None:
    summary = mof_optimize(asking(run, "outside", target=7.0))
    low, high = summary["training_range"]
    assert 0 <= low < high <= 1 and f"{low:.4g} to {high:.4g}" in summary["warning"]
    assert summary["warning"] in caplog.text


def test_a_model_without_properties_says_so(tmp_path: Path) -> None:
    frameworks = fake_frameworks(fake_blocks())
    plain = replace(frameworks, properties=frameworks.properties[:, :0], property_names=())
    with pytest.raises(ConfigError, match="knows no properties"):
        mof_optimize(trained(tmp_path, plain))


def test_without_the_training_set_names_come_from_a_file(run: Run[MofExperiment], tmp_path: Path) -> None:
    assert run.checkpoint is not None
    alone = tmp_path / "shipped"
    alone.symlink_to(run.checkpoint / "checkpoints" / "last")
    bare = replace(run, checkpoint=alone, out=tmp_path / "made")
    with pytest.raises(CheckpointError, match=r"properties\.json is missing"):
        mof_optimize(bare)
    folder = tmp_path / "copied"
    folder.mkdir()
    for file in alone.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    records = CoarseRecords.load(run.checkpoint.parent / "embedded" / "coarse_train.safetensors")
    save_properties(properties_of(records), folder / "properties.json")
    copied = replace(bare, checkpoint=folder)
    mof_optimize(copied)
    assert {row["start"] for row in iterate_rows(copied.directory("sample"))} == {"prior"}
    with pytest.raises(ConfigError, match="start training needs"):
        mof_optimize(asking(copied, "never", start="training"))


def asked(sample_id: int, **changes: Any) -> dict[str, Any]:
    row = {"property": "void_fraction", "goal": "target", "way": "latent", "requested": 0.8, "start": "prior"}
    return {"sample_id": sample_id, "status": "ok", **row, "start_predicted": 0.4, "predicted": 0.79, **changes}


def test_what_came_out_is_measured_as_training_frameworks_were(tmp_path: Path) -> None:
    pytest.importorskip("pyzeo")
    mof5 = load("mof5")
    framework = {"sample_id": 0, "status": "ok", **structure_columns(mof5)}
    made = [framework, {"sample_id": 1, "status": "open", "reason": "2 connections are open"}, framework]
    made[2] = {**framework, "sample_id": 2}
    requests = [asked(0), asked(1), asked(2, property="uptake")]
    for folder, rows, schema in (
        ("samples", requests, MOF_OPTIMIZE_SCHEMA),
        ("structures", made, MOF_STRUCTURE_SCHEMA),
    ):
        (tmp_path / folder).mkdir()
        write_part(tmp_path / folder / "part-000000.parquet", rows, schema, {})
    work = MofAchieveWork(tmp_path / "samples", tmp_path / "structures")
    work.setup()
    rows = work.process(work.load(Shard(0, 3, "")))
    with PorosityWorker(QUICK_PORES) as worker:
        expected = worker.measure(mof5).void_fraction
    assert rows[0]["achieved"] == pytest.approx(expected, abs=0.02) and rows[0]["achieved_status"] == "ok"
    assert rows[0]["measured_on"] == "assembled" and rows[0]["predicted"] == 0.79
    assert (rows[1]["status"], rows[1]["achieved_status"]) == ("open", "not_run") and "achieved" not in rows[1]
    assert rows[2].get("achieved") is None and "nothing here measures uptake" in rows[2]["achieved_reason"]
    write_part(tmp_path / "part-000000.parquet", rows, MOF_ACHIEVED_SCHEMA, {})
    figures = summarise(achieved_table(tmp_path), MofOptimizeConfig(target=0.8))
    assert figures["num_achieved"] == 1 and figures["miss"] == pytest.approx(abs(expected - 0.8), abs=0.02)
    json.dumps(figures)


def test_without_pyzeo_nothing_is_measured_and_it_says_so(tmp_path: Path) -> None:
    work = MofAchieveWork(tmp_path, tmp_path)
    work.reason = "porosity needs pyzeo"
    (row,) = work.process([{**asked(0), "reason": "", "num_blocks": 8, "num_atoms": 106, "formula": "x"}])
    assert (row["achieved_status"], row["achieved_reason"]) == ("not_run", "porosity needs pyzeo")
