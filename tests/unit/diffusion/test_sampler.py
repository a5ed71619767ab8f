"""A small distribution that is known exactly: with its exact score and posteriors the sampler must reproduce it.

Four kinds of crystal with one orbit. Given its kind, k is normal, coordinates are wrapped normal, classes are fixed.
Everything a perfect network would say of a noisy state follows from the probabilities of the kinds given that state.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from matgen.diffusion.categorical import AbsorbingProcess, CategoricalConfig, one_hot
from matgen.diffusion.joint import Context, Fields, JointConfig, JointProcess
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.sampler import SamplerConfig, run_sampler, time_grid
from matgen.diffusion.schedule import ScheduleConfig
from matgen.diffusion.wrapped_normal import log_density, score

S = 5
WEIGHTS = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
SPREAD_K, SPREAD_X = 0.3, 0.05
_RNG = torch.Generator().manual_seed(0)
CENTRE_K = torch.randn(4, 6, generator=_RNG, dtype=torch.float64)
CENTRE_X = torch.rand(4, 3, generator=_RNG, dtype=torch.float64)
SPECIES = torch.tensor([0, 1, 2, 3])  # species 4 never occurs, though the prior has it
SITE_SYMMETRY = torch.randint(0, 13, (4, 15), generator=_RNG)
SITE_SYMMETRY[:, 0] = torch.tensor([3, 1, 1, 3])


@dataclass(frozen=True)
class Answer:
    lattice_eps: Tensor
    coord_score: Tensor
    species_logits: Tensor
    site_symmetry_logits: Tensor


def log_likelihood(process, x_t, x_0, t, prior):
    """log q(x_t | x_0) of labels, summed over the axes: x_t [N, 1, U], x_0 [4, U], prior [U, C] -> [N, 4]."""
    alpha_bar = process.schedule.alpha_bar[t]
    if isinstance(process, AbsorbingProcess):
        limit = one_hot(torch.tensor(process.mask_state), process.num_states, torch.float64).expand(len(prior), -1)
    else:
        limit = prior
    drawn = limit.expand(len(x_t), -1, -1).gather(-1, x_t[:, 0, :, None])[..., 0]
    kept = (x_t == x_0[None]).double()
    return (alpha_bar * kept + (1 - alpha_bar) * drawn[:, None]).clamp(min=1e-300).log().sum(-1)


class PerfectDenoiser:
    """Bayes' rule in the place of a network."""

    def __init__(self, process, context):
        self.process, self.context, self.called_at = process, context, []

    def __call__(self, state: Fields, t: Tensor) -> Answer:
        t_now, process = int(t[0]), self.process
        self.called_at.append(t_now)
        alpha_bar = process.lattice.schedule.alpha_bar[t_now]
        sigma = (process.coords.schedule.sigma[t_now] ** 2 + SPREAD_X**2).sqrt()
        k_t, x_t = state.lattice_k.double()[:, None], state.frac_coords.double()
        variance = alpha_bar * SPREAD_K**2 + 1 - alpha_bar
        residual = k_t - alpha_bar.sqrt() * CENTRE_K
        log_w = WEIGHTS.log() - (residual**2).sum(-1) / (2 * variance)
        log_w = log_w + log_density(x_t - CENTRE_X, sigma).sum(-1)
        prior = self.context.site_symmetry_prior[0].double()
        log_w = log_w + log_likelihood(process.site_symmetry, state.site_symmetry, SITE_SYMMETRY, t_now, prior)
        species_prior = self.context.species_prior.double()[None]
        log_w = log_w + log_likelihood(
            process.species, state.species_index[..., None], SPECIES[:, None], t_now, species_prior
        )
        w = log_w.softmax(-1)
        eps = (1 - alpha_bar).sqrt() * (w[..., None] * residual).sum(1) / variance
        gradient = (w[..., None] * score(x_t - CENTRE_X, sigma)).sum(1)
        scaled = gradient / process.coords.score_norm[t_now].sqrt()
        symmetry = torch.einsum("nk,kuc->nuc", w, one_hot(SITE_SYMMETRY, 13, torch.float64))
        return Answer(
            eps.float(),
            scaled[:, None].float(),
            (w @ one_hot(SPECIES, S, torch.float64)).log()[:, None],
            symmetry.log()[:, None],
        )


