"""Residuals of pairs of connection points that are to meet, and their gradient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matgen.mof.assembly.pairs import PairTable
from matgen.shapes import Float

__all__ = ["STRAIN", "Problem", "connection_residuals", "fixed_slopes", "jacobian", "make_problem", "strain_matrix"]

STRAIN = torch.tensor([[0, 0], [1, 1], [2, 2], [1, 2], [0, 2], [0, 1]])  # rows and columns of a strain's six numbers


@dataclass(eq=False)
class Problem:
    """Padded pairs of L problems: blocks first, second [L, P]; points a, b [L, P, 6]; offset, weight."""

    first: Tensor
    second: Tensor
    a: Tensor
    b: Tensor
    offset: Tensor
    weight: Tensor
    num_blocks: int


def make_problem(
    tables: Sequence[PairTable], rows: Sequence[np.ndarray], size: tuple[int, int], direction: float
) -> Problem:
    """Pairs of many problems, padded.

    Args:
        tables: candidate pairs of each problem.
        rows: the pairs that are made, rows of each table.
        size: numbers of pairs and of blocks after padding.
        direction: weight of a bond's direction against the place of its midpoint.
    """
    shape = (len(tables), size[0])
    blocks = np.zeros((2, *shape), dtype=np.int64)
    points, offset, weight = np.zeros((2, *shape, 6)), np.zeros((*shape, 3)), np.zeros(shape)
    for at, (table, chosen) in enumerate(zip(tables, rows, strict=True)):
        used = slice(len(chosen))
        for side, ends, sign in ((0, table.metal[chosen], 1.0), (1, table.linker[chosen], -1.0)):
            blocks[side, at, used] = table.block[ends]
            arm, half = table.arm[ends], sign * direction * table.half[ends]
            points[side, at, used] = np.hstack([arm + half, arm - half])
        offset[at, used], weight[at, used] = table.offset[chosen], 1.0
    as_tensor = torch.as_tensor
    return Problem(
        as_tensor(blocks[0]),
        as_tensor(blocks[1]),
        as_tensor(points[0]),
        as_tensor(points[1]),
        as_tensor(offset),
        as_tensor(weight),
        size[1],
    )


def connection_residuals(
    problem: Problem, rotations: Float[Tensor, "L K 3 3"], shift: Float[Tensor, "L K 3"], strain: Float[Tensor, "L 6"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals [L, P, 2, 3] in Å, and the turned points [L, P, 2, 3] of either side that their gradient needs."""
    batch = torch.arange(len(rotations))[:, None]
    turned = []
    for blocks, points in ((problem.first, problem.a), (problem.second, problem.b)):
        turned.append(torch.einsum("lpij,lpxj->lpxi", rotations[batch, blocks], points.unflatten(-1, (2, 3))))
    tensor = strain_matrix(strain)
    offset = problem.offset + problem.offset @ tensor + shift[batch, problem.second] - shift[batch, problem.first]
    residual = (turned[0] - turned[1] - offset[:, :, None]) * problem.weight[..., None, None]
    return residual, turned[0], turned[1]


def strain_matrix(strain: Tensor) -> Tensor:
    """The symmetric matrix [..., 3, 3] of six numbers [..., 6]."""
    matrix = torch.zeros(*strain.shape[:-1], 3, 3, dtype=strain.dtype)
    matrix[..., STRAIN[:, 0], STRAIN[:, 1]] = strain
    matrix[..., STRAIN[:, 1], STRAIN[:, 0]] = strain
    return matrix


def fixed_slopes(problem: Problem) -> Tensor:
    """[L, P, 2, 3, 6 K + 6]: the part of `jacobian` that does not depend on the rotations, and zeros."""
    num, pairs = problem.first.shape
    full = torch.zeros(num, pairs, 2, 3, 2, problem.num_blocks, 3, dtype=problem.a.dtype)
    batch, pair = torch.arange(num)[:, None], torch.arange(pairs)[None]
    identity = torch.eye(3, dtype=full.dtype).expand(num, pairs, 2, 3, 3) * problem.weight[..., None, None, None]
    full[batch, pair, :, :, 1, problem.first] += identity
    full[batch, pair, :, :, 1, problem.second] -= identity
    cell = torch.zeros(num, pairs, 2, 3, 6, dtype=full.dtype)
    offset = problem.offset * problem.weight[..., None]
    for at, (i, j) in enumerate(STRAIN.tolist()):
        cell[:, :, :, j, at] -= offset[:, :, None, i]
        if i != j:
            cell[:, :, :, i, at] -= offset[:, :, None, j]
    return torch.cat([full.flatten(4), cell], dim=-1)


def jacobian(problem: Problem, fixed: Tensor, turned_a: Tensor, turned_b: Tensor) -> Tensor:
    """[L, 6 P, 6 K + 6] of the residuals, by rotation vectors (applied after the rotation), shifts and strain.

    Args:
        problem: the pairs.
        fixed: its `fixed_slopes`.
        turned_a: [L, P, 2, 3] Å, turned points of the first side.
        turned_b: of the second.
    """
    slopes = fixed.clone()
    by_turn = slopes[..., : 3 * problem.num_blocks].unflatten(-1, (-1, 3))
    num, pairs = problem.first.shape
    batch, pair = torch.arange(num)[:, None], torch.arange(pairs)[None]
    weight = problem.weight[..., None, None, None]
    by_turn[batch, pair, :, :, problem.first] -= _cross(turned_a) * weight
    by_turn[batch, pair, :, :, problem.second] += _cross(turned_b) * weight
    return slopes.flatten(1, 3)


def _cross(vector: Tensor) -> Tensor:
    """Matrix of the cross product: _cross(v) @ w = v x w."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
