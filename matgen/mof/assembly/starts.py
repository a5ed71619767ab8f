"""Where annealing begins: blocks scattered about the given centres, or thrown about where they do not fit yet."""

from collections.abc import Sequence

import numpy as np
import torch

from matgen.geometry.rotations import random_rotations
from matgen.mof.assembly.bodies import Placement
from matgen.mof.assembly.inversion import find_inversions
from matgen.mof.assembly.judge import Annealed
from matgen.mof.assembly.problem import AssemblyInput
from matgen.mof.assembly.walk import Partners

__all__ = ["scattered", "stacked", "thrown"]

_TRIES = 200  # middles between blocks that are looked at for centres of inversion


def scattered(
    given: AssemblyInput, count: int, inverted: int, spread: float, rng: np.random.Generator
) -> tuple[Placement, Partners | None]:
    """Blocks scattered about the given centres and turned at random.

    Args:
        given: blocks, centres and cell.
        count: starts.
        inverted: of these, the first ones, that have a centre of inversion, where blocks can.
        spread: Å, of the last start of either sort; the first begins at the centres.
        rng: of all that is drawn.

    Returns:
        the starts, and what goes over into what. Rotations of blocks that are mirror images are improper.
    """
    inversions = find_inversions(given, inverted, _TRIES, rng) if inverted else []
    inverted = inverted if inversions else 0
    shape = (count, given.num_blocks, 3)
    centres = np.tile(given.frac_coords @ given.lattice, (count, 1, 1))
    scatter = rng.standard_normal(shape)
    rotations = random_rotations(count * given.num_blocks, rng).numpy().reshape(*shape, 3)
    index = np.tile(np.arange(given.num_blocks), (count, 1))
    for start in range(inverted):
        inversion = inversions[start % len(inversions)]
        index[start] = partner = inversion.partner
        centres[start] = inversion.frac_coords @ given.lattice
        scatter[start] = 0.5 * (scatter[start] - scatter[start, partner])
        second = partner < np.arange(given.num_blocks)
        rotations[start, second] = -rotations[start, partner[second]]
    far = np.concatenate([np.linspace(0.0, spread, n) for n in (inverted, count - inverted)])
    centres += far[:, None, None] * scatter
    place = stacked(list(centres), list(rotations), [given.lattice] * count)
    if not inverted:
        return place, None
    return place, Partners(torch.as_tensor(index), torch.arange(count) < inverted)


def thrown(best: Sequence[Annealed], count: int, redraw: float, kick: float, rng: np.random.Generator) -> Placement:
    """The best as they are, then copies of them with loose blocks turned and moved at random.

    Args:
        best: where an earlier round ended.
        count: starts.
        redraw: share of loose blocks that are turned, and that are moved.
        kick: Å, by which they are moved, along each axis.
        rng: of all that is drawn.
    """
    lattices, centres, rotations = [], [], []
    for number in range(count):
        state = best[number % len(best)]
        place, turn = state.given.frac_coords @ state.given.lattice, state.rotations
        if number >= len(best):
            turned, moved = (state.loose & (rng.random(len(place)) < redraw) for _ in range(2))
            hand = np.where(state.mirrored, -1.0, 1.0)[:, None, None]
            turn = np.where(turned[:, None, None], hand * random_rotations(len(place), rng).numpy(), turn)
            place = place + moved[:, None] * kick * rng.standard_normal(place.shape)
        lattices.append(state.given.lattice)
        centres.append(place)
        rotations.append(turn)
    return stacked(centres, rotations, lattices)


def stacked(
    centres: Sequence[np.ndarray], rotations: Sequence[np.ndarray], lattices: Sequence[np.ndarray]
) -> Placement:
    """Placements of many starts, in single precision."""
    return Placement(*(torch.as_tensor(np.stack(x)).float() for x in (centres, rotations, lattices)))
