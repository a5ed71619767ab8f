"""A closed framework in which a block sits nearly right: of the ways to share out its partners, the one that fits best.

A metal with like arms closes within tolerance when it is turned by a quarter too many; its neighbours give way. Each
way is one permutation of the block's own connections, so nothing has to be matched anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matgen.geometry.rotations import kabsch
from matgen.mof.assembly.flips import connection_permutations
from matgen.mof.assembly.pairs import PairTable

if TYPE_CHECKING:
    from matgen.mof.assembly.refine import Refined
    from matgen.mof.building_block import BuildingBlock

__all__ = ["PolishConfig", "exchanged", "permutations_of"]


@dataclass(frozen=True, kw_only=True)
class PolishConfig:
    """Which blocks are looked at.

    Args:
        above: Å; blocks with a pair farther apart than this. Infinite switches it off.
        tolerance: Å by which arms may differ and still change places.
        gain: a turn is made where it lowers the root mean square misfit of its block by this factor.
        rounds: over the blocks.
    """

    above: float = 0.1
    tolerance: float = 0.5
    gain: float = 0.8
    rounds: int = 3


def exchanged(
    table: PairTable, rows: np.ndarray, fit: "Refined", permutations: Sequence[np.ndarray], config: PolishConfig
) -> np.ndarray | None:
    """Turn blocks whose connections fit their partners better in another order.

    Args:
        table: candidate pairs.
        rows: those that are made.
        fit: of the framework, refined.
        permutations: of every block, int [O, c], from `permutations_of`.
        config: which blocks.

    Returns:
        rotations [K, 3, 3], None where nothing fits better.
    """
    rotations = fit.rotations.copy()
    row_of = np.empty(len(table.block), dtype=np.int64)
    row_of[table.metal[rows]] = row_of[table.linker[rows]] = rows
    far = np.zeros(len(rotations))
    np.maximum.at(far, table.block[table.metal[rows]], fit.distance)
    np.maximum.at(far, table.block[table.linker[rows]], fit.distance)
    turned = False
    for _ in range(config.rounds):
        again = False
        for k in np.argsort(-far, kind="stable")[: int((far > config.above).sum())]:
            if len(permutations[k]) == 0:
                continue
            own, wanted = _points(table, row_of, fit, rotations, int(k))
            now = float(np.sqrt(np.square(own @ rotations[k].T - wanted).sum((1, 2)).mean()))
            best, misfit = _best_fit(own, wanted, permutations[k])
            if misfit < config.gain * now:
                rotations[k], again = best, True
        turned |= again
        if not again:
            break
    return rotations if turned else None


def permutations_of(blocks: "Sequence[BuildingBlock]", config: PolishConfig) -> list[np.ndarray]:
    """Of every block, the orders in which its connections may change places, int [O, c]."""
    return [connection_permutations(block, config.tolerance) for block in blocks]


def _points(
    table: PairTable, row_of: np.ndarray, fit: "Refined", rotations: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both points of each connection of block k [c, 2, 3], in its own frame, and where its partners want them."""
    mine = np.flatnonzero(table.block == k)
    rows = row_of[mine]
    partner = np.where(table.is_metal[mine], table.linker[rows], table.metal[rows])
    offset = table.offset[rows] + table.offset[rows] @ fit.strain
    offset += fit.shift[table.block[table.linker[rows]]] - fit.shift[table.block[table.metal[rows]]]
    turn = rotations[table.block[partner]]
    middle = np.einsum("cij,cj->ci", turn, table.arm[partner]) + np.where(table.is_metal[mine, None], offset, -offset)
    half = -np.einsum("cij,cj->ci", turn, table.half[partner])
    own = np.stack([table.arm[mine] + table.half[mine], table.arm[mine] - table.half[mine]], axis=1)
    return own, np.stack([middle + half, middle - half], axis=1)


def _best_fit(own: np.ndarray, wanted: np.ndarray, permutations: np.ndarray) -> tuple[np.ndarray, float]:
    """The rotation that fits best over all permutations (Kabsch), and its root mean square misfit in Å."""
    target = wanted[permutations]  # [O, c, 2, 3]
    turns = kabsch(np.einsum("ocxi,cxj->oij", target, own))
    misfit = np.square(np.einsum("oij,cxj->ocxi", turns, own) - target).sum((2, 3)).mean(1)
    best = int(misfit.argmin())
    return turns[best], float(np.sqrt(misfit[best]))
