"""Each known mistake of the published model would fail here: D8 to D12 of our list (D5 is in test_mofdiff.py)."""

import itertools
from dataclasses import replace

import torch
from mofdiff_cases import BATCH, STATISTICS, TINY, losses, made_up, model_of, statistics_of
from test_block_encoder import made_up_blocks, select
from test_block_encoder import model_of as encoder_of

from matgen.data.mof_records import CoarseRecords
from matgen.data.mof_statistics import build_statistics
from matgen.diffusion.noise import CounterNoise
from matgen.diffusion.sampler import time_grid
from matgen.diffusion.wrapped_normal_lattice import LatticeNormalProcess
from matgen.models.mofdiff import MOFDiffConfig, paper_config
from matgen.models.mofdiff_sampling import CoarseRequest, CoarseSamplerConfig
from matgen.models.mofdiff_score import State


def records_of(batch) -> CoarseRecords:
    """The same frameworks as a training set; the block of each place is its own."""
    sizes = batch.num_blocks.numpy()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), batch.num_blocks.cumsum(0)]).numpy()
    empty = CoarseRecords.empty()
    return CoarseRecords(
        lattice=batch.lattice.double().numpy(),
        offsets=offsets,
        frac_coords=batch.frac_coords.numpy(),
        block_index=torch.arange(int(sizes.sum())).int().numpy(),
        is_metal=batch.is_metal.numpy(),
        num_connections=batch.num_connections.short().numpy(),
        edge_offsets=0 * offsets,
        edge_index=empty.edge_index,
        edge_image=empty.edge_image,
        edge_multiplicity=empty.edge_multiplicity,
        properties=batch.properties.numpy(),
        ids=tuple(str(row) for row in range(len(sizes))),
        property_names=("a", "b"),
    )


def test_d8_lattice_targets_are_standardised_by_the_statistic_that_they_are_made_of():
    """Published: fitted on lengths per atom, applied to lengths per block, so that targets were far from 0."""
    statistics = build_statistics(records_of(BATCH), BATCH.embedding.numpy(), STATISTICS.block_arms.numpy())
    model = model_of()
    model._lattice_mean, model._lattice_std = statistics.lattice_mean, statistics.lattice_std
    targets = model._framework(BATCH).lattice
    assert targets.mean(0).abs().max() < 1e-3
    torch.testing.assert_close(targets.std(0, correction=0), torch.ones(6), rtol=0.02, atol=0)


def test_d9_centres_are_diffused_in_predicted_cells_too():
    """Published: always in the true cell, so that sampling, which has predicted ones only, was never prepared for."""
    model, batch = model_of(replace(TINY, lattice_from_head=1.0, lattice_noise=0.0)), made_up(5, smallest=2)
    before = losses(model, batch)["coords"].detach()
    with torch.no_grad():
        model.heads.lattice.layers[-1].bias.add_(1.0)
    assert (losses(model, batch)["coords"].detach() - before).abs() > 1e-4
    model.config = replace(model.config, lattice_from_head=0.0)
    true = losses(model, batch)["coords"].detach()
    with torch.no_grad():
        for parameter in model.heads.lattice.parameters():
            parameter.mul_(0.5)
    torch.testing.assert_close(losses(model, batch)["coords"].detach(), true)


def test_d9_the_number_of_metal_nodes_is_used_in_sampling():
    model, seeds = model_of(), torch.arange(6)
    with torch.no_grad():
        model.heads.num_metal.layers[-1].weight.zero_()
        model.heads.num_metal.layers[-1].bias.zero_()[2] = 50.0  # two, whatever the latent
    model._count_prob.fill_(1.0)  # every pair of numbers occurs
    sampler = CoarseSamplerConfig(num_steps=2, latent_steps=2)
    made = model.sample(CoarseRequest(seeds=seeds, num_blocks=torch.full((6,), 5)), sampler)
    assert made.num_metal.tolist() == [2] * 6


def test_d10_neighbouring_times_are_told_apart_and_features_have_unit_variance():
    """Published: shown as beta_t, which hardly moves over half of the schedule, and |h| = 1 against unit noise."""
    model, batch = model_of(replace(TINY, score_gain=False)), made_up(4, smallest=2)
    framework = model._framework(batch)
    given = model._given(framework.lattice, batch.num_blocks, framework.num_metal, torch.zeros(4, 8), torch.zeros(4, 4))
    state = State(framework.features, batch.frac_coords)
    outputs = [model._denoise(state, torch.full((4,), t), given)[0] for t in (1, 2, 3, 100)]
    spread = outputs[0].std()
    assert all((a - b).abs().max() > 1e-3 * spread for a, b in itertools.pairwise(outputs))
    statistics = statistics_of(BATCH)
    assert statistics.embedding_std.max() < 0.5, "the test needs embeddings far from unit variance"
    features = model.features.encode(BATCH.embedding, BATCH.is_metal, BATCH.num_connections)[:, :5]
    torch.testing.assert_close(features.std(0), torch.ones(5), rtol=0.01, atol=0)
    torch.testing.assert_close(features.mean(0), torch.zeros(5), rtol=0, atol=1e-4)


def test_d10_sampling_begins_at_the_last_time_of_training():
    for count in (1, 7, 100):
        grid = time_grid(count, 100)
        assert int(grid[0]) == 100 and int(grid[-1]) == 0


def test_d11_few_steps_are_without_information():
    """Published: a third of the steps above half a cell, where nothing is left to see."""
    sigma = LatticeNormalProcess(MOFDiffConfig().coords).schedule.sigma[1:]
    assert float((sigma > 0.5).double().mean()) < 0.05 and 0.5 < float(sigma[-1]) <= 1.0
    paper = LatticeNormalProcess(paper_config().coords).schedule.sigma[1:]
    assert float((paper > 0.5).double().mean()) > 0.3  # the defect that this test is for


def test_d11_the_target_is_the_score_and_not_the_wrapped_noise():
    """At sigma of half a cell the two differ; the score of a nearly uniform density is nearly 0."""
    model = model_of()
    lattice, index = torch.eye(3)[None] * 10.0, torch.zeros(2000, dtype=torch.int64)
    eps = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([6.0])
    _, target = model.coord_process.corrupt(torch.zeros(2000, 3), lattice, index, sigma, eps)
    wrapped = (eps * 6.0 / 10.0 - (eps * 6.0 / 10.0).round()) * 10.0 / 6.0
    assert target.std() < 0.05 < 0.3 < wrapped.std()


def test_d12_many_connections_and_real_helium():
    """Published: at most 20 connections, so no UiO-66; helium stood for connection points."""
    batch, model = made_up_blocks(), encoder_of()
    one = select(batch, torch.tensor([3]))
    helium = replace(one, atomic_numbers=torch.where(one.is_connection, 2, one.atomic_numbers))
    assert (model.embed(helium) - model.embed(one)).norm() > 1e-3
    many = replace(one, num_connections=torch.tensor([24]))
    assert torch.isfinite(model.embed(many)).all()
    found = model.loss(many, torch.ones(1, dtype=torch.int64), CounterNoise(torch.zeros(1, dtype=torch.int64)))
    assert torch.isfinite(found.total)
    features = model_of().features
    labels = features.encode(BATCH.embedding[:2], BATCH.is_metal[:2], torch.tensor([24, 36]))
    assert features.decode(labels)[2].round().tolist() == [24.0, 36.0]
