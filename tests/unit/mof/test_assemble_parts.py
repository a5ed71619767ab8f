"""The parts of self-assembly: candidate pairs, matching, refinement, free turns, contacts, chains."""

import numpy as np
import pytest
import torch

from matgen.mof.assemble import AssemblyInput
from matgen.mof.assembly.chains import straight_chains
from matgen.mof.assembly.contacts import contact_energy, shortest_contact, surroundings, total_energy
from matgen.mof.assembly.flips import free_turns
from matgen.mof.assembly.matching import match
from matgen.mof.assembly.pairs import candidate_pairs, image_vectors
from matgen.mof.assembly.refine import RefineConfig, refine
from matgen.mof.assembly.residuals import connection_residuals, fixed_slopes, jacobian, make_problem
from matgen.mof.building_block import BuildingBlock
from matgen.mof.decompose import decompose
from matgen.mof.framework import Framework
from tests.unit.mof.conftest import load


@pytest.fixture(scope="module")
def framework() -> Framework:
    return decompose(load("mof5"))


def as_input(framework: Framework) -> AssemblyInput:
    return AssemblyInput(framework.lattice, framework.frac_coords, framework.blocks)


def identity(framework: Framework) -> np.ndarray:
    return np.tile(np.eye(3), (framework.num_blocks, 1, 1))


@pytest.mark.parametrize("name", ["mof5", "uio66", "mof74", "mil53"])
def test_true_pairs_are_candidates_and_the_cheapest_matching(name: str) -> None:
    framework = decompose(load(name))
    table = candidate_pairs(as_input(framework), 0.15)
    listed = {(*pair, *image) for *pair, image in zip(table.metal, table.linker, map(tuple, table.image), strict=True)}
    true = {
        (*pair, *image) for pair, image in zip(framework.pairs.tolist(), framework.pair_image.tolist(), strict=True)
    }
    assert true <= listed
    rows, distance = match(table, identity(framework))
    found = {(table.metal[r], table.linker[r], *table.image[r]) for r in rows}
    assert found == true and distance.max() < 1e-3
    cart = framework.frac_coords @ framework.lattice
    between = cart[table.block[table.linker]] + table.image @ framework.lattice - cart[table.block[table.metal]]
    assert np.allclose(between, table.offset, atol=1e-9)


def test_image_vectors_cover_the_reach() -> None:
    lattice = np.array([[4.0, 0.0, 0.0], [3.5, 2.5, 0.0], [1.0, 1.0, 6.0]])
    listed = {tuple(t) for t in image_vectors(lattice, 9.0).tolist()}
    rng = np.random.default_rng(0)
    far = np.array([(i, j, k) for i in range(-9, 10) for j in range(-9, 10) for k in range(-9, 10)])
    for _ in range(50):
        apart = rng.random(3) - rng.random(3)
        near = far[np.linalg.norm((apart + far) @ lattice, axis=1) < 9.0]
        assert {tuple(t) for t in near.tolist()} <= listed


def test_jacobian_of_the_refinement(framework: Framework) -> None:
    table = candidate_pairs(as_input(framework), 0.15)
    rows, _ = match(table, identity(framework))
    problem = make_problem([table], [rows], (24, 8), 0.5)
    rng = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(1, 8, 3, 3, dtype=torch.float64, generator=rng))[0]

    def residual(vector: torch.Tensor) -> torch.Tensor:
        from matgen.geometry.rotations import axis_angle_matrix

        rotation, shift, strain = vector[:24], vector[24:48], vector[48:]
        moved = axis_angle_matrix(rotation.view(1, 8, 3)) @ turn
        return connection_residuals(problem, moved, shift.view(1, 8, 3), strain.view(1, 6))[0].flatten()

    at = torch.zeros(54, dtype=torch.float64)
    _, a, b = connection_residuals(problem, turn, torch.zeros(1, 8, 3).double(), torch.zeros(1, 6).double())
    ours = jacobian(problem, fixed_slopes(problem), a, b)[0]
    assert torch.allclose(ours, torch.autograd.functional.jacobian(residual, at), atol=1e-8)


def test_refinement_undoes_small_errors(framework: Framework) -> None:
    given = as_input(framework)
    table = candidate_pairs(given, 0.15)
    rows, _ = match(table, identity(framework))
    tilt = np.linalg.qr(np.eye(3) + 0.05 * np.random.default_rng(0).standard_normal((8, 3, 3)))[0]
    tilt = tilt * np.sign(np.linalg.det(tilt))[:, None, None]
    tilt = np.where(np.trace(tilt, axis1=1, axis2=2)[:, None, None] > 2.5, tilt, np.eye(3))
    result = refine([table], [rows], [tilt], [None], RefineConfig())[0]
    assert result.distance.max() < 1e-3 and result.rms < 1e-3
    assert np.abs(result.shift).max() < 0.02 and np.abs(result.strain).max() < 0.01


