"""Generated crystals over all 230 groups: decode after encode is the identity up to the choice of origin and axes."""

import itertools
from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from matgen.crystal.structure import Structure, min_distance
from matgen.crystal.tables import load_tables
from matgen.errors import SymmetryError
from matgen.geometry.lattice import lattice_constraints
from matgen.representations.asymmetric_unit import AsymmetricUnit, EncodeConfig, encode
from matgen.representations.decode import DecodeConfig, decode

TABLES = load_tables()
RAW = DecodeConfig(resolve_overlaps=False, min_distance=0.0, min_ratio=0.0)


@st.composite
def crystals(draw):
    """A group, some positions of it, random free parameters, species and cell."""
    G = draw(st.integers(1, 230))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    positions = list(TABLES.positions(G))
    chosen = draw(st.lists(st.sampled_from(positions), min_size=1, max_size=4))
    freedom = TABLES.wp_freedom[chosen]
    assume(len({p for p, f in zip(chosen, freedom) if f == 0}) == (freedom == 0).sum())
    index = np.array(chosen)
    member = np.array([rng.integers(TABLES.wp_member[p], TABLES.wp_member[p + 1]) for p in index])
    points = np.einsum("qij,qj->qi", TABLES.projector[TABLES.member_projector[member]], rng.random((len(index), 3)))
    mask, fixed = lattice_constraints()
    atoms = int(TABLES.wp_multiplicity[index].sum())
    k = np.where(mask[G], [*rng.normal(0, 0.12, 5), np.log(40.0 * atoms) / 3**0.5], fixed[G])
    return AsymmetricUnit(
        space_group_number=G,
        lattice_k=k,
        frac_coords=points + TABLES.member_offset[member],
        atomic_numbers=rng.integers(1, 90, len(index)),
        site_symmetry=TABLES.code[TABLES.member_code[member]],
        multiplicity=TABLES.wp_multiplicity[index],
        wyckoff_letters=tuple(TABLES.letters[p] for p in index),
    )


def neighbour_distances(structure: Structure, count: int = 4) -> np.ndarray:
    """Sorted list of (species, nearest distances), the same for every description of one crystal, per formula unit."""
    n = structure.num_atoms
    heights = 1 / np.linalg.norm(np.linalg.inv(structure.lattice), axis=0)
    reach = [range(-m, m + 1) for m in np.maximum(1, np.ceil(8.0 / heights)).astype(int).tolist()]
    shifts = np.array(list(itertools.product(*reach)))
    images = ((structure.frac_coords[None] + shifts[:, None]).reshape(-1, 3)) @ structure.lattice
    rows = []
    for z, x in zip(structure.atomic_numbers, structure.cart_coords):
        rows.append([z, *np.sort(np.linalg.norm(images - x, axis=1))[1 : count + 1]])
    return np.array(sorted(np.round(rows, 4).tolist())).reshape(n, -1)


@settings(max_examples=120, deadline=None)
@given(crystals())
def test_decode_gives_the_stated_orbits_invariant_under_the_group(unit):
    crystal = decode([unit], RAW)[0]
    structure = crystal.structure
    assert (crystal.multiplicities == unit.multiplicity).all() and crystal.displacement.max() < 1e-6
    assert (np.bincount(crystal.orbit_index) == unit.multiplicity).all()
    metric = structure.lattice @ structure.lattice.T
    rotations, translations = TABLES.operations(unit.space_group_number)
    for W, w in zip(rotations[1:9], translations[1:9]):
        np.testing.assert_allclose(W.T @ metric @ W, metric, atol=1e-8)
        for orbit in range(unit.num_orbits):
            points = structure.frac_coords[crystal.orbit_index == orbit]
            image = points @ W.T + w
            difference = image[:, None] - points[None]
            distance = np.abs(difference - np.rint(difference)).max(axis=2)
            assert (distance.min(axis=1) < 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(crystals())
def test_decode_after_encode_is_the_same_crystal(unit):
    assume(unit.multiplicity.sum() <= 100)
    before = decode([unit], RAW)[0].structure
    assume(min_distance(before) > 0.6)
    encoded = encode(before, EncodeConfig(symprec=1e-3))
    # a generated crystal may have more symmetry than it was made with, never less
    assert len(TABLES.operations(encoded.space_group_number)[0]) * before.num_atoms >= (
        len(TABLES.operations(unit.space_group_number)[0]) * encoded.num_atoms
    )
    bare = replace(encoded, wyckoff_letters=(), multiplicity=np.empty(0))
    crystal = decode([bare], RAW)[0]
    after = crystal.structure
    assert crystal.wyckoff_letters == encoded.wyckoff_letters
    np.testing.assert_allclose(after.volume / after.num_atoms, before.volume / before.num_atoms, rtol=1e-5)
    a, b = neighbour_distances(before), neighbour_distances(after)
    np.testing.assert_allclose(np.repeat(a, len(b), axis=0), np.repeat(b, len(a), axis=0), atol=0.02)


@settings(max_examples=60, deadline=None)
@given(crystals(), st.floats(0.0, 0.5))
def test_decode_of_noise_is_never_dropped_and_never_worse_than_raw(unit, noise):
    rng = np.random.default_rng(7)
    noisy = replace(unit, frac_coords=unit.frac_coords + rng.normal(0, noise, unit.frac_coords.shape))
    try:
        crystal = decode([noisy])[0]
    except SymmetryError:
        raise AssertionError("decode does not raise for a row") from None
    assert crystal.status in ("ok", "overlap") and crystal.structure is not None
    assert (crystal.status == "ok") == (crystal.min_ratio >= 0.5 and crystal.min_distance >= 0.5)
    np.testing.assert_allclose(crystal.min_distance, min_distance(crystal.structure), atol=1e-9)
    if not crystal.raw_clash:
        assert crystal.moved == {} and crystal.raw_min_distance == crystal.min_distance
    if not {"raised"} & crystal.moved.keys():
        assert crystal.multiplicities.tolist() == unit.multiplicity.tolist()