def sample(config, prior="marginal", rows=1000, reach=1.0):
    process = JointProcess(
        JointConfig(
            species=CategoricalConfig(num_classes=S, prior=prior),
            site_symmetry=CategoricalConfig(num_classes=13, prior=prior, schedule=ScheduleConfig(reach=reach)),
        )
    )
    marginal = torch.einsum("k,kuc->uc", WEIGHTS, one_hot(SITE_SYMMETRY, 13, torch.float64))
    context = Context(
        mask=torch.ones(rows, 1, dtype=torch.bool),
        lattice_mask=torch.ones(rows, 6, dtype=torch.bool),
        species_prior=torch.tensor([0.3, 0.3, 0.15, 0.15, 0.1]),
        site_symmetry_prior=(0.9 * marginal + 0.1 / 13).float().expand(rows, 15, 13),
    )
    denoise = PerfectDenoiser(process, context)
    seen = []
    noise = CounterNoise(row_seed(11, torch.arange(rows)))
    x_0 = run_sampler(denoise, process, context, noise, config, lambda *report: seen.append(report[:2]))
    grid = time_grid(config.num_steps, process.num_steps)[:-1]
    assert denoise.called_at == grid.repeat_interleave(1 + config.corrector_steps).tolist()
    assert len(denoise.called_at) == config.num_calls
    assert seen == [(i, config.num_steps) for i in range(1, config.num_steps + 1)]
    return x_0


def assert_distribution(x_0, agreement=0.995):
    """Kinds by chi2; k and coordinates of each kind by Kolmogorov-Smirnov; classes and kinds agree."""
    rows = len(x_0.species_index)
    kind = x_0.species_index[:, 0]
    counts = torch.bincount(kind, minlength=S)
    assert counts[4] == 0
    assert stats.chisquare(counts[:4].numpy(), (WEIGHTS * rows).numpy()).pvalue > 1e-3, counts
    k = (x_0.lattice_k.double() - CENTRE_K[kind]) / SPREAD_K
    x = x_0.frac_coords[:, 0].double() - CENTRE_X[kind]
    x = (x - x.round()) / SPREAD_X
    for name, values in (("k", k), ("x", x)):
        smallest = min(stats.kstest(values[:, i].numpy(), "norm").pvalue for i in range(values.shape[1]))
        assert smallest > 1e-3, (name, smallest, values.std(0))
    agree = (x_0.site_symmetry[:, 0] == SITE_SYMMETRY[kind]).double().mean()
    assert agree > agreement, agree


@pytest.mark.parametrize(("prior", "num_steps"), [("marginal", 1000), ("absorbing", 250)])
def test_many_steps_reproduce_the_distribution(prior, num_steps):
    assert_distribution(sample(SamplerConfig(num_steps=num_steps), prior, rows=300))


def test_predictor_corrector_reproduces_the_distribution():
    assert_distribution(sample(SamplerConfig(num_steps=200, corrector_steps=1), rows=400))


@pytest.mark.parametrize("prior", ["marginal", "absorbing"])
def test_fifty_steps_reproduce_the_distribution(prior):
    # Labels revealed in the same step are drawn independently, and sometimes disagree: the price of long steps.
    assert_distribution(sample(SamplerConfig(num_steps=50), prior), agreement=0.985)


def test_a_field_decided_last_is_decided_rightly():
    """Site symmetry is pure noise above t = 400, and then follows what the other fields have become."""
    assert_distribution(sample(SamplerConfig(num_steps=100), "absorbing", rows=600, reach=0.4), agreement=0.985)


def test_five_steps_are_visibly_worse():
    """So the tests above can fail."""
    with pytest.raises(AssertionError):
        assert_distribution(sample(SamplerConfig(num_steps=5)))


def test_samples_do_not_depend_on_the_batch():
    whole, part = (sample(SamplerConfig(num_steps=20), rows=rows) for rows in (40, 7))
    assert torch.equal(whole.species_index[:7], part.species_index)
    torch.testing.assert_close(whole.frac_coords[:7], part.frac_coords, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize(("n", "total"), [(1, 1000), (2, 1000), (7, 10), (50, 1000), (250, 1000), (1000, 1000), (1, 1)])
def test_time_grid(n, total, power):
    grid = time_grid(n, total, power)
    assert grid.dtype == torch.int64 and len(grid) == n + 1
    assert grid[0] == total and grid[-1] == 0 and (grid.diff() < 0).all()


def test_time_grid_shape():
    assert time_grid(4, 1000).tolist() == [1000, 750, 500, 250, 0]
    assert time_grid(4, 1000, 2.0).tolist() == [1000, 562, 250, 62, 0]
    assert np.array_equal(time_grid(1000, 1000).numpy(), np.arange(1000, -1, -1))


@pytest.mark.parametrize("n", [0, 1001])
def test_time_grid_refuses_what_it_cannot_do(n):
    with pytest.raises(ValueError, match="1 to 1000"):
        time_grid(n, 1000)


def test_bad_settings_are_refused():
    for bad in ({"num_steps": 0}, {"corrector_steps": -1}, {"grid_power": 0.0}):
        with pytest.raises(ValueError):
            SamplerConfig(**bad)
