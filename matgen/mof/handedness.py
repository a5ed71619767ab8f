"""Which mirror image of each block fits its place: neither embeddings nor libraries tell the two apart."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from matgen.geometry.rotations import random_rotations
from matgen.mof.assembly.feasibility import balance
from matgen.mof.assembly.layout import build_layout
from matgen.mof.assembly.pairs import candidate_pairs
from matgen.mof.assembly.pools import orientation_pool
from matgen.mof.assembly.problem import AssemblyInput
from matgen.mof.assembly.search import SearchConfig
from matgen.mof.building_block import BuildingBlock

__all__ = ["mirrored", "with_best_hands"]

_BETTER = 0.05  # Å by which a mirror image must fit better to be taken
_SEED = 0
_ORIENTATIONS = 48  # more than a search draws: both hands must be fitted as well as they can


def mirrored(block: BuildingBlock) -> BuildingBlock:
    """The block inverted at its origin."""
    return replace(block, cart_coords=-block.cart_coords, connection_points=-block.connection_points)


def with_best_hands(
    inputs: Sequence[AssemblyInput], config: SearchConfig | None = None
) -> tuple[list[AssemblyInput], list[np.ndarray]]:
    """Exchange blocks for their mirror images where those fit the places of their neighbours better.

    A block is fitted by itself: where its connections can meet a neighbour depends on the lengths of the neighbour's
    arms, not on the neighbour's hand.

    Args:
        inputs: blocks, centres and cells.
        config: reach of the candidate pairs.

    Returns:
        the inputs, and for each which of its blocks were mirrored, bool [K].
    """
    config = config or SearchConfig()
    chosen, flags = [], []
    for given in inputs:
        image = replace(given, blocks=tuple(mirrored(block) for block in given.blocks))
        own, other = _fits(given, config), _fits(image, config)
        turned = np.asarray(other < own - _BETTER)
        blocks = tuple(b if flip else a for a, b, flip in zip(given.blocks, image.blocks, turned, strict=True))
        chosen.append(replace(given, blocks=blocks))
        flags.append(turned)
    return chosen, flags


def _fits(given: AssemblyInput, config: SearchConfig) -> np.ndarray:
    """Root mean square distance in Å of each block's connections from where they can meet a neighbour, [K]."""
    count = given.num_blocks
    if balance(given) is not None:
        return np.zeros(count)
    table = candidate_pairs(given, config.reach)
    if len(table.metal) == 0:
        return np.zeros(count)
    layout = build_layout([table], config.direction, torch.device("cpu"))
    dtype = layout.groups[0].points.dtype
    points = torch.zeros(layout.num_slots + 1, 6, dtype=dtype)
    for group in layout.groups:
        points[group.slot.flatten()] = group.points.flatten(0, 1)
    points[-1] = 0.0
    start = random_rotations(_ORIENTATIONS, np.random.default_rng(_SEED)).to(dtype)
    score = torch.zeros(layout.num_blocks, dtype=dtype)
    for group in layout.groups:
        rotations = start.expand(len(group.block), -1, -1, -1)
        score[group.block] = orientation_pool(group, points, rotations)[1].amin(-1)
    return score.double().numpy()
