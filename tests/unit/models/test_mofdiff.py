"""MOFDiff: losses, symmetries, sampling from a row's seed alone, latents, learning by heart."""

from dataclasses import replace

import pytest
import torch
from mofdiff_cases import BATCH, BLOCKS_FIRST, STATISTICS, TINY, VARIANTS, losses, made_up, model_of, take

from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.wrapped_normal_lattice import LatticeNormalConfig
from matgen.models.mofdiff import MOFDiff, paper_config
from matgen.models.mofdiff_features import with_metal_nodes
from matgen.models.mofdiff_losses import property_loss
from matgen.models.mofdiff_sampling import ChosenBlocks, CoarseRequest, CoarseSamplerConfig, draw_counts
from matgen.models.mofdiff_score import State


@VARIANTS
def test_losses_are_means_over_frameworks_and_do_not_depend_on_the_others(config):
    batch, model = made_up(5), model_of(config)
    whole = losses(model, batch)
    alone = [losses(model, take(batch, torch.tensor([row]))) for row in range(5)]
    for name in whole:
        mean = torch.stack([one[name].detach() for one in alone]).mean()
        torch.testing.assert_close(whole[name].detach(), mean, rtol=2e-4, atol=1e-5)


@VARIANTS
def test_every_parameter_learns(config):
    model = model_of(config)
    losses(model, BATCH)["total"].backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert still == set()


def test_half_precision_gives_nearly_the_same():
    model = model_of(disturbed=False)
    whole = losses(model, BATCH)["total"].detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = losses(model, BATCH)["total"]
    half.backward()
    torch.testing.assert_close(half.detach().float(), whole, rtol=0.05, atol=0)


def test_a_model_without_properties_and_frameworks_of_one_block():
    nothing = {"property_mean": torch.zeros(0), "property_std": torch.zeros(0)}
    torch.manual_seed(0)
    model = MOFDiff(TINY, replace(STATISTICS, **nothing))
    batch = replace(BATCH, properties=torch.zeros(24, 0))
    single = take(batch, torch.nonzero(batch.num_blocks == 1)[:, 0])
    assert len(single) > 0
    found = losses(model, single)
    assert found["coords"] == 0  # one block's place says nothing
    found["total"].backward()
    made = model.sample(CoarseRequest(seeds=row_seed(0, torch.arange(3))), CoarseSamplerConfig(num_steps=2))
    assert made.predicted_properties.shape == (3, 0)


def test_rotations_images_and_the_choice_of_origin_change_no_latent():
    batch, model = made_up(5), model_of()
    z = model.encode(batch)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    torch.testing.assert_close(model.encode(replace(batch, lattice=batch.lattice @ rotation)), z, rtol=1e-3, atol=1e-4)
    jump = torch.randint(-2, 3, batch.frac_coords.shape).float()
    first, second = batch.edge_index
    moved = replace(
        batch,
        frac_coords=batch.frac_coords + jump + 0.25,
        edge_image=batch.edge_image - jump[second] + jump[first],
    )
    torch.testing.assert_close(model.encode(moved), z, rtol=1e-3, atol=1e-4)


def test_geometry_reaches_the_latent_of_frameworks_with_long_edges():
    """Published lengths were beyond the cutoff for most frameworks: moving blocks changed nothing."""
    batch, model = made_up(5, smallest=3), model_of(disturbed=False)
    rng = torch.Generator().manual_seed(0)
    z = model.encode(batch)
    moved = replace(batch, frac_coords=batch.frac_coords + 0.05 * torch.randn(batch.frac_coords.shape, generator=rng))
    assert (torch.linalg.det(batch.lattice).abs() > 800).all()  # edges of several Å
    assert ((model.encode(moved) - z).norm(dim=-1) > 0.02 * z.std(0).norm()).all()


