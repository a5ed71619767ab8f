"""Bonded energies of UFF and their gradients with respect to the half-bond vectors, written out by hand.

Every term is a polynomial of a cosine (or, for inversions, of a sine), so no angle is ever computed and nothing is
singular at straight or planar geometries.
"""

import torch
from torch import Tensor

from matgen.shapes import Float, Int

__all__ = ["angle_energy", "bond_energy", "cosine_polynomial", "improper_energy", "torsion_energy"]

_TINY = 1e-12  # Å^2 and Å^4: atoms that coincide must not give NaN
_FLAT = 1e-6  # smallest cosine of the inversion angle, as LAMMPS has it


def bond_energy(
    vectors: Float[Tensor, "b 3"], stiffness: Float[Tensor, " b"], length: Float[Tensor, " b"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, "b 3"]]:
    """Harmonic bonds: E = stiffness/2 (r - length)^2 in kcal/mol, and dE/dvector in kcal/mol/Å."""
    distance = vectors.square().sum(1).clamp_min(_TINY).sqrt()
    stretch = distance - length
    pull = stiffness * stretch
    return 0.5 * pull * stretch, (pull / distance)[:, None] * vectors


def cosine_polynomial(
    stiffness: Float[Tensor, " a"], fold: Int[Tensor, " a"], natural: Float[Tensor, " a"]
) -> Float[Tensor, "a 5"]:
    """Coefficients of 1, c, ... c^4 of the angle energy, c = cos(theta).

    Args:
        stiffness: kcal/mol.
        fold: 0 for the general form, else 1, 3 or 4.
        natural: radians; used by the general form.

    Source: Rappe et al. 1992, eq. 10-12; the linear form is K(1 + c).
    """
    zero, one = torch.zeros_like(stiffness), torch.ones_like(stiffness)
    cosine, sine = torch.cos(natural), torch.sin(natural)
    second = 1 / (4 * torch.where(fold == 0, sine, one) ** 2)
    first = -4 * second * cosine
    constant = second * (2 * cosine**2 + 1)
    forms = {
        0: [constant - second, first, 2 * second, zero, zero],
        1: [one, one, zero, zero, zero],
        3: [one / 9, 3 * one / 9, zero, -4 * one / 9, zero],
        4: [zero, zero, one / 2, zero, -one / 2],
    }
    result = torch.zeros(len(stiffness), 5, dtype=stiffness.dtype, device=stiffness.device)
    for key, columns in forms.items():
        result = torch.where((fold == key)[:, None], torch.stack(columns, dim=1), result)
    return stiffness[:, None] * result


def angle_energy(
    u: Float[Tensor, "a 3"], v: Float[Tensor, "a 3"], coefficients: Float[Tensor, "a 5"]
) -> tuple[Float[Tensor, " a"], Float[Tensor, "a 3"], Float[Tensor, "a 3"]]:
    """Angles between u and v, both from the centre: energy, dE/du, dE/dv."""
    c, along_u, along_v = _cosine(u, v)
    p0, p1, p2, p3, p4 = coefficients.unbind(1)
    energy = p0 + c * (p1 + c * (p2 + c * (p3 + c * p4)))
    slope = (p1 + c * (2 * p2 + c * (3 * p3 + c * 4 * p4)))[:, None]
    return energy, slope * along_u, slope * along_v


def _cosine(
    u: Float[Tensor, "a 3"], v: Float[Tensor, "a 3"]
) -> tuple[Float[Tensor, " a"], Float[Tensor, "a 3"], Float[Tensor, "a 3"]]:
    """Cosine between two vectors and its gradients."""
    inverse_u = u.square().sum(1).clamp_min(_TINY).rsqrt()
    inverse_v = v.square().sum(1).clamp_min(_TINY).rsqrt()
    unit_u, unit_v = u * inverse_u[:, None], v * inverse_v[:, None]
    cosine = (unit_u * unit_v).sum(1)
    along_u = (unit_v - cosine[:, None] * unit_u) * inverse_u[:, None]
    along_v = (unit_u - cosine[:, None] * unit_v) * inverse_v[:, None]
    return cosine, along_u, along_v


