"""Lattices as six numbers: the polar form of a lattice, on a symmetric basis of unit Frobenius norm.

A lattice L (rows a, b, c; Å) is, up to a rotation, the symmetric matrix exp(S) with S = 1/2 log(L L^T); k are the
components of S on six symmetric matrices, so that each crystal system is an affine subspace of k.

Functions take and return numpy arrays or torch tensors alike, with any leading batch axes.
"""

from functools import cache
from typing import Any

import numpy as np

__all__ = [
    "BASIS",
    "crystal_system_index",
    "k_from_lattice",
    "lattice_constraints",
    "lattice_from_k",
    "lattice_from_parameters",
    "lattice_parameters",
]

_R2, _R3, _R6 = 2**-0.5, 3**-0.5, 6**-0.5
BASIS = np.zeros((6, 3, 3))
BASIS[0, 0, 1] = BASIS[0, 1, 0] = _R2
BASIS[1, 0, 2] = BASIS[1, 2, 0] = _R2
BASIS[2, 1, 2] = BASIS[2, 2, 1] = _R2
BASIS[3] = np.diag([_R2, -_R2, 0.0])
BASIS[4] = np.diag([_R6, _R6, -2 * _R6])
BASIS[5] = np.eye(3) * _R3
"""[6, 3, 3] symmetric, orthonormal under the Frobenius product."""


def _is_torch(value: Any) -> bool:
    return type(value).__module__.split(".")[0] == "torch"


def k_from_lattice(lattice: Any) -> Any:
    """Lattice components k of the polar form of a lattice.

    Args:
        lattice: [..., 3, 3] rows a, b, c in Å; any orientation and handedness.

    Returns:
        [..., 6] components of 1/2 log(L L^T); the first five are pure numbers, k[5] = ln(volume / Å^3) / sqrt(3).

    Source: Jiao et al., DiffCSP++ (arXiv 2402.03992), section 4.1; here with a basis of unit norm.
    """
    if _is_torch(lattice):
        import torch

        values, vectors = torch.linalg.eigh(lattice @ lattice.mT)
        S = (vectors * (0.5 * values.log()).unsqueeze(-2)) @ vectors.mT
        return torch.einsum("...ij,kij->...k", S, torch.as_tensor(BASIS, dtype=S.dtype, device=S.device))
    lattice = np.asarray(lattice, dtype=float)
    values, vectors = np.linalg.eigh(lattice @ np.swapaxes(lattice, -1, -2))
    S = (vectors * (0.5 * np.log(values))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return S.reshape(*S.shape[:-2], 9) @ BASIS.reshape(6, 9).T


def lattice_from_k(k: Any) -> Any:
    """The symmetric lattice with the given components, exp(sum_i k_i B_i).

    Args:
        k: [..., 6] lattice components.

    Returns:
        [..., 3, 3] symmetric, positive definite; rows a, b, c in Å.
    """
    if _is_torch(k):
        import torch

        basis = torch.as_tensor(BASIS, dtype=k.dtype, device=k.device)
        return torch.linalg.matrix_exp(torch.einsum("...k,kij->...ij", k, basis))
    k = np.asarray(k, dtype=float)
    values, vectors = np.linalg.eigh((k @ BASIS.reshape(6, 9)).reshape(*k.shape[:-1], 3, 3))
    return (vectors * np.exp(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def crystal_system_index(space_group_number: Any) -> Any:
    """Index of the crystal system: 0 triclinic, monoclinic, orthorhombic, tetragonal, trigonal, hexagonal, 6 cubic."""
    return np.searchsorted([3, 16, 75, 143, 168, 195], space_group_number, side="right")


@cache
def lattice_constraints() -> tuple[np.ndarray, np.ndarray]:
    """Free components of k and the values of the fixed ones, for each space group in its standard setting.

    Returns:
        mask bool[231, 6] and fixed float64[231, 6] (zero where free); row 0 is unused (all free).

    Source: Jiao et al., DiffCSP++ (arXiv 2402.03992), table 1; hexagonal axes: 1/2 log of the metric
        [[1, -1/2], [-1/2, 1]] has the off-diagonal entry -ln(3)/4.
    """
    free = [[0, 1, 2, 3, 4, 5], [1, 3, 4, 5], [3, 4, 5], [4, 5], [4, 5], [4, 5], [5]]
    mask = np.zeros((231, 6), dtype=bool)
    fixed = np.zeros((231, 6))
    for number, system in enumerate(crystal_system_index(np.arange(231))):
        mask[number, free[system]] = True
        if system in (4, 5):
            fixed[number, 0] = -np.log(3) / 4 * 2**0.5
    mask.setflags(write=False)
    fixed.setflags(write=False)
    return mask, fixed


def lattice_parameters(lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths [..., 3] in Å and angles [..., 3] (alpha, beta, gamma) in degrees of lattices [..., 3, 3]."""
    metric = lattice @ np.swapaxes(lattice, -1, -2)
    lengths = np.sqrt(np.diagonal(metric, axis1=-2, axis2=-1))
    b_c, a_c, a_b = metric[..., 1, 2], metric[..., 0, 2], metric[..., 0, 1]
    a, b, c = lengths[..., 0], lengths[..., 1], lengths[..., 2]
    cosines = np.stack([b_c / (b * c), a_c / (a * c), a_b / (a * b)], axis=-1)
    return lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def lattice_from_parameters(lengths: Any, angles: Any) -> np.ndarray:
    """The lattice with given lengths and angles: a along x, b in the xy plane, c with positive z.

    Args:
        lengths: [3] Å.
        angles: [3] alpha, beta, gamma in degrees.

    Returns:
        [3, 3] rows a, b, c in Å; NaN where no cell has these angles.
    """
    a, b, c = (float(x) for x in lengths)
    # degrees to cosines such that 90 and 120 give exact zeros and halves
    cos_alpha, cos_beta, cos_gamma = (round(float(np.cos(np.radians(x))), 15) for x in angles)
    sin_gamma = np.sqrt(1 - cos_gamma**2)
    c_y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    with np.errstate(invalid="ignore"):
        c_z = np.sqrt(1 - cos_beta**2 - c_y**2)
    return np.array([[a, 0, 0], [b * cos_gamma, b * sin_gamma, 0], [c * cos_beta, c * c_y, c * c_z]])
