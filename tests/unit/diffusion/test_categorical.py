"""Against Bayes' rule with explicit transition matrices, multiplied out step by step in float64."""

import pytest
import torch
from scipy import stats

from matgen.diffusion.categorical import (
    AbsorbingProcess,
    CategoricalConfig,
    MarginalProcess,
    categorical_process,
    one_hot,
    sample_categorical,
)
from matgen.diffusion.schedule import ScheduleConfig

T, K = 25, 5
PAIRS = [(25, 24), (25, 0), (13, 12), (13, 4), (2, 1), (1, 0), (25, 1)]
PRIORS = ["marginal", "absorbing"]


def process(prior, kind="cosine", num_steps=T, reach=1.0):
    schedule = ScheduleConfig(kind=kind, num_steps=num_steps, reach=reach)
    return categorical_process(CategoricalConfig(num_classes=K, prior=prior, schedule=schedule))


def random_probs(*shape, seed=0):
    return (
        torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log().mul(-1).softmax(-1)
    )


def chain(p, prior, start, end):
    """Transition matrix from start to end: the product of the one-step matrices, rows from, columns to."""
    limit = prior
    if isinstance(p, AbsorbingProcess):
        limit = torch.zeros(p.num_states, dtype=torch.float64)
        limit[p.mask_state] = 1
    matrix = torch.eye(p.num_states, dtype=torch.float64)
    for t in range(start + 1, end + 1):
        alpha = float(p.schedule.alpha[t])
        matrix = matrix @ (
            alpha * torch.eye(p.num_states, dtype=torch.float64) + (1 - alpha) * limit.expand(p.num_states, -1)
        )
    return matrix


def bayes(p, prior, z, x_0_probs, t, s):
    """sum over x_0 of p(x_0) q(x_s | x_0) q(x_t = z | x_s) / q(x_t = z | x_0)."""
    from_0, onward = chain(p, prior, 0, s), chain(p, prior, s, t)
    joint = from_0[:K] * onward[:, z]
    evidence = joint.sum(1, keepdim=True)
    return (x_0_probs[:, None] * joint / evidence.clamp(min=1e-300)).sum(0)


@pytest.mark.parametrize("kind", ["cosine", "linear", "sigmoid"])
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_marginal_posterior_equals_bayes(kind, t, s):
    p, prior, guess = process("marginal", kind), random_probs(K, seed=1), random_probs(K, seed=2)
    z = torch.arange(K)
    actual = p.posterior_probs(z, guess.expand(K, K), torch.full((K,), t), torch.full((K,), s), prior)
    expected = torch.stack([bayes(p, prior, int(i), guess, t, s) for i in z])
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("reach", [0.4, 1.0])
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_absorbing_posterior_equals_bayes(t, s, reach):
    p, guess = process("absorbing", reach=reach), random_probs(K, seed=2)
    prior = random_probs(K, seed=1)
    rows = []
    for z in range(K):  # a revealed label is evidence: only x_0 = z can have led to it
        rows.append(bayes(p, prior, z, one_hot(torch.tensor(z), K, torch.float64), t, s))
    rows.append(bayes(p, prior, K, guess, t, s))
    z = torch.arange(K + 1)
    actual = p.posterior_probs(z, guess.expand(K + 1, K), torch.full((K + 1,), t), torch.full((K + 1,), s), prior)
    torch.testing.assert_close(actual, torch.stack(rows), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("prior_kind", PRIORS)
def test_posterior_rows_sum_to_one(prior_kind):
    p, prior = process(prior_kind, num_steps=1000), random_probs(4, 1, K, seed=3)
    z = torch.randint(0, K, (4, 7))
    t, s = torch.tensor([1000, 500, 2, 1]), torch.tensor([999, 100, 1, 0])
    probs = p.posterior_probs(z, random_probs(4, 7, K, seed=4).float(), t, s, prior.float())
    assert probs.shape == (4, 7, p.num_states)
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(-1), torch.ones(4, 7))


