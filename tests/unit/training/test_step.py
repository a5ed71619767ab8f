import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from matgen.data.batch import BatchPlan, BatchPlanConfig, collate
from matgen.data.records import Records
from matgen.diffusion.noise import CounterNoise
from matgen.training.crystals import CrystalSet
from matgen.training.dataset import TrainingError, draw_t
from matgen.training.optimizer import Ema, build_optimizer
from matgen.training.state import TrainState
from matgen.training.step import LossModule, Workers, evaluate, train_step


def make_state(model, config) -> TrainState:
    optimizer = build_optimizer(model, config.learning_rate, config.betas, config.weight_decay)
    return TrainState(model=model, optimizer=optimizer, ema=Ema(model, config.ema_decay))


def crystals(priors, config) -> CrystalSet:
    return CrystalSet(priors, Records.empty(), Records.empty(), config)


def make_plan(records, priors, config, **settings) -> BatchPlan:
    operations = priors.num_operations.numpy()[records.space_group_number]
    return BatchPlan(
        records.num_orbits, operations, BatchPlanConfig(batch_size=config.batch_size, **settings), config.seed
    )


def gradient(model, batches, priors, config) -> tuple[torch.Tensor, float]:
    """Gradient of the weighted sum of the batches' losses, as train_step accumulates it."""
    model.zero_grad()
    total = 0.0
    for batch, weight in batches:
        dataset = crystals(priors, config)
        described, t, noise = dataset.prepare(
            batch, seed=config.seed, count=config.batch_size, num_steps=model.num_steps
        )
        loss = model.loss(described, t, noise).total * weight
        loss.backward()
        total += loss.item()
    return torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None]), total


def cut(records, plan, step, rank=0, world_size=1):
    micro = plan.micro_batches(step, rank, world_size)
    return [(collate(records, m.indices, m.row_ids), m.weight) for m in micro]


def test_gradient_of_micro_batches_is_that_of_one_padded_batch(tiny, fake_records, priors, train_config):
    config = replace(train_config, batch_size=24)
    bucketed = cut(fake_records, make_plan(fake_records, priors, config, max_edges=60, overhead_edges=1), 3)
    plan = make_plan(fake_records, priors, config)
    whole = [(collate(fake_records, plan.indices(3), plan.positions(3), pad_to=9), 1.0)]
    assert len(bucketed) > 4
    (g_bucketed, l_bucketed), (g_whole, l_whole) = (gradient(tiny, b, priors, config) for b in (bucketed, whole))
    assert l_bucketed == pytest.approx(l_whole, rel=1e-5)
    assert (g_bucketed - g_whole).norm() < 1e-5 * g_whole.norm()
    # the test would notice weights that are not those of the crystals
    equal = [(batch, 1 / len(bucketed)) for batch, _ in bucketed]
    assert (gradient(tiny, equal, priors, config)[0] - g_whole).norm() > 1e-3 * g_whole.norm()


@pytest.mark.parametrize("world_size", [2, 3])
def test_gradient_summed_over_ranks_is_that_of_one_process(tiny, fake_records, priors, train_config, world_size):
    config = replace(train_config, batch_size=25)
    plan = make_plan(fake_records, priors, config)
    ranks = [batch for rank in range(world_size) for batch in cut(fake_records, plan, 1, rank, world_size)]
    (g_ranks, _), (g_one, _) = (gradient(tiny, b, priors, config) for b in (ranks, cut(fake_records, plan, 1)))
    assert (g_ranks - g_one).norm() < 1e-5 * g_one.norm()


def test_t_is_stratified_and_uniform():
    rows = torch.arange(64 * 500)
    t = draw_t(rows % 64, 64, CounterNoise(rows * 7), 1000)
    assert t.min() >= 1 and t.max() <= 1000
    for step in t.reshape(500, 64):
        assert ((step - 0.5) * 64 / 1000 - torch.arange(64) - 0.5).abs().max() < 0.55
    counts = torch.histc(t.double(), 10, 0.5, 1000.5)
    assert (counts / 3200 - 1).abs().max() < 0.06


