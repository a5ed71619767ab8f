"""Turning blocks onto the vertices of a net, and the net's cell to the size of its blocks: what PORMAKE does slowly.

PORMAKE's Builder takes these two in place of its own: the same objectives, by batched algebra instead of loops over
atoms objects, and without compiling a gradient for every framework.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult, linear_sum_assignment, minimize
from scipy.spatial.transform import Rotation

__all__ = ["Locator", "Scaler"]

_NUM_STARTS = 96
_STARTS = Rotation.random(_NUM_STARTS, random_state=0).as_matrix()


class Locator:
    """Best rotation and order of a block's connection points on the directions of a vertex."""

    def locate(self, target: Any, bb: Any, max_n_slices: int = 4) -> tuple[Any, np.ndarray, float]:
        """Search all orders that some start orientation suggests.

        Args:
            target: PORMAKE LocalStructure of the vertex, unit vectors.
            bb: BuildingBlock.
            max_n_slices: not used; PORMAKE's Builder passes it.

        Returns:
            The turned copy, the order, and the root mean square distance of the unit vectors.
        """
        wanted, given = np.array(target.atoms.positions), np.array(bb.local_structure().atoms.positions)
        orders = _orders(wanted, given @ _STARTS)
        turns, rmsd = _best_turns(wanted, given[orders])
        again = _orders(wanted, given @ turns)
        turns, rmsd = _best_turns(wanted, given[again])
        best = int(np.round(rmsd, 9).argmin())
        return _turned(bb, turns[best]), again[best], float(rmsd[best])

    def locate_with_permutation(self, target: Any, bb: Any, permutation: np.ndarray) -> tuple[Any, float]:
        """The best rotation for a given order."""
        given = np.array(bb.local_structure().atoms.positions)[np.asarray(permutation)]
        turns, rmsd = _best_turns(np.array(target.atoms.positions), given[None])
        return _turned(bb, turns[0]), float(rmsd[0])

    def calculate_rmsd(self, target: Any, bb: Any, max_n_slices: int = 4) -> float:
        """The root mean square distance of the best fit."""
        return self.locate(target, bb, max_n_slices)[2]


