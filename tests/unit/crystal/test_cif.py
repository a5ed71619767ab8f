"""CIF text as it is met in the world: what must be read, and what must be refused."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matgen.crystal.cif import parse_cif
from matgen.errors import (
    DisorderedStructureError,
    NonFiniteStructureError,
    StructureError,
    UnreadableStructureError,
)
from tests.unit.crystal.cif_texts import COLUMNS, ROCK_SALT, cif


def test_plain_p1() -> None:
    structure = parse_cif(cif("Na1 Na 0 0 0\nCl1 Cl -0.5 1.25 0.5\n", "_symmetry_space_group_name_H-M 'P 1'\n"))
    assert structure.atomic_numbers.tolist() == [11, 17]
    assert np.allclose(structure.frac_coords, [[0, 0, 0], [0.5, 0.25, 0.5]])
    assert np.allclose(structure.lattice, 5.64 * np.eye(3))


def test_atoms_listed_again_count_once() -> None:
    atoms = ROCK_SALT + "Na2 Na 0.5 0.5 0\nCl2 Cl 0 0 0.5\n"
    assert parse_cif(cif(atoms, "_symmetry_Int_Tables_number 225\n")).num_atoms == 8


def test_uncertainties_charges_and_deuterium() -> None:
    structure = parse_cif(
        cif("Fe1 Fe3+ 0.123(4) 0 0\nO1 O2- .5(12) 0.25 0\nD1 D 0 0 1e-1\nCu1 Cu+2 0 .5 .5\n", a="8.00(2)")
    )
    assert structure.atomic_numbers.tolist() == [26, 8, 1, 29]
    assert structure.frac_coords[0, 0] == pytest.approx(0.123)
    assert structure.lengths[0] == pytest.approx(8.0)


@pytest.mark.parametrize("value", ["1", "1.0", "1.00(3)", "?", ".", "0.999(2)"])
def test_full_occupancies(value: str) -> None:
    columns = COLUMNS + "_atom_site_occupancy\n"
    assert parse_cif(cif(f"Na1 Na 0 0 0 {value}\n", columns=columns)).num_atoms == 1


@pytest.mark.parametrize("value", ["0.5", "0.99", "0", "0.25(1)", "1.1", "half"])
def test_other_occupancies_are_disorder(value: str) -> None:
    columns = COLUMNS + "_atom_site_occupancy\n"
    with pytest.raises(DisorderedStructureError, match=r"site 2 \(Cl1\)") as caught:
        parse_cif(cif(f"Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 {value}\n", columns=columns))
    assert caught.value.status == "disordered"
    assert value in str(caught.value)


def test_several_species_on_a_site_are_disorder() -> None:
    with pytest.raises(DisorderedStructureError, match="Co and Fe share"):
        parse_cif(cif("Fe1 Fe 0 0 0\nCo1 Co 0 0 0\n"))


@pytest.mark.parametrize("groups", [("1", "2"), ("-1", ".")])
def test_disorder_groups_are_disorder(groups: tuple[str, str]) -> None:
    columns = COLUMNS + "_atom_site_disorder_group\n"
    with pytest.raises(DisorderedStructureError, match="disorder group"):
        parse_cif(cif(f"C1 C 0 0 0 {groups[0]}\nC2 C 0.5 0 0 {groups[1]}\n", columns=columns))


@pytest.mark.parametrize("bad", ["?", ".", "abc"])
def test_missing_coordinates_are_refused_with_the_site(bad: str) -> None:
    with pytest.raises(UnreadableStructureError, match=r"site 2 \(H1\)"):
        parse_cif(cif(f"O1 O 0 0 0\nH1 H 0.1 {bad} 0\n"))


@pytest.mark.parametrize("bad", ["nan", "NaN", "inf", "-inf"])
def test_coordinates_that_are_not_finite(bad: str) -> None:
    with pytest.raises(NonFiniteStructureError, match=r"site 1 \(Na1\)"):
        parse_cif(cif(f"Na1 Na {bad} 0 0\n"))


@pytest.mark.parametrize(
    ("old", "new"), [("gamma 90", "gamma 180"), ("a 5.64", "a 0"), ("beta 90", "beta nan"), ("c 5.64", "c -1")]
)
def test_cells_without_volume(old: str, new: str) -> None:
    with pytest.raises(NonFiniteStructureError):
        parse_cif(cif(ROCK_SALT).replace(old, new))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "data_x\n",
        "data_x\n_cell_length_a 5\n",
        "data_x\nloop_\n_atom_site_fract_x\n",
        cif("Xx1 Xx 0 0 0\n"),
        "\x00\x01",
    ],
)
def test_what_is_no_structure_is_refused(text: str) -> None:
    with pytest.raises(UnreadableStructureError) as caught:
        parse_cif(text)
    assert caught.value.status == "unreadable"
    assert "\n" not in str(caught.value)


def test_a_cell_without_angles_is_refused() -> None:
    with pytest.raises(StructureError):
        parse_cif(cif(ROCK_SALT).replace("_cell_angle_gamma 90\n", ""))


def test_water_as_a_type_symbol_is_refused() -> None:
    with pytest.raises(UnreadableStructureError, match="'Wat'"):
        parse_cif(cif("W1 Wat 0 0 0\n"))


@pytest.mark.parametrize(
    ("label", "formula", "number"),
    [
        ("Fe1", "", 26),
        ("O1A", "", 8),
        ("Ow2", "", 8),
        ("CA1", "'Ca O3 C'", None),
        ("CA1", "'Ca O3'", 20),
        ("C12", "", 6),
        ("FE1", "", None),
    ],
)
def test_elements_from_labels_alone(label: str, formula: str, number: int | None) -> None:
    columns = COLUMNS.replace("_atom_site_type_symbol\n", "")
    text = cif(f"{label} 0 0 0\n", f"_chemical_formula_sum {formula}\n" if formula else "", columns=columns)
    if number is None:
        with pytest.raises(UnreadableStructureError, match=label):
            parse_cif(text)
    else:
        assert parse_cif(text).atomic_numbers.tolist() == [number]


def test_the_first_block_with_atoms_is_read() -> None:
    text = (
        "data_global\n_publ_author_name 'A. Author'\n\n"
        + cif("Na1 Na 0 0 0\n")
        + "\n"
        + cif("Cl1 Cl 0 0 0\n", block="data_y\n")
    )
    assert parse_cif(text).atomic_numbers.tolist() == [11]
    assert parse_cif(text, index=1).atomic_numbers.tolist() == [17]
    with pytest.raises(UnreadableStructureError, match="2"):
        parse_cif(text, index=2)


def test_the_second_reader_reads_what_gemmi_refuses() -> None:
    text = cif(ROCK_SALT, "_journal_title_with a stray word\n_symmetry_Int_Tables_number 1\n")
    with pytest.raises(ValueError, match=r"."):
        gemmi.cif.read_string(text)
    assert parse_cif(text).num_atoms == 2


def test_the_second_reader_accepts_no_disorder() -> None:
    columns = COLUMNS + "_atom_site_occupancy\n"
    text = cif("Na1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 0.7\n", "_journal_title_with a stray word\n", columns=columns)
    with pytest.raises(DisorderedStructureError):
        parse_cif(text)


def test_windows_lines_and_tags_in_any_case() -> None:
    text = (
        cif(ROCK_SALT).replace("_cell_length_a", "_Cell_Length_A").replace("_atom_site_fract_x", "_Atom_Site_Fract_X")
    )
    assert parse_cif(text.replace("\n", "\r\n")).num_atoms == 2


def test_an_atom_without_a_loop() -> None:
    site = (
        "".join(f"_atom_site_fract_{axis} 0\n" for axis in "xyz") + "_atom_site_label Po1\n_atom_site_type_symbol Po\n"
    )
    assert parse_cif(cif("", columns=site)).atomic_numbers.tolist() == [84]


RICH = cif(
    "Fe1 Fe3+ 0.1(2) 0.25 0 1\nO1 O2- .5 0.5 0 1\n",
    "_chemical_formula_sum 'Fe2 O3'\n_cell_formula_units_Z 4\n_symmetry_space_group_name_H-M 'P n n n'\n"
    "_symmetry_Int_Tables_number 48\n",
    columns=COLUMNS + "_atom_site_occupancy\n",
)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, len(RICH)),
    st.integers(0, 12),
    st.text(max_size=6) | st.sampled_from(["²", "'", '"', ";", "loop_", "?", "1e999"]),
)
def test_damaged_text_is_read_or_refused_but_never_crashes(where: int, removed: int, inserted: str) -> None:
    text = RICH[:where] + inserted + RICH[where + removed :]
    try:
        structure = parse_cif(text)
    except StructureError as error:
        assert str(error)
        assert "\n" not in str(error)
    else:
        assert structure.num_atoms > 0
        assert np.isfinite(structure.frac_coords).all()
        assert structure.volume > 0