def torsion_energy(
    first: Float[Tensor, "t 3"],
    middle: Float[Tensor, "t 3"],
    last: Float[Tensor, "t 3"],
    barrier: Float[Tensor, " t"],
    fold: Int[Tensor, " t"],
    sign: Float[Tensor, " t"],
) -> tuple[Float[Tensor, " t"], Float[Tensor, "t 3"], Float[Tensor, "t 3"], Float[Tensor, "t 3"]]:
    """Torsions i-j-k-l from the vectors j-i, k-j and l-k: energy and the three gradients.

    E = barrier/2 (1 + sign cos(fold phi)), phi = 180 degrees where i and l are trans; fold 2, 3 or 6.
    """
    left, right = torch.linalg.cross(first, middle), torch.linalg.cross(middle, last)
    c, by_left, by_right = _cosine(left, right)
    energy_of, slope_of = _chebyshev(c, fold)
    half = 0.5 * barrier
    energy = half * (1 + sign * energy_of)
    slope = (half * sign * slope_of)[:, None]
    by_left, by_right = slope * by_left, slope * by_right
    by_middle = torch.linalg.cross(by_left, first) + torch.linalg.cross(last, by_right)
    return energy, torch.linalg.cross(middle, by_left), by_middle, torch.linalg.cross(by_right, middle)


def _chebyshev(c: Float[Tensor, " t"], fold: Int[Tensor, " t"]) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """cos(fold phi) and its derivative with respect to c = cos(phi), for fold 2, 3 and 6."""
    square = c * c
    two, slope_two = 2 * square - 1, 4 * c
    three, slope_three = c * (4 * square - 3), 12 * square - 3
    six, slope_six = 2 * three * three - 1, 4 * three * slope_three
    value = torch.where(fold == 2, two, torch.where(fold == 3, three, six))
    return value, torch.where(fold == 2, slope_two, torch.where(fold == 3, slope_three, slope_six))


def improper_energy(
    spokes: Float[Tensor, "m 3 3"], constants: Float[Tensor, "m 4"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, "m 3 3"]]:
    """Inversions at a centre with three neighbours, the mean over its three axes: energy and dE/dspokes.

    omega is the angle between one spoke and the plane of the centre and the other two;
    E = K/3 sum of C0 + C1 cos(omega) + C2 cos(2 omega). As in LAMMPS, omega is above 90 degrees where the spoke leans
    over to the side of the other two (its projections on them add up to more than zero).

    Args:
        spokes: vectors from the centre to its neighbours.
        constants: K (kcal/mol), C0, C1, C2.
    """
    stiffness, c0, c1, c2 = constants[:, :, None].unbind(1)
    axis, one, two = spokes, spokes.roll(-1, dims=1), spokes.roll(-2, dims=1)
    normal = torch.linalg.cross(one, two)
    flat = (-1, 3)
    sine, by_axis, by_normal = _cosine(axis.reshape(flat), normal.reshape(flat))
    sine = sine.reshape(axis.shape[:2])
    cosine = (1 - sine.square()).clamp_min(_FLAT**2).sqrt()
    toward = torch.nn.functional.normalize(one, dim=-1) + torch.nn.functional.normalize(two, dim=-1)
    cosine = torch.where((axis * toward).sum(-1) > 0, -cosine, cosine)
    energy = stiffness / 3 * (c0 + c1 * cosine + c2 * (2 * cosine.square() - 1))
    slope = (stiffness / 3 * (c1 + 4 * c2 * cosine) * (-sine / cosine))[..., None]
    by_axis, by_normal = slope * by_axis.reshape(axis.shape), slope * by_normal.reshape(axis.shape)
    by_one, by_two = torch.linalg.cross(two, by_normal), torch.linalg.cross(by_normal, one)
    return energy.sum(1), by_axis + by_one.roll(1, dims=1) + by_two.roll(2, dims=1)
