"""The frozen tables against themselves, for every position of all 230 groups."""

from collections import Counter

import numpy as np
import pytest

from matgen.crystal import wyckoff
from matgen.crystal.site_symmetry import code_of_operations, codes_of_group, nearest_codes
from matgen.crystal.tables import symmetry_tables
from matgen.crystal.wyckoff import (
    canonical_representatives,
    canonical_template,
    expand_orbits,
    nearest_members,
    project_onto_members,
    site_misfits,
    template_from_letters,
)
from matgen.errors import SymmetryError
from matgen.geometry.coordinates import nearest_image
from tests.unit.crystal.table_points import GROUPS, TABLES, generic_lattice, generic_points, operation_set


def test_counts_known_from_the_literature():
    assert len(TABLES.letters) == 1731
    first = TABLES.member_code[TABLES.wp_member[:-1]]
    # numbers of distinct site-symmetry matrices over all positions, and of (group, matrix) pairs
    assert len(set(first.tolist())) == 83
    assert len(set(zip(TABLES.wp_group.tolist(), first.tolist()))) == 1154


def test_every_member_has_the_stabiliser_its_code_and_projector_say():
    rng = np.random.default_rng(0)
    for G in GROUPS:
        rotations, translations = TABLES.operations(G)
        members = np.flatnonzero(TABLES.wp_group[TABLES.member_wp] == G)
        for member, x in zip(members, generic_points(members, rng)):
            position = TABLES.member_wp[member]
            moved = rotations @ x + translations - x
            fixed = np.abs(moved - np.rint(moved)).max(axis=1) < 1e-9
            assert fixed.sum() * TABLES.wp_multiplicity[position] == len(rotations), (G, TABLES.letters[position])
            projector = TABLES.projector[TABLES.member_projector[member]]
            np.testing.assert_allclose(rotations[fixed].mean(axis=0), projector, atol=1e-12)
            assert (code_of_operations(rotations[fixed]) == TABLES.code[TABLES.member_code[member]]).all()
            assert round(float(np.trace(projector))) == TABLES.wp_freedom[position]


def test_first_triplet_lies_on_the_first_member():
    rng = np.random.default_rng(1)
    x = np.einsum("qij,qj->qi", TABLES.wp_rotation, rng.random((1731, 3))) + TABLES.wp_translation
    first = TABLES.wp_member[:-1]
    projected, squared = project_onto_members(x, first, np.broadcast_to(np.eye(3), (1731, 3, 3)))
    assert squared.max() < 1e-20
    np.testing.assert_allclose(projected, x, atol=1e-12)


def test_orbits_have_their_multiplicity_and_are_closed_under_the_group():
    rng = np.random.default_rng(2)
    for G in GROUPS:
        members = np.flatnonzero(TABLES.wp_group[TABLES.member_wp] == G)
        x = generic_points(members, rng)
        owner, coords = expand_orbits(x, members)
        rotations, translations = TABLES.operations(G)
        chosen = np.unique(np.append(rng.choice(len(members), min(6, len(members)), replace=False), [0]))
        for q in chosen:
            orbit = coords[owner == q]
            assert len(orbit) == TABLES.wp_multiplicity[TABLES.member_wp[members[q]]]
            keys = {tuple(p) for p in (np.rint(orbit * 1e6).astype(int) % 1000000).tolist()}
            assert len(keys) == len(orbit), (G, q)
            images = rotations @ x[q] + translations
            assert {tuple(p) for p in (np.rint(images * 1e6).astype(int) % 1000000).tolist()} == keys


