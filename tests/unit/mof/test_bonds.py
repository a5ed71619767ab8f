"""Bonds: coordination chemistry, and periodic images in cells smaller than a bond."""

import numpy as np
import pytest

from matgen.crystal.structure import Structure
from matgen.mof.bonds import find_bonds
from tests.unit.mof.conftest import load


def degrees(structure: Structure, element: int, neighbor: int | None = None) -> set[int]:
    bonds = find_bonds(structure)
    numbers = structure.atomic_numbers
    first = np.concatenate([bonds.first, bonds.second])
    second = np.concatenate([bonds.second, bonds.first])
    counted = first[numbers[second] == neighbor] if neighbor else first
    return set(np.bincount(counted, minlength=len(numbers))[numbers == element].tolist())


@pytest.mark.parametrize(
    ("name", "element", "neighbors"),
    [
        ("mof5", 30, {4}),
        ("uio66", 40, {8}),
        ("hkust1", 29, {5}),
        ("mof74", 30, {5}),
        ("mil53", 13, {6}),
        ("mof5", 6, {3}),
    ],
)
def test_coordination_numbers(name: str, element: int, neighbors: set[int]) -> None:
    assert degrees(load(name), element) == neighbors


def test_paddlewheel_metals_are_bonded_and_zirconium_atoms_are_not() -> None:
    assert degrees(load("hkust1"), 29, 29) == {1}
    assert degrees(load("pillared"), 30, 30) == {1}
    assert degrees(load("uio66"), 40, 40) == {0}


def test_the_carbon_behind_a_chelating_carboxylate_is_no_neighbor() -> None:
    # Zr-O 2.2, Zr-C 2.6 Å: within reach by radii alone
    carbon = np.array([0.0, 0.0, 0.0])
    oxygens = np.array([[1.1, 0.65, 0.0], [-1.1, 0.65, 0.0]])
    metal = np.array([0.0, 2.6, 0.0])
    cart = np.vstack([carbon, oxygens, metal]) + 7.0
    structure = Structure(15.0 * np.eye(3), cart / 15.0, np.array([6, 8, 8, 40]))
    bonds = find_bonds(structure)
    pairs = {frozenset(pair) for pair in zip(bonds.first.tolist(), bonds.second.tolist())}
    assert pairs == {frozenset(p) for p in [(0, 1), (0, 2), (3, 1), (3, 2)]}


def test_an_atom_is_bonded_to_its_own_images() -> None:
    chain = Structure(np.diag([1.5, 12.0, 12.0]), np.zeros((1, 3)), np.array([6]))
    bonds = find_bonds(chain)
    assert bonds.num_bonds == 1 and abs(bonds.image[0]).tolist() == [1, 0, 0]


def test_two_images_of_one_pair_are_two_bonds() -> None:
    chain = Structure(np.diag([2.9, 12.0, 12.0]), np.array([[0.0, 0, 0], [0.5, 0, 0]]), np.array([6, 6]))
    bonds = find_bonds(chain)
    assert bonds.num_bonds == 2
    assert np.allclose(np.linalg.norm(bonds.vectors(chain), axis=1), 1.45)


@pytest.mark.parametrize("name", ["mof74", "pillared"])
def test_a_supercell_has_as_many_times_the_bonds(name: str) -> None:
    small = load(name)
    shifts = np.array([(i, j, k) for i in range(2) for j in range(2) for k in range(2)])
    coords = (small.frac_coords[:, None] + shifts).reshape(-1, 3) / 2
    large = Structure(2 * small.lattice, coords, np.repeat(small.atomic_numbers, 8))
    assert find_bonds(large).num_bonds == 8 * find_bonds(small).num_bonds


def test_a_hydrogen_takes_its_nearest_neighbor_only() -> None:
    cart = np.array([[0.0, 0, 0], [0.98, 0, 0], [2.15, 0, 0]]) + 5
    water = Structure(12.0 * np.eye(3), cart / 12.0, np.array([8, 1, 8]))
    bonds = find_bonds(water)
    assert (bonds.num_bonds, {int(bonds.first[0]), int(bonds.second[0])}) == (1, {0, 1})
