"""CIFs that we write: read back by us and by other programs, with their symmetry."""

from __future__ import annotations

import io

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matgen.crystal.cif import CifSymmetry, parse_cif, write_cif
from matgen.crystal.structure import Structure

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


def test_multiplicities_that_do_not_add_up_are_an_error() -> None:
    structure, symmetry = symmetric(*CASES[1])
    with pytest.raises(ValueError, match="6"):
        write_cif(Structure(structure.lattice, structure.frac_coords[:4], structure.atomic_numbers[:4]), symmetry)


@pytest.mark.parametrize("name", ["", "a b\nloop_", "é", "data_"])
def test_any_name_makes_a_valid_block(name: str) -> None:
    structure, _ = symmetric(*CASES[3])
    assert parse_cif(write_cif(structure, name=name)).num_atoms == 3