@pytest.mark.parametrize(("G", "letter"), [(111, "l"), (201, "f"), (222, "g"), (131, "o"), (109, "b")])
def test_orbits_of_known_failures_do_not_collapse(G, letter):
    """A published code loses atoms here: it applies coordinate triplets to points that lie on another triplet."""
    rng = np.random.default_rng(4)
    position = next(p for p in TABLES.positions(G) if TABLES.letters[p] == letter)
    members = np.arange(TABLES.wp_member[position], TABLES.wp_member[position + 1])
    owner, coords = expand_orbits(generic_points(members, rng), members)
    metric = generic_lattice(G, rng) @ generic_lattice(G, np.random.default_rng(5)).T
    metric = np.eye(3) * np.abs(np.trace(metric)) / 3
    for q in range(len(members)):
        orbit = coords[owner == q]
        i, j = np.triu_indices(len(orbit), 1)
        _, squared = nearest_image(orbit[i] - orbit[j], np.broadcast_to(metric, (len(i), 3, 3)))
        assert len(orbit) == TABLES.wp_multiplicity[position]
        assert squared.min() > 1e-4


def test_canonical_representative_does_not_depend_on_the_point_given():
    rng = np.random.default_rng(6)
    for G in (1, 5, 14, 62, 88, 109, 148, 160, 166, 194, 205, 216, 225, 227, 230):
        for position in TABLES.positions(G):
            member = np.array([TABLES.wp_member[position]])
            x = generic_points(member, rng)
            rotations, translations = TABLES.operations(G)
            images = rotations @ x[0] + translations
            candidates = np.arange(TABLES.wp_member[position], TABLES.wp_member[position + 1])
            owner = np.repeat(np.arange(len(images)), len(candidates))
            metric = np.broadcast_to(np.eye(3), (len(images), 3, 3))
            if 143 <= G <= 194:
                metric = np.broadcast_to(np.array([[1, -0.5, 0], [-0.5, 1, 0], [0, 0, 1.0]]), (len(images), 3, 3))
            chosen, projected, _ = nearest_members(images, metric, owner, np.tile(candidates, len(images)))
            representatives, on = canonical_representatives(projected, chosen)
            assert (on == member[0]).all()
            spread = representatives - representatives[0]
            assert np.abs(spread - np.rint(spread)).max() < 1e-9, (G, TABLES.letters[position])


@pytest.mark.parametrize("G", [1, 2, 5, 14, 38, 62, 109, 148, 166, 194, 205, 225, 230])
def test_misfit_of_each_code_is_the_distance_to_its_nearest_position(G, monkeypatch):
    rng = np.random.default_rng(G)
    lattice = generic_lattice(G, rng)
    metric = np.broadcast_to(lattice @ lattice.T, (6, 3, 3))
    points, groups, codes = rng.random((6, 3)), np.full(6, G), codes_of_group(G)
    free = site_misfits(groups, points, metric, merge_below=0.0)
    assert free.shape == (6, len(codes))
    members = np.arange(TABLES.wp_member[TABLES.group_wp[G]], TABLES.wp_member[TABLES.group_wp[G + 1]])
    for point, row in zip(points, free):
        _, squared = project_onto_members(
            np.tile(point, (len(members), 1)), members, np.tile(metric[0], (len(members), 1, 1))
        )
        carried = TABLES.code[TABLES.member_code[members]]
        expected = [np.sqrt(squared[(carried == code).all(axis=1)].min()) for code in codes]
        np.testing.assert_allclose(row, expected, atol=1e-9)
    monkeypatch.setattr(wyckoff, "_MISFIT_PAIRS", 1)  # in as many pieces as there are points: the same
    np.testing.assert_array_equal(site_misfits(groups, points, metric, merge_below=0.0), free)


