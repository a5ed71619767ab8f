"""The triplet network: sums over triplets, symmetries, periodic neighbours."""

import pytest
import torch

from matgen.nn.gemnet import (
    GemNet,
    GemNetConfig,
    GraphConfig,
    GraphReadout,
    NeighborConfig,
    ReadoutConfig,
    VectorReadout,
    build_graph,
    nearest_neighbors,
    periodic_vectors,
)
from matgen.nn.gemnet.basis import envelope, legendre
from matgen.nn.gemnet.triplets import build_triplets, ragged_arange

GRAPH = GraphConfig(cutoff=6.0, num_radial=8, num_angular=4)
SMALL = GemNetConfig(node_dim=16, edge_dim=12, triplet_dim=6, radial_dim=6, num_layers=2, mean_neighbors=5.0)


def random_edges(num_nodes=9, num_edges=40, seed=0):
    rng = torch.Generator().manual_seed(seed)
    source = torch.randint(0, num_nodes, (num_edges,), generator=rng)
    target = torch.randint(0, num_nodes, (num_edges,), generator=rng).sort().values
    return source, target, torch.randn(num_edges, 3, generator=rng, dtype=torch.float64) * 2


def rotation(seed=0):
    matrix = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
    return matrix * torch.linalg.det(matrix)


class Whole(torch.nn.Module):
    def __init__(self, in_dim=5):
        super().__init__()
        torch.manual_seed(0)
        self.network = GemNet(SMALL, in_dim, GRAPH.num_radial, GRAPH.num_angular, condition_dim=4, edges_out=True)
        self.vectors = VectorReadout(SMALL)
        self.readout = GraphReadout(ReadoutConfig(num_heads=2, head_dim=4, hidden=8), SMALL.node_dim, 7)
        for parameter in self.parameters():  # zero-initialised layers would hide what passes through them
            torch.nn.init.normal_(parameter, std=0.3)
        self.double()

    def forward(self, nodes, source, target, vectors, graph_index, num_graphs, reach=None):
        graph = build_graph(source, target, vectors, len(nodes), GRAPH, reach)
        condition = torch.linspace(-1, 1, 4 * num_graphs).double().view(num_graphs, 4)
        features = self.network(nodes, graph, condition, graph_index)
        return features.nodes, self.vectors(features, graph), self.readout(features.nodes, graph_index, num_graphs)


@pytest.fixture(scope="module")
def whole():
    return Whole()


def test_triplet_sums_equal_a_loop_over_triplets():
    source, target, vectors = random_edges()
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    messages = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)
    expected = torch.zeros(40, 4, 3, dtype=torch.float64)
    for e in range(40):
        for k in range(40):
            if target[k] == source[e]:
                functions = legendre(-(unit[e] @ unit[k])[None], 4)[0]
                expected[e] = expected[e] + functions[:, None] * messages[k]
    found = build_triplets(source, target, unit, 9, 4)(messages)
    torch.testing.assert_close(found, expected.flatten(1))
    weights = torch.randn_like(found)
    (gradient,) = torch.autograd.grad((found * weights).sum(), messages)
    (loop,) = torch.autograd.grad((expected.flatten(1) * weights).sum(), messages)
    torch.testing.assert_close(gradient, loop)


