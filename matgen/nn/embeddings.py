"""Embeddings of time, periodic coordinates and site symmetry."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def sinusoidal_embedding(values: Float[Tensor, "B"], dim: int, max_period: float = 1e4) -> Float[Tensor, "B D"]:
    """Sines, then cosines, of the values at frequencies falling geometrically from 1 to 1 / max_period.

    Args:
        values: one number per crystal, for example the diffusion step.
        dim: even length of the result.
        max_period: inverse of the lowest angular frequency.

    Source: Vaswani et al., Attention Is All You Need (2017), section 3.5.
    """
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=values.device) / max(1, half - 1)
    angles = values[:, None].float() * torch.exp(-math.log(max_period) * exponent)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def coordinate_phases(
    frac_coords: Float[Tensor, "*N 3"], num_frequencies: int, first: int
) -> tuple[Float[Tensor, "*N F"], Float[Tensor, "*N F"]]:
    """sin(2 pi f x_c) and cos(2 pi f x_c) for integer f from `first`, flattened over c, then f.

    The turn f x mod 1 is taken in double precision: at f = 127 single precision would leave 5e-5 of error in the
    angle, which is what would make the fast and the plain edge layers differ.

    Args:
        frac_coords: fractional coordinates.
        num_frequencies: how many frequencies.
        first: the lowest; 0 as in the paper (its features are constant), or 1.

    Source: Jiao et al., Crystal Structure Prediction by Joint Equivariant Diffusion (2023), equation 7.
    """
    frequency = torch.arange(first, first + num_frequencies, dtype=torch.float64, device=frac_coords.device)
    turns = (frac_coords.double().unsqueeze(-1) * frequency).flatten(-2)
    angle = (turns - turns.round()).float() * (2 * torch.pi)
    return angle.sin(), angle.cos()


def displacement_features(sine: Float[Tensor, "B M F"], cosine: Float[Tensor, "B M F"]) -> Float[Tensor, "B M M G"]:
    """Fourier features of x_j - x_i for every ordered pair (i, j), from those of the points by the difference angles.

    Args:
        sine: of the points.
        cosine: of the points.

    Returns:
        Sines, then cosines.
    """
    sine_i, sine_j = sine[:, :, None], sine[:, None]
    cosine_i, cosine_j = cosine[:, :, None], cosine[:, None]
    sines = (sine_j * cosine_i).addcmul_(cosine_j, sine_i, value=-1)
    cosines = (cosine_j * cosine_i).addcmul_(sine_j, sine_i)
    return torch.cat([sines, cosines], dim=-1)


class SiteSymmetryEmbedding(nn.Module):
    """One small vector per class of a symmetry axis, shared by the axes, concatenated and mixed.

    Args:
        num_axes: 15 in the paper's code.
        num_classes: 13, or 14 with an absorbing state.
        axis_dim: length of an axis's vector.
        dim: length of the result.
    """

    def __init__(self, num_axes: int, num_classes: int, axis_dim: int, dim: int) -> None:
        super().__init__()
        self.classes = nn.Embedding(num_classes, axis_dim)
        self.mix = nn.Linear(num_axes * axis_dim, dim)

    def forward(self, site_symmetry: Int[Tensor, "*N U"]) -> Float[Tensor, "*N D"]:
        """Embed the classes of all axes of an orbit."""
        return self.mix(self.classes(site_symmetry).flatten(-2))
