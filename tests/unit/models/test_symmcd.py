"""The model: losses are per crystal, every weight learns, a batch can be learnt by heart, constraints hold."""

from dataclasses import fields, replace

import pytest
import torch

from matgen.data.batch import Batch, collate
from matgen.data.priors import Priors
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.sampler import SamplerConfig
from matgen.models.symmcd import SymmCD, SymmCDConfig, marginal_process, paper_config
from matgen.models.symmcd_losses import code_loss, code_scores, consistent_codes
from matgen.models.symmcd_sampling import SampleRequest
from matgen.nn.cspnet import paper_network, tiny_network

DEFAULT = SymmCDConfig(network=tiny_network())
PAPER = replace(
    paper_config(), network=replace(paper_network(), hidden=48, num_layers=2, latent=24, num_frequencies=16)
)
MARGINAL = replace(DEFAULT, process=marginal_process())
AXES = replace(DEFAULT, process=replace(DEFAULT.process, tied_axes=False), structured_site_symmetry=False)
VARIANTS = pytest.mark.parametrize(
    "config", [DEFAULT, PAPER, MARGINAL, AXES], ids=["default", "paper", "marginal", "axes"]
)


def model_of(config: SymmCDConfig, priors: Priors, seed: int = 0) -> SymmCD:
    torch.manual_seed(seed)
    return SymmCD(config, priors)


def noise_of(batch: Batch) -> CounterNoise:
    return CounterNoise(row_seed(3, batch.row_id))


def request_of(priors: Priors, groups: list[int], orbits: list[int], **given: torch.Tensor) -> SampleRequest:
    return SampleRequest(
        seeds=row_seed(5, torch.arange(len(groups))),
        space_group_number=torch.tensor(groups),
        num_orbits=torch.tensor(orbits),
        **given,
    )


GROUPS, ORBITS = [225, 14, 62, 1, 166, 227, 194, 2], [2, 5, 3, 1, 4, 2, 3, 6]


@VARIANTS
def test_every_weight_gets_a_finite_gradient(config, priors, records):
    model = model_of(config, priors)
    batch = collate(records, range(32))
    noise = noise_of(batch)
    model.loss(batch, model.process.draw_t(noise), noise).total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@VARIANTS
def test_loss_of_a_crystal_does_not_depend_on_its_company(config, priors, records):
    model = model_of(config, priors)
    together = collate(records, range(12))
    t = model.process.draw_t(noise_of(together))
    whole = model.loss(together, t, noise_of(together))
    for row in range(12):
        alone = collate(records, [row])
        single = model.loss(alone, t[row : row + 1], noise_of(alone))
        assert torch.allclose(single.per_crystal[0], whole.per_crystal[row], atol=1e-4, rtol=1e-4)
    assert torch.allclose(whole.per_crystal.mean(0)[0], whole.total)


def test_loss_does_not_depend_on_the_width_of_padding(priors, records):
    model = model_of(DEFAULT, priors)
    tight, wide = collate(records, range(12)), collate(records, range(12), pad_to=9)
    t = model.process.draw_t(noise_of(tight))
    assert torch.allclose(
        model.loss(tight, t, noise_of(tight)).per_crystal,
        model.loss(wide, t, noise_of(wide)).per_crystal,
        atol=1e-4,
        rtol=1e-4,
    )


def test_a_batch_can_be_learnt_by_heart(priors, records):
    model = model_of(replace(DEFAULT, reveal_site_symmetry=0.0, reveal_species=0.0), priors)
    batch = collate(records, range(4))
    noise = noise_of(batch)
    t = torch.full((4,), 500)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = model.loss(batch, t, noise).total.item()
    for _ in range(80):
        optimizer.zero_grad()
        loss = model.loss(batch, t, noise).total
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 10


