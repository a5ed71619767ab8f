"""Fractional coordinates under periodic boundaries: wrapping and nearest images, exact for reduced cells."""

import itertools

import numpy as np

__all__ = ["nearest_image", "shortest_translation", "wrap"]

_NEIGHBOURS = np.array(list(itertools.product((0, -1, 1), repeat=3)), dtype=float)  # the first is (0, 0, 0)
_CHUNK = 4096  # rows at a time: their 27 neighbours stay in the cache
_PRODUCTS = np.stack([_NEIGHBOURS[:, i] * _NEIGHBOURS[:, j] for i, j in itertools.product(range(3), repeat=2)])


def wrap(frac_coords: np.ndarray) -> np.ndarray:
    """Fractional coordinates moved into [0, 1); values within 1e-12 below 1 become 0."""
    wrapped = frac_coords - np.floor(frac_coords)
    wrapped[wrapped > 1 - 1e-12] = 0.0
    return wrapped


def nearest_image(difference: np.ndarray, metric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shortest periodic image of each difference vector.

    Args:
        difference: [Q, 3] components on a lattice basis.
        metric: [Q, 3, 3] Gram matrices of the bases (Å^2); exact for Minkowski-reduced bases in any order, and where a
            row and column are zero (a basis of lower rank).

    Returns:
        the image [Q, 3] and its squared length [Q] in Å^2.
    """
    image = difference - np.rint(difference)
    dual = np.einsum("qij,qj->qi", metric, image)
    squared = np.einsum("qi,qi->q", image, dual)
    all_oblique = np.flatnonzero(np.abs(metric[:, 0, 1]) + np.abs(metric[:, 0, 2]) + np.abs(metric[:, 1, 2]) > 1e-9)
    for start in range(0, len(all_oblique), _CHUNK):
        oblique = all_oblique[start : start + _CHUNK]
        change = 2.0 * (dual[oblique] @ _NEIGHBOURS.T) + metric[oblique].reshape(-1, 9) @ _PRODUCTS
        best = change.argmin(axis=1)
        squared[oblique] += change[np.arange(len(oblique)), best]
        image[oblique] += _NEIGHBOURS[best]
    return image, np.maximum(squared, 0.0)


def shortest_translation(metric: np.ndarray) -> np.ndarray:
    """Squared length [B] in Å^2 of the shortest lattice translation of reduced cells with Gram matrices [B, 3, 3]."""
    return (metric.reshape(-1, 9) @ _PRODUCTS)[:, 1:].min(axis=1)
