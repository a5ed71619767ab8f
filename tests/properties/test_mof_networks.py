"""What must hold for every cell: nothing depends on which vectors describe a lattice, or on the image of a point."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matgen.diffusion.wrapped_normal_lattice import lattice_log_density, lattice_score
from matgen.nn.gemnet import NeighborConfig, nearest_neighbors

seeds = st.integers(0, 2**31)
fast = settings(max_examples=30, deadline=None)
SHEARS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([-1, 1])), max_size=2)


def cell_of(rng: torch.Generator) -> torch.Tensor:
    """A cell of any shape with sides around 5 to 15."""
    return torch.diag(5 + 8 * torch.rand(3, generator=rng)).double() + torch.randn(3, 3, generator=rng).double() * 1.5


def sheared(shears: list[tuple[int, int, int]]) -> torch.Tensor:
    """An integer matrix of determinant 1."""
    matrix = torch.eye(3, dtype=torch.float64)
    for row, column, sign in shears:
        if row != column:
            matrix[row] += sign * matrix[column]
    return matrix


@fast
@given(seed=seeds, shears=SHEARS, relative=st.floats(0.01, 1.5))
def test_wrapped_noise_knows_the_lattice_and_not_its_cell(seed, shears, relative):
    rng = torch.Generator().manual_seed(seed)
    lattice, other = cell_of(rng), sheared(shears)
    index = torch.zeros(3, dtype=torch.int64)
    displacement = torch.randn(3, 3, generator=rng).double() * 6
    jump = torch.randint(-3, 4, (3, 3), generator=rng).double() @ lattice
    sigma = torch.tensor([relative * 7.0], dtype=torch.float64)
    first = displacement, lattice[None], index, sigma
    second = displacement + jump, (other @ lattice)[None], index, sigma
    torch.testing.assert_close(lattice_log_density(*first), lattice_log_density(*second), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(lattice_score(*first) * sigma, lattice_score(*second) * sigma, rtol=1e-5, atol=1e-6)


@fast
@given(seed=seeds, shears=SHEARS, num_nodes=st.integers(1, 6), count=st.integers(1, 30))
def test_neighbors_know_the_lattice_and_not_its_cell(seed, shears, num_nodes, count):
    rng = torch.Generator().manual_seed(seed)
    lattice, other = cell_of(rng), sheared(shears)
    frac = torch.rand(num_nodes, 3, generator=rng).double()
    sizes, config = torch.tensor([num_nodes]), NeighborConfig(max_neighbors=count)
    first = nearest_neighbors(frac, lattice[None], sizes, config)
    jump = torch.randint(-3, 4, (num_nodes, 3), generator=rng).double()
    second = nearest_neighbors((frac + jump) @ torch.linalg.inv(other), (other @ lattice)[None], sizes, config)
    assert first.target.tolist() == second.target.tolist()
    for node in range(num_nodes):
        lengths = [e.vectors[e.target == node].norm(dim=-1).sort().values for e in (first, second)]
        torch.testing.assert_close(*lengths, rtol=1e-9, atol=1e-9)