@pytest.mark.parametrize("G", [2, 14, 62, 166, 194, 225, 230])
def test_codes_out_of_the_question_are_those_whose_orbit_would_meet_itself(G):
    """Points next to every special position: a code is left out only where some operation moves the point by less."""
    rng = np.random.default_rng(G)
    lattice = generic_lattice(G, rng, log_volume=5.0)
    positions = np.array(TABLES.positions(G))
    shift = rng.normal(size=(len(positions), 3))
    shift = rng.uniform(0.02, 0.24, (len(positions), 1)) * shift / np.linalg.norm(shift, axis=1, keepdims=True)
    points = generic_points(TABLES.wp_member[positions], rng) + shift @ np.linalg.inv(lattice)
    metric = np.broadcast_to(lattice @ lattice.T, (len(points), 3, 3))
    groups = np.full(len(points), G)
    misfit, free = site_misfits(groups, points, metric), site_misfits(groups, points, metric, merge_below=0.0)
    kept = np.isfinite(misfit)
    np.testing.assert_array_equal(misfit[kept], free[kept])
    rotations, translations = TABLES.operations(G)
    order = np.array([len(rotations) / multiplicity_of(G, code) for code in codes_of_group(G)])
    moved = np.einsum("oij,qj->qoi", rotations, points) + translations - points[:, None]
    for at in range(len(points)):
        _, squared = nearest_image(moved[at], np.broadcast_to(metric[0], (len(rotations), 3, 3)))
        near = (squared < 0.5**2).sum()  # operations that leave the point within 0.5 Å of itself
        assert kept[at].any()
        assert (order[~kept[at]] < near).all()  # such a site's stabiliser cannot hold them all
        special = free[at] < 0.25
        assert special.any() and order[kept[at]].min() >= order[special].max()


def multiplicity_of(G, code):
    members = np.arange(TABLES.wp_member[TABLES.group_wp[G]], TABLES.wp_member[TABLES.group_wp[G + 1]])
    found = members[(TABLES.code[TABLES.member_code[members]] == code).all(axis=1)]
    return TABLES.wp_multiplicity[TABLES.member_wp[found[0]]]


def test_padded_tables_for_the_network():
    padded = symmetry_tables()
    assert padded["num_operations"][1:].min() == 1 and padded["num_operations"].max() == 192
    for G in (1, 3, 16, 75, 146, 168, 195, 227):
        n = padded["num_operations"][G]
        assert operation_set(padded["operations_rotation"][G, :n], padded["operations_translation"][G, :n]) == (
            operation_set(*TABLES.operations(G))
        )
        codes = padded["site_symmetry_codes"][G, : padded["num_codes"][G]]
        assert (codes == codes_of_group(G)).all()
        known = {tuple(c) for c in codes.tolist()}
        for o in range(n):
            turned = np.empty_like(codes)
            turned[:, padded["axis_permutation"][G, o]] = codes
            assert {tuple(c) for c in turned.tolist()} == known
    polar = {G: int(padded["polar_directions"][G].any(axis=1).sum()) for G in GROUPS}
    assert polar[1] == 3 and polar[6] == 2 and polar[4] == 1 and polar[2] == 0 and polar[160] == 1 and polar[225] == 0
    assert padded["polar_directions"][4, 0].tolist() == [0, 1, 0]
    assert Counter(polar.values()) == {0: 162, 1: 63, 2: 4, 3: 1}


def test_codes_turn_with_the_operation_that_turns_the_member():
    padded = symmetry_tables()
    for member in range(0, len(TABLES.member_wp), 7):
        position = TABLES.member_wp[member]
        G, o = TABLES.wp_group[position], TABLES.member_from_first[member]
        turned = np.empty(15, dtype=np.int8)
        turned[padded["axis_permutation"][G, o]] = TABLES.code[TABLES.member_code[TABLES.wp_member[position]]]
        assert (turned == TABLES.code[TABLES.member_code[member]]).all()


def test_nearest_code_of_a_valid_code_is_itself():
    for G in (2, 62, 166, 227):
        codes = codes_of_group(G)
        near, distance = nearest_codes(G, codes)
        assert (distance == 0).all() and (near == np.eye(len(codes), dtype=bool)).all()


