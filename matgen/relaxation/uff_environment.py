"""Neighbours and small rings of a periodic bond graph, as the typing rules ask for them."""

from dataclasses import dataclass

import numpy as np

from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds
from matgen.mof.metals import IS_METAL

__all__ = ["Environment", "Neighbor", "aromatic_bonds"]

_C, _N, _O, _S, _SE = 6, 7, 8, 16, 34


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A bonded atom: its index, the cell it is in, the bond, the unit vector to it and the length in Å."""

    index: int
    image: tuple[int, int, int]
    bond: int
    direction: np.ndarray
    length: float


class Environment:
    """Bonded neighbours of every atom, split into metals and non-metals.

    Args:
        structure: the atoms.
        bonds: each periodic bond once.
    """

    def __init__(self, structure: Structure, bonds: Bonds) -> None:
        self.numbers = [int(z) for z in structure.atomic_numbers]
        vectors = bonds.vectors(structure).reshape(-1, 3)
        lengths = np.linalg.norm(vectors, axis=1)
        units = vectors / np.maximum(lengths, 1e-9)[:, None]
        metal = IS_METAL[structure.atomic_numbers]
        self.is_metal: list[bool] = metal.tolist()
        self.near: list[list[Neighbor]] = [[] for _ in self.numbers]
        rows = zip(bonds.first.tolist(), bonds.second.tolist(), bonds.image.tolist(), lengths.tolist(), strict=True)
        for bond, (i, j, (a, b, c), length) in enumerate(rows):
            self.near[i].append(Neighbor(j, (a, b, c), bond, units[bond], length))
            self.near[j].append(Neighbor(i, (-a, -b, -c), bond, -units[bond], length))
        self.light = [[n for n in near if not self.is_metal[n.index]] for near in self.near]
        self.heavy = [[n for n in near if self.is_metal[n.index]] for near in self.near]
        self.first, self.second = bonds.first.tolist(), bonds.second.tolist()

    def count(self, index: int) -> int:
        """Number of bonded non-metals."""
        return len(self.light[index])

    def cosines(self, index: int) -> np.ndarray:
        """Cosines of the angles at an atom, one per pair of neighbours."""
        directions = np.array([n.direction for n in self.near[index]]).reshape(-1, 3)
        return (directions @ directions.T)[np.triu_indices(len(directions), 1)]

    def is_terminal(self, index: int) -> bool:
        """An oxygen or a heavier chalcogen with one non-metal neighbour (metals not counted)."""
        return self.numbers[index] in (_O, _S, _SE) and self.count(index) == 1

    def is_planar_carbon(self, index: int) -> bool:
        """A carbon with three non-metal neighbours."""
        return self.numbers[index] == _C and self.count(index) == 3


def aromatic_bonds(env: Environment) -> set[int]:
    """Bonds of aromatic rings of five and six atoms.

    Six-membered rings of planar atoms without a carbonyl carbon; five-membered ones that also hold N, O or S, or whose
    carbons are all bound to a metal (cyclopentadienyl).
    """
    ringlike = [_may_be_aromatic(env, i) for i in range(len(env.numbers))]
    steps = [
        [(n.index, n.image, n.bond) for n in env.light[i] if ringlike[n.index]] if ringlike[i] else []
        for i in range(len(env.numbers))
    ]
    found: set[int] = set()
    for start in range(len(steps)):
        if len(steps[start]) > 1:
            for atoms, bonds in _rings_from(start, steps):
                if _is_aromatic(env, atoms):
                    found.update(bonds)
    return found


def _may_be_aromatic(env: Environment, index: int) -> bool:
    number, count = env.numbers[index], env.count(index)
    if number == _C:
        return count == 3 and not any(
            env.is_terminal(n.index) and not env.heavy[n.index] and n.length < 1.29 for n in env.light[index]
        )
    if number == _N:
        return count in (2, 3)
    return number in (_O, _S, _SE) and count == 2


def _rings_from(
    start: int, steps: list[list[tuple[int, tuple[int, int, int], int]]]
) -> list[tuple[list[int], list[int]]]:
    """Rings of five or six atoms through `start`, in its own cell, whose other atoms have no smaller index."""
    rings: list[tuple[list[int], list[int]]] = []
    home = (start, 0, 0, 0)

    def walk(site: tuple[int, int, int, int], path: list[tuple[int, int, int, int]], bonds: list[int]) -> None:
        atom, x, y, z = site
        for index, (a, b, c), bond in steps[atom]:
            if index < start or (bonds and bond == bonds[-1]):
                continue
            following = (index, x + a, y + b, z + c)
            if following == home:
                if len(path) >= 5 and bond > bonds[0]:  # each ring in one direction
                    rings.append(([s[0] for s in path], [*bonds, bond]))
            elif len(path) < 6 and following not in path:
                walk(following, [*path, following], [*bonds, bond])

    walk(home, [home], [])
    return rings


def _is_aromatic(env: Environment, atoms: list[int]) -> bool:
    numbers = [env.numbers[i] for i in atoms]
    if len(atoms) == 6:
        return _O not in numbers and _S not in numbers and _SE not in numbers
    return any(z != _C for z in numbers) or all(env.heavy[i] for i in atoms)
