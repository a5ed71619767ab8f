"""Cost of the MOF networks: a training step of the block encoder, a score call of the coarse diffusion.

Run as `python tests/benchmarks/bench_gemnet.py`, or `pytest -m benchmark tests/benchmarks/bench_gemnet.py`.
CPU-seconds of one thread; the share is executed floating-point operations a CPU-second over those of a plain matrix
product.
"""

import time
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from matgen.data.mof_batch import BlockBatch
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.models import block_encoder
from matgen.models.mofdiff import MOFDiffConfig
from matgen.models.mofdiff import paper_config as mofdiff_paper_config
from matgen.models.mofdiff_score import NoisyFrameworks, ScoreNetwork

REPEATS = 5


def made_up_blocks(num_blocks: int = 64, nodes: int = 31, extra: int = 2, seed: int = 0) -> BlockBatch:
    """Random trees with some rings: 64 blocks have 1,984 nodes and 4,096 directed edges."""
    rng = torch.Generator().manual_seed(seed)
    edges, coords = [], []
    for block in range(num_blocks):
        parent = [int(torch.randint(max(0, i - 3), i, (), generator=rng)) for i in range(1, nodes)]
        place = torch.zeros(nodes, 3)
        for i, p in enumerate(parent, start=1):
            place[i] = place[p] + 1.4 * torch.nn.functional.normalize(torch.randn(3, generator=rng), dim=0)
        rings = torch.randint(0, nodes, (extra, 2), generator=rng)
        rings = [(int(a), int(b)) for a, b in rings if a != b]
        pairs = [*zip(range(1, nodes), parent), *rings]
        edges += [(a + block * nodes, b + block * nodes) for a, b in pairs]
        coords.append(place)
    one_way = torch.tensor(edges).T
    connections = torch.zeros(num_blocks, nodes, dtype=torch.bool)
    connections[:, -4:] = True
    numbers = torch.randint(1, 31, (num_blocks, nodes), generator=rng).masked_fill(connections, 0)
    identity = torch.arange(num_blocks) // 2
    return BlockBatch(
        row_id=torch.arange(num_blocks),
        graph_index=torch.arange(num_blocks).repeat_interleave(nodes),
        atomic_numbers=numbers.flatten(),
        cart_coords=torch.cat(coords),
        is_connection=connections.flatten(),
        edge_index=torch.cat([one_way, one_way.flip(0)], dim=1),
        identity=identity,
        ecfp4=torch.randint(0, 256, (num_blocks // 2, 256), generator=rng, dtype=torch.uint8)[identity],
        num_atoms=torch.full((num_blocks,), nodes - 4),
        num_connections=torch.full((num_blocks,), 4),
        is_metal=identity % 2 == 0,
        diameter=torch.full((num_blocks,), 12.0),
    )


def matrix_rate() -> float:
    """Floating-point operations a CPU-second of a plain product."""
    a, b = torch.randn(4000, 256), torch.randn(256, 256)
    return 20 * 2 * 4000 * 256 * 256 / cpu_seconds(lambda: [a @ b for _ in range(20)])


def cpu_seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median of some runs, after one that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return sorted(times)[len(times) // 2]


def report(name: str, work: Callable[[], object], items: int, parameters: int) -> None:
    with FlopCounterMode(display=False) as counter:
        work()
    seconds, rate = cpu_seconds(work), matrix_rate()
    flops = counter.get_total_flops()
    print(
        f"{name}: {parameters / 1e6:.2f} M parameters, {seconds / items:.4f} CPU-s each of {items} (n = {REPEATS}), "
        f"{flops / 1e9:.1f} GFLOP dense, {flops / seconds / rate:.0%} of {rate / 1e9:.0f} GFLOP/s"
    )


def parameters_of(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def block_encoder_step(name: str, config: block_encoder.BlockEncoderConfig) -> None:
    torch.manual_seed(0)
    model, batch = block_encoder.BlockEncoder(config), made_up_blocks()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    noise, t = CounterNoise(row_seed(0, batch.row_id)), torch.ones(len(batch), dtype=torch.int64)

    def step() -> None:
        optimizer.zero_grad()
        model.loss(batch, t, noise).total.backward()
        optimizer.step()

    report(f"{name}, {len(batch.graph_index)} nodes, {batch.edge_index.shape[1]} edges", step, 64, parameters_of(model))


def score_call(name: str, config: MOFDiffConfig, sizes: list[int]) -> None:
    """One call of the score network without gradients, graph and triplets included."""
    rng = torch.Generator().manual_seed(0)
    num_blocks = torch.tensor(sizes)
    features, known = 34 if config.diffuse_labels else 32, config.latent.dim + 13
    model = ScoreNetwork(config.score, features, known, 8.0)
    noisy = NoisyFrameworks(
        features=torch.randn(sum(sizes), features, generator=rng),
        frac_coords=torch.rand(sum(sizes), 3, generator=rng),
        lattice=torch.eye(3) * 8 * num_blocks.pow(1 / 3)[:, None, None] + torch.randn(len(sizes), 3, 3, generator=rng),
        num_blocks=num_blocks,
        graph_index=torch.arange(len(sizes)).repeat_interleave(num_blocks),
        time=torch.rand(len(sizes), generator=rng),
        known=torch.randn(len(sizes), known, generator=rng),
    )
    with torch.inference_mode():
        report(f"{name}, {sum(sizes)} blocks", lambda: model(noisy), len(sizes), parameters_of(model))


@pytest.mark.benchmark
def test_figures() -> None:
    torch.set_num_threads(1)
    block_encoder_step("block encoder, training step", block_encoder.BlockEncoderConfig())
    block_encoder_step("block encoder, published size", block_encoder.paper_config())
    sizes = [4, 8, 8, 8, 14, 5, 4, 4, 8, 12, 6, 8, 14, 9, 8, 10]  # 130 blocks
    score_call("score call", MOFDiffConfig(), sizes)
    score_call("score call, published size", mofdiff_paper_config(), sizes)


if __name__ == "__main__":
    test_figures()
