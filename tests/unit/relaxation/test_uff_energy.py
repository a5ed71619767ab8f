"""Derivatives and invariances of the torch engine. LAMMPS's numbers are under tests/reference."""

import numpy as np
import pytest
import torch

from matgen.crystal.structure import Structure
from matgen.mof.bonds import find_bonds
from matgen.relaxation.uff_energy import UffBatch, UffConfig, energy_forces_stress
from matgen.relaxation.uff_pairs import find_pairs, lennard_jones
from matgen.relaxation.uff_terms import UffTerms, uff_terms
from tests.unit.relaxation.uff_cases import case, rattled


@pytest.fixture(scope="module")
def mil53() -> tuple[Structure, UffTerms]:
    structure, bonds = case("mil53")
    return rattled(structure), uff_terms(structure, bonds)


def energy(structure: Structure, terms: UffTerms) -> float:
    return energy_forces_stress([structure], [terms])[0].energy


def test_forces_are_finite_differences_of_the_energy(mil53: tuple[Structure, UffTerms]) -> None:
    structure, terms = mil53
    forces = energy_forces_stress([structure], [terms])[0].forces
    step, rng = 1e-4, np.random.default_rng(0)
    for _ in range(6):
        direction = rng.normal(size=forces.shape)
        ends = [
            Structure(
                structure.lattice,
                structure.frac_coords + sign * step * direction @ np.linalg.inv(structure.lattice),
                structure.atomic_numbers,
            )
            for sign in (1, -1)
        ]
        slope = (energy(ends[0], terms) - energy(ends[1], terms)) / (2 * step)
        assert slope == pytest.approx(-(forces * direction).sum(), rel=1e-5, abs=1e-3)


def test_stress_is_a_finite_difference_of_the_energy(mil53: tuple[Structure, UffTerms]) -> None:
    structure, terms = mil53
    stress = energy_forces_stress([structure], [terms])[0].stress
    step = 1e-5
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = step
        ends = [
            Structure(structure.lattice @ (np.eye(3) + sign * strain), structure.frac_coords, structure.atomic_numbers)
            for sign in (1, -1)
        ]
        slope = (energy(ends[0], terms) - energy(ends[1], terms)) / (2 * step)
        expected = structure.volume * (stress[i, j] if i == j else 2 * stress[i, j])
        assert slope == pytest.approx(expected, rel=1e-4, abs=0.05)


@pytest.mark.parametrize("bump", [0.0, 20.0])
def test_gradient_is_autograd_of_the_energy(mil53: tuple[Structure, UffTerms], bump: float) -> None:
    structure, terms = mil53
    batch = UffBatch.of([terms], UffConfig(bump=bump))
    positions, lattices = batch.tensors([structure])
    batch.set_pairs([find_pairs(structure.cart_coords, structure.lattice, terms, 12.5)])
    by_hand = batch.evaluate(positions, lattices)[1]
    positions.requires_grad_(True)
    (by_autograd,) = torch.autograd.grad(batch.evaluate(positions, lattices)[0].sum(), positions)
    assert torch.allclose(by_hand, by_autograd, atol=1e-8)


def test_a_bump_is_finite_and_ends_where_atoms_do_not_overlap() -> None:
    square, x_6 = torch.tensor([0.0, 4.0, 11.6], dtype=torch.float64), torch.full((3,), 3.4**6, dtype=torch.float64)
    depth, shift = torch.full_like(square, 0.1), torch.ones_like(square)
    energy, along = lennard_jones(square, x_6, depth, shift, 12.0, bump=20.0)
    assert energy.tolist() == pytest.approx([2.0, 2.0 * (1 - 4 / 3.4**2) ** 2, 0.0])
    assert (along[:2] < 0).all()
    assert along[2] == 0


def test_a_batch_gives_what_each_gives_alone() -> None:
    names = ("mil53", "pillared", "mof74")
    structures = [rattled(case(name)[0], seed=k) for k, name in enumerate(names)]
    terms = [uff_terms(*case(name)) for name in names]
    for structure, term, together in zip(structures, terms, energy_forces_stress(structures, terms), strict=True):
        alone = energy_forces_stress([structure], [term])[0]
        assert together.energy == pytest.approx(alone.energy, rel=1e-12)
        assert np.allclose(together.forces, alone.forces, atol=1e-9)
        assert np.allclose(together.stress, alone.stress, atol=1e-12)


def test_rotation_translation_and_unwrapping_change_nothing(mil53: tuple[Structure, UffTerms]) -> None:
    structure, terms = mil53
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    turned = Structure(structure.lattice @ rotation, structure.frac_coords + 0.3, structure.atomic_numbers)
    before, after = (energy_forces_stress([s], [terms])[0] for s in (structure, turned))
    assert after.energy == pytest.approx(before.energy, rel=1e-10)
    assert np.allclose(after.forces, before.forces @ rotation, atol=1e-7)
    assert np.allclose(after.stress, rotation.T @ before.stress @ rotation, atol=1e-9)


def test_a_supercell_has_twice_the_energy() -> None:
    structure, bonds = case("mil53")
    double = Structure(
        structure.lattice * np.array([[2], [1], [1]]),
        np.concatenate([(structure.frac_coords + np.array([k, 0, 0])) / [2, 1, 1] for k in (0, 1)]),
        np.tile(structure.atomic_numbers, 2),
    )
    one, two = energy(structure, uff_terms(structure, bonds)), energy(double, uff_terms(double, find_bonds(double)))
    assert two == pytest.approx(2 * one, rel=1e-9)
