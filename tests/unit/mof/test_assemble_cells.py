"""Known frameworks put together from random orientations in cells of every shape; a cell is only a description."""

from dataclasses import replace

import numpy as np
import pytest

from matgen.crystal.structure import Structure
from matgen.mof import assemble as assemble_module
from matgen.mof.assemble import AssemblyInput, assemble, reorient
from matgen.mof.assembly.translations import reduce_by_translations
from matgen.mof.decompose import decompose
from matgen.mof.framework import Framework
from tests.unit.mof.conftest import distances_of_pairs, load

NAMED = ("mof5", "uio66", "hkust1", "mof74", "pillared")
SKEWED = np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]])


def basis_of(lattice: np.ndarray, wanted: tuple[float, float, float], num_equal: int) -> np.ndarray:
    """Whole numbers [3, 3] of the smallest cell with the wanted angles and so many first edges of one length."""
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    vectors = grid @ lattice
    length = np.linalg.norm(vectors, axis=1)
    keep = (length > 1e-6) & (length < 2.6 * np.linalg.norm(lattice, axis=1).max())
    grid, vectors, length = grid[keep], vectors[keep], length[keep]
    cosine = vectors @ vectors.T / np.outer(length, length)
    alpha, beta, gamma = (np.abs(np.rad2deg(np.arccos(cosine.clip(-1, 1))) - angle) < 0.5 for angle in wanted)
    equal = np.abs(length[:, None] / length - 1.0) < 0.01
    found = []
    for i, j in zip(*np.nonzero(gamma & equal), strict=True):
        third = np.flatnonzero(beta[i] & alpha[j] & (equal[i] if num_equal == 3 else True))
        found += [np.stack([grid[i], grid[j], grid[k]]) for k in third]
    best = min(found, key=lambda basis: abs(round(np.linalg.det(basis))) or 10**6)
    return best * round(np.sign(np.linalg.det(best)))


def in_cell(given: AssemblyInput, basis: np.ndarray) -> AssemblyInput:
    """The same framework in the cell basis @ lattice."""
    inverse = np.linalg.inv(basis)
    reach = np.abs(basis).sum(0).max()
    grid = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3) @ inverse
    inside = grid[((grid > -1e-9) & (grid < 1 - 1e-9)).all(axis=1)]
    assert len(inside) == round(abs(np.linalg.det(basis)))
    frac = np.concatenate([given.frac_coords @ inverse + shift for shift in inside])
    return AssemblyInput(basis @ given.lattice, frac - np.floor(frac), given.blocks * len(inside))


def angles(lattice: np.ndarray) -> np.ndarray:
    unit = lattice / np.linalg.norm(lattice, axis=1, keepdims=True)
    return np.rad2deg(np.arccos((unit @ unit.T)[[1, 0, 0], [2, 2, 1]]))


def matches(first: Structure, second: Structure) -> bool:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(stol=0.5, ltol=0.3, angle_tol=10.0)
    return matcher.get_rms_dist(first.to_pymatgen(), second.to_pymatgen()) is not None


def closed(framework: Framework, basis: np.ndarray) -> Structure:
    given = in_cell(AssemblyInput(framework.lattice, framework.frac_coords, framework.blocks), basis)
    made = assemble([reorient(given, np.random.default_rng(11))[0]])[0]
    assert made.status == "ok", made.reason
    structure, bonds = made.to_structure()
    assert structure.num_atoms == len(given.blocks) // framework.num_blocks * framework.num_atoms
    assert np.linalg.norm(bonds.vectors(structure), axis=1).max() < 3.5
    return structure


def comes_back(framework: Framework, basis: np.ndarray) -> None:
    assert matches(framework.to_structure()[0], closed(framework, basis))


@pytest.mark.parametrize("name", NAMED)
def test_triclinic(name: str) -> None:
    framework = decompose(load(name))
    assert (np.abs(angles(SKEWED @ framework.lattice) - 90.0) > 3.0).sum() >= 2
    comes_back(framework, SKEWED)


@pytest.mark.parametrize("name", ["mof5", "uio66", "hkust1"])
def test_cubic(name: str) -> None:
    framework = decompose(load(name))
    basis = basis_of(framework.lattice, (90.0, 90.0, 90.0), 3)
    assert abs(round(np.linalg.det(basis))) == 4
    comes_back(framework, basis)


@pytest.mark.parametrize("name", ["mof5", "uio66", "hkust1", "mof74"])
def test_hexagonal(name: str) -> None:
    framework = decompose(load(name))
    basis = basis_of(framework.lattice, (90.0, 90.0, 120.0), 2)
    assert abs(round(np.linalg.det(basis))) == 3
    comes_back(framework, basis)


def skewed_pillared(seed: int) -> AssemblyInput:
    framework = decompose(load("pillared"))
    given = AssemblyInput(framework.lattice, framework.frac_coords, framework.blocks)
    return reorient(in_cell(given, np.array([[2, 0, 0], [1, 1, 0], [0, -1, 1]])), np.random.default_rng(seed))[0]


def test_a_cell_that_repeats_a_smaller_one_is_reduced() -> None:
    framework = decompose(load("pillared"))
    given = skewed_pillared(0)
    reduction = reduce_by_translations(given)
    assert reduction is not None and reduction.small.num_blocks == framework.num_blocks
    assert np.allclose(reduction.basis @ reduction.small.lattice, given.lattice)
    for block, source, turn in zip(given.blocks, reduction.source, reduction.turn, strict=True):
        assert np.allclose(reduction.small.blocks[source].cart_coords @ turn.T, block.cart_coords, atol=1e-6)
    assert reduce_by_translations(reduction.small) is None
    other = replace(given.blocks[0], connection_points=given.blocks[0].connection_points * 1.05)
    assert reduce_by_translations(replace(given, blocks=(other, *given.blocks[1:]))) is None
    moved = given.frac_coords.copy()
    moved[0] += 0.02
    assert reduce_by_translations(replace(given, frac_coords=moved)) is None


def test_copies_of_a_small_cell_meet_like_the_small_one() -> None:
    exact = skewed_pillared(1)
    shaken = replace(exact.blocks[-1], connection_points=exact.blocks[-1].connection_points + 0.015)
    given = replace(exact, blocks=(*exact.blocks[:-1], shaken))  # a copy, but not quite
    reduction = reduce_by_translations(given)
    assert reduction is not None and reduction.small.num_blocks < given.num_blocks
    made = assemble([given])[0]
    assert made.status == "ok"
    assert sorted(made.pairs.ravel().tolist()) == list(range(given.num_connections))
    assert made.blocks == given.blocks
    assert np.allclose(distances_of_pairs(made), made.residuals, atol=1e-6)
    assert ((made.frac_coords >= 0) & (made.frac_coords < 1)).all()


def test_where_the_small_cell_does_not_close_the_given_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    given = skewed_pillared(2)
    sizes = []
    real = assemble_module._assemble_all

    def small_ones_fail(inputs, seeds, config):
        sizes.extend(one.num_blocks for one in inputs)
        made = real(inputs, seeds, config)
        return [replace(one, status="open", reason="not to be") if len(sizes) == 1 else one for one in made]

    monkeypatch.setattr(assemble_module, "_assemble_all", small_ones_fail)
    made = assemble([given])[0]
    assert sizes == [given.num_blocks // 2, given.num_blocks]
    assert made.closed and made.reason != "not to be"