def test_the_score_turns_with_the_cell():
    batch, model = made_up(5), model_of()
    lattice = model._framework(batch).lattice
    given = model._given(lattice, batch.num_blocks, batch.num_blocks // 2, model.encode(batch), torch.zeros(5, 4))
    state = State(torch.randn(len(batch.graph_index), model.features.dim), batch.frac_coords)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    t = torch.full((5,), 30)
    features, score = model._denoise(state, t, given)
    turned_features, turned = model._denoise(state, t, replace(given, lattice=given.lattice @ rotation))
    torch.testing.assert_close(turned_features, features, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(turned, score @ rotation, rtol=1e-3, atol=1e-4)
    sums = torch.zeros(5, 3).index_add(0, batch.graph_index, score)
    assert sums.abs().max() < 1e-4 < score.abs().max()


@VARIANTS
def test_samples_depend_on_their_own_seed_alone(config):
    model, sampler = model_of(config), CoarseSamplerConfig(num_steps=4, latent_steps=4)
    seeds = row_seed(5, torch.arange(6))
    whole = model.sample(CoarseRequest(seeds=seeds), sampler)
    rows = torch.tensor([4, 1])
    part = model.sample(CoarseRequest(seeds=seeds[rows]), sampler)
    assert part.num_blocks.tolist() == whole.num_blocks[rows].tolist()
    torch.testing.assert_close(part.lattice, whole.lattice[rows], rtol=1e-4, atol=1e-4)
    nodes = torch.cat([torch.nonzero(whole.graph_index == row)[:, 0] for row in rows])
    difference = part.frac_coords - whole.frac_coords[nodes]
    torch.testing.assert_close(difference - difference.round(), torch.zeros_like(difference), rtol=0, atol=1e-3)
    torch.testing.assert_close(part.blocks.embedding, whole.blocks.embedding[nodes], rtol=1e-3, atol=1e-3)
    for values in (whole.lattice, whole.frac_coords, whole.blocks.embedding, whole.latent):
        assert torch.isfinite(values).all()
    assert ((whole.frac_coords >= 0) & (whole.frac_coords < 1)).all()
    assert whole.graph_index.bincount().tolist() == whole.num_blocks.tolist()


def test_what_is_asked_for_is_made():
    model, seeds = model_of(), row_seed(5, torch.arange(4))
    sampler = CoarseSamplerConfig(num_steps=3, latent_steps=3, score_guidance=1.0)
    latent = torch.randn(4, 8)
    request = CoarseRequest(
        seeds=seeds,
        latent=latent,
        num_blocks=torch.tensor([3, 0, 7, 1]),
        num_metal=torch.tensor([1, -1, 7, 0]),
        properties=torch.tensor([[5.0, torch.nan]] * 4),
    )
    made = model.sample(request, sampler)
    assert made.num_blocks[[0, 2, 3]].tolist() == [3, 7, 1]
    assert made.num_metal[[0, 2, 3]].tolist() == [1, 7, 0]
    torch.testing.assert_close(made.latent, latent)
    other = model.sample(replace(request, properties=torch.tensor([[9.0, 1.0]] * 4)), sampler)
    assert (other.blocks.embedding[:3] - made.blocks.embedding[:3]).abs().max() > 1e-5  # the score network is told
    with pytest.raises(ValueError, match="9 blocks"):
        model.sample(CoarseRequest(seeds=seeds, num_blocks=torch.full((4,), 9)))
    with pytest.raises(ValueError, match="3 properties"):
        model.sample(CoarseRequest(seeds=seeds, properties=torch.zeros(4, 3)))


def test_counts_are_pairs_that_occur():
    prob = torch.zeros(5, 5)
    prob[4, 2], prob[3, 1] = 0.5, 0.5
    request = CoarseRequest(seeds=torch.arange(200))
    uniform = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blocks, metal = draw_counts(torch.zeros(200, 5), torch.zeros(200, 5), prob, request, uniform, 1.0)
    assert {(int(b), int(m)) for b, m in zip(blocks, metal)} == {(4, 2), (3, 1)}
    assert 70 < int((blocks == 4).sum()) < 130
    best = draw_counts(torch.zeros(200, 5), torch.arange(5.0).expand(200, 5), prob, request, uniform, 0.0)
    assert set(best[0].tolist()) == {4}


def test_unknown_properties_do_not_count():
    known = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]])
    predicted = torch.tensor([[3.0, 9.0], [9.0, 9.0]], requires_grad=True)
    loss = property_loss(predicted, known)
    assert float(loss.detach()) == 1.0
    loss.backward()
    assert predicted.grad.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    unknown = replace(BATCH, properties=BATCH.properties * torch.nan)
    assert all(torch.isfinite(x) for x in losses(model_of(), unknown).values())


def test_as_many_blocks_are_metal_nodes_as_were_drawn():
    model, seeds = model_of(), row_seed(5, torch.arange(16))
    sampler = CoarseSamplerConfig(num_steps=4, latent_steps=4)
    made, free = (
        model.sample(CoarseRequest(seeds=seeds), replace(sampler, metal_nodes_as_drawn=on)) for on in (True, False)
    )
    assert made.graph_index[made.blocks.is_metal].bincount(minlength=16).tolist() == made.num_metal.tolist()
    assert made.num_metal.tolist() == free.num_metal.tolist()
    assert free.graph_index[free.blocks.is_metal].bincount(minlength=16).tolist() != free.num_metal.tolist()


def test_those_that_look_most_like_metal_nodes_are():
    generator = torch.Generator().manual_seed(0)
    sizes, wanted = torch.tensor([5, 1, 7, 3]), torch.tensor([2, 0, 7, 1])
    index = torch.arange(4).repeat_interleave(sizes)
    features = torch.randn(16, 6, generator=generator)
    made = with_metal_nodes(features, index, wanted)
    for framework, count in enumerate(wanted.tolist()):
        score = features[index == framework, -2]
        expected = torch.full_like(score, -1.0)
        expected[score.topk(count).indices] = 1.0
        assert made[index == framework, -2].tolist() == expected.tolist()
    others = [0, 1, 2, 3, 5]
    assert torch.equal(made[:, others], features[:, others])


