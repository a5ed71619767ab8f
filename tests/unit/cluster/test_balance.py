"""Packing by cost: pieces cover every row once, cost about alike, and the costly ones come first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.balance import PIECES_PER_WORKER, Backlog, cut_shard, shard_cost
from cluster.parts import Shard

COSTS = st.lists(st.floats(0.01, 2000.0), min_size=1, max_size=60)


def make_shard(costs: list[float], index: int = 0) -> Shard:
    return Shard(index, len(costs), None, np.array(costs))


@given(COSTS, st.floats(0.1, 5000.0))
def test_pieces_cover_each_row_once_and_only_lone_rows_pass_the_target(costs: list[float], target: float) -> None:
    pieces = cut_shard(make_shard(costs), target)
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == len(costs)
    for piece in pieces:
        assert piece.cost <= target * (1 + 1e-9) or piece.num_rows == 1
        assert piece.cost == pytest.approx(sum(costs[piece.start : piece.stop]))
        assert piece.shard.row_costs is None, "the costs stay at the driver"


def test_costly_shards_are_opened_first_and_costly_pieces_taken_first() -> None:
    shards = [make_shard([1.0] * 10, 0), make_shard([1.0] * 9 + [200.0], 1), make_shard([5.0] * 10, 2)]
    backlog = Backlog(shards, num_workers=2, divisible=True)
    assert [backlog.open(), backlog.open()] == [1, 2]
    assert backlog.take().cost == 200.0
    rest = [backlog.take() for _ in range(backlog.num_open)]
    assert [piece.cost for piece in rest] == sorted((piece.cost for piece in rest), reverse=True)
    assert (backlog.open(), backlog.open()) == (0, -1)


def test_what_is_not_divisible_stays_whole() -> None:
    backlog = Backlog([make_shard([1.0, 2000.0, 1.0])], num_workers=64, divisible=False)
    backlog.open()
    assert backlog.take().whole and len(backlog) == 0


def test_uneven_rows_on_many_workers_leave_no_long_tail() -> None:
    """Rows of 60 to 2,000 atoms, cost quadratic; a simulation of the order in which workers take pieces."""
    rng = np.random.default_rng(0)
    shards = [make_shard(list((np.exp(rng.uniform(np.log(60), np.log(2000), 50)) / 60) ** 2), i) for i in range(12)]
    num_workers = 8

    def busy_share(*, divisible: bool) -> float:
        backlog, clocks = Backlog(shards, num_workers, divisible=divisible), [0.0] * num_workers
        while len(backlog):
            if not backlog.num_open:
                backlog.open()
            worker = int(np.argmin(clocks))
            clocks[worker] += backlog.take().cost
        return sum(clocks) / (num_workers * max(clocks))

    assert busy_share(divisible=True) > 1 - 1 / PIECES_PER_WORKER
    assert busy_share(divisible=True) > busy_share(divisible=False)
    assert sum(map(shard_cost, shards)) > 0


@given(COSTS, st.floats(0.1, 5000.0), st.integers(1, 7))
def test_cuts_fall_between_the_groups_that_are_worked_on_together(costs: list[float], target: float, size: int) -> None:
    pieces = cut_shard(make_shard(costs), target, size)
    assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == len(costs)
    assert all(piece.start % size == 0 for piece in pieces)
    assert all(piece.cost <= target * (1 + 1e-9) or piece.num_rows <= size for piece in pieces)
