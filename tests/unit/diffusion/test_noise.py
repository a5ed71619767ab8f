import numpy as np
import pytest
import torch
from scipy import stats

from matgen.diffusion.noise import CounterNoise, _mix, row_seed

N = 100_000
BITS = (1 << 64) - 1
GOLDEN_SEEDS = [-7212274900924222013, 2310384750115694015]
GOLDEN_UNIFORM = [[0.5181222107295375, 0.5053632834149856], [0.9615027200313515, 0.3490415048542137]]
GOLDEN_NORMAL = [[-0.9855462, 0.7810779], [-0.2666557, -0.4089329]]


def noise_of(num_rows, run_seed=0):
    return CounterNoise(row_seed(run_seed, torch.arange(num_rows)))


def python_mix(x):
    """The finaliser of splitmix64 in unbounded integers."""
    x &= BITS
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & BITS
    return x ^ (x >> 31)


def test_mixer_equals_unbounded_integers():
    values = [0, 1, -1, 2**63 - 1, -(2**63), 123456789, -987654321]
    mixed = _mix(torch.tensor(values, dtype=torch.int64)).tolist()
    assert [m & BITS for m in mixed] == [python_mix(v) for v in values]


def test_mixer_reproduces_the_published_generator():
    """First outputs of splitmix64 seeded with 1234567, as printed with its reference implementation."""
    gamma = 0x9E3779B97F4A7C15
    states = [(1234567 + i * gamma) & BITS for i in (1, 2, 3)]
    signed = torch.tensor([s - (1 << 64) if s >= 1 << 63 else s for s in states], dtype=torch.int64)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [m & BITS for m in _mix(signed).tolist()] == expected


def draws():
    """The same number of values laid out along each of the axes that must be independent."""
    one = CounterNoise(row_seed(3, torch.tensor([5])))
    yield "index", lambda kind: getattr(one, kind)(1, 2, (N,))[0]
    yield "rows", lambda kind: getattr(noise_of(N), kind)(1, 2, (1,))[:, 0]
    same = CounterNoise(row_seed(3, torch.tensor([5])).expand(N).contiguous())
    yield "steps", lambda kind: getattr(same, kind)(torch.arange(N), 2, (1,))[:, 0]
    seeds = torch.cat([row_seed(s, torch.tensor([5])) for s in range(2000)])
    yield "run seeds", lambda kind: getattr(CounterNoise(seeds), kind)(1, 2, (50,)).flatten()
    raw = torch.arange(N)
    yield "raw seeds", lambda kind: getattr(CounterNoise(raw), kind)(0, 0, (1,))[:, 0]


AXES = dict(draws())


@pytest.mark.parametrize("axis", AXES)
def test_uniform_numbers(axis):
    u = AXES[axis]("uniform").numpy()
    assert u.min() >= 0 and u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    for place in (1, 256, 65536):  # bits at three depths
        counts = np.bincount(np.floor(u * place * 256).astype(np.int64) % 256, minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-3, place
    assert len(np.unique(u)) == len(u)


@pytest.mark.parametrize("axis", AXES)
def test_normal_numbers(axis):
    z = AXES[axis]("normal").double().numpy()
    assert abs(z.mean()) < 4 / np.sqrt(N)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / N)
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(z)) < 4 * np.sqrt(24 / N)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("lag", [1, 2, 3, 15, 64])
def test_neighbours_are_uncorrelated(axis, lag):
    z = AXES[axis]("normal").double().numpy()
    assert abs(np.mean(z[lag:] * z[:-lag])) < 4 / np.sqrt(N)
    assert abs(np.mean((z[lag:] ** 2 - 1) * (z[:-lag] ** 2 - 1)) / 2) < 4 / np.sqrt(N)


def test_streams_steps_and_kinds_are_uncorrelated():
    noise = noise_of(1000)
    reference = noise.normal(1, 1, (100,)).double().flatten()
    for step, stream in [(1, 0), (1, 2), (0, 1), (2, 1), (1000, 1), (-1, 1), (1, 1000)]:
        other = noise.normal(step, stream, (100,)).double().flatten()
        assert abs(float((reference * other).mean())) < 4 / np.sqrt(N), (step, stream)


def test_the_value_of_a_row_is_its_own():
    """Bitwise: other rows, padding, order and the number of columns drawn do not matter."""
    seeds = row_seed(7, torch.arange(40))
    full = CounterNoise(seeds).normal(9, 3, (6, 3))
    pick = torch.tensor([31, 2, 17])
    assert torch.equal(CounterNoise(seeds[pick]).normal(9, 3, (6, 3)), full[pick])
    assert torch.equal(CounterNoise(seeds).normal(9, 3, (11, 3))[:, :6], full)
    assert torch.equal(CounterNoise(seeds[:1]).normal(9, 3, (1, 3)), full[:1, :1])
    u = CounterNoise(seeds).uniform(9, 3, (6, 15))
    assert torch.equal(CounterNoise(seeds[pick]).uniform(9, 3, (8, 15))[:, :6], u[pick])


def test_step_may_differ_per_row():
    noise = noise_of(4)
    steps = torch.tensor([5, 0, 1000, 7])
    mixed = noise.normal(steps, 1, (3,))
    for row, step in enumerate(steps.tolist()):
        assert torch.equal(mixed[row], noise.normal(step, 1, (3,))[row])


def test_row_seeds_differ():
    ids = torch.arange(20_000)
    seeds = torch.cat([row_seed(s, ids, epoch=e) for s in (0, 1, 2) for e in (0, 1)])
    assert len(seeds.unique()) == len(seeds)


def test_golden_numbers():
    """The stream is part of the file format: the same seed and id must give the same sample in every version."""
    noise = CounterNoise(row_seed(42, torch.tensor([0, 1])))
    assert row_seed(42, torch.tensor([0, 1])).tolist() == GOLDEN_SEEDS
    torch.testing.assert_close(noise.uniform(3, 1, (2,)), torch.tensor(GOLDEN_UNIFORM, dtype=torch.float64))
    torch.testing.assert_close(noise.normal(3, 1, (2,)), torch.tensor(GOLDEN_NORMAL))


def test_float32_uniform_stays_below_one():
    assert CounterNoise(torch.arange(1000)).uniform(0, 0, (2000,), torch.float32).max() < 1


def test_seeds_must_be_int64_rows():
    with pytest.raises((ValueError, TypeError)):
        CounterNoise(torch.arange(4, dtype=torch.int32))
    with pytest.raises(Exception, match=r"(?s)B|int64"):
        CounterNoise(torch.zeros(2, 2, dtype=torch.int64))
