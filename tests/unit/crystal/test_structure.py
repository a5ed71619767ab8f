import numpy as np
import pytest

from matgen.crystal.space_group import (
    SymmetryConfig,
    find_space_group_number,
    hermann_mauguin_symbol,
    primitive_cell,
    standardize,
)
from matgen.crystal.structure import Structure, check, min_distance
from matgen.crystal.tables import load_tables
from matgen.crystal.wyckoff import expand_orbits
from matgen.errors import ClashError, NonFiniteStructureError, SymmetryError, TooManyAtomsError, UnsupportedElementError
from matgen.geometry.lattice import lattice_constraints, lattice_from_k


def rock_salt(a=5.64):
    shifts = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    coords = np.concatenate([shifts, (shifts + np.array([0.5, 0, 0])) % 1])
    return Structure.from_parameters([a] * 3, [90] * 3, coords, [11] * 4 + [17] * 4)


def random_structure(rng, n, skew=0.6):
    lattice = (np.eye(3) + skew * rng.normal(size=(3, 3))) * (12.0 * n) ** (1 / 3)
    if abs(np.linalg.det(lattice)) < 4 * n:
        lattice = np.eye(3) * (12.0 * n) ** (1 / 3)
    return Structure(lattice, rng.random((n, 3)), rng.integers(1, 90, n))


def test_properties():
    salt = rock_salt()
    assert salt.num_atoms == 8 and salt.formula == "ClNa"
    assert salt.volume == pytest.approx(5.64**3)
    assert salt.lengths.tolist() == pytest.approx([5.64] * 3) and salt.angles.tolist() == pytest.approx([90] * 3)
    carbonate = Structure.from_parameters([4, 5, 6], [90, 90, 90], np.zeros((7, 3)), [6, 8, 8, 8, 20, 1, 1])
    assert carbonate.formula == "CH2CaO3"
    again = Structure.from_pymatgen(salt.to_pymatgen())
    np.testing.assert_allclose(again.frac_coords, salt.frac_coords)
    assert (again.atomic_numbers == salt.atomic_numbers).all()


@pytest.mark.parametrize("n", [1, 2, 7, 40, 140])
def test_min_distance_is_that_of_all_images(n):
    rng = np.random.default_rng(n)
    for _ in range(3 if n < 40 else 1):
        structure = random_structure(rng, n)
        reference = structure.to_pymatgen()
        radius = 9.0 if n < 40 else 3.0
        brute = min(
            (neighbour.nn_distance for site in reference.get_all_neighbors(radius) for neighbour in site),
            default=np.inf,
        )
        assert min_distance(structure) == pytest.approx(brute, abs=1e-8)


def test_one_atom_sees_its_own_images_in_a_skewed_cell():
    lattice = np.array([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]])
    skewed = np.array([[1, 0, 0], [7, 1, 0], [-5, 9, 1]]) @ lattice
    assert min_distance(Structure(skewed, np.zeros((1, 3)), np.array([29]))) == pytest.approx(3.0)


def test_check_names_what_is_wrong():
    salt = rock_salt()
    check(salt)
    with pytest.raises(ClashError, match=r"0\.100 Å apart"):
        check(Structure(np.eye(3) * 4, np.array([[0, 0, 0], [0, 0, 0.025]]), np.array([1, 1])))
    with pytest.raises(NonFiniteStructureError):
        check(Structure(np.eye(3) * np.nan, np.zeros((1, 3)), np.array([1])))
    with pytest.raises(NonFiniteStructureError):
        check(Structure(np.eye(3) * 4, np.array([[0, np.inf, 0]]), np.array([1])))
    with pytest.raises(NonFiniteStructureError, match="no volume"):
        check(Structure(np.array([[4, 0, 0], [0, 4, 0], [4, 4, 0.0]]), np.zeros((1, 3)), np.array([1])))
    with pytest.raises(NonFiniteStructureError, match="no atoms"):
        check(Structure(np.eye(3), np.zeros((0, 3)), np.zeros(0, dtype=int)))
    with pytest.raises(TooManyAtomsError, match="8 atoms, more than the limit of 4"):
        check(salt, max_atoms=4)
    with pytest.raises(UnsupportedElementError, match="98 is outside"):
        check(Structure(np.eye(3) * 4, np.zeros((1, 3)), np.array([98])))