def _orders(wanted: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Order of the points of each orientation that brings them nearest to the wanted ones, unique rows [k, n]."""
    overlap = np.einsum("ni,smi->snm", wanted, turned)
    return np.unique([linear_sum_assignment(item, maximize=True)[1] for item in overlap], axis=0)


def _best_turns(wanted: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations R [k, 3, 3] that bring rows of `given` [k, n, 3] nearest to `wanted` as given @ R (Kabsch)."""
    left, _, right = np.linalg.svd(np.einsum("kni,nj->kij", given, wanted))
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    turns = left @ right
    return turns, np.sqrt(((given @ turns - wanted) ** 2).sum(axis=2).mean(axis=1))


def _turned(block: Any, turn: np.ndarray) -> Any:
    copy = block.copy()
    centre = copy.centroid
    copy.atoms.set_positions((copy.atoms.positions - centre) @ turn + centre)
    return copy


@dataclass(frozen=True)
class _Net:
    """Edges of a net: vertices [E, 2], images [E, 3] of the second, place of each end in its vertex's list [E, 2]."""

    ends: np.ndarray
    images: np.ndarray
    places: np.ndarray


class Scaler:
    """Cell and places of vertices for which edges have the lengths, and angles the size, that the blocks have."""

    def scale(self, topology: Any, bbs: list[Any], perms: list[Any], return_result: bool = False) -> Any:
        """Least squares of the scalar products of all pairs of edges at each vertex.

        Args:
            topology: PORMAKE Topology.
            bbs: block of each slot; None on edges that are direct bonds.
            perms: order of the connection points on each vertex.
            return_result: with the optimizer's result; PORMAKE's Builder asks for it.
        """
        net = _read(topology)
        outward = _wanted_vectors(topology, net, bbs, perms)
        first, second = _pairs(net)
        products = (outward[first] * outward[second]).sum(axis=1)
        scale = np.abs(products).mean()
        weights = np.where(first == second, 2.0, 1.0)
        vertices, inverse = np.unique(net.ends, return_inverse=True)
        ends = inverse.reshape(-1, 2)
        frac, cell = np.array(topology.atoms.get_scaled_positions(wrap=False))[vertices], np.array(topology.atoms.cell)
        lengths = np.linalg.norm((frac[ends[:, 1]] - frac[ends[:, 0]] + net.images) @ cell, axis=1)
        cell = cell * np.sqrt((outward**2).sum(axis=1).mean() / scale) / lengths.mean()

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            s, c = x[:-9].reshape(-1, 3), x[-9:].reshape(3, 3)
            steps = s[ends[:, 1]] - s[ends[:, 0]] + net.images
            both = np.concatenate([steps, -steps]) @ c
            off = (both[first] * both[second]).sum(axis=1) - products / scale
            pull = np.zeros_like(both)
            slope = (2.0 / len(off)) * (weights * off)[:, None]
            np.add.at(pull, first, slope * both[second])
            np.add.at(pull, second, slope * both[first])
            along = pull[: len(steps)] - pull[len(steps) :]
            on_s = np.zeros_like(s)
            np.add.at(on_s, ends[:, 1], along @ c.T)
            np.add.at(on_s, ends[:, 0], -along @ c.T)
            return float((weights * off**2).mean()), np.concatenate([on_s.ravel(), (steps.T @ along).ravel()])

        result = minimize(loss, np.concatenate([frac.ravel(), cell.ravel()]), jac=True, method="L-BFGS-B")
        frac, cell = result.x[:-9].reshape(-1, 3), result.x[-9:].reshape(3, 3) * np.sqrt(scale)
        scaled = _rescaled(topology, net, dict(zip(vertices.tolist(), frac, strict=True)), cell)
        return (scaled, OptimizeResult(fun=result.fun)) if return_result else scaled


def _read(topology: Any) -> _Net:
    ends, images, places = [], [], []
    inverse, positions = np.linalg.inv(np.array(topology.atoms.cell)), topology.atoms.positions
    for edge in topology.edge_indices:
        a, b = topology.neighbor_list[edge]
        ends.append((a.index, b.index))
        images.append((b.distance_vector - a.distance_vector - positions[b.index] + positions[a.index]) @ inverse)
        places.append([_place(topology, end) for end in (a, b)])
    return _Net(np.array(ends), np.rint(images), np.array(places))


def _place(topology: Any, end: Any) -> int:
    """Which neighbor of its vertex an edge is: the one that lies the opposite way."""
    back = [np.abs(n.distance_vector + end.distance_vector).max() for n in topology.neighbor_list[end.index]]
    return int(np.argmin(back))


def _wanted_vectors(topology: Any, net: _Net, bbs: list[Any], perms: list[Any]) -> np.ndarray:
    """Vectors [2 E, 3] from each end of each edge, as the block there points and as long as the edge is to be."""
    arms = []
    for column in (0, 1):
        for vertex, place in zip(net.ends[:, column], net.places[:, column], strict=True):
            block = bbs[vertex]
            arms.append(block.connection_points[perms[vertex][place]] - block.centroid)
    vectors = np.array(arms)
    size = np.linalg.norm(vectors, axis=1)
    linkers = [0.0 if bbs[edge] is None else 2 * float(bbs[edge].lengths[0]) for edge in topology.edge_indices]
    length = size.reshape(2, -1).sum(axis=0) + np.array(linkers)
    return vectors / size[:, None] * np.tile(length, 2)[:, None]


def _pairs(net: _Net) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs of half edges that leave the same vertex, each with itself too."""
    vertex = np.concatenate([net.ends[:, 0], net.ends[:, 1]])
    first, second = np.nonzero(vertex[:, None] == vertex[None])
    return first, second


def _rescaled(topology: Any, net: _Net, frac: dict[int, np.ndarray], cell: np.ndarray) -> Any:
    """A copy of the net with new places, cell and neighbors, in the old order."""
    places = np.zeros((topology.n_slots, 3))
    for vertex, place in frac.items():
        places[vertex] = place
    data: list[list[Any]] = [[None] * len(topology.neighbor_list[slot]) for slot in range(topology.n_slots)]
    for row, edge in enumerate(topology.edge_indices.tolist()):
        i, j = net.ends[row].tolist()
        step = (frac[j] - frac[i] + net.images[row]) / 2
        places[edge] = frac[i] + step
        data[edge] = [(i, -step @ cell), (j, step @ cell)]
        data[i][net.places[row, 0]] = (edge, step @ cell)
        data[j][net.places[row, 1]] = (edge, -step @ cell)
    scaled = topology.copy()
    scaled.atoms.set_cell(cell)
    scaled.atoms.set_positions(places @ cell)
    scaled.neighbor_list.set_data(data)
    return scaled
