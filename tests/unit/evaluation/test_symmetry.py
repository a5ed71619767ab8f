import json
from pathlib import Path

import numpy as np
import pytest
import spglib
from evaluation_cells import moved, supercell

from matgen.crystal.structure import Structure
from matgen.errors import SymmetryError
from matgen.evaluation.symmetry import (
    canonical_template,
    detect_space_group,
    detect_symmetry,
    format_template,
    is_supergroup,
    parse_template,
)


def test_rock_salt_and_its_template(rock_salt):
    found = detect_symmetry(rock_salt, 0.1)
    assert found.space_group_number == 225 and found.template == "225:4a,4b"
    assert detect_space_group(rock_salt, 0.001) == 225


def test_the_template_does_not_depend_on_the_cell(structures):
    for seed, structure in enumerate(structures[:60]):
        expected = detect_symmetry(structure, 0.01)
        other = detect_symmetry(moved(supercell(structure), seed), 0.01)
        assert other.space_group_number == expected.space_group_number
        assert other.canonical_template == expected.canonical_template


def test_multiplicities_add_up_to_spglibs_conventional_cell(structures):
    compared = 0
    for structure in structures:
        number, orbits = parse_template(detect_symmetry(structure, 0.01).template)
        assert format_template(number, orbits) == detect_symmetry(structure, 0.01).template
        cell = (structure.lattice, structure.frac_coords, structure.atomic_numbers)
        dataset = spglib.get_symmetry_dataset(cell, symprec=0.01)
        if dataset.number == number:
            assert sum(size for _, size in orbits) == len(dataset.std_types)
            compared += 1
    assert compared > 0.97 * len(structures)


def test_normaliser_joins_choices_of_origin():
    assert canonical_template(221, [("a", 1), ("b", 1)]) == canonical_template(221, [("b", 1), ("a", 1)])
    assert canonical_template(221, [("a", 1)]) == canonical_template(221, [("b", 1)]) == "221:1a"
    assert canonical_template(225, [("b", 4)]) == "225:4a"
    assert canonical_template(221, [("a", 1), ("c", 3)]) == canonical_template(221, [("b", 1), ("d", 3)])
    assert canonical_template(221, [("a", 1), ("d", 3)]) != canonical_template(221, [("a", 1), ("c", 3)])
    assert canonical_template(47, [("A", 8)]) == "47:8A"


def test_caesium_chloride_with_either_atom_at_the_origin_is_one_canonical_template():
    for first, second in ((55, 17), (17, 55)):
        cell = Structure(np.eye(3) * 4.1, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([first, second]))
        assert detect_symmetry(cell, 0.01).canonical_template == "221:1a,1b"
    shifted = Structure(np.eye(3) * 4.1, np.array([[0.5, 0.5, 0.5]]), np.array([84]))
    assert detect_symmetry(shifted, 0.01).canonical_template == "221:1a"


def test_supergroups_are_those_of_an_independent_table():
    database = Path(pytest.importorskip("pyxtal").__file__).parent / "database"
    contains = np.eye(231, dtype=bool)
    for name in ("t_subgroup.json", "k_subgroup.json"):
        for number, record in json.loads((database / name).read_text()).items():
            if 1 <= int(number) <= 230:
                contains[int(number), [int(g) for g in record["subgroup"]]] = True
    for middle in range(1, 231):
        contains |= contains[:, middle, None] & contains[None, middle, :]
    groups = np.arange(1, 231)
    assert (is_supergroup(groups[:, None], groups[None]) == contains[1:, 1:]).all()


def test_some_supergroups():
    detected, requested = np.array([225, 229, 227, 166, 221, 0, 2]), np.array([221, 221, 225, 225, 221, 1, 1])
    assert is_supergroup(detected, requested).tolist() == [True, True, False, False, True, False, True]


def test_atoms_on_top_of_each_other_have_no_group():
    clash = Structure(np.eye(3) * 4.0, np.zeros((2, 3)), np.array([1, 1]))
    with pytest.raises(SymmetryError, match=r"symprec 0\.1"):
        detect_symmetry(clash, 0.1)
