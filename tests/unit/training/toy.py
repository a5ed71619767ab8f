"""A toy with the interface of a model: quick, and with losses that can be made non-finite."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ToyLosses:
    total: Tensor
    lattice: Tensor


class Toy(nn.Module):
    """Predicts the lattice from the group number and noise; `poison` makes the loss of given rows non-finite."""

    num_steps = 1000

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 6)
        self.poison: set[int] = set()
        self.seen: list[Tensor] = []

    def loss(self, batch, t, noise) -> ToyLosses:
        self.seen.append(t)
        x = noise.normal(0, 1, (8,)) + batch.space_group_number[:, None] / 230
        error = (self.last(torch.tanh(self.first(x))) - batch.lattice_k).square().mean(-1)
        bad = torch.tensor([float("nan") if row in self.poison else 0.0 for row in batch.row_id.tolist()])
        return ToyLosses(total=(error + bad).mean(), lattice=error.mean().detach())