def test_clip_and_update(toy, fake_records, priors, train_config):
    config = replace(train_config, grad_clip_norm=1e-3, betas=(0.0, 0.0))
    state = make_state(toy, config)
    before = {name: p.detach().clone() for name, p in toy.named_parameters()}
    plan = make_plan(fake_records, priors, config)
    metrics = train_step(
        state, LossModule(toy), cut(fake_records, plan, 0), crystals(priors, config), config, Workers(), 0.5
    )
    assert metrics["grad_norm"] > 1e-2 and metrics["skipped"] == 0 and metrics["stop"] == 0
    assert state.step == 1 and state.ema.num_updates == 1
    assert state.optimizer.param_groups[0]["lr"] == 0.5
    assert all(not torch.equal(before[name], p) for name, p in toy.named_parameters())
    squares = sum(float(state.optimizer.state[p]["exp_avg"].square().sum()) for p in toy.parameters())
    assert math.sqrt(squares) == pytest.approx(1e-3, rel=1e-3)


def test_non_finite_step_changes_nothing_and_is_counted(toy, fake_records, priors, train_config):
    state, plan = make_state(toy, train_config), make_plan(fake_records, priors, train_config)
    toy.poison = {8 + 3}
    weights, skipped = [], []
    for step in range(3):
        metrics = train_step(
            state,
            LossModule(toy),
            cut(fake_records, plan, step),
            crystals(priors, train_config),
            train_config,
            Workers(),
            0.1,
        )
        weights.append(torch.cat([p.detach().flatten().clone() for p in toy.parameters()]))
        skipped.append(metrics["skipped"])
    assert skipped == [0, 1, 0] and state.num_skipped == 1 and state.step == 3 and state.ema.num_updates == 2
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    assert all(torch.isfinite(w).all() for w in weights)


def test_too_many_non_finite_steps_are_an_error(toy, fake_records, priors, train_config):
    config = replace(train_config, max_skipped=3)
    state, plan = make_state(toy, config), make_plan(fake_records, priors, config)
    toy.poison = set(range(1000))
    with pytest.raises(TrainingError, match="3 steps in a row"):
        for step in range(5):
            train_step(
                state, LossModule(toy), cut(fake_records, plan, step), crystals(priors, config), config, Workers(), 0.1
            )
    assert state.step == 3


def test_validation_is_repeatable_and_independent_of_batches(tiny, fake_validation, priors, train_config):
    def losses(size: int) -> dict[str, float]:
        starts = range(0, 17, size)
        parts = [np.arange(start, min(start + size, 17)) for start in starts]
        batches = [(collate(fake_validation, part), len(part) / 17) for part in parts]
        return evaluate(tiny, batches, crystals(priors, train_config), train_config, Workers(), 17)

    first, again, other = losses(5), losses(5), losses(17)
    assert first == again
    assert set(first) == {"total", "lattice", "coords", "species", "site_symmetry"}
    for name, value in first.items():
        assert value == pytest.approx(other[name], rel=1e-5)


def test_autocast_trains_full_precision_weights(tiny, fake_records, priors, train_config):
    config = replace(train_config, precision="bf16")
    state, plan = make_state(tiny, config), make_plan(fake_records, priors, config)
    batches, workers = cut(fake_records, plan, 0), Workers()
    exact = train_step(
        make_state(tiny, train_config),
        LossModule(tiny),
        batches,
        crystals(priors, train_config),
        train_config,
        workers,
        0.0,
    )
    metrics = train_step(state, LossModule(tiny), batches, crystals(priors, config), config, workers, 0.01)
    assert metrics["skipped"] == 0 and all(p.dtype == torch.float32 for p in tiny.parameters())
    assert metrics["total"] == pytest.approx(exact["total"], rel=0.1)
