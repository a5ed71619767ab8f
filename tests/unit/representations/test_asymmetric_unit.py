from dataclasses import replace

import numpy as np
import pytest

from matgen.crystal.space_group import find_space_group_number
from matgen.crystal.structure import Structure, min_distance
from matgen.crystal.tables import load_tables
from matgen.errors import ClashError, StructureError, TooManyAtomsError
from matgen.geometry.lattice import lattice_constraints, lattice_parameters
from matgen.representations.asymmetric_unit import AsymmetricUnit, EncodeConfig, encode, encode_many
from matgen.representations.decode import DecodeConfig, decode

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def copper(repeat=1):
    cells = np.array([(i, j, k) for i in range(repeat) for j in range(repeat) for k in range(repeat)])
    coords = ((FCC[None] + cells[:, None]) / repeat).reshape(-1, 3)
    return Structure(np.eye(3) * 3.61 * repeat, coords, np.full(len(coords), 29))


def unit_of(G, letters, points, numbers, k=None, orientation=0):
    """An asymmetric unit with points put exactly on the named positions."""
    tables = load_tables()
    mask, fixed = lattice_constraints()
    positions = [next(p for p in tables.positions(G) if tables.letters[p] == letter) for letter in letters]
    member = np.array([tables.wp_member[p] + orientation for p in positions])
    projector = tables.projector[tables.member_projector[member]]
    x = np.einsum("qij,qj->qi", projector, np.array(points, dtype=float)) + tables.member_offset[member]
    k = np.where(mask[G], np.array([0, 0, 0, 0, 0, 3.2]) if k is None else k, fixed[G])
    return AsymmetricUnit(
        G,
        k,
        x,
        np.array(numbers),
        tables.code[tables.member_code[member]],
        tables.wp_multiplicity[positions],
        tuple(letters),
    )


def test_elemental_fcc_is_one_orbit_from_any_cell():
    primitive = Structure(
        np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 1.805, np.array([[0.3, 0.1, 0.7]]), np.array([29])
    )
    for structure in (copper(), copper(2), primitive):
        unit = encode(structure)
        assert (unit.space_group_number, unit.num_orbits, unit.wyckoff_letters) == (225, 1, ("a",))
        assert unit.multiplicity.tolist() == [4] and unit.atomic_numbers.tolist() == [29]
        assert unit.lattice_k[5] == pytest.approx(3 * np.log(3.61) / 3**0.5) and not unit.lattice_k[:5].any()
        crystal = decode([unit])[0]
        assert crystal.status == "ok" and crystal.structure.num_atoms == 4
        assert min_distance(crystal.structure) == pytest.approx(3.61 / 2**0.5)


def test_equivalent_origins_and_axes_give_one_description():
    """Strontium titanate with the origin on either metal, and rutile with its origin moved by half a body diagonal."""
    for unit in (
        unit_of(221, "bad", [[0, 0, 0]] * 3, [38, 22, 8], k=[0, 0, 0, 0, 0, 3**0.5 * np.log(3.9)]),
        unit_of(136, "af", [[0, 0, 0], [0.305, 0.305, 0]], [22, 8], k=[0, 0, 0, 0, 0.35, 2.4]),
    ):
        structure = decode([unit])[0].structure
        seen = set()
        for shift in ([0, 0, 0], [0.5, 0.5, 0.5], [0.13, 0.57, 0.9]):
            for axes in (np.eye(3), np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])):
                coords = (structure.frac_coords + np.array(shift)) @ np.linalg.inv(axes)
                moved = replace(structure, lattice=axes @ structure.lattice, frac_coords=coords)
                found = encode(moved)
                seen.add(tuple(sorted(zip(found.wyckoff_letters, found.atomic_numbers.tolist()))))
        assert len(seen) == 1
    assert seen == {(("a", 22), ("f", 8))}


def test_representative_lies_exactly_on_the_position_of_its_code():
    rng = np.random.default_rng(0)
    spinel = unit_of(
        227, "ade", [[0, 0, 0], [0, 0, 0], [0.2624] * 3], [12, 13, 8], k=[0, 0, 0, 0, 0, 3**0.5 * np.log(8.1)]
    )
    structure = decode([spinel])[0].structure
    noisy = replace(structure, frac_coords=structure.frac_coords + rng.normal(0, 1e-3, structure.frac_coords.shape))
    unit = encode(noisy)
    assert unit.space_group_number == 227 and sorted(unit.multiplicity.tolist()) == [8, 16, 32]
    tables = load_tables()
    for x, letter, code in zip(unit.frac_coords, unit.wyckoff_letters, unit.site_symmetry):
        position = next(p for p in tables.positions(227) if tables.letters[p] == letter)
        member = tables.wp_member[position]
        image = tables.projector[tables.member_projector[member]] @ x + tables.member_offset[member] - x
        assert np.abs(image - np.rint(image)).max() < 1e-12
        assert (tables.code[tables.member_code[member]] == code).all()


