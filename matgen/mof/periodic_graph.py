"""Connected components of a periodic graph, unwrapped, with the translations that each one repeats along."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Components", "find_components"]

_HOME = (0, 0, 0)


@dataclass(frozen=True, eq=False)
class Components:
    """Components of a periodic graph.

    label: int [n], numbered from 0 in the order of their first vertex. offset: int [n, 3], the cell of each vertex in
    its unwrapped component. dimension: int [components], 0 for a finite one, 1 to 3 for chains, layers and nets.
    """

    label: np.ndarray
    offset: np.ndarray
    dimension: np.ndarray

    @property
    def num_components(self) -> int:
        return len(self.dimension)

    def members(self) -> list[np.ndarray]:
        """Vertices of each component."""
        order = np.argsort(self.label, kind="stable")
        return np.split(order, np.searchsorted(self.label[order], np.arange(1, self.num_components)))


def find_components(num_vertices: int, first: np.ndarray, second: np.ndarray, image: np.ndarray) -> Components:
    """Components of a graph whose edge b joins vertex first[b] in cell 0 with second[b] in cell image[b].

    Args:
        num_vertices: n.
        first: int [b].
        second: int [b].
        image: int [b, 3].

    Returns:
        the components; the first vertex of each lies in cell 0.
    """
    adjacency: list[list[tuple[int, int, int, int]]] = [[] for _ in range(num_vertices)]
    edges = list(zip(first.tolist(), second.tolist(), image.tolist(), strict=True))
    for i, j, (x, y, z) in edges:
        adjacency[i].append((j, x, y, z))
        adjacency[j].append((i, -x, -y, -z))
    label = [-1] * num_vertices
    offset = [_HOME] * num_vertices
    count = 0
    for root in range(num_vertices):
        if label[root] >= 0:
            continue
        label[root] = count
        queue = [root]
        for i in queue:  # grows while it is read: breadth first
            x, y, z = offset[i]
            for j, dx, dy, dz in adjacency[i]:
                if label[j] < 0:
                    label[j] = count
                    offset[j] = (x + dx, y + dy, z + dz)
                    queue.append(j)
        count += 1
    labels = np.array(label, dtype=np.int64)
    offsets = np.array(offset, dtype=np.int64).reshape(-1, 3)
    return Components(labels, offsets, _dimensions(count, labels, offsets, first, second, image))


def _dimensions(
    count: int, label: np.ndarray, offset: np.ndarray, first: np.ndarray, second: np.ndarray, image: np.ndarray
) -> np.ndarray:
    """Rank of the translations around the cycles of each component."""
    dimension = np.zeros(count, dtype=np.int64)
    cycle = offset[first] + image - offset[second]
    wraps = np.flatnonzero(cycle.any(axis=1))
    owner = label[first[wraps]]
    for component in np.unique(owner):
        dimension[component] = np.linalg.matrix_rank(cycle[wraps[owner == component]])
    return dimension
