"""Which sampled blocks of a framework are one block in several places."""

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

__all__ = ["grouped"]


def grouped(embedding: np.ndarray, is_metal: np.ndarray, distance: float, paired: bool) -> list[np.ndarray]:
    """Group blocks of one role that are near each other, by average linkage.

    Args:
        embedding: [K, D].
        is_metal: bool [K], the roles.
        distance: blocks nearer than this, on average, are one; 0 leaves each alone.
        paired: pairs are made first, the nearest first, so that of each role one group at most has an odd size.

    Returns:
        rows of each group, metal nodes first.
    """
    groups: list[np.ndarray] = []
    for role in (True, False):
        rows = np.flatnonzero(is_metal == role)
        units = [rows[i : i + 1] for i in range(len(rows))]
        if distance > 0:
            units = _linked(embedding, _pairs(embedding, rows) if paired else units, distance)
        groups += units
    return groups


def _pairs(embedding: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """The nearest two, then the nearest two of the others; where they are odd, one is left alone."""
    gap = np.linalg.norm(embedding[rows][:, None] - embedding[rows], axis=-1)
    i, j = np.triu_indices(len(rows), 1)
    free = dict.fromkeys(range(len(rows)))
    pairs = []
    for at in np.argsort(gap[i, j], kind="stable"):
        one, other = int(i[at]), int(j[at])
        if one in free and other in free:
            del free[one], free[other]
            pairs.append(rows[[one, other]])
    return pairs + [rows[[one]] for one in free]


def _linked(embedding: np.ndarray, units: list[np.ndarray], distance: float) -> list[np.ndarray]:
    if len(units) < 2:
        return units
    middles = np.stack([embedding[unit].mean(axis=0) for unit in units])
    labels = fcluster(linkage(middles, "average"), distance, "distance")
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return [np.sort(np.concatenate([units[at] for at in group])) for group in groups]
