"""Campaigns: every row exactly once and the same content, whatever the number of actors and whatever dies."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from campaign_works import DyingWork, OneByOneWork, SquareWork, ThreadsWork, native_threads

from cluster.campaign import CampaignConfig, CampaignSummary, run_campaign
from cluster.parts import Shard, part_paths
from matgen.errors import SourceError, StageError

SHARDS = [Shard(index, 10, index * 10) for index in range(5)]


def content(directory: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in part_paths(directory)])


def names(directory: Path) -> list[str]:
    """What lies there, but for the file that says how far a campaign is."""
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith(".campaign-"))


def run(work: SquareWork, out: Path, workers: int, **settings: float | tuple[int, int]) -> CampaignSummary:
    config = CampaignConfig(num_workers=workers, progress=False, **settings)  # type: ignore[arg-type]
    return run_campaign(work, SHARDS, out, config, {"matgen.run_id": "test"})


def assert_whole(directory: Path, bad: dict[int, str]) -> None:
    rows = content(directory).to_pylist()
    assert [row["sample_id"] for row in rows] == list(range(50))
    for row in rows:
        assert row["status"] == bad.get(row["sample_id"], "ok"), row
        assert row["square"] == (None if row["sample_id"] in bad else row["sample_id"] ** 2)
    assert names(directory) == [f"part-{index:06d}.parquet" for index in range(5)]


def test_content_is_the_same_for_any_number_of_actors(tmp_path: Path, ray_up: None) -> None:
    work = SquareWork(bug_on=(7,), clash_on=(0, 49))
    for workers in (0, 1, 2):
        run(work, tmp_path / str(workers), workers)
        assert_whole(tmp_path / str(workers), {7: "failed", 0: "clash", 49: "clash"})
    assert content(tmp_path / "0").equals(content(tmp_path / "1"))
    assert content(tmp_path / "0").equals(content(tmp_path / "2"))
    assert pq.read_schema(tmp_path / "0" / "part-000000.parquet").metadata[b"matgen.run_id"] == b"test"


def test_crashed_and_hanging_rows_are_found_and_the_others_kept(tmp_path: Path, ray_up: None) -> None:
    work = SquareWork(crash_on=(3,), kill_on=(41,), hang_on=(17,))
    summary = run(work, tmp_path, 2, shard_deadline_s=30.0, row_deadline_s=15.0)  # a busy machine starts actors slowly
    assert_whole(tmp_path, {3: "crashed", 41: "crashed", 17: "timeout"})
    assert summary.status == {"ok": 47, "crashed": 2, "timeout": 1}
    assert summary.num_deaths >= 2 and summary.num_timeouts >= 1


def test_notes_point_at_the_row_that_died_or_hung(tmp_path: Path, ray_up: None) -> None:
    work = OneByOneWork(segfault_on=(3,), hang_on=(17,))
    summary = run(work, tmp_path, 2, row_deadline_s=2.0)
    assert_whole(tmp_path, {3: "crashed", 17: "timeout"})
    assert summary.num_deaths == 3 and summary.num_timeouts == 1, "two tries for a crash, one for a row that hangs"
    reasons = {row["sample_id"]: row["reason"] for row in content(tmp_path).to_pylist() if row["reason"]}
    assert "Segmentation fault" in reasons[3] and "in string_at" in reasons[3]
    assert reasons[17].startswith("no result after 2 s") and "campaign_works.py" in reasons[17]


def test_an_actor_killed_once_costs_no_row(tmp_path: Path, ray_up: None) -> None:
    work = SquareWork(kill_on=(25,), once_file=str(tmp_path / "once"))
    run(work, tmp_path / "out", 1)
    assert_whole(tmp_path / "out", {})


def test_finished_parts_are_never_redone(tmp_path: Path) -> None:
    run(SquareWork(), tmp_path, 0)
    before = {path.name: path.stat().st_mtime_ns for path in part_paths(tmp_path)}
    (tmp_path / "part-000002.parquet").unlink()
    (tmp_path / ".part-000002.parquet.1-abc.tmp").write_bytes(b"half")
    summary = run(SquareWork(), tmp_path, 0)
    assert summary.num_shards_resumed == 4
    assert_whole(tmp_path, {})
    after = {path.name: path.stat().st_mtime_ns for path in part_paths(tmp_path)}
    assert {name for name in before if before[name] != after[name]} == {"part-000002.parquet"}


def test_ranges_of_shards_leave_what_one_campaign_leaves(tmp_path: Path) -> None:
    run(SquareWork(bug_on=(7,)), tmp_path / "one", 0)
    for shards in ((3, 5), (0, 3)):
        (tmp_path / "ranges").mkdir(exist_ok=True)
        (tmp_path / "ranges" / ".part-000001.parquet.9-abc.tmp").touch()  # of another job, if ours is 3:5
        summary = run(SquareWork(bug_on=(7,)), tmp_path / "ranges", 0, shards=shards)
        assert summary.num_shards == shards[1] - shards[0] and summary.as_dict()["shard_range"] == list(shards)
        assert (tmp_path / "ranges" / ".part-000001.parquet.9-abc.tmp").exists() == (shards == (3, 5))
    gathered = run(SquareWork(bug_on=(7,)), tmp_path / "ranges", 0)
    assert gathered.num_shards_resumed == 5
    assert content(tmp_path / "ranges").equals(content(tmp_path / "one"))
    with pytest.raises(StageError, match="no shard from 5 to 7"):
        run(SquareWork(), tmp_path / "ranges", 0, shards=(5, 8))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_input_is_one_error(tmp_path: Path, ray_up: None, workers: int) -> None:
    config = CampaignConfig(num_workers=workers, progress=False)
    with pytest.raises(SourceError, match="bad footer"):
        run_campaign(SquareWork(), [Shard(0, 3, "unreadable")], tmp_path, config)
    assert names(tmp_path) == []


def test_a_failure_of_every_row_stops_the_campaign(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"all 10 rows of a shard failed, the first with KeyError: 'lattice'"):
        run(SquareWork(bug_on=tuple(range(10, 20))), tmp_path, 0)


def test_workers_that_cannot_start_are_one_error(tmp_path: Path, ray_up: None) -> None:
    with pytest.raises(StageError, match="die as they start"):
        run(DyingWork(), tmp_path, 1)


def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = pq.write_table

    def full(table: pa.Table, path: Path, **options: object) -> None:
        if "part-000003" in str(path):
            Path(path).write_bytes(b"PAR1 half of a file")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(table, path, **options)

    monkeypatch.setattr("cluster.parts.pq.write_table", full)
    with pytest.raises(StageError, match=r"cannot write .*part-000003.parquet: No space left on device"):
        run(SquareWork(), tmp_path, 0)
    assert names(tmp_path) == [f"part-{index:06d}.parquet" for index in range(3)]
    monkeypatch.undo()
    run(SquareWork(), tmp_path, 0)
    assert_whole(tmp_path, {})


def test_native_libraries_have_one_thread_while_rows_are_worked_on_and_their_own_number_after(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(ThreadsWork(), tmp_path, 0)
        assert native_threads() == [2, 2, 2]
    finally:
        torch.set_num_threads(before)
    assert {row["square"] for row in content(tmp_path).to_pylist()} == {111}, "at, omp, mkl"


@pytest.mark.slow
def test_resume_after_the_driver_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from campaign_works import SquareWork; import test_campaign as t;"
        "t.run(SquareWork(seconds=0.1), Path(sys.argv[1]), 2)"
    )
    driver = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parent)
    deadline = time.monotonic() + 400
    while not part_paths(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    done = len(part_paths(tmp_path))
    assert 1 <= done < 5
    summary = run(SquareWork(), tmp_path, 0)
    assert summary.num_shards_resumed >= done
    assert_whole(tmp_path, {})
