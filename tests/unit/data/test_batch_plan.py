import numpy as np
import pytest
import torch

from matgen.data.batch import BatchPlan, BatchPlanConfig, collate, evaluation_batches

ORBITS = np.random.default_rng(0).integers(1, 21, 1000)
OPERATIONS = np.random.default_rng(1).choice([1, 2, 8, 16, 48, 192], 1000)


def plan(seed: int = 0, **settings) -> BatchPlan:
    return BatchPlan(ORBITS, OPERATIONS, BatchPlanConfig(**settings), seed)


def test_collate_pads_with_zeros(fake_records):
    batch = collate(fake_records, [3, 1], pad_to=9)
    assert batch.frac_coords.shape == (2, 9, 3)
    assert batch.mask.sum(1).tolist() == fake_records.num_orbits[[3, 1]].tolist()
    assert not batch.frac_coords[~batch.mask].any() and not batch.site_symmetry[~batch.mask].any()
    own = slice(*fake_records.offsets[3:5])
    assert np.array_equal(batch.species_index[0][batch.mask[0]] + 1, fake_records.atomic_numbers[own])
    assert torch.equal(batch.row_id, torch.tensor([3, 1]))
    with pytest.raises(ValueError, match="pad_to"):
        collate(fake_records, range(60), pad_to=1)
    with pytest.raises(ValueError, match="at least one"):
        collate(fake_records, [])


def test_every_crystal_is_seen_once_an_epoch():
    seen = np.concatenate([plan(batch_size=64).indices(step) for step in range(125)])
    assert len(seen) == 8000
    for epoch in range(8):
        assert np.array_equal(np.sort(seen[epoch * 1000 : (epoch + 1) * 1000]), np.arange(1000))
    assert not np.array_equal(seen[:1000], seen[1000:2000])


def test_a_step_is_a_function_of_seed_and_step_alone():
    used = plan(batch_size=300)
    list(map(used.indices, range(40)))
    assert np.array_equal(used.indices(2), plan(batch_size=300).indices(2))
    assert not np.array_equal(used.indices(2), plan(seed=1, batch_size=300).indices(2))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("weight", [0.0, 0.02])
def test_ranks_together_are_the_step(world_size, weight):
    the_plan = plan(batch_size=130, operation_weight=weight)
    micro = [m for rank in range(world_size) for m in the_plan.micro_batches(5, rank, world_size)]
    rows = np.concatenate([m.row_ids for m in micro])
    indices = np.concatenate([m.indices for m in micro])
    order = np.argsort(rows)
    assert np.array_equal(rows[order], the_plan.positions(5)) and np.array_equal(indices[order], the_plan.indices(5))
    assert sum(m.weight for m in micro) == pytest.approx(1)
    shares = [the_plan.micro_batches(5, rank, world_size) for rank in range(world_size)]
    pairs = [sum((ORBITS[m.indices] ** 2).sum() for m in share) for share in shares]
    assert max(pairs) < 1.25 * min(pairs)


def test_micro_batches_respect_the_memory_bound_and_waste_little():
    for step in range(10):
        micro = plan(batch_size=256, max_edges=3000, overhead_edges=100).micro_batches(step)
        padded = [len(m.indices) * ORBITS[m.indices].max() ** 2 for m in micro]
        assert max(padded) <= 3000
        assert sum(padded) < 1.1 * sum((ORBITS[m.indices] ** 2).sum() for m in micro)
    assert len(plan(batch_size=256, max_edges=10**9, overhead_edges=10**9).micro_batches(0)) == 1
    # one crystal may exceed the bound by itself: it is then alone
    assert all(len(m.indices) == 1 for m in plan(batch_size=16, max_edges=1).micro_batches(0))


def test_impossible_plans_are_refused():
    with pytest.raises(ValueError, match="3 workers"):
        plan(batch_size=2).micro_batches(0, 0, 3)
    with pytest.raises(ValueError, match="at least one crystal"):
        BatchPlan(ORBITS[:0], OPERATIONS[:0], BatchPlanConfig(), 0)
    with pytest.raises(ValueError, match="positive"):
        plan(batch_size=0)


def test_evaluation_takes_each_crystal_once(fake_records):
    batches = list(evaluation_batches(fake_records, max_edges=64, limit=50))
    assert sorted(row for batch in batches for row in batch.row_id.tolist()) == list(range(50))
    assert all(len(batch) * batch.mask.shape[1] ** 2 <= 64 or len(batch) == 1 for batch in batches)
