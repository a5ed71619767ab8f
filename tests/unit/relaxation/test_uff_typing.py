"""UFF4MOF types: the named frameworks, the guesses, and parameters as published."""

from collections import Counter

import numpy as np
import pytest

from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds, find_bonds
from matgen.relaxation.uff_parameters import types_of_element, uff_types
from matgen.relaxation.uff_terms import natural_length, uff_terms
from matgen.relaxation.uff_typing import UntypedAtomError, type_atoms
from tests.unit.relaxation.uff_cases import NO_BONDS, case

EXPECTED = {
    "mof5": {"Zn3f2": 8, "O_3_f": 2, "O_2": 24, "C_R": 48, "H_": 24},
    "uio66": {"Zr8f4": 6, "O_3_f": 4, "O_2_z": 4, "O_2": 24, "C_R": 48, "H_": 28},
    "hkust1": {"Cu4+2": 12, "O_2": 48, "C_R": 72, "H_": 24},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_types_of_named_frameworks(name: str) -> None:
    typing = type_atoms(*case(name))
    assert Counter(typing.names) == EXPECTED[name]
    assert typing.guessed == ()


def test_bond_orders_of_a_paddlewheel() -> None:
    structure, bonds = case("hkust1")
    orders = type_atoms(structure, bonds).orders
    numbers = structure.atomic_numbers
    kinds = [tuple(sorted((int(numbers[i]), int(numbers[j])))) for i, j in zip(bonds.first, bonds.second, strict=True)]
    found = {kind: {float(o) for o, k in zip(orders, kinds, strict=True) if k == kind} for kind in set(kinds)}
    assert found == {(29, 29): {0.25}, (8, 29): {0.5}, (6, 8): {1.5}, (6, 6): {1.0, 1.5}, (1, 6): {1.0}}


def test_types_do_not_depend_on_the_choice_of_cell() -> None:
    structure, _ = case("mof74")
    skew = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    other = Structure(skew @ structure.lattice, structure.frac_coords @ np.linalg.inv(skew), structure.atomic_numbers)
    assert type_atoms(other, find_bonds(other)).names == type_atoms(*case("mof74")).names


def _rock_salt(metal: int, anion: int, length: float) -> Structure:
    frac = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    lattice = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * length / 2
    return Structure(lattice, frac, np.array([metal, anion]))


def test_a_guess_is_recorded_and_keeps_the_real_geometry() -> None:
    structure = _rock_salt(28, 8, 4.18)
    bonds = find_bonds(structure)
    assert bonds.num_bonds == 6
    typing = type_atoms(structure, bonds)
    assert typing.names == ("Ni4+2", "O_3_f")
    assert typing.guessed == ("Ni4+2 for Ni with 6 neighbours (x1)", "O_3_f for O with 6 neighbours (x1)")
    assert typing.coordination[0] == "6"


def test_an_element_without_parameters_is_an_error_that_names_it() -> None:
    structure = Structure(np.eye(3) * 10, np.array([[0, 0, 0], [0.2, 0, 0]]), np.array([104, 8]))
    bonds = Bonds(np.array([0]), np.array([1]), np.zeros((1, 3), dtype=np.int64))
    with pytest.raises(UntypedAtomError, match="Rf"):
        type_atoms(structure, bonds)


def test_a_lone_atom_is_a_guess() -> None:
    structure = Structure(np.eye(3) * 10, np.zeros((1, 3)), np.array([54]))
    assert type_atoms(structure, NO_BONDS).guessed == ("Xe4+4 for Xe without neighbours (x1)",)


def test_published_parameters() -> None:
    types = uff_types()
    carbon, zinc, zirconium = types["C_R"], types["Zn3f2"], types["Zr8f4"]
    assert (carbon.bond_radius, carbon.vdw_distance, carbon.vdw_depth, carbon.effective_charge) == (
        0.729,
        3.851,
        0.105,
        1.912,
    )
    assert (zinc.bond_radius, zinc.angle, zinc.coordination) == (1.24, 109.47, "3")
    assert (zirconium.bond_radius, zirconium.source) == (1.68, "coupry_2016")
    assert all(types_of_element(z) for z in range(1, 104))
    assert types["Lw6+3"].atomic_number == 103


def test_natural_lengths() -> None:
    """Rappe et al. 1992, eq. 2-4, by hand."""
    types = uff_types()

    def length(a: str, b: str, order: float) -> float:
        one, two = types[a], types[b]
        values = (one.bond_radius, two.bond_radius, one.electronegativity, two.electronegativity, order)
        return float(natural_length(*(np.array([v]) for v in values))[0])

    assert length("C_R", "C_R", 1.5) == pytest.approx(1.379, abs=2e-3)
    assert length("C_3", "C_3", 1.0) == pytest.approx(1.514, abs=1e-3)
    assert length("C_2", "O_2", 2.0) == pytest.approx(0.732 + 0.634 - 0.1332 * 1.366 * np.log(2) - 0.0204, abs=1e-3)


def test_terms_are_finite_and_complete() -> None:
    structure, bonds = case("mof5")
    terms = uff_terms(structure, bonds)
    assert (len(terms.bond_length), len(terms.improper_halves)) == (128, 48)
    assert len(terms.angle_fold) == 8 * 6 + 2 * 6 + 24 + 48 * 3
    assert (terms.angle_stiffness > 0).all()
    assert len(terms.excluded) == 2 * (128 + len(terms.angle_fold)) - _twice(terms)


def _twice(terms) -> int:
    """Pairs that are excluded for two reasons at once."""
    halves = (
        np.concatenate([terms.bonds.first, terms.bonds.second]),
        np.concatenate([terms.bonds.second, terms.bonds.first]),
    )
    image = np.concatenate([terms.bonds.image, -terms.bonds.image])
    one, two = terms.angle_halves.T
    rows = np.column_stack([halves[1][one], halves[1][two], image[two] - image[one]])
    back = np.column_stack([halves[1][two], halves[1][one], image[one] - image[two]])
    everything = np.concatenate([np.column_stack([*halves, image]), rows, back])
    return len(everything) - len(np.unique(everything, axis=0))
