"""Which blocks of one identity have one shape: copies by symmetry need to be kept once."""

from collections.abc import Sequence

import numpy as np

from matgen.mof.building_block import BuildingBlock

__all__ = ["first_of_its_shape"]


def first_of_its_shape(blocks: Sequence[BuildingBlock], tolerance: float = 0.05) -> np.ndarray:
    """For each block the first one of its identity and shape.

    Args:
        blocks: usually of one framework.
        tolerance: Å, on sorted distances to the centre by element and among the connection points. Mirror images count
            as two shapes unless they differ by less than this too.

    Returns:
        int [blocks]; equal to its own index where the shape is new.
    """
    first = np.arange(len(blocks))
    seen: dict[str, list[tuple[int, np.ndarray]]] = {}
    for index, block in enumerate(blocks):
        shape = _shape(block)
        known = seen.setdefault(block.identity, [])
        match = next((i for i, other in known if np.abs(shape - other).max() <= tolerance), None)
        if match is None:
            known.append((index, shape))
        else:
            first[index] = match
    return first


def _shape(block: BuildingBlock) -> np.ndarray:
    """Sorted distances, and a signed length that changes its sign in a mirror, Å."""
    points = block.connection_points
    radius = np.linalg.norm(block.cart_coords, axis=1)
    order = np.lexsort((radius, block.atomic_numbers))
    square = (points**2).sum(axis=1)
    squared = square[:, None] + square - 2.0 * points @ points.T
    apart = np.sort(np.sqrt(np.maximum(squared, 0.0)), axis=None)
    weights = np.stack([np.ones_like(radius), radius, radius**2]) * block.atomic_numbers
    moments = weights @ block.cart_coords / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return np.concatenate([radius[order], apart, [np.cbrt(np.linalg.det(moments))]])
