"""Against a brute-force Markov chain: x_t = sqrt(alpha_t) x_{t-1} + sqrt(beta_t) z, multiplied out step by step."""

import pytest
import torch

from matgen.diffusion.gaussian import GaussianConfig, GaussianProcess
from matgen.diffusion.schedule import ScheduleConfig

T = 30
PAIRS = [(30, 29), (30, 0), (17, 16), (17, 3), (5, 1), (1, 0)]


def process(kind="cosine", limit=None):
    return GaussianProcess(GaussianConfig(schedule=ScheduleConfig(kind=kind, num_steps=T), x_0_limit=limit))


def row(value):
    return torch.tensor([value], dtype=torch.int64)


def scalar(value):
    return torch.tensor([[value]], dtype=torch.float64)


def chain(p, start, end):
    """Coefficient and variance of x_end given x_start, by single steps."""
    coefficient, variance = 1.0, 0.0
    for t in range(start + 1, end + 1):
        beta = float(p.schedule.beta[t])
        coefficient *= (1 - beta) ** 0.5
        variance = (1 - beta) * variance + beta
    return coefficient, variance


def step(p, x_t, x_0, t, s, z, eta=1.0):
    alpha_bar = float(p.schedule.alpha_bar[t])
    eps = (x_t - alpha_bar**0.5 * x_0) / (1 - alpha_bar) ** 0.5
    return float(p.reverse_step(scalar(x_t), scalar(eps), row(t), row(s), scalar(z), eta))


@pytest.mark.parametrize("kind", ["cosine", "linear", "sigmoid"])
@pytest.mark.parametrize("t", [1, 7, 30])
def test_corrupt_equals_the_chain(kind, t):
    p = process(kind)
    coefficient, variance = chain(p, 0, t)
    zero, one = scalar(0.0), scalar(1.0)
    assert float(p.corrupt(one, row(t), zero)) == pytest.approx(coefficient, rel=1e-12)
    assert float(p.corrupt(zero, row(t), one)) == pytest.approx(variance**0.5, rel=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "linear", "sigmoid"])
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_reverse_step_equals_bayes(kind, t, s):
    """Conditioning the joint normal of (x_s, x_t) given x_0 on x_t."""
    p = process(kind)
    x_0, x_t = 0.7, -1.3
    c_s, v_s = chain(p, 0, s)
    c_ts, v_ts = chain(p, s, t)
    covariance, v_t = c_ts * v_s, c_ts**2 * v_s + v_ts
    mean = c_s * x_0 + covariance / v_t * (x_t - c_ts * c_s * x_0)
    deviation = max(v_s - covariance**2 / v_t, 0.0) ** 0.5
    assert step(p, x_t, x_0, t, s, 0.0) == pytest.approx(mean, rel=1e-6, abs=1e-9)
    assert step(p, x_t, x_0, t, s, 1.0) - step(p, x_t, x_0, t, s, 0.0) == pytest.approx(deviation, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.0])
@pytest.mark.parametrize(("t", "s", "r"), [(30, 12, 4), (20, 19, 18), (9, 3, 0)])
def test_two_steps_have_the_marginal_of_one(eta, t, s, r):
    """From x_t ~ q(x_t | x_0), any way down leads to q(x_r | x_0): mean and variance are propagated exactly."""
    p, x_0 = process(), 0.4
    mean, variance = float(p.schedule.alpha_bar[t]) ** 0.5 * x_0, 1 - float(p.schedule.alpha_bar[t])
    for high, low in [(t, s), (s, r)]:
        offset = step(p, 0.0, x_0, high, low, 0.0, eta)
        slope = step(p, 1.0, x_0, high, low, 0.0, eta) - offset
        spread = step(p, 0.0, x_0, high, low, 1.0, eta) - offset
        mean, variance = offset + slope * mean, slope**2 * variance + spread**2
    assert mean == pytest.approx(float(p.schedule.alpha_bar[r]) ** 0.5 * x_0, rel=1e-6)
    assert variance == pytest.approx(1 - float(p.schedule.alpha_bar[r]), rel=1e-6, abs=1e-9)


def test_the_last_step_is_the_estimate_of_x_0():
    p = process()
    assert step(p, 2.0, -0.25, 12, 0, 5.0) == pytest.approx(-0.25, rel=1e-9)


def test_deterministic_step_ignores_noise():
    p = process()
    assert step(p, 1.0, 0.2, 20, 5, 0.0, eta=0.0) == step(p, 1.0, 0.2, 20, 5, 3.0, eta=0.0)


def test_estimate_inverts_corrupt():
    p = process()
    x_0, eps, t = torch.randn(5, 6).double(), torch.randn(5, 6).double(), torch.tensor([1, 3, 10, 20, 28])
    torch.testing.assert_close(p.estimate_x_0(p.corrupt(x_0, t, eps), eps, t), x_0)


def test_limit_tames_a_wrong_prediction_at_the_noisy_end():
    """1 % error of eps at T: unlimited, a long step throws the state out by tens of its standard deviation."""
    x_t, eps = torch.ones(1, 6), torch.full((1, 6), 0.9)
    long = {"t": row(1000), "s": row(990), "noise": torch.zeros(1, 6)}
    plain, limited = (GaussianProcess(GaussianConfig(x_0_limit=limit)) for limit in (None, 10.0))
    assert plain.reverse_step(x_t, eps, **long).abs().max() > 20
    assert limited.reverse_step(x_t, eps, **long).abs().max() < 1


def test_limit_changes_nothing_within():
    x_t, eps = torch.randn(64, 6), torch.randn(64, 6)
    t, s = torch.full((64,), 12), torch.full((64,), 3)
    wide, plain = process(limit=100.0), process()
    z = torch.randn(64, 6)
    torch.testing.assert_close(wide.reverse_step(x_t, eps, t, s, z), plain.reverse_step(x_t, eps, t, s, z))
