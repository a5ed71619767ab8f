"""Good orientations of each block by itself, given where its neighbours are but not how they are turned."""

from dataclasses import dataclass

import torch
from torch import Tensor

from matgen.mof.assembly.layout import Group

__all__ = ["orientation_pool"]

_FACTORS = (1_000_003, 10_000_019, 100_000_007, 1_000_000_007, 10_000_000_019, 100_000_000_003, 1_000_000_000_039)


@dataclass(frozen=True, eq=False)
class _Circles:
    """Where a connection can meet a neighbour: circles about the line of the two centres.

    axis: [G, C, M, 3], unit vector to the neighbour. along, radius: [G, C, M, 2] Å, of the circles of the two atoms.
    penalty: [G, C, M], infinite for padding.
    """

    axis: Tensor
    along: Tensor
    radius: Tensor
    penalty: Tensor


def _circles(group: Group, points: Tensor) -> _Circles:
    """Law of cosines; candidates of one connection that differ only in the partner's connection share a circle."""
    mine = group.points.unflatten(-1, (2, 3)).norm(dim=-1)[:, :, None]
    theirs = points[group.partner].unflatten(-1, (2, 3)).norm(dim=-1).flip(-1)
    between = group.offset[..., :3]
    distance = between.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    along = (distance**2 + mine**2 - theirs**2) / (2 * distance)
    along = torch.maximum(torch.minimum(along, mine), -mine)
    radius = (mine**2 - along**2).clamp(min=0).sqrt()
    penalty = torch.where(_first_of_circle(group, torch.cat([between, along, radius], dim=-1)), 0.0, torch.inf)
    return _Circles(between / distance, along, radius, penalty)


def _first_of_circle(group: Group, key: Tensor) -> Tensor:
    """Marks one candidate of each distinct circle, by its numbers in steps of 0.02 Å."""
    steps = (key * 50.0).round().long()
    factors = torch.tensor(_FACTORS[: key.shape[-1]], device=key.device)
    name = (steps * factors).sum(-1).masked_fill(~group.candidate, torch.iinfo(torch.long).max)
    ordered, order = name.sort(dim=-1, stable=True)
    new = torch.ones_like(group.candidate)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    return torch.zeros_like(new).scatter(-1, order, new) & group.candidate


def _compact(circles: _Circles) -> _Circles:
    """Drop what is padding for every connection."""
    kept = circles.penalty == 0
    order = kept.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[..., : max(int(kept.sum(-1).max()), 1)]

    def take(value: Tensor) -> Tensor:
        index = order if value.ndim == 3 else order[..., None].expand(*order.shape, value.shape[-1])
        return value.gather(2, index)

    return _Circles(take(circles.axis), take(circles.along), take(circles.radius), take(circles.penalty))


def orientation_pool(group: Group, points: Tensor, rotations: Tensor, iterations: int = 12) -> tuple[Tensor, Tensor]:
    """Turn every block until its connections lie on circles where they can meet a neighbour.

    Args:
        group: the blocks.
        points: [N + 1, 6] Å, points of all connections of the batch in their blocks' frames.
        rotations: [G, Q, 3, 3], where to begin.
        iterations: each one assigns the nearest circle and fits the rotation.

    Returns:
        rotations [G, Q, 3, 3], and the root mean square distance from the circles [G, Q] in Å.
    """
    circles = _compact(_circles(group, points))
    for _ in range(iterations):
        target, _ = _nearest_on_circles(circles, group.turned(rotations))
        rotations = group.fitted(target)
    _, squared = _nearest_on_circles(circles, group.turned(rotations))
    squared = torch.where(group.mask[..., None], squared, 0.0)
    return rotations, (squared.sum(1) / (2 * group.mask.sum(1, keepdim=True))).sqrt()


def _nearest_on_circles(circles: _Circles, turned: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest points [G, C, 6, Q] on the best circle of each connection, and the squared distance [G, C, Q] in Å^2.

    The plane of a point and the axis cuts the circle where both have the same side.
    """
    turned = turned.unflatten(2, (2, 3))  # [G, C, 2, 3, Q]
    height = circles.axis[:, :, None] @ turned  # [G, C, 2, M, Q], along the axis of each circle
    across = (turned.square().sum(3, keepdim=True) - height.square()).clamp_(min=0).sqrt_()
    along, radius = circles.along.mT[..., None], circles.radius.mT[..., None]
    gap = ((height - along).square_() + (across - radius).square_()).sum(2)
    distance, best = (gap + circles.penalty[..., None]).min(dim=2)
    of_atom = best[:, :, None].expand(-1, -1, 2, -1)
    axis = circles.axis.mT.gather(-1, best[:, :, None].expand(-1, -1, 3, -1))
    along, radius = (value.mT.gather(-1, of_atom) for value in (circles.along, circles.radius))
    height, across = (value.gather(3, of_atom[:, :, :, None]).squeeze(3) for value in (height, across))
    stretch = radius / across.clamp(min=1e-6)
    target = (along - stretch * height)[:, :, :, None] * axis[:, :, None] + stretch[:, :, :, None] * turned
    return target.flatten(2, 3), torch.where(distance.isfinite(), distance, 0.0)
