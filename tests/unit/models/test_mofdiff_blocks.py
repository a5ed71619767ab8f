"""The network of blocks: untrained, it is the exact posterior mean over the blocks that there are."""

import itertools

import numpy as np
import pytest
import torch
from mofdiff_cases import BATCH, BLOCKS_FIRST, STATISTICS, model_of

from matgen.data.mof_statistics import build_statistics
from matgen.diffusion.noise import row_seed
from matgen.errors import CheckpointError
from matgen.models.mofdiff import MOFDiff
from matgen.models.mofdiff_blocks import BlockSetConfig, BlockSetNetwork, NoisyBlocks
from matgen.models.mofdiff_sampling import CoarseRequest, CoarseSamplerConfig
from tests.unit.models.test_mofdiff_defects import records_of

SMALL = BlockSetConfig(hidden=16, num_layers=1, num_heads=2, condition_dim=8)


def noisy_of(features: torch.Tensor, num_blocks: list[int], alpha_bar: float) -> NoisyBlocks:
    sizes = torch.tensor(num_blocks)
    return NoisyBlocks(
        features=features,
        graph_index=torch.arange(len(sizes)).repeat_interleave(sizes),
        num_blocks=sizes,
        time=torch.full((len(sizes),), 0.5),
        alpha_bar=torch.full((len(sizes),), alpha_bar),
        known=torch.zeros(len(sizes), 3),
    )


@pytest.mark.parametrize("alpha_bar", [0.99, 0.6, 0.05])
def test_untrained_it_is_the_posterior_mean_of_each_block_alone(alpha_bar):
    rng = np.random.default_rng(0)
    table, x_t, share = rng.standard_normal((40, 6)), rng.standard_normal((7, 6)), rng.dirichlet(np.ones(40))
    network = BlockSetNetwork(SMALL, torch.tensor(table).float(), torch.tensor(share).float(), known_dim=3)
    found = network(noisy_of(torch.tensor(x_t).float(), [1] * 7, alpha_bar)).detach()
    away = np.square(x_t[:, None] - np.sqrt(alpha_bar) * table).sum(-1)
    np.testing.assert_allclose(found, posterior_mean(away, alpha_bar, table, share), rtol=1e-3, atol=1e-4)


def test_what_is_seen_of_copies_counts_like_what_is_seen_of_the_block_itself():
    rng = np.random.default_rng(0)
    table, x_t, share = rng.standard_normal((40, 6)), rng.standard_normal((5, 6)), rng.dirichlet(np.ones(40))
    network = BlockSetNetwork(SMALL, torch.tensor(table).float(), torch.tensor(share).float(), known_dim=3)
    torch.nn.init.zeros_(network.one.weight)
    torch.nn.init.zeros_(network.one.bias)
    torch.nn.init.constant_(network.no_copy, -30.0)  # all of a framework are copies of each other
    found = network(noisy_of(torch.tensor(x_t).float(), [3, 2], 0.4)).detach()
    away = np.square(x_t[:, None] - np.sqrt(0.4) * table).sum(-1)
    both = np.stack([away[:3].sum(0)] * 3 + [away[3:].sum(0)] * 2)
    np.testing.assert_allclose(found, posterior_mean(both, 0.4, table, share), rtol=1e-3, atol=1e-4)


def posterior_mean(away: np.ndarray, alpha_bar: float, table: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Of blocks whose noisy features are so far (squared, [N, M]) from those of the table."""
    weight = share * np.exp(-0.5 * (away - away.min(1, keepdims=True)) / (1 - alpha_bar))
    return weight @ table / weight.sum(1, keepdims=True)


def test_what_is_sampled_is_a_block_that_there_is():
    model = model_of(BLOCKS_FIRST, disturbed=False)  # untrained: blocks are drawn independently, by their shares
    made = model.sample(CoarseRequest(seeds=row_seed(0, torch.arange(64))), CoarseSamplerConfig(num_steps=50))
    away = torch.cdist(made.blocks.embedding, STATISTICS.block_embedding).min(1).values
    apart = torch.cdist(STATISTICS.block_embedding, STATISTICS.block_embedding).fill_diagonal_(9).min(1).values
    assert away.max() < 0.05 * apart.median()
    share = made.blocks.is_metal.float().mean()
    assert abs(share - BATCH.is_metal.float().mean()) < 0.12  # n = 64 frameworks


def test_statistics_keep_few_conformers_and_lose_no_share():
    count = len(BATCH.embedding)
    offsets = np.unique(np.concatenate([np.arange(0, count, 5), [count]]))  # five conformers of each identity
    statistics = build_statistics(records_of(BATCH), BATCH.embedding.numpy(), STATISTICS.block_arms.numpy(), offsets)
    assert len(statistics.block_share) == sum(min(3, b - a) for a, b in itertools.pairwise(offsets))
    torch.testing.assert_close(statistics.block_share.sum(), torch.tensor(1.0))
    sizes = torch.tensor([min(3, b - a) for a, b in itertools.pairwise(offsets)])
    parts = [part.sum().item() for part in statistics.block_share.split(sizes.tolist())]
    np.testing.assert_allclose(parts, np.diff(offsets) / count, rtol=1e-5)
    kept = np.concatenate([np.arange(a, min(a + 3, b)) for a, b in itertools.pairwise(offsets)])
    torch.testing.assert_close(statistics.block_embedding, BATCH.embedding[kept])
    assert (statistics.block_is_metal > 0).tolist() == BATCH.is_metal[kept].tolist()


def test_statistics_without_blocks_are_refused():
    with pytest.raises(CheckpointError, match="run the stage embed again"):
        nothing = {name: getattr(STATISTICS, name)[:0] for name in STATISTICS.tensors() if name.startswith("block_")}
        MOFDiff(BLOCKS_FIRST, type(STATISTICS)(**STATISTICS.tensors() | nothing))
