"""Centres of inversion that sampled blocks could have, as most frameworks do: half as much is left to be found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matgen.mof.assembly.problem import AssemblyInput
from matgen.mof.building_block import BuildingBlock

__all__ = ["Inversion", "find_inversions", "is_centred", "kinds"]

_NOT_CENTRED = 0.7  # Å, root mean square over atoms and connection points


@dataclass(frozen=True, eq=False)
class Inversion:
    """How blocks go over into each other.

    frac_coords: [K, 3], centres moved as little as makes them symmetric. partner: int [K], where the inversion takes
    each block, itself where it lies on a centre of inversion. cost: Å, root mean square of how far the centres moved.
    """

    frac_coords: np.ndarray
    partner: np.ndarray
    cost: float


def kinds(blocks: Sequence[BuildingBlock]) -> np.ndarray:
    """int [K], equal where blocks are the same in the same frame."""
    known: dict[tuple[bytes, ...], int] = {}
    names = [(b.atomic_numbers.tobytes(), b.cart_coords.tobytes(), b.connection_points.tobytes()) for b in blocks]
    return np.array([known.setdefault(name, len(known)) for name in names])


def is_centred(block: BuildingBlock) -> bool:
    """Whether inversion at its origin takes a block roughly into itself."""
    from scipy.optimize import linear_sum_assignment

    points = np.concatenate([block.connection_points, block.cart_coords])
    number = np.concatenate([-block.atomic_numbers[block.connection_atoms], block.atomic_numbers])
    squared = ((points[:, None] + points) ** 2).sum(-1)
    unlike = number[:, None] != number
    squared[unlike] = squared.max() * len(points) + 1.0
    i, j = linear_sum_assignment(squared)
    return not unlike[i, j].any() and bool(squared[i, j].mean() < _NOT_CENTRED**2)


def find_inversions(given: AssemblyInput, count: int, tries: int, rng: np.random.Generator) -> list[Inversion]:
    """Centres of inversion that move the blocks' centres least.

    Blocks go over into blocks of their kind (`kinds`), those that are centred also into themselves. Pairs are made
    greedily, the nearest first.

    Args:
        given: blocks, centres and cell.
        count: at most so many, each with other pairs.
        tries: places that are looked at, of all middles between two blocks of a kind, at random.
        rng: of these.

    Returns:
        the best first; none where an odd number of blocks is of a kind that is not centred.
    """
    kind = kinds(given.blocks)
    first = np.unique(kind, return_index=True)[1]
    centred = np.array([is_centred(given.blocks[at]) for at in first])[kind]
    if (~centred[first] & (np.bincount(kind) % 2 == 1)).any():
        return []
    same = np.triu(kind[:, None] == kind, 1) | np.diag(centred)
    i, j = np.nonzero(same)
    some = rng.permutation(len(i))[:tries]
    found = [_inversion(given, same, given.frac_coords[i[s]] + given.frac_coords[j[s]]) for s in some]
    kept: list[Inversion] = []
    for inversion in sorted((x for x in found if x is not None), key=lambda x: x.cost):
        if all((inversion.partner != other.partner).any() for other in kept):
            kept.append(inversion)
    return kept[:count]


def _inversion(given: AssemblyInput, same: np.ndarray, twice: np.ndarray) -> Inversion | None:
    """Inversion at half of `twice`; `same`: bool [K, K], which blocks may go over into which, upper triangle."""
    between = twice - given.frac_coords[:, None] - given.frac_coords
    image = np.round(between)
    distance = np.linalg.norm((between - image) @ given.lattice, axis=-1)
    partner = np.full(given.num_blocks, -1)
    taken: set[bytes] = set()  # of the eight centres in a cell, those with a block
    frac = given.frac_coords.copy()
    i, j = np.nonzero(same)
    for at in np.argsort(distance[i, j]):
        a, b = int(i[at]), int(j[at])
        if partner[a] >= 0 or partner[b] >= 0:
            continue
        if a == b:
            site = (image[a, a].astype(int) % 2).tobytes()
            if site in taken:
                continue
            taken.add(site)
        partner[a], partner[b] = b, a
        frac[[a, b]] += 0.5 * (between[a, b] - image[a, b])
    if (partner < 0).any():
        return None
    moved = (frac - given.frac_coords) @ given.lattice
    return Inversion(frac, partner, float(np.sqrt((moved**2).sum(-1).mean())))