def test_standard_cell_of_a_skewed_primitive_cell():
    primitive = Structure(
        np.array([[1, 0, 0], [2, 1, 0], [0, -3, 1]]) @ (5.64 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])),
        np.array([[0.1, 0.2, 0.3], [0, 0, 0]]),
        np.array([11, 17]),
    )
    half = np.array([0.5, 0.5, 0.5]) @ (5.64 * np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]))
    primitive = Structure(
        primitive.lattice, np.array([[0, 0, 0], half @ np.linalg.inv(primitive.lattice)]), np.array([11, 17])
    )
    crystal = standardize(primitive)
    assert crystal.space_group_number == 225 and crystal.symprec == 0.1
    assert crystal.multiplicity.tolist() == [4, 4] and sorted(crystal.atomic_numbers.tolist()) == [11, 17]
    np.testing.assert_allclose(crystal.lattice @ crystal.lattice.T, np.eye(3) * 5.64**2, atol=1e-8)
    assert find_space_group_number(rock_salt()) == 225
    assert hermann_mauguin_symbol(225) == "F m -3 m"


@pytest.mark.parametrize("G", [5, 38, 42, 44, 146, 225])
def test_primitive_cell_is_the_same_crystal(G):
    tables = load_tables()
    rng = np.random.default_rng(1)
    mask, fixed = lattice_constraints()
    lattice = lattice_from_k(np.where(mask[G], [0.05, 0.1, -0.05, 0.1, 0.05, 5.2], fixed[G]))
    general = tables.group_wp[G + 1] - 1
    owner, coords = expand_orbits(rng.random((1, 3)), tables.wp_member[[general]])
    conventional = Structure(lattice, coords, owner + 1)
    primitive = primitive_cell(conventional, G)
    rotations, _ = tables.operations(G)
    assert conventional.num_atoms / primitive.num_atoms == (rotations == np.eye(3)).all(axis=(1, 2)).sum()
    assert primitive.volume / primitive.num_atoms == pytest.approx(conventional.volume / conventional.num_atoms)
    assert np.linalg.det(primitive.lattice) > 0
    assert min_distance(primitive) == pytest.approx(min_distance(conventional))
    assert find_space_group_number(primitive) == find_space_group_number(conventional)


def test_primitive_cell_of_copies_that_differ_in_the_last_digits():
    rng = np.random.default_rng(0)
    points = np.rint(rng.random((60, 3)) * 1e6) / 1e6 + 5e-7  # on the edge between two numbers of six digits
    centring = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    coords = (points[:, None] + centring + rng.normal(size=(60, 4, 3)) * 1e-9).reshape(-1, 3) % 1
    crystal = Structure(np.eye(3) * 30.0, coords, np.full(240, 14))
    assert primitive_cell(crystal, 42).num_atoms == 60


def test_symprec_policy_goes_on_to_the_next_tolerance(monkeypatch):
    import matgen.crystal.space_group as module

    tried = []
    search = module._search

    def refuse_loose(cell, symprec):
        tried.append(symprec)
        return None if symprec > 0.02 else search(cell, symprec)

    monkeypatch.setattr(module, "_search", refuse_loose)
    crystal = standardize(rock_salt(), SymmetryConfig(symprec=0.1, fallback_symprecs=(0.03, 0.01)))
    assert tried == [0.1, 0.03, 0.01] and crystal.symprec == 0.01
    monkeypatch.setattr(module, "_search", lambda cell, symprec: None)
    with pytest.raises(SymmetryError, match=r"no space group found at any symprec of 0\.1, 0\.03"):
        standardize(rock_salt(), SymmetryConfig(fallback_symprecs=(0.03,)))
