"""The planner's small simulation: right where the answer is known."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from cluster.plan import START_S, Machine, StageCost, measured_costs, play, simulate
from matgen.errors import StageError

COST = StageCost(stage="decode", seconds_per_row=0.5, serial_per_row=0.0, spread=1.0, bytes_per_row=1000.0, rows=100)


def test_even_work_takes_what_arithmetic_says() -> None:
    seconds, busy = play(0.1, 0.0, num_workers=4, count=4000, shard_size=100)
    assert seconds == pytest.approx(START_S + 100.0, rel=0.01)
    assert busy == pytest.approx(100.0 / (START_S + 100.0), rel=0.01)


def test_more_nodes_never_take_longer_and_node_hours_never_fall() -> None:
    plans = [simulate([COST], Machine(nodes=nodes), 1_000_000, 100) for nodes in (1, 4, 16, 64)]
    assert all(b.seconds < a.seconds and b.node_hours >= a.node_hours * 0.999 for a, b in pairwise(plans))
    assert plans[0].bytes == pytest.approx(1e9)


def test_the_bottleneck_is_named() -> None:
    few = simulate([COST], Machine(nodes=64), 10_000, 100)
    assert "100 shards for 2048 workers" in few.bottleneck and few.stages[0].busy_share < 0.1
    serial = StageCost(**{**COST.__dict__, "stage": "evaluate", "serial_per_row": 0.5})
    assert "which no node shortens" in simulate([COST, serial], Machine(nodes=8), 10_000).bottleneck


def test_a_stage_whose_shards_may_be_cut_keeps_its_workers_busy() -> None:
    whole = simulate([COST], Machine(nodes=4, cpus=8), 2_400, 64)
    cut = simulate([StageCost(**{**COST.__dict__, "divisible": True})], Machine(nodes=4, cpus=8), 2_400, 64)
    assert cut.stages[0].busy_share > 0.75 and whole.stages[0].busy_share < 0.65, "38 shards, 32 workers"
    assert cut.seconds < whole.seconds


def test_shards_are_not_cut_where_the_driver_could_not_keep_up() -> None:
    whole, cut = (
        simulate([StageCost(**{**COST.__dict__, "divisible": divisible})], Machine(nodes=1000), 1_000_000)
        for divisible in (False, True)
    )
    assert cut.seconds <= whole.seconds * 1.01


def test_networks_run_on_gpus_where_there_are_any() -> None:
    sample = StageCost(**{**COST.__dict__, "stage": "sample"})
    with_gpus = simulate([sample, COST], Machine(nodes=2, gpus=4), 10_000)
    assert [stage.num_workers for stage in with_gpus.stages] == [8, 64]


def test_the_drivers_of_an_array_are_one_campaign(tmp_path: Path) -> None:
    (tmp_path / "structures").mkdir()
    for first in (0, 10):
        values = {"rows": 100, "busy_seconds": 50.0, "started": 0.0, "updated": 60.0, "divisible": True}
        (tmp_path / "structures" / f".campaign-{first:06d}-{first + 9:06d}.json").write_text(json.dumps(values))
    (cost,) = measured_costs(tmp_path)
    assert (cost.stage, cost.rows, cost.seconds_per_row, cost.divisible) == ("decode", 200, 0.5, True)


def test_a_run_without_rates_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no stage with 8 rows"):
        measured_costs(tmp_path)


def test_a_half_written_file_of_a_driver_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "structures").mkdir()
    (tmp_path / "structures" / ".campaign-000000-000009.json").write_text('{"rows": 1')
    with pytest.raises(StageError, match=r"campaign-000000-000009\.json cannot be read"):
        measured_costs(tmp_path)
