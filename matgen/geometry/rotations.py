"""Batched rotations: drawing them, making them from axis and angle, and fitting them to pairs of vectors (Horn)."""

import numpy as np
import torch
from torch import Tensor

from matgen.shapes import Float

__all__ = ["axis_angle_matrix", "fit_rotation", "kabsch", "quaternion_matrix", "random_quaternions", "random_rotations"]


def _horn_terms() -> np.ndarray:
    """[9, 16]: Horn's symmetric 4 x 4 matrix is linear in the 3 x 3 covariance of target and source."""
    terms = np.zeros((3, 3, 4, 4))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        terms[i, i] = np.diag([1.0, *(1.0 if axis == i else -1.0 for axis in range(3))])
        for row, column, sign in ((k, j, 1.0), (j, k, -1.0)):  # the curl part, target component first
            terms[row, column, 0, i + 1] += sign
            terms[row, column, i + 1, 0] += sign
        for row, column in ((j, k), (k, j)):
            terms[row, column, j + 1, k + 1] += 1.0
            terms[row, column, k + 1, j + 1] += 1.0
    return terms.reshape(9, 16)


_HORN = _horn_terms()
_MATRIX = _HORN.T  # the matrix of a unit quaternion is the transpose of that map on q q^T


def quaternion_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of unit quaternions (w, x, y, z), for column vectors: rotated = R @ v.

    Source: Horn, J. Opt. Soc. Am. A 4 (1987) 629, section 3.E.
    """
    outer = (quaternion[..., :, None] * quaternion[..., None, :]).flatten(-2)
    terms = torch.as_tensor(_MATRIX, dtype=quaternion.dtype, device=quaternion.device)
    return (outer @ terms).unflatten(-1, (3, 3))


def random_quaternions(count: int, rng: np.random.Generator) -> np.ndarray:
    """Unit quaternions [count, 4] of rotations that are uniform on SO(3)."""
    drawn = rng.standard_normal((count, 4))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def random_rotations(count: int, rng: np.random.Generator) -> Float[Tensor, "count 3 3"]:
    """Rotation matrices uniform on SO(3), float64."""
    return quaternion_matrix(torch.from_numpy(random_quaternions(count, rng)))


def axis_angle_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of rotation vectors (axis times angle in radians), smooth at zero.

    Source: Rodrigues' formula, as a half-angle quaternion.
    """
    half = 0.5 * torch.sqrt((vector * vector).sum(-1, keepdim=True) + 1e-30)
    quaternion = torch.cat([torch.cos(half), 0.5 * vector * torch.sinc(half / torch.pi)], dim=-1)
    return quaternion_matrix(quaternion / quaternion.norm(dim=-1, keepdim=True))


def kabsch(covariance: np.ndarray) -> np.ndarray:
    """What `fit_rotation` finds, one matrix or a few, exact for near ties: the singular vectors, mirrored where needed.

    Args:
        covariance: [..., 3, 3], sums of target (rows) times source (columns).

    Source: Kabsch, Acta Cryst. A 32 (1976) 922.
    """
    left, _, right = np.linalg.svd(covariance)
    left[..., 2] *= np.sign(np.linalg.det(left @ right))[..., None]
    return np.asarray(left @ right)


def fit_rotation(covariance: Float[Tensor, "*batch 3 3"], squarings: int = 12) -> Float[Tensor, "*batch 3 3"]:
    """Rotation R that maximises tr(R^T C), so that R v is nearest to t in least squares for C = sum of w t v^T.

    The largest eigenvector of Horn's matrix is found by repeated squaring (2^squarings power steps): only matrix
    products, on CPU and GPU. Where the best rotation is not unique
    (collinear vectors), one of the best is returned.

    Args:
        covariance: sums of weight times target (rows) times source (columns).
        squarings: 12 separate eigenvalues 0.2 % apart, as of long thin molecules.

    Source: Horn, J. Opt. Soc. Am. A 4 (1987) 629, section 4.
    """
    terms = torch.as_tensor(_MATRIX, dtype=covariance.dtype, device=covariance.device)
    matrix = terms @ covariance.reshape(-1, 9).T  # [16, n]: the batch last, so that small matrices fill the registers
    power = (matrix / matrix.norm(dim=0).clamp(min=1e-20)).unflatten(0, (4, 4))
    _diagonal(power).add_(1.0)
    for step in range(squarings):
        power = (power[:, :, None] * power).sum(1)
        if step % 3 == 2 or step == 0:  # with a trace of one, three squarings leave at least 4^-7 of it
            power = power / _diagonal(power).sum(0)
    column = _diagonal(power).argmax(0)
    vector = power.gather(0, column.expand(1, 4, -1))[0].T
    return quaternion_matrix(vector / vector.norm(dim=-1, keepdim=True)).view(covariance.shape)


def _diagonal(matrix: Tensor) -> Tensor:
    """[4, n], a view of [4, 4, n]."""
    return matrix.flatten(0, 1)[::5]