def test_free_turns_of_a_flat_linker_and_of_a_rod() -> None:
    points = np.array([[6.0, 1.0, 0.0], [6.0, -1.0, 0.0], [-6.0, 1.0, 0.0], [-6.0, -1.0, 0.0]])
    atoms = np.concatenate([points * 0.85, [[0.0, 2.0, 0.0]]])
    flat = BuildingBlock(np.array([8, 8, 8, 8, 7]), atoms, np.zeros((0, 2), int), points, np.arange(4), "linker")
    assert len(free_turns(flat)) == 2  # of four turns that keep the connections two keep the nitrogen as well
    plain = BuildingBlock(np.full(4, 8), atoms[:4], np.zeros((0, 2), int), points, np.arange(4), "linker")
    assert len(free_turns(plain)) == 1
    ends = np.array([[5.0, 0.0, 0.0], [-5.0, 0.0, 0.0]])
    place = np.array([[4.0, 0.0, 0.0], [-4.0, 0.0, 0.0], [0.0, 1.5, 0.0]])
    rod = BuildingBlock(np.array([7, 7, 6]), place, np.zeros((0, 2), int), ends, np.arange(2), "linker")
    turns = free_turns(rod)
    assert len(turns) == 12
    assert np.allclose(turns[0], np.eye(3))
    assert np.allclose(np.abs(ends @ turns.swapaxes(1, 2))[:, :, 0], 5.0)


def test_contacts_see_the_nearest_atoms_of_other_blocks() -> None:
    block = BuildingBlock(
        np.array([6]), np.zeros((1, 3)), np.zeros((0, 2), int), np.ones((1, 3)), np.array([0]), "linker"
    )
    free = BuildingBlock(
        np.array([6, 6]),
        np.array([[0.0, 0, 0], [0, 0, 3.0]]),
        np.array([[0, 1]]),
        np.ones((1, 3)),
        np.array([0]),
        "linker",
    )
    lattice = np.diag([20.0, 20.0, 20.0])
    centres = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 16.0]])
    around = surroundings(lattice, centres, (block, free))
    cart = np.concatenate([block.cart_coords + centres[0], free.cart_coords + centres[1]])
    assert shortest_contact(around, cart) == pytest.approx(np.inf)  # the pair is one bond from a connection
    cart[0] = [0.0, 0.0, 0.0]
    energy = contact_energy(around, 0, np.zeros((1, 1, 3)), cart)
    assert energy.shape == (1,) and float(energy[0]) == 0.0


def test_total_energy_is_half_the_sum_over_blocks(framework: Framework) -> None:
    centres = framework.frac_coords @ framework.lattice
    around = surroundings(framework.lattice, centres, framework.blocks)
    cart = np.concatenate([b.cart_coords + o for b, o in zip(framework.blocks, centres, strict=True)])
    each = [contact_energy(around, k, b.cart_coords[None], cart)[0] for k, b in enumerate(framework.blocks)]
    assert total_energy(around, cart[None])[0] == pytest.approx(0.5 * sum(each), rel=1e-3)
    assert 1.5 < shortest_contact(around, cart) < 4.0


def test_a_framework_in_three_dimensions_has_no_straight_chain(framework: Framework) -> None:
    table = candidate_pairs(as_input(framework), 0.15)
    rows, _ = match(table, identity(framework))
    assert straight_chains(table, rows, framework.num_blocks) == []


def test_a_straight_chain_is_found() -> None:
    ends = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    metal = BuildingBlock(np.array([30]), np.zeros((1, 3)), np.zeros((0, 2), int), ends, np.zeros(2, int), "metal_node")
    atoms = np.array([[0.0, 0.0, 1.5], [0.0, 0.0, -1.5], [1.5, 0.0, 0.0]])
    linker = BuildingBlock(np.array([7, 7, 6]), atoms, np.zeros((0, 2), int), 2.5 * ends, np.arange(2), "linker")
    given = AssemblyInput(np.diag([9.0, 9.0, 7.0]), np.array([[0, 0, 0], [0, 0, 0.5]]), (metal, linker))
    table = candidate_pairs(given, 0.15)
    rows, _ = match(table, np.tile(np.eye(3), (2, 1, 1)))
    chains = straight_chains(table, rows, 2)
    assert len(chains) == 1 and abs(chains[0].axis[2]) == pytest.approx(1.0)


def test_gradient_of_the_baseline(framework: Framework) -> None:
    from scipy.spatial.transform import Rotation

    from matgen.mof.assembly.gradient import _by_vector, objective

    table = candidate_pairs(as_input(framework), 0.15)
    base = Rotation.random(8, rng=np.random.default_rng(0)).as_matrix()
    vector = 0.7 * np.random.default_rng(1).standard_normal((8, 3))

    def value(x: np.ndarray) -> float:
        return objective(table, Rotation.from_rotvec(x).as_matrix() @ base, 1.65)[0]

    gradient = _by_vector(vector, objective(table, Rotation.from_rotvec(vector).as_matrix() @ base, 1.65)[1])
    for k, i in ((0, 0), (3, 1), (7, 2)):
        step = np.zeros((8, 3))
        step[k, i] = 1e-5
        assert gradient[k, i] == pytest.approx((value(vector + step) - value(vector - step)) / 2e-5, rel=1e-4, abs=1e-8)
    assert objective(table, identity(framework), 0.02)[0] == pytest.approx(-1.0, abs=1e-3)
