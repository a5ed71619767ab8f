"""Against a plain float64 sum of 401 images, its automatic derivative, Monte Carlo, and simulation."""

import time

import numpy as np
import pytest
import torch
from scipy import stats

from matgen.diffusion.schedule import SigmaConfig
from matgen.diffusion.wrapped_normal import (
    WrappedNormalConfig,
    WrappedNormalProcess,
    log_density,
    score,
    score_norm,
    wrap,
)

IMAGES = torch.arange(-200, 201, dtype=torch.float64)
SIGMAS = [0.001, 0.005, 0.02, 0.1, 0.2, 0.29, 0.299999, 0.3, 0.300001, 0.35, 0.5, 0.7, 1.0, 2.0]


def naive_log_density(y, sigma):
    exponent = -((y[..., None] + IMAGES) ** 2) / (2 * sigma**2)
    return torch.logsumexp(exponent, -1) - np.log(sigma * np.sqrt(2 * np.pi))


def process(**settings):
    return WrappedNormalProcess(WrappedNormalConfig(sigmas=SigmaConfig(**settings)))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_score_is_the_derivative_of_the_log_density(sigma):
    y = torch.linspace(-0.4987, 1.7, 801, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(naive_log_density(y, sigma).sum(), y)
    actual = score(y.detach(), torch.tensor(sigma))
    # For large sigma the naive sum cancels to its last digits (the score falls as exp(-2 pi^2 sigma^2)), so compare
    # with the scale of what cancels; test_score_for_large_sigma is exact there.
    scale = expected.abs().max() + 1e-9 / sigma**2
    assert ((actual - expected).abs().max() / scale) < 1e-6
    relative = (actual - expected).abs() / (expected.abs() + 1e-7 * scale)
    if sigma <= 0.7:
        assert relative.max() < 1e-6


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0])
def test_score_for_large_sigma(sigma):
    """The first harmonic alone, exact to q^2 relative."""
    y = torch.tensor([0.01, 0.1, 0.25, 0.4, 0.49], dtype=torch.float64)
    q = np.exp(-2 * np.pi**2 * sigma**2)
    first = -4 * np.pi * q * torch.sin(2 * np.pi * y) / (1 + 2 * q * torch.cos(2 * np.pi * y))
    actual = score(y, torch.tensor(sigma, dtype=torch.float64))
    assert ((actual - first) / first).abs().max() < max(10 * q**3, 1e-10)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_log_density(sigma):
    y = torch.linspace(-0.5, 0.5, 301, dtype=torch.float64)
    torch.testing.assert_close(
        log_density(y, torch.tensor(sigma, dtype=torch.float64)), naive_log_density(y, sigma), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("sigma", [0.001, 0.005, 0.05, 0.3, 1.0])
def test_score_is_odd_periodic_and_finite(sigma):
    y = torch.linspace(-0.5, 0.5, 1001, dtype=torch.float64)
    s = torch.tensor(sigma, dtype=torch.float64)
    assert torch.isfinite(score(y, s)).all()
    torch.testing.assert_close(score(-y, s), -score(y, s))
    assert float(score(torch.tensor(0.0), s)) == 0
    inner = y[1:-1]
    torch.testing.assert_close(score(inner + 3, s), score(inner, s), rtol=1e-6, atol=1e-6 / sigma**2)


def test_score_next_to_the_cut_for_tiny_sigma():
    """At y = 1/2 - d both images weigh exp(-+ d / 2 sigma^2): a tanh, which float noise in y^2 would destroy."""
    sigma, d = 0.001, torch.tensor([1e-7, 5e-7, 1e-6, 3e-6], dtype=torch.float64)
    y = 0.5 - d
    right = torch.sigmoid(-(1 - 2 * y) / (2 * sigma**2))
    expected = -(y - right) / sigma**2
    torch.testing.assert_close(score(y, torch.tensor(sigma, dtype=torch.float64)), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("sigma", [0.005, 0.05, 0.15, 0.3, 0.5])
def test_score_norm_against_monte_carlo(sigma):
    rng = torch.Generator().manual_seed(0)
    y = sigma * torch.randn(200_000, generator=rng, dtype=torch.float64)
    squares = score(y, torch.tensor(sigma)) ** 2
    error = float(squares.std()) / len(y) ** 0.5
    expected = float(score_norm(torch.tensor([sigma], dtype=torch.float64)))
    assert abs(float(squares.mean()) - expected) < 4 * error
    assert error < 0.01 * expected


@pytest.mark.parametrize("sigma", [0.001, 0.04, 0.0417, 0.08, 0.12, 0.2, 0.3, 0.5, 1.0])
def test_score_norm_against_a_dense_trapezoid(sigma):
    y = torch.linspace(-0.5, 0.5, 200_001, dtype=torch.float64)[:-1]
    s = torch.tensor(sigma, dtype=torch.float64)
    dense = float((score(y, s) ** 2 * log_density(y, s).exp()).mean())
    assert float(score_norm(s[None])) == pytest.approx(dense, rel=1e-8)


def test_score_norm_is_fast_and_repeatable():
    sigma = torch.logspace(-3, -0.3, 1000, dtype=torch.float64)
    start = time.process_time()
    first = score_norm(sigma)
    assert time.process_time() - start < 1.0  # about 0.05 s alone; wide, for shared machines
    assert torch.equal(first, score_norm(sigma))


def test_target_has_unit_mean_square_at_every_t():
    p = process()
    t = torch.tensor([1, 200, 600, 900, 1000])
    eps = torch.randn(5, 100_000, 3, generator=torch.Generator().manual_seed(1))
    _, target = p.corrupt(torch.zeros(5, 100_000, 3), t, eps)
    torch.testing.assert_close((target**2).mean((1, 2)), torch.ones(5), rtol=0.02, atol=0)


def test_target_and_state_belong_together():
    """The target times sqrt(lambda) is the score at the actual displacement of x_t from x_0."""
    p = process()
    rng = torch.Generator().manual_seed(2)
    x_0, eps = torch.rand(64, 5, 3, generator=rng).double(), torch.randn(64, 5, 3, generator=rng).double()
    t = torch.arange(1, 1000, 16)[:64].clamp(min=1)
    x_0, eps = x_0[: len(t)], eps[: len(t)]
    x_t, target = p.corrupt(x_0, t, eps)
    assert x_t.min() >= 0 and x_t.max() < 1
    sigma = p.schedule.sigma_at(t)[:, None, None]
    torch.testing.assert_close(p.unscale(target, t), score(x_t - x_0, sigma), rtol=1e-6, atol=1e-6)


def test_state_at_T_is_nearly_uniform():
    """sigma_T = 0.5 leaves a first harmonic of 2 exp(-2 pi^2 / 4) = 1.4 % in the density, and no more."""
    p = process()
    x_0 = torch.full((1, 3000, 3), 0.3)
    eps = torch.randn(1, 3000, 3, generator=torch.Generator().manual_seed(3))
    x_t, _ = p.corrupt(x_0, torch.tensor([1000]), eps)
    assert stats.kstest(x_t.flatten().numpy(), "uniform").pvalue > 1e-3
    assert log_density(torch.linspace(0, 1, 101), p.schedule.sigma[-1]).abs().max() < 0.0145


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.0])
@pytest.mark.parametrize(("t", "s"), [(1000, 999), (500, 490), (500, 1), (20, 0)])
def test_reverse_step_keeps_the_marginal(eta, t, s):
    """Given x_0, far from the cut: y_t ~ N(0, sigma_t^2) must become N(0, sigma_s^2), exactly, for any s and eta."""
    p = process(sigma_min=1e-6, sigma_max=1e-3)
    sigma_t, sigma_s = float(p.schedule.sigma[t]), float(p.schedule.sigma[s])

    def at(y, z):
        args = [torch.tensor([[v]], dtype=torch.float64) for v in (0.5 + y, -y / sigma_t**2)]
        noise = torch.tensor([[z]], dtype=torch.float64)
        return float(p.reverse_step(*args, torch.tensor([t]), torch.tensor([s]), noise, eta)) - 0.5

    slope, spread = at(sigma_t, 0.0) / sigma_t, at(0.0, 1.0)
    assert slope**2 * sigma_t**2 + spread**2 == pytest.approx(sigma_s**2, rel=1e-6, abs=1e-18)
    if eta == 1.0:  # and is the posterior of the chain: regression of y_s on y_t with covariance sigma_s^2
        assert slope == pytest.approx(sigma_s**2 / sigma_t**2, rel=1e-6, abs=1e-9)
        assert spread**2 == pytest.approx(sigma_s**2 - sigma_s**4 / sigma_t**2, rel=1e-6, abs=1e-18)


