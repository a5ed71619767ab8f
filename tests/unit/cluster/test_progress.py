"""The tally of a campaign: its file, and its W&B run, written offline and read back."""

import json
from pathlib import Path

import numpy as np
import pytest

from cluster import progress
from cluster.decode import STRUCTURE_SCHEMA, structure_columns
from cluster.parts import Shard, write_part
from cluster.pieces import Report
from cluster.progress import Tally, shown
from matgen.crystal.structure import Structure

POLONIUM = Structure(np.eye(3) * 3.3, np.zeros((1, 3)), np.array([84]))


def test_the_file_and_the_tracker_say_what_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    monkeypatch.setattr(progress, "TRACK_AFTER_S", 0.0)
    monkeypatch.setattr(progress, "TRACK_EVERY_S", 0.0)
    monkeypatch.setattr(progress, "WRITE_EVERY_S", 0.0)
    monkeypatch.setattr("cluster.tracking.Tracker.log", lambda _, metrics, step: logged.append((metrics, step)))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    out = tmp_path / "structures"
    out.mkdir()
    shards = [Shard(index, 10, None) for index in range(4)]
    tally = Tally(out, "decode", shards, shards[1:], shows_bar=False, tracker_id="run-1-decode")
    tally.alive_seconds = 4.0
    tally.add(Report(10, {"ok": 8, "clash": 2}, {"clash: # Å between atoms # and #": 2}, 3.0))
    tally.shards, tally.queued, tally.workers = 1, 2, {"busy": 2}
    tally.beat()
    values = json.loads((out / ".campaign-000000-000003.json").read_text())
    assert (values["num_rows"], values["rows_before"], values["rows"], values["busy_share"]) == (40, 10, 10, 0.75)
    assert values["reasons"] == {"clash: # Å between atoms # and #": 2} and not values["finished"]
    metrics, step = logged[-1]
    assert step == 20 and metrics["status/clash"] == 0.2 and metrics["queued"] == 2.0 and metrics["workers"] == 2.0
    tally.close(finished=True)
    assert json.loads((out / ".campaign-000000-000003.json").read_text())["finished"]


def test_reasons_do_not_grow_without_end(tmp_path: Path) -> None:
    shards = [Shard(0, 10_000, None)]
    tally = Tally(tmp_path, "rows", shards, shards, shows_bar=False)
    for i in range(5000):
        tally.add(Report(1, {"failed": 1}, {f"failed: {chr(0x4E00 + i)}": 1}, 0.0))
    assert len(tally.reasons) <= 2 * progress.MAX_REASONS and tally.status["failed"] == 5000


def test_a_campaign_of_structures_shows_pictures_of_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TRACK_AFTER_S", 0.0)
    monkeypatch.setattr(progress, "TRACK_EVERY_S", 0.0)
    monkeypatch.setenv("WANDB_MODE", "offline")
    out, shards = tmp_path / "structures", [Shard(0, 2, None)]
    good = {"sample_id": 0, "status": "ok", **structure_columns(POLONIUM)}
    write_part(out / "part-000000.parquet", [good, {"sample_id": 1, "status": "overlap"}], STRUCTURE_SCHEMA, {})
    tally = Tally(out, "decode", shards, shards, shows_bar=False, tracker_id="run-1-decode", draws=True)
    tally.add(Report(2, {"ok": 1, "overlap": 1}, {}, 1.0))
    tally.beat()
    tally.close(finished=True)
    assert (tmp_path / "pictures" / "decode.png").stat().st_size > 1000
    shown = list((tmp_path / "wandb").glob("offline-run-*/files/media/images/good samples_*.png"))
    assert shown, "W&B keeps it, too"


def test_a_mapper_with_a_bar_gives_what_it_gives_without(capsys):
    pieces = iter([3, 1, 2])
    assert list(shown(map, "squares", True)(lambda x: x * x, pieces)) == [9, 1, 4]
    bar = capsys.readouterr().err
    assert "squares" in bar and "3/3" in bar
    assert list(shown(map, "squares", False)(str, [1])) == ["1"]
    assert capsys.readouterr().err == ""
