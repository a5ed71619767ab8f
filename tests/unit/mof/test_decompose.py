"""Decomposition: known frameworks, invariances, removed species, and a status for everything else."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import Structure
from matgen.errors import StructureError
from matgen.mof.bonds import find_bonds
from matgen.mof.decompose import DecomposeConfig, decompose
from matgen.mof.fragments import hill_formula
from matgen.mof.framework import Framework
from matgen.mof.primitive import reduced_primitive_cell
from tests.unit.mof.conftest import load

BDC, NODE, LINKER, BRIDGE = "C8H4O4", "metal_node", "linker", "node_bridge"
KNOWN = {
    "mof5": {(NODE, "OZn4", 12): 2, (LINKER, BDC, 4): 6},
    "uio66": {(NODE, "H4O8Zr6", 24): 1, (LINKER, BDC, 4): 6},
    "hkust1": {(NODE, "Cu2", 8): 6, (LINKER, "C9H3O6", 6): 8},
    "mof74": {(NODE, "Zn", 5): 6, (LINKER, "C8H2O6", 10): 3},
    "mil53": {(NODE, "Al", 6): 2, (LINKER, BDC, 4): 2, (BRIDGE, "HO", 2): 2},
    "pillared": {(NODE, "Zn2", 10): 1, (LINKER, BDC, 4): 1, (LINKER, "C6H4O4", 4): 1, (LINKER, "C4H4N2", 2): 1},
}


def contents(framework: Framework) -> Counter[tuple[str, str, int]]:
    return Counter((b.role, hill_formula(b.atomic_numbers), b.num_connections) for b in framework.blocks)


def identities(framework: Framework) -> Counter[str]:
    return Counter(block.identity for block in framework.blocks)


def supercell(structure: Structure, basis: np.ndarray) -> Structure:
    span = np.abs(basis).sum()
    grid = np.array([(i, j, k) for i in range(-span, span) for j in range(-span, span) for k in range(-span, span)])
    inverse = np.linalg.inv(basis)
    coords = ((structure.frac_coords[:, None] % 1.0 + grid) @ inverse).reshape(-1, 3)
    numbers = np.repeat(structure.atomic_numbers, len(grid))
    inside = ((coords >= -1e-9) & (coords < 1 - 1e-9)).all(axis=1)
    return Structure(basis @ structure.lattice, coords[inside], numbers[inside])


@pytest.mark.parametrize("name", KNOWN)
def test_known_frameworks(name: str) -> None:
    framework = decompose(load(name))
    assert contents(framework) == KNOWN[name]
    assert framework.dimension == 3 and framework.removed_solvent == ()
    metal = np.array([block.is_metal for block in framework.blocks])[framework.block_of_connection]
    assert metal[framework.pairs[:, 0]].all() and not metal[framework.pairs[:, 1]].any()
    assert sorted(framework.pairs.ravel().tolist()) == list(range(framework.num_connections))


def test_mof5_has_48_connection_points_and_each_carboxylate_one_coarse_edge() -> None:
    framework = decompose(load("mof5"))
    pairs, image, multiplicity = framework.edges()
    assert framework.num_connections == 48 and len(pairs) == len(image) == 12 and set(multiplicity.tolist()) == {2}


@pytest.mark.parametrize("name", KNOWN)
def test_paired_connection_points_coincide(name: str) -> None:
    framework = decompose(load(name))
    origins = framework.frac_coords @ framework.lattice
    points = np.concatenate([b.connection_points + o for b, o in zip(framework.blocks, origins)])
    gap = points[framework.pairs[:, 0]] - points[framework.pairs[:, 1]] - framework.pair_image @ framework.lattice
    assert np.abs(gap).max() < 1e-8
    assert all(np.abs(b.connection_points.mean(axis=0)).max() < 1e-8 for b in framework.blocks)


@pytest.mark.parametrize("name", KNOWN)
def test_atoms_and_bonds_come_back(name: str) -> None:
    original = reduced_primitive_cell(load(name))
    structure, bonds = decompose(load(name)).to_structure()
    assert bonds.num_bonds == find_bonds(original).num_bonds
    lengths = [np.sort(np.linalg.norm(b.vectors(s), axis=1)) for s, b in
               ((structure, bonds), (original, find_bonds(original)))]  # fmt: skip
    assert np.allclose(*lengths, atol=1e-6)
    for number in set(original.atomic_numbers.tolist()):
        ours = structure.frac_coords[structure.atomic_numbers == number]
        theirs = original.frac_coords[original.atomic_numbers == number]
        apart = ours[:, None] - theirs
        assert np.abs(apart - np.rint(apart)).max(axis=2).min(axis=1).max() < 1e-6


def test_structure_matcher_agrees() -> None:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    for name in ("mof74", "pillared"):
        structure, _ = decompose(load(name)).to_structure()
        rms = StructureMatcher().get_rms_dist(structure.to_pymatgen(), load(name).to_pymatgen())
        assert rms is not None and rms[0] < 1e-5


@settings(max_examples=12, deadline=None)
@given(name=st.sampled_from(sorted(KNOWN)), seed=st.integers(0, 2**31))
def test_atom_order_origin_and_orientation_do_not_matter(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    structure = load(name)
    order = rng.permutation(structure.num_atoms)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    moved = Structure(
        structure.lattice @ rotation.T,
        (structure.frac_coords[order] + rng.random(3)) % 1.0,
        structure.atomic_numbers[order],
    )
    assert identities(decompose(moved)) == identities(decompose(structure))


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(["mof74", "pillared", "mil53"]),
    basis=st.sampled_from(
        [
            [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
            [[1, 1, 0], [-1, 1, 0], [0, 0, 1]],
            [[0, 1, 1], [1, 0, 1], [1, 1, 0]],
            [[1, 0, 2], [0, 1, 0], [0, 0, 1]],
            [[1, 1, 0], [0, 1, 1], [0, 0, 3]],
            [[2, 0, 0], [0, 2, 0], [0, 0, 2]],
        ]
    ),
    seed=st.integers(0, 2**31),
)
@example(name="mof74", basis=[[1, 1, 0], [0, 1, 1], [0, 0, 3]], seed=0)  # sums of thirds in floating point
def test_supercells_and_other_cells_do_not_matter(name: str, basis: list[list[int]], seed: int) -> None:
    large = supercell(load(name), np.array(basis))
    order = np.random.default_rng(seed).permutation(large.num_atoms)
    shuffled = Structure(large.lattice, large.frac_coords[order], large.atomic_numbers[order])
    assert shuffled.num_atoms == round(abs(np.linalg.det(basis))) * load(name).num_atoms
    framework = decompose(shuffled)
    assert identities(framework) == identities(decompose(load(name)))
    # and without looking for a primitive cell, so many times the blocks
    whole = decompose(shuffled, DecomposeConfig(primitive_tolerance=0))
    times = round(abs(np.linalg.det(basis)))
    assert identities(whole) == Counter({k: times * n for k, n in identities(framework).items()})


def with_molecule(structure: Structure, symbols: list[int], cart: np.ndarray) -> Structure:
    frac = cart @ np.linalg.inv(structure.lattice)
    return Structure(
        structure.lattice,
        np.concatenate([structure.frac_coords, frac]),
        np.concatenate([structure.atomic_numbers, symbols]),
    )


def test_free_solvent_is_removed_and_reported() -> None:
    structure = load("mof5")
    void = np.array([0.5, 0.5, 0.5]) @ structure.lattice
    water = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + void
    framework = decompose(with_molecule(structure, [8, 1, 1], water))
    assert contents(framework) == KNOWN["mof5"]
    assert [(s.formula, s.count, s.kind) for s in framework.removed_solvent] == [("H2O", 1, "free")]


def on_copper(distance: float, tail: list[tuple[int, tuple[float, float, float]]]) -> Structure:
    """HKUST-1 with a molecule on the open side of its first copper; tail atoms in a frame whose z points away."""
    structure = load("hkust1")
    cart, numbers = structure.cart_coords, structure.atomic_numbers
    copper = int(np.flatnonzero(numbers == 29)[0])
    bonds = find_bonds(structure)
    vectors = bonds.vectors(structure)
    metallic = (numbers[bonds.first] == 29) & (numbers[bonds.second] == 29)
    touching = np.flatnonzero(metallic & ((bonds.first == copper) | (bonds.second == copper)))[0]
    axis = vectors[touching] * (-1.0 if bonds.first[touching] == copper else 1.0)
    axis /= np.linalg.norm(axis)
    side = np.cross(axis, [0.3, 0.5, 0.8])
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(axis, side), axis])
    place = cart[copper] + distance * axis
    return with_molecule(structure, [z for z, _ in tail], np.array([np.array(x) @ frame for _, x in tail]) + place)


def test_bound_water_is_removed_or_kept_with_its_node() -> None:
    wet = on_copper(2.2, [(8, (0, 0, 0)), (1, (0.76, 0, 0.59)), (1, (-0.76, 0, 0.59))])
    framework = decompose(wet)
    assert contents(framework) == KNOWN["hkust1"]
    assert [(s.formula, s.count, s.kind) for s in framework.removed_solvent] == [("H2O", 1, "bound")]
    kept = contents(decompose(wet, DecomposeConfig(remove_bound_solvent=False)))
    assert kept[(NODE, "Cu2H2O", 8)] == 1 and kept[(NODE, "Cu2", 8)] == 5


def test_a_terminal_ligand_stays_with_its_node() -> None:
    azide = on_copper(2.0, [(7, (0, 0, 0)), (7, (0, 0, 1.18)), (7, (0, 0, 2.33))])
    framework = decompose(azide)
    assert contents(framework)[(NODE, "Cu2N3", 8)] == 1 and framework.removed_solvent == ()


def salt(symbols: list[int], coords: list[list[float]], length: float) -> Structure:
    return Structure(length * np.eye(3), np.array(coords), np.array(symbols))


@pytest.mark.parametrize(
    ("structure", "status"),
    [
        (salt([6, 6], [[0, 0, 0], [0.1, 0, 0]], 14.0), "no_metal"),
        (salt([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 4.5), "no_linker"),
        (salt([30, 6, 7], [[0, 0, 0], [0.13, 0, 0], [0.21, 0, 0]], 15.0), "isolated"),
        (salt([30, 6, 6], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.55]], 15.0), "clash"),
        (salt([30, 6, 6], [[0, 0, 0], [0.5, 0.5, 0.25], [0.5, 0.5, 0.75]], 2.8), "polymer"),
    ],
)
def test_everything_else_has_a_status(structure: Structure, status: str) -> None:
    with pytest.raises(StructureError) as error:
        decompose(structure)
    assert error.value.status == status and str(error.value)


@pytest.mark.parametrize(
    "limit", [{"max_atoms": 113}, {"max_blocks": 6}, {"max_block_atoms": 17}, {"max_block_connections": 20}]
)
def test_limits_are_settings(limit: dict[str, int]) -> None:
    with pytest.raises(StructureError) as error:
        decompose(load("uio66"), DecomposeConfig(**limit))
    assert error.value.status == "too_large" and str(next(iter(limit.values()))) in str(error.value)


def test_an_empty_cif_is_refused_with_a_status() -> None:
    with pytest.raises(StructureError):
        parse_cif("")


def test_ten_thousand_atoms_are_cut_or_refused() -> None:
    large = supercell(load("mof74"), np.diag([6, 6, 6]))
    assert large.num_atoms > 10_000
    assert contents(decompose(large)) == KNOWN["mof74"]
    rattled = Structure(
        large.lattice,
        large.frac_coords + np.random.default_rng(0).normal(0, 1e-3, (large.num_atoms, 3)),
        large.atomic_numbers,
    )
    with pytest.raises(StructureError) as error:
        decompose(rattled, DecomposeConfig(primitive_tolerance=0.001))
    assert error.value.status == "too_large"