def test_code_loss_is_the_cross_entropy_over_the_groups_codes(priors, records):
    model = model_of(DEFAULT, priors)
    batch = collate(records, range(12))
    logits = torch.randn(*batch.site_symmetry.shape, 13, generator=torch.Generator().manual_seed(0))
    hidden = torch.full_like(batch.site_symmetry, 13)
    found = code_loss(
        logits, batch.site_symmetry, hidden, model.groups.site_codes(batch.space_group_number), batch.mask
    )
    for row in range(12):
        group = int(batch.space_group_number[row])
        codes = priors.site_symmetry_codes[group, : priors.num_codes[group]].long()
        losses = []
        for orbit in range(int(batch.num_orbits[row])):
            scores = logits[row, orbit][torch.arange(15), codes].sum(-1)
            target = (codes == batch.site_symmetry[row, orbit]).all(-1).nonzero()[0, 0]
            losses.append(torch.nn.functional.cross_entropy(scores, target))
        assert torch.allclose(found[row], torch.stack(losses).mean(), atol=1e-4)


def test_known_axes_exclude_the_codes_that_disagree(priors):
    model = model_of(DEFAULT, priors)
    codes = model.groups.site_codes(torch.tensor([225, 2]))
    noisy = torch.full((2, 1, 15), 13)
    assert consistent_codes(noisy, codes).sum(-1)[:, 0].tolist() == priors.num_codes[[225, 2]].tolist()
    noisy[0, 0, 0] = priors.site_symmetry_codes[225, 0, 0].long()
    allowed = consistent_codes(noisy, codes)
    assert (codes.codes[0, allowed[0, 0], 0] == noisy[0, 0, 0]).all()
    assert 0 < allowed[0, 0].sum() < priors.num_codes[225]
    scores = code_scores(torch.zeros(2, 1, 15, 13), codes, allowed)
    assert torch.isinf(scores[~allowed]).all() and torch.isfinite(scores[allowed]).all()


def invalid_codes(sampled, priors: Priors) -> int:
    count = 0
    for row in range(len(sampled.num_orbits)):
        group = int(sampled.space_group_number[row])
        codes = priors.site_symmetry_codes[group, : priors.num_codes[group]].long()
        for orbit in range(int(sampled.num_orbits[row])):
            count += not bool((codes == sampled.site_symmetry[row, orbit]).all(-1).any())
    return count


@pytest.mark.parametrize(
    "config",
    [DEFAULT, MARGINAL, replace(DEFAULT, process=replace(DEFAULT.process, tied_axes=False))],
    ids=["tied", "marginal", "untied"],
)
def test_structured_site_symmetries_exist_in_the_group(config, priors):
    sampled = model_of(config, priors).sample(request_of(priors, GROUPS, ORBITS), SamplerConfig(num_steps=12))
    assert invalid_codes(sampled, priors) == 0


def test_independent_axes_do_not_have_to_exist(priors):
    sampled = model_of(PAPER, priors).sample(request_of(priors, GROUPS, ORBITS), SamplerConfig(num_steps=12))
    assert invalid_codes(sampled, priors) > 0


@VARIANTS
def test_samples_are_complete(config, priors):
    sampled = model_of(config, priors).sample(request_of(priors, GROUPS, ORBITS), SamplerConfig(num_steps=7))
    real = sampled.mask
    assert torch.isfinite(sampled.lattice_k).all()
    assert ((sampled.frac_coords >= 0) & (sampled.frac_coords < 1)).all()
    assert int(sampled.species_index[real].max()) < 94 and int(sampled.site_symmetry[real].max()) < 13
    fixed = ~priors.lattice_mask[sampled.space_group_number]
    assert torch.equal(sampled.lattice_k[fixed], priors.lattice_fixed[sampled.space_group_number][fixed])


@VARIANTS
def test_only_allowed_elements_appear(config, priors):
    allowed = torch.zeros(8, 94, dtype=torch.bool)
    allowed[:, [2, 7, 25]] = True
    request = request_of(priors, GROUPS, ORBITS, species_allowed=allowed)
    sampled = model_of(config, priors).sample(request, SamplerConfig(num_steps=10))
    assert set(sampled.species_index[sampled.mask].tolist()) <= {2, 7, 25}


