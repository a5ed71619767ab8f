"""Alternate a soft assignment of connections with the best rotation of each block, while the assignment hardens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from matgen.mof.assembly.layout import Group, Layout

__all__ = ["State", "alternate", "nearest_partners", "place"]


@dataclass(eq=False)
class State:
    """Where every block is turned, in every start.

    rotations: [B, S, 3, 3]. shifts: [B, S, 3] Å, of the centres. points: [N + 1, 6, S] Å, turned and shifted points of
    all connections from where their blocks' centres were given (the last is the dummy). potential: [N + 1, S], log of
    the normaliser of each connection's partners.
    """

    rotations: Tensor
    shifts: Tensor
    points: Tensor
    potential: Tensor


def place(layout: Layout, rotations: Tensor) -> State:
    """Turn the blocks about their given centres; all connections are free."""
    starts = rotations.shape[1]
    points = torch.zeros(layout.num_slots + 1, 6, starts, dtype=rotations.dtype, device=rotations.device)
    state = State(rotations, torch.zeros_like(rotations[..., 0]), points, torch.zeros_like(points[:, 0]))
    for group in layout.groups:
        _put(group, state, rotations[group.block], state.shifts[group.block])
    return state


def _put(group: Group, state: State, rotations: Tensor, shifts: Tensor) -> None:
    state.rotations[group.block], state.shifts[group.block] = rotations, shifts
    points = group.turned(rotations).unflatten(2, (2, 3)) + shifts.mT[:, None, None]
    state.points.index_copy_(0, group.slot.flatten(), points.flatten(2, 3).flatten(0, 1))
    state.points[-1] = 0.0


def _wanted(group: Group, state: State) -> Tensor:
    """[G, C, M, 6, S] Å: where the points of each connection would be, if joined to each candidate."""
    swapped = state.points.roll(3, dims=1)  # the outer atom of one is the inner atom of the other
    theirs = swapped.index_select(0, group.partner.flatten()).unflatten(0, group.partner.shape)
    return theirs.add_(group.offset[..., None])


def alternate(layout: Layout, state: State, sigmas: Sequence[float], spring: float) -> None:
    """Run the annealing, one entry of `sigmas` (Å) an iteration; `state` is changed in place.

    A spring holds each centre where it was given, as strongly as `spring` connections; an infinite one fixes it. The
    connections of a block are centred on its origin, so its best rotation and shift do not depend on each other.

    The potentials make the assignment doubly stochastic (Sinkhorn): a connection that many want gives each less.
    """
    for sigma in sigmas:
        for group in layout.groups:
            _update(group, state, sigma, spring)


def _update(group: Group, state: State, sigma: float, spring: float) -> None:
    wanted = _wanted(group, state)
    mine = state.points[group.slot][:, :, None]
    energy = (wanted - mine).square_().sum(3).div_(4 * sigma**2)
    theirs = state.potential.index_select(0, group.partner.flatten()).unflatten(0, group.partner.shape)
    logits = (energy + theirs).neg_().masked_fill_(~group.candidate[..., None], -torch.inf)
    top = logits.amax(dim=2, keepdim=True).clamp(min=-1e30)
    weight = (logits - top).exp_()
    total = weight.sum(dim=2, keepdim=True).clamp(min=1e-30)
    state.potential[group.slot.flatten()] = (top + total.log()).squeeze(2).flatten(0, 1)
    state.potential[-1] = 0.0
    target = wanted.mul_((weight / total)[..., None, :]).sum(dim=2)  # [G, C, 6, S]
    shifts = state.shifts[group.block]
    if spring < float("inf"):
        middle = target.unflatten(2, (2, 3)).mean(2).masked_fill(~group.mask[..., None, None], 0.0).sum(1)
        shifts = middle.mT / (group.mask.sum(1)[:, None, None] + spring)
    _put(group, state, group.fitted(target), shifts)


def nearest_partners(layout: Layout, state: State) -> tuple[Tensor, Tensor, Tensor]:
    """The best candidate of every connection, one by one.

    Returns:
        row [N, S] of the pair tables (each framework's pairs follow one another), distance of the two midpoints [N, S]
        in Å, and squared distance of both points [N, S] in Å^2.
    """
    starts = state.points.shape[2]
    device = state.points.device
    pair = torch.full((layout.num_slots + 1, starts), -1, dtype=torch.long, device=device)
    middle = torch.full((layout.num_slots + 1, starts), torch.inf, dtype=state.points.dtype, device=device)
    both = middle.clone()
    for group in layout.groups:
        gap = _wanted(group, state) - state.points[group.slot][:, :, None]
        squared = torch.where(group.candidate[..., None], gap.square().sum(3) / 2, torch.inf)
        least, best = squared.min(dim=2)
        chosen = gap.gather(2, best[:, :, None, None].expand(*best.shape[:2], 1, 6, starts)).squeeze(2)
        slots = group.slot.flatten()
        pair[slots] = group.pair.gather(2, best).flatten(0, 1)
        middle[slots] = ((chosen[:, :, :3] + chosen[:, :, 3:]) / 2).norm(dim=2).flatten(0, 1)
        both[slots] = least.flatten(0, 1)
    return pair[:-1], middle[:-1], both[:-1]