def test_normaliser_has_the_index_of_international_tables():
    """Index of the group in its Euclidean normaliser, modulo polar translations and reflections of chiral groups."""
    known = {2: 8, 14: 8, 62: 8, 47: 8, 139: 2, 123: 4, 194: 2, 221: 2, 225: 2, 227: 2, 229: 1, 230: 1, 216: 8}
    counts = np.diff(TABLES.group_normalizer)
    assert {G: int(counts[G]) for G in known} == known


def test_normaliser_elements_map_the_group_onto_itself_and_positions_onto_their_images():
    rng = np.random.default_rng(8)
    padded = symmetry_tables()
    for G in GROUPS:
        rotations, translations = TABLES.operations(G)
        ours = operation_set(rotations, translations)
        lattice = generic_lattice(G, rng)
        positions = np.array(TABLES.positions(G))
        x = generic_points(TABLES.wp_member[positions], rng)
        elements = range(TABLES.group_normalizer[G], TABLES.group_normalizer[G + 1])
        for e in list(elements)[:: max(1, len(elements) // 6)]:
            Q, q = TABLES.normalizer_rotation[e], TABLES.normalizer_translation[e]
            inverse = np.linalg.inv(Q)
            images = Q @ rotations @ inverse
            moved = translations @ Q.T + q - np.einsum("oij,j->oi", images, q)
            assert operation_set(images, moved) == ours, (G, e)
            np.testing.assert_allclose(Q.T @ lattice @ lattice.T @ Q, lattice @ lattice.T, atol=1e-8)
            assert np.linalg.det(Q) > 0
            becomes = positions[TABLES.normalizer_positions(G)[e - elements.start]]
            for p, there, point in zip(positions, becomes, x @ Q.T + q):
                members = np.arange(TABLES.wp_member[there], TABLES.wp_member[there + 1])
                metric = np.broadcast_to(lattice @ lattice.T, (1, 3, 3))
                _, _, distance = nearest_members(point[None], metric, np.zeros(len(members), dtype=int), members)
                assert distance[0] < 1e-6, (G, TABLES.letters[p], TABLES.letters[there])
        assert padded["num_normalizer"][G] == len(elements)


def test_equivalent_templates_have_one_name():
    assert canonical_template(221, ["b", "a", "d"]) == canonical_template(221, ["c", "b", "a"]) == ("a", "b", "c")
    assert canonical_template(225, ["b"]) == ("a",) and canonical_template(225, ["a", "c"]) == ("a", "c")
    assert canonical_template(194, ["d", "a", "f"]) == canonical_template(194, ["f", "a", "c"])
    assert canonical_template(230, ["b"]) == ("b",)
    with pytest.raises(SymmetryError):
        canonical_template(1, ["b"])


def test_template_names():
    codes, multiplicity = template_from_letters(225, ["4a", "b", "8c"])
    assert multiplicity.tolist() == [4, 4, 8] and codes.shape == (3, 15)
    with pytest.raises(SymmetryError, match=r"no Wyckoff position 'z'; it has 4a 4b 8c"):
        template_from_letters(225, ["z"])
    with pytest.raises(SymmetryError, match="called 4a"):
        template_from_letters(225, ["8a"])
    with pytest.raises(SymmetryError, match="holds one orbit"):
        template_from_letters(225, ["a", "a"])
    with pytest.raises(SymmetryError, match=r"231 is outside 1\.\.230"):
        template_from_letters(231, ["a"])


@pytest.mark.slow
def test_data_file_is_what_its_script_makes():
    pytest.importorskip("pyxtal")
    import importlib.util
    from importlib.resources import files
    from pathlib import Path

    script = Path(__file__).resolve().parents[3] / "scripts" / "make_symmetry_tables.py"
    spec = importlib.util.spec_from_file_location("make_symmetry_tables", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.build()
    with files("matgen.crystal").joinpath("data/symmetry_tables.npz").open("rb") as stream:
        shipped = dict(np.load(stream).items())
    assert made.keys() == shipped.keys()
    for name, values in made.items():
        assert (values == shipped[name]).all(), name