@pytest.mark.parametrize("prior_kind", PRIORS)
@pytest.mark.parametrize("t", [1, 6, 25])
def test_corrupt_has_the_rows_of_the_chain(prior_kind, t):
    p, prior, n = process(prior_kind), random_probs(K, seed=5), 20_000
    u = torch.rand(K, n, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    x_0 = torch.arange(K)[:, None].expand(K, n)
    x_t = p.corrupt(x_0, torch.full((K,), t), prior, u)
    expected = chain(p, prior, 0, t)[:K] * n
    for k in range(K):
        counts = torch.bincount(x_t[k], minlength=p.num_states).double()
        possible = expected[k] > 1e-9
        assert counts[~possible].sum() == 0
        observed, wanted = counts[possible].numpy(), expected[k][possible].numpy()
        assert len(wanted) == 1 or stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3


@pytest.mark.parametrize("prior_kind", PRIORS)
def test_corrupt_at_T_is_the_prior_sample(prior_kind):
    p, prior = process(prior_kind, num_steps=1000), random_probs(K, seed=7)
    u = torch.rand(3, 5000, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    noisy = p.corrupt(torch.zeros(3, 5000, dtype=torch.int64), torch.full((3,), 1000), prior, u)
    assert (noisy == p.prior_sample(prior, u)).double().mean() > 0.999


@pytest.mark.parametrize("prior_kind", PRIORS)
def test_corrupt_at_0_is_the_data(prior_kind):
    p = process(prior_kind)
    x_0 = torch.randint(0, K, (3, 50))
    u = torch.rand(3, 50, dtype=torch.float64)
    assert torch.equal(p.corrupt(x_0, torch.zeros(3, dtype=torch.int64), random_probs(K), u), x_0)


@pytest.mark.parametrize("prior_kind", PRIORS)
@pytest.mark.parametrize(("t", "s", "r"), [(25, 10, 3), (9, 8, 7), (20, 4, 0)])
def test_posteriors_chain(prior_kind, t, s, r):
    """q(x_r | x_t, x_0) = sum over x_s of q(x_r | x_s, x_0) q(x_s | x_t, x_0)."""
    p, prior = process(prior_kind), random_probs(K, seed=9)

    def matrix(high, low, x_0):
        n = p.num_states
        z, guess = torch.arange(n), one_hot(torch.tensor(x_0), K, torch.float64).expand(n, K)
        return p.posterior_probs(z, guess, torch.full((n,), high), torch.full((n,), low), prior)

    for x_0 in range(K):
        reachable = [x_0, p.mask_state] if prior_kind == "absorbing" else list(range(K))
        two = matrix(t, s, x_0) @ matrix(s, r, x_0)
        torch.testing.assert_close(two[reachable], matrix(t, r, x_0)[reachable], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("prior_kind", PRIORS)
def test_posterior_keeps_the_marginal(prior_kind):
    """sum over x_t of q(x_s | x_t, x_0) q(x_t | x_0) = q(x_s | x_0)."""
    p, prior, t, s = process(prior_kind), random_probs(K, seed=10), 18, 7
    n = p.num_states
    for x_0 in range(K):
        guess = one_hot(torch.tensor(x_0), K, torch.float64).expand(n, K)
        posterior = p.posterior_probs(torch.arange(n), guess, torch.full((n,), t), torch.full((n,), s), prior)
        torch.testing.assert_close(chain(p, prior, 0, t)[x_0] @ posterior, chain(p, prior, 0, s)[x_0])


def test_a_class_outside_the_prior_is_no_special_case():
    """Zero prior weight: exact for a certain x_0, normalised for any other prediction, and no way to get stuck."""
    p = process("marginal")
    prior = torch.tensor([0.5, 0.5, 0, 0, 0], dtype=torch.float64)
    t, s, z = torch.tensor([13]), torch.tensor([4]), torch.tensor([3])
    certain = one_hot(z, K, torch.float64)
    torch.testing.assert_close(p.posterior_probs(z, certain, t, s, prior), certain)
    guess = torch.tensor([[0.9, 0.1, 0, 0, 0]], dtype=torch.float64)
    probs = p.posterior_probs(z, guess, t, s, prior)
    torch.testing.assert_close(probs.sum(-1), torch.ones(1, dtype=torch.float64))
    assert probs[0, 0] > probs[0, 1] > 0
    final = p.posterior_probs(z, guess, t, torch.tensor([0]), prior)
    torch.testing.assert_close(final, guess)


def test_marginal_prior_per_crystal_and_axis():
    """[B, 1, 15, 13] priors broadcast over orbits: equal to the rows done one by one."""
    p = MarginalProcess(CategoricalConfig(num_classes=13, schedule=ScheduleConfig(num_steps=T)))
    prior, guess = random_probs(2, 1, 15, 13, seed=11), random_probs(2, 3, 15, 13, seed=12)
    z = torch.randint(0, 13, (2, 3, 15), generator=torch.Generator().manual_seed(13))
    t, s = torch.tensor([20, 7]), torch.tensor([11, 6])
    together = p.posterior_probs(z, guess, t, s, prior)
    for b, m, u in [(0, 0, 0), (1, 2, 14), (1, 0, 7)]:
        alone = p.posterior_probs(
            z[b : b + 1, m, u], guess[b : b + 1, m, u], t[b : b + 1], s[b : b + 1], prior[b, 0, u]
        )
        torch.testing.assert_close(together[b, m, u], alone[0])


def test_sample_categorical_inverts_the_distribution():
    probs = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    u = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2.0**-53], dtype=torch.float64)
    assert sample_categorical(probs, u).tolist() == [1, 1, 3, 3, 4, 4]


def test_sample_categorical_never_draws_the_impossible():
    probs = random_probs(200, 40, seed=14).float()
    probs[:, ::2] = 0
    for u in (0.0, 0.3, 1 - 2.0**-53):
        drawn = sample_categorical(probs, torch.full((200,), u, dtype=torch.float64))
        assert (probs.gather(1, drawn[:, None]) > 0).all()


def test_one_uniform_number_serves_both_decisions():
    """Given that a label is redrawn, the redraw must follow the prior (and not the upper tail of it)."""
    p, prior, n = process("marginal"), random_probs(K, seed=15), 50_000
    u = torch.rand(1, n, generator=torch.Generator().manual_seed(16), dtype=torch.float64)
    t = 12
    redrawn = u[0] >= float(p.schedule.alpha_bar[t])
    x_t = p.corrupt(torch.zeros(1, n, dtype=torch.int64), torch.tensor([t]), prior, u)[0][redrawn]
    counts = torch.bincount(x_t, minlength=K).numpy()
    assert stats.chisquare(counts, (prior * len(x_t)).numpy()).pvalue > 1e-3


def test_reverse_step_draws_from_the_posterior():
    p, prior, n = process("marginal"), random_probs(K, seed=17), 20_000
    guess = random_probs(K, seed=18).expand(1, n, K)
    z, t, s = torch.full((1, n), 2), torch.tensor([14]), torch.tensor([9])
    u = torch.rand(1, n, generator=torch.Generator().manual_seed(19), dtype=torch.float64)
    counts = torch.bincount(p.reverse_step(z, guess, t, s, prior, u)[0], minlength=K).numpy()
    expected = p.posterior_probs(z, guess, t, s, prior)[0, 0].numpy() * n
    assert stats.chisquare(counts, expected * n / expected.sum()).pvalue > 1e-3


def test_states_and_names():
    assert process("marginal").num_states == K
    assert process("absorbing").num_states == K + 1
    with pytest.raises((ValueError, TypeError)):
        categorical_process(CategoricalConfig(num_classes=3, prior="uniform"))
