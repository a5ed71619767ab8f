"""The block encoder: symmetries, the contrast and its gradient over two processes, learning by heart."""

import os
import socket
from dataclasses import fields, replace

import pytest
import torch

from matgen.data.mof_batch import BlockBatch
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.models.block_contrast import ContrastConfig, contrastive_loss, tanimoto
from matgen.models.block_encoder import BlockEncoder, BlockEncoderConfig, BlockLossWeights, paper_config
from matgen.nn.gemnet import GemNetConfig, GraphConfig, ReadoutConfig

TINY = BlockEncoderConfig(
    graph=GraphConfig(num_radial=12, num_angular=4),
    network=GemNetConfig(node_dim=24, edge_dim=16, triplet_dim=8, radial_dim=8, num_layers=2, mean_neighbors=2.0),
    readout=ReadoutConfig(num_heads=2, head_dim=8, hidden=24),
    hidden=32,
    latent_dim=8,
    max_atoms=40,
    max_connections=12,
)


def made_up_blocks(num_identities=6, conformers=2, seed=0, jitter=0.1) -> BlockBatch:
    """Chains with a side group: each identity has its own elements, bonds and fingerprint."""
    rng = torch.Generator().manual_seed(seed)
    parts = {name: [] for name in ("numbers", "coords", "edges", "graph", "connection", "ecfp4", "sizes", "arms")}
    offset = 0
    for identity in range(num_identities):
        # what belongs to an identity is the same for every seed
        own = torch.Generator().manual_seed(1000 + identity)
        size, arms = 4 + identity, 2 + identity % 3
        numbers = torch.randint(1, 60, (size,), generator=own)
        parents = torch.tensor([int(torch.randint(max(0, i - 2), i, (), generator=own)) for i in range(1, size)])
        steps = torch.nn.functional.normalize(torch.randn(size + arms, 3, generator=own), dim=-1) * 1.5
        fingerprint = torch.randint(0, 256, (32,), generator=own, dtype=torch.uint8)
        for _ in range(conformers):
            place = torch.zeros(size + arms, 3)
            joints = torch.cat([torch.zeros(1, dtype=torch.int64), parents, torch.arange(arms) % size])
            for i in range(1, size + arms):
                place[i] = place[joints[i]] + steps[i] + jitter * torch.randn(3, generator=rng)
            pairs = torch.stack([torch.arange(1, size + arms), joints[1:]])
            parts["numbers"].append(torch.cat([numbers, torch.zeros(arms, dtype=torch.int64)]))
            parts["coords"].append(place)
            parts["edges"].append(torch.cat([pairs, pairs.flip(0)], dim=1) + offset)
            parts["graph"].append(torch.full((size + arms,), len(parts["sizes"])))
            parts["connection"].append(torch.arange(size + arms) >= size)
            parts["ecfp4"].append(fingerprint)
            parts["sizes"].append(size)
            parts["arms"].append(arms)
            offset += size + arms
    count = num_identities * conformers
    graph, coords = torch.cat(parts["graph"]), torch.cat(parts["coords"])
    distance = torch.cdist(coords, coords).masked_fill(graph[:, None] != graph, 0)
    identity = torch.arange(num_identities).repeat_interleave(conformers)
    return BlockBatch(
        row_id=torch.arange(count),
        graph_index=graph,
        atomic_numbers=torch.cat(parts["numbers"]),
        cart_coords=coords,
        is_connection=torch.cat(parts["connection"]),
        edge_index=torch.cat(parts["edges"], dim=1),
        identity=identity,
        ecfp4=torch.stack(parts["ecfp4"]),
        num_atoms=torch.tensor(parts["sizes"]),
        num_connections=torch.tensor(parts["arms"]),
        is_metal=identity % 2 == 0,
        diameter=torch.stack([distance[graph == row].max() for row in range(count)]),
    )


def select(batch: BlockBatch, rows: torch.Tensor) -> BlockBatch:
    """Some blocks of a batch, in another order."""
    nodes = torch.cat([torch.nonzero(batch.graph_index == row)[:, 0] for row in rows])
    place = torch.full_like(batch.graph_index, -1)
    place[nodes] = torch.arange(len(nodes))
    edges = place[batch.edge_index]
    order = torch.argsort(rows)
    graph = order[torch.searchsorted(rows[order], batch.graph_index[nodes])]
    per_node = ("atomic_numbers", "cart_coords", "is_connection")
    per_graph = [f.name for f in fields(batch) if f.name not in (*per_node, "graph_index", "edge_index")]
    return replace(
        batch,
        graph_index=graph,
        edge_index=edges[:, (edges >= 0).all(0)],
        **{name: getattr(batch, name)[nodes] for name in per_node},
        **{name: getattr(batch, name)[rows] for name in per_graph},
    )


def model_of(config: BlockEncoderConfig = TINY) -> BlockEncoder:
    torch.manual_seed(0)
    return BlockEncoder(config)


def loss_of(model: BlockEncoder, batch: BlockBatch):
    return model.loss(batch, torch.ones(len(batch), dtype=torch.int64), CounterNoise(row_seed(0, batch.row_id)))


