import numpy as np
import pytest
import torch

from matgen.geometry.coordinates import nearest_image, shortest_translation, wrap
from matgen.geometry.lattice import (
    BASIS,
    crystal_system_index,
    k_from_lattice,
    lattice_constraints,
    lattice_from_k,
    lattice_from_parameters,
    lattice_parameters,
)

CELLS = {
    2: ([4.1, 5.3, 6.7], [72.0, 81.0, 110.0]),
    14: ([4.1, 5.3, 6.7], [90.0, 124.0, 90.0]),
    62: ([4.1, 5.3, 6.7], [90.0, 90.0, 90.0]),
    139: ([4.1, 4.1, 11.9], [90.0, 90.0, 90.0]),
    166: ([4.1, 4.1, 21.3], [90.0, 90.0, 120.0]),
    194: ([4.1, 4.1, 3.3], [90.0, 90.0, 120.0]),
    225: ([5.6, 5.6, 5.6], [90.0, 90.0, 90.0]),
}


def test_basis_is_orthonormal_and_symmetric():
    np.testing.assert_allclose(np.einsum("aij,bij->ab", BASIS, BASIS), np.eye(6), atol=1e-15)
    assert (np.swapaxes(BASIS, 1, 2) == BASIS).all()


@pytest.mark.parametrize("G", CELLS)
def test_round_trip_is_exact_in_every_system(G):
    """The published encoding shears monoclinic and triclinic cells by up to 16 degrees."""
    lengths, angles = CELLS[G]
    rotation = np.linalg.qr(np.random.default_rng(G).normal(size=(3, 3)))[0]
    lattice = lattice_from_parameters(np.array(lengths), np.array(angles)) @ rotation
    mask, fixed = lattice_constraints()
    k = k_from_lattice(lattice)
    np.testing.assert_allclose(k[~mask[G]], fixed[G][~mask[G]], atol=1e-12)
    found_lengths, found_angles = lattice_parameters(lattice_from_k(np.where(mask[G], k, fixed[G])))
    np.testing.assert_allclose(found_lengths, lengths, atol=1e-6)
    np.testing.assert_allclose(found_angles, angles, atol=1e-6)


def test_components_are_those_of_the_polar_form():
    lattice = lattice_from_parameters(*(np.array(x) for x in CELLS[2]))
    decoded = lattice_from_k(k_from_lattice(lattice))
    np.testing.assert_allclose(decoded, decoded.T, atol=1e-12)
    np.testing.assert_allclose(decoded @ decoded.T, lattice @ lattice.T, atol=1e-10)
    assert k_from_lattice(lattice)[5] == pytest.approx(np.log(np.linalg.det(lattice)) / 3**0.5)


def test_torch_and_numpy_agree_in_batches():
    k = np.random.default_rng(0).normal(0, 0.3, (4, 5, 6))
    lattice = lattice_from_k(k)
    assert lattice.shape == (4, 5, 3, 3)
    np.testing.assert_allclose(lattice_from_k(torch.tensor(k)).numpy(), lattice, rtol=1e-10)
    np.testing.assert_allclose(k_from_lattice(torch.tensor(lattice)).numpy(), k, atol=1e-10)
    np.testing.assert_allclose(k_from_lattice(lattice), k, atol=1e-10)
    assert torch.autograd.gradcheck(lattice_from_k, torch.tensor(k[0, 0], requires_grad=True))


def test_free_components_of_the_systems():
    mask, fixed = lattice_constraints()
    assert [int(mask[G].sum()) for G in (1, 2, 3, 15, 16, 74, 75, 142, 143, 194, 195, 230)] == [
        6, 6, 4, 4, 3, 3, 2, 2, 2, 2, 1, 1,
    ]  # fmt: skip
    assert crystal_system_index(np.array([1, 3, 16, 75, 143, 168, 195])).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert fixed[166, 0] == pytest.approx(-np.log(3) / 4 * 2**0.5)
    assert not fixed[mask].any()


def test_every_point_of_the_constrained_space_has_the_symmetry_of_its_system():
    rng = np.random.default_rng(1)
    mask, fixed = lattice_constraints()
    from matgen.crystal.tables import load_tables

    for G in range(1, 231):
        lattice = lattice_from_k(np.where(mask[G], rng.normal(0, 0.3, 6), fixed[G]))
        metric = lattice @ lattice.T
        rotations = load_tables().operations(G)[0]
        np.testing.assert_allclose(
            np.swapaxes(rotations, 1, 2) @ metric @ rotations, np.broadcast_to(metric, rotations.shape), atol=1e-10
        )


def test_nearest_image_is_the_shortest_of_many():
    rng = np.random.default_rng(2)
    import moyopy

    shifts = np.array([(i, j, k) for i in range(-3, 4) for j in range(-3, 4) for k in range(-3, 4)], dtype=float)
    for _ in range(30):
        basis = np.array(moyopy.minkowski_reduce(rng.normal(size=(3, 3)).tolist())[0])
        difference = rng.normal(0, 2, (50, 3))
        image, squared = nearest_image(difference, np.broadcast_to(basis @ basis.T, (50, 3, 3)))
        brute = np.linalg.norm((image[:, None] + shifts) @ basis, axis=2).min(axis=1) ** 2
        np.testing.assert_allclose(squared, brute, atol=1e-12)
        lengths = np.linalg.norm(shifts @ basis, axis=1)
        assert shortest_translation((basis @ basis.T)[None])[0] == pytest.approx(np.sort(lengths)[1] ** 2)


def test_wrap_never_gives_one():
    assert wrap(np.array([[-1e-17, 1.0, 0.25], [2.75, -0.25, 1 - 1e-14]])).tolist() == [[0, 0, 0.25], [0.75, 0.75, 0]]
