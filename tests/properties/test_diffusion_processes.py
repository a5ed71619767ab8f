"""What must hold for every shape, step and prior."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matgen.diffusion.categorical import CategoricalConfig, categorical_process, one_hot, sample_categorical
from matgen.diffusion.gaussian import GaussianConfig, GaussianProcess
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.sampler import time_grid
from matgen.diffusion.schedule import NoiseSchedule, ScheduleConfig, SigmaConfig
from matgen.diffusion.wrapped_normal import WrappedNormalConfig, WrappedNormalProcess, score, wrap

seeds = st.integers(0, 2**31)
kinds = st.sampled_from(["cosine", "linear", "sigmoid"])
fast = settings(max_examples=40, deadline=None)


@st.composite
def two_steps(draw, total=60):
    """T, and rows of t and s with 0 <= s < t <= T."""
    rows = draw(st.integers(1, 5))
    t = [draw(st.integers(1, total)) for _ in range(rows)]
    s = [draw(st.integers(0, high - 1)) for high in t]
    return total, torch.tensor(t), torch.tensor(s)


@fast
@given(
    steps=two_steps(),
    prior_kind=st.sampled_from(["marginal", "absorbing"]),
    kind=kinds,
    seed=seeds,
    zeros=st.booleans(),
)
def test_categorical_posterior_is_a_distribution(steps, prior_kind, kind, seed, zeros):
    total, t, s = steps
    rng = torch.Generator().manual_seed(seed)
    schedule = ScheduleConfig(kind=kind, num_steps=total)
    p = categorical_process(CategoricalConfig(num_classes=6, prior=prior_kind, schedule=schedule))
    prior = torch.rand(len(t), 1, 6, generator=rng)
    if zeros:
        prior[..., ::2] = 0
    prior = prior / prior.sum(-1, keepdim=True)
    guess = torch.randn(len(t), 3, 6, generator=rng).mul(5).softmax(-1)
    z = torch.randint(0, p.num_states, (len(t), 3), generator=rng)
    probs = p.posterior_probs(z, guess, t, s, prior)
    assert torch.isfinite(probs).all() and (probs >= 0).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(len(t), 3), rtol=1e-4, atol=1e-4)
    drawn = sample_categorical(probs, torch.rand(len(t), 3, generator=rng, dtype=torch.float64))
    assert (probs.gather(-1, drawn[..., None]) > 0).all()


@fast
@given(steps=two_steps(), prior_kind=st.sampled_from(["marginal", "absorbing"]), seed=seeds)
def test_known_data_are_reached_at_zero(steps, prior_kind, seed):
    total, t, _ = steps
    rng = torch.Generator().manual_seed(seed)
    schedule = ScheduleConfig(num_steps=total)
    p = categorical_process(CategoricalConfig(num_classes=6, prior=prior_kind, schedule=schedule))
    prior = torch.rand(6, generator=rng).softmax(0)
    x_0 = torch.randint(0, 6, (len(t), 4), generator=rng)
    u = torch.rand(len(t), 4, generator=rng, dtype=torch.float64)
    x_t = p.corrupt(x_0, t, prior, u)
    assert torch.equal(p.reverse_step(x_t, one_hot(x_0, 6), t, torch.zeros_like(t), prior, u), x_0)


@fast
@given(steps=two_steps(), kind=kinds, eta=st.floats(0, 1), seed=seeds)
def test_gaussian_step_is_finite_and_shrinks_to_the_data(steps, kind, eta, seed):
    total, t, s = steps
    rng = torch.Generator().manual_seed(seed)
    p = GaussianProcess(GaussianConfig(schedule=ScheduleConfig(kind=kind, num_steps=total), x_0_limit=None))
    x_0, eps, z = (torch.randn(len(t), 6, generator=rng, dtype=torch.float64) for _ in range(3))
    x_t = p.corrupt(x_0, t, eps)
    assert torch.isfinite(p.reverse_step(x_t, eps, t, s, z, eta)).all()
    back = p.reverse_step(x_t, eps, t, torch.zeros_like(t), z, eta)
    torch.testing.assert_close(back, x_0, rtol=1e-6, atol=1e-6)


@fast
@given(x=st.floats(-1e3, 1e3, width=32))
def test_wrap_is_in_the_unit_interval(x):
    value = float(wrap(torch.tensor([x], dtype=torch.float32)))
    assert 0 <= value < 1
    assert abs((value - x) - round(value - x)) < 1e-4


@settings(max_examples=200, deadline=None)
@given(y=st.floats(-3, 3), sigma=st.floats(0.001, 2))
def test_score_is_the_slope_of_the_density(y, sigma):
    """Against the derivative of a plain sum of 201 images, wherever it is not lost to rounding."""
    images = torch.arange(-100, 101, dtype=torch.float64)
    x = torch.tensor([y], dtype=torch.float64, requires_grad=True)
    log_p = torch.logsumexp(-((x - x.detach().round() + images) ** 2) / (2 * sigma**2), 0)
    (expected,) = torch.autograd.grad(log_p, x)
    actual = score(x.detach(), torch.tensor(sigma, dtype=torch.float64))
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9 / sigma**2)


@fast
@given(steps=two_steps(), eta=st.floats(0, 1), seed=seeds)
def test_wrapped_step_stays_in_the_cell(steps, eta, seed):
    total, t, s = steps
    rng = torch.Generator().manual_seed(seed)
    p = WrappedNormalProcess(WrappedNormalConfig(sigmas=SigmaConfig(num_steps=total)))
    x_0, eps, z = (torch.randn(len(t), 4, 3, generator=rng) for _ in range(3))
    x_t, target = p.corrupt(x_0, t, eps)
    x_s = p.reverse_step(x_t, p.unscale(target, t), t, s, z, eta)
    for x in (x_t, x_s, p.corrector_step(x_t, p.unscale(target, t), t, 1e-5, z)):
        assert ((x >= 0) & (x < 1)).all()


@fast
@given(kind=kinds, num_steps=st.integers(2, 300))
def test_schedules_decrease(kind, num_steps):
    alpha_bar = NoiseSchedule(ScheduleConfig(kind=kind, num_steps=num_steps)).alpha_bar
    assert alpha_bar[0] == 1 and (alpha_bar.diff() < 0).all() and alpha_bar[-1] > 0


@fast
@given(total=st.integers(1, 2000), share=st.floats(0, 1), power=st.floats(0.2, 5))
def test_time_grid_is_strictly_decreasing(total, share, power):
    n = max(1, round(share * total))
    grid = time_grid(n, total, power)
    assert len(grid) == n + 1 and grid[0] == total and grid[-1] == 0 and (grid.diff() < 0).all()


@fast
@given(
    run_seed=st.integers(0, 2**64 - 1),
    step=st.integers(-(2**40), 2**40),
    stream=st.integers(0, 1000),
    rows=st.integers(1, 8),
    slots=st.integers(1, 9),
    extra=st.integers(0, 5),
)
def test_noise_belongs_to_its_row_and_index(run_seed, step, stream, rows, slots, extra):
    row_seeds = row_seed(run_seed, torch.arange(rows))
    small = CounterNoise(row_seeds).normal(step, stream, (slots, 3))
    large = CounterNoise(row_seeds.flip(0)).normal(step, stream, (slots + extra, 3)).flip(0)
    assert torch.equal(small, large[:, :slots])
    assert torch.isfinite(small).all()