def test_monoclinic_and_triclinic_cells_survive():
    rng = np.random.default_rng(1)
    for angles in ([90, 117, 90], [71, 83, 104]):
        coords = rng.random((3, 3))
        structure = Structure.from_parameters(
            [4.7, 6.1, 7.9], angles, np.concatenate([coords, -coords]) % 1, [8, 22, 38] * 2
        )
        unit = encode(structure, EncodeConfig(symprec=1e-4, min_distance=0.0))
        decoded = decode([unit], DecodeConfig(min_distance=0, min_ratio=0))[0].structure
        assert decoded.volume == pytest.approx(structure.volume, rel=1e-9)
        assert min_distance(decoded) == pytest.approx(min_distance(structure), abs=1e-6)
        assert find_space_group_number(decoded) == unit.space_group_number


def test_every_failure_of_a_batch_is_in_its_place():
    bad = Structure(np.eye(3) * np.nan, np.zeros((1, 3)), np.array([1]))
    clash = Structure(np.eye(3) * 4, np.array([[0, 0, 0], [0, 0, 0.05]]), np.array([3, 3]))
    results = encode_many([bad, copper(), clash, copper(3)], EncodeConfig(max_atoms=50))
    assert [getattr(result, "status", "ok") for result in results] == ["non_finite", "ok", "clash", "too_large"]
    assert isinstance(results[2], ClashError) and isinstance(results[3], TooManyAtomsError)
    with pytest.raises(TooManyAtomsError, match="1 orbits, more than the limit of 0"):
        encode(copper(), EncodeConfig(max_orbits=0))
    with pytest.raises(StructureError):
        encode(clash)


def test_batch_equals_single():
    rng = np.random.default_rng(2)
    units = [
        unit_of(G, letters, rng.random((len(letters), 3)), rng.integers(3, 80, len(letters)))
        for G, letters in [(62, "ccd"), (225, "abe"), (14, "aee"), (166, "ach"), (1, "aaa"), (227, "ae"), (111, "ln")]
    ]
    noisy = [replace(u, frac_coords=u.frac_coords + rng.normal(0, 0.1, u.frac_coords.shape)) for u in units]
    together = decode(noisy)
    for unit, crystal in zip(noisy, together):
        alone = decode([unit])[0]
        np.testing.assert_array_equal(alone.structure.frac_coords, crystal.structure.frac_coords)
        assert (alone.status, alone.moved, alone.wyckoff_letters) == (
            crystal.status,
            crystal.moved,
            crystal.wyckoff_letters,
        )


@pytest.mark.parametrize(("G", "letter"), [(111, "l"), (201, "f"), (222, "g"), (131, "o"), (109, "b")])
def test_special_orbits_do_not_collapse_from_any_member(G, letter):
    """A published code puts atoms of these orbits on top of each other."""
    tables = load_tables()
    position = next(p for p in tables.positions(G) if tables.letters[p] == letter)
    for orientation in range(tables.wp_member[position + 1] - tables.wp_member[position]):
        unit = unit_of(G, [letter], [[0.237, 0.371, 0.118]], [11], k=[0, 0, 0, 0, 0.1, 5.0], orientation=orientation)
        crystal = decode([unit], DecodeConfig(resolve_overlaps=False))[0]
        assert crystal.multiplicities.tolist() == [tables.wp_multiplicity[position]] == [crystal.structure.num_atoms]
        assert crystal.wyckoff_letters == (letter,) and crystal.displacement[0] < 1e-9
        assert min_distance(crystal.structure) > 0.3


def test_point_off_its_position_goes_to_the_nearest_of_the_same_code():
    unit = unit_of(221, ["a"], [[0, 0, 0]], [26])
    for point, letter in (([0.1, 0.05, -0.1], "a"), ([0.45, 0.6, 0.52], "b")):
        crystal = decode([replace(unit, frac_coords=np.array([point]))])[0]
        assert crystal.wyckoff_letters == (letter,)
        expected = np.linalg.norm(np.array(point) - (0 if letter == "a" else 0.5)) * np.exp(3.2 / 3**0.5)
        assert crystal.displacement[0] == pytest.approx(expected)