def test_corrector_leaves_the_distribution_alone():
    """Langevin steps from the uniform distribution arrive at the wrapped normal, and stay there."""
    p = process()
    t = torch.tensor([700])
    sigma = p.schedule.sigma_at(t)
    rng = torch.Generator().manual_seed(4)
    x = torch.rand(1, 20_000, generator=rng, dtype=torch.float64)
    step_size = 0.05 * float(p.config.sigmas.sigma_min) ** 2  # eta = 0.05 sigma^2
    for _ in range(400):
        z = torch.randn(1, 20_000, generator=rng, dtype=torch.float64)
        x = p.corrector_step(x, score(x, sigma[:, None]), t, step_size, z)
    y = (x - x.round()).flatten().numpy() / float(sigma)
    assert abs(y.mean()) < 4 / 20_000**0.5
    assert y.var() == pytest.approx(1, abs=0.07)  # the step's own bias is 2.5 %
    assert stats.kstest(y / y.std(), "norm").pvalue > 1e-3


def test_wrap_stays_below_one():
    x = torch.tensor([-1e-9, -1e-20, 1.0, 2.5, -0.25, 0.999999999], dtype=torch.float32)
    assert (wrap(x) >= 0).all() and (wrap(x) < 1).all()
    torch.testing.assert_close(wrap(torch.tensor([2.5, -0.25])), torch.tensor([0.5, 0.75]))
