"""Steps of blocks as rigid bodies, and of the cell, in many starts at once."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matgen.geometry.rotations import axis_angle_matrix
from matgen.mof.assembly.bodies import Motion, Placement

__all__ = ["Partners", "Walk"]

_LEAST_HEIGHT = 2.5  # Å; a cell as flat as that strains no more


@dataclass(frozen=True, eq=False)
class Partners:
    """index: int [S, K], where a centre of inversion takes each body. held: bool [S], which starts have one."""

    index: Tensor
    held: Tensor


class Walk:
    """Steps against the slopes, their lengths evened out body by body as Adam does.

    Args:
        place: where the bodies are.
        partners: of starts with a centre of inversion, which they keep until this is set to None.
        rates: of a step: Å of the centres, radians, and strain of the cell.
    """

    _MEAN, _SQUARE, _FLOOR = 0.8, 0.95, 0.05

    def __init__(self, place: Placement, partners: Partners | None, rates: tuple[float, float, float]) -> None:
        self.place = place
        self.partners = partners
        self.rates = rates
        self.means: list[Tensor | float] = [0.0, 0.0, 0.0]
        self.squares: list[Tensor | float] = [0.0, 0.0, 0.0]
        self.steps = 0

    def move(self, slopes: Motion, done: float, noise: float, rng: np.random.Generator) -> None:
        """Take one step; `done` is the share of the round behind it."""
        self.steps += 1
        slow = 0.5 * (1.0 + np.cos(np.pi * done)) + 0.03
        strain = 0.5 * (slopes.strain + slopes.strain.mT)
        ways = []
        for at, slope in enumerate((slopes.centres, slopes.turns, strain)):
            if at < 2:
                slope = self._symmetric(slope, at)
            square = slope.square().sum((-2, -1) if at == 2 else -1, keepdim=True)
            self.means[at] = self._MEAN * self.means[at] + (1 - self._MEAN) * slope
            self.squares[at] = self._SQUARE * self.squares[at] + (1 - self._SQUARE) * square
            mean = self.means[at] / (1 - self._MEAN**self.steps)
            size = (self.squares[at] / (1 - self._SQUARE**self.steps)) ** 0.5
            way = -self.rates[at] * slow * mean / (size + self._FLOOR)
            if noise and at < 2:
                random = torch.as_tensor(rng.standard_normal(way.shape)).float()
                way = way + noise * self.rates[at] * self._symmetric(random, at)
            ways.append(way)
        stretch = torch.eye(3) + ways[2]
        height = 1.0 / torch.linalg.inv(self.place.lattice @ stretch).norm(dim=-2)  # [S, 3], over each face
        flat = height.amin(-1) < _LEAST_HEIGHT
        stretch = torch.where(flat[:, None, None], torch.eye(3), stretch)
        self.place = Placement(
            self.place.centres @ stretch + ways[0],
            axis_angle_matrix(ways[1]) @ self.place.rotations,
            self.place.lattice @ stretch,
        )

    def _symmetric(self, values: Tensor, at: int) -> Tensor:
        """What inversion leaves of vectors (0) or turns (1), [S, K, 3]: the former change sign, the latter do not."""
        if self.partners is None:
            return values
        other = values.gather(1, self.partners.index[..., None].expand_as(values))
        kept = 0.5 * (values - other if at == 0 else values + other)
        return torch.where(self.partners.held[:, None, None], kept, values)
