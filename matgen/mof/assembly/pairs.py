"""Which metal and linker connections can meet at all, given the centres: images written out once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matgen.mof.assembly.problem import AssemblyInput, connection_blocks

if TYPE_CHECKING:
    from matgen.mof.building_block import BuildingBlock

__all__ = ["PairTable", "candidate_pairs", "image_vectors", "sides"]


@dataclass(frozen=True, eq=False)
class PairTable:
    """Candidate pairs of one framework, and its connection points as two points each.

    A connection is the midpoint of a cut bond (arm, from the block's origin) and half of that bond (half, from the
    block's own atom to the midpoint). Where two blocks are joined, the midpoints coincide and the halves are opposite.

    block, arm, half, is_metal: int [C], float [C, 3] in Å, float [C, 3], bool [C], in the order of the blocks.
    metal, linker: int [E], the connections of each candidate pair. image: int [E, 3], cell of the linker's block
    relative to the metal's. offset: float [E, 3] in Å, from the metal's centre to the linker's.
    """

    block: np.ndarray
    arm: np.ndarray
    half: np.ndarray
    is_metal: np.ndarray
    metal: np.ndarray
    linker: np.ndarray
    image: np.ndarray
    offset: np.ndarray


def sides(blocks: "Sequence[BuildingBlock]") -> np.ndarray:
    """bool [C]: connection points whose own atom is a metal."""
    if not blocks:
        return np.zeros(0, dtype=bool)
    return np.concatenate([np.asarray(block.connection_is_metal, dtype=bool) for block in blocks])


def image_vectors(lattice: np.ndarray, reach: float) -> np.ndarray:
    """int [T, 3]: every translation of a lattice [3, 3], or of some of [S, 3, 3], that can bring two points of one cell
    within `reach` Å."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=-2).reshape(-1, 3)
    counts = np.ceil(reach / heights.min(axis=0)).astype(int)
    axes = [np.arange(-n, n + 1) for n in counts]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def candidate_pairs(given: AssemblyInput, tolerance: float) -> PairTable:
    """Find the metal and linker connections that the triangle inequality on their arms lets meet.

    The two atoms of the cut bond must meet as well as its midpoint, so the test is made for three points of each pair.

    Args:
        given: blocks, cell and centres.
        tolerance: Å allowed in each distance; raise it where blocks do not fit exactly or centres are uncertain.
    """
    blocks = given.blocks
    block = connection_blocks(blocks)
    arm = np.concatenate([b.connection_points for b in blocks]).astype(float)
    half = arm - np.concatenate([b.cart_coords[b.connection_atoms] for b in blocks])
    is_metal = sides(blocks)
    first, second, image, offset = _near_centres(given, block, arm, is_metal, tolerance)
    reaches = np.stack([np.linalg.norm(arm + x * half, axis=1) for x in (0.0, 1.0, -1.0)], axis=1)
    metal, linker, pair = _products(block, is_metal, first, second)
    distance = np.linalg.norm(offset, axis=1)[pair, None]
    r, s = reaches[metal], reaches[linker][:, [0, 2, 1]]
    near = ((np.abs(r - s) <= distance + tolerance) & (distance <= r + s + tolerance)).all(axis=1)
    pair = pair[near]
    return PairTable(block, arm, half, is_metal, metal[near], linker[near], image[pair], offset[pair])


def _near_centres(
    given: AssemblyInput, block: np.ndarray, arm: np.ndarray, is_metal: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of blocks (metal side first) with the image of the second, whose longest arms can meet."""
    longest = np.zeros((2, given.num_blocks))
    for side in (0, 1):
        mine = is_metal == (side == 0)
        np.maximum.at(longest[side], block[mine], np.linalg.norm(arm[mine], axis=1))
    firsts, seconds = (np.unique(block[is_metal == (side == 0)]) for side in (0, 1))
    if not (len(firsts) and len(seconds)):
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros((0, 3), dtype=np.int64), np.zeros((0, 3))
    wrapped = given.frac_coords - np.floor(given.frac_coords)
    shift = np.floor(given.frac_coords).astype(np.int64)
    reach = float(longest[0].max() + longest[1].max()) + tolerance
    images = image_vectors(given.lattice, reach)
    cart = wrapped @ given.lattice
    between = (cart[seconds][None] - cart[firsts][:, None])[:, :, None] + (images @ given.lattice)[None, None]
    limit = longest[0][firsts][:, None] + longest[1][seconds][None] + tolerance
    a, b, t = np.nonzero((between * between).sum(-1) <= (limit * limit)[:, :, None])
    first, second = firsts[a], seconds[b]
    return first, second, images[t] - shift[second] + shift[first], between[a, b, t]


def _products(
    block: np.ndarray, is_metal: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of a metal connection of `first` and a linker connection of `second`, and of which pair of blocks."""
    count = int(block.max()) + 1 if len(block) else 0
    lists = []
    for metal_side in (True, False):
        of_block = [np.flatnonzero((block == k) & (is_metal == metal_side)) for k in range(count)]
        lists.append((np.concatenate([*of_block, np.zeros(0, dtype=np.int64)]), np.array([len(x) for x in of_block])))
    (flat_a, count_a), (flat_b, count_b) = lists
    start_a, start_b = np.cumsum(count_a) - count_a, np.cumsum(count_b) - count_b
    width_b = count_b[second] if len(second) else np.zeros(0, dtype=np.int64)
    size = (count_a[first] if len(first) else width_b) * width_b
    pair = np.repeat(np.arange(len(first)), size)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(size) - size, size)
    i, j = np.divmod(within, np.maximum(width_b[pair], 1))
    metal = flat_a[start_a[first[pair]] + i].astype(np.int64)
    linker = flat_b[start_b[second[pair]] + j].astype(np.int64)
    return metal, linker, pair
