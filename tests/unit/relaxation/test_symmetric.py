"""Operations on cells, projections, free directions, primitive cells."""

import numpy as np
import pytest
from relaxation_cases import conventional_crystals, low_symmetry_crystal

from matgen.crystal.structure import Structure
from matgen.errors import SymmetryError
from matgen.relaxation.primitive import primitive_cell
from matgen.relaxation.symmetric import (
    cartesian_rotations,
    detect_operations,
    free_directions,
    map_sites,
    project_forces,
    project_stress,
    symmetrize,
)

CRYSTALS = conventional_crystals()
# free parameters of the sites, and of the lattice
NUM_FREE = {
    "copper": (0, 1), "NaCl": (0, 1), "SrTiO3": (0, 1), "rutile": (1, 2), "anatase": (1, 2),
    "wurtzite": (1, 2), "calcite": (1, 2), "quartz": (4, 2), "pyrite": (1, 1),
}  # fmt: skip


@pytest.fixture(params=sorted(CRYSTALS))
def crystal(request):
    return request.param, *CRYSTALS[request.param]


def mapped(structure: Structure):
    _, rotations, translations = detect_operations(structure, 0.01)
    return map_sites(structure, rotations, translations, 0.05)


def test_detected_group_and_free_parameters(crystal):
    name, number, structure = crystal
    found, rotations, translations = detect_operations(structure, 0.01)
    assert found == number
    cell = primitive_cell(structure, rotations, translations, 0.05)
    directions = free_directions(cell.symmetry, cartesian_rotations(cell.structure, cell.symmetry))
    assert (len(directions.positions), len(directions.strains)) == NUM_FREE[name]


def test_projections_are_idempotent_and_commute_with_the_group(crystal):
    _, _, structure = crystal
    symmetry = mapped(structure)
    rotations = cartesian_rotations(structure, symmetry)
    rng = np.random.default_rng(0)
    forces = project_forces(rng.normal(size=(structure.num_atoms, 3)), symmetry, rotations)
    stress = project_stress(rng.normal(size=(3, 3)), rotations)
    np.testing.assert_allclose(project_forces(forces, symmetry, rotations), forces, atol=1e-9)
    np.testing.assert_allclose(project_stress(stress, rotations), stress, atol=1e-9)
    for rotation, permutation in zip(rotations, symmetry.permutation, strict=True):
        np.testing.assert_allclose(forces[permutation], forces @ rotation.T, atol=1e-9)
        np.testing.assert_allclose(rotation @ stress @ rotation.T, stress, atol=1e-9)


def test_free_directions_span_what_the_projection_keeps(crystal):
    _, _, structure = crystal
    symmetry = mapped(structure)
    rotations = cartesian_rotations(structure, symmetry)
    directions = free_directions(symmetry, rotations)
    field = project_forces(np.random.default_rng(1).normal(size=(structure.num_atoms, 3)), symmetry, rotations)
    field = field - field.mean(0)
    weights = np.tensordot(directions.positions, field, axes=2)
    np.testing.assert_allclose(np.tensordot(weights, directions.positions, axes=1), field, atol=1e-9)


def test_symmetrize_makes_a_noisy_crystal_exact():
    _, structure = CRYSTALS["quartz"]
    rng = np.random.default_rng(2)
    noisy = Structure(
        structure.lattice + 1e-3 * rng.normal(size=(3, 3)),
        structure.frac_coords + 1e-3 * rng.normal(size=(9, 3)),
        structure.atomic_numbers,
    )
    _, rotations, translations = detect_operations(structure, 0.01)
    symmetry = map_sites(noisy, rotations, translations, 0.05)
    exact = symmetrize(noisy, symmetry)
    assert detect_operations(noisy, 1e-5)[0] == 1
    assert detect_operations(exact, 1e-5)[0] == 154
    again = symmetrize(exact, symmetry)
    np.testing.assert_allclose(again.lattice, exact.lattice, atol=1e-10)
    np.testing.assert_allclose(again.frac_coords, exact.frac_coords, atol=1e-10)
    assert np.abs((exact.frac_coords - noisy.frac_coords) @ exact.lattice).max() < 0.02


def test_primitive_cell_restores_every_atom(crystal):
    _, _, structure = crystal
    _, rotations, translations = detect_operations(structure, 0.01)
    cell = primitive_cell(structure, rotations, translations, 0.05)
    ratio = structure.num_atoms / cell.structure.num_atoms
    assert ratio == pytest.approx(structure.volume / cell.structure.volume)
    back = cell.restore(cell.structure)
    np.testing.assert_allclose(back.lattice, structure.lattice, atol=1e-8)
    np.testing.assert_allclose(back.frac_coords, structure.frac_coords, atol=1e-6)
    np.testing.assert_array_equal(back.atomic_numbers, structure.atomic_numbers)


@pytest.mark.parametrize(
    ("name", "factor"), [("copper", 4), ("NaCl", 4), ("anatase", 2), ("calcite", 3), ("pyrite", 1)]
)
def test_centring_is_removed(name, factor):
    _, structure = CRYSTALS[name]
    _, rotations, translations = detect_operations(structure, 0.01)
    cell = primitive_cell(structure, rotations, translations, 0.05)
    assert structure.num_atoms == factor * cell.structure.num_atoms
    assert detect_operations(cell.structure, 0.01)[0] == detect_operations(structure, 0.01)[0]


def test_operations_that_do_not_hold_are_refused():
    _, rotations, translations = detect_operations(CRYSTALS["SrTiO3"][1], 0.01)
    with pytest.raises(SymmetryError):
        map_sites(low_symmetry_crystal(), rotations, translations, 0.05)
