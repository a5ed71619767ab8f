import math

import pytest
import torch

from matgen.diffusion.schedule import NoiseSchedule, ScheduleConfig, SigmaConfig, SigmaSchedule, broadcast_rows

KINDS = ["cosine", "linear", "sigmoid"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_steps", [10, 50, 1000])
def test_tables_are_consistent(kind, num_steps):
    schedule = NoiseSchedule(ScheduleConfig(kind=kind, num_steps=num_steps))
    assert schedule.alpha_bar.shape == (num_steps + 1,)
    assert schedule.alpha_bar.dtype == torch.float64
    assert schedule.alpha_bar[0] == 1 and schedule.beta[0] == 0
    assert (schedule.alpha_bar.diff() < 0).all()
    product = 1.0
    for t in range(num_steps + 1):
        product *= 1 - float(schedule.beta[t])
        assert float(schedule.alpha_bar[t]) == pytest.approx(product, rel=1e-12)
    assert schedule.beta[1:].min() >= 1e-4 and schedule.beta.max() <= 0.9999


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_the_data_at_the_end(kind):
    assert NoiseSchedule(ScheduleConfig(kind=kind)).alpha_bar[-1] < 1e-3


def test_cosine_values():
    """cos^2 of the paper, away from the clipped ends."""
    schedule = NoiseSchedule(ScheduleConfig(kind="cosine", beta_min=0.0))

    def level(x):
        return math.cos((x + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (1, 100, 500, 900, 999):
        assert float(schedule.alpha_bar[t]) == pytest.approx(level(t / 1000) / level(0), rel=1e-9)


def test_linear_scales_with_the_number_of_steps():
    long, short = (NoiseSchedule(ScheduleConfig(kind="linear", num_steps=n)) for n in (1000, 500))
    assert float(long.alpha_bar[500]) == pytest.approx(float(short.alpha_bar[250]), rel=0.01)


@pytest.mark.parametrize("kind", ["cosine", "sigmoid"])
@pytest.mark.parametrize("reach", [0.3, 0.5, 1.0])
def test_reach_compresses_the_schedule(kind, reach):
    """The same levels in a shorter time, then noise that still decreases."""
    whole, part = (NoiseSchedule(ScheduleConfig(kind=kind, reach=r, beta_min=0.0)) for r in (1.0, reach))
    for share in (0.2, 0.5, 0.8):
        levels = [float(schedule.alpha_bar[round(1000 * share * r)]) for schedule, r in ((whole, 1.0), (part, reach))]
        assert levels[0] == pytest.approx(levels[1], rel=1e-6)
    default = NoiseSchedule(ScheduleConfig(kind=kind, reach=reach))
    assert default.alpha_bar[round(1000 * reach)] < 1e-3
    assert (default.alpha_bar.diff() < 0).all() and default.alpha_bar[-1] > 0


def test_sigma_is_geometric():
    schedule = SigmaSchedule(SigmaConfig())
    assert schedule.sigma[0] == 0
    assert float(schedule.sigma[1]) == pytest.approx(0.005)
    assert float(schedule.sigma[1000]) == pytest.approx(0.5)
    ratio = schedule.sigma[2:] / schedule.sigma[1:-1]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 100 ** (1 / 999)))


def test_broadcast_rows_takes_shape_and_dtype_of_its_partner():
    values = torch.tensor([0.25, 0.5], dtype=torch.float64)
    assert broadcast_rows(values, torch.zeros(2, 4, 3)).shape == (2, 1, 1)
    assert broadcast_rows(values, torch.zeros(2, 4)).dtype == torch.float32
    assert broadcast_rows(values, torch.zeros(2, 4, dtype=torch.int64)).dtype == torch.float32


@pytest.mark.parametrize(
    "bad",
    [
        lambda: ScheduleConfig(num_steps=0),
        lambda: ScheduleConfig(reach=0.0),
        lambda: ScheduleConfig(kind="linear", reach=0.5),
        lambda: ScheduleConfig(beta_min=0.5, beta_max=0.1),
        lambda: SigmaConfig(sigma_min=0.6),
        lambda: SigmaConfig(num_steps=0),
        lambda: NoiseSchedule(ScheduleConfig(kind="quartic")),
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises((ValueError, TypeError)):  # TypeError where types are checked, as in these tests
        bad()
