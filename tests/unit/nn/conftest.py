"""Noisy crystals made of random numbers, for networks alone."""

from collections.abc import Callable

import pytest
import torch

from matgen.geometry.orbit_distances import Operations
from matgen.nn.cspnet import NoisyCrystals

GROUP_DIM = 20


def make(num_crystals: int, num_orbits: list[int], seed: int = 0, num_operations: int = 6) -> NoisyCrystals:
    """Random noisy crystals with the given numbers of orbits."""
    rng = torch.Generator().manual_seed(seed)
    longest = max(num_orbits)
    counts = torch.tensor(num_orbits)
    rotation = torch.randint(-1, 2, (num_crystals, num_operations, 3, 3), generator=rng).float()
    rotation[:, 0] = torch.eye(3)
    translation = torch.randint(0, 12, (num_crystals, num_operations, 3), generator=rng) / 12
    translation[:, 0] = 0
    operations = Operations(
        rotation,
        translation,
        torch.ones(num_crystals, num_operations, dtype=torch.bool),
        torch.randint(0, 64, (num_crystals, num_operations), generator=rng),
    )
    return NoisyCrystals(
        group_description=torch.randn(num_crystals, GROUP_DIM, generator=rng),
        mask=torch.arange(longest) < counts[:, None],
        time=torch.rand(num_crystals, generator=rng),
        sigma=0.005 + 0.4 * torch.rand(num_crystals, generator=rng),
        lattice_k=torch.randn(num_crystals, 6, generator=rng),
        lattice=5 * torch.eye(3) + 0.3 * torch.randn(num_crystals, 3, 3, generator=rng),
        frac_coords=torch.rand(num_crystals, longest, 3, generator=rng),
        species_index=torch.randint(0, 95, (num_crystals, longest), generator=rng),
        site_symmetry=torch.randint(0, 14, (num_crystals, longest, 15), generator=rng),
        operations=operations,
    )


@pytest.fixture(scope="session")
def noisy() -> Callable[..., NoisyCrystals]:
    return make
