"""Latent optimisation: the property head is answered, and latents stay where latents are."""

from dataclasses import replace

import pytest
import torch
from mofdiff_cases import model_of

from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.models.mofdiff import MOFDiff
from matgen.models.mofdiff_optimise import OptimiseConfig, optimise_latent


def test_latents_are_optimised():
    model, z = model_of(disturbed=False), torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    before = [p.clone() for p in model.parameters()]
    noise = CounterNoise(row_seed(0, torch.arange(3)))
    target = torch.tensor([[0.1, torch.nan], [torch.nan, -0.1], [torch.inf, torch.nan]])
    config = OptimiseConfig(num_steps=200, learning_rate=0.05, prior_weight=0.0)
    found = optimise_latent(model.heads, model.prior, z, target, noise, config)
    told, start = model.heads(found).properties, model.heads(z).properties
    torch.testing.assert_close(told[0, 0], target[0, 0], rtol=0, atol=0.02)
    torch.testing.assert_close(told[1, 1], target[1, 1], rtol=0, atol=0.02)
    assert told[2, 0] > start[2, 0]
    alone = optimise_latent(model.heads, model.prior, z[1:2], target[1:2], CounterNoise(noise.seeds[1:2]), config)
    torch.testing.assert_close(alone, found[1:2], rtol=0, atol=1e-5)
    assert all((a == b).all() for a, b in zip(before, model.parameters()))
    with pytest.raises(ValueError, match="num_steps >= 1"):
        OptimiseConfig(num_steps=0)


@pytest.mark.parametrize("learnt", [True, False], ids=["diffusion", "normal"])
def test_optimised_latents_stay_where_latents_are(learnt):
    """All latents lie near one place; asked for nothing but plausibility, others go there."""
    centre = torch.tensor([1.5, -1.0] * 4) if learnt else torch.zeros(8)
    model = model_of(disturbed=False)
    if learnt:
        learn_latents(model, centre)
    noise = CounterNoise(row_seed(0, torch.arange(4)))
    start = centre + 1.5 * torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    anything = torch.full((4, 2), torch.nan)
    config = OptimiseConfig(num_steps=250, learning_rate=0.03, prior_weight=1.0)
    kept = optimise_latent(model.heads, model.prior if learnt else None, start, anything, noise, config)
    assert ((kept - centre).norm(dim=-1) < 0.6 * (start - centre).norm(dim=-1)).all()
    free = replace(config, prior_weight=0.0)
    torch.testing.assert_close(optimise_latent(model.heads, model.prior, start, anything, noise, free), start)


def learn_latents(model: MOFDiff, centre: torch.Tensor) -> None:
    """Train the latent's distribution on points near one place."""
    optimizer = torch.optim.Adam(model.prior.parameters(), lr=5e-3)
    rng = torch.Generator().manual_seed(0)
    condition = torch.zeros(64, model.prior.condition_dim)
    for _ in range(150):
        z = centre + 0.1 * torch.randn(64, 8, generator=rng)
        t = torch.randint(1, model.prior.num_steps + 1, (64,), generator=rng)
        optimizer.zero_grad()
        model.prior.loss(z, t, condition, torch.randn(64, 8, generator=rng)).mean().backward()
        optimizer.step()