def test_features_come_back():
    features = model_of().features
    embedding, metal, connections = features.decode(
        features.encode(BATCH.embedding, BATCH.is_metal, BATCH.num_connections)
    )
    torch.testing.assert_close(embedding, BATCH.embedding)
    assert ((metal > 0) == BATCH.is_metal).all()
    torch.testing.assert_close(connections, BATCH.num_connections.float())


def test_frameworks_are_learnt_by_heart_and_made_again():
    """Encode, diffuse, decode with the true latents: a model trained on four frameworks gives them back."""
    batch = made_up(4, seed=3, smallest=2)
    config = replace(TINY, lattice_noise=0.0, lattice_from_head=0.0)
    torch.manual_seed(0)
    model = MOFDiff(config, STATISTICS)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    history = []
    for step in range(60):
        noise = CounterNoise(row_seed(step, batch.row_id))
        found = model.loss(batch, 1 + (noise.uniform(0, 999) * 100).long(), noise)
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        history.append([float(getattr(found, name).detach()) for name in ("features", "lattice", "properties")])
    first, last = torch.tensor(history[:10]).mean(0), torch.tensor(history[-20:]).mean(0)
    assert last[0] < 0.95 * first[0] and last[1] < 0.4 * first[1] and last[2] < 0.4 * first[2]
    wanted = batch.num_blocks
    request = CoarseRequest(seeds=row_seed(1, torch.arange(4)), latent=model.encode(batch), num_blocks=wanted)
    made = model.sample(request, CoarseSamplerConfig(num_steps=20, count_temperature=0.0))
    assert made.num_blocks.tolist() == wanted.tolist()
    torch.testing.assert_close(made.lattice.det().abs(), batch.lattice.det().abs(), rtol=0.4, atol=0)
    spread = (made.blocks.embedding - batch.embedding.mean(0)) / batch.embedding.std(0)
    assert 0.3 < spread.square().mean() < 2  # of the size of the data


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="100 steps and centres 1000"):
        replace(TINY, coords=LatticeNormalConfig())


def test_the_published_size():
    model = MOFDiff(paper_config(), STATISTICS)
    assert 10e6 < sum(p.numel() for p in model.score.parameters()) < 13e6
    assert model.num_steps == 2000


def test_centres_know_no_origin_no_order_and_no_orientation():
    batch, model = made_up(5, smallest=2), model_of(BLOCKS_FIRST)
    index = batch.graph_index
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]

    def output(frac, features, lattice=batch.lattice):
        target = model._framework(replace(batch, lattice=lattice)).lattice
        given = model._given(target, batch.num_blocks, batch.num_blocks // 2, torch.zeros(5, 8), torch.zeros(5, 4))
        return model._denoise(State(model.features.with_arms(features), frac), torch.full((5,), 30), given)[0]

    features = torch.randn(len(index), model.features.dim, generator=torch.Generator().manual_seed(2))
    plain = output(batch.frac_coords, features)
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(output((batch.frac_coords + torch.rand(5, 3)[index]) % 1, features), plain, **close)
    torch.testing.assert_close(output(batch.frac_coords, features, batch.lattice @ rotation), plain, **close)
    order = torch.argsort(index + 0.9 * torch.rand(len(index)))
    torch.testing.assert_close(output(batch.frac_coords[order], features[order]), plain[order], **close)
    assert torch.zeros(5, 3).index_add(0, index, plain).abs().max() < 1e-4 < plain.abs().max()


def test_centres_are_drawn_for_the_chosen_blocks():
    model, sampler = model_of(BLOCKS_FIRST), CoarseSamplerConfig(num_steps=4, latent_steps=4)
    request = CoarseRequest(seeds=row_seed(5, torch.arange(3)))
    asked = []

    def choose(place):
        def chosen(sampled):
            asked.append(sampled)
            count = len(sampled.embedding)
            embedding, whole = torch.full_like(sampled.embedding, place), torch.ones(count, dtype=torch.int64)
            return ChosenBlocks(torch.arange(count), embedding, sampled.is_metal, whole)

        return chosen

    one, same, other = (model.sample(request, sampler, choose(place)) for place in (1.0, 1.0, 2.0))
    torch.testing.assert_close(asked[0].embedding, one.blocks.embedding)
    assert one.chosen is not None and len(one.chosen.index) == int(one.num_blocks.sum())
    torch.testing.assert_close(one.frac_coords, same.frac_coords)
    torch.testing.assert_close(one.blocks.embedding, other.blocks.embedding)  # blocks do not know of the choice
    assert (one.frac_coords - other.frac_coords).abs().max() > 1e-4
    together = model_of().sample(request, sampler, choose(1.0))
    assert together.chosen is None and len(asked) == 3


def test_a_part_without_weight_is_not_computed():
    config = replace(BLOCKS_FIRST, weights=replace(TINY.weights, coords=0.0))
    model = model_of(config)
    losses(model, BATCH)["total"].backward()
    assert all(parameter.grad is None for parameter in model.score.parameters())
    assert all(parameter.grad is not None for parameter in model.blocks.parameters())
