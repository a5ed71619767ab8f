"""Rotations: drawn, made from axis and angle, fitted."""

import numpy as np
import torch

from matgen.geometry.rotations import axis_angle_matrix, fit_rotation, quaternion_matrix, random_rotations


def kabsch(covariance: torch.Tensor) -> torch.Tensor:
    u, _, vt = torch.linalg.svd(covariance)
    sign = torch.det(u @ vt).sign()
    ones = torch.ones_like(sign)
    return u @ torch.diag_embed(torch.stack([ones, ones, sign], dim=-1)) @ vt


def test_random_rotations_are_proper_and_centred() -> None:
    drawn = random_rotations(20_000, np.random.default_rng(0))
    assert torch.allclose(drawn @ drawn.mT, torch.eye(3, dtype=drawn.dtype).expand_as(drawn), atol=1e-12)
    assert torch.allclose(torch.det(drawn), torch.ones(len(drawn), dtype=drawn.dtype))
    assert drawn.mean(0).abs().max() < 0.02  # the mean of a uniform rotation is zero
    assert abs(float(drawn.diagonal(dim1=1, dim2=2).sum(1).square().mean()) - 1.0) < 0.05  # so is E[tr^2] one


def test_quaternion_and_axis_angle() -> None:
    quarter = axis_angle_matrix(torch.tensor([0.0, 0.0, torch.pi / 2], dtype=torch.float64))
    expected = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(quarter, expected)
    vector = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    generator = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    assert torch.allclose(axis_angle_matrix(vector), torch.linalg.matrix_exp(generator), atol=1e-12)
    assert torch.equal(quaternion_matrix(torch.tensor([1.0, 0.0, 0.0, 0.0])), torch.eye(3))


def test_axis_angle_gradient_at_zero() -> None:
    zero = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_matrix, zero)


def test_fit_rotation_is_kabsch() -> None:
    rng = torch.Generator().manual_seed(1)
    source = torch.randn(500, 4, 3, dtype=torch.float64, generator=rng)
    target = torch.randn(500, 4, 3, dtype=torch.float64, generator=rng)
    covariance = target.mT @ source
    fitted, best = fit_rotation(covariance), kabsch(covariance)
    gain = (fitted * covariance).sum((1, 2)) - (best * covariance).sum((1, 2))
    assert gain.abs().max() < 1e-6
    assert torch.allclose(fitted, best, atol=1e-4)


def test_fit_rotation_of_a_long_thin_block_in_single_precision() -> None:
    turn = random_rotations(200, np.random.default_rng(2)).float()
    source = torch.tensor([[6.0, 1.1, 0.0], [6.0, -1.1, 0.0], [-6.0, 1.1, 0.0], [-6.0, -1.1, 0.0]])
    covariance = (source @ turn.mT).mT @ source
    assert torch.allclose(fit_rotation(covariance), turn, atol=2e-3)


def test_fit_rotation_of_collinear_points_is_a_rotation() -> None:
    direction = torch.tensor([0.0, 0.0, 1.0])
    fitted = fit_rotation(torch.outer(torch.tensor([1.0, 0.0, 0.0]), direction)[None])[0]
    assert torch.allclose(fitted @ direction, torch.tensor([1.0, 0.0, 0.0]), atol=1e-5)
    assert torch.allclose(fitted @ fitted.T, torch.eye(3), atol=1e-5)
