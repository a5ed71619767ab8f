"""One-dimensional components that may turn as a whole: a straight chain keeps every bond when it turns on its axis."""

from dataclasses import dataclass

import numpy as np

from matgen.mof.assembly.pairs import PairTable

__all__ = ["Chain", "straight_chains"]

_STRAIGHT = 0.4  # Å that a centre may lie off the axis


@dataclass(frozen=True, eq=False)
class Chain:
    """blocks: int [.], those of one chain. axis: float64 [3], of unit length."""

    blocks: np.ndarray
    axis: np.ndarray


def straight_chains(table: PairTable, rows: np.ndarray, num_blocks: int) -> list[Chain]:
    """Find the chains all of whose centres lie on one line.

    Args:
        table: candidate pairs.
        rows: those that are made.
        num_blocks: of the framework.
    """
    place = np.full((num_blocks, 3), np.nan)
    first, second = table.block[table.metal[rows]], table.block[table.linker[rows]]
    offset = table.offset[rows]
    chains = []
    for root in range(num_blocks):
        if not np.isnan(place[root, 0]):
            continue
        place[root] = 0.0
        mine = np.zeros(num_blocks, dtype=bool)
        mine[root] = True
        while True:
            out, back = mine[first] & ~mine[second], mine[second] & ~mine[first]
            if not (out.any() or back.any()):
                break
            place[second[out]] = place[first[out]] + offset[out]
            place[first[back]] = place[second[back]] - offset[back]
            mine[second[out]] = mine[first[back]] = True
        inside = mine[first]
        loops = place[first[inside]] + offset[inside] - place[second[inside]]
        chain = _chain(np.flatnonzero(mine), place[mine], loops)
        if chain is not None:
            chains.append(chain)
    return chains


def _chain(blocks: np.ndarray, places: np.ndarray, loops: np.ndarray) -> Chain | None:
    if len(loops) == 0 or np.linalg.matrix_rank(loops, tol=1.0) != 1:
        return None
    longest = loops[np.linalg.norm(loops, axis=1).argmax()]
    axis = longest / np.linalg.norm(longest)
    away = places - places.mean(0)
    away = away - np.outer(away @ axis, axis)
    return Chain(blocks, axis) if np.linalg.norm(away, axis=1).max() < _STRAIGHT else None