def test_nearest_is_measured_in_angstrom_not_in_fractions():
    """In a long thin cell the fractional and the Cartesian nearest positions differ."""
    k = np.array([0, 0, 0, 0, -1.2, 3.4])
    unit = unit_of(47, ["a"], [[0, 0, 0]], [26], k=k)
    lengths, _ = lattice_parameters(decode([unit])[0].structure.lattice)
    point = np.array([[0.30, 0.0, 0.22]])
    assert lengths[2] > 2 * lengths[0]
    crystal = decode([replace(unit, frac_coords=point)])[0]
    assert crystal.wyckoff_letters == ("b",)
    np.testing.assert_allclose(crystal.representatives, [[0.5, 0, 0]], atol=1e-12)


def test_invalid_code_finds_the_nearest_and_says_how_far():
    unit = unit_of(225, ["a"], [[0, 0, 0]], [26])
    code = unit.site_symmetry.copy()
    code[0, 4] = 0
    crystal = decode([replace(unit, site_symmetry=code)])[0]
    assert crystal.wyckoff_letters == ("a",) and crystal.code_distance.tolist() == [1]


def test_position_without_freedom_is_used_once():
    unit = unit_of(221, ["a", "a"], [[0, 0, 0]] * 2, [55, 17])
    raw = decode([unit], DecodeConfig(resolve_overlaps=False))[0]
    assert raw.status == "overlap" and raw.raw_min_distance == 0 and "0.000 Å apart" in raw.reason
    crystal = decode([unit])[0]
    assert crystal.status == "ok" and sorted(crystal.wyckoff_letters) == ["a", "b"]
    assert crystal.moved == {"relettered": 1} and crystal.moved_orbits == 1
    assert crystal.raw_clash and crystal.raw_min_distance == 0 and crystal.min_distance > 2


def test_orbit_beside_a_special_position_moves_and_keeps_its_composition():
    unit = unit_of(123, ["u"], [[0.22, 0.26, 0.01]], [8], k=[0, 0, 0, 0, 0, 3.6])
    crystal = decode([unit])[0]
    assert crystal.raw_clash and crystal.status == "ok" and crystal.moved == {"moved": 1}
    assert crystal.multiplicities.tolist() == [16] == [crystal.structure.num_atoms]
    assert crystal.min_ratio >= 0.5


def test_crowded_cell_is_raised_or_reported_but_never_dropped():
    unit = unit_of(225, ["l"], [[0.1, 0.2, 0.3]], [55], k=[0, 0, 0, 0, 0, 2.6])
    crystal = decode([unit])[0]
    assert crystal.raw_clash and crystal.structure is not None
    assert crystal.moved in ({"raised": 1}, {"unresolved": 1})
    assert (crystal.status == "overlap") == (crystal.moved == {"unresolved": 1})


def test_required_letters_are_kept():
    unit = unit_of(221, ["a", "b"], [[0, 0, 0], [0, 0, 0]], [55, 17])
    swapped = decode([unit], wyckoff_fixed=[["b", "a"]])[0]
    assert swapped.wyckoff_letters == ("b", "a") and swapped.status == "ok"
    stuck = decode([unit], wyckoff_fixed=[["a", "a"]])[0]
    assert stuck.status == "overlap" and stuck.wyckoff_letters == ("a", "a") and stuck.moved == {"unresolved": 1}
    results = decode([unit, unit, unit], wyckoff_fixed=[["a"], ["a", "Q"], None])
    assert [r.status for r in results] == ["impossible_template", "unknown_letter", "ok"]


def test_bad_rows_have_a_status_and_do_not_spoil_the_others():
    good = unit_of(62, ["c", "d"], [[0.1, 0.25, 0.3], [0.4, 0.1, 0.2]], [8, 26])
    rows = [
        replace(good, lattice_k=good.lattice_k * np.nan),
        replace(good, lattice_k=good.lattice_k + 100),
        replace(good, space_group_number=231),
        replace(good, frac_coords=np.array([[np.inf, 0, 0], [0, 0, 0]])),
        replace(good, atomic_numbers=np.array([0, 8])),
        AsymmetricUnit(
            62, good.lattice_k, np.empty((0, 3)), np.empty(0, int), np.empty((0, 15), np.int8), np.empty(0, int)
        ),
        good,
    ]
    statuses = [crystal.status for crystal in decode(rows)]
    assert statuses == [
        "non_finite", "bad_lattice", "unknown_space_group", "non_finite", "unsupported_element", "empty", "ok",
    ]  # fmt: skip
    assert decode([]) == []


def test_fixed_lattice_components_are_enforced():
    unit = unit_of(194, ["c"], [[0, 0, 0]], [12])
    crystal = decode([replace(unit, lattice_k=unit.lattice_k + np.array([0.3, 0.2, -0.4, 0.1, 0, 0]))])[0]
    assert crystal.structure.angles.tolist() == pytest.approx([90, 90, 120])
    assert crystal.structure.lengths[0] == pytest.approx(crystal.structure.lengths[1])
