"""CIF text as it is met in the world: what must be read, what must be refused, and what we write."""

from __future__ import annotations

import io

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matgen.crystal.cif import CifSymmetry, parse_cif, write_cif
from matgen.crystal.structure import Structure
from matgen.errors import (
    DisorderedStructureError,
    NonFiniteStructureError,
    StructureError,
    UnreadableStructureError,
)

CUBE = "_cell_length_a {a}\n_cell_length_b {a}\n_cell_length_c {a}\n" + "".join(
    f"_cell_angle_{name} 90\n" for name in ("alpha", "beta", "gamma")
)
COLUMNS = (
    "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
)


def cif(atoms: str, header: str = "", a: str = "5.64", columns: str = COLUMNS, block: str = "data_x\n") -> str:
    return block + CUBE.format(a=a) + header + columns + atoms


ROCK_SALT = "Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5\n"


def test_plain_p1() -> None:
    structure = parse_cif(cif("Na1 Na 0 0 0\nCl1 Cl -0.5 1.25 0.5\n", "_symmetry_space_group_name_H-M 'P 1'\n"))
    assert structure.atomic_numbers.tolist() == [11, 17]
    assert np.allclose(structure.frac_coords, [[0, 0, 0], [0.5, 0.25, 0.5]])
    assert np.allclose(structure.lattice, 5.64 * np.eye(3))


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


lengths = st.floats(2.0, 30.0)
angles = st.floats(65.0, 115.0)
fractions = st.floats(0.0, 1.0, exclude_max=True)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    num_atoms = draw(st.integers(1, 12))
    coords = draw(
        st.lists(st.tuples(fractions, fractions, fractions), min_size=num_atoms, max_size=num_atoms, unique=True)
    )
    numbers = draw(st.lists(st.integers(1, 103), min_size=num_atoms, max_size=num_atoms))
    cell = np.array([draw(lengths) for _ in range(3)]), np.array([draw(angles) for _ in range(3)])
    return Structure.from_parameters(*cell, np.array(coords), np.array(numbers))


@settings(max_examples=100, deadline=None)
@given(structures())
def test_round_trip_of_any_structure(structure: Structure) -> None:
    coords = np.round(structure.frac_coords, 9)
    if len(np.unique(coords % 1.0, axis=0)) < len(coords):
        return  # two atoms that the written digits cannot tell apart
    back = parse_cif(write_cif(structure))
    assert back.atomic_numbers.tolist() == structure.atomic_numbers.tolist()
    assert np.allclose(back.lattice @ back.lattice.T, structure.lattice @ structure.lattice.T, atol=1e-6)
    shifts = back.frac_coords - structure.frac_coords
    assert np.abs(shifts - np.round(shifts)).max() < 1e-9


def symmetric(
    xhm: str, cell: gemmi.UnitCell, sites: list[tuple[int, list[float], str, int]]
) -> tuple[Structure, CifSymmetry]:
    operations = list(gemmi.SpaceGroup(xhm).operations())
    rotation = np.array([op.rot for op in operations]) // gemmi.Op.DEN
    translation = np.array([op.tran for op in operations]) / gemmi.Op.DEN
    coords: list[np.ndarray] = []
    numbers: list[int] = []
    for number, x, _, multiplicity in sites:
        images = (rotation @ np.array(x) + translation) % 1.0
        orbit = np.unique(np.round(images, 8) % 1.0, axis=0)
        assert len(orbit) == multiplicity
        coords.extend(orbit)
        numbers += [number] * multiplicity
    structure = Structure.from_parameters(
        np.array(cell.parameters[:3]), np.array(cell.parameters[3:]), np.array(coords), np.array(numbers)
    )
    symmetry = CifSymmetry(
        gemmi.SpaceGroup(xhm).number,
        rotation,
        translation,
        np.array([site[1] for site in sites]),
        np.array([site[0] for site in sites]),
        [site[2] for site in sites],
        [site[3] for site in sites],
    )
    return structure, symmetry


CASES = [
    (
        "F d -3 m:2",
        gemmi.UnitCell(8.08, 8.08, 8.08, 90, 90, 90),
        [(12, [0.125] * 3, "a", 8), (13, [0.5] * 3, "d", 16), (8, [0.2624] * 3, "e", 32)],
    ),
    ("R -3 m:H", gemmi.UnitCell(4.5, 4.5, 11.9, 90, 90, 120), [(83, [0, 0, 0.2339], "c", 6)]),
    (
        "P 1 21/c 1",
        gemmi.UnitCell(5.1, 5.2, 5.3, 90, 99.2, 90),
        [(40, [0.275, 0.04, 0.208], "e", 4), (8, [0.07, 0.332, 0.345], "e", 4)],
    ),
    (
        "P 1",
        gemmi.UnitCell(4.1, 5.2, 6.3, 80, 95, 100),
        [(3, [0.1, 0.2, 0.3], "a", 1), (9, [0.6, 0.7, 0.8], "a", 1), (8, [0.3, 0.6, 0.1], "a", 1)],
    ),
    ("P 63/m m c", gemmi.UnitCell(3.21, 3.21, 5.21, 90, 90, 120), [(12, [1 / 3, 2 / 3, 0.25], "c", 2)]),
]


@pytest.mark.parametrize(("xhm", "cell", "sites"), CASES, ids=[case[0] for case in CASES])
def test_written_symmetry_reads_back_everywhere(xhm: str, cell: gemmi.UnitCell, sites: list) -> None:
    from ase.io import read as ase_read
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.io.cif import CifParser
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    structure, symmetry = symmetric(xhm, cell, sites)
    text = write_cif(structure, symmetry, name="my sample", properties={"seed": 3, "note": "two words"})
    ours = parse_cif(text)
    theirs = CifParser(io.StringIO(text)).parse_structures(primitive=False)[0]
    small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text)[0])
    assert ours.num_atoms == structure.num_atoms == len(theirs)
    assert len(small.get_all_unit_cell_sites()) == structure.num_atoms
    assert small.spacegroup is not None and small.spacegroup.xhm() == xhm
    assert len(ase_read(io.StringIO(text), format="cif")) == structure.num_atoms
    matcher = StructureMatcher(ltol=1e-3, stol=1e-3, angle_tol=0.1, primitive_cell=False, scale=False)
    assert matcher.fit(ours.to_pymatgen(), structure.to_pymatgen())
    assert matcher.fit(theirs, structure.to_pymatgen())
    assert SpacegroupAnalyzer(theirs, 1e-3).get_space_group_number() == symmetry.space_group_number
    block = gemmi.cif.read_string(text)[0]
    assert list(block.find_values("_atom_site_Wyckoff_symbol")) == [site[2] for site in sites]
    assert [int(value) for value in block.find_values("_atom_site_symmetry_multiplicity")] == [
        site[3] for site in sites
    ]
    assert len(block.find_values("_space_group_symop_operation_xyz")) == len(symmetry.rotation)
    assert block.find_value("_matgen_note") == "'two words'"


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


def test_multiplicities_that_do_not_add_up_are_an_error() -> None:
    structure, symmetry = symmetric(*CASES[1])
    with pytest.raises(ValueError, match="6"):
        write_cif(Structure(structure.lattice, structure.frac_coords[:4], structure.atomic_numbers[:4]), symmetry)


@pytest.mark.parametrize("name", ["", "a b\nloop_", "é", "data_"])
def test_any_name_makes_a_valid_block(name: str) -> None:
    structure, _ = symmetric(*CASES[3])
    assert parse_cif(write_cif(structure, name=name)).num_atoms == 3
