"""Symmetry of a CIF: by name, number or operations, at every origin and setting."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from matgen.crystal.cif import parse_cif, write_cif
from matgen.crystal.structure import Structure
from matgen.errors import UnreadableStructureError
from tests.unit.crystal.cif_texts import COLUMNS, ROCK_SALT, cif


@pytest.mark.parametrize(
    "header",
    [
        "_symmetry_space_group_name_H-M 'F m -3 m'\n",
        "_symmetry_space_group_name_H-M Fm-3m\n_symmetry_Int_Tables_number 1\n",
        "_space_group_name_H-M_alt 'F m 3 m'\n",
        "_symmetry_Int_Tables_number 225\n",
        "_space_group_IT_number 225\n",
        "_space_group_name_Hall '-F 4 2 3'\n",
        "_space_group_name_Hall 'nonsense'\n_space_group_IT_number 225\n",
    ],
)
def test_symmetry_by_name_or_number_is_expanded(header: str) -> None:
    structure = parse_cif(cif(ROCK_SALT, header))
    assert structure.formula == "ClNa"
    assert structure.num_atoms == 8


def test_listed_operations_win_over_the_symbol() -> None:
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n"
    assert parse_cif(cif(ROCK_SALT, "_symmetry_Int_Tables_number 225\n" + operations)).num_atoms == 2
    operations = "loop_\n_space_group_symop_operation_xyz\nx,y,z\n'x+1/2,y+1/2,z'\n'x+1/2,y,z+1/2'\n'x,y+1/2,z+1/2'\n"
    assert parse_cif(cif(ROCK_SALT, operations)).num_atoms == 8


def test_operations_that_are_no_group_are_refused() -> None:
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n'x+1/2,y+1/2,z'\n'x+1/2,y,z+1/2'\n"
    with pytest.raises(UnreadableStructureError, match="3 listed symmetry operations"):
        parse_cif(cif(ROCK_SALT, operations))


def test_rounded_special_positions_are_one_atom() -> None:
    hexagonal = (
        "data_Mg\n_cell_length_a 3.21\n_cell_length_b 3.21\n_cell_length_c 5.21\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 120\n_symmetry_space_group_name_H-M 'P 63/m m c'\n"
        + COLUMNS
        + "Mg1 Mg 0.333 0.667 0.25\n"
    )
    structure = parse_cif(hexagonal)
    assert structure.num_atoms == 2
    assert np.allclose(structure.frac_coords, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]], atol=1e-9)


@pytest.mark.parametrize(
    ("symbol", "extra"), [("F d -3 m", "2"), ("F d -3 m S", "1"), ("F d -3 m Z", "2"), ("F d -3 m:1", "1")]
)
def test_origin_choice(symbol: str, extra: str) -> None:
    position = "0.125 0.125 0.125" if extra == "2" else "0 0 0"
    structure = parse_cif(cif(f"C1 C {position}\n", f"_symmetry_space_group_name_H-M '{symbol}'\n", a="3.567"))
    assert structure.num_atoms == 8


def test_multiplicity_column_decides_between_origins() -> None:
    columns = COLUMNS + "_atom_site_symmetry_multiplicity\n"
    text = cif("C1 C 0 0 0 8\n", "_symmetry_Int_Tables_number 227\n", a="3.567", columns=columns)
    assert parse_cif(text).num_atoms == 8  # at origin choice 2, the position 0 0 0 is 16-fold


@pytest.mark.parametrize(("formula", "count"), [("C8", 1), ("C", 8), ("C1", 8)])
def test_the_stated_content_decides_between_origins(formula: str, count: int) -> None:
    header = (
        f"_symmetry_space_group_name_H-M 'F d -3 m'\n_chemical_formula_sum {formula}\n_cell_formula_units_Z {count}\n"
    )
    assert parse_cif(cif("C1 C 0 0 0\n", header, a="3.567")).num_atoms == 8


def test_rhombohedral_axes_follow_the_cell() -> None:
    cell = "_cell_length_a 4.5\n_cell_length_b 4.5\n_cell_length_c 4.5\n" + "".join(
        f"_cell_angle_{name} 57\n" for name in ("alpha", "beta", "gamma")
    )
    text = "data_Bi\n" + cell + "_symmetry_space_group_name_H-M 'R -3 m'\n" + COLUMNS + "Bi1 Bi .237 .237 .237\n"
    assert parse_cif(text).num_atoms == 2


def test_a_cell_without_the_stated_symmetry_is_refused() -> None:
    text = cif(ROCK_SALT, "_symmetry_Int_Tables_number 225\n").replace("_cell_length_c 5.64", "_cell_length_c 7.1")
    with pytest.raises(UnreadableStructureError, match=r"7\.1"):
        parse_cif(text)


def test_unknown_symmetry_is_not_read_as_p1() -> None:
    with pytest.raises(UnreadableStructureError, match="symmetry"):
        parse_cif(cif(ROCK_SALT, "_symmetry_space_group_name_H-M 'Q 7 8 9'\n"))


@pytest.mark.parametrize("number", range(1, 231))
def test_every_group_is_read_by_its_number_as_by_its_operations(number: int) -> None:
    """A general position of each group, in a cell of its symmetry, gives as many atoms as there are operations."""
    group = gemmi.find_spacegroup_by_number(number)
    system = group.crystal_system_str()
    a, b, c, alpha, beta, gamma = 9.0, 10.0, 11.0, 83.0, 97.0, 101.0
    if system == "monoclinic":
        alpha = gamma = 90.0
    elif system != "triclinic":
        alpha = beta = gamma = 90.0
        b = b if system == "orthorhombic" else a
        c = a if system == "cubic" else c
        gamma = 120.0 if system in {"trigonal", "hexagonal"} else gamma
    cell = np.array([a, b, c]), np.array([alpha, beta, gamma])
    structure = Structure.from_parameters(*cell, np.array([[0.13, 0.29, 0.41]]), np.array([14]))
    p1 = write_cif(structure)
    text = (
        p1[: p1.index("_space_group_name")]
        + f"_symmetry_Int_Tables_number {number}\n"
        + p1[p1.index("loop_\n_atom_site") :]
    )
    assert parse_cif(text).num_atoms == len(list(group.operations()))
