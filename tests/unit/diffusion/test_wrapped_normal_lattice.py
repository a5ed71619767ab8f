"""Wrapped noise in skewed cells: density and score against brute force, steps against what they must do."""

import math

import pytest
import torch

from matgen.diffusion.schedule import SigmaConfig
from matgen.diffusion.wrapped_normal import log_density, score
from matgen.diffusion.wrapped_normal_lattice import (
    LatticeNormalConfig,
    LatticeNormalProcess,
    cell_unit,
    lattice_log_density,
    lattice_score,
    to_fractional,
)
from matgen.geometry.lattice import lattice_from_parameters

CELLS = {
    "fcc": ((10, 10, 10), (60, 60, 60)),
    "bcc": ((10, 10, 10), (109.5, 109.5, 109.5)),
    "cubic": ((10, 10, 10), (90, 90, 90)),
    "long": ((7, 8, 21), (90, 95, 120)),
}
SIGMAS = (0.002, 0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


def cell(name: str) -> torch.Tensor:
    return torch.from_numpy(lattice_from_parameters(*CELLS[name]))


def brute_force(displacement, lattice, sigma):
    """log p by summing images in a box that reaches 9 sigma beyond any of the displacements."""
    spacing = 1 / torch.linalg.inv(lattice).norm(dim=0)
    reach = ((9 * sigma + displacement.detach().norm(dim=-1).max()) / spacing).ceil().long().tolist()
    integers = torch.cartesian_prod(*[torch.arange(-n, n + 1, dtype=torch.float64) for n in reach])
    exponent = torch.stack([-0.5 * (d + integers @ lattice).square().sum(-1) / sigma**2 for d in displacement])
    return exponent.logsumexp(-1) - 1.5 * math.log(2 * math.pi * sigma**2)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("relative", SIGMAS)
def test_density_and_score_equal_brute_force(name, relative):
    rng = torch.Generator().manual_seed(0)
    lattice = cell(name)
    sigma = float(cell_unit(lattice[None])) * relative
    displacement = (torch.rand(4, 3, generator=rng, dtype=torch.float64) - 0.5) * 1.6 @ lattice
    displacement.requires_grad_(True)
    expected = brute_force(displacement, lattice, sigma)
    (slope,) = torch.autograd.grad(expected.sum(), displacement)
    where = displacement.detach(), lattice[None], torch.zeros(4, dtype=torch.int64), torch.tensor([sigma]).double()
    torch.testing.assert_close(lattice_log_density(*where), expected.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(lattice_score(*where) * sigma, slope * sigma, rtol=1e-6, atol=1e-8)


def test_a_cube_separates_by_axis():
    rng = torch.Generator().manual_seed(1)
    displacement = torch.rand(64, 3, generator=rng, dtype=torch.float64) * 4 - 2
    index, lattice = torch.arange(8).repeat_interleave(8), torch.eye(3, dtype=torch.float64).expand(8, 3, 3)
    sigma = torch.linspace(0.01, 1, 8, dtype=torch.float64)
    by_axis = score(displacement, sigma[index, None])
    torch.testing.assert_close(lattice_score(displacement, lattice, index, sigma), by_axis, rtol=1e-6, atol=1e-7)
    whole = lattice_log_density(displacement, lattice, index, sigma)
    torch.testing.assert_close(whole, log_density(displacement, sigma[index, None]).sum(-1), rtol=1e-6, atol=1e-6)


def test_a_batch_of_cells_equals_each_alone():
    rng = torch.Generator().manual_seed(2)
    lattice = torch.stack([cell(name) for name in CELLS] * 3)
    index = torch.arange(12).repeat_interleave(5)
    sigma = torch.rand(12, generator=rng, dtype=torch.float64) * 8 + 0.02
    displacement = torch.randn(60, 3, generator=rng, dtype=torch.float64) * 9
    whole = lattice_score(displacement, lattice, index, sigma)
    for row in range(12):
        own = index == row
        alone = lattice_score(displacement[own], lattice[[row]], index[own] * 0, sigma[[row]])
        torch.testing.assert_close(whole[own], alone, rtol=1e-6, atol=1e-8)


def test_noise_at_t_max_is_uniform_in_every_cell():
    process = LatticeNormalProcess(LatticeNormalConfig())
    for name in CELLS:
        lattice = cell(name)[None]
        sigma = process.sigma(torch.tensor([process.num_steps]), cell_unit(lattice))
        rng = torch.Generator().manual_seed(3)
        displacement = torch.rand(200, 3, generator=rng, dtype=torch.float64) @ lattice[0]
        density = lattice_log_density(displacement, lattice, torch.zeros(200, dtype=torch.int64), sigma)
        assert (density.exp() * lattice.det() - 1).abs().max() < 0.01


def test_the_target_is_minus_the_noise_where_sigma_is_small():
    process = LatticeNormalProcess(LatticeNormalConfig())
    lattice, index = cell("fcc")[None], torch.zeros(6, dtype=torch.int64)
    eps = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))
    sigma = process.sigma(torch.tensor([1]), cell_unit(lattice))
    x_0 = torch.rand(6, 3, generator=torch.Generator().manual_seed(5))
    x_t, target = process.corrupt(x_0, lattice, index, sigma, eps)
    torch.testing.assert_close(target, -eps, rtol=1e-5, atol=1e-5)
    assert ((x_t >= 0) & (x_t < 1)).all()


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_a_step_to_zero_with_the_true_score_returns_the_data(eta):
    process = LatticeNormalProcess(
        LatticeNormalConfig(sigmas=SigmaConfig(num_steps=50, sigma_min=0.002, sigma_max=0.6))
    )
    lattice, index = cell("bcc")[None], torch.zeros(5, dtype=torch.int64)
    rng = torch.Generator().manual_seed(6)
    x_0 = torch.rand(5, 3, generator=rng).double()
    sigma = process.sigma(torch.tensor([5]), cell_unit(lattice))
    x_t, target = process.corrupt(x_0, lattice, index, sigma, torch.randn(5, 3, generator=rng))
    noise = torch.randn(5, 3, generator=rng)
    x_s = process.reverse_step(x_t, target / sigma, lattice, index, sigma, 0 * sigma, noise, eta)
    difference = x_s - x_0
    torch.testing.assert_close(difference - difference.round(), torch.zeros(5, 3).double(), rtol=0, atol=1e-6)


def test_reverse_steps_keep_the_variance_of_a_point_at_the_origin():
    """With the exact score of one data point, an ancestral step from sigma_t leaves noise of size sigma_s."""
    process = LatticeNormalProcess(LatticeNormalConfig())
    lattice, index = cell("fcc")[None], torch.zeros(20000, dtype=torch.int64)
    rng = torch.Generator().manual_seed(7)
    sigma_t, sigma_s = torch.tensor([0.9]).double(), torch.tensor([0.5]).double()
    x_t, target = process.corrupt(torch.zeros(20000, 3), lattice, index, sigma_t, torch.randn(20000, 3, generator=rng))
    noise = torch.randn(20000, 3, generator=rng)
    x_s = process.reverse_step(x_t, target / sigma_t, lattice, index, sigma_t, sigma_s, noise).double()
    spread = ((x_s - x_s.round()) @ lattice[0]).std(0)
    torch.testing.assert_close(spread, sigma_s.expand(3), rtol=0.03, atol=0)
    assert to_fractional(lattice[0], lattice, index[:3]).allclose(torch.eye(3).double(), atol=1e-12)