def test_legendre_functions_are_orthonormal():
    nodes = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    functions = legendre(nodes, 6)
    products = torch.trapezoid(functions[:, :, None] * functions[:, None], nodes, dim=0) / 2
    torch.testing.assert_close(products, torch.eye(6, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_envelope_ends_smoothly():
    ratio = torch.tensor([0.0, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    value = envelope(ratio)
    torch.testing.assert_close(value.detach(), torch.tensor([1.0, 0.0, 0.0]).double(), atol=1e-12, rtol=0)
    (slope,) = torch.autograd.grad(value.sum(), ratio)
    torch.testing.assert_close(slope, torch.zeros(3).double(), atol=1e-12, rtol=0)


def test_ragged_arange():
    assert ragged_arange(torch.tensor([2, 0, 3])).tolist() == [0, 1, 0, 1, 2]


def test_scalars_are_invariant_and_vectors_rotate(whole):
    source, target, vectors = random_edges()
    nodes, index = torch.randn(9, 5, dtype=torch.float64), torch.tensor([0] * 4 + [1] * 5)
    turned = rotation()
    for matrix in (turned, -turned):  # the network is not chiral: mirror images look the same
        h, v, g = whole(nodes, source, target, vectors, index, 2)
        h_turned, v_turned, g_turned = whole(nodes, source, target, vectors @ matrix, index, 2)
        torch.testing.assert_close(h, h_turned, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(g, g_turned, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(v @ matrix, v_turned, rtol=1e-9, atol=1e-9)
    assert v.norm(dim=-1).min() > 1e-3


def test_geometry_reaches_the_output(whole):
    source, target, vectors = random_edges()
    nodes, index = torch.randn(9, 5, dtype=torch.float64), torch.zeros(9, dtype=torch.int64)
    g = whole(nodes, source, target, vectors, index, 1)[2]
    assert (g - whole(nodes, source, target, vectors * 1.02, index, 1)[2]).abs().max() > 1e-4
    bent = torch.nn.functional.normalize(vectors + 0.2, dim=-1) * vectors.norm(dim=-1, keepdim=True)
    assert (g - whole(nodes, source, target, bent, index, 1)[2]).abs().max() > 1e-6  # angles alone


def test_nodes_and_edges_may_come_in_any_order(whole):
    source, target, vectors = random_edges()
    nodes, index = torch.randn(9, 5, dtype=torch.float64), torch.tensor([0] * 4 + [1] * 5)
    h, v, g = whole(nodes, source, target, vectors, index, 2)
    order, edges = torch.randperm(9), torch.randperm(40)
    place = torch.argsort(order)
    h_2, v_2, g_2 = whole(nodes[order], place[source][edges], place[target][edges], vectors[edges], index[order], 2)
    torch.testing.assert_close(h_2, h[order])
    torch.testing.assert_close(v_2, v[order])
    torch.testing.assert_close(g_2, g)


def test_gradients_of_parameters_exist(whole):
    source, target, vectors = random_edges()
    nodes, index = torch.randn(9, 5, dtype=torch.float64), torch.zeros(9, dtype=torch.int64)
    _, v, g = whole(nodes, source, target, vectors, index, 1)
    (v.square().sum() + g.square().sum()).backward()
    still = [name for name, p in whole.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []
    whole.zero_grad()


def test_no_edges_at_all(whole):
    empty = torch.zeros(0, dtype=torch.int64)
    out = whole(torch.randn(2, 5).double(), empty, empty, torch.zeros(0, 3).double(), torch.tensor([0, 1]), 2)
    assert all(torch.isfinite(x).all() for x in out)
    assert (out[1] == 0).all()


def brute_neighbors(frac, lattice, count, cutoff, images=4):
    """Sorted distances of the nearest images of each node."""
    cells = torch.cartesian_prod(*[torch.arange(-images, images + 1)] * 3).double()
    away = (frac[:, None, None] - frac[None, :, None] + cells) @ lattice
    distance = away.norm(dim=-1).flatten(1)
    distance[distance < 1e-9] = torch.inf
    return [row[row < cutoff].sort().values[:count] for row in distance]


@pytest.mark.parametrize("count", [4, 16, 200])
def test_neighbors_equal_brute_force(count):
    rng = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1, 4, 7])
    lattice = torch.eye(3).double() * 9 + torch.randn(3, 3, 3, generator=rng, dtype=torch.float64) * 2.5
    frac = torch.rand(12, 3, generator=rng, dtype=torch.float64) * 3 - 1
    edges = nearest_neighbors(frac, lattice, sizes, NeighborConfig(max_neighbors=count, cutoff=2.0))
    start = 0
    for row, size in enumerate(sizes.tolist()):
        cutoff = 2.0 * (lattice[row].det().abs() / size) ** (1 / 3)
        expected = brute_neighbors(frac[start : start + size], lattice[row], count, cutoff)
        for node in range(size):
            found = edges.vectors[edges.target == start + node].norm(dim=-1).sort().values
            torch.testing.assert_close(found, expected[node])
        start += size
    ahead = frac[edges.target] - frac[edges.source]
    graph = torch.arange(3).repeat_interleave(sizes)[edges.target]
    cells = torch.einsum("ei,eij->ej", edges.vectors, torch.linalg.inv(lattice)[graph]) - ahead
    torch.testing.assert_close(cells, cells.round(), atol=1e-9, rtol=0)


def test_periodic_images_and_origins_change_nothing(whole):
    rng = torch.Generator().manual_seed(1)
    sizes, lattice = torch.tensor([5, 3]), torch.eye(3).double() * 2.5 + torch.rand(2, 3, 3, generator=rng).double()
    frac = torch.rand(8, 3, generator=rng).double()
    nodes, index = torch.randn(8, 5).double(), torch.arange(2).repeat_interleave(sizes)

    def run(frac_coords):
        e = nearest_neighbors(frac_coords, lattice, sizes, NeighborConfig(max_neighbors=6))
        return whole(nodes, e.source, e.target, e.vectors, index, 2, e.reach)

    shifted = frac + torch.randint(-3, 4, (8, 3), generator=rng) + torch.tensor([0.3, 0.1, 0.7])
    for a, b in zip(run(frac), run(shifted)):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


def test_nothing_jumps_where_two_neighbors_change_their_order(whole):
    lattice, sizes = torch.eye(3).double()[None] * 4, torch.tensor([4])
    nodes, index = torch.randn(4, 5).double(), torch.zeros(4, dtype=torch.int64)
    outputs = []
    for shift in (-1e-7, 1e-7):
        frac = torch.tensor([[0, 0, 0], [0.2, 0, 0], [0, 0.3, 0], [0, 0, 0.3 + shift]]).double()
        e = nearest_neighbors(frac, lattice, sizes, NeighborConfig(max_neighbors=2))
        outputs.append(whole(nodes, e.source, e.target, e.vectors, index, 1, e.reach)[0])
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)


def test_vectors_of_given_edges():
    lattice = torch.tensor([[[10.0, 0, 0], [5, 8, 0], [1, 2, 7]]])
    frac = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.2, 0.3]])
    vectors = periodic_vectors(
        frac, lattice, torch.zeros(2, dtype=torch.int64), torch.tensor([[0], [1]]), torch.tensor([[-1.0, 0, 0]])
    )
    torch.testing.assert_close(vectors, torch.tensor([[-2.0, 0, 0]]))


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match=r"1\.0"):
        NeighborConfig(cutoff=1.0)
    with pytest.raises(ValueError, match="-1"):
        GraphConfig(cutoff=-1.0)
