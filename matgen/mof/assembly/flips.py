"""Turns of a block that leave its connections where they are: flips, permutations of a node's arms, free torsions."""

from typing import TYPE_CHECKING

import numpy as np

from matgen.geometry.rotations import kabsch

if TYPE_CHECKING:
    from matgen.mof.building_block import BuildingBlock

__all__ = ["about", "connection_permutations", "free_turns", "is_collinear"]


def _points(block: "BuildingBlock") -> np.ndarray:
    """[c, 2, 3]: both atoms of every cut bond."""
    half = block.connection_points - block.cart_coords[block.connection_atoms]
    return np.stack([block.connection_points + half, block.connection_points - half], axis=1)


def is_collinear(block: "BuildingBlock", tolerance: float = 0.3) -> np.ndarray | None:
    """Axis [3] about which all connections turn freely, None where they fix the block."""
    points = _points(block).reshape(-1, 3)
    axis = np.linalg.svd(points, full_matrices=False)[2][0]
    away = points - np.outer(points @ axis, axis)
    return axis if np.linalg.norm(away, axis=1).max() < tolerance else None


def free_turns(block: "BuildingBlock", tolerance: float = 0.3, torsion_step: float = 30.0) -> np.ndarray:
    """Rotations [O, 3, 3] in the block's frame that keep its connections and move its atoms; the first is none at all.

    Args:
        block: any block.
        tolerance: Å by which connections may move.
        torsion_step: degrees, where the block turns freely about an axis.
    """
    if block.num_atoms == 1:
        return np.eye(3)[None]
    axis = is_collinear(block, tolerance)
    turns = _symmetries(_points(block), tolerance) if axis is None else _torsions(block, axis, tolerance, torsion_step)
    return _distinct(block, np.concatenate([np.eye(3)[None], turns]))


def connection_permutations(block: "BuildingBlock", tolerance: float) -> np.ndarray:
    """int [O, c]: connection c takes the place of connection [o, c] by some rotation; none where they are collinear.

    Args:
        block: any block.
        tolerance: Å by which the places may differ.
    """
    if len(block.connection_points) < 3 or is_collinear(block) is not None:
        return np.zeros((0, len(block.connection_points)), dtype=np.int64)
    points = _points(block)
    turned = np.einsum("oij,cxj->ocxi", _symmetries(points, tolerance), points)
    squared = np.square(turned[:, :, None] - points).sum((3, 4))
    return np.unique(squared.argmin(-1), axis=0)


def _torsions(block: "BuildingBlock", axis: np.ndarray, tolerance: float, step: float) -> np.ndarray:
    angles = np.deg2rad(np.arange(0.0, 360.0, step))
    turns = np.stack([about(axis, angle) for angle in angles])
    across = np.linalg.svd(axis[None])[2][-1]
    flip = 2.0 * np.outer(across, across) - np.eye(3)
    points = _points(block)
    if _kept(points, flip[None], tolerance)[0]:
        turns = np.concatenate([turns, turns @ flip])
    return turns


def about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation [3, 3] by `angle` (radians) about a unit vector."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross)


def _symmetries(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Rotations that map the set of connections onto itself: one pair of arms onto every like pair."""
    outer = points[:, 0]
    reach = np.linalg.norm(points, axis=2)
    first = int(reach[:, 0].argmax())
    second_of = np.concatenate([outer, points[:, 1]])
    second = int(np.linalg.norm(np.cross(outer[first], second_of), axis=1).argmax())
    side, second = divmod(second, len(points))
    like_first = np.flatnonzero((np.abs(reach - reach[first]) < tolerance).all(axis=1))
    like_second = np.flatnonzero((np.abs(reach - reach[second]) < tolerance).all(axis=1))
    i, j = (x.ravel() for x in np.meshgrid(like_first, like_second, indexing="ij"))
    apart = np.linalg.norm(outer[i] - points[j, side], axis=1)
    near = np.abs(apart - np.linalg.norm(outer[first] - points[second, side])) < 1.5 * tolerance
    source = _frames(outer[first][None], points[second, side][None])[0]
    target = _frames(outer[i[near]], points[j[near], side])
    turns = target @ source.T
    return _fitted(points, turns[_kept(points, turns, tolerance)])


def _frames(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Right-handed frames as columns, from pairs of vectors."""
    x = a / np.linalg.norm(a, axis=1, keepdims=True)
    y = b - (b * x).sum(1, keepdims=True) * x
    y = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-9)
    return np.stack([x, y, np.cross(x, y)], axis=2)


def _kept(points: np.ndarray, turns: np.ndarray, tolerance: float) -> np.ndarray:
    """Whether each turn puts every connection onto one of its own."""
    flat = points.reshape(len(points), 6)
    turned = np.einsum("oij,cxj->ocxi", turns, points).reshape(len(turns), len(points), 6)
    squared = ((turned[:, :, None] - flat) ** 2).sum(-1) / 2.0
    target = squared.argmin(-1)
    one_each = (np.sort(target, axis=1) == np.arange(len(points))).all(axis=1)
    return np.asarray(one_each & (squared.min(-1).max(-1) < (2 * tolerance) ** 2))


def _fitted(points: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """The turns [O, 3, 3], refitted to all connections (Kabsch)."""
    turned = np.einsum("oij,cxj->ocxi", turns, points)
    target = points[np.square(turned[:, :, None] - points).sum((3, 4)).argmin(2)]  # [O, c, 2, 3]
    return kabsch(np.einsum("ocxi,cxj->oij", target, points))


def _distinct(block: "BuildingBlock", turns: np.ndarray, tolerance: float = 0.35) -> np.ndarray:
    """Leave out turns that put like atoms where like atoms were after an earlier one."""
    unlike = np.where(block.atomic_numbers[:, None] == block.atomic_numbers, 0.0, 1e3)
    kept: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for turn in turns:
        place = block.cart_coords @ turn.T
        for other in places:
            squared = ((place[:, None] - other) ** 2).sum(-1) + unlike
            if squared.min(1).max() < tolerance**2:
                break
        else:
            kept.append(turn)
            places.append(place)
    return np.stack(kept)
