"""The graph that CHGNet reads, built once per class of equivalent atoms, bonds and angles.

A network of invariant messages gives equivalent atoms equal features. For a crystal that obeys its group exactly it is
therefore enough to keep one atom per orbit, one bond per orbit of bonds and one angle per orbit of angles, each message
weighted by how many it stands for. The energy is the same to rounding, and its gradient, once projected on the group,
too. With the identity alone as the group the graph is CHGNet's own.

Source: cut-offs and the bond graph are those of CHGNet 0.3.0 (Deng et al., Nat. Mach. Intell. 5, 1031, 2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vesin import NeighborList

from matgen.crystal.structure import Structure
from matgen.relaxation.symmetric import SiteSymmetryMap

ATOM_CUTOFF = 6.0  # Å
BOND_CUTOFF = 3.0  # Å


@dataclass(frozen=True)
class ReducedGraph:
    """One crystal, or a batch laid end to end. Indices are local to this graph; U undirected bond vectors, in all.

    Atoms (one row per orbit): node_number (Z), node_count (how many atoms), node_graph (crystal).
    Vectors from a centre atom to its neighbour: vector_i, vector_j (atoms), vector_image, vector_graph.
    Bonds (one row per orbit): bond_vector (row of a vector). Short bonds, below 3 Å: short_bond (row of a bond).
    Edges (messages to an atom): edge_node, edge_neighbor, edge_bond, edge_weight.
    Angles (messages to a short bond): angle_node, angle_a, angle_b (rows of short bonds), angle_vector_a,
    angle_vector_b, angle_sign (-1 where one of the two vectors must be turned), angle_weight.
    """

    node_number: np.ndarray
    node_count: np.ndarray
    node_graph: np.ndarray
    vector_i: np.ndarray
    vector_j: np.ndarray
    vector_image: np.ndarray
    vector_graph: np.ndarray
    bond_vector: np.ndarray
    short_bond: np.ndarray
    edge_node: np.ndarray
    edge_neighbor: np.ndarray
    edge_bond: np.ndarray
    edge_weight: np.ndarray
    angle_node: np.ndarray
    angle_a: np.ndarray
    angle_b: np.ndarray
    angle_vector_a: np.ndarray
    angle_vector_b: np.ndarray
    angle_sign: np.ndarray
    angle_weight: np.ndarray
    num_atoms: int
    num_graphs: int = 1

    @property
    def num_messages(self) -> int:
        """Edges and angles together: what the network's time goes with."""
        return len(self.edge_node) + len(self.angle_node)


# field -> (what its numbers index, or None)
_INDEXED = {
    "node_graph": "graph", "vector_i": "atom", "vector_j": "atom", "vector_graph": "graph", "bond_vector": "vector",
    "short_bond": "bond", "edge_node": "node", "edge_neighbor": "node", "edge_bond": "bond", "angle_node": "node",
    "angle_a": "short", "angle_b": "short", "angle_vector_a": "vector", "angle_vector_b": "vector",
}  # fmt: skip
_PLAIN = ("node_number", "node_count", "vector_image", "edge_weight", "angle_sign", "angle_weight")


def build_graph(structure: Structure, symmetry: SiteSymmetryMap | None = None) -> ReducedGraph:
    """The graph of one crystal.

    Args:
        structure: any cell.
        symmetry: operations that it obeys exactly (to 1e-4 Å), or None for every atom, bond and angle by itself.

    Returns:
        The graph, with one row per orbit.
    """
    symmetry = symmetry or SiteSymmetryMap.trivial(structure.num_atoms)
    i, j, image, distance = _half_list(structure)
    start, stop = np.concatenate([i, j]), np.concatenate([j, i])
    shift = np.concatenate([image, -image])
    num_half = len(i)
    targets = _edge_targets(start, stop, shift, symmetry)
    atom_orbit = symmetry.permutation.min(0)
    representatives, node_of, node_count = np.unique(atom_orbit, return_inverse=True, return_counts=True)
    edge_label = targets.min(0)
    bond_label = np.minimum(edge_label[:num_half], edge_label[num_half:])
    _, bond_first, bond_of = np.unique(bond_label, return_index=True, return_inverse=True)

    outgoing = np.flatnonzero(np.isin(start, representatives))
    _, first, weight = np.unique(edge_label[outgoing], return_index=True, return_counts=True)
    edge = outgoing[first]

    short_bond, short_of_bond = _short_bonds(distance[bond_first])
    a, b, angle_weight = _angles(start, distance, bond_first[short_bond], targets)

    used, rows = np.unique(np.concatenate([bond_first, a % num_half, b % num_half]), return_inverse=True)
    bond_rows, a_rows, b_rows = np.split(rows, [len(bond_first), len(bond_first) + len(a)])
    sign = np.where((a < num_half) == (b < num_half), 1.0, -1.0)
    # the symmetry of a list cut at exactly 3 Å may fail by rounding: such an angle has no weight, drop it
    angle_a, angle_b = short_of_bond[bond_of[a % num_half]], short_of_bond[bond_of[b % num_half]]
    keep = (angle_a >= 0) & (angle_b >= 0)
    return ReducedGraph(
        node_number=structure.atomic_numbers[representatives].astype(np.int64),
        node_count=node_count.astype(np.float64),
        node_graph=np.zeros(len(representatives), dtype=np.int64),
        vector_i=i[used], vector_j=j[used], vector_image=image[used],
        vector_graph=np.zeros(len(used), dtype=np.int64),
        bond_vector=bond_rows, short_bond=short_bond,
        edge_node=node_of[start[edge]], edge_neighbor=node_of[stop[edge]], edge_bond=bond_of[edge % num_half],
        edge_weight=weight.astype(np.float64),
        angle_node=node_of[start[a]][keep], angle_a=angle_a[keep], angle_b=angle_b[keep],
        angle_vector_a=a_rows[keep], angle_vector_b=b_rows[keep], angle_sign=sign[keep],
        angle_weight=angle_weight.astype(np.float64)[keep],
        num_atoms=structure.num_atoms,
    )  # fmt: skip


