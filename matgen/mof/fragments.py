"""The metal-oxo rule: which atoms form nodes, node bridges and linkers, and what is solvent.

Fragments are what is left when every bond of a metal is deleted. A fragment of one atom, or of oxygen and hydrogen
only, belongs to the nodes; every other one is a linker. Nodes are the connected components of metals and node
fragments. Where such a component is infinite (a rod or a layer), its bridging fragments become parts of their own, node
bridges, and contacts between its metals are no bonds.

Source: Bucior et al., Cryst. Growth Des. 19 (2019) 6682 (the metal-oxo deconstruction of MOFid).
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.mof.bonds import Bonds
from matgen.mof.building_block import LINKER, METAL_NODE, NODE_BRIDGE, Role
from matgen.mof.metals import IS_METAL
from matgen.mof.periodic_graph import Components, find_components

__all__ = ["Parts", "find_parts", "hill_formula"]

_MIN_WATER_DISTANCE = 1.9  # Å; a lone terminal oxygen nearer than this is an oxo group, further out it is water


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of a periodic structure.

    part: int [n], -1 for an atom that belongs to none (removed). roles: by part. removed: formulas and how each is held
    ("free" or "bound"). bonds: those that count, without the metal-metal contacts along rods.
    """

    part: np.ndarray
    roles: list[Role]
    removed: list[tuple[str, str]]
    bonds: Bonds


def hill_formula(atomic_numbers: np.ndarray) -> str:
    """Formula of one molecule in Hill order, not reduced."""
    counts = Counter(SYMBOLS[int(z)] for z in atomic_numbers)
    first = ["C", "H"] if "C" in counts else []
    ordered = [s for s in first if s in counts] + sorted(s for s in counts if s not in first)
    return "".join(f"{s}{counts[s] if counts[s] > 1 else ''}" for s in ordered)


def find_parts(atomic_numbers: np.ndarray, bonds: Bonds, distances: np.ndarray, remove_water: bool = True) -> Parts:
    """Cut a structure by the metal-oxo rule, before anything is merged.

    Args:
        atomic_numbers: int [n].
        bonds: of the structure.
        distances: Å, of the bonds.
        remove_water: take water off a metal that holds it alone.

    Returns:
        nodes, linkers and node bridges; solvent that no metal holds is removed, and water on one metal.
    """
    metal = IS_METAL[atomic_numbers]
    touches_metal = metal[bonds.first] | metal[bonds.second]
    organic = find_components(len(atomic_numbers), *_columns(bonds[~touches_metal]))
    fragments = _Fragments.of(atomic_numbers, bonds, distances, organic)
    removed: list[tuple[str, str]] = []
    gone = np.zeros(len(atomic_numbers), dtype=bool)
    in_node = metal.copy()
    for index, atoms in fragments.non_metal():
        numbers = atomic_numbers[atoms]
        is_node = len(atoms) == 1 or bool(np.isin(numbers, (1, 8)).all())
        held = fragments.metals_of(index)
        is_water = held == 1 and is_node and _is_water(numbers, fragments.nearest(index))
        if held == 0 or (remove_water and is_water):
            gone[atoms] = True
            removed.append((hill_formula(numbers), "free" if held == 0 else "bound"))
        elif is_node:
            in_node[atoms] = True
    nodes, bridges, contact = _nodes(bonds, fragments, in_node & ~gone, metal)
    part, roles = _numbered(organic, nodes, bridges, in_node, gone)
    return Parts(part, roles, removed, bonds[~contact])


def _columns(bonds: Bonds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return bonds.first, bonds.second, bonds.image


def _is_water(numbers: np.ndarray, distance: float) -> bool:
    formula = hill_formula(numbers)
    return formula == "H2O" or (formula == "O" and distance > _MIN_WATER_DISTANCE)


@dataclass(frozen=True, eq=False)
class _Fragments:
    """Non-metal fragments and the metals that hold each."""

    components: Components
    members: list[np.ndarray]
    is_metal: np.ndarray
    held_by: list[set[tuple[int, int, int, int]]]
    distance: list[float]

    @classmethod
    def of(
        cls, atomic_numbers: np.ndarray, bonds: Bonds, distances: np.ndarray, components: Components
    ) -> "_Fragments":
        metal = IS_METAL[atomic_numbers]
        held_by: list[set[tuple[int, int, int, int]]] = [set() for _ in range(components.num_components)]
        nearest = [np.inf] * components.num_components
        mixed = np.flatnonzero(metal[bonds.first] != metal[bonds.second])
        flip = metal[bonds.second[mixed]]
        atom = np.where(flip, bonds.first[mixed], bonds.second[mixed])
        center = np.where(flip, bonds.second[mixed], bonds.first[mixed])
        image = np.where(flip[:, None], bonds.image[mixed], -bonds.image[mixed]) - components.offset[atom]
        rows = zip(components.label[atom].tolist(), center.tolist(), image.tolist(), distances[mixed], strict=True)
        for fragment, i, (x, y, z), distance in rows:
            held_by[fragment].add((i, x, y, z))
            nearest[fragment] = min(nearest[fragment], distance)
        members = components.members()
        return cls(components, members, metal, held_by, nearest)

    def non_metal(self) -> list[tuple[int, np.ndarray]]:
        return [(i, atoms) for i, atoms in enumerate(self.members) if not self.is_metal[atoms[0]]]

    def metals_of(self, index: int) -> int:
        """How many metals, images counted, hold a fragment."""
        return len(self.held_by[index])

    def nearest(self, index: int) -> float:
        """Its shortest bond to a metal, Å."""
        return self.distance[index]


def _nodes(
    bonds: Bonds, fragments: _Fragments, in_node: np.ndarray, metal: np.ndarray
) -> tuple[Components, np.ndarray, np.ndarray]:
    """Components of the node atoms with infinite ones cut, which atoms are bridges, which bonds metal contacts."""
    n = len(in_node)
    inner = in_node[bonds.first] & in_node[bonds.second]
    whole = find_components(n, *_columns(bonds[inner]))
    infinite = whole.dimension[whole.label] > 0
    bridges = np.zeros(n, dtype=bool)
    contact = metal[bonds.first] & metal[bonds.second] & infinite[bonds.first]
    if not (infinite & in_node).any():
        return whole, bridges, contact
    for index, atoms in fragments.non_metal():
        if in_node[atoms[0]] and infinite[atoms[0]] and fragments.metals_of(index) > 1:
            bridges[atoms] = True
    cut = contact | (bridges[bonds.first] != bridges[bonds.second])
    return find_components(n, *_columns(bonds[inner & ~cut])), bridges, contact


def _numbered(
    organic: Components, nodes: Components, bridges: np.ndarray, in_node: np.ndarray, gone: np.ndarray
) -> tuple[np.ndarray, list[Role]]:
    part = np.full(len(gone), -1, dtype=np.int64)
    roles: list[Role] = []
    key = np.where(in_node, nodes.label, organic.label + len(gone))
    for value in dict.fromkeys(key[~gone].tolist()):
        atoms = np.flatnonzero((key == value) & ~gone)
        part[atoms] = len(roles)
        if not in_node[atoms[0]]:
            roles.append(LINKER)
        else:
            roles.append(NODE_BRIDGE if bridges[atoms].all() else METAL_NODE)
    return part, roles
