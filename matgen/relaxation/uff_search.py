"""L-BFGS over many frameworks at once: each has its own history, step length and fate, all share one evaluation.

The rows of a framework are its atoms (Å, in the frame of its start) and three rows of its cell's deformation, scaled to
be as stiff as atoms are. So positions and cell move together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from matgen.shapes import Bool, Float, Int

__all__ = ["SearchConfig", "UffSearch"]

_SUFFICIENT = 1e-4  # Armijo: fraction of the predicted decrease
_NOISE = 1e-12  # relative, of float64 energies
_SHRINK = 0.35
_MIN_STEP = 1e-6  # of a full step; below it the history is dropped, and if that does not help the search has stalled


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """memory: pairs of steps that a search remembers. max_displacement Å: longest move of one atom (or scaled row of
    the cell) in a step. first_step: Å^2 mol/kcal, the inverse stiffness assumed at the start.
    """

    memory: int = 20
    max_displacement: float = 0.15
    first_step: float = 1e-3


class UffSearch:
    """Searches of g frameworks. `trial` is where energies and gradients are wanted next; then call `update`.

    Args:
        rows: start, [r, 3].
        row_graph: the framework of each row.
        num_graphs: g.
        config: step lengths.
    """

    def __init__(
        self, rows: Float[Tensor, "r 3"], row_graph: Int[Tensor, " r"], num_graphs: int, config: SearchConfig
    ) -> None:
        self.config = config
        self.graph = row_graph
        self.num_graphs = num_graphs
        self.trial = rows
        self.best = rows.clone()
        self.energy = rows.new_full((num_graphs,), torch.inf)
        self.gradient = torch.zeros_like(rows)
        self.direction = torch.zeros_like(rows)
        self.length = rows.new_ones(num_graphs)
        self.slope = rows.new_zeros(num_graphs)
        self.scale = rows.new_full((num_graphs,), config.first_step)
        self.fresh = torch.ones(num_graphs, dtype=torch.bool, device=rows.device)
        self.stalled = torch.zeros(num_graphs, dtype=torch.bool, device=rows.device)
        self.history: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, energy: Float[Tensor, " g"], gradient: Float[Tensor, "r 3"]) -> Bool[Tensor, " g"]:
        """Take the answer at `trial`, and make the next.

        Returns:
            which frameworks moved there (the others try a shorter step from where they were).
        """
        allowed = self.energy + _SUFFICIENT * self.length * self.slope + _NOISE * self.energy.abs().nan_to_num(posinf=0)
        finite = torch.isfinite(energy) & (self._sum(gradient.abs()) < torch.inf)
        moved = finite & (energy <= allowed)
        rows = moved[self.graph][:, None]
        first = torch.isinf(self.energy)
        step = torch.where(rows, self.trial - self.best, 0.0)
        change = torch.where(rows & ~first[self.graph][:, None], gradient - self.gradient, 0.0)
        self.best = torch.where(rows, self.trial, self.best)
        self.gradient = torch.where(rows, gradient, self.gradient)
        self.energy = torch.where(moved, energy, self.energy)
        self._remember(step, change)
        self._turn(moved, first & ~finite)
        return moved

    def _remember(self, step: Tensor, change: Tensor) -> None:
        curvature = self._sum(step * change)
        squared = self._sum(change * change)
        good = curvature > 1e-10 * squared.clamp_min(1e-300)
        if not bool(good.any()):
            return
        inverse = torch.where(good, 1 / torch.where(good, curvature, 1.0), 0.0)
        self.scale = torch.where(good, curvature / squared.clamp_min(1e-300), self.scale)
        self.fresh = self.fresh & ~good
        self.history.append((step, change, inverse))
        del self.history[: -self.config.memory]

    def _turn(self, moved: Tensor, hopeless: Tensor) -> None:
        """New directions where a step was taken, shorter steps elsewhere."""
        self.length = torch.where(moved, 1.0, self.length * _SHRINK)
        lost = ~moved & (self.length < _MIN_STEP)
        self.stalled = self.stalled | hopeless | (lost & self.fresh)
        if bool(lost.any()):
            self._forget(lost)
        direction = -self._times_inverse_hessian(self.gradient)
        slope = self._sum(direction * self.gradient)
        uphill = slope >= 0
        if bool(uphill.any()):
            self._forget(uphill)
            direction = torch.where(
                uphill[self.graph][:, None], -self.gradient * self.scale[self.graph][:, None], direction
            )
        renewed = moved | lost
        direction = self._limited(direction)
        self.direction = torch.where(renewed[self.graph][:, None], direction, self.direction)
        self.length = torch.where(lost, 1.0, self.length)
        self.slope = self._sum(self.direction * self.gradient)
        self.trial = self.best + self.length[self.graph][:, None] * self.direction

    def _forget(self, which: Tensor) -> None:
        """Drop the history of some frameworks, and be as careful as at the start."""
        self.history = [(s, y, torch.where(which, 0.0, inverse)) for s, y, inverse in self.history]
        self.scale = torch.where(which, self.config.first_step, self.scale)
        self.fresh = self.fresh | which

    def _times_inverse_hessian(self, vector: Tensor) -> Tensor:
        """The two-loop recursion."""
        graph, factors = self.graph, []
        for step, change, inverse in reversed(self.history):
            factor = inverse * self._sum(step * vector)
            vector = vector - factor[graph][:, None] * change
            factors.append(factor)
        vector = self.scale[graph][:, None] * vector
        for (step, change, inverse), factor in zip(self.history, reversed(factors), strict=True):
            back = inverse * self._sum(change * vector)
            vector = vector + (factor - back)[graph][:, None] * step
        return vector

    def _limited(self, direction: Tensor) -> Tensor:
        longest = direction.new_zeros(self.num_graphs).scatter_reduce(
            0, self.graph, direction.square().sum(1).sqrt(), "amax"
        )
        factor = (self.config.max_displacement / longest.clamp_min(1e-30)).clamp_max(1.0)
        return factor[self.graph][:, None] * direction

    def _sum(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.num_graphs).index_add_(0, self.graph, values.sum(1))

    def keep(self, graphs: Bool[Tensor, " g"]) -> None:
        """Go on with some of the frameworks alone."""
        rows = graphs[self.graph]
        number = torch.cumsum(graphs, 0) - 1
        self.graph, self.num_graphs = number[self.graph[rows]], int(graphs.sum())
        for name in ("trial", "best", "gradient", "direction"):
            setattr(self, name, getattr(self, name)[rows])
        for name in ("energy", "length", "slope", "scale", "fresh", "stalled"):
            setattr(self, name, getattr(self, name)[graphs])
        self.history = [(s[rows], y[rows], inverse[graphs]) for s, y, inverse in self.history]
