"""Radial and angular functions of edges and triplets."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def envelope(ratio: Float[Tensor, "*E"], exponent: int = 5) -> Float[Tensor, "*E"]:
    """A polynomial from 1 at 0 to 0 at 1 and beyond, with two vanishing derivatives at 1.

    Args:
        ratio: distance over cutoff, at least 0.
        exponent: p; the larger, the later the fall.

    Source: Gasteiger et al., DimeNet (arXiv 2003.03123), eq. 8.
    """
    p = exponent
    x = ratio.clamp(max=1)
    first, second, third = -(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2
    return 1 + x**p * (first + x * (second + x * third))


def gaussians(ratio: Float[Tensor, "E"], num_radial: int) -> Float[Tensor, "E R"]:
    """Gaussians evenly spread over [0, 1], as wide as they are apart, with a mean square of 1.

    Args:
        ratio: distance over the largest distance to tell apart.
        num_radial: how many, at least 2.
    """
    centres = torch.linspace(0, 1, num_radial, dtype=ratio.dtype, device=ratio.device)
    height = math.sqrt(num_radial / math.sqrt(math.pi))  # the squares of unit ones add up to sqrt(pi)
    exponent = -0.5 * ((ratio[:, None] - centres) * (num_radial - 1)) ** 2
    # exp is several times slower where its result is too small for a normal number of single precision
    return height * torch.exp(exponent.clamp_(min=-80))


def legendre(cosine: Float[Tensor, "T"], count: int) -> Float[Tensor, "T L"]:
    """sqrt(2 l + 1) P_l(cosine) for l = 0..count - 1: the real spherical harmonics with m = 0, up to a constant."""
    terms = [torch.ones_like(cosine), cosine]
    for degree in range(1, count - 1):
        terms.append(((2 * degree + 1) * cosine * terms[-1] - degree * terms[-2]) / (degree + 1))
    norms = torch.arange(count, dtype=cosine.dtype, device=cosine.device).mul_(2).add_(1).sqrt_()
    return torch.stack(terms[:count], dim=-1) * norms
