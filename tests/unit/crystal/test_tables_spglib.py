"""The frozen tables against spglib and moyopy: operations, Wyckoff letters and site symmetries of all 230 groups."""

import re

import moyopy
import numpy as np
import pytest
import spglib

from matgen.crystal.tables import SITE_SYMMETRY_AXES, SITE_SYMMETRY_CLASSES
from matgen.crystal.wyckoff import expand_orbits, nearest_members
from tests.unit.crystal.table_points import GROUPS, TABLES, generic_lattice, generic_points, operation_set


@pytest.fixture(scope="module")
def hall_numbers():
    """spglib's Hall numbers of the standard setting: unique axis b cell choice 1, origin choice 2, hexagonal axes."""
    choices = {}
    for hall in range(1, 531):
        entry = spglib.get_spacegroup_type(hall)
        choices.setdefault(entry.number, {}).setdefault(entry.choice, hall)
    order = ("b1", "b", "2", "H", "")
    return {G: next((found[c] for c in order if c in found), min(found.values())) for G, found in choices.items()}


def test_operations_are_those_of_moyopy_and_of_spglib(hall_numbers):
    for G in GROUPS:
        ours = operation_set(*TABLES.operations(G))
        assert len(ours) == len(TABLES.operations(G)[0])
        moyo = moyopy.operations_from_number(G, setting=moyopy.Setting.standard())
        assert ours == operation_set(moyo.rotations, moyo.translations), G
        database = spglib.get_symmetry_from_database(hall_numbers[G])
        assert ours == operation_set(database["rotations"], database["translations"]), G


def test_wyckoff_letters_and_site_symmetries_agree_with_spglib(hall_numbers):
    """One crystal per group with an atom of its own kind on every position; spglib's letter at spglib's own origin."""
    rng = np.random.default_rng(3)
    checked = 0
    for G in GROUPS:
        positions = np.array(TABLES.positions(G))
        members = TABLES.wp_member[np.append(positions, positions[-1])]
        points = generic_points(members, rng)
        owner, coords = expand_orbits(points, members)
        lattice = generic_lattice(G, rng)
        cell = (lattice, coords, owner + 1)
        dataset = spglib.get_symmetry_dataset(cell, symprec=1e-4, hall_number=hall_numbers[G])
        assert dataset.number == G
        first = np.searchsorted(owner, np.arange(len(positions)))
        # spglib may choose another equivalent origin and basis: bring our points there before naming them
        standard = coords[first] @ dataset.transformation_matrix.T + dataset.origin_shift
        scale = abs(np.linalg.det(dataset.transformation_matrix))
        assert scale == pytest.approx(1.0)
        basis = lattice.T @ np.linalg.inv(dataset.transformation_matrix)
        metric = np.broadcast_to(basis.T @ basis, (len(positions), 3, 3))
        for q, position in enumerate(positions):
            same = np.flatnonzero(
                (TABLES.wp_group[TABLES.member_wp] == G)
                & (TABLES.wp_multiplicity[TABLES.member_wp] == TABLES.wp_multiplicity[position])
            )
            member, _, distance = nearest_members(standard[q : q + 1], metric[:1], np.zeros(len(same), dtype=int), same)
            assert distance[0] < 1e-3
            assert TABLES.letters[TABLES.member_wp[member[0]]] == dataset.wyckoffs[first[q]], (G, position)
            assert_symbol_agrees(dataset.site_symmetry_symbols[first[q]], G, TABLES.member_wp[member[0]])
            checked += 1
    assert checked == 1731


SYMBOL_ORDER = {
    "1": 1, "-1": 2, "2": 2, "m": 2, "2/m": 4, "222": 4, "mm2": 4, "mmm": 8, "4": 4, "-4": 4, "4/m": 8, "422": 8,
    "4mm": 8, "-42m": 8, "4/mmm": 16, "3": 3, "-3": 6, "32": 6, "3m": 6, "-3m": 12, "6": 6, "-6": 6, "6/m": 12,
    "622": 12, "6mm": 12, "-6m2": 12, "6/mmm": 24, "23": 12, "m-3": 24, "432": 24, "-43m": 24, "m-3m": 48,
}  # fmt: skip
PERMUTED = {"m2m": "mm2", "2mm": "mm2", "-4m2": "-42m", "-62m": "-6m2"}


def assert_symbol_agrees(symbol, G, position):
    """spglib's oriented symbol has our stabiliser's order, and its dots stand where our axes have no operation."""
    bare = symbol.replace(".", "").replace(" ", "")
    bare = PERMUTED.get(bare, bare)
    order = len(TABLES.operations(G)[0]) // TABLES.wp_multiplicity[position]
    assert SYMBOL_ORDER[bare] == order, (G, symbol, order)
    code = TABLES.code[TABLES.member_code[TABLES.wp_member[position]]]
    principal = {SITE_SYMMETRY_CLASSES[c] for c in code}
    highest = re.match(r"-?\d(/m)?|m", bare).group()
    if bare not in ("1", "-1") and bare[0] != "m":
        assert highest in principal or (highest, bare) in {("2", "mm2")}, (G, symbol, principal)
    slots = axis_slots(G)
    leading = len(symbol) - len(symbol.lstrip("."))
    default = {"1", "-1"}
    for slot in slots[:leading]:
        assert {SITE_SYMMETRY_CLASSES[code[u]] for u in slot} <= default, (G, symbol, code)
    if len(slots) == 3 and symbol.endswith(".."):
        assert {SITE_SYMMETRY_CLASSES[code[u]] for u in slots[2]} <= default, (G, symbol, code)


def axis_slots(G):
    """Indices of the axes that each place of an oriented symbol speaks of."""
    index = {axis: u for u, axis in enumerate(SITE_SYMMETRY_AXES)}
    if G < 16:
        return [[index[0, 1, 0]]]
    if G < 75:
        return [[index[1, 0, 0]], [index[0, 1, 0]], [index[0, 0, 1]]]
    if G < 143:
        return [[index[0, 0, 1]], [index[1, 0, 0], index[0, 1, 0]], [index[1, 1, 0], index[1, -1, 0]]]
    if G < 195:
        return [
            [index[0, 0, 1]],
            [index[1, 0, 0], index[0, 1, 0], index[1, 1, 0]],
            [index[1, -1, 0], index[1, 2, 0], index[2, 1, 0]],
        ]
    return [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