def _short_bonds(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the bonds below 3 Å, and each bond's place among them, -1 where it is not one."""
    short_bond = np.flatnonzero(distance < BOND_CUTOFF)
    short_of_bond = np.full(len(distance), -1)
    short_of_bond[short_bond] = np.arange(len(short_bond))
    return short_bond, short_of_bond


def join_graphs(graphs: Sequence[ReducedGraph]) -> ReducedGraph:
    """Several graphs as one, laid end to end in order."""
    sizes = {
        "graph": [g.num_graphs for g in graphs], "atom": [g.num_atoms for g in graphs],
        "node": [len(g.node_number) for g in graphs], "vector": [len(g.vector_i) for g in graphs],
        "bond": [len(g.bond_vector) for g in graphs], "short": [len(g.short_bond) for g in graphs],
    }  # fmt: skip
    offsets = {key: np.concatenate([[0], np.cumsum(value)[:-1]]) for key, value in sizes.items()}
    fields: dict[str, np.ndarray] = {}
    for name, kind in _INDEXED.items():
        fields[name] = np.concatenate([getattr(g, name) + offsets[kind][k] for k, g in enumerate(graphs)])
    for name in _PLAIN:
        fields[name] = np.concatenate([getattr(g, name) for g in graphs])
    return ReducedGraph(**fields, num_atoms=sum(sizes["atom"]), num_graphs=sum(sizes["graph"]))


def _half_list(structure: Structure) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each pair within the cut-off once: i, j, image of j, distance (Å)."""
    neighbors = NeighborList(cutoff=ATOM_CUTOFF, full_list=False, n_threads=1)
    positions = structure.frac_coords @ structure.lattice
    i, j, image, distance = neighbors.compute(positions, structure.lattice, True, quantities="ijSd")
    return i.astype(np.int64), j.astype(np.int64), image.astype(np.int64), distance


def _edge_targets(start: np.ndarray, stop: np.ndarray, shift: np.ndarray, symmetry: SiteSymmetryMap) -> np.ndarray:
    """Which directed edge each operation takes each directed edge to: int[G, E]; itself where there is none."""
    num_edges = len(start)
    itself = np.arange(num_edges)
    if symmetry.order == 1 or num_edges == 0:
        return itself[None]
    new_start, new_stop = symmetry.permutation[:, start], symmetry.permutation[:, stop]
    new_shift = np.einsum("gij,ej->gei", symmetry.rotations, shift)
    new_shift += symmetry.shifts[:, stop] - symmetry.shifts[:, start]
    reach = int(max(np.abs(shift).max(), np.abs(new_shift).max()))
    base, num_atoms = 2 * reach + 1, symmetry.permutation.shape[1]

    def key(a: np.ndarray, b: np.ndarray, s: np.ndarray) -> np.ndarray:
        moved = s + reach
        packed = (moved[..., 0] * base + moved[..., 1]) * base + moved[..., 2]
        return (packed * num_atoms + a) * num_atoms + b

    keys = key(start, stop, shift)
    order = np.argsort(keys)
    wanted = key(new_start, new_stop, new_shift)
    place = np.searchsorted(keys, wanted, sorter=order).clip(max=num_edges - 1)
    found = order[place]
    return np.where(keys[found] == wanted, found, itself)


def _angles(
    start: np.ndarray, distance: np.ndarray, short: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Angles at both ends of the given short bonds, one per orbit: directed edges a and b, and the count."""
    num_half, num_edges = len(distance), len(start)
    is_short = np.flatnonzero(np.tile(distance < BOND_CUTOFF, 2))
    by_center = is_short[np.argsort(start[is_short], kind="stable")]
    num_atoms = int(start.max()) + 1 if num_edges else 0
    counts = np.bincount(start[by_center], minlength=num_atoms)
    first = np.concatenate([[0], np.cumsum(counts)])
    a = np.concatenate([short, short + num_half])
    repeat = counts[start[a]]
    pair_a = np.repeat(a, repeat)
    inside = np.arange(len(pair_a)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    pair_b = by_center[np.repeat(first[start[a]], repeat) + inside]
    different = pair_a != pair_b
    pair_a, pair_b = pair_a[different], pair_b[different]
    if len(targets) == 1:
        return pair_a, pair_b, np.ones(len(pair_a), dtype=np.int64)
    label = (targets[:, pair_a] * num_edges + targets[:, pair_b]).min(0)
    _, index, weight = np.unique(label, return_index=True, return_counts=True)
    return pair_a[index], pair_b[index], weight
