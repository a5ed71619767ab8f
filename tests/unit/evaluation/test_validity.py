import numpy as np
import pytest
from evaluation_cells import moved
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymatgen.core import Element

from matgen.crystal.elements import COVALENT_RADII
from matgen.crystal.structure import Structure
from matgen.evaluation.validity import (
    Contacts,
    ValidityConfig,
    closest_contacts,
    density,
    is_strictly_valid,
    is_structurally_valid,
)


def brute_force(structure: Structure) -> Contacts:
    """All images that can matter, no reduction, no symmetry.

    The largest atom and its own image bound both answers: nothing further away than a lattice vector is either.
    """
    far = np.linalg.norm(structure.lattice, axis=1).min()
    heights = 1 / np.linalg.norm(np.linalg.inv(structure.lattice), axis=0)  # distances of lattice planes
    reach = max(4, int(np.ceil(far / heights.min())) + 1)  # coordinates differ by less than one cell
    steps = np.arange(-reach, reach + 1)
    images = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3) @ structure.lattice
    cart = structure.frac_coords @ structure.lattice
    distances = np.linalg.norm(cart[:, None, None] - cart[None, :, None] + images, axis=-1)
    distances[distances < 1e-9] = np.inf
    radii = COVALENT_RADII[structure.atomic_numbers]
    ratio = distances / (radii[:, None] + radii[None])[..., None]
    return Contacts(float(distances.min()), float(ratio.min()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
@example(677, 1)  # so skewed that its shortest vector is five cells away
def test_contacts_equal_brute_force_over_images(seed, num_atoms):
    rng = np.random.default_rng(seed)
    lattice = rng.normal(size=(3, 3)) + 2 * np.eye(3)
    if abs(np.linalg.det(lattice)) < 0.8:
        lattice = 2 * np.eye(3)
    structure = Structure(lattice, rng.random((num_atoms, 3)), rng.integers(1, 95, num_atoms))
    np.testing.assert_allclose(closest_contacts(structure), brute_force(structure), rtol=1e-9)


def test_contacts_of_rock_salt_and_pymatgen(rock_salt, structures):
    contacts = closest_contacts(rock_salt)
    assert contacts.distance == pytest.approx(2.82)
    assert contacts.ratio == pytest.approx(2.82 / (1.66 + 1.02))
    for structure in structures[:30]:
        matrix = structure.to_pymatgen().distance_matrix + np.diag(np.full(structure.num_atoms, np.inf))
        lengths = structure.to_pymatgen().get_reduced_structure(reduction_algo="LLL").lattice.abc
        assert closest_contacts(structure).distance == pytest.approx(min(matrix.min(), min(lengths)), rel=1e-6)


def test_contacts_do_not_depend_on_the_cell(structures):
    for seed, structure in enumerate(structures[:40]):
        np.testing.assert_allclose(closest_contacts(moved(structure, seed)), closest_contacts(structure), rtol=1e-6)


def test_density_against_pymatgen(structures):
    for structure in structures[:40]:
        assert density(structure) == pytest.approx(float(structure.to_pymatgen().density), rel=1e-3)


def test_radii_are_those_of_cordero():
    assert COVALENT_RADII[8] == 0.66 and COVALENT_RADII[26] == 1.32
    assert Element.from_Z(26).symbol == "Fe"


def test_limits_of_both_checks():
    config = ValidityConfig()
    cell = np.eye(3) * 4.0
    good = Contacts(2.0, 0.9)
    assert is_structurally_valid(good, 64.0, 4.0, config) and is_strictly_valid(good, 5.0, cell, config)
    assert not is_structurally_valid(Contacts(0.5, 0.9), 64.0, 4.0, config)
    assert not is_structurally_valid(good, 0.1, 4.0, config)
    assert not is_structurally_valid(good, 64.0, 40.1, config)
    assert not is_strictly_valid(Contacts(2.0, 0.5), 5.0, cell, config)
    assert not is_strictly_valid(good, 30.0, cell, config)
    assert not is_strictly_valid(good, 5.0, np.diag([4.0, 4.0, 61.0]), config)
    assert not is_strictly_valid(good, 5.0, np.diag([1.4, 4.0, 4.0]), config)
