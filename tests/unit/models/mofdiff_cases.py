"""Small MOFDiff models and made-up frameworks for their tests."""

from dataclasses import fields, replace

import pytest
import torch

from matgen.data.mof_batch import CoarseBatch
from matgen.data.mof_statistics import CoarseStatistics, lattice_target
from matgen.diffusion.gaussian import GaussianConfig
from matgen.diffusion.noise import CounterNoise, row_seed
from matgen.diffusion.schedule import ScheduleConfig, SigmaConfig
from matgen.diffusion.wrapped_normal_lattice import LatticeNormalConfig
from matgen.models.mofdiff import MOFDiff, MOFDiffConfig, paper_config
from matgen.models.mofdiff_blocks import BlockSetConfig
from matgen.models.mofdiff_centres import CentreConfig
from matgen.models.mofdiff_latent import LatentConfig, PriorConfig
from matgen.models.mofdiff_score import ScoreConfig
from matgen.nn.gemnet import GemNetConfig, GraphConfig, NeighborConfig, ReadoutConfig, nearest_neighbors

NET = GemNetConfig(node_dim=24, edge_dim=16, triplet_dim=8, radial_dim=8, num_layers=2, mean_neighbors=8.0)
GRAPH = GraphConfig(cutoff=4.0, num_radial=12, num_angular=4)
LATENT = LatentConfig(
    dim=8, graph=GRAPH, network=NET, readout=ReadoutConfig(num_heads=2, head_dim=8, hidden=16), hidden=24
)
TINY = MOFDiffConfig(
    latent=LATENT,
    score=ScoreConfig(neighbors=NeighborConfig(max_neighbors=8), graph=GRAPH, network=NET, condition_dim=16),
    prior=PriorConfig(hidden=24, num_layers=1, process=GaussianConfig(schedule=ScheduleConfig(num_steps=100))),
    features=GaussianConfig(schedule=ScheduleConfig(num_steps=100)),
    coords=LatticeNormalConfig(sigmas=SigmaConfig(num_steps=100, sigma_min=0.002, sigma_max=0.6)),
)
BLOCKS_FIRST = replace(
    TINY,
    blocks=BlockSetConfig(hidden=16, num_layers=2, num_heads=2, condition_dim=8),
    centres=CentreConfig(hidden=16, num_layers=2, num_heads=2, pair_dim=8, condition_dim=8, num_radial=8),
)
PAPER = replace(
    paper_config(),
    latent=LATENT,
    score=TINY.score,
    features=TINY.features,
    coords=LatticeNormalConfig(sigmas=SigmaConfig(num_steps=100, sigma_min=0.001, sigma_max=10.0)),
)
VARIANTS = pytest.mark.parametrize("config", [TINY, BLOCKS_FIRST, PAPER], ids=["default", "blocks_first", "paper"])


def made_up(num_frameworks=6, seed=0, smallest=1) -> CoarseBatch:
    rng = torch.Generator().manual_seed(seed)
    num_blocks = torch.randint(smallest, 8, (num_frameworks,), generator=rng)
    index = torch.arange(num_frameworks).repeat_interleave(num_blocks)
    lattice = torch.eye(3) * 12 + torch.randn(num_frameworks, 3, 3, generator=rng) * 2
    frac = torch.rand(len(index), 3, generator=rng)
    edges = nearest_neighbors(frac, lattice, num_blocks, NeighborConfig(max_neighbors=4))
    cells = torch.einsum("ei,eij->ej", edges.vectors, torch.linalg.inv(lattice)[index[edges.source]])
    image = (cells - (frac[edges.target] - frac[edges.source])).round()
    pairs = torch.stack([edges.source, edges.target])
    return CoarseBatch(
        row_id=torch.arange(num_frameworks) + 17,
        num_blocks=num_blocks,
        graph_index=index,
        frac_coords=frac,
        lattice=lattice,
        embedding=torch.randn(len(index), 5, generator=rng) * 0.3 + 1,
        is_metal=torch.rand(len(index), generator=rng) < 0.4,
        num_connections=torch.randint(2, 13, (len(index),), generator=rng),
        edge_index=torch.cat([pairs, pairs.flip(0)], dim=1),
        edge_image=torch.cat([image, -image]),
        properties=torch.randn(num_frameworks, 2, generator=rng) * 3 + 5,
    )


def statistics_of(batch: CoarseBatch) -> CoarseStatistics:
    target = lattice_target(batch.lattice, batch.num_blocks)
    most = 8
    counts = torch.zeros(most + 1, most + 1)
    metals = torch.zeros_like(batch.num_blocks).index_add(0, batch.graph_index, batch.is_metal.long())
    for blocks, metal in zip(batch.num_blocks, metals):
        counts[blocks, metal] += 1 / len(batch)
    return CoarseStatistics(
        embedding_mean=batch.embedding.mean(0),
        embedding_std=batch.embedding.std(0),
        lattice_mean=target.mean(0),
        lattice_std=target.std(0),
        length_scale=torch.tensor(8.0),
        count_prob=counts,
        connection_prob=torch.full((2, 14), 1 / 14),
        property_mean=torch.full((2,), 5.0),
        property_std=torch.full((2,), 3.0),
        block_embedding=batch.embedding,
        block_is_metal=batch.is_metal.float(),
        block_connections=batch.num_connections.float(),
        block_arms=torch.rand(len(batch.embedding), 3, generator=torch.Generator().manual_seed(3)) * 4 + 2,
        block_share=torch.full((len(batch.embedding),), 1 / len(batch.embedding)),
    )


BATCH = made_up(24)
STATISTICS = statistics_of(BATCH)


def model_of(config: MOFDiffConfig = TINY, disturbed: bool = True) -> MOFDiff:
    torch.manual_seed(0)
    model = MOFDiff(config, STATISTICS)
    if disturbed:  # zero-initialised layers would hide what passes through them
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def noise_of(batch: CoarseBatch) -> CounterNoise:
    return CounterNoise(row_seed(3, batch.row_id))


def losses(model: MOFDiff, batch: CoarseBatch, t=None) -> dict[str, float]:
    t = 1 + batch.row_id * 7 % 100 if t is None else t
    found = model.loss(batch, t, noise_of(batch))
    return {f.name: getattr(found, f.name) for f in fields(found)}


def take(batch: CoarseBatch, rows: torch.Tensor) -> CoarseBatch:
    nodes = torch.cat([torch.nonzero(batch.graph_index == row)[:, 0] for row in rows])
    place = torch.full_like(batch.graph_index, -1)
    place[nodes] = torch.arange(len(nodes))
    edges = place[batch.edge_index]
    kept = (edges >= 0).all(0)
    per_graph = ("row_id", "num_blocks", "lattice", "properties")
    per_node = ("frac_coords", "embedding", "is_metal", "num_connections")
    return replace(
        batch,
        graph_index=torch.arange(len(rows)).repeat_interleave(batch.num_blocks[rows]),
        edge_index=edges[:, kept],
        edge_image=batch.edge_image[kept],
        **{name: getattr(batch, name)[rows] for name in per_graph},
        **{name: getattr(batch, name)[nodes] for name in per_node},
    )
