"""The features of symmetry copies against a loop over pairs and operations, and what they must not depend on."""

import math

import pytest
import torch

from matgen.geometry.orbit_distances import (
    Operations,
    OrbitDistanceConfig,
    crowded_orbits,
    near_stabiliser,
    orbit_images,
    pair_features,
    radial_centres,
    self_images,
)

# Pmmm (mirrors through the origin) and P4 with a body-centring, written out by hand
MIRRORS = [torch.diag(torch.tensor([a, b, c])) for a in (1.0, -1.0) for b in (1.0, -1.0) for c in (1.0, -1.0)]
TURN = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
TURNS = [torch.matrix_power(TURN, n) for n in range(4)]


@pytest.fixture
def operations() -> Operations:
    rotation = torch.zeros(2, 8, 3, 3)
    translation = torch.zeros(2, 8, 3)
    rotation[0] = torch.stack(MIRRORS)
    rotation[1] = torch.stack(TURNS + TURNS)
    translation[1, 4:] = 0.5
    index = torch.arange(8).repeat(2, 1)
    return Operations(rotation, translation, torch.ones(2, 8, dtype=torch.bool), index)


@pytest.fixture
def lattice() -> torch.Tensor:
    return torch.tensor([[[4.0, 0.3, 0.1], [0.3, 5.0, 0.0], [0.1, 0.0, 6.0]], [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 7.0]]])


def wrapped(shift: torch.Tensor) -> torch.Tensor:
    return shift - shift.round()


def by_loop(coords, lattice, operations, config):
    centres, widths = (torch.tensor(values) for values in radial_centres(config))
    out = torch.zeros(*coords.shape[:2], coords.shape[1], config.num_pair_features)
    for b in range(coords.shape[0]):
        for i in range(coords.shape[1]):
            for j in range(coords.shape[1]):
                histogram = torch.zeros(config.num_radial)
                sums = torch.zeros(len(config.vector_widths), 3)
                weights = torch.zeros(len(config.vector_widths))
                for o in range(operations.mask.shape[1]):
                    if i == j and o == 0:
                        continue
                    copy = operations.rotation[b, o] @ coords[b, j] + operations.translation[b, o]
                    shift = wrapped(copy - coords[b, i])
                    distance = (shift @ lattice[b]).norm()
                    if distance < config.cutoff:
                        smooth = 0.5 * (1 + math.cos(math.pi * float(distance) / config.cutoff))
                        histogram += smooth * torch.exp(-((distance - centres) ** 2) / (2 * widths**2))
                    for k, width in enumerate(config.vector_widths):
                        weight = torch.exp(-(distance**2) / (2 * width**2))
                        sums[k] += weight * shift
                        weights[k] += weight
                mean = (sums / (1 + weights)[:, None]).flatten()
                out[b, i, j] = torch.cat([torch.log1p(histogram), mean])
    return out


def test_pair_features_equal_a_loop(operations, lattice):
    coords = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    config = OrbitDistanceConfig()
    assert torch.allclose(
        pair_features(coords, lattice, operations, config), by_loop(coords, lattice, operations, config), atol=2e-5
    )


def test_chunks_do_not_change_pair_features(operations, lattice, monkeypatch):
    coords = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(1))
    whole = pair_features(coords, lattice, operations, OrbitDistanceConfig())
    monkeypatch.setattr("matgen.geometry.orbit_distances._MAX_ELEMENTS", 1)
    assert torch.equal(pair_features(coords, lattice, operations, OrbitDistanceConfig()), whole)


def test_the_choice_of_the_other_representative_does_not_matter(operations):
    generator = torch.Generator().manual_seed(2)
    lattice = torch.diag_embed(torch.tensor([[4.0, 5.0, 6.0], [4.0, 4.0, 7.0]]))  # as the groups demand
    coords = torch.rand(2, 3, 3, generator=generator)
    before = pair_features(coords, lattice, operations, OrbitDistanceConfig())
    for other in (1, 3, 5):
        moved = coords.clone()
        moved[:, 2] = orbit_images(coords, operations)[:, 2, other]
        after = pair_features(moved, lattice, operations, OrbitDistanceConfig())
        assert torch.allclose(before[:, :2], after[:, :2], atol=1e-4)
        histogram = OrbitDistanceConfig().num_radial  # its own row turns with it; distances stay
        assert torch.allclose(before[:, 2, :, :histogram], after[:, 2, :, :histogram], atol=1e-4)