@pytest.mark.parametrize("config", [DEFAULT, MARGINAL], ids=["absorbing", "marginal"])
def test_a_template_is_kept(config, priors):
    species = torch.full((8, 6), -1)
    species[:, 0] = torch.arange(8)
    symmetry = torch.full((8, 6, 15), -1)
    for row, group in enumerate(GROUPS):
        symmetry[row, 0] = priors.site_symmetry_codes[group, priors.num_codes[group] - 1]
    request = request_of(priors, GROUPS, ORBITS, species_fixed=species, site_symmetry_fixed=symmetry)
    sampled = model_of(config, priors).sample(request, SamplerConfig(num_steps=10))
    assert sampled.species_index[:, 0].tolist() == list(range(8))
    assert torch.equal(sampled.site_symmetry[:, 0], symmetry[:, 0])
    assert invalid_codes(sampled, priors) == 0


def test_a_shown_template_reaches_the_network_at_once(priors):
    """With absorbing priors the first call already sees what is fixed."""
    model = model_of(DEFAULT, priors)
    species = torch.full((8, 6), -1)
    species[:, 0] = 11
    seen = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].species_index))
    model.sample(request_of(priors, GROUPS, ORBITS, species_fixed=species), SamplerConfig(num_steps=3))
    assert (seen[0][:, 0] == 11).all() and (seen[0][1, 1:5] == 94).all()


def test_a_step_does_not_depend_on_the_batch(priors):
    model = model_of(DEFAULT, priors)
    request = request_of(priors, GROUPS, ORBITS)
    one_step = SamplerConfig(num_steps=1)
    whole = model.sample(request, one_step)
    for row in range(8):
        part = request.select(slice(row, row + 1))
        alone = model.sample(part, one_step)
        count = ORBITS[row]
        assert torch.allclose(alone.lattice_k[0], whole.lattice_k[row], atol=1e-4)
        apart = alone.frac_coords[0] - whole.frac_coords[row, :count]
        assert (apart - apart.round()).abs().max() < 1e-5
        assert torch.equal(alone.species_index[0], whole.species_index[row, :count])
        assert torch.equal(alone.site_symmetry[0], whole.site_symmetry[row, :count])


def test_the_same_request_gives_the_same_crystals(priors):
    model = model_of(DEFAULT, priors)
    request = request_of(priors, GROUPS, ORBITS)
    first, second = (model.sample(request, SamplerConfig(num_steps=5)) for _ in range(2))
    for field in fields(first):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name))


def test_the_papers_sampler_runs(priors):
    sampler = SamplerConfig(num_steps=6, corrector_steps=1)
    sampled = model_of(PAPER, priors).sample(request_of(priors, GROUPS, ORBITS), sampler)
    assert torch.isfinite(sampled.frac_coords).all()


@pytest.mark.parametrize(
    ("groups", "orbits", "message"), [([231], [1], "231"), ([0], [1], "0"), ([225], [0], "0 orbits")]
)
def test_impossible_requests_are_named(groups, orbits, message, priors):
    with pytest.raises(ValueError, match=message):
        model_of(DEFAULT, priors).sample(request_of(priors, groups, orbits))


def test_weights_alone_are_in_the_state(priors):
    model = model_of(DEFAULT, priors)
    assert all(name.startswith("network.") for name in model.state_dict())


def test_bfloat16_autocast_trains(priors, records):
    model = model_of(DEFAULT, priors)
    batch = collate(records, range(12))
    noise = noise_of(batch)
    t = model.process.draw_t(noise)
    exact = model.loss(batch, t, noise)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.loss(batch, t, noise)
    rounded.total.backward()
    assert rounded.total.dtype == torch.float32
    assert torch.allclose(exact.total, rounded.total, rtol=0.05)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
