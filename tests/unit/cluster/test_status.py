"""Status is read from files alone, of runs that are under way, done, or dead."""

import json
import os
import time
from pathlib import Path

import pytest

from cluster.parts import write_part
from cluster.status import read_status
from experiments.status import duration, status_text
from matgen.errors import StageError


def campaign(out: Path, *, updated: float, finished: bool = False, first: int = 0, last: int = 9) -> None:
    import pyarrow as pa

    directory = out / "structures"
    schema = pa.schema([("status", pa.string()), ("reason", pa.string())])
    rows = [{"status": "ok", "reason": ""}] * 3 + [{"status": "clash", "reason": "0.1 Å between atoms 0 and 1"}]
    write_part(directory / f"part-{first:06d}.parquet", rows, schema, {})
    values = {
        "num_rows": 40, "num_shards": last - first + 1, "rows_before": 0, "rows": 4, "rate": 2.0,
        "running": [first + 1],
        "workers": {"busy": 1, "idle": 0}, "busy_seconds": 1.8, "alive_seconds": 2.0, "deaths": 1, "timeouts": 0,
        "finished": finished, "updated": updated,
    }  # fmt: skip
    (directory / f".campaign-{first:06d}-{last:06d}.json").write_text(json.dumps(values))


def test_a_campaign_under_way(tmp_path: Path) -> None:
    campaign(tmp_path, updated=time.time())
    (stage,) = read_status(tmp_path)
    assert (stage.stage, stage.state, stage.shards_done, stage.shards_total, stage.rows) == (
        "decode",
        "running",
        1,
        10,
        4,
    )
    assert (
        stage.running == (1,) and stage.rate == 2.0 and stage.eta_s == 18.0 and stage.busy_share == pytest.approx(0.9)
    )
    assert stage.reasons == {"clash: # Å between atoms # and #": 1}
    text = status_text(tmp_path, [stage])
    for said in ("1 of 10 shards", "ok 3  clash 1", "2 rows/s, 18 s left", "workers busy 90.0%", "deaths 1"):
        assert said in text


def test_two_jobs_of_an_array_are_added_up(tmp_path: Path) -> None:
    campaign(tmp_path, updated=time.time())
    campaign(tmp_path, updated=time.time(), first=10, last=19)
    (stage,) = read_status(tmp_path)
    assert (stage.shards_done, stage.shards_total, stage.rate, stage.drivers) == (2, 20, 4.0, 2)


def test_a_dead_driver_is_silent_and_the_page_says_what_to_do(tmp_path: Path) -> None:
    campaign(tmp_path, updated=time.time() - 1000)
    (stage,) = read_status(tmp_path)
    assert stage.state == "silent" and "the same command goes on" in status_text(tmp_path, [stage])


def test_training(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint"
    (directory / "checkpoints" / "last").mkdir(parents=True)
    (directory / "checkpoints" / "last" / "config.json").write_text('{"total_steps": 100}')
    rows = [{"kind": "train", "step": 10 * i, "elapsed_s": 5.0 * i} for i in (7, 1, 2, 3)]  # begun anew after the first
    rows.append({"kind": "validation", "step": 30, "total": 1.25})
    (directory / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (stage,) = read_status(tmp_path)
    assert (stage.state, stage.steps, stage.total_steps, stage.rate, stage.eta_s) == ("running", 30, 100, 2.0, 35.0)
    assert "step 30 of 100  2 steps/s, 35 s left  best validation loss 1.25" in status_text(tmp_path, [stage])
    os.utime(directory / "history.jsonl", (0, 0))
    assert read_status(tmp_path)[0].state == "silent"


def test_nothing_there_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no stage of a run"):
        read_status(tmp_path)


@pytest.mark.parametrize(("seconds", "said"), [(5, "5 s"), (150, "2.5 min"), (9000, "2.5 h"), (400000, "4.6 d")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