def test_displacement_points_to_the_special_position(operations):
    lattice = torch.diag_embed(torch.tensor([[4.0, 5.0, 6.0], [4.0, 4.0, 7.0]]))
    coords = torch.tensor([[[0.02, 0.3, 0.21]], [[0.01, 0.02, 0.1]]])  # just off x = 0, and off the fourfold axis
    config = OrbitDistanceConfig(vector_widths=(100.0,))
    near = Operations(operations.rotation, operations.translation, operations.mask.clone(), operations.rotation_index)
    near.mask[0] = False
    near.mask[0, [0, 4]] = True  # identity and the mirror x -> -x
    near.mask[1, 4:] = False
    step = pair_features(coords, lattice, near, config)[:, 0, 0, -3:]
    assert torch.allclose(step, torch.tensor([[-0.02, 0, 0], [-0.01, -0.02, 0]]), atol=1e-4)


def test_near_stabiliser_tells_which_operations_fix_a_point(operations):
    lattice = torch.diag_embed(torch.tensor([[4.0, 5.0, 6.0], [4.0, 4.0, 7.0]]))
    coords = torch.tensor([[[0.0, 0.3, 0.2]], [[0.0, 0.0, 0.1]]])
    one_hot = torch.nn.functional.one_hot(operations.rotation_index, 8).float()
    images = self_images(coords, lattice, operations)
    found = near_stabiliser(images, one_hot, torch.full((2, 1), 0.1))[:, 0]
    assert found[0].round().tolist() == [0, 0, 0, 0, 1, 0, 0, 0]  # the mirror x -> -x; the identity does not count
    assert found[1].round().tolist() == [0, 1, 1, 1, 0, 0, 0, 0]  # all turns, and none with the centring


def test_padding_operations_do_not_count(operations, lattice):
    coords = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(3))
    padded = Operations(
        torch.cat([operations.rotation, torch.zeros(2, 3, 3, 3)], dim=1),
        torch.cat([operations.translation, torch.zeros(2, 3, 3)], dim=1),
        torch.cat([operations.mask, torch.zeros(2, 3, dtype=torch.bool)], dim=1),
        torch.cat([operations.rotation_index, torch.zeros(2, 3, dtype=torch.long)], dim=1),
    )
    config = OrbitDistanceConfig()
    assert torch.allclose(
        pair_features(coords, lattice, operations, config), pair_features(coords, lattice, padded, config), atol=1e-6
    )


def test_crowded_orbits_equal_a_loop(operations, lattice):
    coords = torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(3))
    mask = torch.arange(6) < torch.tensor([[6], [5]])
    expected = torch.zeros(2, 6, dtype=torch.bool)
    for b in range(2):
        for i in range(6):
            for j in range(i):
                copies = coords[b, j] @ operations.rotation[b].transpose(1, 2) + operations.translation[b][:, None]
                distances = (wrapped(copies.reshape(-1, 3) - coords[b, i]) @ lattice[b]).norm(dim=-1)
                expected[b, i] |= bool(mask[b, i] and mask[b, j] and distances.min() < 1.2)
    assert 0 < int(expected.sum()) < 10
    assert torch.equal(crowded_orbits(coords, lattice, operations, mask, 1.2), expected)


def test_an_orbit_is_not_crowded_by_its_own_copies(operations, lattice):
    coords = torch.full((2, 1, 3), 0.01)  # all eight copies of Pmmm within 0.2 Å
    assert not crowded_orbits(coords, lattice, operations, torch.ones(2, 1, dtype=torch.bool), 3.0).any()