def test_embeddings_do_not_depend_on_rotation_place_or_other_blocks():
    batch, model = made_up_blocks(), model_of()
    embedding = model.embed(batch)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    moved = replace(batch, cart_coords=batch.cart_coords @ rotation + torch.tensor([3.0, -1.0, 2.0]))
    torch.testing.assert_close(model.embed(moved), embedding, rtol=1e-3, atol=1e-4)
    rows = torch.tensor([7, 2, 11])
    torch.testing.assert_close(model.embed(select(batch, rows)), embedding[rows], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(embedding.square().mean(-1), torch.ones(len(batch)), rtol=1e-5, atol=1e-5)


def test_embeddings_do_not_depend_on_the_order_of_atoms():
    batch, model = select(made_up_blocks(), torch.tensor([9])), model_of()
    order = torch.randperm(len(batch.graph_index), generator=torch.Generator().manual_seed(0))
    place = torch.argsort(order)
    shuffled = replace(
        batch,
        atomic_numbers=batch.atomic_numbers[order],
        cart_coords=batch.cart_coords[order],
        is_connection=batch.is_connection[order],
        edge_index=place[batch.edge_index],
    )
    torch.testing.assert_close(model.embed(shuffled), model.embed(batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spherical", [True, False])
def test_every_parameter_learns(spherical):
    model = model_of(replace(TINY, spherical=spherical))
    loss_of(model, made_up_blocks()).total.backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


def test_tanimoto():
    bits = torch.tensor([[0b1100, 0], [0b0110, 0], [0, 0]], dtype=torch.uint8)
    expected = torch.tensor([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])
    torch.testing.assert_close(tanimoto(bits, bits), expected)


def test_the_contrast_vanishes_at_its_target_and_leaves_the_diagonal_out():
    """Equal temperatures: directions whose cosines are the targets up to a constant have no loss."""
    identity = torch.tensor([0, 0, 1, 1])
    ecfp4 = torch.tensor([[1], [1], [2], [2]], dtype=torch.uint8)
    config = ContrastConfig(temperature=0.1, target_temperature=0.1)
    directions = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    torch.testing.assert_close(contrastive_loss(directions, identity, ecfp4, config), torch.tensor(0.0))
    lost = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])  # the diagonal alone would not notice
    assert contrastive_loss(lost, identity, ecfp4, config) > 5
    hard = replace(config, hard=True)
    assert contrastive_loss(lost, identity, ecfp4, hard) > 5 > contrastive_loss(directions, identity, ecfp4, hard)
    assert contrastive_loss(directions[:1], identity[:1], ecfp4[:1], config) == 0


def test_similar_fingerprints_attract_and_identity_attracts_more():
    ecfp4 = torch.tensor([[0b1111], [0b1110], [0b110000]], dtype=torch.uint8)
    config = ContrastConfig()
    directions = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [0.5, 1], [0.5, -1]]), dim=-1)
    directions.requires_grad_(True)
    (gradient,) = torch.autograd.grad(contrastive_loss(directions, torch.arange(3), ecfp4, config), directions)
    pull = -gradient[0]
    assert pull @ directions[1] > pull @ directions[2]
    same = contrastive_loss(directions, torch.tensor([0, 0, 1]), ecfp4, config)
    assert same > contrastive_loss(directions, torch.arange(3), ecfp4, config)  # farther from its stronger target


def test_conformers_of_other_frameworks_are_found_after_learning():
    model = model_of()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    start = float(loss_of(model, made_up_blocks()).total.detach())
    for step in range(40):
        optimizer.zero_grad()
        loss_of(model, made_up_blocks(seed=step)).total.backward()
        optimizer.step()
    held_out = made_up_blocks(seed=999)
    assert float(loss_of(model, held_out).total.detach()) < 0.5 * start
    library, query = model.embed(made_up_blocks(seed=998)), model.embed(held_out)
    nearest = torch.cdist(query, library).argmin(-1)
    assert (held_out.identity[nearest] == held_out.identity).float().mean() > 0.95
    told = model.describe(query)
    assert (told["num_connections"] == held_out.num_connections).float().mean() > 0.7
    assert ((told["is_metal"] > 0.5) == held_out.is_metal).float().mean() > 0.7


def test_the_published_model_can_be_made():
    model = BlockEncoder(paper_config())
    assert 11e6 < sum(p.numel() for p in model.parameters()) < 13e6
    assert model.num_steps == 1


WEIGHTS = BlockLossWeights(contrast=1.0)


def gradient_of(model: BlockEncoder, batch: BlockBatch, scale: float = 1.0) -> torch.Tensor:
    model.zero_grad()
    (loss_of(model, batch).total * scale).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def worker(rank: int, port: int, shares: list[list[int]], path: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=len(shares))
    model = model_of(replace(TINY, weights=WEIGHTS))
    batch = made_up_blocks()
    gradient = gradient_of(model, select(batch, torch.tensor(shares[rank])), len(shares[rank]) / len(batch))
    torch.distributed.all_reduce(gradient)  # what a wrapper does: the mean over workers of gradients times workers
    if rank == 0:
        torch.save(gradient, path)
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(tmp_path):
    """Also where the two have different numbers of blocks."""
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    rows = [order[:4], order[4:]]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "gradient.pt"
    torch.multiprocessing.spawn(worker, (port, rows, str(path)), nprocs=2)
    expected = gradient_of(model_of(replace(TINY, weights=WEIGHTS)), made_up_blocks())
    torch.testing.assert_close(torch.load(path), expected, rtol=1e-3, atol=1e-5)
    alone = sum(
        gradient_of(model_of(replace(TINY, weights=WEIGHTS)), select(made_up_blocks(), torch.tensor(r)), len(r) / 12)
        for r in rows
    )
    assert (alone - expected).norm() > 0.05 * expected.norm()  # without the gathering it would differ
