"""Least squares of rotations, centres and cell on given pairs: blocks of another framework never fit exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from matgen.geometry.rotations import axis_angle_matrix
from matgen.mof.assembly.layout import padded_size
from matgen.mof.assembly.pairs import PairTable
from matgen.mof.assembly.residuals import (
    STRAIN,
    Problem,
    connection_residuals,
    fixed_slopes,
    jacobian,
    make_problem,
    strain_matrix,
)

__all__ = ["RefineConfig", "Refined", "refine"]


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """What may move, and how freely.

    Args:
        direction: weight of a bond's direction against the place of its midpoint.
        centre_scale: Å, deviation of a centre that costs as much as a pair 0.1 Å apart.
        strain_scale: deviation of a cell's strain that costs as much.
        iterations: of Levenberg and Marquardt.
        sharpen: further rounds for problems with a pair farther apart than `sharpen_at`: far pairs weigh more,
            directions next to nothing, and centres and cell are held less.
        sharpen_at: Å.
    """

    direction: float = 0.5
    centre_scale: float = 0.6
    strain_scale: float = 0.04
    iterations: int = 12
    sharpen: int = 2
    sharpen_at: float = 0.35


@dataclass(frozen=True, eq=False)
class Refined:
    """rotations: float64 [K, 3, 3]; shift: float64 [K, 3] in Å, of the centres in the strained cell; strain: float64
    [3, 3], symmetric, new lattice = lattice @ (1 + strain); distance: float64 [P] in Å, of the midpoints; rms: Å, of
    both atoms of all cut bonds."""

    rotations: np.ndarray
    shift: np.ndarray
    strain: np.ndarray
    distance: np.ndarray
    rms: float


_CONVERGED = 1e-7  # of the cost and of 1 Å^2


def refine(
    tables: Sequence[PairTable],
    rows: Sequence[np.ndarray],
    rotations: Sequence[np.ndarray],
    before: "Sequence[Refined | None]",
    config: RefineConfig,
) -> list[Refined]:
    """Move rotations, centres and cell until given pairs meet, as little as needed.

    Args:
        tables: candidate pairs of each problem.
        rows: the pairs that are made, rows of each table.
        rotations: [K, 3, 3], where to begin.
        before: earlier results, whose shifts and strain are taken up.
        config: what may move.

    Returns:
        one result a problem.
    """
    results = _refine_all(tables, rows, rotations, before, [np.ones(len(r)) for r in rows], config)
    soft = replace(
        config,
        direction=0.2 * config.direction,
        centre_scale=3 * config.centre_scale,
        strain_scale=2 * config.strain_scale,
    )
    for _ in range(config.sharpen):
        far = [at for at, r in enumerate(results) if r.distance.max() > config.sharpen_at]
        again = _refine_all(
            [tables[at] for at in far],
            [rows[at] for at in far],
            [results[at].rotations for at in far],
            [results[at] for at in far],
            [1.0 + (results[at].distance / config.sharpen_at) ** 2 for at in far],
            soft,
        )
        for at, result in zip(far, again, strict=True):
            if result.distance.max() < results[at].distance.max():
                results[at] = result
    return results


def _refine_all(
    tables: Sequence[PairTable],
    rows: Sequence[np.ndarray],
    rotations: Sequence[np.ndarray],
    before: "Sequence[Refined | None]",
    weights: Sequence[np.ndarray],
    config: RefineConfig,
) -> list[Refined]:
    """Solve problems of one padded size together."""
    results: list[Refined | None] = [None] * len(tables)
    sizes = [(padded_size(len(r)), padded_size(len(t))) for r, t in zip(rows, rotations, strict=True)]
    for size in sorted(set(sizes)):
        mine = [at for at, s in enumerate(sizes) if s == size]
        solved = _refine_batch(
            [tables[at] for at in mine],
            [rows[at] for at in mine],
            [rotations[at] for at in mine],
            [before[at] for at in mine],
            [weights[at] for at in mine],
            size,
            config,
        )
        for at, result in zip(mine, solved, strict=True):
            results[at] = result
    return [r for r in results if r is not None]


def _refine_batch(
    tables: Sequence[PairTable],
    rows: Sequence[np.ndarray],
    rotations: Sequence[np.ndarray],
    before: "Sequence[Refined | None]",
    weights: Sequence[np.ndarray],
    size: tuple[int, int],
    config: RefineConfig,
) -> list[Refined]:
    problem = make_problem(tables, rows, size, config.direction)
    for at, given in enumerate(weights):
        problem.weight[at, : len(given)] = torch.as_tensor(given)
    num, blocks = len(tables), size[1]
    turn = torch.eye(3, dtype=torch.float64).repeat(num, blocks, 1, 1)
    for at, given in enumerate(rotations):
        turn[at, : len(given)] = torch.as_tensor(given)
    moved = torch.zeros(num, 3 * blocks + 6, dtype=torch.float64)  # shifts, then strain
    for at, earlier in enumerate(before):
        if earlier is not None:
            moved[at, : earlier.shift.size] = torch.as_tensor(earlier.shift.ravel())
            moved[at, -6:] = torch.as_tensor(earlier.strain[tuple(STRAIN.T.tolist())])
    spring = torch.full((3 * blocks + 6,), (0.1 / config.centre_scale) ** 2, dtype=torch.float64)
    spring[-6:] = (0.1 / config.strain_scale) ** 2
    damping = torch.full((num,), 1e-4, dtype=torch.float64)
    state, fixed = _state(problem, turn, moved, spring), fixed_slopes(problem)
    done = torch.zeros(num, dtype=torch.bool)
    for _ in range(config.iterations):
        step = _step(problem, fixed, state, spring, damping)
        tried = _state(
            problem,
            axis_angle_matrix(step[:, : 3 * blocks].unflatten(-1, (blocks, 3))) @ state.turn,
            state.moved + step[:, 3 * blocks :],
            spring,
        )
        better = (tried.cost < state.cost) & ~done
        done |= (tried.cost - state.cost).abs() < _CONVERGED * (1.0 + state.cost)
        damping = torch.where(better, damping * 0.2, damping * 10.0)
        state = state.where(better, tried)
        if done.all():
            break
    residual = state.residual / problem.weight.clamp(min=1e-12)[..., None, None]
    sizes = zip(rows, rotations, strict=True)
    return [_result(at, len(r), len(k), state.turn, state.moved, residual) for at, (r, k) in enumerate(sizes)]


@dataclass(eq=False)
class _State:
    """Of L problems: turn [L, K, 3, 3]; moved [L, 3 K + 6], shifts and strain; what follows from both."""

    turn: Tensor
    moved: Tensor
    residual: Tensor
    a: Tensor
    b: Tensor
    cost: Tensor

    def where(self, chosen: Tensor, other: "_State") -> "_State":
        """The other state for the chosen problems."""
        if chosen.all():
            return other
        pairs = [(getattr(other, f.name), getattr(self, f.name)) for f in fields(self)]
        return _State(*(torch.where(chosen.view(-1, *[1] * (new.ndim - 1)), new, old) for new, old in pairs))


def _state(problem: Problem, turn: Tensor, moved: Tensor, spring: Tensor) -> _State:
    shift, strain = moved[:, :-6].unflatten(-1, (-1, 3)), moved[:, -6:]
    residual, a, b = connection_residuals(problem, turn, shift, strain)
    return _State(turn, moved, residual, a, b, residual.square().sum((1, 2, 3)) + (spring * moved * moved).sum(-1))


def _step(problem: Problem, fixed: Tensor, state: _State, spring: Tensor, damping: Tensor) -> Tensor:
    """The damped Gauss-Newton step [L, 6 K + 6]."""
    slopes = jacobian(problem, fixed, state.a, state.b)
    normal = slopes.mT @ slopes
    gradient = (slopes.mT @ state.residual.flatten(1)[..., None]).squeeze(-1)
    held = gradient.shape[1] - len(spring)
    gradient[:, held:] += spring * state.moved
    diagonal = normal.diagonal(dim1=1, dim2=2)
    diagonal[:, held:] += spring
    diagonal += 1e-9 + damping[:, None] * (diagonal + 0.1)
    return -torch.linalg.solve(normal, gradient)


def _result(at: int, pairs: int, blocks: int, turn: Tensor, moved: Tensor, residual: Tensor) -> Refined:
    shift = moved[at, :-6].unflatten(-1, (-1, 3))[:blocks].numpy()
    mine = residual[at, :pairs]
    return Refined(
        rotations=turn[at, :blocks].numpy(),
        shift=shift,
        strain=strain_matrix(moved[at, -6:]).numpy(),
        distance=mine.mean(1).norm(dim=-1).numpy(),
        rms=float(mine.square().sum((1, 2)).div(2).mean().sqrt()),
    )
