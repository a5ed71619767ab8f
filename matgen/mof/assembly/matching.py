"""Exact pairing: every metal connection with one linker connection, as a minimum-cost matching."""

import numpy as np

from matgen.mof.assembly.pairs import PairTable

__all__ = ["match"]

_FAR = 1e4


def match(
    table: PairTable,
    rotations: np.ndarray,
    direction: float = 0.5,
    shift: np.ndarray | None = None,
    strain: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pair all connections at least cost: squared distances of the midpoints and of the halves of the bonds, capped.

    Args:
        table: candidate pairs.
        rotations: [K, 3, 3].
        direction: weight of the direction of a bond.
        shift: [K, 3] Å, of the centres.
        strain: [3, 3], of the cell.

    Returns:
        rows of the table [P], ordered by metal connection, and the distances of the midpoints [P] in Å; no rows where
        no candidate serves some connection.
    """
    from scipy.optimize import linear_sum_assignment

    turn = rotations[table.block]
    arm = np.einsum("cij,cj->ci", turn, table.arm)
    half = np.einsum("cij,cj->ci", turn, table.half)
    offset = table.offset if strain is None else table.offset + table.offset @ strain
    if shift is not None:
        offset = offset + shift[table.block[table.linker]] - shift[table.block[table.metal]]
    gap = arm[table.metal] - offset - arm[table.linker]
    bend = half[table.metal] + half[table.linker]
    squared = (gap * gap).sum(1)
    cost = squared + direction**2 * (bend * bend).sum(1)
    cost = 9.0 * cost / (9.0 + cost)  # what is far costs the same anywhere: one bad pair must not bend many
    metals, linkers = np.flatnonzero(table.is_metal), np.flatnonzero(~table.is_metal)
    rank = np.empty(len(table.block), dtype=np.int64)
    rank[metals], rank[linkers] = np.arange(len(metals)), np.arange(len(linkers))
    i, j = rank[table.metal], rank[table.linker]
    order = np.argsort(-cost, kind="stable")  # of several images the nearest is written last
    dense = np.full((len(metals), len(linkers)), _FAR)
    row = np.full(dense.shape, -1)
    dense[i[order], j[order]], row[i[order], j[order]] = cost[order], order
    rows = row[linear_sum_assignment(dense)]
    if (rows < 0).any():
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    return rows, np.sqrt(squared[rows])
